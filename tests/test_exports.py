"""What modules say they offer exists, and each says in a sentence what it is for."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.support.source import modules, tree


@pytest.mark.parametrize("name", sorted(modules()))
def test_module_opens_with_what_it_is_for(name: str) -> None:
    text = ast.get_docstring(tree(name))
    assert text, f"{name} has no docstring"
    first = text.splitlines()[0]
    assert first.rstrip().endswith((".", ":")), f"{name}'s first line is not one sentence: {first!r}"


@pytest.mark.parametrize("name", [name for name in sorted(modules()) if name.rpartition(".")[2] != "__main__"])
def test_exported_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [one for one in exported if not hasattr(module, one)] == []
    assert len(set(exported)) == len(exported), f"{name}.__all__ names something twice"


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_functions_and_classes_are_documented(name: str) -> None:
    """Public classes and functions at the top of a module have a docstring."""
    silent = [
        node.name
        for node in tree(name).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert silent == [], f"{name}: no docstring"
