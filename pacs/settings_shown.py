"""The settings as people and other processes see them: a table with what each means, and the environment that makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pacs import setting_values
from pacs.settings import Settings
from pacs.settings_file import FILE_SETTING, PREFIX, read, settings_file


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as `pacs settings` shows it; secrets are masked in `value`."""

    name: str
    default: str
    meaning: str
    value: str
    origin: Literal["default", "environment", "file"]


def rows(settings: Settings) -> Iterator[SettingRow]:
    """Every setting with its default, meaning, present value and where that is from."""
    in_file = {name for name, value in read(settings_file()).items() if value}
    for field, about in Settings.model_fields.items():
        name = PREFIX + field.upper()
        if os.environ.get(name):
            origin: Literal["default", "environment", "file"] = "environment"
        else:
            origin = "file" if name in in_file else "default"
        yield SettingRow(
            name,
            _text(about.get_default()),
            about.description or "",
            setting_values.masked(_text(getattr(settings, field))),
            origin,
        )


def environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for a process that must have exactly these whatever the file says now."""
    values = {PREFIX + field.upper(): _text(getattr(settings, field)) for field in Settings.model_fields}
    return {**values, "PACS_DATA_DIR": str(settings.folder), FILE_SETTING: os.devnull}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    # ByteSize prints itself as a number, as any int does.
    return str(value)
