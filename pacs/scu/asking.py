"""What is asked of another archive in a query, by keywords, and its answers for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from pacs.scp.identifiers import text_values
from storage.errors import BadRequest
from storage.types import Dataset, Level

# What is asked for of each level where nothing is said: enough to recognise it and to go on with it.
RETURNED: Final[dict[Level, tuple[str, ...]]] = {
    Level.PATIENT: ("PatientID", "PatientName", "PatientBirthDate"),
    Level.STUDY: ("PatientID", "PatientName", "StudyDate", "ModalitiesInStudy", "StudyDescription", "StudyInstanceUID"),
    Level.SERIES: ("Modality", "SeriesNumber", "SeriesDescription", "StudyInstanceUID", "SeriesInstanceUID"),
    Level.IMAGE: ("InstanceNumber", "SOPClassUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def keys_of(wanted: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Keywords and what they must match as an identifier; an empty value is only returned, and a value may list several with
    backslashes. Raises BadRequest."""
    keys: dict[str, dict[str, Any]] = {}
    for keyword, value in wanted:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise BadRequest(f"there is no attribute {keyword!r}; use keywords of the standard, as PatientID")
        vr = dictionary_VR(tag).split(" or ")[0]
        values: list[Any] = [{"Alphabetic": value}] if vr == "PN" else list(value.split("\\"))
        keys[f"{tag:08X}"] = {"vr": vr, "Value": values} if value else {"vr": vr}
    return keys


def text_of(match: Dataset, tag: str) -> str:
    """The values of an attribute of an answer as one text."""
    return "\\".join(text_values(match.get(tag, {})))
