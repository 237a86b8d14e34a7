"""The conformance statement says what the program does: it is made of its tables, and is what is committed."""

from __future__ import annotations

import re

import pytest
from starlette.routing import Route
from typer.testing import CliRunner

from dicomweb import app as dicomweb
from dicomweb import conformance as web
from dicomweb.qido import PARAMETERS as SEARCH_PARAMETERS
from dicomweb.rendering.request import PARAMETERS as RENDERING_PARAMETERS
from dicomweb.transactions import DESCRIBED
from pacs import compose, conformance
from pacs.ae_titles import RIGHT_OF
from pacs.cli import app
from pacs.scp.settings import DimseSettings
from pacs.scp.sop_classes import SOP_CLASSES, Kind
from storage import attributes
from storage.archive import Archive
from storage.charsets import TERMS
from storage.conformance import matched, table
from storage.errors import STATUS
from storage.non_patient import CATEGORIES
from storage.transfer_syntaxes import TABLE as SYNTAXES
from storage.transfer_syntaxes import TransferSyntax
from tests.support.source import CHECKOUT

COMMITTED = CHECKOUT / "deploy" / "conformance.md"


FIRST = "|".join(("studies", "series", "instances", "workitems", "subscribers", "commitment-requests", *CATEGORIES))


@pytest.fixture(scope="module")
def statement() -> str:
    return compose.conformance_statement()


def test_what_is_committed_is_what_the_program_says(statement: str) -> None:
    again = "run `.venv/bin/pacs conformance > deploy/conformance.md`"
    assert COMMITTED.read_text(encoding="utf-8") == statement, again


def test_the_command_prints_it(statement: str) -> None:
    done = CliRunner().invoke(app, ["conformance"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, statement)


def test_every_route_is_in_it(archive: Archive, statement: str) -> None:
    paths = [route.path for route in dicomweb.routes(archive) if isinstance(route, Route) and route.path != "/dicom-web"]
    assert len(paths) == len(dicomweb.RESOURCES) + 1, "WADO-URI is beside them"
    below = [path.removeprefix("/dicom-web").replace(":path}", "}") for path in paths]
    assert [path for path in below if f"`{path}`" not in statement] == []


def test_no_route_is_in_it_that_is_not_there() -> None:
    paths = {resource.path.replace(":path}", "}") for resource in dicomweb.RESOURCES}
    resources = web.sections().partition("### Resources")[2].partition("\n### ")[0]
    named = set(re.findall(rf"`(/(?:{FIRST})[^`]*)`", resources))
    assert named == paths - {"/"}
    names = {name for resource in dicomweb.RESOURCES for name in resource.methods.values()}
    assert names == set(web.HANDLERS)
    # The capabilities describe them too: a row for what takes and gives something (dicomweb/transactions.py).
    assert names | {"WADO-URI"} == set(DESCRIBED)


def test_every_attribute_is_in_it_at_its_level(statement: str) -> None:
    for level in attributes.LEVELS:
        chapter = statement.partition(f"### {level}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
        for one in attributes.TABLE.values():
            name = f"{one.keyword} ({one.tag[:4]},{one.tag[4:]})"
            assert (name in chapter) == (one.level is level), name


@pytest.mark.parametrize("one", [one for one in attributes.TABLE.values() if one.key != "O"], ids=lambda one: one.keyword)
def test_unique_and_required_keys_are_matched(one: attributes.Attribute, statement: str) -> None:
    assert f"| {one.vr} | {one.key} | in the database |" in statement
    assert matched(one) == "in the database"


@pytest.mark.parametrize(
    ("keyword", "how"),
    [
        ("ModalitiesInStudy", "in the database"),
        ("InstanceAvailability", "in the database"),
        ("InstitutionName", "row by row"),
        ("RequestAttributesSequence", "row by row, by what is in its items"),
        ("RetrieveURL", "no"),
        ("NumberOfPatientRelatedStudies", "no"),
        ("SpecificCharacterSet", "no"),
    ],
)
def test_how_an_attribute_is_matched(keyword: str, how: str) -> None:
    assert matched(attributes.TABLE[keyword]) == how


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=lambda syntax: syntax.uid)
def test_every_transfer_syntax_is_in_it(syntax: TransferSyntax, statement: str) -> None:
    assert f"| {syntax.name} | {syntax.uid} | yes |" in statement


def test_every_error_is_in_it_with_its_statuses(statement: str) -> None:
    for error, status in STATUS.items():
        row = rf"^\| {error.__name__} \| .+ \| {status.store:04X} \| {status.query:04X} \| {status.http} \|$"
        assert re.search(row, statement, re.MULTILINE), error.__name__


def test_every_parameter_model_and_character_set_is_in_it(statement: str) -> None:
    for name in (*SEARCH_PARAMETERS, *RENDERING_PARAMETERS, *filter(None, TERMS)):
        assert f"`{name}`" in statement, name
    assert [uid for uid in SOP_CLASSES if uid not in statement] == []


def test_sections_have_a_state_and_what_is_partly_there_says_how() -> None:
    assert {state for _, _, state, _ in web.SECTIONS} == {"supported", "partly", "not yet"}
    assert [section for section, _, state, how in web.SECTIONS if state == "partly" and not how] == []


def test_limits_are_those_of_the_settings() -> None:
    text = conformance.statement("", DimseSettings(max_associations=7, ae_title="OTHER", any_called_ae=True))
    assert "7 in each process" in text
    assert "`OTHER`" in text
    assert "| called AE title | any |" in text


def test_cells_do_not_break_their_table() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |"


def test_tables_are_rectangular(statement: str) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", statement, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block[:200]


def test_every_kind_of_service_needs_a_right() -> None:
    """A service without its row in `RIGHT_OF` could be used by nobody."""
    assert set(RIGHT_OF) == set(Kind)
