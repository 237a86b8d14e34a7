"""The shared corpus of openly licensed DICOM files and what its manifest says each of them must do."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class CorpusFile:
    """A file and its row of the manifest."""

    path: Path
    row: dict[str, str]

    @property
    def name(self) -> str:
        return self.row["file"]

    @property
    def storable(self) -> bool:
        """Whether the manifest expects the archive to keep it (by choice where it is not Part 10)."""
        return self.row["expected_parse"].startswith("ok") and "not storable" not in self.row["expected_parse"]


@functools.cache
def _manifest() -> tuple[CorpusFile, ...]:
    with (FOLDER / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        return tuple(CorpusFile(FOLDER / row["file"], row) for row in csv.DictReader(lines, delimiter="\t"))


def present() -> bool:
    """Whether the corpus lies beside the checkout."""
    return (FOLDER / "MANIFEST.tsv").is_file()


def corpus_files() -> tuple[CorpusFile, ...]:
    """Every file of the corpus; skips the calling test, saying so, where the corpus is not there."""
    if not present():
        pytest.skip("the corpus ../shared/data is not beside this checkout: nothing is tested against it")
    return _manifest()


def corpus_file(name: str) -> Path:
    """One file of the corpus by its name in the manifest."""
    corpus_files()
    return FOLDER / name


def examples() -> list[CorpusFile]:
    """The smallest good file of each transfer syntax."""
    if not present():
        return []
    smallest: dict[str, CorpusFile] = {}
    for file in sorted(corpus_files(), key=lambda one: int(one.row["bytes"])):
        if file.row["expected_parse"] == "ok" and file.row["transfer_syntax_uid"] and file.row["pydicom_parse"] == "ok":
            smallest.setdefault(file.row["transfer_syntax_uid"], file)
    return list(smallest.values())
