"""The DICOM conformance statement (PS3.2), made of the tables that drive the code. Pure but for what it is given of the web."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydicom.uid import UID

from pacs import coercion_conformance
from pacs.dimse import CommandField, Status
from pacs.hl7 import orders
from pacs.hl7.listener import HL7Limits
from pacs.hl7.messages import CHARACTER_SETS
from pacs.processing.committing import REPORT_SECONDS, SAME_ASSOCIATION_SECONDS
from pacs.processing.nodes import AWAY_SECONDS, MOST_AT_ONCE
from pacs.processing.sending import LINGER_SECONDS
from pacs.scp import negotiation, sop_classes
from pacs.scp.identifiers import UTF_8
from pacs.scp.services import SERVICES
from pacs.scp.session import REJECTED
from pacs.scp.settings import DimseSettings
from pacs.scp.sop_classes import SOP_CLASSES, Kind
from pacs.scp.suboperations import MOST_NAMED, RetrieveStatus
from pacs.scu.associating import MOST_CONTEXTS
from pacs.scu.delivery import MOST_BREAKS, MOST_REPEATS
from pacs.scu.web import LOGIN_PREFIX
from pacs.tls import Profile, suites_of
from pacs.tokens import ALGORITHMS
from pacs.upper_layer import IDENTITY_NOT_ACCEPTED
from storage import commitment, mpps_rules, worklist_entries
from storage import conformance as stored
from storage.attributes import LEVELS as ALL_LEVELS
from storage.commitment import AT_ONCE
from storage.conformance import table
from storage.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.worklist_entries import OFFERED

_INTRODUCTION: Final = """\
# DICOM conformance statement

Of Lightbox, after the template of PS3.2. Every table is made from the one that the program itself works by: `pacs conformance`
prints this page, and a test fails when it says something else. "Not yet" means that it is not there."""

_OVERVIEW: Final = (
    ("Verification (C-ECHO)", "yes", "`pacs ae echo`", ""),
    ("Storage (C-STORE)", "yes", "C-MOVE, `pacs send`, routes", "every storage SOP class, private ones too, in any transfer syntax"),
    ("Query (C-FIND)", "yes", "`pacs find`, `/admin/remote`, priors", "patient root, study root, patient/study only"),
    ("Retrieve (C-MOVE, C-GET)", "yes", "`pacs fetch`, `/admin/remote`, priors", "patient root, study root, patient/study only"),
    ("Storage commitment", "yes", "`pacs send --commit`, routes", "push model; as SCU reports are taken on the same association and on one of the node's own"),
    ("Unified procedure steps (PS3.4 annex CC)", "yes", "not yet", "UPS Push, Pull, Watch, Event and Query over the store of UPS-RS (see Worklist). A Receiving AE must be a node that can be called, or the caller itself with a context of UPS Event (else C308). Events go out by N-EVENT-REPORT, in order and each once (again only where the server died before it could note the answer): on an association that the Receiving AE has opened with a context of UPS Event as its user, which then may be silent for any time; while there is none on an association of ours, tried again with pauses of 5 s to 10 min for a week"),
    ("Modality worklist (C-FIND)", "yes", "no", "every key of PS3.4 table K.6-1 (chapter 4); entries by `/admin/worklist`, `/api/worklist`, `pacs worklist` and HL7 orders (chapter 10)"),
    ("HL7 v2 orders over MLLP", "yes, off by default", "no", "ORM^O01, OMG^O19, OMI^O23, ADT^A08, A31, A40 become entries of the modality worklist (chapter 10)"),
    ("Modality performed procedure step (MPPS)", "yes", "no", "N-CREATE, N-SET, and N-GET of the retrieve SOP class; no notification (F.9); `/api/procedure-steps`"),
    ("Instance availability notification (PS3.4 annex R)", "no", "yes", "to the nodes of `PACS_AVAILABILITY_NODES`, 15 s after a study has begun to change: all its instances, ONLINE or (deleted) UNAVAILABLE; tried three times"),
    ("Media creation, print", "no", "no", ""),
    ("DICOMweb: store, search, retrieve, worklist", "yes", "no", "STOW-RS, QIDO-RS, WADO-RS, WADO-URI, UPS-RS with events on WebSockets"),
    ("DICOMweb: delete, capabilities, non-patient instances", "not yet", "no", ""),
    ("Media (PS3.10, PS3.11)", "read", "no", "`pacs import` reads files, folders, zip archives and what a DICOMDIR lies beside; writes none"),
)

# Byte of the service-class-application-information of C-FIND (PS3.4 C.5.1.1.1), from the first.
_FIND_FLAGS: Final = (
    "relational queries",
    "date and time combined",
    "fuzzy matching of names",
    "time zone adjustment",
    "enhanced multi-frame conversion",
)

_AS_SCU: Final = f"""\
To a node that is registered with TLS (`pacs ae add … --tls`) every association is one over TLS: it must show the certificate that is pinned
for it, or one that comes from `PACS_DIMSE_TLS_CA` and is for its host; our own certificate is shown where it asks for one.

