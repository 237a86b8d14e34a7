"""ICC profiles: the picture carries what the data set has, byte for byte, and looks the same."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicomweb import rendering
from dicomweb.rendering.profiles import srgb
from dicomweb.rendering.render import render_frame
from dicomweb.rendering.request import RenderRequest
from storage.codecs import decode_here
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from tests.support.frames import frames, image
from tests.test_rendering import Json, data_set

RGB = np.random.default_rng(4).integers(0, 255, (30, 20, 3), dtype=np.uint8)
# Long enough for three segments of a JPEG.
LONG = bytearray(srgb() + bytes(140_000))
OWN = bytes(LONG)
INLINE = {"vr": "OB", "InlineBinary": base64.b64encode(OWN).decode()}
AT_THE_TOP: Json = {"00282000": INLINE}
IN_A_PATH: Json = {"00480105": {"vr": "SQ", "Value": [AT_THE_TOP]}}
NONSENSE: Json = {"00282000": {"vr": "OB", "InlineBinary": base64.b64encode(b"no profile" * 40).decode()}}


def body(dataset: Json, wanted: str, media_type: str) -> bytes:
    request = RenderRequest(media_type=media_type, icc_profile=wanted)
    return render_frame(RGB.tobytes(), dataset, EXPLICIT_LITTLE, 1, request, decode=decode_here).body


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
@pytest.mark.parametrize(
    ("more", "wanted", "expected"),
    [
        (AT_THE_TOP, "yes", OWN),
        (IN_A_PATH, "yes", OWN),
        ({}, "yes", srgb()),
        ({}, "srgb", srgb()),
        (NONSENSE, "yes", srgb()),
        (AT_THE_TOP, "no", None),
        # Colours are not converted.
        (AT_THE_TOP, "srgb", None),
        (AT_THE_TOP, "adobergb", None),
        ({}, "rommrgb", None),
    ],
)
def test_what_a_picture_carries(media_type: str, more: Json, wanted: str, expected: bytes | None) -> None:
    dataset = data_set(RGB) | more
    found, plain = body(dataset, wanted, media_type), body(dataset, "no", media_type)
    with Image.open(io.BytesIO(found)) as shown, Image.open(io.BytesIO(plain)) as without:
        assert shown.info.get("icc_profile") == expected
        assert np.array_equal(np.asarray(shown), np.asarray(without))
    missing = rendering.not_applied([("iccprofile", wanted)], dataset, media_type)
    assert (missing == ()) == (expected is not None or wanted == "no")


@pytest.mark.parametrize(("interpretation", "media_type"), [("MONOCHROME2", "image/jpeg"), ("RGB", "image/gif"), ("RGB", "")])
def test_what_cannot_carry_one_says_so(interpretation: str, media_type: str) -> None:
    dataset: Any = data_set(RGB if interpretation == "RGB" else RGB[..., 0])
    assert rendering.not_applied([("iccprofile", "yes"), ("annotation", "patient")], dataset, media_type) == ("annotation", "iccprofile")


def test_the_profile_of_a_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    of = image("microscopy/sm_image.dcm")
    frame, _ = next(frames(of))
    request = RenderRequest(media_type="image/png", icc_profile="yes")
    made = render_frame(frame, of.dataset, of.transfer_syntax_uid, 1, request, bulk=of.fetch, decode=decode_here)
    with Image.open(io.BytesIO(made.body)) as shown:
        assert shown.info["icc_profile"][36:40] == b"acsp"
        assert shown.info["icc_profile"] != srgb()
