"""The preset table: readable, complete, and found in a checkout as in an installed wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from dicomweb.rendering import Function, RenderRequest, Window, frame_picture, parse_request
from dicomweb.rendering.named_windows import window_named
from dicomweb.rendering.presets import window_of
from dicomweb.rendering.voi import CT_WINDOW
from storage.errors import BadRequest, IndexUnavailable, NotFound, Settled
from storage.index import Index
from storage.index.presets import KnownPresets, holding, own, put_presets, remove_preset
from storage.preset_file import built_in
from storage.presets import (
    Origin,
    Preset,
    Presets,
    check_together,
    checked,
    default_for,
    id_of,
    read,
    written,
)
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
    # Presentation values of 12 and 14 bits, from the lowest to the highest (PS3.3 C.8.11.7).
    "mg-12-bits": (2048, 4096),
    "mg-14-bits": (8192, 16384),
}


@pytest.mark.parametrize("preset_id", sorted(EXPECTED))
def test_a_preset_has_its_window(preset_id: str) -> None:
    center, width = EXPECTED[preset_id]
    assert window_named(preset_id) == Window(center, width)


def test_names_are_found_in_any_case() -> None:
    by_name = {preset.name: window_of(preset) for preset in built_in() if not preset.units}
    assert {name: window_named(name.upper()) for name in by_name} == by_name
    assert window_named("no such window") is None


def test_ids_begin_with_their_modality() -> None:
    assert [
        preset.id for preset in built_in() if not preset.id.startswith(preset.modality.lower() + "-")
    ] == []


def test_a_modality_has_at_most_one_default_and_the_renderer_uses_it() -> None:
    defaults = [(preset.modality, window_of(preset)) for preset in built_in() if preset.default]
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
    (preset,) = read(content(modality="PT", function="SIGMOID", units="SUV", body_part="HEAD", default=True))
    assert preset == Preset("ct-x", "X", "PT", 1, 2, "SIGMOID", "HEAD", True, "SUV", False, Origin.BUILT_IN)
    assert window_of(Preset("x", "X", "CT", 1, 2, "SIGMOID")) == Window(1, 2, Function.SIGMOID)


TWICE = orjson.dumps({"presets": [orjson.loads(content())["presets"][0]] * 2})
SAME_NAME = orjson.dumps({"presets": [orjson.loads(content(id=one, name=name))["presets"][0] for one, name in (("a", "x"), ("b", "X "))]})
SAME_DEFAULT = orjson.dumps(
    {"presets": [orjson.loads(content(id=one, name=one, default=True))["presets"][0] for one in ("a", "b")]}
)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (content(width=0), "ct-x: the width of a window is at least 1"),
        (content(width=0.5), "at least 1"),
        (content(width=0, function="SIGMOID"), "above 0"),
        (content(width="2"), "center and width are numbers"),
        (content(units="PERCENT", center=50, width=99), "in PERCENT is LINEAR_EXACT"),
        (content(units="PERCENT", function="LINEAR_EXACT", center=50, width=101), "from 0 to 100"),
        (content(center=1e300), "at most 1e9"),
        (content(name="1,2"), "no comma"),
        (content(name="12"), "is no number"),
        (content(name=" "), "1 to 64"),
        (content(id="A/B"), "the id of a preset"),
        (content(modality="ct"), "give the modality"),
        (content(body_part="Übung"), "give the body part"),
        (content(function="BOTH"), "function is one of LINEAR"),
        (content(units="SUV"), "SUV for modality PT"),
        (content(modality="PT", units="SUV"), "LINEAR_EXACT or SIGMOID"),
        (content(hidden=True, default=True), "hidden"),
        (content(colour="red"), "there is no colour in a preset"),
        (b"[]", "presets are JSON"),
        (b"{", "presets are JSON"),
        (TWICE, "have one id"),
        (SAME_NAME, "have one name"),
        (SAME_DEFAULT, "are the default for the same images"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(bad: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        read(bad)


def test_what_is_written_is_read_again() -> None:
    presets = (
        checked(Preset("ct-a", "A b", "CT", -0.5, 3)),
        checked(Preset("pt-s", "S", "PT", 5, 10, "SIGMOID", "HEAD", True, "SUV")),
        checked(Preset("ct-h", "H", "CT", 1, 2, hidden=True)),
    )
    assert read(written(presets), Origin.SITE) == presets
    assert read(written(built_in())) == built_in()


LUNG = Preset("ct-lung", "Lung", "CT", -500, 1400)
OURS = Preset("ct-ours", "lung", "CT", -1, 10)
MR_LUNG = Preset("mr-lung", "Lung", "MR", 5, 10)
# The layers above those that come with the archive, what is asked for, of which modality, and the center that it has.
NAMED = (
    ((), "Lung", "CT", -600),
    (((LUNG,),), "lung", "CT", -500),
    (((OURS,),), "LUNG", "CT", -1),
    (((OURS,),), "ct-lung", "CT", None),
    (((LUNG,), (OURS,)), "Lung", "CT", -1),
    (((MR_LUNG,),), "Lung", "CT", -600),
    (((MR_LUNG,),), "Lung", "MR", 5),
    (((MR_LUNG,),), "mr-lung", "CT", 5),
    (((Preset("ct-lung", "Lung", "CT", -600, 1500, hidden=True),),), "Lung", "CT", None),
    ((), "Lung", "MR", -600),
)  # fmt: skip


@pytest.mark.parametrize(("layers", "name", "modality", "center"), NAMED)
def test_whose_preset_it_is(layers: tuple[tuple[Preset, ...], ...], name: str, modality: str, center: float | None) -> None:
    found = Presets(built_in(), *layers).named(name, modality)
    assert (found.center if found else None) == center


def test_a_name_that_could_be_several_is_not_guessed() -> None:
    with pytest.raises(BadRequest, match="ct-lung, mr-lung"):
        Presets(built_in(), (MR_LUNG,)).named("Lung", "CR")


HEAD = Preset("ct-head", "H", "CT", 35, 90, body_part="HEAD", default=True)
MINE = Preset("ct-mine", "M", "CT", 1, 2, default=True)


@pytest.mark.parametrize(
    ("layers", "body_part", "expected"),
    [
        ((), "HEAD", "ct-soft-tissue"),
        (((HEAD,),), "HEAD", "ct-head"),
        (((HEAD,),), "CHEST", "ct-soft-tissue"),
        (((HEAD,), (MINE,)), "HEAD", "ct-mine"),
        (((Preset("ct-soft-tissue", "Soft tissue", "CT", 40, 400, hidden=True),),), "CHEST", None),
    ],
)
def test_what_images_without_a_window_are_shown_in(layers: tuple[tuple[Preset, ...], ...], body_part: str, expected: str | None) -> None:
    found = default_for(Presets(built_in(), *layers).defaults, "CT", body_part)
    assert (found.id if found else None) == expected


@pytest.mark.parametrize(
    ("name", "modality", "expected"),
    [("Lung nodules", "CT", "ct-lung-nodules"), ("A / B", "MR", "mr-a-b"), ("肺", "CT", f"ct-{id_of('肺', 'CT')[3:]}")],
)
def test_ids_are_made_of_names(name: str, modality: str, expected: str) -> None:
    assert id_of(name, modality) == expected
    assert checked(Preset(expected, name, modality, 1, 2)).id == expected


def test_presets_are_added_changed_and_removed(index: Index) -> None:
    put_presets(index, [OURS, HEAD], new=True)
    assert [one.id for one in own(index)] == ["ct-head", "ct-ours"]
    put_presets(index, [replace(LUNG, name="Mine"), MINE], "anna")
    assert {one.name for one in holding(index, "anna").shown} >= {"Mine", "lung", "M", "Brain"}
    assert "Mine" not in {one.name for one in holding(index).shown}
    for id_ in ("ct-ours", "ct-lung"):
        with pytest.raises(Settled, match=f"there is a preset {id_} already"):
            put_presets(index, [replace(LUNG, id=id_, name="Other")], new=True)
    with pytest.raises(BadRequest, match="have one name"):
        put_presets(index, [replace(LUNG, id="ct-second", name="LUNG")])
    with pytest.raises(BadRequest, match="the default for the same images"):
        put_presets(index, [Preset("ct-z", "Z", "CT", 1, 2), replace(HEAD, id="ct-y", name="Y")])
    assert "ct-z" not in {one.id for one in own(index)}
    # Names change places.
    put_presets(index, [replace(OURS, name="H"), replace(HEAD, name="lung")])
    assert {one.id: one.name for one in own(index)} == {"ct-ours": "H", "ct-head": "lung"}
    remove_preset(index, "ct-ours")
    with pytest.raises(NotFound):
        remove_preset(index, "ct-ours")
    with pytest.raises(Settled, match="hide it instead"):
        remove_preset(index, "ct-lung")
    remove_preset(index, "ct-lung", "anna")
    with pytest.raises(BadRequest, match="a user is named by"):
        put_presets(index, [MINE], " anna")


def test_a_process_sees_changes_of_others_within_a_second(index: Index) -> None:
    known = KnownPresets(index)
    before = known.basis
    assert known.basis_at_hand == before
    put_presets(index, [OURS])
    put_presets(index, [MINE], "anna")
    deadline = time.monotonic() + 1
    while known.now().named("Lung", "CT") != OURS and time.monotonic() < deadline:
        time.sleep(0.02)
    assert known.now().named("Lung", "CT") == OURS
    assert known.basis > before
    assert known.now("anna").named("M", "CT") == replace(MINE, origin=Origin.USER)
    assert known.now("nobody") is known.now()


def test_while_the_database_is_away_what_was_known_holds(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    put_presets(index, [OURS])
    known = KnownPresets(index, fresh_seconds=0)
    before, basis = known.now(), known.basis

    def away() -> None:
        raise IndexUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(index.database, "read", away)
        assert (known.now(), known.basis) == (before, basis)
    put_presets(index, [replace(OURS, width=20)])
    assert known.now().named("Lung", "CT") == replace(OURS, width=20)


def test_together_is_checked_of_those_that_come_with_the_archive() -> None:
    check_together(built_in())


def test_presets_are_found_in_an_installed_wheel(tmp_path: Path) -> None:
    """The wheel has viewer-config inside pacs (pyproject's force-include), and nothing beside the packages."""
    for package in ("storage", "dicomweb"):
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "viewer-config", tmp_path / "pacs" / "viewer-config")
    code = "import storage.preset_file as p; print(p.__file__, len(p.built_in()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    where, count = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert int(count) == len(built_in())
