"""The direction of imports and the purity of the pure modules (DESIGN: layout and direction), held by reading the source."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.support.source import CHECKOUT, PACKAGES, calls, imports, modules, needed

# Where the three packages meet: putting it all together, and the command line.
COMPOSITION = ("pacs.compose", "pacs.cli")
# (who, must not import): a package stands for all that is in it.
DIRECTIONS = [("storage", "pacs"), ("storage", "dicomweb"), ("pacs", "dicomweb"), ("dicomweb", "pacs")]

# Values in, values out: no files, sockets, SQL, clock or environment. A package stands for all that is in it.
PURE = (
    "storage.alike",
    "storage.attributes",
    "storage.charsets",
    "storage.codecs.headers",
    "storage.codecs.native",
    "storage.codecs.pixels",
    "storage.codecs.samples",
    "storage.dictionary",
    "storage.coercion",
    "storage.deidentification",
    "storage.differences",
    "storage.elements",
    "storage.errors",
    "storage.findings",
    "storage.fragments",
    "storage.frame_items",
    "storage.frames",
    "storage.framing",
    "storage.item_parts",
    "storage.levels",
    "storage.matching",
    "storage.mpps_rules",
    "storage.named_uids",
    "storage.non_patient",
    "storage.part10",
    "storage.per_frame",
    "storage.pieces",
    "storage.presets",
    "storage.private",
    "storage.recurring",
    "storage.json_model",
    "storage.workitem_keys",
    "storage.procedure_steps",
    "storage.rejection",
    "storage.rewriting",
    "storage.scanner",
    "storage.transfer_syntaxes",
    "storage.types",
    "storage.values",
    "storage.worklist_entries",
    "pacs.hl7.framing",
    "pacs.hl7.messages",
    "pacs.hl7.orders",
    "pacs.scp.identifiers",
    "pacs.scp.negotiation",
    "pacs.scp.query",
    "pacs.scp.reasons",
    "pacs.scp.retrieval",
    "pacs.scp.sop_classes",
    "pacs.upper_layer",
    "dicomweb.codestreams",
    "dicomweb.directory",
    "dicomweb.encoding",
    "dicomweb.json_array",
    "dicomweb.media_types",
    "dicomweb.native_private",
    "dicomweb.native_xml",
    "dicomweb.negotiation",
    "dicomweb.ranges",
    "dicomweb.rendering",
)
# In a pure package, but not pure: fonts, a table that lies in a file for administrators to change (both read once), and the one
# function that has frames decoded in worker processes before the rest begins.
EXCEPTIONS = frozenset({"dicomweb.rendering.fonts", "dicomweb.rendering.named_windows", "dicomweb.rendering.render"})
# Third-party code from values to values; what takes HL7 messages apart, and the picture libraries for encoding what was rendered, and only there.
PURE_LIBRARIES = frozenset({"pydicom", "numpy", "orjson", "zstandard"})
MESSAGE_LIBRARIES = frozenset({"hl7"})
PICTURE_LIBRARIES = frozenset({"imagecodecs", "PIL"})
# Parts of the standard library that reach outside the values a function was given.
OUTSIDE = frozenset(
    {"asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "importlib", "logging", "mmap", "multiprocessing"}
    | {"os", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3"}
    | {"ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib"}
)
# Calls that reach outside without an import that would show it.
OUTSIDE_CALLS = re.compile(
    r"^(open|input|print)$|\b(datetime|date)\.(now|today|utcnow)$|\bdcm(read|write)$|\buuid[14]$"
    r"|\.(read|write)_(bytes|text)$|\.(exists|glob|is_dir|is_file|iterdir|mkdir|rglob|stat|unlink)$"
)


def belongs(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize(("who", "forbidden"), DIRECTIONS)
def test_direction_of_imports(who: str, forbidden: str) -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        if belongs(module, who) and module not in COMPOSITION
        for imported in imports(module)
        if belongs(imported, forbidden)
    ]
    assert wrong == []


def test_what_is_imported_is_named_among_the_dependencies() -> None:
    """What the tests install is there when they run, and not on the machine of somebody who only serves."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {_distribution(one) for one in (*project["dependencies"], *project["optional-dependencies"]["video"])}
    of_package = packages_distributions()
    wrong = [
        f"{module} imports {package}"
        for module in modules()
        for package in sorted(needed(module) - {*PACKAGES, *sys.stdlib_module_names, ""})
        if named.isdisjoint(_distribution(one) for one in of_package.get(package, (package,)))
    ]
    assert wrong == []


def _distribution(requirement: str) -> str:
    """The normalized name of a distribution."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].replace("_", "-").lower()


def test_only_the_command_line_and_the_processes_know_the_composition() -> None:
    above = (*COMPOSITION, "pacs.__main__", "pacs.commands", "pacs.serve")
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        if not any(belongs(module, name) for name in above)
        for imported in imports(module)
        if any(belongs(imported, name) for name in above)
    ]
    assert wrong == []


@pytest.mark.parametrize("pure", PURE)
def test_pure_modules_reach_nothing_outside(pure: str) -> None:
    found = [module for module in modules() if belongs(module, pure) and module not in EXCEPTIONS]
    assert found, f"{pure} is named as pure, but there is no such module"
    wrong = [f"{module} imports {name}" for module in found for name in imports(module) if not _allowed(name, module)]
    wrong += [f"{module} calls {call}" for module in found for call in calls(module) if OUTSIDE_CALLS.search(call)]
    assert wrong == []


def _allowed(imported: str, by: str) -> bool:
    top = imported.partition(".")[0]
    if top in MESSAGE_LIBRARIES and belongs(by, "pacs.hl7"):
        return True
    if top in PURE_LIBRARIES or (top in PICTURE_LIBRARIES and belongs(by, "dicomweb.rendering")):
        return True
    if top in {"storage", "pacs", "dicomweb"}:
        return any(belongs(imported, pure) for pure in PURE)
    return top in sys.stdlib_module_names and top not in OUTSIDE


def test_nothing_uses_the_words_that_say_nothing() -> None:
    empty = re.compile(r"(^|[._])(utils?|helpers?|managers?|common|misc)($|[._])")
    assert [module for module in modules() if empty.search(module)] == []


@pytest.mark.parametrize("module", sorted(modules()))
def test_modules_stay_small_enough_to_read(module: str) -> None:
    """STYLE: when a module passes about 300 lines, ask whether it is two. This is where one must have asked."""
    lines = modules()[module].read_text(encoding="utf-8").count("\n")
    assert lines <= 500, f"{module} has {lines} lines: it is two modules"
