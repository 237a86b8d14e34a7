"""What recurs in a series is taken over as it was read before: never with another result than reading it anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from storage import recurring
from storage.errors import LimitExceeded
from storage.levels import Limits
from storage.recurring import Stretch
from storage.scanner import Scan, scan
from tests.support import made


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    recurring._TABLES.clear()
    recurring._KNOWN.clear()


def anew(content: bytes) -> Scan:
    """What a process that has seen nothing finds; what others know stays as it was."""
    tables, elements = dict(recurring._TABLES), dict(recurring._KNOWN)
    forget()
    try:
        return scan(content)
    finally:
        recurring._TABLES.update(tables)
        recurring._KNOWN.update(elements)


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def several(number: int, kind: int) -> bytes:
    """The instances of series of several kinds: values that recur by turns, sequences, private elements, odd values, another
    sign, and attributes that one has and another has not."""
    attributes: dict[str, Any] = {
        "SeriesDescription": f"kind {kind}", "KVP": "120", "SliceLocation": str(number), "ContentTime": f"1000{number % 7:02d}",
        "ProtocolName": "all", "BodyPartExamined": "CHEST", "SliceThickness": "1.25", "DistanceSourceToDetector": "1085",
        "ReferencedImageSequence": Sequence([item(ReferencedSOPInstanceUID=f"1.2.{number % 3}")]),
        "RequestAttributesSequence": Sequence([item(ScheduledProcedureStepID="S", CodeValue="C")]),
    }  # fmt: skip
    if kind == 1:
        attributes |= {"PatientID": "P2", "PixelRepresentation": 1, "SmallestImagePixelValue": -number, "AcquisitionNumber": str(number % 2)}
    if kind == 2 and number % 4 == 0:
        attributes |= {"SoftwareVersions": ["a", "b"], "EthnicGroup": "\xfc" * 3, "RequestedProcedureDescription": "once in a while"}
    content = made.instance(number, series=f"1.2.3.{kind}", **attributes)
    # A number that is none: flagged each time that it comes.
    return content.replace(b"1085", b"10x5") if kind == 2 and number % 5 < 2 else content


@pytest.mark.parametrize("kinds", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_what_is_known_changes_nothing(kinds: tuple[int, ...]) -> None:
    for number in range(40):
        for kind in kinds:
            content = several(number, kind)
            found, expected = scan(content), anew(content)
            assert found == expected
            assert found.json == expected.json
    taken = [stretch for table in recurring._TABLES.values() for anchor in table.values() for stretch in anchor.stretches]
    assert max(len(stretch.ends) for stretch in taken) >= 4


def test_most_of_a_series_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Stretch] = []
    passed = recurring.Recurring.passed

    def watched(self: Any, *arguments: Any) -> Stretch | None:
        stretch = passed(self, *arguments)
        taken.extend([stretch] if stretch else [])
        return stretch

    for number in range(30):
        scan(several(number, 0))
    monkeypatch.setattr(recurring.Recurring, "passed", watched)
    found = scan(several(31, 0))
    assert sum(len(stretch.ends) for stretch in taken) > len(found.dataset) / 2


def test_what_is_taken_over_counts() -> None:
    """A limit is a limit, whether a data set is read or known."""
    content = several(1, 0)
    for _ in range(3):
        scan(content)
    for limits in (Limits(elements=20), Limits(header_bytes=100)):
        with pytest.raises(LimitExceeded):
            scan(content, limits)


def test_what_is_kept_is_bounded() -> None:
    for number in range(300):
        scan(made.instance(number, PatientComments="x" * 200, StudyDescription=f"study {number}", KVP=str(number)))
    for table in recurring._TABLES.values():
        assert len(table) <= recurring._MOST_ANCHORS
        assert all(len(anchor.stretches) <= recurring._MOST_BEHIND for anchor in table.values())
        assert all(len(one.raw) <= recurring.LONGEST for anchor in table.values() for one in anchor.stretches)
