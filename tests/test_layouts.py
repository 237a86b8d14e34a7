"""What is remembered of a series: read ahead, believed for a while, bounded, and dropped when anything in it changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dicomweb.layouts import Layouts
from storage.archive import Archive
from storage.errors import NotFound
from storage.types import Scope
from tests.support import made, web
from tests.support.web import Watched

SERIES = "studies/1.2.3/series/1.2.3.4"
SERIES_SCOPE = Scope("1.2.3", "1.2.3.4")


def one_of(number: int) -> Scope:
    return replace(SERIES_SCOPE, instance=f"1.2.3.4.{number}")


@contextlib.contextmanager
def layouts_of(archive: Archive, instances: int, **limits: float) -> Iterator[tuple[Layouts, Watched, list[float]]]:
    """Layouts over an archive of one series, the index that they ask, and the time that they see."""
    with web.client(archive) as client:
        web.stow(client, [*(made.instance(number) for number in range(1, instances + 1))])
    index, now = Watched(archive.index), [0.0]
    yield Layouts(index, clock=lambda: now[0], **{"max_bytes": 1 << 20, "max_age": 2.0} | limits), index, now  # type: ignore[arg-type]


def test_a_series_is_read_ahead_when_a_second_instance_is_asked_for(archive: Archive) -> None:
    with layouts_of(archive, 130) as (layouts, index, _now):
        layouts.get(one_of(60))
        for _ in range(5):
            layouts.get(one_of(60))
        assert index.asked == ["layouts"]
        for number in (61, *range(11, 112)):
            assert layouts.get(one_of(number)).located.uids.instance == f"1.2.3.4.{number}"
        assert index.asked == ["layouts"] * 2
        for number in (*range(112, 131), *range(10, 0, -1)):
            layouts.get(one_of(number))
        assert index.asked == ["layouts"] * 4


def test_a_series_that_has_not_changed_is_believed_again(archive: Archive) -> None:
    with layouts_of(archive, 20) as (layouts, index, now):
        for number in (1, 2):
            layouts.get(one_of(number))
        now[0] = 2.5
        for number in range(1, 21):
            layouts.get(one_of(number))
        assert index.asked == ["layouts", "layouts", "etag"]
        # Another instance comes: what lies where is asked anew, by whoever wants it.
        with web.client(archive) as client:
            web.stow(client, [made.instance(99)])
        now[0] = 5
        index.asked.clear()
        for number in (5, 6, 99):
            layouts.get(one_of(number))
        assert index.asked == ["etag", "layouts", "layouts"]


def test_an_instance_that_is_deleted_is_gone_when_its_time_is_over(archive: Archive) -> None:
    with layouts_of(archive, 3) as (layouts, _index, now):
        for number in (1, 2, 3):
            layouts.get(one_of(number))
        with web.client(archive) as client:
            assert client.delete(f"{SERIES}/instances/1.2.3.4.2").status_code < 300
        now[0] = 2.5
        layouts.get(one_of(1))
        with pytest.raises(NotFound):
            layouts.get(one_of(2))


def test_no_more_layouts_are_kept_than_fit(archive: Archive) -> None:
    with layouts_of(archive, 39, max_bytes=40_000) as (layouts, index, _now):
        for number in range(1, 40):
            layouts.get(one_of(number))
        asked = len(index.asked)
        layouts.get(one_of(39))
        layouts.get(one_of(1))
        assert len(index.asked) == asked + 1
        assert layouts._bytes <= 40_000
        with pytest.raises(NotFound):
            layouts.get(replace(SERIES_SCOPE, instance="9"))
