"""Per-frame functional groups that are looked up and not read: what is found, and that a tile costs a tile, counted and not timed."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.instance import Instance
from dicomweb.rendered import draw_one
from dicomweb.rendering import parse_request
from dicomweb.rendering.values import macro, number, own_groups
from storage.archive import Archive
from storage.index import Layout
from storage.per_frame import PER_FRAME_GROUPS, Items, item_places, opened
from storage.types import Scope
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.counting import bytecodes

SIDE = 8
FEW, MANY = 200, 3000
SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
POSITION, COLUMN = "0048021A", "0048021E"
# Enough of a string that a data set is looked through.
LONG = {"00104000": {"vr": "LT", "Value": ["x" * 9000]}}


def _group(number: int) -> Dataset:
    position = Dataset()
    position.ColumnPositionInTotalImagePixelMatrix = number
    position.XOffsetInSlideCoordinateSystem = f"{number / 100:.2f}"
    group = Dataset()
    group.PlanePositionSlideSequence = [position]
    return group


def _slide(frames: int, **attributes: Any) -> bytes:
    return made.instance(
        series=f"1.2.3.{frames}",
        sop_class=SLIDE,
        side=SIDE,
        pixel_vr="OB",
        NumberOfFrames=frames,
        Modality="SM",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PerFrameFunctionalGroupsSequence=[_group(number) for number in range(1, frames + 1)],
        **{"PhotometricInterpretation": "RGB", "PixelData": bytes(SIDE * SIDE * 3 * frames), **attributes},
    )


@pytest.fixture(scope="module")
def slides() -> dict[int, bytes]:
    return {frames: _slide(frames) for frames in (FEW, MANY)}


@pytest.fixture
def layouts(archive: Archive, slides: dict[int, bytes]) -> dict[int, Layout]:
    found = {}
    for frames, content in slides.items():
        ingest(archive, content)
        _, (found[frames],) = archive.index.layouts(Scope("1.2.3", f"1.2.3.{frames}", f"1.2.3.{frames}.1"), 0)
    return found


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of JSON were read, each time."""
    sizes: list[int] = []
    loads = orjson.loads

    def counted(text: bytes) -> Any:
        sizes.append(len(text))
        return loads(text)

    monkeypatch.setattr(orjson, "loads", counted)
    return sizes


# --- what is found ------------------------------------------------------------------------------------------------


def _sequence(*items: Any) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}


ITEM: dict[str, Any] = {POSITION: _sequence({COLUMN: {"vr": "SL", "Value": [1]}})}
ODD: dict[str, Any] = {"00204000": {"vr": "LT", "Value": ['}{"52009230":{ \\" \\\\ \n"}],[', "\\"]}}


@pytest.mark.parametrize(
    "dataset",
    [
        pytest.param({PER_FRAME_GROUPS: _sequence(ITEM)}, id="one"),
        pytest.param({PER_FRAME_GROUPS: _sequence(ITEM, {}, ITEM)}, id="an empty one"),
        pytest.param({PER_FRAME_GROUPS: _sequence(ITEM, ODD, ITEM), "7FE00010": {"vr": "OW"}}, id="text like JSON"),
        pytest.param({**ODD, PER_FRAME_GROUPS: _sequence(ITEM, ITEM)}, id="text like JSON before"),
        pytest.param({"04000561": _sequence({PER_FRAME_GROUPS: _sequence(ODD)}), PER_FRAME_GROUPS: _sequence(ITEM)}, id="one inside another sequence"),
        pytest.param({PER_FRAME_GROUPS: _sequence({PER_FRAME_GROUPS: _sequence(ITEM, ITEM)}, ITEM)}, id="one inside itself"),
    ],
)
def test_items_are_those_of_the_whole(dataset: dict[str, Any]) -> None:
    json = orjson.dumps({**LONG, **dataset})
    places = item_places(json, 10)
    assert places is not None
    found = opened(json, places)
    items = found[PER_FRAME_GROUPS]["Value"]
    assert isinstance(items, Items)
    whole = orjson.loads(json)
    assert {**found, PER_FRAME_GROUPS: {"vr": "SQ", "Value": list(items)}} == whole
    assert list(found) == list(whole)
    assert items[-1] == whole[PER_FRAME_GROUPS]["Value"][-1]
    assert items[1:] == whole[PER_FRAME_GROUPS]["Value"][1:]
    with pytest.raises(IndexError):
        items[len(items)]


