"""What is accepted of an association request: contexts, transfer syntaxes, roles and the rest, by tables."""

from __future__ import annotations

import pytest
from pynetdicom import sop_class

from pacs.scp.negotiation import Context, choose, negotiate, rejection
from pacs.scp.sop_classes import is_storage
from pacs.upper_layer import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    ProposedContext,
    Reject,
    Role,
    UserIdentity,
    UserInformation,
)
from storage.transfer_syntaxes import TABLE
from tests.support.dimse_peer import (
    APPLICATION_CONTEXT,
    BIG,
    CT,
    EXPLICIT,
    IMPLICIT,
    PATIENT_ROOT,
    STUDY_ROOT,
    VERIFICATION,
)

JPEG, J2K, DEFLATED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99"
PRIVATE, PRIVATE_SYNTAX = "1.2.276.0.7230010.3.1.0.1", "1.2.840.113619.5.2"
WORKLIST, MPPS = "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3"
PRINT = "1.2.840.10008.5.1.1.9"


def request(*contexts: ProposedContext, **given: object) -> AssociateRequest:
    values: dict[str, object] = {
        "protocol_version": 1,
        "called_ae": "LIGHTBOX",
        "calling_ae": "PEER",
        "titles": bytes(64),
        "application_context": APPLICATION_CONTEXT,
        "contexts": contexts,
        "user": UserInformation(),
    }
    return AssociateRequest(**{**values, **given})  # type: ignore[arg-type]


def answered(*contexts: ProposedContext, user: UserInformation | None = None) -> tuple[AssociateAnswer, dict[int, Context]]:
    return negotiate(request(*contexts, user=user or UserInformation()), 131072)


@pytest.mark.parametrize(
    ("abstract_syntax", "proposed", "expected"),
    [
        # Verification: whatever is proposed.
        (VERIFICATION, (IMPLICIT,), (0, IMPLICIT)),
        (VERIFICATION, (IMPLICIT, EXPLICIT), (0, EXPLICIT)),
        (VERIFICATION, (JPEG,), (4, IMPLICIT)),
        (VERIFICATION, (JPEG, IMPLICIT), (0, IMPLICIT)),
        # Storage: the sender's order, but Explicit VR Little Endian before Implicit VR and Big Endian.
        (CT, (IMPLICIT,), (0, IMPLICIT)),
        (CT, (EXPLICIT, IMPLICIT), (0, EXPLICIT)),
        (CT, (IMPLICIT, EXPLICIT), (0, EXPLICIT)),
        (CT, (BIG, IMPLICIT, EXPLICIT), (0, EXPLICIT)),
        (CT, (BIG, IMPLICIT), (0, BIG)),
        (CT, (JPEG, EXPLICIT), (0, JPEG)),
        (CT, (EXPLICIT, JPEG), (0, EXPLICIT)),
        (CT, (IMPLICIT, JPEG), (0, IMPLICIT)),
        (CT, (J2K, JPEG, EXPLICIT), (0, J2K)),
        (CT, (DEFLATED, EXPLICIT), (0, DEFLATED)),
        # A syntax that nobody knows is taken when there is no other; one that is no UID never.
        (CT, (PRIVATE_SYNTAX,), (0, PRIVATE_SYNTAX)),
        (CT, (PRIVATE_SYNTAX, IMPLICIT), (0, IMPLICIT)),
        (CT, ("no-uid",), (4, None)),
        (CT, ("", EXPLICIT), (0, EXPLICIT)),
        (CT, (), (4, None)),
        # Private and unheard-of SOP classes are storage.
        (PRIVATE, (IMPLICIT,), (0, IMPLICIT)),
        ("1.2.840.10008.5.1.4.1.1.9999.1", (JPEG,), (0, JPEG)),
        ("not a uid", (IMPLICIT,), (3, None)),
        # Query: uncompressed syntaxes only.
        (STUDY_ROOT, (IMPLICIT,), (0, IMPLICIT)),
        (STUDY_ROOT, (BIG,), (0, BIG)),
        (STUDY_ROOT, (DEFLATED, JPEG, IMPLICIT), (0, IMPLICIT)),
        (STUDY_ROOT, (IMPLICIT, BIG, EXPLICIT), (0, EXPLICIT)),
        (PATIENT_ROOT, (DEFLATED,), (4, None)),
        ("1.2.840.10008.5.1.4.1.2.3.1", (EXPLICIT,), (0, EXPLICIT)),
        # Other services.
        (WORKLIST, (IMPLICIT,), (0, IMPLICIT)),
        (PRINT, (IMPLICIT,), (3, None)),
        (MPPS, (IMPLICIT,), (0, IMPLICIT)),
        ("1.2.840.10008.5.1.4.1.2.2.2", (IMPLICIT, EXPLICIT), (0, EXPLICIT)),
        ("1.2.840.10008.5.1.4.1.2.2.3", (IMPLICIT,), (0, IMPLICIT)),
        ("1.2.840.10008.5.1.4.1.2.4.2", (IMPLICIT,), (3, None)),
        ("1.2.840.10008.1.20.1", (IMPLICIT, EXPLICIT), (0, EXPLICIT)),
        ("1.2.840.10008.1.20.2", (IMPLICIT,), (3, None)),
        ("1.2.840.10008.1.3.10", (IMPLICIT,), (3, None)),
        ("1.2.840.10008.5.1.1.9", (IMPLICIT,), (3, None)),
        (EXPLICIT, (IMPLICIT,), (3, None)),
    ],
)
def test_contexts(abstract_syntax: str, proposed: tuple[str, ...], expected: tuple[int, str | None]) -> None:
    answer, contexts = answered(ProposedContext(7, abstract_syntax, proposed))
    (one,) = answer.contexts
    assert (one.id, one.result) == (7, expected[0])
    if expected[0]:
        assert contexts == {}
    else:
        assert one.transfer_syntax == expected[1]
        assert contexts == {7: Context(7, abstract_syntax, one.transfer_syntax)}


