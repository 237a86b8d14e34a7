"""The table from errors to statuses is complete and keeps to the standard's ranges."""

from __future__ import annotations

import pytest

from storage import errors
from storage.errors import STATUS, LightboxError, statuses

EVERY = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, LightboxError)]

# (error, C-STORE PS3.4 B.2.3, C-FIND PS3.4 C.4.1, HTTP PS3.18 annex I)
ROWS = [
    (errors.NotStorable("x"), 0xA900, 0xA900, 400),
    (errors.NotDicom("x"), 0xC000, 0xA900, 400),
    (errors.StoreFull("x"), 0xA700, 0xA700, 507),
    (errors.IndexUnavailable("x"), 0xA700, 0xA700, 503),
    (errors.Conflict("x"), 0x0111, 0xC000, 409),
    (errors.UnsupportedQuery("x"), 0xC000, 0xC000, 400),
    (ValueError("not foreseen"), 0x0110, 0xC000, 500),
]


@pytest.mark.parametrize(("error", "store", "query", "http"), ROWS, ids=lambda value: type(value).__name__)
def test_statuses(error: Exception, store: int, query: int, http: int) -> None:
    assert statuses(error) == (store, query, http)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_has_a_row_of_its_own(kind: type[LightboxError]) -> None:
    assert kind in STATUS


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_statuses_are_failures(kind: type[LightboxError]) -> None:
    row = STATUS[kind]
    assert row.store >= 0xA000 or 0x0100 <= row.store < 0x0200
    assert row.query >= 0xA000
    assert 400 <= row.http < 600


def test_an_error_without_a_row_takes_its_nearest_ancestors() -> None:
    class Fancier(errors.StoreFull):
        pass

    assert statuses(Fancier("x")) == STATUS[errors.StoreFull]
