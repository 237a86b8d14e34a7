"""The images that a dose may lie over: those that its plan was made on, and those of the patient's other studies (PS3.3 C.8.8.3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from dicomweb.instance import Instance
from dicomweb.kept import Kept
from dicomweb.layouts import Layouts
from dicomweb.rendering.values import items, text
from storage.archive import Archive
from storage.attributes import tag_of
from storage.errors import NotFound
from storage.matching import parse
from storage.procedure_steps import is_uid
from storage.types import Dataset, Level, Query, Scope, Uids

# PS3.3 C.8.8.3 (dose), C.8.8.9 (plan), C.8.8.5 (structure set).
PLANS, STRUCTURE_SETS, FRAMES_OF_REFERENCE, RT_STUDIES, RT_SERIES, INSTANCE = (
    "300C0002", "300C0060", "30060010", "30060012", "30060014", "00081155",
)  # fmt: skip
STUDY_UID, SERIES_UID, INSTANCE_UID, PATIENT_ID, ISSUER, FRAME_OF_REFERENCE = map(
    tag_of, ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "IssuerOfPatientID", "FrameOfReferenceUID")
)
# Of plans and structure sets of one object, and series of one patient.
MOST_NAMED: Final = 16
MOST_SERIES: Final = 1000
_WILD: Final = frozenset("*?\\")


class _Named(NamedTuple):
    """What a plan or structure set refers to: structure sets by their UID, series by those of their study and their own."""

    structure_sets: tuple[str, ...]
    series: tuple[tuple[str, str], ...]


# By the digest of the instance: the contours of a structure set are read for three UIDs.
_NAMED: Final[Kept[_Named]] = Kept(1 << 20, lambda one: 100 * (len(one.structure_sets) + len(one.series)))


class Planned:
    """Finds the series that an RT Dose was planned on."""

    def __init__(self, archive: Archive, layouts: Layouts) -> None:
        self._archive = archive
        self._layouts = layouts

    def series(self, dose: Dataset) -> Iterator[list[Uids]]:
        """The images of each series that the structure sets of the dose, or of its plans, were drawn on, as far as they are stored."""
        plans = [found for uid in _uids(dose, PLANS) if (found := self._opened(uid)) is not None]
        sets = dict.fromkeys([*_uids(dose, STRUCTURE_SETS), *(uid for plan in plans for uid in _named(plan).structure_sets)])
        drawn = [found for uid in sets if (found := self._opened(uid)) is not None]
        for study, series in dict.fromkeys(pair for one in drawn for pair in _named(one).series):
            yield self._images(study, series)

    def elsewhere(self, dose: Dataset, study: str) -> Iterator[list[Uids]]:
        """The images of each series of the patient's other studies that is in the frame of reference of the dose.

        Whoever gave the Patient ID, if both say it, must be the same.
        """
        patient, issuer, frame = (text(dose, tag) for tag in (PATIENT_ID, ISSUER, FRAME_OF_REFERENCE))
        if not patient or not frame or _WILD & set(patient):
            return
        fields = frozenset({PATIENT_ID, ISSUER, FRAME_OF_REFERENCE})
        query = Query(Level.SERIES, (((PATIENT_ID,), parse((PATIENT_ID,), "LO", patient)),), fields, limit=MOST_SERIES)
        for match in self._archive.index.find(query):
            theirs = text(match, ISSUER)
            if text(match, FRAME_OF_REFERENCE) == frame and text(match, STUDY_UID) != study and (not issuer or not theirs or issuer == theirs):
                yield self._images(text(match, STUDY_UID), text(match, SERIES_UID))

    def _images(self, study: str, series: str) -> list[Uids]:
        return [located.uids for located in self._archive.index.locate(Scope(study, series))]

    def _opened(self, uid: str) -> Instance | None:
        """The instance of this SOP Instance UID, wherever it is stored."""
        query = Query(Level.IMAGE, (((INSTANCE_UID,), parse((INSTANCE_UID,), "UI", uid)),), frozenset(), limit=1)
        for match in self._archive.index.find(query):
            try:
                layout = self._layouts.get(Scope(text(match, STUDY_UID), text(match, SERIES_UID), uid))
            except NotFound:
                return None  # deleted in between
            return Instance(layout, self._archive.blobs)
        return None


def _named(instance: Instance) -> _Named:
    """What a plan or structure set refers to."""
    key = instance.located.sha256
    found = _NAMED.get(key)
    if found is None:
        found = _Named(tuple(_uids(instance.dataset, STRUCTURE_SETS)), tuple(islice(_series(instance.dataset), MOST_NAMED)))
        _NAMED.keep(key, found)
    return found


def _series(structures: Dataset) -> Iterator[tuple[str, str]]:
    """Study and series of the images that a structure set was drawn on."""
    for frame in items(structures, FRAMES_OF_REFERENCE):
        for study in items(frame, RT_STUDIES):
            for series in items(study, RT_SERIES):
                pair = text(study, INSTANCE), text(series, SERIES_UID)
                if all(map(is_uid, pair)):
                    yield pair


def _uids(dataset: Dataset, sequence: str) -> list[str]:
    """The instances that a sequence refers to."""
    return [uid for item in items(dataset, sequence)[:MOST_NAMED] if is_uid(uid := text(item, INSTANCE))]