@pytest.mark.parametrize("syntax", sorted(TABLE))
def test_every_transfer_syntax_is_taken_as_it_comes(syntax: str) -> None:
    assert choose((syntax,)) == syntax


def test_every_storage_class_of_the_standard_and_no_other_service() -> None:
    storage = {str(uid) for uid in sop_class._STORAGE_CLASSES.values()}
    assert len(storage) > 150
    assert {uid for uid in storage if not is_storage(uid)} == set()
    services = [
        sop_class._VERIFICATION_CLASSES,
        sop_class._QR_CLASSES,
        sop_class._BASIC_WORKLIST_CLASSES,
        sop_class._PROCEDURE_STEP_CLASSES,
        sop_class._PRINT_MANAGEMENT_CLASSES,
        sop_class._STORAGE_COMMITMENT_CLASSES,
        sop_class._UNIFIED_PROCEDURE_STEP_CLASSES,
        sop_class._MEDIA_CREATION_CLASSES,
        sop_class._MEDIA_STORAGE_CLASSES,
    ]
    others = {str(uid) for classes in services for uid in classes.values()}
    assert len(others) > 30
    assert {uid for uid in others if is_storage(uid)} == set()


def test_a_sender_is_believed_about_the_service_class_of_its_own_sop_class() -> None:
    user = UserInformation(service_classes=((PRIVATE, "1.2.840.10008.4.2"), ("1.2.3", "1.2.840.10008.99")))
    answer, _ = answered(
        ProposedContext(1, PRIVATE, (IMPLICIT,)), ProposedContext(3, "1.2.3", (IMPLICIT,)), user=user
    )
    assert answer.contexts == (AnsweredContext(1, 0, IMPLICIT), AnsweredContext(3, 3, IMPLICIT))


@pytest.mark.parametrize(
    ("given", "titles", "expected"),
    [
        ({}, ("LIGHTBOX",), None),
        ({"called_ae": "OTHER"}, ("LIGHTBOX",), CALLED_AE_NOT_RECOGNIZED),
        ({"called_ae": "lightbox"}, ("LIGHTBOX",), CALLED_AE_NOT_RECOGNIZED),
        ({"called_ae": "OTHER"}, ("LIGHTBOX", "OTHER"), None),
        ({"called_ae": "OTHER"}, None, None),
        ({"calling_ae": ""}, None, CALLING_AE_NOT_RECOGNIZED),
        ({"protocol_version": 2}, None, PROTOCOL_VERSION_NOT_SUPPORTED),
        ({"protocol_version": 3}, None, None),
        ({"application_context": "1.2.3"}, None, APPLICATION_CONTEXT_NOT_SUPPORTED),
    ],
)
def test_rejection(given: dict[str, object], titles: tuple[str, ...] | None, expected: Reject | None) -> None:
    assert rejection(request(**given), titles) == expected


def test_plain_answer() -> None:
    answer, _ = answered(ProposedContext(1, VERIFICATION, (IMPLICIT,)))
    user = answer.user
    assert user.maximum_length == 131072
    assert user.implementation_class_uid
    assert 0 < len(user.implementation_version) <= 16
    assert (user.asynchronous_window, user.roles, user.extended, user.identity) == (None, (), (), None)


def test_window_and_roles() -> None:
    asked = UserInformation(
        asynchronous_window=(0, 8),
        roles=(Role(CT, scu=True, scp=True), Role(STUDY_ROOT, scu=False, scp=True)),
    )
    answer, _ = answered(ProposedContext(1, CT, (IMPLICIT,)), user=asked)
    assert answer.user.asynchronous_window == (16, 1)
    assert answer.user.roles == (Role(CT, scu=True, scp=False), Role(STUDY_ROOT, scu=False, scp=False))


