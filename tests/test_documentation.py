"""What can be set, called and asked is documented, and what is documented exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from dicomweb import app as dicomweb
from pacs import admin, health, viewer
from pacs.metrics import Metrics
from storage.archive import Archive
from storage.non_patient import CATEGORIES
from tests.support import reference
from tests.support.source import CHECKOUT, tracked

DOCUMENTS = sorted(path for path in tracked() if path.suffix == ".md")
# Kept apart, so that this file does not contain what it looks for.
REGISTRIES = re.compile("|".join(("registry" + r"\.npmjs", "pypi" + r"\.org", "pythonhosted" + r"\.org", "deb" + r"\.debian\.org")))
HOMES = re.compile("|".join(("/" + r"home/\w+", "/" + r"Users/\w+", "/" + r"root/", "/" + r"work/")))


@pytest.mark.parametrize("name", ["settings", "commands"])
def test_the_reference_is_as_the_program_is(name: str) -> None:
    text = reference.REFERENCE.read_text(encoding="utf-8")
    assert reference.parts()[name] in text, f"{name} changed: run `.venv/bin/python -m tests.support.reference`"


@pytest.mark.parametrize("words", [" ".join(words) for words, _ in reference.commands()])
def test_every_command_says_what_it_does(words: str) -> None:
    (command,) = (command for these, command in reference.commands() if " ".join(these) == words)
    assert command.help, f"`{words}` has no help"
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", "")] == []


def test_every_address_is_documented(archive: Archive) -> None:
    text = reference.REFERENCE.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([^`]*)`", text, re.MULTILINE))
    pages = viewer.routes(None) + health.routes({}, Metrics()) + admin.routes(archive, calling="LIGHTBOX")
    pages += admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask")
    paths = {route.path for route in [*pages, *dicomweb.routes(archive)] if isinstance(route, Route)}
    # The last route of DICOMweb and the viewer's files take any path: no address of their own.
    missing = {path for path in paths if "{rest:path}" not in path and path != "/dicom-web"}
    missing -= {path for path in missing if _forms(path) & documented}
    assert missing == set()


def _forms(path: str) -> set[str]:
    """How the reference may name a path: whole, from the instance on, or as what comes after any resource."""
    path = path.replace(":path}", "}")
    path = re.sub(rf"^/dicom-web/({'|'.join(CATEGORIES)})(?=/|$)", "/dicom-web/{npi-name}", path)
    last = path.rpartition("/")[2]
    return {path, re.sub(r"^.*(?=/instances/\{instance\}/)", "…", path), f"…/{last}"} - {"…/{frames}"}


def test_readme_names_only_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, f"{path.name} names targets that the Makefile has not: {named - targets}"


def test_readme_names_only_commands_that_exist() -> None:
    known = {" ".join(words) for words, _ in reference.commands()}
    known |= {one.rpartition(" ")[0] for one in known} - {"pacs"}
    for path in DOCUMENTS:
        for line in re.findall(r"(?:^ {4}|`)(pacs [a-z][a-z -]*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert any(line.strip() == one or line.startswith(f"{one} ") for one in known), f"{path.name}: {line}"


@pytest.mark.parametrize("path", tracked(), ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_no_file_names_this_machine_or_a_registry(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    found = [match.group() for pattern in (REGISTRIES, HOMES) for match in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"