C-ECHO by `pacs ae echo TITLE`: one association, one presentation context, Verification.

C-FIND by `pacs find AE`: patient root at PATIENT level, else study root; identifiers in {UTF_8}. C-GET and C-MOVE by `pacs fetch AE`,
study root. For C-GET the SOP classes are asked for by C-FIND first (SOP Classes in Study), and a context proposed for each of
them and each transfer syntax; where the node does not say them, the common storage classes in uncompressed syntaxes.

Storage commitment by `pacs send AE --commit`: N-ACTION of at most 200 instances each, whose N-EVENT-REPORT is waited for {SAME_ASSOCIATION_SECONDS:g} s on
the same association; one on an association of the node's own is taken by any process that serves DIMSE, where its Transaction UID is one of
ours (else 0115), whether or not the node negotiates the role of SCP.

C-STORE by `pacs send AE`, and to the destination of a C-MOVE, which must be a known node (`pacs ae add`), else A801. A presentation context for each SOP
class and each transfer syntax in which something of it is stored, and for Explicit and Implicit VR Little Endian; more than
{MOST_CONTEXTS} make another association. Move Originator AE Title and Message ID name the request. The associations of a
move are kept to its end. One that breaks is asked for again, and the instance in hand sent a second time; after
{MOST_BREAKS} breaks in a row, or when the node cannot be reached, the rest counts as failed. A7xx is asked again, {MOST_REPEATS} times
in a move. Pending responses come at most ten times
a second. Instances that failed are named, {MOST_NAMED} at most; the log has all.

Routes (`pacs route`, default destinations of a node) send what has come in the same manner, from a worker: what has come of a study is one
transfer for each route, on as many associations as the route says (one at first), with its Priority (0000,0700), and a study of which more
is coming keeps its association for {LINGER_SECONDS:g} s after the last. A series or study that is sent whole waits until nothing of it has come for
a while and no performed procedure step of it is IN PROGRESS, or, where MPPS tells, until its steps have ended and all that they name
is here. A worker has {MOST_AT_ONCE} transfer with a node at a time, and one of high priority beside it. One that has
failed is tried again after 30 s and after 5 min, with what was not sent, then it waits for an administrator; while a node cannot be reached,
one of its transfers looks every {AWAY_SECONDS:g} s, and the others lose no try. What came from the node itself, what replaces an earlier version, and what
this archive has fetched is not sent on, the latter two unless a route says so. Where a route asks for storage commitment, what the node
does not commit to is sent again, and a report that has not come after {REPORT_SECONDS / 60:g} min is asked for again, three times in all.

A node with a URL (`pacs ae add TITLE --url`) is sent to by STOW-RS (PS3.18 10.5): a request for each instance, as it is stored and never
transcoded, application/dicom in multipart/related with its length; 200 and 202 have stored it, the reason of 409 is kept, and 429, 502, 503 and 504
are asked again after 0.5 s and 2 s. What lets us in is in the environment, `{LOGIN_PREFIX}` and the name that the node gives (`--login`): a
bearer token, or user and password for basic authentication. It is not asked for storage commitment.

