"""What the conformance statement says of rules of coercion and of originals (PS3.2 N.5.2.5.2)."""

from __future__ import annotations

from typing import Final

from storage.coercion.rules import Action
from storage.conformance import table

_ACTIONS: Final = {
    Action.SET: ("ADDED, MODIFIED", "a value, whatever was there"),
    Action.COPY: ("ADDED, MODIFIED", "the value of another attribute, where it has one"),
    Action.MOVE: ("ADDED, MODIFIED, REMOVED", "copied, and removed where it was"),
    Action.REMOVE: ("REMOVED", "the attribute is left out"),
    Action.PREFIX: ("MODIFIED", "put before each value that has it not"),
    Action.SUFFIX: ("MODIFIED", "put behind each value that has it not"),
}


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
