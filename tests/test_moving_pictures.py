"""Moving pictures: every frame once, in its order, at the pace of the data set, in one window."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dicomweb.rendering.animation import animated, frame_times
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.errors import BadRequest
from tests.support import made, web
from tests.test_wado import ONE, SERIES, get, store


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def moves(body: bytes) -> list[tuple[int, int]]:
    """Of each frame its grey level in the middle, and how long it stands."""
    found = []
    with Image.open(io.BytesIO(body)) as picture:
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            # Of WebP Pillow says how long a frame stands once it is read.
            shown = np.asarray(picture.convert("L"))
            found.append((int(shown[shown.shape[0] // 2, shown.shape[1] // 2]), int(picture.info.get("duration", 0))))
    return found


# PS3.3 C.7.6.5: what says how long a frame stands -> of three frames, in milliseconds.
TIMES: tuple[tuple[dict[str, list[float]], list[int]], ...] = (
    ({}, [100, 100, 100]),
    ({"00181063": [33.3]}, [30, 30, 30]),
    ({"00080040": [5]}, [100, 100, 100]),
    ({"00180040": [5]}, [200, 200, 200]),
    ({"00082144": [4], "00180040": [5]}, [250, 250, 250]),
    ({"00181063": [50], "00180040": [5]}, [50, 50, 50]),
    ({"00181065": [0, 40, 80]}, [40, 80, 60]),
    ({"00181065": [0, 40], "00181063": [50]}, [50, 50, 50]),
    ({"00181063": [0]}, [100, 100, 100]),
    ({"00181063": [0.001]}, [20, 20, 20]),
    ({"00181063": [1e9]}, [10_000] * 3),
    ({"00180040": [-5]}, [100, 100, 100]),
)


@pytest.mark.parametrize(("described", "expected"), TIMES)
def test_how_long_a_frame_stands(described: dict[str, list[float]], expected: list[int]) -> None:
    dataset: Any = {tag: {"vr": "DS", "Value": value} for tag, value in described.items()}
    assert frame_times(dataset, 3) == expected


@pytest.mark.parametrize(("media_type", "near"), [("image/gif", 0), ("image/webp", 3)])
@pytest.mark.parametrize("colour", [False, True])
def test_every_frame_in_its_order(media_type: str, near: int, colour: bool) -> None:
    shape = (16, 24, 3) if colour else (16, 24)
    body = animated((np.full(shape, level, np.uint8) for level in (10, 200, 90)), [30, 200, 60], media_type, 90)
    found = moves(body)
    assert [time for _, time in found] == [30, 200, 60]
    assert [abs(level - wanted) <= near for (level, _), wanted in zip(found, (10, 200, 90), strict=True)] == [True] * 3


def test_too_many_or_too_large_is_said_before_they_are_drawn() -> None:
    def frames() -> Iterator[np.ndarray[Any, Any]]:
        yield np.zeros((2000, 2000), np.uint8)
        raise AssertionError

    with pytest.raises(BadRequest, match="viewport"):
        animated(frames(), [100] * 40, "image/gif", 90)
    with pytest.raises(BadRequest, match="1001 frames are too many"):
        animated(frames(), [100] * 1001, "image/gif", 90)


@pytest.mark.parametrize("media_type", ["image/gif", "image/webp"])
def test_an_instance_of_several_frames(client: TestClient, media_type: str) -> None:
    """PS3.18 8.7.4; without a window of its own all frames are shown in that of the middle one."""
    store(client, made.instance(frames=3, side=16, FrameTime=70))
    answer = get(client, f"{ONE}/rendered", media_type)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    found = moves(answer.content)
    assert [time for _, time in found] == [70, 70, 70]
    # 100, 200 and 300 in a window around 200.
    assert [level for level, _ in found] == [0, 128, 255]
    assert get(client, f"{ONE}/rendered", media_type, If_None_Match=answer.headers["etag"]).status_code == 304
    windowed = get(client, f"{ONE}/rendered?window=200,400,linear-exact&viewport=8,8", media_type)
    assert [abs(level - wanted) <= 2 for (level, _), wanted in zip(moves(windowed.content), (64, 128, 191), strict=True)] == [True] * 3


def level(number: int, value: int, **more: Any) -> bytes:
    side = more.get("side", 16)
    return made.instance(number, PixelData=np.full((side, side), value, "<u2").tobytes(), **{"side": 16, **more})


@pytest.mark.parametrize("media_type", ["image/gif", "image/webp"])
def test_a_series_of_several_images(client: TestClient, media_type: str) -> None:
    """In the order of their instance numbers, in the window of the middle one or in their own; JPEG is the middle one as ever."""
    window = {"WindowCenter": 200, "WindowWidth": 401}
    store(client, level(3, 300, **window), level(1, 100, **window))
    found = moves(get(client, f"{SERIES}/rendered", media_type).content)
    assert [abs(value - wanted) <= 1 for (value, _), wanted in zip(found, (64, 192), strict=True)] == [True] * 2
    etag = get(client, f"{SERIES}/rendered", media_type).headers["etag"]
    assert get(client, f"{SERIES}/rendered", media_type, If_None_Match=etag).status_code == 304
    store(client, level(2, 200, **window))
    answer = get(client, f"{SERIES}/rendered", media_type, If_None_Match=etag)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert [abs(value - wanted) <= 1 for (value, _), wanted in zip(moves(answer.content), (64, 128, 192), strict=True)] == [True] * 3
    plain = get(client, f"{SERIES}/rendered", "image/jpeg")
    assert [abs(value - 128) <= 1 for value, _ in moves(plain.content)] == [True]


def test_images_of_a_series_without_windows_do_not_flicker(client: TestClient) -> None:
    values = np.linspace(0, 1000, 256).astype("<u2").reshape(16, 16)
    ramps = [made.instance(number, side=16, Modality="MR", PixelData=(values + number * 200).astype("<u2").tobytes()) for number in (1, 2, 3)]
    store(client, *ramps)
    levels = [value for value, _ in moves(get(client, f"{SERIES}/rendered", "image/gif").content)]
    assert levels[0] + 30 < levels[1] < levels[2] - 30


def test_an_image_of_another_size_is_fitted_into_the_first(client: TestClient) -> None:
    window: dict[str, Any] = {"WindowCenter": 200, "WindowWidth": 401}
    wide = made.instance(2, Rows=8, Columns=32, PixelData=np.full((8, 32), 300, "<u2").tobytes(), **window)
    store(client, level(1, 100, **window), wide)
    with Image.open(io.BytesIO(get(client, f"{SERIES}/rendered", "image/gif").content)) as picture:
        assert (picture.size, getattr(picture, "n_frames", 1)) == ((16, 16), 2)
        picture.seek(1)
        shown = np.asarray(picture.convert("L"))
    assert (shown[:6] == 0).all()
    assert (shown[10:] == 0).all()
    assert np.abs(shown[6:10].astype(int) - 192).max() <= 1


def test_a_series_as_a_film(client: TestClient) -> None:
    av = pytest.importorskip("av")
    store(client, *(level(number, 100 * number, side=64) for number in (1, 2, 3)))
    answer = get(client, f"{SERIES}/rendered", "video/mp4")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(answer.content)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 3


def test_a_series_that_is_too_long_says_so(client: TestClient) -> None:
    store(client, *(made.instance(number, frames=501, side=2) for number in (1, 2)))
    answer = get(client, f"{SERIES}/rendered", "image/gif")
    assert (answer.status_code, "1000 frames" in answer.text) == (400, True)
    assert get(client, f"{SERIES}/rendered", "image/png").status_code == 200


@pytest.mark.parametrize("path", [f"{ONE}/frames/2/rendered", f"{ONE}/thumbnail", f"{SERIES}/thumbnail"])
def test_one_frame_and_thumbnails_stand_still(client: TestClient, path: str) -> None:
    store(client, made.instance(frames=3, side=16))
    assert len(moves(get(client, path, "image/gif").content)) == 1


def test_one_frame_that_cannot_be_decoded_is_an_error_and_no_broken_picture(client: TestClient) -> None:
    broken = made.encapsulated([b"\0" * 64, b"\0" * 64], "1.2.840.10008.1.2.5", NumberOfFrames=2)
    store(client, broken)
    answer = get(client, f"{ONE}/rendered", "image/gif")
    assert answer.status_code == 406
    assert "frame" in answer.text