Priors (`pacs prefetch`) are asked for by C-FIND, study root, with Patient ID and Study Date, when a worklist entry is made or the first instance of a
study comes; Patient ID and, where both sides have it, its issuer are compared again; an ID with wildcards is not asked for. Modality and body
part are compared by Modalities in Study, else by a query of the series. They come by C-GET or C-MOVE, one study at a time from each node."""

_SECTIONS: Final = {Profile.BCP_195: "B.12", Profile.MODIFIED: "B.13"}
_PROFILES: Final = table(
    ("`PACS_DIMSE_TLS_PROFILE`", "PS3.15", "TLS", "cipher suites for TLS 1.2"),
    ((profile.value, _SECTIONS[profile], "1.2, 1.3", suites_of(profile)) for profile in Profile),
)

_SECURITY: Final = f"""\
DIMSE over TLS on a port of its own (`PACS_DIMSE_TLS_PORT`; 2762 is registered), by setting beside the other or alone, after one of these profiles:

{_PROFILES}

TLS 1.3 is taken where both speak it; there is no renegotiation, compression or session ticket, and certificates need RSA keys of 2048
bits or elliptic ones, and SHA-256. Client certificates are required, or optional by setting, and must come from an authority, or
be one of the certificates, in `PACS_DIMSE_TLS_CA`. A calling AE title can be bound to TLS (`pacs ae add … --tls-only`) and to
certificates of its own (`--certificate`, by their SHA-256): with another one, or none, its association is rejected as of a calling AE
title that is not recognized, and the administrator is asked. Certificate revocation is not checked.

There is no TLS for HTTP, no authentication of users, and no audit trail (PS3.15 A.5). Both services listen on loopback only unless the administrator says that the network itself lets only the right
people in; a proxy can add TLS and authentication to HTTP. On loopback, requests whose Host is not this machine's are
answered 421. No CORS headers are sent: pages of other origins read nothing. Executable preambles are blanked on the way out (PS3.10 7.5)."""

_EXTENSIONS: Final = f"""\
Beyond the standard, and where it is read differently:

- **Stored as sent.** Nothing is coerced unless there are rules for it: files are given back byte for byte, group 0002 made anew where it contradicts the
  data set. A Study or Series Instance UID that is missing is assigned in the index and in metadata, not in the file.
- **Imperfect instances are kept** and flagged, UIDs that break PS3.5 9.1 among them; what cannot be identified is refused.
- **Duplicates.** The same bytes again: success. Other bytes under a known SOP Instance UID: by setting kept apart in quarantine and
  refused with 0111, or taken in its place. PS3.4 B.2.3 does not list 0111.
- **Deletion** (no service of DICOM; over HTTP, and by the administrator) hides instances from every service at once and can be
  undone. With 113001, 113037 or 113038 (PS3.16 CID 7011) an instance that comes again is refused with 0124; deleted for any
  other reason it is stored again.
- **Rejection notes** (IHE Imaging Object Change Management, RAD-66: Key Object Selection documents titled 113001, 113037, 113038 or
  113039) delete so what they name of their own study in Current Requested Procedure Evidence Sequence, as far as it is stored, where the
  sender has the right to `reject` (over DIMSE; unless `PACS_REJECTION_NOTES=keep`; with `regular-use` what 113001 names stays in use, as
  RAD-66 4.66.4.1.3 lets a site choose). The note itself stays, and is found, for
  whoever has the images elsewhere; but one titled 113039 (Data Retention Policy Expired) is deleted as well, an hour after
  it was applied, when its sender has asked for storage commitment, unless what it names is there again. Images that come only after a note
  are not rejected.
- **C-FIND** adds Retrieve AE Title (0008,0054), this archive's own.
- **C-MOVE and C-GET** need the unique key of its level only; keys above it narrow what is sent where they are given, keys below it are
  refused (A900). Nothing found is success with no sub-operations. Keys are lists of UIDs at every level but PATIENT.
- **C-FIND without hierarchy.** SERIES and IMAGE queries need a value for any one of the unique keys from the study down, not all
  of those above their level. Attributes of a lower level are matched (one and the same series or instance must have them) and are
  empty in the answers, which then say FF01.
