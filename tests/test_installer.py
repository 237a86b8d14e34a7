"""What a modality installer's device asks of an association, end to end by pynetdicom: roles, extended negotiation, windows,
PDU sizes, as many contexts as there are, private SOP classes, IPv6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
)

from pacs.scp.server import listening_socket
from storage.archive import Archive
from storage.index.associations import Entry, Wanted, search
from storage.types import Scope
from tests.support.archive import Store
from tests.support.dimse_peer import CT, EXPLICIT, IMPLICIT, PATIENT_ROOT, STUDY_ROOT, VERIFICATION
from tests.support.dimse_server import Serving, serving, wait_until
from tests.support.made import instance

GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_STUDY = "1.2.840.10008.5.1.4.1.2.3.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
PRIVATE = "1.3.12.2.1107.5.9.1"
STORAGE_SERVICE = "1.2.840.10008.4.2"


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


def associate(
    port: int, contexts: list[tuple[str, list[str]]], *, negotiated: list[Any] | None = None, max_pdu: int = 16382, **more: Any
) -> Association:
    """An association of pynetdicom's that must be established."""
    entity = AE(ae_title="INSTALLER")
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, syntaxes)
    host = more.pop("host", "127.0.0.1")
    found = entity.associate(host, port, ae_title="LIGHTBOX", ext_neg=negotiated, max_pdu=max_pdu, **more)
    assert found.is_established
    return found


def read(data: bytes) -> Dataset:
    return dcmread(DicomBytesIO(data))


def keys(level: str, **values: str) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def keeping(received: list[Dataset]) -> tuple[Any, Any]:
    """A handler that takes every C-STORE."""

    def take(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0

    return evt.EVT_C_STORE, take


def extended(sop_class: str, information: bytes) -> SOPClassExtendedNegotiation:
    found = SOPClassExtendedNegotiation()
    found.sop_class_uid, found.service_class_application_information = sop_class, information
    return found


def found_by(association: Association, identifier: Dataset, model: str = STUDY_ROOT) -> tuple[int, list[Dataset]]:
    """The final status, and the answers."""
    answers = list(association.send_c_find(identifier, model))
    return answers[-1][0].Status, [one for _, one in answers if one is not None]


def logged(archive: Archive) -> Entry:
    """The one association in the log, once it is over."""

    def over() -> bool:
        return [one.how for one in search(archive.index, Wanted())] == ["released"]

    wait_until(over)
    (found,) = search(archive.index, Wanted())
    return found


# Extended negotiation


@pytest.mark.parametrize(
    ("model", "asked", "agreed"),
    [
        (STUDY_ROOT, b"\1", b"\1"),
        (STUDY_ROOT, b"\1\1\1", b"\1\1\1"),
        (STUDY_ROOT, b"\1\0\0\0\0", b"\1\0\0\0\0"),
        (PATIENT_ROOT, b"\0\1", b"\0\1"),
        (PATIENT_STUDY, b"\1\1\1", b"\1\1\1"),
        # A worklist's information has no relational queries: its first two bytes are reserved (PS3.4 K.5).
        (WORKLIST, b"\1\1\1", b"\1\1\1"),
    ],
)
def test_what_is_agreed(server: Serving, model: str, asked: bytes, agreed: bytes) -> None:
    one = associate(server.port, [(model, [EXPLICIT])], negotiated=[extended(model, asked)])
    assert one.acceptor.sop_class_extended == {model: agreed}
    one.release()


TIMES = {"StudyDate": "20240101-20240103", "StudyTime": "100000-120000"}


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        # Each by itself: any of the three days, between ten and twelve.
        (None, ["1.2.1", "1.2.2"]),
        # One range, from ten on the first to twelve on the third (PS3.4 C.2.2.2.5).
        (b"\0\1", ["1.2.1", "1.2.2", "1.2.3"]),
    ],
    ids=["apart", "combined"],
)
def test_date_and_time_are_combined_where_it_was_agreed(
    server: Serving, store: Store, information: bytes | None, expected: list[str]
) -> None:
    for study, day, hour in (("1.2.1", "20240101", "101500"), ("1.2.2", "20240103", "115900"), ("1.2.3", "20240102", "233000"),
                             ("1.2.4", "20240103", "121500"), ("1.2.5", "20240101", "095900")):  # fmt: skip
        store(instance(study=study, series=f"{study}.1", StudyDate=day, StudyTime=hour))
    negotiated = [extended(STUDY_ROOT, information)] if information else []
    one = associate(server.port, [(STUDY_ROOT, [EXPLICIT])], negotiated=negotiated)
    status, answers = found_by(one, keys("STUDY", StudyInstanceUID="", **TIMES))
    one.release()
    assert (status, sorted(answer.StudyInstanceUID for answer in answers)) == (0, expected)


@pytest.mark.parametrize("agreed", [True, False])
def test_relational_queries(server: Serving, store: Store, agreed: bool) -> None:
    """PS3.4 C.4.1.2.2: every series of the archive, only where that was agreed."""
    for study in ("1.2.3", "1.2.4"):
        store(instance(study=study, series=f"{study}.1"))
    one = associate(server.port, [(STUDY_ROOT, [EXPLICIT])], negotiated=[extended(STUDY_ROOT, b"\1")] if agreed else [])
    status, answers = found_by(one, keys("SERIES", SeriesInstanceUID=""))
    one.release()
    assert (status, len(answers)) == ((0, 2) if agreed else (0xA900, 0))


# Roles


