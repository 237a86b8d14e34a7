"""Every route of DICOMweb, as a table: path, section of PS3.18, and what reads or stores there."""

from __future__ import annotations

from typing import NamedTuple

from anyio import CapacityLimiter
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send
from starlette_compress import CompressMiddleware, add_compress_type

from dicomweb.bulkdata import BulkData
from dicomweb.exchange import Answer, Call, Endpoint, Reader
from dicomweb.frames import Frames
from dicomweb.layouts import Layouts
from dicomweb.media_types import DICOM_JSON
from dicomweb.metadata import Metadata
from dicomweb.qido import Search
from dicomweb.rendered import Rendered
from dicomweb.settings import WebSettings
from dicomweb.stow import Store
from dicomweb.wado import Instances
from storage.archive import Archive
from storage.errors import NotFound
from storage.types import Level

RETRIEVE, SEARCH = "PS3.18 10.4", "PS3.18 10.6"
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"


class Resource(NamedTuple):
    """A path, the section of PS3.18 that describes it, what answers GET there (see `_readers`), and whether POST stores."""

    path: str
    section: str
    reader: str
    stores: bool = False


# In the order in which they are tried; the conformance statement lists them too.
RESOURCES = (
    Resource(_FRAMES, RETRIEVE, "frames"),
    Resource(_INSTANCE + "/metadata", RETRIEVE, "metadata"),
    Resource(_SERIES + "/metadata", RETRIEVE, "metadata"),
    Resource(_STUDY + "/metadata", RETRIEVE, "metadata"),
    Resource("/studies", SEARCH, "search studies", stores=True),
    Resource(_STUDY + "/series", SEARCH, "search series"),
    Resource(_SERIES + "/instances", SEARCH, "search instances"),
    Resource(_STUDY + "/instances", SEARCH, "search instances"),
    Resource("/series", SEARCH, "search series"),
    Resource("/instances", SEARCH, "search instances"),
    Resource(_STUDY, RETRIEVE, "instances", stores=True),
    Resource(_SERIES, RETRIEVE, "instances"),
    Resource(_INSTANCE, RETRIEVE, "instance"),
    Resource(_INSTANCE + "/bulkdata/{path:path}", RETRIEVE, "bulk data"),
    *(Resource(level + "/rendered", RETRIEVE, "rendered") for level in (_STUDY, _SERIES, _INSTANCE, _FRAMES)),
    *(Resource(level + "/thumbnail", RETRIEVE, "thumbnail") for level in (_STUDY, _SERIES, _INSTANCE, _FRAMES)),
)


def routes(archive: Archive, settings: WebSettings | None = None) -> list[BaseRoute]:
    """Routes for everything under `settings.path`, to be put into a Starlette application as they are.

    The last one answers 404, in the one error shape, for whatever else is asked there.
    """
    settings = settings or WebSettings()
    # JSON is compressed here, route by route; frames, instances and pictures never are (VIEWERS: 830 ms a frame).
    add_compress_type(DICOM_JSON)
    store, pictures = Store(archive, settings), CapacityLimiter(settings.picture_threads)
    readers = _readers(archive, settings)
    paths: list[BaseRoute] = []
    for resource in RESOURCES:
        path = resource.path
        stores = store if resource.stores else None
        threads = pictures if path.endswith(("/rendered", "/thumbnail")) else None
        endpoint = Endpoint(settings, resource.section, read=readers[resource.reader], store=stores, threads=threads)
        compressed = resource.section == SEARCH or path.endswith("/metadata")
        # An instance that is no function is taken by the router as an ASGI application, for every method.
        paths.append(Route(settings.path + path, _compressing(endpoint) if compressed else endpoint))
    nowhere = Endpoint(settings, "PS3.18 10", read=_nothing)
    return [*paths, _Rest(settings.path, nowhere)]


def _readers(archive: Archive, settings: WebSettings) -> dict[str, Reader]:
    layouts = Layouts(
        archive.index, max_bytes=settings.layout_cache_bytes, max_age=settings.layout_cache_seconds
    )
    instances, rendered = Instances(archive), Rendered(archive, layouts)
    return {
        "frames": Frames(layouts, archive.blobs),
        "metadata": Metadata(archive, settings.path),
        "search studies": Search(archive.index, Level.STUDY),
        "search series": Search(archive.index, Level.SERIES),
        "search instances": Search(archive.index, Level.IMAGE),
        "instances": instances.many,
        "instance": instances.one,
        "bulk data": BulkData(layouts, archive.blobs),
        "rendered": rendered.picture,
        "thumbnail": rendered.thumbnail,
    }


class _Rest(BaseRoute):
    """Every other path under `prefix`, also those that a route's pattern cannot match, such as one with a line break."""

    def __init__(self, prefix: str, endpoint: Endpoint) -> None:
        self._prefix = prefix
        self._endpoint = endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        inside = path == self._prefix or path.startswith(self._prefix + "/")
        return (Match.FULL if inside else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: str) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)


def _compressing(endpoint: Endpoint) -> CompressMiddleware:
    """Levels that keep up with the disk: zstd 1 takes 0.5 ms for a series' 5 MB of JSON (MEASURED)."""
    return CompressMiddleware(endpoint, zstd_level=1, brotli=False, gzip_level=1)


def _nothing(_call: Call) -> Answer:
    raise NotFound("there is no such resource in DICOMweb; see PS3.18 10 for the paths that there are")
