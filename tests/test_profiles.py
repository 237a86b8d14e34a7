"""ICC profiles: colours converted as calculated by hand, what a picture carries, and what is said where it cannot be had."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from dicomweb import rendering
from dicomweb.rendering.render import render_frame
from dicomweb.rendering.request import RenderRequest
from dicomweb.rendering.spaces import SPACES, profile, to_connection
from storage.codecs import convert, decode_here
from storage.errors import CannotDecode
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from tests.support.frames import frames, image
from tests.test_rendering import Json, data_set

RGB = np.random.default_rng(4).integers(0, 255, (30, 20, 3), dtype=np.uint8)
SRGB, ADOBE, ROMM, P3 = (profile(name) for name in SPACES)
# Long enough for three segments of a JPEG; what follows the size that a profile says is no part of it.
LONG = bytearray(ADOBE + bytes(140_000))
LONG[:4] = len(LONG).to_bytes(4, "big")
OWN = bytes(LONG)


def holding(content: bytes) -> Json:
    return {"00282000": {"vr": "OB", "InlineBinary": base64.b64encode(content).decode()}}


def path(content: bytes, name: str) -> Json:
    return {"00480106": {"vr": "SH", "Value": [name]}, **holding(content)}


AT_THE_TOP = holding(OWN)
PADDED = holding(ADOBE + b"\0\0")
IN_A_PATH: Json = {"00480105": {"vr": "SQ", "Value": [path(OWN, "1")]}}
NAMED = {"vr": "SQ", "Value": [{"00480106": {"vr": "SH", "Value": ["2"]}}]}
OF_THE_SECOND: Json = {
    "00480105": {"vr": "SQ", "Value": [path(ROMM, "1"), path(P3, "2")]},
    "52009230": {"vr": "SQ", "Value": [{"00480207": NAMED}]},
}
LABELLED: Json = {"00282002": {"vr": "CS", "Value": ["ROMMRGB"]}}
NONSENSE = holding(b"no profile" * 40)
GREY = holding(ADOBE[:16] + b"GRAY" + ADOBE[20:])
# Sound as far as its header says: only who reads the tags finds out.
TAGLESS = holding(ADOBE[:132].ljust(len(ADOBE), b"\0"))
CUT = holding(ADOBE[:300])


def body(dataset: Json, wanted: str, media_type: str) -> bytes:
    request = RenderRequest(media_type=media_type, icc_profile=wanted)
    return render_frame(RGB.tobytes(), dataset, EXPLICIT_LITTLE, 1, request, decode=decode_here).body


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
@pytest.mark.parametrize(
    ("more", "wanted", "expected"),
    [
        (AT_THE_TOP, "yes", OWN),
        (PADDED, "yes", ADOBE),
        (IN_A_PATH, "yes", OWN),
        (OF_THE_SECOND, "yes", P3),
        (LABELLED, "yes", ROMM),
        ({}, "yes", SRGB),
        # What is no profile of these colours is not taken for one.
        (NONSENSE, "yes", None),
        (GREY, "yes", None),
        (CUT, "yes", None),
        (AT_THE_TOP, "no", None),
        *((holder, name, profile(name)) for name in SPACES for holder in ({}, AT_THE_TOP, LABELLED, OF_THE_SECOND)),
    ],
)
def test_what_a_picture_carries(media_type: str, more: Json, wanted: str, expected: bytes | None) -> None:
    dataset = data_set(RGB) | more
    with Image.open(io.BytesIO(body(dataset, wanted, media_type))) as shown:
        assert shown.info.get("icc_profile") == expected
    missing = rendering.not_applied([("iccprofile", wanted)], dataset, media_type)
    assert (missing == ()) == (expected is not None or wanted == "no")


def pixels(dataset: Json, wanted: str, media_type: str = "image/png") -> Any:
    with Image.open(io.BytesIO(body(dataset, wanted, media_type))) as shown:
        return np.asarray(shown.convert("RGB")).astype(int)


@pytest.mark.parametrize("more", [{}, AT_THE_TOP, NONSENSE])
def test_colours_are_left_as_they_are(more: Json) -> None:
    """With `yes` the profile says what they are; sRGB asked of sRGB is itself."""
    dataset = data_set(RGB) | more
    assert np.array_equal(pixels(dataset, "no"), RGB)
    assert np.array_equal(pixels(dataset, "yes"), RGB)
    assert np.array_equal(pixels(data_set(RGB), "srgb"), RGB)


# ---- the spaces, by their standards


def decoded(values: Any, name: str) -> Any:
    """From 0 to 1, linear: IEC 61966-2-1, Adobe RGB (1998) 4.3.5.2, ISO 22028-2."""
    if name == "adobergb":
        return values ** (563 / 256)
    if name == "rommrgb":
        return np.where(values < 16 * 0.001953, values / 16, values**1.8)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(linear: Any, name: str) -> Any:
    linear = np.clip(linear, 0, 1)
    if name == "adobergb":
        return linear ** (256 / 563)
    if name == "rommrgb":
        return np.where(linear < 0.001953, linear * 16, linear ** (1 / 1.8))
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


# The columns of the primaries under D50, as the standards and their owners' profiles print them.
PRINTED = {
    "srgb": [[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7139]],
    "adobergb": [[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]],
    "rommrgb": [[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0.0000, 0.0000, 0.8249]],
    "displayp3": [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]],
}


@pytest.mark.parametrize("name", SPACES)
def test_primaries(name: str) -> None:
    assert np.abs(to_connection(SPACES[name]) - PRINTED[name]).max() < 1e-4


@pytest.mark.parametrize("name", SPACES)
def test_a_profile_is_one(name: str) -> None:
    """Little CMS reads it, and finds in it what was written."""
    found = ImageCms.ImageCmsProfile(io.BytesIO(profile(name)))
    assert ImageCms.getProfileDescription(found).strip() == SPACES[name].name
    assert (found.profile.xcolor_space.strip(), found.profile.connection_space.strip()) == ("RGB", "XYZ")
    assert len(profile(name)) == int.from_bytes(profile(name)[:4], "big")


@pytest.mark.parametrize("source", SPACES)
@pytest.mark.parametrize("target", SPACES)
def test_converted_colours_are_those_calculated_by_hand(source: str, target: str) -> None:
    """To the nearest level, where the other space has such a colour, and not in its darkest shadows."""
    values = np.concatenate([RGB.reshape(-1, 3), [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0]]]).astype(np.uint8)
    across = np.linalg.solve(np.array(PRINTED[target]), PRINTED[source])
    linear = decoded(values / 255, source) @ across.T
    found = convert(values[None], profile(source), profile(target))[0]
    # Eight bits of a steep curve: what lies below 1/100 of white may differ by more.
    sure = ((linear > 0.01) & (linear < 1)).all(axis=1)
    expected = encoded(linear, target) * 255
    assert sure.sum() > 100
    assert np.abs(found[sure] - expected[sure]).max() <= 0.75
    assert np.array_equal(found[-4:-2], [[0, 0, 0], [255, 255, 255]])


def test_colours_without_a_profile_are_srgb_and_those_of_a_label_its() -> None:
    red = np.full((4, 4, 3), (200, 30, 40), np.uint8)

    def shown(more: Json, wanted: str) -> list[int]:
        request = RenderRequest(media_type="image/png", icc_profile=wanted)
        made = render_frame(red.tobytes(), data_set(red) | more, EXPLICIT_LITTLE, 1, request, decode=decode_here)
        with Image.open(io.BytesIO(made.body)) as picture:
            return [int(one) for one in np.asarray(picture)[0, 0]]

    # By hand: linear red of 200 in sRGB is 0.578, of 30 0.013: 0.7152 x 0.578 + 0.2848 x 0.013 = 0.417, to the 256/563th 0.672, 171 of 255.
    assert shown({}, "adobergb") == [171, 35, 44]
    assert shown({"00282002": {"vr": "CS", "Value": ["ADOBERGB"]}}, "srgb") == [233, 24, 36]


@pytest.mark.parametrize("more", [NONSENSE, GREY, CUT, TAGLESS], ids=["nonsense", "grey", "cut", "tagless"])
@pytest.mark.parametrize("wanted", SPACES)
def test_colours_of_a_damaged_profile_are_not_passed_off_as_others(more: Json, wanted: str) -> None:
    with pytest.raises(CannotDecode, match="ICC profile"):
        body(data_set(RGB) | more, wanted, "image/png")


@pytest.mark.parametrize(
    ("interpretation", "media_type", "wanted", "missing"),
    [
        ("MONOCHROME2", "image/jpeg", "yes", True),
        ("MONOCHROME2", "image/jpeg", "srgb", True),
        ("RGB", "image/gif", "yes", True),
        ("RGB", "", "yes", True),
        # Converted, though it cannot say so.
        ("RGB", "image/gif", "srgb", False),
    ],
)
def test_what_cannot_carry_one_says_so(interpretation: str, media_type: str, wanted: str, missing: bool) -> None:
    dataset: Any = data_set(RGB if interpretation == "RGB" else RGB[..., 0])
    found = rendering.not_applied([("iccprofile", wanted), ("annotation", "patient")], dataset, media_type)
    assert found == (("annotation", "iccprofile") if missing else ("annotation",))


def test_a_slide_in_other_colours() -> None:
    """Its own profile in the picture; converted to sRGB as Little CMS does it alone."""
    of = image("microscopy/sm_image.dcm")
    # Of its tiles the one that is least like glass.
    frame = max((one for one, _ in frames(of)), key=lambda one: float(np.ptp(np.frombuffer(one, np.uint8).reshape(-1, 3), axis=1).mean()))

    def shown(wanted: str) -> tuple[Any, bytes]:
        request = RenderRequest(media_type="image/png", icc_profile=wanted)
        made = render_frame(frame, of.dataset, of.transfer_syntax_uid, 1, request, bulk=of.fetch, decode=decode_here)
        with Image.open(io.BytesIO(made.body)) as picture:
            return np.asarray(picture), picture.info["icc_profile"]

    stored, own = shown("yes")
    assert own[12:16] == b"scnr"
    adobe, carried = shown("adobergb")
    assert carried == ADOBE
    ends = [ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (own, ADOBE)]
    expected = ImageCms.profileToProfile(Image.fromarray(stored), ends[0], ends[1], outputMode="RGB")
    assert expected is not None
    assert np.array_equal(adobe, np.asarray(expected))
    assert not np.array_equal(adobe, stored)