@pytest.mark.parametrize(
    ("asked", "agreed", "sent"),
    [
        ((False, True), (False, True), 1),
        ((True, True), (True, True), 1),
        # Who only uses storage is sent nothing, and that is a failure of the sub-operation.
        ((True, False), (True, False), 0),
    ],
)
def test_roles(server: Serving, store: Store, asked: tuple[bool, bool], agreed: tuple[bool, bool], sent: int) -> None:
    store(instance())
    received: list[Dataset] = []
    one = associate(
        server.port,
        [(GET, [EXPLICIT]), (CT, [EXPLICIT])],
        negotiated=[build_role(CT, scu_role=asked[0], scp_role=asked[1])],
        evt_handlers=[keeping(received)],
    )
    role = one.acceptor.role_selection[UID(CT)]
    assert (role.scu_role, role.scp_role) == agreed
    *_, (last, _) = one.send_c_get(keys("STUDY", StudyInstanceUID="1.2.3"), GET)
    one.release()
    assert (last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations) == (sent, 1 - sent)
    assert [image.SOPInstanceUID for image in received] == ["1.2.3.4.1"] * sent


# What one association may carry


@pytest.mark.parametrize(("asked", "agreed"), [((0, 0), (16, 1)), ((5, 5), (5, 1)), ((1, 1), (1, 1)), ((99, 1), (16, 1))])
def test_asynchronous_operations_window(server: Serving, asked: tuple[int, int], agreed: tuple[int, int]) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = asked
    one = associate(server.port, [(VERIFICATION, [IMPLICIT])], negotiated=[window])
    assert one.acceptor.asynchronous_operations == agreed
    one.release()


@pytest.mark.parametrize("max_pdu", [0, 128, 4096, 16384, 131072, 1 << 20])
def test_maximum_pdu(server: Serving, store: Store, archive: Archive, max_pdu: int) -> None:
    """Ours is kept by pynetdicom, and what it can take by us: nothing that we send is longer (PS3.8 D.1.1)."""
    store(instance(study="1.2.9", series="1.2.9.1", side=256))
    lengths: list[int] = []

    def seen(event: evt.Event) -> None:
        if event.data[0] == 4:
            lengths.append(int.from_bytes(event.data[2:6]))

    received: list[Dataset] = []
    one = associate(
        server.port,
        [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (GET, [EXPLICIT])],
        negotiated=[build_role(CT, scu_role=True, scp_role=True)],
        max_pdu=max_pdu,
        evt_handlers=[(evt.EVT_DATA_RECV, seen), keeping(received)],
    )
    assert one.acceptor.maximum_length == 1 << 17
    assert one.send_c_echo().Status == 0
    assert one.send_c_store(read(instance(side=512))).Status == 0
    *_, (last, _) = one.send_c_get(keys("STUDY", StudyInstanceUID="1.2.9"), GET)
    one.release()
    assert (last.Status, [image.PixelData for image in received]) == (0, [read(instance(side=256)).PixelData])
    assert max(lengths) <= (max_pdu or 1 << 30)
    assert len(list(archive.index.locate(Scope("1.2.3")))) == 1


def test_as_many_contexts_as_there_are(server: Serving, archive: Archive) -> None:
    """128 (their identifiers are odd, PS3.8 9.3.2.2): each is answered, and the last stores."""
    private = [f"{PRIVATE}.{number}" for number in range(1, 127)]
    contexts = [(VERIFICATION, [IMPLICIT]), *((uid, [IMPLICIT, EXPLICIT]) for uid in private), (CT, [EXPLICIT])]
    one = associate(server.port, contexts)
    assert [context.context_id for context in one.accepted_contexts] == list(range(1, 256, 2))
    assert one.send_c_store(read(instance())).Status == 0
    one.release()
    (located,) = archive.index.locate(Scope("1.2.3"))
    assert located.transfer_syntax_uid == EXPLICIT
    assert len(logged(archive).contexts) == 128, "the log has them all"


@pytest.mark.parametrize("said", [True, False], ids=["with its service class", "without"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_private_sop_classes(server: Serving, archive: Archive, syntax: str, said: bool) -> None:
    """Stored, found and given back like any other, whether or not the sender says that they are storage (PS3.7 D.3.3.6)."""
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = PRIVATE, STORAGE_SERVICE
    image = read(instance(sop_class=PRIVATE, syntax=syntax))
    received: list[Dataset] = []
    one = associate(
        server.port,
        [(PRIVATE, [syntax]), (STUDY_ROOT, [EXPLICIT]), (GET, [EXPLICIT])],
        negotiated=[build_role(PRIVATE, scu_role=True, scp_role=True), *([common] if said else [])],
        evt_handlers=[keeping(received)],
    )
    assert one.send_c_store(image).Status == 0
    wanted = keys("IMAGE", StudyInstanceUID="1.2.3", SOPClassUID="", SOPInstanceUID="")
    assert [answer.SOPClassUID for answer in found_by(one, wanted)[1]] == [PRIVATE]
    *_, (last, _) = one.send_c_get(keys("STUDY", StudyInstanceUID="1.2.3"), GET)
    one.release()
    assert (last.Status, [image.SOPClassUID for image in received]) == (0, [PRIVATE])
    (located,) = archive.index.locate(Scope("1.2.3"))
    assert located.sop_class_uid == PRIVATE


def test_ipv6(archive: Archive) -> None:
    """Echo, store and find at ::1, and the log has that address."""
    with serving(archive, sock=listening_socket("::1", 0)) as server:
        contexts = [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (STUDY_ROOT, [EXPLICIT])]
        one = associate(server.port, contexts, host="::1")
        assert one.send_c_echo().Status == 0
        assert one.send_c_store(read(instance())).Status == 0
        assert [answer.StudyInstanceUID for answer in found_by(one, keys("STUDY", StudyInstanceUID=""))[1]] == ["1.2.3"]
        one.release()
        assert logged(archive).address == "::1"
