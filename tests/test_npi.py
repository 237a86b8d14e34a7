"""Non-patient instances (PS3.18 12, PS3.4 annex GG): in the same archive as everything else, and in no search for studies."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from storage import commitment, upkeep
from storage.archive import Archive
from storage.index import Entry, Index, open_index
from storage.index.deletions import Deletions
from storage.index.migrations.versions import v0007_non_patient
from storage.non_patient import BY_SOP_CLASS, CATEGORIES, PARTITION
from storage.scanner import scan
from storage.types import DEFAULT_PARTITION, Outcome, Scope, Source
from tests.support import made, web
from tests.support.archive import Store, ingest
from tests.support.corpus import corpus_file
from tests.support.entries import entry

JSON = "application/dicom+json"
HANGING, PALETTE, PROTOCOL = "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1", "1.2.840.10008.5.1.4.1.1.200.1"
GROUP, INVENTORY, APPROVAL = "1.2.840.10008.5.1.4.45.1", "1.2.840.10008.5.1.4.1.1.201.1", "1.2.840.10008.5.1.4.1.1.200.3"


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def npi(uid: str, sop_class: str = HANGING, *, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    dataset = item(SOPClassUID=sop_class, SOPInstanceUID=uid, SpecificCharacterSet="ISO_IR 192", **attributes)
    return made.written(dataset, syntax)


def hanging(uid: str, name: str, modality: str = "CT", **attributes: Any) -> bytes:
    return npi(
        uid,
        HangingProtocolName=name,
        HangingProtocolLevel="SITE",
        HangingProtocolDefinitionSequence=Sequence([item(Modality=modality, Laterality="")]),
        NumberOfPriorsReferenced=0,
        **attributes,
    )


@pytest.fixture
def client(archive: Archive) -> TestClient:
    return web.client(archive)


def found(client: TestClient, path: str) -> list[str]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return [one["00080018"]["Value"][0] for one in answer.json()]


class Case(NamedTuple):
    """A file of the corpus, its category, an attribute by which to find it."""

    file: str
    category: str
    key: str


CORPUS = [
    Case("derived/NeurosurgeryPlan.dcm", "hanging-protocols", "HangingProtocolName=Neuro*"),
    Case("derived/hotiron.dcm", "color-palettes", "ContentLabel=HOT_IRON"),
    Case("derived/pet20step.dcm", "color-palettes", "ContentLabel=PET_20_STEP"),
    Case("sop-classes/CTDefinedProcedureProtocolStorage.dcm", "defined-procedure-protocols", ""),
]


@pytest.mark.parametrize("case", CORPUS, ids=[case.file for case in CORPUS])
def test_real_ones_are_stored_found_and_come_back_as_they_were(client: TestClient, case: Case) -> None:
    content = corpus_file(case.file).read_bytes()
    original = pydicom.dcmread(io.BytesIO(content))
    uid = original.SOPInstanceUID
    answer = web.stow(client, [content], case.category)
    assert answer.status_code == 200, answer.text
    place = f"http://pacs.test/dicom-web/{case.category}/{uid}"
    assert answer.json()["00081199"]["Value"][0]["00081190"]["Value"] == [place]
    assert answer.json()["00081190"] == {"vr": "UR"}, "there is no study to retrieve"

    assert found(client, f"{case.category}?{case.key}") == [uid]
    assert client.get(place, headers={"Accept": "application/dicom; transfer-syntax=*"}).content[132:] == content[132:]
    (dataset,) = client.get(place).json()
    assert "0020000D" not in dataset
    assert "0020000E" not in dataset
    again = pydicom.Dataset.from_json(dataset, bulk_data_uri_handler=lambda _tag, _vr, uri: client.get(f"http://pacs.test{uri}", headers={"Accept": "application/octet-stream"}).content)
    # Everything is in UTF-8 on the web.
    again.pop("SpecificCharacterSet", None)
    original.pop("SpecificCharacterSet", None)
    assert again == original
    for path in ("studies", "series", "instances"):
        assert found(client, path) == [], "it is no study of a patient"


def test_every_way_in_leads_to_the_same_place(client: TestClient, archive: Archive) -> None:
    assert web.stow(client, [hanging("1.2.1", "A")], "hanging-protocols").status_code == 200
    answer = web.stow(client, [hanging("1.2.2", "B"), made.instance()])
    assert answer.status_code == 200
    urls = [one["00081190"]["Value"][0] for one in answer.json()["00081199"]["Value"]]
    assert urls[0].endswith("/hanging-protocols/1.2.2")
    assert answer.json()["00081190"]["Value"] == ["http://pacs.test/dicom-web/studies/1.2.3"]
    assert ingest(archive, hanging("1.2.3", "C")).outcome is Outcome.STORED
    assert ingest(archive, hanging("1.2.3", "C")).outcome is Outcome.ALREADY
    assert found(client, "hanging-protocols") == ["1.2.1", "1.2.2", "1.2.3"]
    assert found(client, "instances") == ["1.2.3.4.1"]
    counts = archive.index.counts()
    assert (counts.studies, counts.series, counts.instances) == (1, 1, 4)
    assert not any(flag.code == "assigned-uid" for flag in ingest(archive, hanging("1.2.9", "D")).flags)


REFUSED = [
    # Path, instance: stored under a category or a UID that is not its own.
    ("hanging-protocols", npi("1.2.1", PALETTE)),
    ("color-palettes", hanging("1.2.1", "A")),
    ("hanging-protocols", made.instance()),
    ("hanging-protocols/1.2.9", hanging("1.2.1", "A")),
]


@pytest.mark.parametrize(("path", "content"), REFUSED)
def test_what_does_not_belong_there_is_refused(client: TestClient, archive: Archive, path: str, content: bytes) -> None:
    answer = web.stow(client, [content], path)
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert archive.index.counts().instances == 0


def test_one_of_two_is_stored(client: TestClient) -> None:
    assert web.stow(client, [hanging("1.2.1", "A"), npi("1.2.2", PALETTE)], "hanging-protocols").status_code == 202
    assert found(client, "hanging-protocols") == ["1.2.1"]


def test_one_is_stored_at_its_own_path_and_as_json(client: TestClient) -> None:
    assert web.stow(client, [hanging("1.2.1", "A")], "hanging-protocols/1.2.1").status_code == 200
    dataset = {
        "00080016": {"vr": "UI", "Value": [HANGING]},
        "00080018": {"vr": "UI", "Value": ["1.2.2"]},
        "00720002": {"vr": "SH", "Value": ["B"]},
    }
    answer = client.post("hanging-protocols/1.2.2", json=[dataset], headers={"Content-Type": JSON})
    assert answer.status_code == 200, answer.text
    assert found(client, "hanging-protocols?HangingProtocolName=B") == ["1.2.2"]


KEYS = [
    ("", {"1", "2", "3"}),
    ("SOPInstanceUID=1.2.1", {"1"}),
    ("SOPInstanceUID=1.2.1,1.2.3", {"1", "3"}),
    ("HangingProtocolName=Chest", {"1"}),
    ("HangingProtocolName=Ch*", {"1", "2"}),
    ("00720002=Knee", {"3"}),
    ("HangingProtocolLevel=SITE", {"1", "2", "3"}),
    ("HangingProtocolLevel=MANUFACTURER", set()),
    ("HangingProtocolDefinitionSequence.Modality=MR", {"2", "3"}),
    ("HangingProtocolDefinitionSequence.Modality=MR&HangingProtocolName=Knee", {"3"}),
    (f"SOPClassUID={HANGING}", {"1", "2", "3"}),
    (f"SOPClassUID={PALETTE}", set()),
    ("NumberOfPriorsReferenced=0", {"1", "2", "3"}),
    ("limit=2", {"1", "2"}),
    ("limit=2&offset=2", {"3"}),
    ("PatientID=P1", set()),
]


@pytest.mark.parametrize(("query", "expected"), KEYS)
def test_searching_by_its_information_model(client: TestClient, store: Store, query: str, expected: set[str]) -> None:
    """PS3.4 table U.6-1."""
    for uid, name, modality in (("1.2.1", "Chest", "CT"), ("1.2.2", "Chest MR", "MR"), ("1.2.3", "Knee", "MR")):
        store(hanging(uid, name, modality))
    store(npi("1.2.4", PALETTE, ContentLabel="HOT"))
    store(made.instance())
    assert {uid.rpartition(".")[2] for uid in found(client, f"hanging-protocols?{query}")} == expected


def test_answers_carry_the_keys_of_the_model_and_what_is_asked_for(client: TestClient, store: Store) -> None:
    store(hanging("1.2.1", "A", HangingProtocolDescription="d", PartialDataDisplayHandling="MAINTAIN_LAYOUT"))
    (answer,) = client.get("hanging-protocols").json()
    assert set(answer) == {"00080005", "00080016", "00080018", "00081190", "00720002", "00720004", "00720006", "0072000C", "00720014"}
    (more,) = client.get("hanging-protocols", params={"includefield": "PartialDataDisplayHandling"}).json()
    assert more["00720208"]["Value"] == ["MAINTAIN_LAYOUT"]
    (everything,) = client.get("hanging-protocols", params={"includefield": "all"}).json()
    assert {"00720208", "00720002"} <= set(everything)
    assert not {"0020000D", "0020000E"} & set(everything)


def test_pages_lead_to_each_other(archive: Archive, store: Store) -> None:
    for number in range(5):
        store(hanging(f"1.2.{number}", "A"))
    client = web.client(archive, WebSettings(search_most=2))
    seen, url = [], "hanging-protocols"
    while url:
        answer = client.get(url)
        seen += [one["00080018"]["Value"][0] for one in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
        assert ("warning" in answer.headers) == bool(url)
    assert seen == [f"1.2.{number}" for number in range(5)]


def test_an_unchanged_search_is_not_answered_again(client: TestClient, store: Store) -> None:
    store(hanging("1.2.1", "A"))
    etag = client.get("hanging-protocols").headers["etag"]
    assert client.get("hanging-protocols", headers={"If-None-Match": etag}).status_code == 304
    store(hanging("1.2.2", "B"))
    assert client.get("hanging-protocols", headers={"If-None-Match": etag}).status_code == 200


RETRIEVED = [
    # PS3.18 table 12.1.3-1.
    ("", 200, JSON),
    ("*/*", 200, JSON),
    ("application/json", 200, "application/json"),
    ("application/dicom+xml", 200, "application/dicom+xml"),
    ('multipart/related; type="application/dicom+xml"', 200, "multipart/related"),
    ("application/dicom", 200, "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
    ('multipart/related; type="application/dicom"', 200, "multipart/related"),
    ("image/png", 406, "application/json"),
]


@pytest.mark.parametrize(("accept", "status", "kind"), RETRIEVED)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_retrieving_it_in_every_media_type(client: TestClient, store: Store, accept: str, status: int, kind: str, syntax: str) -> None:
    store(npi("1.2.1", syntax=syntax, HangingProtocolName="A"))
    answer = client.get("hanging-protocols/1.2.1", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].partition("; type")[0]) == (status, kind)
    if kind == JSON:
        assert answer.json()[0]["00720002"]["Value"] == ["A"]
        again = client.get("hanging-protocols/1.2.1", headers={"Accept": accept, "If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    elif kind.startswith("application/dicom;"):
        assert pydicom.dcmread(io.BytesIO(answer.content)).HangingProtocolName == "A"


@pytest.mark.parametrize("path", ["hanging-protocols/1.2.9", "color-palettes/1.2.1", "hanging-protocols/1.2.1/bulkdata/7FE00010", "hanging-protocols/x%00y", "unknown-protocols", "unknown-protocols/1.2.1"])
def test_what_is_not_there_is_not_found(client: TestClient, store: Store, path: str) -> None:
    store(hanging("1.2.1", "A"))
    answer = client.get(path)
    assert answer.status_code in (404, 400)
    assert set(answer.json()) == {"status", "error", "reference", "todo"}


def test_the_studies_service_does_not_know_it(client: TestClient, store: Store) -> None:
    uids = store(hanging("1.2.1", "A")).uids
    path = f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"
    for one in (f"studies/{uids.study}", path, f"{path}/metadata"):
        assert client.get(one).status_code == 404
    assert client.request("DELETE", f"studies/{uids.study}").status_code == 404


def test_large_values_are_referred_to_below_its_own_path(client: TestClient, store: Store) -> None:
    lut = bytes(range(256)) * 512
    store(npi("1.2.1", PALETTE, ContentLabel="HOT", ICCProfile=lut))
    (dataset,) = client.get("color-palettes/1.2.1").json()
    uri = dataset["00282000"]["BulkDataURI"]
    assert uri == "/dicom-web/color-palettes/1.2.1/bulkdata/00282000"
    assert client.get(f"http://pacs.test{uri}", headers={"Accept": "application/octet-stream"}).content == lut
    part = client.get(f"http://pacs.test{uri}", headers={"Accept": "application/octet-stream", "Range": "bytes=2-3"})
    assert (part.status_code, part.content) == (206, lut[2:4])


def test_it_is_deleted_as_a_study_is(client: TestClient, archive: Archive, store: Store) -> None:
    store(hanging("1.2.1", "A"))
    answer = client.request("DELETE", "hanging-protocols/1.2.1")
    assert (answer.status_code, answer.json()["instances"]) == (200, 1)
    assert client.get("hanging-protocols/1.2.1").status_code == 404
    assert found(client, "hanging-protocols") == []
    Deletions(archive.index).restore(answer.json()["deletion"], "test")
    assert found(client, "hanging-protocols") == ["1.2.1"]
    assert client.get("hanging-protocols/1.2.1").status_code == 200


def test_its_storage_is_committed_to(archive: Archive, store: Store) -> None:
    store(hanging("1.2.1", "A"))
    asked = [commitment.Reference(HANGING, "1.2.1"), commitment.Reference(HANGING, "1.2.2")]
    failures = [one.failure for one in commitment.verify(archive, asked)]
    assert failures == [None, commitment.Failure.NO_SUCH_OBJECT_INSTANCE]


def test_a_rebuilt_index_has_it_where_it_was(archive: Archive, store: Store, tmp_path: Path) -> None:
    stored = store(hanging("1.2.1", "A"))
    index = open_index(f"sqlite:///{tmp_path / 'anew.sqlite'}")
    anew = Archive(index, archive.blobs, archive.ingest, archive.spool_folder, archive.max_object_bytes)
    assert list(upkeep.rebuild(anew)) == []
    assert [one.partition for one in index.locate(Scope(stored.uids.study, partition=PARTITION))] == [PARTITION]
    index.close()


@pytest.mark.parametrize("sop_class", sorted(BY_SOP_CLASS))
def test_every_sop_class_of_the_service_class_has_its_category(client: TestClient, store: Store, sop_class: str) -> None:
    """PS3.4 table GG.3-1."""
    store(npi("1.2.1", sop_class))
    for name, category in CATEGORIES.items():
        assert found(client, name) == (["1.2.1"] if sop_class in category.sop_classes else [])


def test_those_stored_before_move_out_of_the_studies(index: Index) -> None:
    palette = scan(npi("1.2.1", PALETTE))
    old = Entry(palette, "a/b/c.dcm", "0" * 64, 100, Source("import"), entry().received_at)
    assert old.partition == DEFAULT_PARTITION
    index.add([old, entry()])
    with index.database.write() as connection, Operations.context(MigrationContext.configure(connection)):
        v0007_non_patient.upgrade()
    uids = palette.uids
    assert [one.uids for one in index.locate(Scope(uids.study, uids.series, uids.instance, PARTITION))] == [uids]
    assert list(index.locate(Scope(uids.study))) == []
    assert (index.counts().studies, index.counts().instances) == (1, 2)
    assert set(v0007_non_patient.SOP_CLASSES) == set(BY_SOP_CLASS)
