"""What every test may use; the fixtures themselves live in `tests/support`, one module per kind."""

from __future__ import annotations

import zlib
from typing import Final

import pytest

pytest_plugins = ["tests.support.servers", "tests.support.archive", "tests.support.commands", "tests.support.indexes", "tests.support.logging", "tests.support.secure"]

# They take minutes: begun last they would be waited for by all but one process.
_LONG: Final = ("test_crash.py", "test_corpus.py", "test_rendering_corpus.py", "test_both_pairs.py", "test_machine_instructions.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, and the others in an order that is always the same and mixes them: not all browsers run at once."""
    items.sort(key=lambda item: (item.path.name not in _LONG, zlib.crc32(item.path.name.encode())))
