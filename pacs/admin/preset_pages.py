"""The pages about window/level presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pacs.admin.presets import own_ids, shown_of
from storage.errors import NotFound
from storage.index import Index
from storage.index.presets import holding
from storage.preset_file import built_in
from storage.presets import FUNCTIONS, Preset, checked_user

if TYPE_CHECKING:
    from pacs.admin.pages import Asked


@dataclass(frozen=True, slots=True)
class PresetPages:
    """What these pages show of an index."""

    index: Index

    def table(self) -> dict[str, tuple[str, Callable[[Asked], dict[str, Any]]]]:
        """Address -> template and what it needs."""
        return {"/admin/presets": ("presets.html", self.presets), "/admin/presets/{id}": ("preset.html", self.preset)}

    def presets(self, asked: Asked) -> dict[str, Any]:
        """Those that hold, for the site or a user."""
        user = _user(asked)
        return {
            "presets": sorted(map(shown_of, holding(self.index, user).all), key=lambda one: one.modality),
            "user": user,
            "own": own_ids(self.index, user),
            "built_in": {one.id for one in built_in()},
            "preset": Preset("", "", "CT", 40, 400),
            "functions": FUNCTIONS,
        }

    def preset(self, asked: Asked) -> dict[str, Any]:
        """One, to be changed."""
        user = _user(asked)
        found = next((one for one in holding(self.index, user).all if one.id == asked.path["id"]), None)
        if found is None:
            raise NotFound("there is no preset of this id")
        return {"preset": found, "user": user, "functions": FUNCTIONS}


def _user(asked: Asked) -> str:
    return checked_user(asked.query.get("user", "").strip())