- **Several values** in a key mean any of them, also without negotiation; two quotation marks mean empty, also without negotiation.
- **User identity** of any kind is taken; user names are recorded as claimed (PS3.15 B.4). JSON web tokens are checked where `PACS_OIDC_ISSUERS` are set: signature
  ({", ".join(ALGORITHMS)}), issuer, audience and times; one that is not right is rejected ({IDENTITY_NOT_ACCEPTED.result}, {IDENTITY_NOT_ACCEPTED.source}, {IDENTITY_NOT_ACCEPTED.reason}: permanent, by the service provider, no reason given). Passcodes are not checked.
  Kerberos service tickets and SAML assertions (PS3.15 B.6, B.7) are not supported: the association is accepted without a server response, as PS3.7 D.3.3.7
  has it of who does not support them, and the log says so. With `PACS_DIMSE_USER_IDENTITY=verified` only a token that is right gets an association. A wanted answer is given, empty, for a name and for a token that was checked; none
  for the rest, for it would say that they were believed (PS3.7 D.3.3.7). As requestor it is told to nodes that an administrator has said it for (`pacs ae identity`): a user
  name, with or without a passcode, or a JSON web token, and whether they are asked for a server response; where none comes the association goes on, and the log and C-ECHO say so.
- **DICOMweb** takes `application/json` for `application/dicom+json`, presets by name in `window`, and comma-separated UI and CS
  values; it ignores `charset`."""


def statement(web: str, settings: DimseSettings | None = None) -> str:
    """The statement in Markdown. `web` is its chapter on DICOMweb, `settings` the limits that it states."""
    chapters = (
        ("1 Overview", table(("service", "as SCP or server", "as SCU or client", ""), _OVERVIEW)),
        ("2 DIMSE", _dimse(settings or DimseSettings())),
        ("3 DICOMweb", web),
        ("4 Query keys", _keys()),
        ("5 Transfer syntaxes", _syntaxes()),
        ("6 Errors and statuses", _statuses()),
        ("7 Character sets", _character_sets()),
        ("8 Extensions and specialisations", _EXTENSIONS),
        ("9 Security", _SECURITY),
        ("10 HL7 v2", _hl7()),
    )
    return "\n\n".join((_INTRODUCTION, *(f"## {title}\n\n{text}" for title, text in chapters))) + "\n"


def _dimse(settings: DimseSettings) -> str:
    parts = (
        ("Associations (PS3.8)", _associations(settings)),
        ("Rejections (PS3.8 9.3.4)", _rejections()),
        ("SOP classes as SCP", _sop_classes()),
        ("Coercion of attributes (PS3.4 B.2.3)", coercion_conformance.section()),
        ("AE titles that de-identify (PS3.15 E)", coercion_conformance.deidentification()),
        ("Storage commitment (PS3.4 J)", _commitment()),
        ("Modality performed procedure steps (PS3.4 F)", _performed_steps()),
        ("Extended negotiation (PS3.7 D.3.3)", _extended()),
        ("As SCU", _AS_SCU),
    )
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def _associations(settings: DimseSettings) -> str:
    called = "any" if settings.any_called_ae else "its own, of which there may be several; any by setting"
    rows = (
        ("application context", negotiation.APPLICATION_CONTEXT),
        ("implementation class UID", IMPLEMENTATION_CLASS_UID),
        ("implementation version name", IMPLEMENTATION_VERSION_NAME),
        ("AE title, port", f"`{settings.ae_title}`, {settings.port}, by setting"),
        ("called AE title", called),
        (
            "calling AE title",
            "by the registry: known nodes from their addresses with their rights; others everything or nothing, by setting",
        ),
        ("associations at a time", f"{settings.max_associations} in each process; then one from an address with fewer of them than another takes the place of one of that other which has been at rest for {settings.rested_seconds:g} s (A-ABORT), else A-ASSOCIATE-RJ"),
        (
            "initiated",
            "by `pacs ae echo`, `send`, `find` and `fetch`, and the same in `/admin/`; by routes and rules for priors; for C-MOVE, and"
            " reports of storage commitment. All but those of C-ECHO are in the log of associations",
        ),
        ("largest PDU received", f"{settings.max_pdu_bytes} bytes"),
        (
            "asynchronous operations",
            f"{negotiation.MOST_OPERATIONS} invoked by the peer, 1 where it proposes C-GET; answered in their order; 1 invoked by us",
        ),
        ("A-ASSOCIATE-RQ", f"within {settings.request_seconds:g} s, at most {settings.max_request_bytes} bytes"),
        ("sockets that have not negotiated", f"{settings.max_waiting}, {settings.max_waiting_per_address} of an address"),
        (
            "inside a message",
            f"aborted after {settings.message_idle_seconds:g} s without a byte, or under {settings.min_bytes_per_second} bytes/s",
        ),
        (
            "a data set that is announced and does not begin",
            f"refused after {settings.data_set_seconds:g} s, and passed over should it come after all; that of a C-STORE as inside a message",
        ),
        ("between messages", f"aborted after {settings.idle_seconds:g} s"),
        ("command set, identifier", f"at most {settings.max_command_bytes} and {settings.max_identifier_bytes} bytes"),
    )
    return table(("what", "value or default"), rows)


def _rejections() -> str:
    rows = ((name, str(why.result), str(why.source), str(why.reason)) for why, name in REJECTED.items())
    return f"""{table(("because of", "result", "source", "reason"), rows)}

