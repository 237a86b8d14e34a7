"""C-FIND, C-MOVE and C-GET as user (PS3.4 C.4), and C-ECHO: what another archive has, and bringing it here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from pacs.dimse import PENDING, CommandField, Status
from pacs.scp import sop_classes, store
from pacs.scp.association import Message
from pacs.scp.identifiers import CHARACTER_SET, UTF_8, Encoder, decode
from pacs.scp.negotiation import Context
from pacs.scp.provider import Provider
from pacs.scp.query import QUERY_LEVEL
from pacs.scp.sop_classes import PLAIN, VERIFICATION, is_storage
from pacs.scu.associating import MOST_CONTEXTS, Destination, Proposal, Requested, associate
from pacs.upper_layer import Role
from storage.archive import Archive
from storage.attributes import tag_of
from storage.errors import LightboxError, LimitExceeded, Refused
from storage.transfer_syntaxes import TABLE, Coding
from storage.types import Dataset, Level

_MODELS: Final = {
    CommandField.C_FIND: (sop_classes.STUDY_ROOT_FIND, sop_classes.PATIENT_ROOT_FIND),
    CommandField.C_MOVE: (sop_classes.STUDY_ROOT_MOVE, sop_classes.PATIENT_ROOT_MOVE),
    CommandField.C_GET: (sop_classes.STUDY_ROOT_GET, sop_classes.PATIENT_ROOT_GET),
}
_SOP_CLASSES: Final = tag_of("SOPClassesInStudy")
_STUDY: Final = tag_of("StudyInstanceUID")
# What an answer may have; a peer that sends more is not listened to.
_LARGEST: Final = 1 << 22


class Failed(LightboxError):
    """The other node answered with a failure; the text has its status and comment, for whoever asked and not for logs."""

    def __init__(self, what: str, title: str, message: Message) -> None:
        comment = str(message.command.get("ErrorComment", ""))
        # What logs may have: the comment may name a patient.
        self.without_comment = f"{title} answers the {what} with {message.status:04X}"
        super().__init__(f"{self.without_comment} {comment}".rstrip())
        self.status = message.status


class Progress(NamedTuple):
    """The numbers of a response to C-MOVE or C-GET; what a response does not say is 0."""

    status: int
    remaining: int
    completed: int
    failed: int
    warning: int


def echo(destination: Destination) -> None:
    """C-ECHO. Raises Failed for a status other than success."""
    with associate(destination, [Proposal(VERIFICATION, PLAIN)]) as association:
        (context,) = association.contexts_for(VERIFICATION)
        response = association.request(context, CommandField.C_ECHO, AffectedSOPClassUID=VERIFICATION)
        if response.status != Status.SUCCESS:
            raise Failed("C-ECHO", destination.title, response)


def find(destination: Destination, level: Level, keys: Dataset, *, most: int | None = None) -> Iterator[Dataset]:
    """C-FIND: each match, as it comes. After `most` of them, or when the iterator is closed, the rest is cancelled."""
    model = _model(CommandField.C_FIND, level)
    with associate(destination, [Proposal(model, PLAIN)]) as association:
        (context,) = association.contexts_for(model)
        identifier = _encoded(context, level, keys)
        message_id = association.begin(
            context, CommandField.C_FIND, [identifier], AffectedSOPClassUID=model, Priority=0
        )
        count = 0
        for message in _pending(association, message_id, "C-FIND", destination.title):
            data = association.read_data(message, _LARGEST)
            if data is None:
                raise LimitExceeded(f"{destination.title} sent an answer of more than {_LARGEST} bytes")
            if most is not None and count >= most:
                continue
            yield decode(data, context.transfer_syntax).dataset
            count += 1
            if count == most:
                association.cancel(context, message_id)


def move(
    destination: Destination,
    level: Level,
    keys: Dataset,
    to: str,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """C-MOVE: have `destination` send what is asked for to the node `to`, which it must know. Raises Failed."""
    model = _model(CommandField.C_MOVE, level)
    with associate(destination, [Proposal(model, PLAIN)]) as association:
        (context,) = association.contexts_for(model)
        return _retrieved(
            association, context, CommandField.C_MOVE, level, keys, watch, MoveDestination=to
        )


def get(
    destination: Destination,
    level: Level,
    keys: Dataset,
    archive: Archive,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """C-GET: bring what is asked for into the archive, each instance by the ingest that a C-STORE of the node has.

    Raises Failed. An instance that the archive refuses counts as failed, and the log says why.
    """
    model = _model(CommandField.C_GET, level)
    classes = _classes(destination, keys)
    proposals = [Proposal(model, PLAIN), *_storage_proposals(classes)][:MOST_CONTEXTS]
    roles = [Role(uid, scu=False, scp=True) for uid in dict.fromkeys(one.abstract_syntax for one in proposals[1:])]
    with associate(destination, proposals, roles=roles) as association:
        (context,) = association.contexts_for(model)
        # What comes, comes from there: that is what is kept with it.
        association.peer = replace(
            association.peer, calling_ae=destination.title, called_ae=destination.calling_ae
        )
        provider = Provider(archive, destination.settings)
        association.on_request = lambda message: _take(association, message, provider)
        return _retrieved(association, context, CommandField.C_GET, level, keys, watch)


def _take(association: Requested, message: Message, provider: Provider) -> None:
    if message.command["CommandField"] == CommandField.C_STORE and is_storage(message.context.abstract_syntax):
        store.answer(association, message, provider)
    else:
        association.respond(message, Status.UNRECOGNIZED_OPERATION)


def _classes(destination: Destination, keys: Dataset) -> list[str]:
    """The SOP classes of what will come, where the node says them (SOP Classes in Study is optional); else none."""
    studies = keys.get(_STUDY)
    if not studies or not studies.get("Value"):
        return []
    found: dict[str, None] = {}
    try:
        for match in find(destination, Level.STUDY, {_STUDY: studies, _SOP_CLASSES: {"vr": "UI"}}):
            found.update(dict.fromkeys(map(str, match.get(_SOP_CLASSES, {}).get("Value") or ())))
    except Refused:
        # It answers no queries: it may still send.
        return []
    return list(filter(is_storage, found))


def _storage_proposals(classes: list[str]) -> list[Proposal]:
    """Of known classes a context for each syntax, so that each instance can come as it is stored there; else the common ones."""
    if classes:
        compressed = [uid for uid, one in TABLE.items() if one.encapsulated and one.coding is not Coding.REFERENCED]
        each = [Proposal(uid, (syntax,)) for uid in classes for syntax in compressed]
        plain = [Proposal(uid, (syntax,)) for uid in classes for syntax in PLAIN]
        return [*plain, *each]
    return [Proposal(uid, PLAIN) for uid in _common()]


def _common() -> Iterable[str]:
    """The storage classes in use: 120 or so, which leaves room for the model's own context."""
    # Not before it is needed: it is a tenth of what `pacs serve` would load.
    from pynetdicom.presentation import StoragePresentationContexts

    return (str(one.abstract_syntax) for one in StoragePresentationContexts)