@pytest.mark.parametrize(
    "json",
    [
        pytest.param(orjson.dumps({PER_FRAME_GROUPS: _sequence(ITEM)}), id="small"),
        pytest.param(orjson.dumps(LONG), id="none"),
        pytest.param(orjson.dumps({**LONG, PER_FRAME_GROUPS: _sequence()}), id="empty"),
        pytest.param(orjson.dumps({**LONG, PER_FRAME_GROUPS: {"vr": "SQ"}}), id="without a value"),
        pytest.param(orjson.dumps({**LONG, PER_FRAME_GROUPS: _sequence(ITEM, None)}), id="no item at the end"),
        pytest.param(orjson.dumps({**LONG, PER_FRAME_GROUPS: _sequence(ITEM, None, ITEM)}), id="no item between"),
        pytest.param(orjson.dumps({**LONG, PER_FRAME_GROUPS: _sequence(*[ITEM] * 11)}), id="more than frames"),
        pytest.param(orjson.dumps({**LONG, PER_FRAME_GROUPS: _sequence(ITEM, ITEM)}, option=orjson.OPT_INDENT_2), id="written by others"),
        pytest.param(orjson.dumps({**LONG, "04000561": _sequence({PER_FRAME_GROUPS: _sequence(ITEM)})}), id="only inside another sequence"),
    ],
)
def test_others_are_read_as_a_whole(json: bytes) -> None:
    assert item_places(json, 10) is None
    assert opened(json, None) == orjson.loads(json)


def test_groups_of_a_frame(layouts: dict[int, Layout]) -> None:
    dataset = layouts[FEW].dataset()
    assert isinstance(dataset[PER_FRAME_GROUPS]["Value"], Items)
    for frame in (1, 17, FEW):
        assert number(macro(dataset, frame, POSITION), COLUMN) == frame
        assert len(own_groups(dataset, frame)) == 1
    assert own_groups(dataset, FEW + 1) == []


def test_data_sets_are_the_callers_own(layouts: dict[int, Layout]) -> None:
    first = layouts[FEW].dataset()
    first[PER_FRAME_GROUPS]["Value"][0].clear()
    del first["00280010"]
    assert layouts[FEW].dataset()[PER_FRAME_GROUPS]["Value"][0]
    assert "00280010" in layouts[FEW].dataset()


# --- what it costs ------------------------------------------------------------------------------------------------


def test_finding_items_takes_no_more_instructions_for_more_of_them() -> None:
    texts = {frames: orjson.dumps({PER_FRAME_GROUPS: _sequence(*[ITEM] * frames)}) for frames in (FEW, MANY)}
    taken = [bytecodes(partial(item_places, text, frames)) for frames, text in texts.items()]
    print(f"{taken} bytecodes")
    assert max(taken) < 1000
    assert taken[0] == taken[1]


def test_a_tile_takes_no_more_instructions_of_a_larger_slide(archive: Archive, layouts: dict[int, Layout]) -> None:
    request = parse_request([])
    taken = []
    for frames, layout in layouts.items():
        draw_one(Instance(layout, archive.blobs), 1, request)
        taken.append(bytecodes(lambda of=layout, last=frames: draw_one(Instance(of, archive.blobs), last, request)))  # type: ignore[misc]
    print(f"{taken} bytecodes")
    assert abs(taken[1] - taken[0]) < 50


def _rendered(client: TestClient, path: str) -> int:
    return client.get(f"{path}/rendered", headers={"Accept": "image/png"}).status_code


def _transcoded(client: TestClient, path: str) -> int:
    accept = "multipart/related; type=image/jls; transfer-syntax=1.2.840.10008.1.2.4.80"
    return client.get(path, headers={"Accept": accept}).status_code


@pytest.mark.parametrize("ask", [_rendered, _transcoded])
def test_a_tile_reads_no_more_of_a_larger_slide(
    ask: Callable[[TestClient, str], int], archive: Archive, layouts: dict[int, Layout], parsed: list[int]
) -> None:
    """Bytes of JSON for the first tile and for a later one: those of the data set itself, and of the items of these frames."""
    read: dict[int, list[int]] = {}
    with web.client(archive) as client:
        for frames in layouts:
            for frame in (1, frames):
                parsed.clear()
                assert ask(client, f"studies/1.2.3/series/1.2.3.{frames}/instances/1.2.3.{frames}.1/frames/{frame}") == 200
                read.setdefault(frames, []).append(sum(parsed))
    print(read)
    assert sum(map(len, layouts[MANY].encoded.pieces())) > 300_000
    assert max(read[MANY]) < 16_000
    assert max(read[MANY]) - max(read[FEW]) < 1000


def test_pydicom_agrees(slides: dict[int, bytes], layouts: dict[int, Layout]) -> None:
    """The item of a frame is that of the file."""
    stored = dcmread(io.BytesIO(slides[MANY]), stop_before_pixels=True)
    dataset = layouts[MANY].dataset()
    for frame in (1, 2, MANY // 2, MANY):
        position = stored.PerFrameFunctionalGroupsSequence[frame - 1].PlanePositionSlideSequence[0]
        assert number(macro(dataset, frame, POSITION), COLUMN) == position.ColumnPositionInTotalImagePixelMatrix
