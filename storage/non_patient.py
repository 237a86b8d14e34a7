"""Objects of no patient (PS3.4 annex GG, PS3.18 12): their categories as a table, and where the index keeps them. Pure.

They have no study and no series. The index gives each a study and a series of its own in another partition, where no
search for patients, studies, series or instances looks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from storage.attributes import tag_of
from storage.types import DEFAULT_PARTITION

PARTITION: Final = "non-patient"
# Where instances are, whatever they are about.
PARTITIONS: Final = (DEFAULT_PARTITION, PARTITION)


class Category(NamedTuple):
    """A kind of object: its `npi-name` of PS3.18 12.1.1, its storage SOP classes (PS3.4 table GG.3-1), and its information model.

    `keywords` are what the information model of `section` (PS3.4) has as keys, beside SOP Class and Instance UID; answers of a
    search carry them unasked.
    """

    name: str
    sop_classes: tuple[str, ...]
    section: str
    keywords: str

    @property
    def tags(self) -> frozenset[str]:
        """What an answer carries unasked."""
        return frozenset(map(tag_of, (*_COMMON.split(), *self.keywords.split())))


_COMMON: Final = "SpecificCharacterSet SOPClassUID SOPInstanceUID"
CATEGORIES: Final[dict[str, Category]] = {
    one.name: one
    for one in (
        Category(
            "color-palettes",
            ("1.2.840.10008.5.1.4.39.1",),
            "X.6",
            "ContentLabel ContentDescription ContentCreatorName AlternateContentDescriptionSequence",
        ),
        Category(
            "defined-procedure-protocols",
            ("1.2.840.10008.5.1.4.1.1.200.1", "1.2.840.10008.5.1.4.1.1.200.7"),
            "HH.6",
            """CustodialOrganizationSequence ResponsibleGroupCodeSequence ProtocolName PotentialScheduledProtocolCodeSequence
            PotentialRequestedProcedureCodeSequence PotentialReasonsForProcedureCodeSequence PotentialDiagnosticTasks
            PredecessorProtocolSequence InstanceCreationDate InstanceCreationTime Modality Manufacturer ManufacturerModelName
            SoftwareVersions ModelSpecificationSequence""",
        ),
        Category(
            "hanging-protocols",
            ("1.2.840.10008.5.1.4.38.1",),
            "U.6",
            """HangingProtocolName HangingProtocolDescription HangingProtocolLevel HangingProtocolCreator
            HangingProtocolCreationDateTime HangingProtocolDefinitionSequence NumberOfPriorsReferenced
            HangingProtocolUserIdentificationCodeSequence HangingProtocolUserGroupName NumberOfScreens
            NominalScreenDefinitionSequence""",
        ),
        Category(
            "implant-templates",
            ("1.2.840.10008.5.1.4.43.1", "1.2.840.10008.5.1.4.44.1", "1.2.840.10008.5.1.4.45.1"),
            "BB.6",
            """Manufacturer ImplantName ImplantSize ImplantPartNumber ReplacedImplantTemplateSequence
            DerivationImplantTemplateSequence EffectiveDateTime ImplantAssemblyTemplateName ImplantAssemblyTemplateIssuer
            ImplantAssemblyTemplateVersion ImplantAssemblyTemplateType ReplacedImplantAssemblyTemplateSequence
            ImplantTemplateGroupName ImplantTemplateGroupDescription ImplantTemplateGroupIssuer ImplantTemplateGroupVersion""",
        ),
        Category(
            "inventories",
            ("1.2.840.10008.5.1.4.1.1.201.1",),
            "JJ.6",
            """ContentDate ContentTime InventoryPurpose InventoryInstanceDescription InventoryLevel InventoryCompletionStatus
            NumberOfStudyRecordsInInstance TotalNumberOfStudyRecords ScopeOfInventorySequence TransactionUID""",
        ),
        Category(
            "protocol-approvals",
            ("1.2.840.10008.5.1.4.1.1.200.3",),
            "II.6",
            "ApprovalSubjectSequence ApprovalSequence InstanceCreationDate InstanceCreationTime",
        ),
    )
}
BY_SOP_CLASS: Final[dict[str, Category]] = {uid: one for one in CATEGORIES.values() for uid in one.sop_classes}


def partition_of(sop_class_uid: str) -> str:
    """Where the index keeps instances of a SOP class."""
    return PARTITION if sop_class_uid in BY_SOP_CLASS else DEFAULT_PARTITION
