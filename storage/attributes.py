"""The one table of attributes: level, key type, whether there is a column for it, and when it is returned unasked.

Columns of the index, C-FIND keys, QIDO-RS parameters and the conformance statement are made from it. Tags and VRs
come from pydicom's dictionary. An attribute that is not in the table belongs to the instance (PS3.3 A.1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword

from storage.types import Level

KeyType = Literal["U", "R", "O"]

LEVELS: tuple[Level, ...] = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One row of the table.

    `key` is the type of PS3.4 C.6 (unique, required, optional). `indexed`: the index has a column for it. `computed`: it
    is not stored with the instance but made when answering. `default`: the query levels that return it unasked.
    `always`: QIDO-RS returns it empty where there is no value (type R in PS3.18 tables 10.6.3-3, -4, -5).
    """

    keyword: str
    tag: str
    vr: str
    level: Level
    key: KeyType = "O"
    indexed: bool = False
    computed: bool = False
    always: bool = False
    multiple: bool = False
    default: frozenset[Level] = frozenset()

    @property
    def column(self) -> str:
        """The name of its column: the keyword in snake case."""
        return _SNAKE.sub("_", self.keyword).lower()


_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STUDY, _SERIES, _IMAGE = Level.STUDY, Level.SERIES, Level.IMAGE
_EVERYWHERE = frozenset(LEVELS)
_BELOW_PATIENT = frozenset({_STUDY, _SERIES, _IMAGE})

# Keys of PS3.4 C.6.1.1 and what study lists ask for: (keyword, level, key type, flags, levels that return it unasked).
# Flags: i = indexed, c = computed, r = returned even when empty. Unasked: PS3.18 tables 10.6.3-3, -4, -5, and by convention the descriptions and
# whatever else viewers cannot do without.
_SEARCHED: tuple[tuple[str, Level, KeyType, str, Iterable[Level]], ...] = (
    ("PatientName", Level.PATIENT, "R", "ir", {Level.PATIENT, _STUDY}),
    ("PatientID", Level.PATIENT, "U", "ir", {Level.PATIENT, _STUDY}),
    ("IssuerOfPatientID", Level.PATIENT, "O", "i", {Level.PATIENT, _STUDY}),
    ("PatientBirthDate", Level.PATIENT, "O", "ir", {Level.PATIENT, _STUDY}),
    ("PatientSex", Level.PATIENT, "O", "ir", {Level.PATIENT, _STUDY}),
    ("NumberOfPatientRelatedStudies", Level.PATIENT, "O", "c", {Level.PATIENT}),
    ("NumberOfPatientRelatedSeries", Level.PATIENT, "O", "c", {Level.PATIENT}),
    ("NumberOfPatientRelatedInstances", Level.PATIENT, "O", "c", {Level.PATIENT}),
    ("StudyInstanceUID", _STUDY, "U", "i", _BELOW_PATIENT),
    ("StudyDate", _STUDY, "R", "ir", {_STUDY}),
    ("StudyTime", _STUDY, "R", "ir", {_STUDY}),
    ("AccessionNumber", _STUDY, "R", "ir", {_STUDY}),
    ("StudyID", _STUDY, "R", "ir", {_STUDY}),
    ("StudyDescription", _STUDY, "O", "i", {_STUDY}),
    ("ReferringPhysicianName", _STUDY, "O", "ir", {_STUDY}),
    ("ModalitiesInStudy", _STUDY, "O", "c", {_STUDY}),
    ("SOPClassesInStudy", _STUDY, "O", "c", ()),
    ("NumberOfStudyRelatedSeries", _STUDY, "O", "c", {_STUDY}),
    ("NumberOfStudyRelatedInstances", _STUDY, "O", "c", {_STUDY}),
    ("SeriesInstanceUID", _SERIES, "U", "i", {_SERIES, _IMAGE}),
    ("Modality", _SERIES, "R", "ir", {_SERIES}),
    ("SeriesNumber", _SERIES, "R", "ir", {_SERIES}),
    ("SeriesDescription", _SERIES, "O", "i", {_SERIES}),
    ("SeriesDate", _SERIES, "O", "i", {_SERIES}),
    ("SeriesTime", _SERIES, "O", "i", {_SERIES}),
    ("BodyPartExamined", _SERIES, "O", "i", {_SERIES}),
    ("PerformedProcedureStepStartDate", _SERIES, "O", "i", {_SERIES}),
    ("PerformedProcedureStepStartTime", _SERIES, "O", "i", {_SERIES}),
    ("RequestAttributesSequence", _SERIES, "O", "", {_SERIES}),
    ("NumberOfSeriesRelatedInstances", _SERIES, "O", "c", {_SERIES}),
    ("SOPInstanceUID", _IMAGE, "U", "i", {_IMAGE}),
    ("SOPClassUID", _IMAGE, "O", "i", {_IMAGE}),
    ("InstanceNumber", _IMAGE, "R", "ir", {_IMAGE}),
    ("Rows", _IMAGE, "O", "i", {_IMAGE}),
    ("Columns", _IMAGE, "O", "i", {_IMAGE}),
    ("BitsAllocated", _IMAGE, "O", "i", {_IMAGE}),
    ("NumberOfFrames", _IMAGE, "O", "i", {_IMAGE}),
    ("AvailableTransferSyntaxUID", _IMAGE, "O", "c", {_IMAGE}),
    # Of no level: true of whatever is returned.
    ("SpecificCharacterSet", _IMAGE, "O", "c", _EVERYWHERE),
    ("InstanceAvailability", _IMAGE, "O", "c", _BELOW_PATIENT),
    ("TimezoneOffsetFromUTC", _STUDY, "O", "", _BELOW_PATIENT),
    # RetrieveURL depends on how the client reached us: DICOMweb adds it.
    ("RetrieveURL", _IMAGE, "O", "c", ()),
    ("RetrieveAETitle", _IMAGE, "O", "c", ()),
)

