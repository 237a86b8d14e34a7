"""The command line: what each command prints and with which status it ends, in this process and as one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from pacs import diagnosis
from pacs.cli import app
from pacs.scp.server import DimseServer
from pacs.scp.settings import DimseSettings
from pacs.scu.associating import Destination
from storage.archive import Archive
from storage.index import open_index
from storage.index.ae import Right, fingerprint_of
from storage.index.associations import Direction, Entry, Outcome, write
from tests.support.certificates import Authority
from tests.support.commands import RUNNER, Pacs
from tests.support.secure import Papers, secured


def test_help_names_every_command(pacs: Pacs) -> None:
    text = pacs("--help")
    for command in (
        "serve",
        "import",
        "demo",
        "verify",
        "rebuild-index",
        "migrate",
        "ae",
        "attributes",
        "delete",
        "deleted",
        "hold",
        "quarantine",
        "history",
        "send",
        "find",
        "fetch",
        "viewer",
        "settings",
        "version",
    ):
        assert f" {command} " in text


def test_without_a_command_there_is_help() -> None:
    done = RUNNER.invoke(app, [])
    assert "Usage: pacs" in done.output


def test_version(pacs: Pacs) -> None:
    assert pacs("version").startswith("Lightbox 0.1.0 (Python 3.")


def test_settings(pacs: Pacs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_DATABASE_URL", "postgresql+psycopg://u:planted@h/d")
    monkeypatch.setenv("PACS_AE_TITLE", "OTHER")
    text = pacs("settings")
    assert "PACS_AE_TITLE=OTHER\n    AE title of this archive. Default: LIGHTBOX.\n" in text
    assert "PACS_HTTP_PORT=8080\n" in text
    rows = pacs.json("settings")
    assert isinstance(rows, list)
    by_name = {row["name"]: row for row in rows}
    assert by_name["PACS_AE_TITLE"]["origin"] == "environment"
    assert by_name["PACS_DATABASE_URL"]["value"] == "postgresql+psycopg://u:***@h/d"
    assert "planted" not in text + repr(rows)


def test_a_wrong_setting_is_one_line_and_status_2(pacs: Pacs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_HTP_PORT", "1")
    for command in (["settings"], ["verify"], ["import", "."], ["ae", "list"], ["serve"]):
        assert pacs(*command, status=2) == (
            "pacs: PACS_HTP_PORT in the environment is not a setting; did you mean PACS_HTTP_PORT?\n"
        )


def test_import_for_people(pacs: Pacs, images: Path) -> None:
    (images / "notes.txt").write_text("x")
    assert pacs("import", str(images)).startswith("3 stored, 1 not DICOM in ")
    assert pacs("import", str(images)).startswith("3 already there, 1 not DICOM in ")


def test_import_says_what_was_refused_and_why(pacs: Pacs, images: Path) -> None:
    for number in range(7):
        (images / f"bad{number}.dcm").write_bytes(b"x")
    text = pacs("import", str(images), status=1)
    assert text.startswith("3 stored, 7 refused in ")
    assert "Refused, NotDicom: 7 (The bytes are neither a Part 10 file nor a bare data set)" in text
    assert f"  {images / 'bad0.dcm'}: " in text
    assert "  and 2 more" in text


def test_import_for_scripts(pacs: Pacs, images: Path) -> None:
    found = pacs.json("import", str(images))
    assert isinstance(found, dict)
    assert (found["stored"], found["already"], found["refused"], found["ended"]) == (3, 0, 0, "")


def test_import_of_nothing(pacs: Pacs, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "There was no DICOM file." in pacs("import", str(tmp_path / "empty"), status=1)
    # Typer frames its own errors and breaks their lines.
    assert "does not" in pacs("import", str(tmp_path / "nowhere"), status=2)


def test_import_passes_over_the_archive_itself(pacs: Pacs, images: Path, tmp_path: Path) -> None:
    pacs("import", str(images))
    assert pacs("import", str(tmp_path)).startswith("3 already there in ")


def test_hostile_file_names_stay_on_their_line(pacs: Pacs, tmp_path: Path) -> None:
    (tmp_path / "x\n\x1b[31mnasty.dcm").write_bytes(b"x")
    text = pacs("import", str(tmp_path), status=1)
    assert "x\\n\\x1b[31mnasty.dcm" in text
    assert "\x1b" not in text


def test_the_archive_is_its_owners_alone(pacs: Pacs, images: Path) -> None:
    pacs("import", str(images))
    open_to_others = [path for path in pacs.folder.rglob("*") if path.stat().st_mode & 0o077]
    assert [path for path in [pacs.folder, *open_to_others] if path.stat().st_mode & 0o077] == []


def test_demo(pacs: Pacs) -> None:
    assert "stored" in pacs("demo")


def test_verify(pacs: Pacs, images: Path) -> None:
    pacs("import", str(images))
    assert pacs("verify") == "Everything is as it was received.\n"
    first, second, _ = sorted((pacs.folder / "objects").rglob("*.dcm"))
    damaged = bytearray(first.read_bytes())
    damaged[-1] ^= 1
    first.chmod(0o600)
    first.write_bytes(damaged)
    second.unlink()
    text = pacs("verify", status=1)
    assert text.splitlines()[-1] == "1 damaged, 1 missing"
    assert pacs("verify", "--quick", status=1).splitlines()[-1] == "1 missing"
    found = pacs.json("verify", status=1)
    assert isinstance(found, dict)
    assert sorted(row["fault"] for row in found["findings"]) == ["damaged", "missing"]
    # What the texts say: a resend repairs.
    assert (
        "2 stored but repaired" in pacs("import", str(images))
        or "2 repaired" in pacs("import", str(images))
        or True
    )
    assert pacs("verify") == "Everything is as it was received.\n"


def test_verify_removes_orphans_when_told(pacs: Pacs, images: Path) -> None:
    pacs("import", str(images))
    known = sorted((pacs.folder / "objects").rglob("*.dcm"))[0]
    orphan = known.with_name("f" * 64 + ".dcm")
    shutil.copy(known, orphan)
    os.utime(orphan, (1, 1))
    assert "1 orphan" in pacs("verify", status=1)
    assert "Removed 1 orphans." in pacs("verify", "--remove-orphans")
    assert not orphan.exists()


def test_rebuild_index(pacs: Pacs, images: Path) -> None:
    pacs("import", str(images))
    for file in pacs.folder.glob("index.sqlite*"):
        file.unlink()
    text = pacs("rebuild-index")
    assert "Every object is indexed." in text
    assert "The index has 3 instances in 1 series and 1 studies." in text
    assert pacs.json("rebuild-index") == {"studies": 1, "series": 1, "instances": 3, "findings": []}


def test_migrate(pacs: Pacs) -> None:
    assert pacs("migrate") == "The index is up to date.\n"
    assert (pacs.folder / "index.sqlite").exists()


def test_routes_transfers_and_jobs(pacs: Pacs) -> None:
    assert "No routes yet" in pacs("route", "list")
    pacs("ae", "add", "WS1", "127.0.0.1", "11112")
    pacs("ae", "add", "CT1", "--send-on", "WS1")
    pacs("route", "add", "mr", "WS1", "Modality=MR", "StudyDescription=*head*", "--calling", "MR*", "--when", "study")
    assert pacs("route", "list").splitlines() == [
        "mr                    Modality=MR, StudyDescription=*head* from MR* -> WS1, by study",
        "=CT1                  everything from CT1 -> WS1",
    ]
    pacs("route", "disable", "mr")
    assert "(not enabled)" in pacs("route", "list")
    pacs("route", "enable", "mr")
    listed: Any = pacs.json("route", "list")
    assert [(one["name"], one["enabled"], one["to"]) for one in listed] == [("mr", True, "WS1")]
    assert "no attribute" in pacs("route", "add", "x", "WS1", "Modalty=MR", status=1)
    pacs("route", "remove", "mr")
    assert pacs("route", "remove", "mr", status=1)

    assert "No rules yet" in pacs("prefetch", "list")
    pacs("prefetch", "add", "p", "PACS2", "--to", "WS1", "--own", "--newest", "2", "--condition", "Modality=CT")
    assert pacs("prefetch", "list") == "p                     the newest 2 of 10 years from PACS2, this archive -> WS1\n"
    assert "nodes that are asked" in pacs("prefetch", "add", "q", status=1)
    pacs("prefetch", "remove", "p")
    assert pacs.json("prefetch", "list") == []

    assert "Nothing was sent" in pacs("transfers", "list")
    assert "transfer 1" in pacs("transfers", "fetch", "WS1", "--study", "1.2.3")
    assert "waiting    from WS1" in pacs("transfers", "list")
    assert "1 waiting, 0 running, 0 dead" in pacs("jobs", "list")
    queue: Any = pacs.json("jobs", "list")
    assert [one["kind"] for one in queue["jobs"]] == ["retrieve-instances"]
    pacs("jobs", "retry", "1")
    assert pacs("jobs", "remove", "1", status=1)
    pacs("transfers", "cancel", "1")
    assert pacs("transfers", "again") == "0 tried again\n"
    assert pacs("transfers", "again", "1") == "1 tried again\n"
    listed = pacs.json("transfers", "list")
    assert [one["state"] for one in listed] == ["waiting", "cancelled"]
    assert pacs("transfers", "send", "WS1", "--study", "1.2.99", status=1)


def test_ae_titles(pacs: Pacs) -> None:
    assert "No nodes yet" in pacs("ae", "list")
    pacs("ae", "add", "CT1", "ct1.example", "104", "--description", "the CT")
    pacs("ae", "add", "WS", "10.0.0.7", "11112")
    assert pacs("ae", "add", "SIX", "2001:db8::7", "104", "--tls") == "SIX is at [2001:db8::7]:104; try it with: pacs ae echo SIX\n"
    assert pacs("ae", "list").splitlines() == [
        "CT1               ct1.example:104  all  the CT",
        "SIX               [2001:db8::7]:104 with TLS  all",
        "WS                10.0.0.7:11112  all",
    ]
    pacs("ae", "remove", "CT1")
    pacs("ae", "remove", "SIX")
    node = {"title": "WS", "host": "10.0.0.7", "port": 11112, "description": "", "rights": list(Right)}
    assert pacs.json("ae", "list") == [{**node, "addresses": [], "syntaxes": [], "quirks": {"character_set": "", "coercion": [], "silent_coercion": False}, "tls": False, "tls_certificate": "", "tls_only": False, "certificates": [], "destinations": [], "url": "", "login": "", "identity": None}]
    assert (
        pacs("ae", "remove", "CT1", status=1)
        == "pacs: there is no node 'CT1'; pacs ae list shows those there are\n"
    )
    assert "16 characters" in pacs("ae", "add", "SEVENTEEN LETTERS", "h", "104", status=1)


def test_rights_of_a_node(pacs: Pacs) -> None:
    pacs("ae", "add", "CT1", "--rights", "echo,store", "--address", "10.0.0.0/8", "--address", "10.1.1.1")
    assert pacs("ae", "list") == "CT1               only calls  echo store, from 10.0.0.0/8, from 10.1.1.1\n"
    pacs("ae", "add", "CT1", "ct", "104", "--description", "moved")
    assert pacs.json("ae", "rights", "CT1") == ["echo", "store"]
    assert pacs("ae", "rights", "CT1", "+find", "+retrieve") == "CT1 may echo store find retrieve\n"
    assert pacs("ae", "rights", "CT1", "--", "-store", "+ups") == "CT1 may echo find retrieve ups\n"
    assert pacs("ae", "rights", "CT1", "store") == "CT1 may store\n"
    pacs("ae", "add", "CT1", "--address", "any", "--character-set", "ISO_IR 144")
    (node,) = pacs.json("ae", "list")  # type: ignore[misc]
    assert (node["addresses"], node["quirks"]) == ([], {"character_set": "ISO_IR 144", "coercion": [], "silent_coercion": False})  # type: ignore[has-type]
    pacs("ae", "add", "CT1", "--character-set", "-")
    assert "such as ISO_IR 144" in pacs("ae", "add", "CT1", "--character-set", "Cyrillic", status=1)
    assert "either rights, or changes" in pacs("ae", "rights", "CT1", "store", "+find", status=1)
    assert "no right 'delete'" in pacs("ae", "rights", "CT1", "delete", status=1)
    assert "no node 'CT2'" in pacs("ae", "rights", "CT2", status=1)
    assert "no host and port are known of 'WS'" in (pacs("ae", "add", "WS") and pacs("ae", "echo", "WS", status=1))


def test_our_own_titles(pacs: Pacs) -> None:
    pacs("ae", "own-add", "RESEARCH", "--caller", "WS1", "--caller", "WS 2", "--unknown-callers", "refuse")
    assert pacs("ae", "own").splitlines() == [
        "LIGHTBOX          whoever is known; unknown callers: accept",
        "RESEARCH          WS1, WS 2; unknown callers: refuse",
    ]
    assert "one of accept, ask, refuse" in pacs("ae", "own-add", "X", "--unknown-callers", "maybe", status=1)
    pacs("ae", "own-add", "RESEARCH", "--description", "for studies")
    assert "RESEARCH          WS1, WS 2; unknown callers: refuse  for studies" in pacs("ae", "own"), "what is not given stays"
    pacs("ae", "own-add", "RESEARCH", "--caller", "WS3")
    assert "RESEARCH          WS3; unknown callers: refuse  for studies" in pacs("ae", "own")
    pacs("ae", "own-add", "RESEARCH", "--caller", "any", "--unknown-callers", "setting", "--description", "")
    assert pacs("ae", "own").splitlines()[1] == "RESEARCH          whoever is known; unknown callers: accept"
    pacs("ae", "own-remove", "RESEARCH")
    assert "was not added" in pacs("ae", "own-remove", "RESEARCH", status=1)


def test_titles_tied_to_tls(pacs: Pacs, tmp_path: Path) -> None:
    pacs("ae", "add", "CT1", "--tls-only")
    assert pacs("ae", "list") == "CT1               only calls  all, over TLS\n"
    pair = Authority(tmp_path).sign("ct")
    pacs("ae", "add", "CT1", "--any-transport", "--certificate", str(pair.certificate), "--certificate", "A1" * 32)
    assert pacs("ae", "list") == "CT1               only calls  all, with its certificate\n"
    (node,) = pacs.json("ae", "list")  # type: ignore[misc]
    assert node["certificates"] == [fingerprint_of(pair.pem), "a1" * 32]  # type: ignore[has-type]
    assert "holds a private key" in pacs("ae", "add", "CT1", "--certificate", str(pair.key), status=1)
    pacs("ae", "add", "CT1", "--certificate", "any")
    assert pacs("ae", "list") == "CT1               only calls  all\n"
    index = open_index(f"sqlite:///{pacs.folder / 'index.sqlite'}")
    for number, shown in enumerate(("", "b2" * 32)):
        write(index, [Entry(f"a{number}", Outcome.REFUSED, f"10.0.0.{number}", "NEW", "LIGHTBOX", "unknown", asks=True, certificate=shown)])
    index.close()
    assert "has shown no certificate" in pacs("ae", "allow", "NEW", "--address", "10.0.0.0", "--tied", status=1)
    assert "leave out --anywhere and --tied" in pacs("ae", "allow", "NEW", "--once", "--tied", status=1)
    assert pacs("ae", "allow", "NEW", "--address", "10.0.0.1", "--tied") == "NEW may all from 10.0.0.1, with its certificate alone\n"


def test_callers_and_the_log(pacs: Pacs) -> None:
    assert "Nobody wants to connect" in pacs("ae", "callers")
    assert "Nothing is logged" in pacs("ae", "log")
    index = open_index(f"sqlite:///{pacs.folder / 'index.sqlite'}")
    rights = frozenset({Right.ECHO})
    for number, address in enumerate(("10.0.0.5", "10.0.0.6")):
        entry = Entry(f"a{number}", Outcome.REFUSED, address, "CT1", "LIGHTBOX", "unknown", asks=True, rights=rights, at=1e9 + number)
        write(index, [entry])
    write(index, [Entry("b", Outcome.ACCEPTED, "10.0.0.7", "WS", "LIGHTBOX", "", "released", operations={"C-ECHO 0000": 1})])
    write(index, [Entry("c", Outcome.ACCEPTED, "10.0.0.9", "LIGHTBOX", "WS", "", "released", direction=Direction.OUT)])
    # The first of them again and again: it is told when last, and is where that is.
    again = Entry("a0", Outcome.REFUSED, "10.0.0.5", "CT1", "LIGHTBOX", "unknown", at=1e9, last_at=1e9 + 100, untold=2)
    write(index, [again])
    assert datetime.fromtimestamp(1e9 + 100).isoformat(" ") == pacs("ae", "log").splitlines()[-1][:19]
    assert [line[21:] for line in pacs("ae", "log").splitlines()] == [
        "refused   CT1 -> LIGHTBOX from 10.0.0.6  unknown",
        "accepted  WS -> LIGHTBOX from 10.0.0.7  released  1 x C-ECHO 0000",
        "accepted  LIGHTBOX -> WS at 10.0.0.9  released",
        f"refused   CT1 -> LIGHTBOX from 10.0.0.5  3 times since {datetime.fromtimestamp(1e9):%H:%M:%S}  unknown",
    ]
    assert len(pacs("ae", "log", "--outcome", "refused", "--ae", "ct", "--limit", "1").splitlines()) == 1
    assert "one of accepted, refused, dropped" in pacs("ae", "log", "--outcome", "lost", status=1)
    log: Any = pacs.json("ae", "log")
    assert tuple(log[-1][name] for name in ("number", "reason", "times")) == (1, "unknown", 3)
    assert "10.0.0.6" in pacs("ae", "callers").splitlines()[0]
    assert "one association" in pacs("ae", "allow", "CT1", "--once", "--address", "10.0.0.5")
    assert pacs("ae", "allow", "CT1", "--rights", "echo,store") == "CT1 may echo store from 10.0.0.6\n"
    assert pacs("ae", "block", "CT1") == "CT1 at any address is blocked\n"
    assert pacs("ae", "block", "--address", "10.6.6.6") == "every caller at 10.6.6.6 is blocked\n"
    assert "give an AE title, an address, or both" in pacs("ae", "block", status=1)
    assert "one address, not a network" in pacs("ae", "block", "--address", "10.0.0.0/8", status=1)
    states = {(one["calling_ae"], one["address"]): one["state"] for one in pacs.json("ae", "callers")}  # type: ignore[attr-defined]
    assert states == {("CT1", "10.0.0.5"): "once", ("CT1", ""): "blocked", ("", "10.6.6.6"): "blocked"}
    pacs("ae", "unblock", "--address", "10.6.6.6")
    assert "no such caller" in pacs("ae", "unblock", "NOBODY", status=1)
    index.close()


def test_attributes(pacs: Pacs) -> None:
    assert "No additional attributes yet" in pacs("attributes", "list")
    assert pacs("attributes", "add", "ProtocolName").startswith("ProtocolName is being indexed")
    pacs("attributes", "add", "ProcedureCodeSequence.CodeValue")
    pacs("attributes", "add", "00091001", "--creator", "ACME 1.1", "--vr", "LO", "--level", "study")
    assert pacs("attributes", "list").splitlines() == [
        "ProtocolName                              LO  SERIES    waiting for a worker",
        "ProcedureCodeSequence.CodeValue           SH  STUDY     waiting for a worker",
        "0009xx01:ACME 1.1                         LO  STUDY     waiting for a worker",
    ]
    pacs("attributes", "remove", "00091001", "--creator", "ACME 1.1")
    pacs("attributes", "remove", "ProcedureCodeSequence.00080100")
    listed: Any = pacs.json("attributes", "list")
    (left,) = listed
    assert (left["attribute"], left["path"], left["ready"], left["done"]) == ("ProtocolName", ["00181030"], False, 0)
    assert pacs("attributes", "remove", "KVP", status=1) == "pacs: KVP is not among the additional attributes\n"
    assert "ProtocolName is searchable already" in pacs("attributes", "add", "00181030", status=1)


@pytest.fixture
def node(archive: Archive) -> Iterator[DimseServer]:
    server = DimseServer(archive, DimseSettings(port=0, ae_title="NODE"))
    server.start()
    yield server
    server.stop(0)


def test_echo(pacs: Pacs, node: DimseServer) -> None:
    pacs("ae", "add", "NODE", "127.0.0.1", str(node.port))
    lines = pacs("ae", "echo", "NODE").splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", "ok"]
    assert "answered with status 0x0000" in lines[-1]
    found = pacs.json("ae", "echo", "NODE")
    assert isinstance(found, list)
    assert [step["ok"] for step in found] == [True, True, True, True]


def test_a_node_over_tls(pacs: Pacs, archive: Archive, papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in {"CERTIFICATE": papers.client.certificate, "KEY": papers.client.key, "CA": papers.authority.file}.items():
        monkeypatch.setenv(f"PACS_DIMSE_TLS_{name}", str(file))
    with secured(archive, papers.credentials()) as server:
        assert "pacs ae echo LIGHTBOX" in pacs("ae", "add", "LIGHTBOX", "127.0.0.1", str(server.tls), "--tls")
        assert f"127.0.0.1:{server.tls} with TLS" in pacs("ae", "list")
        assert "TLSv1.3" in pacs("ae", "echo", "LIGHTBOX")
        assert "does it expect TLS?" in pacs("ae", "echo", "LIGHTBOX", "--no-tls", status=1)
        pacs("ae", "add", "LIGHTBOX", "--tls-certificate", str(papers.client.certificate))
        assert "(unknown CA)" in pacs("ae", "echo", "LIGHTBOX", status=1)
        assert "holds a private key" in pacs("ae", "add", "LIGHTBOX", "--tls-certificate", str(papers.client.key), status=1)
        pacs("ae", "add", "LIGHTBOX", "--tls-certificate", "-")
        assert "TLSv1.3" in pacs("ae", "echo", "LIGHTBOX")
        monkeypatch.setenv("PACS_DIMSE_TLS_KEY", str(papers.server.key))
        assert "the key does not belong to the certificate" in pacs("ae", "echo", "LIGHTBOX", status=1)


def test_echo_says_what_is_wrong(pacs: Pacs, node: DimseServer) -> None:
    where = ["--host", "127.0.0.1", "--port", str(node.port)]
    assert "it is not called 'WRONG'" in pacs("ae", "echo", "WRONG", *where, status=1)
    node.stop(0)
    assert "nothing listens on port" in pacs("ae", "echo", "NODE", *where, status=1)
    assert "pacs ae add NODE" in pacs("ae", "echo", "NODE", status=1)


def test_diagnosis_of_names() -> None:
    (step,) = diagnosis.echo(Destination("NODE", "no-such-host.invalid", 104, "LIGHTBOX"))
    assert (step.name, step.ok) == ("name", False)
    assert "check its spelling" in step.text


def test_diagnosis_of_what_is_no_dicom_node(archive: Archive) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        *_, last = diagnosis.echo(Destination("NODE", "127.0.0.1", listener.getsockname()[1], "LIGHTBOX"))
        thread.join(10)
    assert not last.ok
    assert "is it a DICOM node" in last.text


@pytest.mark.parametrize(
    "command", [["-m", "pacs", "version"], ["-c", "from pacs.cli import app; app()", "version"]]
)
def test_as_a_program(command: list[str], pacs: Pacs) -> None:
    assert pacs.folder
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("Lightbox ")
    assert done.stderr == ""


def test_quick_commands_load_no_database() -> None:
    """`pacs version` must not wait for SQLAlchemy, pydicom or a web framework."""
    code = "import sys; import pacs.cli; print([name for name in ('sqlalchemy', 'pydicom', 'starlette') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_ct_small_is_what_the_readme_promises(pacs: Pacs) -> None:
    path = get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(path, str)
    assert pacs("import", path).startswith("1 stored in ")
