"""The preset table: readable, complete, and found in a checkout as in an installed wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from dicomweb.rendering import Function, RenderRequest, Window, frame_picture, parse_request, presets
from dicomweb.rendering.presets import read, window_named
from dicomweb.rendering.voi import CT_WINDOW
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from tests.support.source import CHECKOUT

# What a radiologist looks for by name; values as in common teaching tables, +-0.
EXPECTED = {
    "ct-brain": (40, 80),
    "ct-subdural": (75, 215),
    "ct-stroke": (40, 40),
    "ct-temporal-bone": (600, 2800),
    "ct-lung": (-600, 1500),
    "ct-mediastinum": (50, 350),
    "ct-abdomen": (50, 400),
    "ct-liver": (90, 150),
    "ct-bone": (400, 1800),
    "ct-angio": (300, 600),
    "ct-soft-tissue": (40, 400),
}


@pytest.mark.parametrize("preset_id", sorted(EXPECTED))
def test_a_preset_has_its_window(preset_id: str) -> None:
    center, width = EXPECTED[preset_id]
    assert window_named(preset_id) == Window(center, width)


def test_names_are_found_in_any_case() -> None:
    by_id = {preset.name: preset.window for preset in presets() if not preset.units}
    assert {name: window_named(name.upper()) for name in by_id} == by_id
    assert window_named("no such window") is None


def test_ids_begin_with_their_modality() -> None:
    assert [
        preset.id for preset in presets() if not preset.id.startswith(preset.modality.lower() + "-")
    ] == []


def test_windows_in_other_units_are_for_viewers_only() -> None:
    assert any(preset.units == "SUV" for preset in presets())
    assert window_named("pt-suv-5") is None


def test_a_modality_has_at_most_one_default_and_the_renderer_uses_it() -> None:
    defaults = [(preset.modality, preset.window) for preset in presets() if preset.default]
    assert len(dict(defaults)) == len(defaults)
    assert dict(defaults)["CT"] == CT_WINDOW


def test_a_preset_by_name_is_the_same_picture_as_its_numbers() -> None:
    values = np.arange(-1024, 3072, dtype=np.int16).reshape(64, 64)
    dataset = {
        tag: {"vr": "US", "Value": [value]}
        for tag, value in (("00280010", 64), ("00280011", 64), ("00280100", 16), ("00280103", 1))
    } | {"00280004": {"vr": "CS", "Value": ["MONOCHROME2"]}}

    def shown(request: RenderRequest) -> bytes:
        return frame_picture(values.tobytes(), dataset, EXPLICIT_LITTLE, 1, request).tobytes()

    assert shown(parse_request([("window", "Lung")])) == shown(
        parse_request([("window", "-600,1500,linear")])
    )


def content(**changes: object) -> bytes:
    entry = {"id": "ct-x", "name": "X", "modality": "CT", "center": 1, "width": 2} | changes
    return orjson.dumps({"presets": [entry]})


def test_reading_takes_the_function_and_units() -> None:
    (preset,) = read(content(function="SIGMOID", units="SUV", body_part="HEAD", default=True))
    assert preset.window == Window(1, 2, Function.SIGMOID)
    assert (preset.units, preset.body_part, preset.default) == ("SUV", "HEAD", True)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (content(width=0), "ct-x"),
        (orjson.dumps({"presets": [orjson.loads(content())["presets"][0]] * 2}), "named twice"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(bad: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(bad)


def test_presets_are_found_in_an_installed_wheel(tmp_path: Path) -> None:
    """The wheel has viewer-config inside pacs (pyproject's force-include), and nothing beside the packages."""
    for package in ("storage", "dicomweb"):
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "viewer-config", tmp_path / "pacs" / "viewer-config")
    code = "import dicomweb.rendering as r; print(r.__file__, len(r.presets()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    where, count = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert int(count) == len(presets())