GET = "1.2.840.10008.5.1.4.1.2.2.3"


@pytest.mark.parametrize(
    ("proposed", "role", "granted", "syntax"),
    [
        # PS3.4 C.5.3: the peer is provider of storage on an association on which it retrieves by C-GET.
        ((EXPLICIT,), (False, True), (False, True), EXPLICIT),
        ((IMPLICIT,), (True, True), (True, True), IMPLICIT),
        # What must do for everything that is stored: uncompressed, where that is proposed.
        ((J2K, IMPLICIT, EXPLICIT), (False, True), (False, True), EXPLICIT),
        ((J2K, IMPLICIT), (False, True), (False, True), IMPLICIT),
        ((J2K,), (False, True), (False, True), J2K),
        ((J2K, EXPLICIT), (True, False), (True, False), J2K),
    ],
)
def test_roles_for_a_retrieve(
    proposed: tuple[str, ...], role: tuple[bool, bool], granted: tuple[bool, bool], syntax: str
) -> None:
    user = UserInformation(roles=(Role(CT, *role), Role(GET, scu=True, scp=True)))
    answer, contexts = answered(ProposedContext(1, GET, (IMPLICIT,)), ProposedContext(3, CT, proposed), user=user)
    assert answer.user.roles == (Role(CT, *granted), Role(GET, scu=True, scp=False))
    assert (contexts[3].transfer_syntax, contexts[3].peer_uses, contexts[3].peer_provides) == (syntax, *granted)


@pytest.mark.parametrize(
    ("asked", "retrieves", "expected"),
    [
        # PS3.7 D.3.3.3: operations invoked and performed by the requestor; 0 is any number.
        (None, False, None),
        ((1, 1), False, (1, 1)),
        ((3, 3), False, (3, 1)),
        ((0, 0), False, (16, 1)),
        ((100, 0), False, (16, 1)),
        ((0, 8), True, (1, 1)),
    ],
)
def test_asynchronous_operations(
    asked: tuple[int, int] | None, retrieves: bool, expected: tuple[int, int] | None
) -> None:
    contexts = [ProposedContext(1, CT, (IMPLICIT,)), *([ProposedContext(3, GET, (IMPLICIT,))] if retrieves else [])]
    answer, _ = answered(*contexts, user=UserInformation(asynchronous_window=asked))
    assert answer.user.asynchronous_window == expected


def test_an_identity_that_wants_no_answer_gets_none() -> None:
    user = UserInformation(identity=UserIdentity(2, answer_wanted=False))
    answer, _ = answered(ProposedContext(1, CT, (IMPLICIT,)), user=user)
    assert answer.user.identity is None


@pytest.mark.parametrize(
    ("uid", "asked", "expected", "agreed"),
    [
        # PS3.4 C.5.1.1.1: relational, dates and times combined, fuzzy, time zone, enhanced conversion.
        (STUDY_ROOT, b"\1", b"\1", (True, False, False)),
        (STUDY_ROOT, b"\0", b"\0", (False, False, False)),
        (STUDY_ROOT, b"\1\1\1", b"\1\1\1", (True, True, True)),
        (STUDY_ROOT, b"\0\0\1\1\1", b"\0\0\1\0\0", (False, False, True)),
        (STUDY_ROOT, b"", b"", (False, False, False)),
        # PS3.4 C.5.2.1.1, C.5.3.1.1: relational retrieval, not enhanced multi-frame conversion.
        (GET, b"\1\1", b"\1\0", (True, False, False)),
        # PS3.4 B.3.1: level of support, digital signatures, coercion.
        (CT, b"\0\0\0\0\0\0", b"\2\0\3\0\0\0", (False, False, False)),
        (CT, b"\0", b"\2", (False, False, False)),
        (VERIFICATION, b"\1", None, (False, False, False)),
        (WORKLIST, b"\1\1\1\1", b"\1\1\1\0", (True, True, True)),
        (PRINT, b"\1", None, None),
    ],
)
def test_extended_negotiation(
    uid: str, asked: bytes, expected: bytes | None, agreed: tuple[bool, bool, bool] | None
) -> None:
    answer, contexts = answered(ProposedContext(1, uid, (IMPLICIT,)), user=UserInformation(extended=((uid, asked),)))
    assert dict(answer.user.extended).get(uid) == expected
    if agreed is not None:
        assert (contexts[1].relational, contexts[1].combined_times, contexts[1].fuzzy) == agreed


def test_extended_negotiation_of_what_is_not_proposed_is_not_answered() -> None:
    answer, _ = answered(ProposedContext(1, CT, (IMPLICIT,)), user=UserInformation(extended=((STUDY_ROOT, b"\1"),)))
    assert answer.user.extended == ()