# Kept on the study's row: Patient (PS3.3 C.7.1.1), Clinical Trial Subject (C.7.1.3) modules.
_OF_THE_PATIENT = """
    AdditionalPatientHistory BreedRegistrationSequence ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
    ClinicalTrialSiteName ClinicalTrialSponsorName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    CountryOfResidence DeidentificationMethod DeidentificationMethodCodeSequence EthnicGroup
    GeneticModificationsSequence IssuerOfPatientIDQualifiersSequence MilitaryRank OtherPatientIDs
    OtherPatientIDsSequence OtherPatientNames PatientAddress PatientAlternativeCalendar
    PatientBirthDateInAlternativeCalendar PatientBirthName PatientBirthTime PatientBreedCodeSequence
    PatientBreedDescription PatientComments PatientDeathDateInAlternativeCalendar PatientIdentityRemoved
    PatientMotherBirthName PatientReligiousPreference PatientSpeciesCodeSequence PatientSpeciesDescription
    PatientTelephoneNumbers QualityControlSubject ReferencedPatientPhotoSequence ReferencedPatientSequence
    RegionOfResidence ResponsibleOrganization ResponsiblePerson ResponsiblePersonRole
    SourcePatientGroupIdentificationSequence StrainAdditionalInformation StrainCodeSequence StrainDescription
    StrainNomenclature StrainStockSequence TypeOfPatientID
"""

# General Study (C.7.2.1), Patient Study (C.7.2.2), Clinical Trial Study (C.7.2.3) modules, and the visit.
_OF_THE_STUDY = """
    AdmissionID AdmittingDate AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription AdmittingTime Allergies
    BranchOfService ClinicalTrialTimePointDescription ClinicalTrialTimePointID ConsentForClinicalTrialUseSequence
    ConsultingPhysicianIdentificationSequence ConsultingPhysicianName CurrentPatientLocation
    IssuerOfAccessionNumberSequence IssuerOfAdmissionIDSequence IssuerOfServiceEpisodeIDSequence LastMenstrualDate
    LongitudinalTemporalEventType LongitudinalTemporalOffsetFromEvent MeasuredAPDimension MeasuredLateralDimension
    MedicalAlerts NameOfPhysiciansReadingStudy Occupation PatientAge PatientBodyMassIndex
    PatientInstitutionResidence PatientSexNeutered PatientSize PatientSizeCodeSequence PatientState PatientWeight
    PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence PhysiciansReadingStudyIdentificationSequence
    PregnancyStatus ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence ReasonForStudy ReasonForVisit
    ReasonForVisitCodeSequence ReferencedStudySequence ReferringPhysicianIdentificationSequence RequestedContrastAgent
    RequestedProcedureDescription RequestedProcedureCodeSequence RequestingPhysician RequestingService
    RequestingServiceCodeSequence ServiceEpisodeDescription ServiceEpisodeID SmokingStatus SpecialNeeds StudyComments
    StudyStatusID StudyPriorityID
"""