A presentation context that the caller has no right to use is rejected with result {negotiation.USER_REJECTION} (user-rejection, PS3.8 9.3.3.2). A
request on one that was accepted for the other role alone is answered with {Status.NOT_AUTHORIZED:04X} (not authorized, PS3.7 C)."""


def _short(sop_class_uid: str) -> str:
    return UID(sop_class_uid).name.removesuffix(" Storage")


def _sop_classes() -> str:
    rows = (
        *((UID(uid).name, uid, _operations(row.kind), ", ".join(row.levels or map(_short, row.about))) for uid, row in SOP_CLASSES.items()),
        ("every other storage SOP class", "", "C-STORE", "level 2, full: every attribute is kept (PS3.4 B.4.1)"),
    )
    text = table(("SOP class", "UID", "service", "levels"), rows)
    not_storage = ", ".join(f"{UID(uid).name} ({uid})" for uid in sorted(sop_classes.NOT_STORAGE))
    services = ", ".join(dict.fromkeys(_name(field) for field, _ in SERVICES))
    return f"""{text}

Storage is every SOP class whose name in the dictionary says so, retired ones too, and every UID that the dictionary does not
know: private SOP classes and those of later editions; unless the sender says, by common extended negotiation, that it belongs to
another service class. Not storage: {not_storage}.

Of the transfer syntaxes of a context the first is taken that the sender proposes and chapter 5 lists; Explicit VR Little Endian,
if it is proposed too, instead of Implicit VR or Big Endian; an unlisted one when there is no other. Queries:
{_names(sop_classes.PLAIN)}.

Where the peer is SCP of storage for C-GET, Explicit VR Little Endian is taken wherever it is proposed, else Implicit VR: propose a
context for each transfer syntax to get instances as they are stored.

Operations: {services}, and C-CANCEL of C-FIND, C-MOVE and C-GET, looked for between two answers. Any other command is answered
{Status.UNRECOGNIZED_OPERATION:04X}, one on the wrong context {Status.SOP_CLASS_NOT_SUPPORTED:04X}."""


def _commitment() -> str:
    rows = ((f"{failure:04X}", meaning) for failure, meaning in commitment.MEANINGS.items())
    return f"""N-ACTION is answered 0000 when the request is in the job queue, which outlasts a crash. Every instance is looked up and read
again from the store; committed to are those whose size, SHA-256 and SOP class are as received. N-EVENT-REPORT goes out on the same
association, if the requester has kept it and asks for at most {AT_ONCE} instances or is no known node; else on a new one to the
node of the requester's AE title (`pacs ae add`), with role selection (SCU 0, SCP 1), three times with growing pauses; then an
administrator finds it among the dead jobs. Retrieve AE Title is this archive's.

{table(("failure reason", "meaning"), rows)}"""


def _hl7() -> str:
    ends = ((f"`{control}`", state or "SCHEDULED; changed where it is there") for control, state in orders.CONTROLS.items())
    limits = HL7Limits()
    changed = ((f"`SC`, ORC-5 `{status}`", state) for status, state in orders.STATUSES.items())
    return f"""After IHE Radiology, RAD-4. MLLP on `PACS_HL7_PORT`, and in TLS (with client certificates,
as for DICOM) on `PACS_HL7_TLS_PORT`; none by default. `PACS_HL7_SENDERS` and `PACS_HL7_SENDER_CERTIFICATES` say who may send; who may
not is in the log of associations. Taken are {', '.join(orders.TAKEN)}; each is answered AA when what it asks
for is durable, with all orders of a message done or none. AE: such messages are taken, and this one lacks something; AR: they are not. The reason
is in words in MSA-3 and ERR-8, its code (table 0357) in ERR-3. A message that comes again byte for byte is answered again and done once.
Limits: {limits.message_bytes >> 10} KiB and {limits.message_seconds:g} s for a message, {limits.connections} connections, {limits.connections_per_address} of an address.

