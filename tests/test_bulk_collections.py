"""All bulk data and all pixel data of a study, a series and an instance (PS3.18 10.4.3.3.5, 10.4.3.3.6)."""

from __future__ import annotations

from collections.abc import Iterator

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from starlette.testclient import TestClient

from storage.archive import Archive
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file

STUDY, SERIES = "studies/1.2.3", "studies/1.2.3/series/1.2.3.4"
COLOUR = "microscopy/multiframe_camelyon_challenge_image.dcm"
OCTETS = "multipart/related; type=application/octet-stream"


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def parts(client: TestClient, path: str, accept: str = "*/*") -> list[web.Part]:
    answer = client.get(path, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return web.parts(answer)


def icon(content: bytes) -> list[Dataset]:
    item = Dataset()
    item.Rows = item.Columns = 40
    item.PixelData = content
    item["PixelData"].VR = "OB"
    return [item]


def test_each_value_is_a_part_at_its_place(client: TestClient) -> None:
    small = bytes(range(256)) * 8
    instances = [
        made.instance(1, frames=2, IconImageSequence=icon(small)),
        made.instance(2, series="1.2.3.5"),
        made.instance(3, pixels=False),
    ]
    assert web.stow(client, instances).status_code == 200
    metadata = client.get(f"{STUDY}/metadata").json()
    (first,) = [one for one in metadata if one["0020000E"]["Value"] == ["1.2.3.4"] and "7FE00010" in one]
    nested = first["00880200"]["Value"][0]["7FE00010"]["BulkDataURI"]
    found = {part.headers["content-location"]: part for part in parts(client, f"{STUDY}/bulkdata", OCTETS)}
    assert found[nested].content == small
    uris = {one["7FE00010"]["BulkDataURI"] for one in metadata if "7FE00010" in one}
    assert set(found) == uris | {nested}
    # Without the icon's, which is bulk data and no pixel data of the resource; at every level.
    for path, count in ((STUDY, 2), (SERIES, 1), (f"{SERIES}/instances/1.2.3.4.1", 1)):
        pixels = {part.headers["content-location"]: part for part in parts(client, f"{path}/pixeldata", OCTETS)}
        assert len(pixels) == count
        assert set(pixels) <= uris
        for location, part in pixels.items():
            assert part.headers["content-length"] == str(len(part.content))
            assert part.content == client.get(location.removeprefix("/dicom-web/"), headers={"Accept": "application/octet-stream"}).content


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "image/jpeg"), ("multipart/related; type=image/jpeg", "image/jpeg"), (OCTETS, "application/octet-stream")],
)
def test_encapsulated_pixel_data_comes_frame_by_frame(client: TestClient, archive: Archive, accept: str, kind: str) -> None:
    path = corpus_file(COLOUR)
    stored = ingest(archive, path)
    dataset = pydicom.dcmread(path)
    found = parts(client, f"studies/{stored.uids.study}/pixeldata", accept)
    assert len(found) == int(dataset.NumberOfFrames)
    assert {part.content_type.partition(";")[0] for part in found} == {kind}
    assert found[3].headers["content-location"].endswith(f"/instances/{stored.uids.instance}/frames/4")
    if kind == "image/jpeg":
        frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))
        assert [part.content for part in found] == list(frames)
    else:
        assert {len(part.content) for part in found} == {dataset.Rows * dataset.Columns * 3}


@pytest.mark.parametrize("resource", ["bulkdata", "pixeldata"])
@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("studies/1.9", "*/*", 404),
        ("studies/1.2.3/series/1.2.3.5", "*/*", 404),
        (STUDY, "image/jls", 406),
        (STUDY, "text/html", 406),
        (STUDY, 'multipart/related; type="image/jls"', 406),
    ],
)
def test_where_there_is_nothing_it_is_said(client: TestClient, resource: str, path: str, accept: str, status: int) -> None:
    web.stow(client, [made.instance(1), made.instance(2, series="1.2.3.5", pixels=False)])
    answer = client.get(f"{path}/{resource}", headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert status == 404 or "application/octet-stream" in answer.text


def test_what_is_not_accepted_is_left_out(client: TestClient, archive: Archive) -> None:
    jpeg = ingest(archive, corpus_file(COLOUR))
    native = made.instance(1, study=jpeg.uids.study, series="1.2.3.9")
    web.stow(client, [native])
    found = parts(client, f"studies/{jpeg.uids.study}/pixeldata", "multipart/related; type=image/jpeg")
    assert {part.content_type.partition(";")[0] for part in found} == {"image/jpeg"}
    assert client.head(f"studies/{jpeg.uids.study}/pixeldata").headers["content-type"].startswith("multipart/related")


def test_frames_say_where_each_can_be_had_alone(client: TestClient) -> None:
    web.stow(client, [made.instance(1, frames=3)])
    path = f"{SERIES}/instances/1.2.3.4.1/frames"
    locations = [part.headers["content-location"] for part in parts(client, f"{path}/3,1", OCTETS)]
    assert locations == [f"/dicom-web/{path}/3", f"/dicom-web/{path}/1"]
    alone = client.get(f"{path}/2", headers={"Accept": "application/octet-stream"})
    assert alone.headers["content-location"] == f"/dicom-web/{path}/2"
