"""Real senders refused for every reason there is, and what the log tells an installer of each; rights, operation by operation."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_role, evt
from pynetdicom.ae import ApplicationEntity

from pacs.scp.journal import Journal
from pacs.scp.server import listening_socket
from pacs.scu.delivery import Delivery
from pacs.scu.nodes import destination_of
from pacs.scu.sources import Stored
from storage.archive import Archive
from storage.index.ae import AeTitle, OwnAe, Quirks, Right, add_ae_title, add_own_ae, ae_titles
from storage.index.associations import Direction, Entry, Outcome, Wanted, search, write
from storage.index.callers import allow, allow_once, block, caller_named
from storage.matching import parse
from storage.types import Level, Query, Scope, Source
from storage.upkeep import rebuild
from tests.support import dimse_peer as peer
from tests.support import storage_scp
from tests.support.archive import Store, close_archive, ingest, open_archive
from tests.support.children import free_port
from tests.support.dimse_peer import CT, EXPLICIT, STUDY_ROOT, VERIFICATION, Peer
from tests.support.dimse_server import Serving, bare, serving, wait_until
from tests.support.indexes import ENGINES
from tests.support.made import instance
from tests.support.serving import serving as processes

DCMTK = Path("/usr/bin")
GET = "1.2.840.10008.5.1.4.1.2.2.3"
COMMIT = "1.2.840.10008.1.20.1"
UPS_PULL = "1.2.840.10008.5.1.4.34.6.3"

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if not shutil.which(program, path=str(DCMTK)):
        pytest.skip(f"DCMTK's {program} is not installed: nothing is tested with it")
    command = [str(DCMTK / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"TCP_NODELAY": "1"})


@pytest.fixture(params=ENGINES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """An empty archive, once on each engine."""
    url = request.getfixturevalue("postgres_database") if request.param == "postgresql" else None
    opened = open_archive(tmp_path / "archive", database_url=url)
    yield opened
    close_archive(opened)


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive, unknown_callers="ask") as running:
        yield running


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    path.write_bytes(instance())
    return path


def logged(archive: Archive, wanted: Wanted = Wanted(), *, ended: bool = True) -> Entry:  # noqa: B008
    """The latest entry, once it is there (and over)."""

    def there() -> bool:
        found = search(archive.index, wanted, limit=1)
        return bool(found) and (found[0].outcome is not Outcome.ACCEPTED or not ended or found[0].seconds is not None)

    wait_until(there, why=lambda: f"nothing was logged; there is {search(archive.index, Wanted())}")
    return search(archive.index, wanted, limit=1)[0]


def sent(server: Serving, image: Path, calling: str = "CT1", called: str = "LIGHTBOX") -> subprocess.CompletedProcess[str]:
    return run("storescu", "-aet", calling, "-aec", called, "127.0.0.1", str(server.port), image)


# Refused


@pytest.mark.dcmtk
def test_an_unknown_sender_asks_is_allowed_and_sends(server: Serving, archive: Archive, image: Path) -> None:
    refused = sent(server, image)
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
    entry = logged(archive)
    assert (entry.outcome, entry.calling_ae, entry.called_ae, entry.address) == (Outcome.REFUSED, "CT1", "LIGHTBOX", "127.0.0.1")
    assert entry.reason.startswith("unknown calling AE title CT1 at 127.0.0.1: allow it under 'wants to connect'")
    assert len(entry.contexts) > 10
    asks = caller_named(archive.index, "CT1")
    assert (asks.called_ae, asks.times) == ("LIGHTBOX", 1)
    assert Right.STORE in asks.rights
    allow(archive.index, asks)
    done = sent(server, image)
    assert done.returncode == 0, done.stderr
    entry = logged(archive, Wanted(outcome=Outcome.ACCEPTED))
    assert (entry.how, entry.reason, entry.operations) == ("released", "", {"C-STORE 0000": 1})
    assert entry.received > image.stat().st_size
    assert 0 < entry.sent < 10_000
    assert entry.seconds is not None


@pytest.mark.dcmtk
def test_once_is_one_association(server: Serving, archive: Archive, image: Path) -> None:
    assert sent(server, image).returncode != 0
    logged(archive)
    allow_once(archive.index, caller_named(archive.index, "CT1"))
    assert [sent(server, image).returncode == 0 for _ in range(3)] == [True, False, False]


@pytest.mark.dcmtk
def test_who_is_blocked_does_not_ask(server: Serving, archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0))
    block(archive.index, "CT1")
    assert run("echoscu", "-aet", "CT1", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port)).returncode != 0
    assert logged(archive).reason == "CT1 at 127.0.0.1 is blocked: pacs ae unblock CT1, if that is no longer wanted"
    assert caller_named(archive.index, "CT1").state == "blocked"


@pytest.mark.dcmtk
def test_a_known_node_from_elsewhere_asks(server: Serving, archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0, addresses=("10.0.0.0/8",)))
    assert run("echoscu", "-aet", "CT1", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port)).returncode != 0
    assert "CT1 may call from 10.0.0.0/8, and calls from 127.0.0.1: allow that address" in logged(archive).reason
    allow(archive.index, caller_named(archive.index, "CT1"))
    assert run("echoscu", "-aet", "CT1", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port)).returncode == 0


@pytest.mark.dcmtk
def test_a_wrong_called_title_names_those_there_are(server: Serving, archive: Archive) -> None:
    add_own_ae(archive.index, OwnAe("RESEARCH"))
    done = run("echoscu", "-aet", "CT1", "-aec", "PACS", "127.0.0.1", str(server.port))
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr
    assert "wrong called AE title PACS: this archive is LIGHTBOX or RESEARCH" in logged(archive).reason


@pytest.mark.dcmtk
def test_each_of_our_titles_has_its_own_policy(server: Serving, archive: Archive, image: Path) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0))
    add_ae_title(archive.index, AeTitle("WS1", "", 0))
    add_own_ae(archive.index, OwnAe("RESEARCH", callers=("WS1",)))
    assert sent(server, image, "WS1", "RESEARCH").returncode == 0
    assert sent(server, image, "CT1", "LIGHTBOX").returncode == 0
    assert sent(server, image, "CT1", "RESEARCH").returncode != 0
    assert "RESEARCH takes calls from WS1 alone" in logged(archive, Wanted(outcome=Outcome.REFUSED)).reason


@pytest.mark.dcmtk
def test_no_common_transfer_syntax(archive: Archive) -> None:
    with serving(archive) as server, Peer(server.port) as client:
        jpeg = "1.2.840.10008.1.2.4.50"
        client.send(peer.associate([(1, VERIFICATION, (EXPLICIT,)), (3, STUDY_ROOT, (jpeg,)), (5, "1.2.840.10008.5.1.1.9", (EXPLICIT,))]))
        assert client.pdu()[0] == 2
        client.release()
        reason = logged(archive).reason
    assert "no common transfer syntax for Study Root Query/Retrieve Information Model - FIND: it proposed JPEG Baseline" in reason
    assert "have it propose" in reason
    assert "this archive does not serve Basic Grayscale Print Management Meta SOP Class: turn that off" in reason


@pytest.mark.dcmtk
def test_too_many_associations(archive: Archive) -> None:
    with serving(archive, max_associations=1) as server, Peer(server.port) as client:
        client.associate()
        done = run("echoscu", "-aet", "MR7", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port))
        assert done.returncode != 0
        entry = logged(archive, Wanted(outcome=Outcome.REFUSED))
    assert (entry.calling_ae, entry.called_ae) == ("MR7", "LIGHTBOX")
    assert "all 1 associations" in entry.reason
    assert "PACS_DIMSE_MAX_ASSOCIATIONS" in entry.reason


@pytest.mark.parametrize(
    ("data", "outcome", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Outcome.DROPPED, "it speaks HTTP, and this is DICOM"),
        (bytes.fromhex("16030100c8010000c40303"), Outcome.DROPPED, "it speaks TLS, and this is DICOM without TLS"),
        (peer.associate([(2, CT, (EXPLICIT,))]), Outcome.DROPPED, "presentation context ID 2 is not odd (at byte"),
        (peer.associate(version=2), Outcome.REFUSED, "another version of the upper layer protocol"),
        (peer.associate(application="1.2.3"), Outcome.REFUSED, "its application context is not DICOM's"),
        (peer.associate(calling=" "), Outcome.REFUSED, "gives no calling AE title"),
        (b"", Outcome.DROPPED, "went away without an association request"),
        (peer.associate()[:100], Outcome.DROPPED, "went away in the middle of its association request"),
    ],
)
def test_what_is_no_request(server: Serving, archive: Archive, data: bytes, outcome: Outcome, says: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(data)
    entry = logged(archive)
    assert entry.outcome is outcome
    assert says in entry.reason


def test_one_that_is_too_slow(archive: Archive) -> None:
    with serving(archive, request_seconds=0.2) as server, socket.create_connection(("127.0.0.1", server.port)):
        entry = logged(archive)
    assert "sent no whole association request in time" in entry.reason


# How an association ended


def test_it_is_in_the_log_while_it_goes_on(server: Serving, archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("PEER", "", 0))
    with Peer(server.port) as client:
        client.associate()
        entry = logged(archive, ended=False)
        assert (entry.outcome, entry.seconds, entry.how) == (Outcome.ACCEPTED, None, "")


@pytest.mark.parametrize(
    ("ending", "how", "says"),
    [
        (lambda client: client.release(), "released", ""),
        (lambda client: client.send(peer.ABORT), "aborted by peer", "the sender gave up: A-ABORT with source 0"),
        (lambda client: client.socket.close(), "lost", "the sender stopped, or the network between broke"),
        (lambda client: client.send(peer.pdu(9, b"")), "violation", "protocol violation: PDU type 09H is not one of PS3.8 (at byte"),
    ],
    ids=["released", "aborted", "lost", "violation"],
)
def test_how_it_ended(archive: Archive, ending: Callable[[Peer], None], how: str, says: str) -> None:
    with serving(archive) as server, Peer(server.port) as client:
        client.associate()
        data = bare(instance())
        client.store(data, "1.2.3.4.1")
        client.store(data, "1.2.3.4.999")
        ending(client)
        entry = logged(archive)
    assert entry.how == how
    assert says in entry.reason
    assert entry.operations == {"C-STORE 0000": 1, "C-STORE A900": 1}


def test_a_server_that_stops_says_so(archive: Archive) -> None:
    with serving(archive) as server, Peer(server.port) as client:
        client.associate()
        server.server.stop(0.1)
        assert logged(archive).reason == "this server was stopped"


# What an installer gets wrong while associations are accepted


def asking(sop_class: str, about: Callable[[Any], Any], *more: str, roles: tuple[Any, ...] = ()) -> Callable[[Serving], None]:
    """Ask by pynetdicom, on an association with that SOP class and some more."""

    def ask(server: Serving) -> None:
        association = proposing(server, sop_class, *more, roles=roles)
        list(about(association))
        association.release()

    return ask


def storing(*data: bytes, instance_uid: str = "1.2.3.4.1") -> Callable[[Serving], None]:
    def send(server: Serving) -> None:
        with Peer(server.port) as client:
            client.associate(calling="CT1")
            for one in data:
                client.store(one, instance_uid)
            client.release()

    return send


def keys(level: str, **values: str) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
FIND_STUDIES = partial(asking, STUDY_ROOT)


def idling(client: bytes) -> Callable[[Serving], None]:
    """Say so much after the association stands, and then nothing."""

    def idle(server: Serving) -> None:
        with Peer(server.port) as one:
            one.associate(calling="CT1")
            one.send(client)
            assert one.pdu()[0] == 7

    return idle


@pytest.mark.parametrize("archive", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (storing(bare(instance(2))), "C-STORE A900: the command names SOP Class 1.2.840.10008.5.1.4.1.1.2 and Instance 1.2.3.4.1, the data set"),
        (storing(b"rubbish" * 100), "C-STORE C000: the bytes are not DICOM"),
        (storing(bare(instance()), bare(instance(PatientID="P2")), bare(instance(PatientID="P3"))), "is already stored with other bytes; the newcomer is kept in quarantine, where an administrator can accept it (2 times)"),
        (FIND_STUDIES(lambda one: one.send_c_find(keys("PATIENT"), STUDY_ROOT)), "C-FIND A900: QueryRetrieveLevel is wrong; use STUDY, SERIES, IMAGE"),
        (FIND_STUDIES(lambda one: one.send_c_find(keys("SERIES"), STUDY_ROOT)), "C-FIND A900: SERIES query without StudyInstanceUID; name a study"),
        (FIND_STUDIES(lambda one: one.send_c_find(keys("STUDY", StudyDate="20240101"), STUDY_ROOT)), ""),
        (
            asking(MOVE, lambda one: one.send_c_move(keys("STUDY", StudyInstanceUID="1.2.3"), "NOWHERE", MOVE)),
            "C-MOVE A801: unknown AE NOWHERE: register it with pacs ae add NOWHERE HOST PORT",
        ),
        (asking(MOVE, lambda one: one.send_c_move(keys("STUDY"), "NOWHERE", MOVE)), "C-MOVE A900: retrieve at STUDY without its unique key; give StudyInstanceUID a value"),
        (asking(GET, lambda one: one.send_c_get(keys("STUDY", StudyInstanceUID="1.2.3"), GET)), "C-GET A702: propose storage SOP classes with the role of SCP (PS3.7 D.3.3.4): without, nothing can be sent"),
        (asking(COMMIT, lambda one: [one.send_n_action(keys("STUDY"), 2, COMMIT, "1.2.840.10008.1.20.1.1")]), "N-ACTION 0123: Action Type ID 1 requests storage commitment"),
        (idling(b""), "nothing was asked for within PACS_DIMSE_IDLE_SECONDS: the sender keeps associations open that it does not use"),
        (idling(peer.p_data(peer.pdv(1, 1, b"\0\0"))), "a message stopped in the middle: the sender hangs, or the network between loses what is sent"),
    ],
)
def test_what_was_answered_is_explained(archive: Archive, mistake: Callable[[Serving], None], says: str) -> None:
    ingest(archive, instance(7))
    with serving(archive, idle_seconds=1.0, message_idle_seconds=1.0) as server:
        mistake(server)
        entry = logged(archive)
    assert says in entry.reason
    assert bool(says) is bool(entry.reason)


# Rights


def proposing(server: Serving, *uids: str, roles: tuple[Any, ...] = ()) -> Any:
    entity: Any = ApplicationEntity
    entity = entity(ae_title="CT1")
    for uid in uids:
        entity.add_requested_context(uid)
    return entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=list(roles))


SERVICES = (
    (VERIFICATION, Right.ECHO),
    (CT, Right.STORE),
    (STUDY_ROOT, Right.FIND),
    ("1.2.840.10008.5.1.4.1.2.2.2", Right.RETRIEVE),
    (GET, Right.RETRIEVE),
    (COMMIT, Right.COMMIT),
    (UPS_PULL, Right.UPS),
)


@pytest.mark.parametrize("right", [Right.ECHO, Right.STORE, Right.FIND, Right.RETRIEVE, Right.COMMIT, Right.UPS])
def test_contexts_are_accepted_by_right(server: Serving, archive: Archive, right: Right) -> None:
    """PS3.8 9.3.3.2: user-rejection for what the caller may not do."""
    add_ae_title(archive.index, AeTitle("CT1", "", 0, rights=frozenset({right})))
    association = proposing(server, *(uid for uid, _ in SERVICES))
    assert {one.abstract_syntax for one in association.accepted_contexts} == {uid for uid, needs in SERVICES if needs is right}
    assert {one.result for one in association.rejected_contexts} == {1}
    association.release()
    reason = logged(archive).reason
    assert reason.startswith("CT1 has no right to ")
    assert "give it in /admin/, or with pacs ae rights CT1 +" in reason
    assert all(f"+{needs}" in reason for _, needs in SERVICES if needs is not right)


def test_unknown_callers_may_do_what_is_set_and_learn_what_they_may_not(archive: Archive, image: Path) -> None:
    with serving(archive, unknown_callers="accept", unknown_caller_rights=("echo", "store")) as server:
        assert sent(server, image, "NEW").returncode == 0
        refused = run("findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-aet", "NEW", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port))
        assert refused.returncode != 0
        wait_until(lambda: any("NEW has no right to find" in one.reason for one in search(archive.index, Wanted())))


def test_without_the_right_to_store_retrieving_goes_on_and_storing_is_not_authorized(
    server: Serving, archive: Archive, image: Path
) -> None:
    """PS3.7 C.5: 0124H where the context is there for the other role."""
    with archive.spool() as spool:
        spool.write(image.read_bytes())
        archive.ingest(spool, Source("import"))
    add_ae_title(archive.index, AeTitle("CT1", "", 0, rights=frozenset({Right.RETRIEVE})))
    received: list[str] = []

    def store(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return 0

    entity: Any = ApplicationEntity
    entity = entity(ae_title="CT1")
    entity.add_requested_context(GET)
    entity.add_requested_context(CT)
    role = build_role(CT, scp_role=True, scu_role=True)
    association = entity.associate(
        "127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2.3"
    statuses = [status.Status for status, _ in association.send_c_get(identifier, GET)]
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == CT)
    assert (context.as_scu, context.as_scp) == (False, True)
    association.release()
    with Peer(server.port) as client:
        roles = peer.item(0x54, len(CT).to_bytes(2, "big") + CT.encode() + bytes((1, 1)))
        contexts = [(1, GET, (EXPLICIT,)), (3, CT, (EXPLICIT,))]
        client.send(peer.associate(contexts, calling="CT1", user_item=peer.user(16384, roles)))
        assert client.pdu()[0] == 2
        client.send(peer.message(3, peer.store_rq(CT, "1.2.3.4.1"), bare(image.read_bytes())))
        assert peer.status_of(client.answer()[0]) == 0x0124
    assert statuses[-1] == 0
    assert received
    entry = logged(archive, Wanted(ae="CT1"))
    assert entry.operations == {"C-STORE 0124": 1}


@pytest.mark.dcmtk
def test_dcmtk_without_rights(server: Serving, archive: Archive, store: Store, image: Path) -> None:
    store(image)
    add_ae_title(archive.index, AeTitle("CT1", "", 0, rights=frozenset({Right.ECHO})))
    port, common = str(server.port), ("-aet", "CT1", "-aec", "LIGHTBOX", "127.0.0.1")
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3")

    def answers() -> list[bool]:
        found = run("findscu", "-v", *common, port, *keys)
        return [
            run("echoscu", *common, port).returncode == 0,
            run("storescu", *common, port, image).returncode == 0,
            "Find Response: 1 (Pending)" in found.stdout + found.stderr,
            run("getscu", "-S", *common, port, "-od", str(image.parent), *keys[1:]).returncode == 0,
        ]

    assert answers() == [True, False, False, False]
    node = AeTitle("CT1", "", 0, rights=frozenset({Right.ECHO, Right.STORE, Right.FIND, Right.RETRIEVE}))
    add_ae_title(archive.index, node)
    time.sleep(1.1)
    assert answers() == [True, True, True, True]


@pytest.mark.dcmtk
def test_a_move_goes_only_to_nodes_that_listen(server: Serving, archive: Archive, store: Store, image: Path) -> None:
    store(image)
    add_ae_title(archive.index, AeTitle("CT1", "", 0))
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3")
    for destination in ("NOBODY", "CT1"):
        done = run("movescu", "-v", "-aet", "CT1", "-aec", "LIGHTBOX", "-aem", destination, "127.0.0.1", str(server.port), *keys)
        assert "MoveDestinationUnknown" in done.stdout + done.stderr
    entry = logged(archive, Wanted(ae="CT1"))
    assert entry.operations == {"C-MOVE A801": 1}


def test_a_preferred_transfer_syntax_is_sent(archive: Archive) -> None:
    node = AeTitle("WS1", "h", 104, syntaxes=("1.2.840.10008.1.2.4.70",))
    add_ae_title(archive.index, node)
    destination = destination_of(archive.index, "WS1", calling_ae="LIGHTBOX")
    assert destination is not None
    assert destination.syntaxes == node.syntaxes
    add_ae_title(archive.index, replace(node, host="", port=0))
    assert destination_of(archive.index, "WS1", calling_ae="LIGHTBOX") is None


# Quirks


def cyrillic(number: int, *named: str) -> bytes:
    """An instance of a patient with a Cyrillic name in ISO 8859-5, of which its data set says only what is `named`."""
    whole = dcmread(BytesIO(instance(number, study=f"1.2.3.{number}", series=f"1.2.3.{number}.4")))
    whole.SpecificCharacterSet = "ISO_IR 144"
    whole.PatientName = "Иванов^Иван"
    written = BytesIO()
    whole.save_as(written)
    declared = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 144"
    assert declared in written.getvalue()
    value = named[0].encode().ljust(10) if named else b""
    return written.getvalue().replace(declared, b"\x08\x00\x05\x00CS\x0a\x00" + value if named else b"")


@pytest.mark.dcmtk
@pytest.mark.parametrize("named", [(), ("",), ("ISO_IR 999",)], ids=["absent", "empty", "unknown"])
def test_the_character_set_of_a_node_that_names_none(archive: Archive, tmp_path: Path, named: tuple[str, ...]) -> None:
    add_ae_title(archive.index, AeTitle("OLD", "", 0, quirks=Quirks("ISO_IR 144")))
    add_ae_title(archive.index, AeTitle("OTHER", "", 0))
    with serving(archive) as server:
        for number, calling in ((1, "OLD"), (2, "OTHER")):
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(cyrillic(number, *named))
            assert sent(server, path, calling).returncode == 0
        names = [name_of(archive, number) for number in (1, 2)]
        assert names[0] == "Иванов^Иван"
        assert names[1] != names[0]
        # What is sent is what was received, and a query of the node is understood likewise.
        assert "Иванов".encode("iso8859-5") in stored_bytes(archive, "1.2.3.1")
        key = b"".join(
            (peer.element(0x00080052, "STUDY"), peer.element(0x00100010, "Иванов*".encode("iso8859-5")), peer.element(0x0020000D, "1.2.3.1"))
        )
        assert [answers_to(server, calling, key) for calling in ("OLD", "OTHER")] == [1, 0]
    # An index that is made anew from the objects alone has it too.
    with closing_archive(tmp_path / "again", archive) as again:
        assert list(rebuild(again)) == []
        assert name_of(again, 1) == "Иванов^Иван"


def answers_to(server: Serving, calling: str, key: bytes) -> int:
    with Peer(server.port) as client:
        client.associate(calling=calling)
        client.send(peer.message(5, peer.find_rq(STUDY_ROOT), key))
        number = 0
        while peer.status_of(client.answer()[0]) & 0xFF00 == 0xFF00:
            number += 1
        client.release()
    return number


def name_of(archive: Archive, number: int) -> str:
    (found,) = archive.index.find(Query(Level.STUDY, ((("0020000D",), parse(("0020000D",), "UI", f"1.2.3.{number}")),), None))
    return str(found["00100010"]["Value"][0]["Alphabetic"])


def stored_bytes(archive: Archive, study: str) -> bytes:
    (one,) = archive.index.locate(Scope(study))
    return archive.blobs.read(one.object_key)


@contextmanager
def closing_archive(folder: Path, other: Archive) -> Iterator[Archive]:
    """An archive with the objects and the nodes of another, and nothing in its index."""
    again = open_archive(folder, blobs=other.blobs)
    for node in ae_titles(other.index):
        add_ae_title(again.index, node)
    yield again
    close_archive(again)


def test_a_match_is_retrieved_by_the_title_that_was_called(server: Serving, archive: Archive, store: Store, image: Path) -> None:
    """PS3.4 C.4.1.1.3.2: Retrieve AE Title, of which a caller of one title need not be allowed the other."""
    store(image)
    add_ae_title(archive.index, AeTitle("PEER", "", 0))
    add_own_ae(archive.index, OwnAe("RESEARCH"))
    keys = peer.element(0x00080052, "STUDY") + peer.element(0x00080054, "") + peer.element(0x0020000D, "")
    for called in ("RESEARCH", "LIGHTBOX"):
        with Peer(server.port) as client:
            client.associate(called=called)
            client.send(peer.message(5, peer.find_rq(STUDY_ROOT), keys))
            assert called.encode() in client.answer()[1]
            assert peer.status_of(client.answer()[0]) == 0
            client.release()


@pytest.mark.dcmtk
def test_ipv4_on_an_ipv6_socket(archive: Archive, image: Path) -> None:
    with serving(archive, sock=listening_socket("::", 0), unknown_callers="ask") as server:
        assert sent(server, image).returncode != 0
        assert logged(archive).address == "127.0.0.1"
        assert allow(archive.index, caller_named(archive.index, "CT1")).addresses == ("127.0.0.1",)
        assert sent(server, image).returncode == 0


@pytest.mark.slow
@pytest.mark.dcmtk
def test_a_change_holds_in_every_process_and_open_streams_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    def echoes(times: int) -> list[bool]:
        arguments = ("-aet", "NEW", "-aec", "LIGHTBOX", "127.0.0.1", str(served.dimse_port))
        return [run("echoscu", *arguments).returncode == 0 for _ in range(times)]

    def follow() -> None:
        with httpx.stream("GET", f"{served.url}/api/associations/events", timeout=60) as stream:
            opened.set()
            for _ in stream.iter_lines():
                pass

    opened = threading.Event()
    with processes(tmp_path / "data", PACS_UNKNOWN_CALLERS="ask", PACS_WORKERS="3") as served:
        assert echoes(6) == [False] * 6
        httpx.put(f"{served.url}/api/aes/NEW", json={}).raise_for_status()
        assert echoes(9) == [True] * 9
        httpx.post(f"{served.url}/api/callers", json={"calling_ae": "NEW"}).raise_for_status()
        time.sleep(1.5)
        assert echoes(9) == [False] * 9
        threading.Thread(target=follow, daemon=True).start()
        assert opened.wait(10)
        begun = time.monotonic()
        served.child.stop(40)
        assert time.monotonic() - begun < 15, "the stream was waited for"


# What we ask for


def asked(archive: Archive, title: str, port: int) -> Entry:
    """A C-STORE to a node, as `pacs send` does it, and what the log says of it."""
    add_ae_title(archive.index, AeTitle(title, "127.0.0.1", port))
    journal = Journal(partial(write, archive.index))
    destination = destination_of(archive.index, title, calling_ae="LIGHTBOX", journal=journal)
    assert destination is not None
    with Delivery(Stored(archive), destination, archive.index.kinds(Scope("1.2.3"))) as delivery:
        for one in archive.index.locate(Scope("1.2.3")):
            delivery.send(one)
    journal.flush()
    return search(archive.index, Wanted(direction=Direction.OUT), limit=1)[0]


def test_what_we_have_sent_is_told(archive: Archive) -> None:
    ingest(archive, instance())
    with storage_scp.node(title="WS1") as node:
        entry = asked(archive, "WS1", node.port)
    assert (entry.outcome, entry.how, entry.reason) == (Outcome.ACCEPTED, "released", "")
    assert (entry.calling_ae, entry.called_ae, entry.address) == ("LIGHTBOX", "WS1", "127.0.0.1")
    assert entry.operations == {"sent C-STORE 0000": 1}
    assert entry.sent > 1000
    assert entry.received > 100
    taken = {one.syntaxes: one.accepted for one in entry.contexts if one.accepted}
    assert taken == {(EXPLICIT,): EXPLICIT}
    assert len(entry.contexts) > 1, "what was proposed and not taken is there too"
    assert search(archive.index, Wanted(direction=Direction.IN)) == []


def test_why_nobody_takes_it_is_told(archive: Archive) -> None:
    ingest(archive, instance())
    entry = asked(archive, "AWAY", free_port())
    assert (entry.outcome, entry.how, entry.times) == (Outcome.DROPPED, "not reached", 3)
    assert entry.reason == f"AWAY at 127.0.0.1 port {ae_titles(archive.index)[0].port} cannot be reached (Connection refused)"
    with storage_scp.node(title="OTHER", require_called_aet=True) as node:
        entry = asked(archive, "MINE", node.port)
    assert entry.outcome is Outcome.REFUSED
    assert "it is not called 'MINE'" in entry.reason
    with storage_scp.node([(VERIFICATION, [EXPLICIT])], title="MR1") as node:
        entry = asked(archive, "MR1", node.port)
    assert entry.outcome is Outcome.ACCEPTED
    assert entry.reason.startswith("MR1 does not take CT Image Storage: turn that on there")


@pytest.mark.parametrize("archive", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (0x0111, "it has that UID already"),
        (0x0122, "it does not serve this SOP class: turn that on there"),
        (0x0124, "give our AE title the right there"),
        (0xA701, "it is out of resources: is its disk full?"),
        (0xA900, "does not fit the SOP class"),
        (0xB007, "done with a warning"),
        (0xC123, "it cannot understand"),
        (0x0110, "it failed"),
    ],
)
def test_what_a_destination_refuses_is_told_in_words(archive: Archive, status: int, says: str) -> None:
    for number in (1, 2):
        ingest(archive, instance(number))
    with storage_scp.node(title="WS1") as node:
        node.behave = lambda _event, _number: status
        entry = asked(archive, "WS1", node.port)
    # What may pass is tried again.
    assert list(entry.operations) == [f"sent C-STORE {status:04X}"]
    assert entry.reason.startswith(f"sent C-STORE {status:04X}: ")
    assert says in entry.reason
    assert entry.reason.endswith(f"; its own log says more ({entry.operations[f'sent C-STORE {status:04X}']} times)")


def test_an_operation_is_called_by_its_name_in_the_standard(server: Serving, archive: Archive) -> None:
    """Which of its hyphens is none."""
    add_ae_title(archive.index, AeTitle("CT1", "", 0))
    with Peer(server.port) as client:
        client.associate([(1, VERIFICATION, (EXPLICIT,))], calling="CT1")
        client.send(peer.message(1, peer.command({0x002: VERIFICATION, 0x100: 0x0100, 0x110: 1, 0x800: 0x0101, 0x1002: 1})))
        assert peer.status_of(client.answer()[0]) != 0
        client.release()
    assert [name[:-5] for name in logged(archive, Wanted(ae="CT1")).operations] == ["N-EVENT-REPORT"]


def test_a_destination_that_hangs_up_is_told_with_what_was_done(archive: Archive) -> None:
    for number in (1, 2):
        ingest(archive, instance(number))
    with storage_scp.node(title="WS1") as node:
        node.behave = lambda event, number: event.assoc.abort() or 0 if number > 1 else 0
        entry = asked(archive, "WS1", node.port)
    first = search(archive.index, Wanted(direction=Direction.OUT))[-1]
    assert first.how in ("aborted by peer", "lost")
    assert first.operations == {"sent C-STORE 0000": 1}
    assert "its own log says why" in first.reason
    assert entry.id != first.id, "it was tried once more"
