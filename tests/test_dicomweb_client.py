"""PyPI's dicomweb-client, which 3D Slicer uses, with every call that it has, against a real uvicorn server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image

from storage.archive import Archive
from tests.support import made, web

STUDY, SERIES, ONE = "1.2.3", "1.2.3.4", "1.2.3.4.1"


@pytest.fixture
def url(archive: Archive) -> Iterator[str]:
    with web.serving(archive) as url:
        yield url


@pytest.fixture
def client(url: str) -> DICOMwebClient:
    client = DICOMwebClient(url)
    instances = [made.instance(number, frames=3, side=32, StudyDescription="Head") for number in (1, 2)]
    client.store_instances([pydicom.dcmread(io.BytesIO(instance)) for instance in instances])
    return client


def test_storing_answers_for_each_instance(url: str) -> None:
    answer = DICOMwebClient(url).store_instances([pydicom.dcmread(io.BytesIO(made.instance()))], STUDY)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [ONE]
    # The client names the host without its port, and a RetrieveURL follows the Host header: proxies have the last word.
    retrieve = answer.ReferencedSOPSequence[0].RetrieveURL
    assert retrieve == f"http://127.0.0.1/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{ONE}"


def test_searches(client: DICOMwebClient) -> None:
    studies = client.search_for_studies(
        search_filters={"PatientName": "M*", "StudyDate": "20240101-20240131"}, fields=["StudyDescription"], limit=5, fuzzymatching=False
    )
    (study,) = [pydicom.Dataset.from_json(item) for item in studies]
    assert (study.StudyInstanceUID, study.StudyDescription, study.NumberOfStudyRelatedInstances) == (STUDY, "Head", 2)
    assert [item["0020000E"]["Value"] for item in client.search_for_series(STUDY)] == [[SERIES]]
    assert [item["0020000E"]["Value"] for item in client.search_for_series()] == [[SERIES]]
    assert len(client.search_for_instances(STUDY, SERIES)) == 2
    assert len(client.search_for_instances(STUDY)) == len(client.search_for_instances(get_remaining=True)) == 2
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    # What the client passes through as it is: our extensions, page by page to the end, and includefield repeated.
    ordered = client.search_for_instances(search_filters={"orderby": "-InstanceNumber"}, limit=1, get_remaining=True)
    assert [item["00200013"]["Value"] for item in ordered] == [[2], [1]]
    fields = client.search_for_series(fields=["StudyDescription", "00080060", "Manufacturer"])[0]
    assert (fields["00081030"]["Value"], fields["00080060"]["Value"]) == (["Head"], ["CT"])
    assert client.search_for_studies(fuzzymatching=True, search_filters={"StudyDescription": "*head*", "PatientName": "hans muller"})


def test_whole_objects(client: DICOMwebClient) -> None:
    for found in (client.retrieve_study(STUDY), client.retrieve_series(STUDY, SERIES), list(client.iter_series(STUDY, SERIES))):
        assert sorted(dataset.SOPInstanceUID for dataset in found) == [ONE, "1.2.3.4.2"]
    assert client.retrieve_instance(STUDY, SERIES, ONE).PatientName == "Müller^Hans"


def test_metadata(client: DICOMwebClient) -> None:
    assert len(client.retrieve_study_metadata(STUDY)) == len(client.retrieve_series_metadata(STUDY, SERIES)) == 2
    dataset = pydicom.Dataset.from_json(client.retrieve_instance_metadata(STUDY, SERIES, ONE), lambda *_: None)
    assert (dataset.Rows, dataset.NumberOfFrames) == (32, 3)


def test_frames_and_bulk_data(client: DICOMwebClient, url: str) -> None:
    frames = client.retrieve_instance_frames(STUDY, SERIES, ONE, [3, 1])
    assert frames == [made.frame_of(3, 32), made.frame_of(1, 32)]
    assert list(client.iter_instance_frames(STUDY, SERIES, ONE, [2])) == [made.frame_of(2, 32)]
    uri = client.retrieve_instance_metadata(STUDY, SERIES, ONE)["7FE00010"]["BulkDataURI"]
    absolute = url.removesuffix("/dicom-web") + uri
    assert b"".join(client.retrieve_bulkdata(absolute)) == b"".join(made.frame_of(number, 32) for number in (1, 2, 3))


def test_pictures(client: DICOMwebClient) -> None:
    rendered = client.retrieve_instance_rendered(STUDY, SERIES, ONE, media_types=("image/png",), params={"window": "200,400,linear"})
    assert np.asarray(Image.open(io.BytesIO(rendered))).shape == (32, 32)
    frame = client.retrieve_instance_frames_rendered(STUDY, SERIES, ONE, [2], media_types=("image/jpeg",))
    assert Image.open(io.BytesIO(frame)).size == (32, 32)


def test_a_body_that_breaks_off_and_one_that_is_sent_in_pieces(url: str) -> None:
    body, headers = web.related([made.instance(1), made.instance(2)])
    with httpx2.Client() as plain:
        pieces = (body[at : at + 777] for at in range(0, len(body), 777))
        assert plain.post(f"{url}/studies", content=pieces, headers=headers).status_code == 200
        assert plain.post(f"{url}/studies", content=body[:-5], headers=headers).status_code == 202


def test_a_refusal_is_heard_while_the_body_is_still_coming(url: str) -> None:
    with httpx2.Client(timeout=30) as plain:
        answer = plain.post(f"{url}/studies", content=bytes(20_000_000), headers={"Content-Type": "text/plain"})
        assert (answer.status_code, answer.json()["reference"]) == (415, "PS3.18 10.5")
        assert plain.get(f"{url}/studies").json() == []


def test_many_clients_at_once(url: str) -> None:
    def one(number: int) -> list[int]:
        with httpx2.Client(timeout=30) as plain:
            stored = web.stow(plain, [made.instance(number, side=300)], f"{url}/studies").status_code
            path = f"{url}/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.{number}"
            again = plain.get(path, headers={"Accept": "application/dicom"}).content == made.instance(number, side=300)
            return [stored, int(again), plain.get(f"{path}/frames/1").status_code, plain.get(f"{url}/studies").status_code]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(1, 25))) == [[200, 1, 200, 200]] * 24