# General Series (C.7.3.1), Clinical Trial Series (C.7.3.2), Frame of Reference (C.7.4.1), General Equipment (C.7.5.1).
_OF_THE_SERIES = """
    AnatomicalOrientationType ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesDescription ClinicalTrialSeriesID
    CommentsOnThePerformedProcedureStep DateOfLastCalibration DeviceSerialNumber DeviceUID FrameOfReferenceUID GantryID
    InstitutionAddress InstitutionName InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence
    LargestPixelValueInSeries Laterality Manufacturer ManufacturerModelName OperatorIdentificationSequence
    OperatorsName PatientPosition PerformedLocation PerformedProcedureStepDescription PerformedProcedureStepEndDate
    PerformedProcedureStepEndTime PerformedProcedureStepID PerformedProcedureTypeDescription
    PerformedProtocolCodeSequence PerformedStationAETitle PerformedStationName
    PerformingPhysicianIdentificationSequence PerformingPhysicianName PositionReferenceIndicator ProtocolName
    ReferencedDefinedProtocolSequence ReferencedPerformedProcedureStepSequence ReferencedPerformedProtocolSequence
    RelatedSeriesSequence SeriesDescriptionCodeSequence SeriesType SmallestPixelValueInSeries SoftwareVersions
    StationName TimeOfLastCalibration TreatmentSessionUID
"""

# A date and the time that goes with it, matched as one moment where both are ranges (PS3.4 C.2.2.2.5).
MOMENTS: tuple[tuple[str, str], ...] = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("PatientBirthDate", "PatientBirthTime"),
    ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"),
)


def tag_of(keyword: str) -> str:
    """Eight upper-case hex digits for a keyword of the dictionary. Raises KeyError for anything else."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return f"{tag:08X}"


def name_of(tag: str) -> str:
    """The keyword for a tag, or the tag itself where the dictionary has none (private attributes)."""
    return tag if ":" in tag else keyword_for_tag(int(tag, 16)) or tag


def _row(
    keyword: str, level: Level, key: KeyType = "O", flags: str = "", default: Iterable[Level] = ()
) -> Attribute:
    tag = tag_of(keyword)
    number = int(tag, 16)
    return Attribute(
        keyword=keyword,
        tag=tag,
        vr=dictionary_VR(number).split(" or ")[0],
        level=level,
        key=key,
        indexed="i" in flags,
        computed="c" in flags,
        always="r" in flags,
        multiple=dictionary_VM(number) != "1",
        default=frozenset(default),
    )


def _rows() -> Iterable[Attribute]:
    yield from (_row(*row) for row in _SEARCHED)
    for level, keywords in (
        (Level.PATIENT, _OF_THE_PATIENT),
        (_STUDY, _OF_THE_STUDY),
        (_SERIES, _OF_THE_SERIES),
    ):
        yield from (_row(keyword, level) for keyword in keywords.split())


TABLE: dict[str, Attribute] = {attribute.keyword: attribute for attribute in _rows()}
BY_TAG: dict[str, Attribute] = {attribute.tag: attribute for attribute in TABLE.values()}


def level_of(tag: str) -> Level:
    """The level that an attribute belongs to: the instance's, for all that the table does not name."""
    attribute = BY_TAG.get(tag)
    return attribute.level if attribute else Level.IMAGE


def above(level: Level, other: Level) -> bool:
    """Whether `other` lies strictly above `level`: PATIENT above STUDY above SERIES above IMAGE."""
    return LEVELS.index(other) < LEVELS.index(level)


def default_fields(level: Level) -> frozenset[str]:
    """Tags that an answer at `level` carries unasked (PS3.18 10.6.3)."""
    return frozenset(attribute.tag for attribute in TABLE.values() if level in attribute.default)


def empty_fields(level: Level) -> dict[str, str]:
    """Tag -> VR of what an answer at `level` carries even where it has no value (type R in PS3.18 10.6.3)."""
    return {a.tag: a.vr for a in TABLE.values() if a.always and level in a.default}


def kept_tags(*levels: Level) -> frozenset[str]:
    """Tags that the rows of these levels keep from an instance: everything of the level that is not computed."""
    return frozenset(a.tag for a in TABLE.values() if a.level in levels and not a.computed)


def indexed_at(*levels: Level) -> tuple[Attribute, ...]:
    """The attributes of these levels that have a column, in the order of the table."""
    return tuple(a for a in TABLE.values() if a.indexed and a.level in levels)
