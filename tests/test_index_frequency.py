"""Common or rare: searches find the same either way, and what is common is not looked up (SQLite)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.index import Index, open_index
from storage.index import frequency as module
from storage.index.frequency import Frequency
from storage.index.plan import Plan
from storage.types import Level, Query
from tests.support.entries import entry
from tests.support.indexes import conditions, studies

QUESTIONS: list[dict[str, Any]] = [
    {"PatientName": "doe*"},
    {"PatientName": "*oe*"},
    {"PatientName": "*doe*"},
    {"PatientName": "doe", "fuzzy": True},
    {"PatientID": "*P00*"},
    {"StudyDescription": "KN*"},
    {"StudyDescription": "*KNEE*"},
    {"ModalitiesInStudy": "CT"},
    {"ModalitiesInStudy": "CT\\MR"},
    {"ModalitiesInStudy": "S*", "StudyDescription": "*NEE*"},
    {"PatientName": "*doe*", "limit": 2, "offset": 1},
]


@pytest.mark.parametrize("asked", QUESTIONS)
def test_the_same_is_found_either_way(index: Index, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(12):
        name, text, modality = ("Doe^J", "Roe", "Döe")[n % 3], ("KNEE LEFT", "HEAD")[n % 2], ("CT", "MR", "SR")[n % 3]
        index.add([entry(f"1.{n}", PatientName=name, PatientID=f"P00{n}", StudyDescription=text, Modality=modality)])
    found = []
    for common in (True, False):
        monkeypatch.setattr(Frequency, "common", lambda *_arguments, answer=common: answer)
        found.append(studies(index, **asked))
    assert found[0] == found[1]
    assert found[0]


def test_what_is_common_is_what_there_is_more_of_than_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST", 3)
    monkeypatch.setattr(module, "_PAGE", 1)
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    index.add([entry(f"1.{n}", PatientName="Doe" if n < 3 else "Roe^Jane" if n < 5 else "Poe") for n in range(9)])
    looked: list[bool] = []

    def common(rows: Any, otherwise: bool) -> bool:
        looked.append(Frequency(index.database).common(rows, otherwise))
        return looked[-1]

    for name in ("*doe*", "*jane*"):
        Plan(Query(Level.STUDY, conditions({"PatientName": name})), sqlite=True, common=common)
    index.close()
    assert looked == [True, False]


def test_of_all_answers_more_are_looked_up_than_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST", 2)
    monkeypatch.setattr(module, "_PAGE", 1)
    monkeypatch.setattr(module, "_PART", 2)
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    index.add([entry(f"1.{n}", PatientName="Doe" if n < 5 else "Poe") for n in range(12)])
    asked = Query(Level.STUDY, conditions({"PatientName": "doe*"}))
    looked: list[bool] = []

    def common(rows: Any, otherwise: bool) -> bool:
        looked.extend(Frequency(index.database, whole=whole).common(rows, otherwise) for whole in (False, True))
        return False

    Plan(asked, sqlite=True, common=common)
    index.close()
    # Five of twelve: more than the root of the studies, less than a half of them.
    assert looked[:2] == [True, False]
