"""The file of settings, and the names that it and the environment may have: what is misspelt is told, not passed over.

The file is the one that `PACS_SETTINGS_FILE` names, else `lightbox.env` in the working folder where there is one; it has a
`NAME=value` a line, as systemd and Docker read it, and the environment wins over it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from storage.errors import LightboxError

PREFIX = "PACS_"
FILE_SETTING = "PACS_SETTINGS_FILE"
DEFAULT_FILE = "lightbox.env"


class SettingsError(LightboxError):
    """A setting is unknown or its value cannot be used; the text is one line that says which and what to set."""


def settings_file() -> Path | None:
    """The file that is read, or None. Raises SettingsError when a named file is not there."""
    named = os.environ.get(FILE_SETTING, "")
    if not named:
        default = Path(DEFAULT_FILE)
        return default if default.is_file() else None
    path = Path(named)
    if named == os.devnull:
        return None
    if not path.is_file():
        raise SettingsError(f"{FILE_SETTING} names {named}, and there is no such file")
    return path


def read(file: Path | None) -> dict[str, str | None]:
    """Names and values of a file as they stand there; nothing without one."""
    return dotenv_values(file, interpolate=False) if file is not None else {}


# What Kubernetes and Docker put into the environment for a service that happens to be called pacs…: not ours, not a typo.
_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?|ENV_\w+)|(\w+_)?PORT"
)


def check_names(values: Mapping[str, str | None], where: str, fields: set[str], *, strict: bool = False) -> None:
    """Raise SettingsError for names that are none of the settings' `fields`; `strict` also for those without the prefix."""
    known = fields | {FILE_SETTING}
    for name, value in values.items():
        if name in known or not (strict or name.upper().startswith(PREFIX)) or _is_link(name, value, known):
            continue
        tails = [one.removeprefix(PREFIX) for one in known]
        near = difflib.get_close_matches(name.upper().removeprefix(PREFIX), tails, n=1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "`pacs settings` lists all there are"
        raise SettingsError(f"{name} in {where} is not a setting; {hint}")


def _is_link(name: str, value: str | None, known: set[str]) -> bool:
    if name in known or not _SERVICE_LINK.fullmatch(name):
        return False
    return (
        not name.endswith("_PORT")
        or name.endswith("_SERVICE_PORT")
        or (value or "").startswith(("tcp://", "udp://"))
    )
