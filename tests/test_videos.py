"""Videos: their frames as pictures, MP4 for browsers, cine as MP4; and what is said where PyAV is not installed."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dicomweb import videos
from dicomweb.apart import Limits, run_apart
from dicomweb.videos import filmed
from storage.archive import Archive
from storage.errors import BadRequest, CannotDecode
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file
from tests.support.films import needs_av
from tests.test_wado import ONE, get, store

# File -> rows and columns, and whether it is an MP4 as it is stored.
STORED: dict[str, tuple[int, int, bool]] = {
    "h264_bd_103_ts": (720, 1280, False),
    "h264_hp41_102_mp4_audio": (480, 640, True),
    "hevc_main10_51_108": (360, 640, True),
    "mpeg2_mpml_fragmentable_100_1": (288, 352, False),
}


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def pixels(body: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def play(film: bytes, folder: Path, frame: int, count: int) -> np.ndarray[Any, Any]:
    """A frame of an MP4, from 1; the film has `count` of them."""
    asked = {"frame": frame, "frames": count, "type": "video/mp4", "syntax": "102"}
    found = run_apart("video frame", [film], asked, folder, videos.FRAME_LIMITS)
    return np.frombuffer(found.content, np.uint8).reshape(found.about["rows"], found.about["columns"], 3)


@needs_av
@pytest.mark.parametrize("name", sorted(STORED))
def test_every_video_has_pictures_and_an_mp4(client: TestClient, archive: Archive, tmp_path: Path, name: str) -> None:
    uids = ingest(archive, corpus_file(f"video/{name}.dcm")).uids
    path = f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"
    rows, columns, as_stored = STORED[name]
    shown = pixels(get(client, f"{path}/rendered", "image/png").content)
    assert shown.shape == (rows, columns, 3)
    assert shown.std() > 10
    second, fifth = (pixels(get(client, f"{path}/frames/{number}/rendered", "image/png").content) for number in (2, 5))
    assert not np.array_equal(second, fifth)
    assert max(pixels(get(client, f"{path}/thumbnail", "image/png").content).shape) == 128
    film = get(client, f"{path}/rendered", "video/mp4")
    assert (film.headers["content-type"], film.content[4:8]) == ("video/mp4", b"ftyp")
    again = play(film.content, tmp_path, 5, 50)
    assert np.abs(again.astype(int) - fifth).mean() < (0.1 if as_stored else 6)
    part = get(client, f"{path}/rendered", "video/mp4", Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, film.content[100:200])


@needs_av
def test_frames_beyond_the_last(client: TestClient, archive: Archive) -> None:
    uids = ingest(archive, corpus_file("video/h264_hp41_102_mp4.dcm")).uids
    path = f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"
    assert get(client, f"{path}/frames/50/rendered", "image/png").status_code == 200
    assert get(client, f"{path}/frames/51/rendered", "image/png").status_code == 404


LIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
HOSTILE: dict[str, bytes] = {
    "empty": b"\0\0",
    "noise": bytes(range(256)) * 20,
    "a list of files": LIST * 10,
    "an MP4 of nothing": b"\0\0\0\x20ftypisom" + b"\0" * 2000,
    "a stream of nothing": b"\x47" + b"\0" * 4000,
    "an elementary stream of nothing": b"\0\0\0\x01\x67" + b"\xff" * 3001,
}


@needs_av
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_is_no_video_is_one_clear_answer(client: TestClient, name: str) -> None:
    store(client, made.encapsulated([HOSTILE[name]], made.MP4, sop_class=made.VIDEO, NumberOfFrames=100))
    answer = get(client, f"{ONE}/rendered", "image/png")
    assert (answer.status_code, "cannot be shown" in answer.text) == (406, True)
    assert get(client, f"{ONE}/thumbnail", "image/png").status_code == 200


def test_without_pyav_it_is_the_icon_and_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "can_film", lambda: False)
    store(client, made.encapsulated([b"\0" * 100], made.MP4, sop_class=made.VIDEO, NumberOfFrames=100))
    answer = get(client, f"{ONE}/rendered", "image/png")
    assert (answer.status_code, "lightbox-pacs[video]" in answer.text) == (406, True)
    assert get(client, f"{ONE}/rendered", "video/mp4").content == b"\0" * 100
    assert pixels(get(client, f"{ONE}/thumbnail", "image/png").content).shape == (128, 128, 3)


@needs_av
@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (32, 48, 3)])
def test_a_film_of_frames_in_their_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    levels = (10, 200, 90, 140)
    film = filmed((np.full(shape, level, np.uint8) for level in levels), [100] * 4, 90, tmp_path)
    shown = [int(np.median(play(film, tmp_path, number, 4))) for number in (1, 2, 3, 4)]
    assert all(abs(found - level) < 6 for found, level in zip(shown, levels, strict=True))


@needs_av
def test_cine_as_mp4(client: TestClient, tmp_path: Path) -> None:
    store(client, made.instance(side=64, frames=3, WindowCenter=200, WindowWidth=400))
    film = get(client, f"{ONE}/rendered", "video/mp4")
    assert (film.headers["content-type"], film.content[4:8]) == ("video/mp4", b"ftyp")
    shown = [int(np.median(play(film.content, tmp_path, number, 3))) for number in (1, 2, 3)]
    stills = [int(np.median(pixels(get(client, f"{ONE}/frames/{number}/rendered", "image/png").content))) for number in (1, 2, 3)]
    assert all(abs(found - level) < 6 for found, level in zip(shown, stills, strict=True))
    assert get(client, f"{ONE}/rendered", "image/*").headers["content-type"] == "image/jpeg"
    assert get(client, f"{ONE}/rendered").headers["content-type"] == "image/jpeg"
    assert get(client, f"{ONE}/frames/1/rendered", "video/mp4").status_code == 406


def test_too_many_or_too_large_is_said_before_they_are_drawn(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="too many"):
        filmed(iter(()), [100] * 1001, 90, tmp_path)
    with pytest.raises(BadRequest, match="viewport"):
        filmed(iter([np.zeros((4000, 4000), np.uint8)]), [100] * 100, 90, tmp_path)


@needs_av
def test_limits(tmp_path: Path) -> None:
    frames = [np.random.default_rng(1).integers(0, 255, (512, 512), np.uint8).tobytes()] * 60
    asked = {"width": 512, "height": 512, "samples": 1, "times": [40] * 60, "quality": 90}
    with pytest.raises(CannotDecode, match="takes longer"):
        run_apart("film", frames, asked, tmp_path, Limits(seconds=0.05, memory=3 << 30))
    with pytest.raises(CannotDecode):
        run_apart("film", frames, asked, tmp_path, Limits(memory=3 << 30, result=1000))


@needs_av
def test_pyav_is_never_loaded_beside_what_serves(tmp_path: Path) -> None:
    """Said by a fresh interpreter: another test may have loaded every module of ours into this one."""
    film = """
import sys
from pathlib import Path
import pacs.compose
from dicomweb.apart import run_apart
asked = {"width": 64, "height": 64, "samples": 1, "times": [40, 40], "quality": 90}
made = run_apart("film", [bytes(64 * 64)] * 2, asked, Path(sys.argv[1]))
print(len(made.content) > 0, "av" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", film, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["True", "False"], ran.stderr
