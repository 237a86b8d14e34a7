"""Presentation states as pictures that move: all that they show, in their order, at their pace, in one size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import states, web
from tests.support.films import needs_av
from tests.support.runs import EXACT, averaged, run, vessel
from tests.support.states import ANGIOGRAPHY, annotation, graphic, image, item, state, store, window
from tests.test_angiography import displayed, of, viewed

STATE = states.STATE_PATH
Pixels = np.ndarray[Any, Any]


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def film(client: TestClient, accept: str = "image/gif", query: str = "") -> tuple[list[Pixels], list[int]]:
    """Its pictures, and how long each stands."""
    answer = client.get(f"{STATE}/rendered{query}", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, accept), answer.text
    return played(answer.content)


def played(body: bytes) -> tuple[list[Pixels], list[int]]:
    """The same of an answer."""
    pictures, times = [], []
    for one in ImageSequence.Iterator(Image.open(io.BytesIO(body))):
        pictures.append(np.asarray(one.convert("RGB")))
        times.append(int(one.info.get("duration", 0)))
    return pictures, times


def level(picture: Pixels) -> int:
    return int(np.median(picture[vessel()]))


def test_a_run_is_played_as_its_state_says(client: TestClient) -> None:
    """The mask is skipped, the second frame stands for 500 ms, the others for 250."""
    shown = run(FrameTime=40)
    slow = viewed(2, 2, SkipFrameRangeFlag="DISPLAY", RecommendedDisplayFrameRateInFloat=2.0)
    pace = displayed(viewed(1, 1, "NAT", SkipFrameRangeFlag="SKIP"), slow, viewed(3, 4, RecommendedDisplayFrameRateInFloat=4.0))
    store(client, shown, of(shown, averaged(1), **pace))
    pictures, times = film(client)
    assert [level(one) for one in pictures] == pytest.approx([64, 0, 130], abs=2)
    assert times == [500, 250, 250]
    assert [level(one) for one in film(client, "image/webp")[0]] == pytest.approx([64, 0, 130], abs=8)


def test_without_a_pace_of_the_state_that_of_the_image_counts(client: TestClient) -> None:
    shown = run(FrameTime=40)
    store(client, shown, state(shown, MaskSubtractionSequence=[averaged(1)], RecommendedViewingMode="SUB", SoftcopyVOILUTSequence=[item(**EXACT)]))
    assert film(client)[1] == [40, 40, 40, 40]


def test_a_state_that_may_be_skipped_whole_is_not(client: TestClient) -> None:
    shown = run()
    store(client, shown, of(shown, averaged(1), **displayed(viewed(1, 4, SkipFrameRangeFlag="SKIP"))))
    assert len(film(client)[0]) == 4


def test_images_of_any_size_and_colour_are_one_film(client: TestClient) -> None:
    """A line in yellow on the second; the third is half as large, and of another proportion."""
    first, second = image(), image(uid="1.2.3.4.2", InstanceNumber=2)
    third = image(np.full((24, 24), 4095, "<u2"), uid="1.2.3.4.3", InstanceNumber=3)
    areas = [states.displayed(right=one.Columns, bottom=one.Rows, ReferencedImageSequence=[named(one)]) for one in (first, second, third)]
    line = annotation("X", graphic("POLYLINE", 20, 20, 100, 20), ReferencedImageSequence=[named(second)])
    layer = item(GraphicLayer="X", GraphicLayerOrder=1, GraphicLayerRecommendedDisplayCIELabValue=[62000, 28000, 58000])
    shown = state(first, second, third, GraphicLayerSequence=[layer], GraphicAnnotationSequence=[line], SoftcopyVOILUTSequence=[window(2048, 4096)])
    shown.DisplayedAreaSelectionSequence = areas
    store(client, first, second, third, shown)
    pictures, _ = film(client)
    assert [one.shape for one in pictures] == [(states.ROWS, states.COLUMNS, 3)] * 3
    spread = [int(np.ptp(one.astype(int), axis=-1).max()) for one in pictures]
    assert spread[0] < 10 < 100 < spread[1]
    assert pictures[2][50, 64].tolist() == [255] * 3
    assert pictures[2][50, 2].tolist() == [0] * 3


def named(dataset: Dataset) -> Dataset:
    return item(ReferencedSOPClassUID=dataset.SOPClassUID, ReferencedSOPInstanceUID=dataset.SOPInstanceUID)


def test_one_image_does_not_move_and_a_film_is_kept(client: TestClient) -> None:
    store(client, image(), state())
    assert len(film(client)[0]) == 1
    shown = run(SOPInstanceUID="1.2.3.4.7")
    store(client, shown, of(shown, averaged(1), SOPInstanceUID="1.2.3.9.7"))
    path = STATE.replace(states.STATE, "1.2.3.9.7")
    answer = client.get(f"{path}/rendered", headers={"Accept": "image/gif"})
    again = client.get(f"{path}/rendered", headers={"Accept": "image/gif", "If-None-Match": answer.headers["etag"]})
    assert (len(played(answer.content)[0]), again.status_code) == (4, 304)
    one = client.get(f"{path}/frames/2/rendered", headers={"Accept": "image/gif"})
    assert len(played(one.content)[0]) == 1


@needs_av
def test_a_state_as_mp4(client: TestClient) -> None:
    shown = run()
    store(client, shown, of(shown, averaged(1)))
    answer = client.get(f"{STATE}/rendered", headers={"Accept": "video/mp4"})
    assert (answer.status_code, answer.headers["content-type"], answer.content[4:8]) == (200, "video/mp4", b"ftyp"), answer.text[:200]


def test_a_film_that_is_too_large_is_refused(client: TestClient) -> None:
    large = image(np.zeros((1, 4, 4), "<u2"), NumberOfFrames=1)
    area = states.displayed(1, 1, 8000, 8000)
    shown = state(large, run(SOPInstanceUID="1.2.3.4.8"), sop_class=ANGIOGRAPHY, area=area)
    store(client, large, run(SOPInstanceUID="1.2.3.4.8"), shown)
    answer = client.get(f"{STATE}/rendered", headers={"Accept": "image/gif"})
    assert (answer.status_code, "viewport" in answer.json()["error"]) == (400, True)