An order is that of its Study Instance UID, else of its filler order number, placer order number or accession number; in it, of its step
where Scheduled Procedure Step ID is given. One that is another patient's is refused (AE). A study UID that is not given is made, one for each requested procedure. Without a station an entry
is for every one that asks. `""` empties a field; one that is not there stays as it is. Text for people is cut to what DICOM holds, identifiers are refused where they are longer.
A08 and A31 change the patient of what is not over, A40 gives it the new identifier. Character sets of MSH-18:
{", ".join(f"`{name}`" for name in CHARACTER_SETS)}; without, UTF-8 where it is that, else Latin-1.

{table(("ORC-1", "status of the entry"), (*ends, *changed))}

{table(("attribute", "from", ""), orders.table_rows())}"""


def _performed_steps() -> str:
    finals = {"": "", "R": "every final state", "C": "COMPLETED"}
    rows = (
        (f"{'>' * (len(rule.path) - 1)}{rule.path[-1]}", rule.create, "yes" if rule.change else "no", finals[rule.final])
        for rule in mpps_rules.RULES
    )
    statuses = ((f"{why:04X}", why.name.replace("_", " ").lower()) for why in mpps_rules.Refusal)
    return f"""An N-CREATE without a SOP Instance UID is given one. What table F.7.2-1 wants of type 2 and a modality leaves out is taken as empty.
An N-SET may say again what it may not change. Every entry of the worklist that a step performs (Study Instance UID and Scheduled
Procedure Step ID; else Accession Number, Requested Procedure ID and Scheduled Procedure Step ID) is STARTED while one of its steps
is in progress, then COMPLETED if one of them is, else DISCONTINUED; SCHEDULED again when all of them were discontinued because of the wrong entry
(DCM 110514). A step that has ended is answered 0110 with Error ID {mpps_rules.NO_LONGER:04X}. Refusals name the attributes in Attribute Identifier List.

{table(("attribute", "N-CREATE", "N-SET may change it", "needs a value in"), rows)}