def _retrieved(
    association: Requested,
    context: Context,
    field: CommandField,
    level: Level,
    keys: Dataset,
    watch: Callable[[Progress], None],
    **elements: Any,
) -> Progress:
    message_id = association.begin(
        context,
        field,
        [_encoded(context, level, keys)],
        AffectedSOPClassUID=context.abstract_syntax,
        Priority=0,
        **elements,
    )
    while True:
        message = association.response_to(message_id)
        association.drain(message)
        progress = _progress(message)
        if message.status not in PENDING:
            break
        watch(progress)
    if message.status >> 12 in (0xA, 0xC) or message.status >> 8 == 1:
        raise Failed(field.name.replace("_", "-"), association.peer.called_ae, message)
    watch(progress)
    return progress


def _progress(message: Message) -> Progress:
    names = ("Remaining", "Completed", "Failed", "Warning")
    return Progress(message.status, *(int(message.command.get(f"NumberOf{name}Suboperations", 0)) for name in names))


def _pending(association: Requested, message_id: int, what: str, title: str) -> Iterator[Message]:
    """The pending responses; ends with the last one, of success or of what was cancelled."""
    while True:
        message = association.response_to(message_id)
        if message.status not in PENDING:
            association.drain(message)
            break
        yield message
    if message.status not in (Status.SUCCESS, Status.CANCEL):
        raise Failed(what, title, message)


def _model(field: CommandField, level: Level) -> str:
    study_root, patient_root = _MODELS[field]
    return patient_root if level is Level.PATIENT else study_root


def _encoded(context: Context, level: Level, keys: Dataset) -> bytes:
    added: Mapping[str, Mapping[str, Any]] = {QUERY_LEVEL: {"vr": "CS", "Value": [level.value]}}
    whole = {**keys, **added}
    whole.pop(CHARACTER_SET, None)
    return Encoder(context.transfer_syntax, (UTF_8,)).encode(whole)
