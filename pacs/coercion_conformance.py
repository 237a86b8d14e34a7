"""What the conformance statement says of rules of coercion and of originals (PS3.2 N.5.2.5.2)."""

from __future__ import annotations

from typing import Final

from storage.coercion.rules import Action
from storage.conformance import table
from storage.deidentification.profile import CODES, MEANING, Word
from storage.deidentification.table import ACTIONS

_ACTIONS: Final = {
    Action.SET: ("ADDED, MODIFIED", "a value, whatever was there"),
    Action.COPY: ("ADDED, MODIFIED", "the value of another attribute, where it has one"),
    Action.MOVE: ("ADDED, MODIFIED, REMOVED", "copied, and removed where it was"),
    Action.REMOVE: ("REMOVED", "the attribute is left out"),
    Action.PREFIX: ("MODIFIED", "put before each value that has it not"),
    Action.SUFFIX: ("MODIFIED", "put behind each value that has it not"),
}


def deidentification() -> str:
    """The section on titles that de-identify."""
    words = ((f"`{word}`", " ".join(CODES.get(word, ("", ""))), MEANING[word]) for word in Word)
    return f"""\
An AE title of this archive may have a profile of de-identification (`pacs ae own-add … --deidentify`, `/api/own-aes`, `/admin/`): what is sent
to it by C-STORE is changed by PS3.15 table E.1-1 (2026c, {len(ACTIONS)} attributes), at every depth, before it is stored, and answered with B000.

{table(("word", "code (DCM)", "what it means"), words)}

- Of X/Z an attribute is emptied, of Z/D, X/D and X/Z/D it gets a dummy, since the IOD is not asked; sequences of X/D are removed.
  Beyond the table, names (PN) are emptied, prose (LT, ST, UT), attributes that no dictionary knows, private ones, curves and overlays removed, UIDs of instances
  replaced; what is left of text with a word of any name, or a number of the patient or order, in it is emptied.
- UIDs become other UIDs, Patient ID and Patient's Name a pseudonym, and dates (`modify-dates`) are moved by 1 to 3650 days, by HMAC-SHA-256 under a
  secret of the archive's database: the same for the same patient and UID, whatever is sent when. Who loses the database loses the secret.
- Content Sequence of reports becomes one item that says nothing; Graphic Annotation Sequence is removed; File Meta Information is made anew.
- Pixel data is not looked at. Burned In Annotation YES, encapsulated documents and overlays in unused bits of pixels are refused (C000); so are, unless
  they say NO or the profile has `unchecked-pixels`, secondary captures, saved screens, ultrasound and photographs. Faces can be seen in slices of a head.
- What was received is not kept, unless by `keep-originals`. Storage commitment for the UIDs that were sent says that there are no such
  instances. With `retain-uids` the archive cannot also have the identified instance: the later one goes to quarantine."""


def section() -> str:
    """The section of the statement."""
    rows = ((f"`{action}`", *_ACTIONS[action]) for action in Action)
    return f"""\
Nothing is coerced unless an administrator has written rules for the calling AE title, or for one of this archive's (`pacs ae add
… --coerce`, `pacs ae own-add … --coerce`, `/api/aes`, `/api/own-aes`, `/admin/`). They hold for C-STORE, from the next association on;
what comes by STOW-RS or is imported is never coerced. The caller's rules come first, then those of the called title, in their order:

{table(("rule", "type of change (PS3.2 N.5.2.5.2)", "new value"), rows)}

Attributes may be in sequences; a rule may ask that its attribute has a value, or none, and that others match (`*`, `?`). Of type UI,
and of those that say how pixel data or text is to be read, none can be coerced. What was there is added to Original Attributes Sequence (PS3.3
C.12.1.1.9), COERCE or CORRECT by the rule, with the calling AE title as Source of Previous Values and the called one as Modifying
System. All other elements, pixel data among them, keep their bytes, and the transfer syntax stays; where a value needs it, text is
written in UTF-8. The answer is B000 with Offending Element, or success by setting of the node; what cannot be changed as its rules
want is refused with C000. The bytes as received are kept (`/api/instances/{{uid}}/original`, `pacs original`) for as long as the instance;
sent again, by whatever way, they are known to be there. Digital signatures are kept as they are, and may be untrue then."""
