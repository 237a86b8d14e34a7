"""Thumbnails drawn before anybody asks for them, as they are drawn when somebody does."""

from __future__ import annotations

from dicomweb.exchange import Call
from dicomweb.layouts import Layouts
from dicomweb.rendered import JPEG, Rendered, ThumbnailsKept
from storage.archive import Archive
from storage.index.presets import KnownPresets
from storage.types import Scope

# Layouts of what is drawn once: next to nothing is worth keeping.
_LAYOUTS = 1 << 20


class Thumbnails:
    """Draws and keeps those of series and studies, where what is kept is not what would be drawn now."""

    def __init__(self, archive: Archive) -> None:
        layouts = Layouts(archive.index, max_bytes=_LAYOUTS, max_age=0)
        self._rendered = Rendered(archive, layouts, KnownPresets(archive.index), max_bytes=0, thumbnails=ThumbnailsKept.HERE)

    def keep(self, scope: Scope) -> None:
        """That of the middle of a study or series. Raises NotFound."""
        path = {"study": scope.study} | ({"series": scope.series} if scope.series else {})
        self._rendered.thumbnail(Call("GET", path, headers={"accept": JPEG}))