{table(("status", "meaning"), statuses)}"""


def _name(field: CommandField) -> str:
    return field.name.replace("_", "-")


def _operations(kind: Kind) -> str:
    return ", ".join(_name(field) for field, of in SERVICES if of is kind)


def _extended() -> str:
    find = sop_classes.FIND_INFORMATION.ljust(len(_FIND_FLAGS), b"\0")
    flags = ((f"C-FIND: {name}", "yes, where asked for" if flag else "no") for name, flag in zip(_FIND_FLAGS, find, strict=True))
    level, _, signatures, _, coercion, _ = sop_classes.STORAGE_INFORMATION
    rows = (
        *flags,
        ("C-STORE: level of support", str(level)),
        ("C-STORE: level of digital signature support", str(signatures)),
        ("C-STORE: element coercion", str(coercion)),
        ("C-MOVE, C-GET: relational retrieval", "yes, where asked for"),
        ("C-MOVE, C-GET: enhanced multi-frame conversion", "no"),
        ("SCP/SCU role selection", "the peer may be SCU of every context; SCP of storage, where it proposes C-GET too"),
        ("common extended negotiation", "read: the service class of a SOP class that is not known"),
        ("user identity", "any kind, required by setting; JSON web tokens checked by setting; user names recorded, not checked; Kerberos and SAML not supported: accepted without a response"),
    )
    return table(("item", "answer"), rows)


def _keys() -> str:
    levels = (f"### {level}\n\n{stored.keys(level)}" for level in ALL_LEVELS)
    worklist = f"### Modality worklist (PS3.4 table K.6-1)\n\n{_WORKLIST}\n\n{_worklist_keys()}"
    return "\n\n".join((_KEYS, "### Matching (PS3.4 C.2.2.2)", stored.matching(), *levels, worklist))


_WORKLIST: Final = f"""\
Every key is matched as in the table above, those of the scheduled procedure step inside its sequence, and a range of dates with a range
of times as one range of moments. Answered are the entries whose status is {", ".join(sorted(OFFERED))}, by when they begin, unless
the query names a status. A key that is not in the table is taken as empty (FF01). An entry that is for no station in particular is
for the one that asks: its title is the one in the key, else the calling AE title. A sequence key without keys in it asks for the whole step."""


def _worklist_keys() -> str:
    rows = (
        (f"{'>' if key.of_step else ''}{key.keyword} ({key.tag[:4]},{key.tag[4:]})", key.vr, key.matching, key.returned, ", ".join(key.inside))
        for key in worklist_entries.KEYS
    )
    return table(("attribute", "VR", "matching", "returned", "items have"), rows)


_KEYS: Final = """\
For C-FIND and QIDO-RS alike. Key types as in PS3.4 C.6.1.1: U unique, R required, O optional; in the study root model the
patient's attributes belong to the STUDY level. "Unasked" is what QIDO-RS returns without `includefield`; C-FIND returns what was asked
for, of its own level and those above. A required or optional key that an instance has not got matches only empty or universal
keys. An attribute that is in none of these tables belongs to the instance, and is matched and returned at the IMAGE level. Keys that cannot be
matched are taken as empty by C-FIND (FF01), and refused by QIDO-RS (400)."""


def _syntaxes() -> str:
    return (
        f"{stored.transfer_syntaxes()}\n\nAny other is stored and given back as it came. C-GET and C-MOVE give an instance in Explicit or"
        " Implicit VR Little Endian where the peer does not take the stored syntax, if that can be decoded, or else in one that can be"
        " encoded without loss; otherwise it is a failed sub-operation, unless a lossy transfer syntax is among those of the node in the"
        " registry of AE titles (`pacs ae`, `/api/aes`): then it is sent with loss in that, as below. For DICOMweb"
        " single frames are decoded or encoded. Frames of 1, 8, 16, 32 and 64 bits allocated and of one or three samples can be"
        " decoded; of 8 and 16 bits encoded in each of the syntaxes that say so, of 1 and 32 bits in RLE and as deflated frames."
        "\n\n### Compression with loss\n\nWADO-RS, WADO-URI and frames give it to who names one of these transfer syntaxes by its UID, never by `*`, a media type or"
        f" a default:\n\n{stored.lossy()}\n\nWhat comes is another instance (PS3.3 C.7.6.1.1.5) in the same study and series: its SOP"
        " Instance UID is made of that of the source, the transfer syntax and the parameters, so that it is the same each time; Image Type and"
        " Frame Type are DERIVED; Lossy Image Compression is 01, with Ratio and Method appended; Derivation Description, Derivation Code Sequence"
        " (113040, DCM) and Source Image Sequence (121320, or 121322 where the source was lossy) say what of. Smallest and Largest Image Pixel"
        " Value are left out. Segmentations, doses, parametric maps and palette colour are refused."
    )


def _statuses() -> str:
    ours = (
        *(Status.SUCCESS, Status.COERCION, Status.PENDING, Status.PENDING_WITHOUT_SOME_KEYS, Status.CANCEL, Status.MISTYPED_ARGUMENT),
        *RetrieveStatus,
    )
    rows = ((f"{status:04X}", status.name.replace("_", " ").lower()) for status in ours)
    return (
        f"{stored.errors()}\n\n{stored.limits()}\n\nError Comment (0000,0902) and the HTTP body say in words what was wrong. C-STORE warns of nothing but coercion."
        f" Other DIMSE statuses:\n\n{table(('status', 'meaning'), rows)}"
    )


def _character_sets() -> str:
    return f"""Read (PS3.3 C.12.1.1.2), with code extensions (PS3.5 6.1.2.5), and misspelt forms of these:
{stored.character_sets()}.

Unknown terms are flagged and read as ASCII; undeclared bytes above 7F as UTF-8 if they are that, else as Latin-1. C-FIND answers in
ASCII where that says it, else in the request's character set if that is a single one without code extensions and can say it,
else in `{UTF_8}`. DICOMweb is UTF-8, and says `{UTF_8}` in (0008,0005)."""


def _names(uids: Iterable[str]) -> str:
    return ", ".join(UID(uid).name for uid in uids)
