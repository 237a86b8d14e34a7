"""Entries for the index made from a few attributes, without files: one instance in a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
from pydicom.datadict import dictionary_VR

from storage.attributes import tag_of
from storage.frames import FrameTable
from storage.index import Entry
from storage.per_frame import Encoded
from storage.scanner import Scan
from storage.types import BulkItem, Flag, Job, Source, Uids

RECEIVED = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def json_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """The DICOM JSON of attributes by keyword: a value, a list of values, items of a sequence, or None for no value.

    A name may be text with its groups separated by `=`.
    """
    return {tag_of(keyword): _element(tag_of(keyword), value) for keyword, value in attributes.items()}


def _element(tag: str, value: Any) -> dict[str, Any]:
    vr = dictionary_VR(int(tag, 16)).split(" or ")[0]
    values = value if isinstance(value, list) else [] if value is None else [value]
    if vr == "SQ":
        values = [json_of(item) for item in values]
    if vr == "PN":
        values = [_name(one) for one in values]
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _name(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: part for group, part in groups if part}


def entry(
    study: str = "1.2.3",
    series: str = "1",
    instance: str = "1",
    *,
    content: str = "",
    jobs: tuple[Job, ...] = (),
    scan_flags: tuple[Flag, ...] = (),
    bulk: tuple[BulkItem, ...] = (),
    sop_class: str = CT,
    size: int = 1000,
    **attributes: Any,
) -> Entry:
    """An instance of `study`; `series` and `instance` are appended to its UID. `content` stands for its bytes."""
    series_uid = series if "." in series else f"{study}.{series}"
    instance_uid = instance if instance.count(".") else f"{series_uid}.{instance}"
    dataset = json_of(
        {
            "StudyInstanceUID": study,
            "SeriesInstanceUID": series_uid,
            "SOPInstanceUID": instance_uid,
            "SOPClassUID": sop_class,
            **attributes,
        }
    )
    made = Scan(
        dataset=dataset,
        encoded=Encoded(orjson.dumps(dataset)),
        uids=Uids(study, series_uid, instance_uid),
        sop_class_uid=sop_class,
        transfer_syntax_uid=EXPLICIT_LITTLE,
        dataset_offset=144,
        inflated=False,
        frames=FrameTable.native(1, 1000, 8 * 64, 64),
        bulk=bulk,
        flags=scan_flags,
    )
    sha256 = hashlib.sha256(made.json + content.encode()).hexdigest()
    return Entry(
        scan=made,
        object_key=f"{study}/{series_uid}/{sha256}.dcm",
        sha256=sha256,
        size=size,
        source=Source("stow", user="test"),
        received_at=RECEIVED,
        jobs=jobs,
    )


def values(datasets: Iterable[Any], keyword: str) -> list[Any]:
    """The first value of an attribute in each data set; None where it has none."""
    tag = tag_of(keyword)
    return [(dataset.get(tag, {}).get("Value") or [None])[0] for dataset in datasets]
