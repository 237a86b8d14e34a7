"""The project's own source, read with `ast`: its modules and what each of them imports."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("storage", "pacs", "dicomweb")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the three packages by its dotted name; a package is named without `__init__`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def tree(name: str) -> ast.Module:
    """The syntax tree of a module."""
    source = modules()[name].read_text(encoding="utf-8")
    try:
        return ast.parse(source, filename=str(modules()[name]))
    except SystemError:
        # Python 3.11 and 3.12 count the depth of a tree for all threads together, and find it wrong where another test's thread
        # makes one meanwhile, as a traceback does (python/cpython#106905).
        return ast.parse(source, filename=str(modules()[name]))


def imports(name: str) -> set[str]:
    """The dotted names that a module imports, wherever in it: `from a.b import c` gives `a.b` or, if `c` is a module, `a.b.c`."""
    return set(_imports(name))


def needed(name: str) -> set[str]:
    """The packages that a module must find when it runs, ours and the standard library's included: without those that only a type
    checker reads."""
    return {dotted.partition(".")[0] for dotted in _imports(name, _running)}


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without what is below `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _running(node)


def _imports(name: str, nodes: Callable[[ast.AST], Iterator[ast.AST]] = ast.walk) -> Iterator[str]:
    is_package = modules()[name].name == "__init__.py"
    for node in nodes(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(name, is_package, node)
            for alias in node.names:
                longer = f"{base}.{alias.name}"
                yield longer if longer in modules() else base


def _absolute(name: str, is_package: bool, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, node.module] if node.module else base)


def calls(name: str) -> Iterator[str]:
    """What a module calls, as written: `open`, `datetime.now`, `path.read_text`."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project: what git keeps, without what was deleted but not yet committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True).stdout
    paths = (CHECKOUT / name for name in listed.decode().split("\0") if name)
    return tuple(path for path in paths if path.is_file())
