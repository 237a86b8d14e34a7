"""Instance Availability Notification as user (PS3.4 annex R): how a study is, told to a node by N-CREATE."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from pydicom.uid import generate_uid

from pacs.dimse import CommandField, Status
from pacs.scp.identifiers import Encoder
from pacs.scp.sop_classes import PLAIN
from pacs.scp.transport import Ended
from pacs.scu.associating import Destination, NotReached, Proposal, associate
from storage.attributes import tag_of
from storage.availability import Held
from storage.errors import LightboxError
from storage.types import Dataset

NOTIFICATION: Final = "1.2.840.10008.5.1.4.33"
# Success, and the warnings of PS3.7 10.1.5.1.6: attribute list error, attribute value out of range.
_TAKEN: Final = frozenset({Status.SUCCESS, 0x0107, 0x0116})
_STEP: Final = tag_of("ReferencedPerformedProcedureStepSequence")
_STUDY: Final = tag_of("StudyInstanceUID")
_SERIES_SEQUENCE: Final = tag_of("ReferencedSeriesSequence")
_SERIES: Final = tag_of("SeriesInstanceUID")
_SOP_SEQUENCE: Final = tag_of("ReferencedSOPSequence")
_SOP_CLASS: Final = tag_of("ReferencedSOPClassUID")
_SOP_INSTANCE: Final = tag_of("ReferencedSOPInstanceUID")
_AVAILABILITY: Final = tag_of("InstanceAvailability")
_RETRIEVE_AE: Final = tag_of("RetrieveAETitle")


class NotificationRefused(LightboxError):
    """The node answers a notification with a failure."""


def notification(study_uid: str, instances: Iterable[Held], retrieve_ae: str) -> Dataset:
    """What table R.3.2-1 wants, and nothing else: other attributes are forbidden. `instances` lie together by series."""

    def reference(one: Held) -> Dataset:
        return {
            _SOP_CLASS: {"vr": "UI", "Value": [one.sop_class_uid]},
            _SOP_INSTANCE: {"vr": "UI", "Value": [one.sop_instance_uid]},
            _AVAILABILITY: {"vr": "CS", "Value": ["ONLINE" if one.available else "UNAVAILABLE"]},
            _RETRIEVE_AE: {"vr": "AE", "Value": [retrieve_ae]},
        }

    series = [
        {
            _SERIES: {"vr": "UI", "Value": [uid]},
            _SOP_SEQUENCE: {"vr": "SQ", "Value": [reference(one) for one in those]},
        }
        for uid, those in groupby(instances, lambda one: one.series_uid)
    ]
    return {
        # Which procedure step an instance belongs to is in the instance itself: zero items are allowed (C.4.23).
        _STEP: {"vr": "SQ", "Value": []},
        _STUDY: {"vr": "UI", "Value": [study_uid]},
        _SERIES_SEQUENCE: {"vr": "SQ", "Value": series},
    }


def notify(destination: Destination, dataset: Dataset) -> None:
    """N-CREATE on an association of its own. Raises NotificationRefused, NotReached, Rejection, NothingAccepted."""
    with associate(destination, [Proposal(NOTIFICATION, PLAIN)]) as association:
        context = association.contexts_for(NOTIFICATION)[0]
        try:
            response = association.request(
                context,
                CommandField.N_CREATE,
                [Encoder(context.transfer_syntax).encode(dataset)],
                AffectedSOPClassUID=NOTIFICATION,
                AffectedSOPInstanceUID=str(generate_uid(prefix=None)),
            )
            association.drain(response)
        except Ended as error:
            raise NotReached(f"{destination.title} took no notification: {error}") from error
        if response.status not in _TAKEN:
            raise NotificationRefused(
                f"{destination.title} answers a notification of availability with {response.status:04X}"
            )
