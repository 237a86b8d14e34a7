"""What is written into pictures: whose they are and how they were made (PS3.18 8.3.5.1.1)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dicomweb.rendering.annotations import patient, technique
from dicomweb.rendering.lettering import line, readable
from dicomweb.rendering.request import Window
from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import states, web

Json = dict[str, Any]
IMAGE = f"studies/{states.STUDY}/series/{states.SERIES}/instances/{states.IMAGE}"
SIDE = 400


def data_set(**values: Any) -> Json:
    return {tag.removeprefix("t"): {"vr": "UN", "Value": value if isinstance(value, list) else [value]} for tag, value in values.items()}


PATIENTS: tuple[tuple[Json, list[str]], ...] = (
    ({}, []),
    (data_set(t00100010={"Alphabetic": "Doe^Jane^Q^Dr"}, t00100020="A1"), ["Doe, Jane Q", "A1"]),
    (data_set(t00100010={"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}), ["Yamada, Tarou 山田, 太郎"]),
    (data_set(t00100010={"Ideographic": "洪^吉洞"}), ["洪, 吉洞"]),
    (data_set(t00100030="19800102", t00100040="F"), ["1980-01-02 F"]),
    (data_set(t00100030="1980", t00100010="no name"), ["1980"]),
)


@pytest.mark.parametrize(("dataset", "expected"), PATIENTS)
def test_whose_the_picture_is(dataset: Json, expected: list[str]) -> None:
    assert patient(dataset) == expected


CT = data_set(t00080060="CT", t00180015="CHEST", t00180060=120, t00181151=200, t00181152=50.5, t00180050=2.5, t00281050=[40, -600], t00281051=[400, 1500])
ENHANCED = {"52009229": {"vr": "SQ", "Value": [{"00289110": {"vr": "SQ", "Value": [data_set(t00180050=3)]}, "00189114": {"vr": "SQ", "Value": [data_set(t00189082=90)]}}]}}
TECHNIQUES: tuple[tuple[Json, Window | None, list[str]], ...] = (
    (CT, None, ["CT CHEST", "120 kVp  200 mA  50.5 mAs", "2.5 mm", "W 400  C 40"]),
    (CT, Window(50, 350), ["CT CHEST", "120 kVp  200 mA  50.5 mAs", "2.5 mm", "W 350  C 50"]),
    (data_set(t00080060="MR", t00180080=500, t00180081=20), None, ["MR", "TR 500 ms  TE 20 ms"]),
    (ENHANCED | data_set(t00080060="MR"), None, ["MR", "TE 90 ms", "3 mm"]),
)


@pytest.mark.parametrize(("dataset", "window", "expected"), TECHNIQUES)
def test_how_the_picture_was_made(dataset: Json, window: Window | None, expected: list[str]) -> None:
    assert technique(dataset, 1, window) == expected


@pytest.mark.parametrize("words", ["Müller-Łukasz Çağlar", "Иванов Ελένη", "山田 太郎 やまだ", "홍길동", "µ ² °"])
def test_scripts_that_are_written_with_letters_of_their_own(words: str) -> None:
    """A letter without a font is a box, the same for each."""
    assert readable(words)
    assert line(words, 20).width > 10 * len(words) / 2
    assert not readable("\U000ffffd")


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def picture(client: TestClient, query: str = "") -> np.ndarray[Any, Any]:
    answer = client.get(f"{IMAGE}/rendered{query}", headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


@pytest.mark.parametrize("value", [0, 2048, 4095])
def test_words_are_seen_on_any_background(client: TestClient, value: int) -> None:
    """Both the letters and their edge: one of them stands out, black on white or white on black."""
    of = states.image(np.full((SIDE, SIDE), value, "<u2"), WindowCenter=2048, WindowWidth=4096, KVP="120")
    assert web.stow(client, [states.encoded(of)]).status_code == 200
    plain = picture(client)
    both = picture(client, "?annotation=patient,technique")
    changed = np.abs(both - plain) > 100
    assert changed[: SIDE // 4, : SIDE // 2].sum() > 100
    assert changed[-SIDE // 4 :, : SIDE // 2].sum() > 100
    assert not changed[:, SIDE * 3 // 4 :].any()
    alone = np.abs(picture(client, "?annotation=patient") - plain) > 100
    assert alone[: SIDE // 4].any()
    assert not alone[SIDE // 2 :].any()
