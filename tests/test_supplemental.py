"""Grey images with colours above them (PS3.3 C.7.6.19, C.8.16.2.1.1.1): the colours of every value are known by hand."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.rendering import RenderRequest, frame_picture
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.codecs import decode_here
from tests.support import frames, states, web
from tests.support.states import PSEUDO, image, item, state, window

IMAGE = f"studies/{states.STUDY}/series/{states.SERIES}/instances/{states.IMAGE}"
STATE = f"studies/{states.STUDY}/series/{states.STATE_SERIES}/instances/{states.STATE}"
# From 2000 on: red, green, blue, and blue for all that is above.
FIRST, COLOURS = 2000, [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
# Stored values, and what they are in a window of all values from 0 to 1000: black, middle, white, white; then colours.
VALUES = [0, 500, 1000, 1999, 2000, 2001, 2002, 4095]
IN_GREY = [[level] * 3 for level in (0, 128, 255, 255)]
IN_COLOUR = [list(COLOURS[index]) for index in (0, 1, 2, 2)]
EXACT: dict[str, Any] = {"WindowCenter": 500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}


def pixels() -> np.ndarray[Any, Any]:
    """Each value in a square of eight by eight."""
    return np.kron(np.array([VALUES], "<u2"), np.ones((8, 8), "<u2"))


def palette(bits: int = 8, first: int = FIRST) -> dict[str, Any]:
    """The Supplemental Palette Color Lookup Table module."""
    made: dict[str, Any] = {}
    for index, name in enumerate(("Red", "Green", "Blue")):
        made[f"{name}PaletteColorLookupTableDescriptor"] = [len(COLOURS), first, bits]
        entries = np.array([colour[index] * (257 if bits == 16 else 1) for colour in COLOURS], "<u2")
        made[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    return made


def enhanced(*presentations: str, sequence: str = "MRImageFrameTypeSequence", said: str = "MIXED") -> dict[str, Any]:
    """Frames of which each says its own Pixel Presentation."""
    groups = [item(**{sequence: [item(PixelPresentation=one)]}) for one in presentations]
    return {**palette(), **EXACT, "PixelPresentation": said, "PerFrameFunctionalGroupsSequence": groups}


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def shown(client: TestClient, *datasets: Dataset, path: str = f"{IMAGE}/rendered", query: str = "") -> list[Any]:
    """What is in the middle of each square: three numbers, or one of a picture in grey."""
    assert web.stow(client, [states.encoded(one) for one in datasets]).status_code == 200
    return squares(client, path, query)


def squares(client: TestClient, path: str, query: str = "") -> list[Any]:
    answer = client.get(path + query, headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    found: list[Any] = np.asarray(Image.open(io.BytesIO(answer.content)))[4, 4::8].tolist()
    return found


IMAGES: dict[str, dict[str, Any]] = {
    "eight bits": {**palette(8), **EXACT, "PixelPresentation": "COLOR"},
    "sixteen bits": {**palette(16), **EXACT, "PixelPresentation": "COLOR"},
    "one frame of a mixed image": enhanced("COLOR"),
    "a computed tomogram": enhanced("COLOR", sequence="CTImageFrameTypeSequence"),
    "a parametric map": enhanced("COLOR", sequence="ParametricMapFrameTypeSequence", said="COLOR"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_below_the_palette_is_grey_and_from_its_first_value_on_are_colours(client: TestClient, name: str) -> None:
    assert shown(client, image(pixels(), **IMAGES[name])) == IN_GREY + IN_COLOUR


@pytest.mark.parametrize(
    "changes",
    [{**palette(), "PixelPresentation": "MONOCHROME"}, palette(), {"PixelPresentation": "COLOR"}, enhanced("MONOCHROME")],
    ids=["said to be grey", "nothing said", "without a palette", "a grey frame of a mixed image"],
)
def test_what_has_no_colours_stays_grey(client: TestClient, changes: dict[str, Any]) -> None:
    assert shown(client, image(pixels(), **(EXACT | changes))) == [0, 128, 255, 255, 255, 255, 255, 255]


def test_the_window_of_the_request_is_one_of_the_grey_values(client: TestClient) -> None:
    found = shown(client, image(pixels(), **IMAGES["eight bits"]), query="?window=1000,2000,linear-exact")
    assert found == [[level] * 3 for level in (0, 64, 128, 255)] + IN_COLOUR


def test_the_automatic_window_is_made_of_the_grey_values(client: TestClient) -> None:
    """Of which the highest is 100, and white: with the colours among them it would be black."""
    values = np.where(pixels() < FIRST, pixels() // 20, pixels())
    found = shown(client, image(values, **palette(), PixelPresentation="COLOR"))
    assert (found[0], found[4:]) == ([0, 0, 0], IN_COLOUR)
    assert found[3] == [255, 255, 255]


def test_signed_values_below_the_palette_are_grey_too(client: TestClient) -> None:
    values = (pixels().astype("<i2") - 2000).astype("<i2")
    made = image(values.view("<u2"), **palette(first=0), PixelPresentation="COLOR", WindowCenter=-1500, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
    made.PixelRepresentation = 1
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    assert shown(client, made) == IN_GREY + IN_COLOUR


def test_padding_among_the_colours_is_black(client: TestClient) -> None:
    found = shown(client, image(pixels(), **IMAGES["eight bits"], PixelPaddingValue=4095))
    assert found == IN_GREY + IN_COLOUR[:3] + [[0, 0, 0]]


def test_a_moving_picture_has_its_grey_frames_beside_those_in_colour(client: TestClient) -> None:
    shown(client, image(np.stack([pixels(), pixels()]), **enhanced("MONOCHROME", "COLOR")))
    answer = client.get(f"{IMAGE}/rendered", headers={"Accept": "image/gif"})
    moving = Image.open(io.BytesIO(answer.content))
    found = []
    for index in range(2):
        moving.seek(index)
        found.append(np.asarray(moving.convert("RGB"))[4, 4::8].tolist())
    assert found == [IN_GREY + [[255] * 3] * 4, IN_GREY + IN_COLOUR]


def test_colours_have_a_profile_where_one_is_asked_for_and_grey_has_none(client: TestClient) -> None:
    shown(client, image(np.stack([pixels(), pixels()]), **enhanced("MONOCHROME", "COLOR")))
    profiles = []
    for number in (1, 2):
        answer = client.get(f"{IMAGE}/frames/{number}/rendered?iccprofile=yes", headers={"Accept": "image/png"})
        profiles.append("icc_profile" in Image.open(io.BytesIO(answer.content)).info)
    assert profiles == [False, True]


def test_a_grey_presentation_state_changes_the_grey_and_no_colour(client: TestClient) -> None:
    """PS3.4 N.1: what it says is for the range of grey values alone."""
    of = image(pixels(), **IMAGES["one frame of a mixed image"])
    said = state(of, SoftcopyVOILUTSequence=[window(1000, 2000, VOILUTFunction="LINEAR_EXACT")], PresentationLUTShape="INVERSE")
    assert shown(client, of, said, path=f"{STATE}/rendered") == [[level] * 3 for level in (255, 191, 127, 0)] + IN_COLOUR


def test_a_pseudo_colour_state_takes_the_place_of_the_colours(client: TestClient) -> None:
    of = image(pixels(), **IMAGES["eight bits"])
    said = state(of, sop_class=PSEUDO, SoftcopyVOILUTSequence=[window(500, 1000, VOILUTFunction="LINEAR_EXACT")], **palette(first=0))
    found = shown(client, of, said, path=f"{STATE}/rendered")
    assert found == [list(COLOURS[index]) for index in (0, 1, 2, 2, 2, 2, 2, 2)]


def test_a_scanners_map_of_perfusion() -> None:
    """Of a corpus file, whose colours begin at 1024. The picture has been looked at: a brain, and the infarct in it dark."""
    of = frames.image("encapsulation/ct0012/CT0012.explicit_little_endian.dcm")
    frame, offset = next(frames.frames(of))
    stored = decode_here(frame, of.pixels, bit_offset=offset)
    found = frame_picture(frame, of.dataset, of.transfer_syntax_uid, 1, RenderRequest(), bit_offset=offset, bulk=of.fetch, decode=decode_here)
    # Entries 0, 50 and 99 of 100 in words are (256, 256, 256), (5524, 48059, 64893) and (65535, 65535, 55204).
    assert {value: found[stored == value][0].tolist() for value in (0, 1024, 1074, 1123)} == {
        0: [0, 0, 0],
        1024: [1, 1, 1],
        1074: [21, 187, 253],
        1123: [255, 255, 215],
    }
    assert np.ptp(found[stored < 1024].astype(int), axis=-1).max() == 0


def test_a_palette_that_lies_is_refused(client: TestClient) -> None:
    made = image(pixels(), **IMAGES["eight bits"])
    made.GreenPaletteColorLookupTableData = b"\0\0"
    assert web.stow(client, [states.encoded(made)]).status_code == 200
    answer = client.get(f"{IMAGE}/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 406, answer.text
    assert "LUT has" in answer.text
