"""Every route of DICOMweb, as a table: path, section of PS3.18, and what reads or stores there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from anyio import CapacityLimiter
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware, add_compress_type

from dicomweb.bulk_collections import BulkCollections
from dicomweb.bulkdata import BulkData
from dicomweb.capabilities import Capabilities
from dicomweb.commitment import StorageCommitment
from dicomweb.cors import METHODS, CrossOrigin
from dicomweb.deletion import Delete
from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call, Endpoint, Handler, Reader
from dicomweb.frames import Frames
from dicomweb.layouts import Layouts
from dicomweb.media_types import DICOM_JSON
from dicomweb.metadata import Metadata
from dicomweb.npi import NonPatientInstances, NonPatientSearch, expected
from dicomweb.qido import Search
from dicomweb.remembered import Remembered
from dicomweb.rendered import Rendered, ThumbnailsKept
from dicomweb.settings import WebSettings
from dicomweb.stow import Store
from dicomweb.transactions import Resource
from dicomweb.ups import Worklist
from dicomweb.ups_events import EventChannel
from dicomweb.wado import Instances
from dicomweb.wado_uri import WadoUri
from storage.archive import Archive
from storage.blobs.in_file import EXTENSION
from storage.errors import NotFound
from storage.index.presets import KnownPresets
from storage.non_patient import CATEGORIES
from storage.types import Level
from storage.workitems import Workitems

RETRIEVE, STORE, SEARCH = "PS3.18 10.4", "PS3.18 10.5", "PS3.18 10.6"
# Not in the standard; see `dicomweb.deletion`.
DELETE = "beside PS3.18: delete"
CAPABILITIES = "PS3.18 8.9"
# Beside the other resources, not below them: where WADO-URI has been since before there were others.
WADO_URI = "/wado"
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"
_WORKITEM = "/workitems/{workitem}"
# A WebSocket (PS3.18 8.10.4): who does not ask for one is told so.
CHANNEL = "/subscribers/{requester}"


def _get(path: str, name: str) -> Resource:
    return Resource(path, {"GET": name})


def _non_patient(name: str) -> tuple[Resource, ...]:
    """The resources of one category of non-patient instances (PS3.18 table 12.1.1-1)."""
    own = {"npi": name}
    one = {
        "GET": "non-patient instance",
        "POST": "store non-patient instance",
        "DELETE": "delete non-patient instance",
    }
    return (
        Resource(f"/{name}", {"GET": "search non-patient instances", "POST": "store non-patient instances"}, own),
        Resource(f"/{name}/{{uid}}", one, own),
        Resource(f"/{name}/{{uid}}/bulkdata/{{path:path}}", {"GET": "bulk data of a non-patient instance"}, own),
    )


# In the order in which they are tried; the conformance statement and the capabilities are made from them too.
RESOURCES = (
    Resource("/", {"OPTIONS": "capabilities"}),
    _get(_FRAMES, "frames"),
    _get(_INSTANCE + "/metadata", "metadata"),
    _get(_SERIES + "/metadata", "metadata"),
    _get(_STUDY + "/metadata", "metadata"),
    Resource("/studies", {"GET": "search studies", "POST": "store"}),
    _get(_STUDY + "/series", "search series"),
    _get(_SERIES + "/instances", "search instances"),
    _get(_STUDY + "/instances", "search instances"),
    _get("/series", "search series"),
    _get("/instances", "search instances"),
    Resource(_STUDY, {"GET": "instances", "POST": "store", "DELETE": "delete"}),
    Resource(_SERIES, {"GET": "instances", "DELETE": "delete"}),
    Resource(_INSTANCE, {"GET": "instance", "DELETE": "delete"}),
    *(Resource(level + "/reject/{code}", {"POST": "reject"}) for level in (_STUDY, _SERIES, _INSTANCE)),
    _get(_INSTANCE + "/bulkdata/{path:path}", "bulk data"),
    *(_get(level + "/bulkdata", "all bulk data") for level in (_STUDY, _SERIES, _INSTANCE)),
    *(_get(level + "/pixeldata", "all pixel data") for level in (_STUDY, _SERIES, _INSTANCE)),
    *(_get(level + "/rendered", "rendered") for level in (_STUDY, _SERIES, _INSTANCE, _FRAMES)),
    *(_get(level + "/thumbnail", "thumbnail") for level in (_STUDY, _SERIES, _INSTANCE, _FRAMES)),
    Resource("/commitment-requests/{transaction}", {"GET": "commitment result", "POST": "request commitment"}),
    *(one for name in sorted(CATEGORIES) for one in _non_patient(name)),
    Resource("/workitems", {"GET": "search workitems", "POST": "create workitem"}),
    Resource(_WORKITEM, {"GET": "workitem", "POST": "update workitem"}),
    *(Resource(_WORKITEM + "/state" + end, {"PUT": "change state"}) for end in ("", "/{requester}")),
    *(Resource(_WORKITEM + "/cancelrequest" + end, {"POST": "request cancellation"}) for end in ("", "/{requester}")),
    Resource(_WORKITEM + CHANNEL, {"POST": "subscribe", "DELETE": "unsubscribe"}),
    Resource(_WORKITEM + CHANNEL + "/suspend", {"POST": "suspend"}),
    _get(CHANNEL, "event channel"),
)
_URI = Resource(WADO_URI, {"GET": "WADO-URI"})
_SEARCHES = {"search studies": Level.STUDY, "search series": Level.SERIES, "search instances": Level.IMAGE}
# These are compressed here, metadata by itself; frames, instances and pictures never are (VIEWERS: 830 ms a frame).
_COMPRESSED = frozenset({"capabilities", "search non-patient instances", *_SEARCHES})


def routes(archive: Archive, settings: WebSettings | None = None) -> list[BaseRoute]:
    """Routes for everything under `settings.path`, and WADO-URI, to be put into a Starlette application as they are.

    The last one answers 404, in the one error shape, for whatever else is asked there.
    """
    settings = settings or WebSettings()
    add_compress_type(DICOM_JSON)
    handlers = _handlers(archive, settings)
    sections = {name: handler.section for name, handler in handlers.items()}
    shared = partial(CrossOrigin, settings=settings)
    described = partial(Capabilities, sections=sections, known=archive.index.searchables.known, path=settings.path)
    service = described(RESOURCES, mount=settings.path)
    paths: list[BaseRoute] = []
    for resource in RESOURCES:
        endpoint = shared(_endpoint(resource, handlers, service.of(resource.path), settings))
        # The root is there with and without its slash. An instance that is no function is taken by the router as an ASGI
        # application, for every method.
        paths += [Route(settings.path + path, endpoint) for path in {resource.path, resource.path.rstrip("/")}]
    paths.append(WebSocketRoute(settings.path + CHANNEL, EventChannel(Workitems(archive.index), settings)))
    uri = described((_URI,), mount="").of(WADO_URI)
    paths.append(Route(WADO_URI, shared(_endpoint(_URI, handlers, uri, settings))))
    nowhere = Endpoint(settings, dict.fromkeys(METHODS, Handler("PS3.18 10", read=_nothing)))
    return [*paths, _Rest(settings.path, shared(nowhere))]


def _endpoint(resource: Resource, handlers: Mapping[str, Handler], options: Reader, settings: WebSettings) -> ASGIApp:
    methods = {method: handlers[name] for method, name in resource.methods.items() if method != "OPTIONS"}
    endpoint = Endpoint(settings, {**methods, "OPTIONS": Handler(CAPABILITIES, read=options)}, resource.fixed)
    return endpoint if _COMPRESSED.isdisjoint(resource.methods.values()) else _compressing(endpoint)


def _handlers(archive: Archive, settings: WebSettings) -> dict[str, Handler]:
    layouts = Layouts(
        archive.index, max_bytes=settings.layout_cache_bytes, max_age=settings.layout_cache_seconds
    )
    presets = KnownPresets(archive.index, settings.preset_cache_seconds)
    instances, collections = Instances(archive), BulkCollections(archive)
    kept = ThumbnailsKept.ELSEWHERE if settings.thumbnails else ThumbnailsKept.NOT
    rendered = Rendered(archive, layouts, presets, max_bytes=settings.picture_cache_bytes, thumbnails=kept)
    frames = Frames(layouts, archive.blobs, copies=settings.htj2k_copies, copies_first=settings.htj2k_first)
    remembered = partial(Remembered, layouts=layouts, presets=presets, max_bytes=settings.picture_cache_bytes)
    picture, thumbnail = (remembered(read, alone=rendered.alone) for read in (rendered.picture, rendered.thumbnail))
    pictures = CapacityLimiter(settings.picture_threads)
    removal = Delete(archive, settings)
    commitment = StorageCommitment(archive, settings)
    uri = WadoUri(layouts, archive, instances.one, rendered.picture)
    return {
        "frames": Handler(RETRIEVE, read=frames, at_hand=frames.at_hand),
        "metadata": Handler(RETRIEVE, read=Metadata(archive, max_bytes=settings.metadata_cache_bytes)),
        "instances": Handler(RETRIEVE, read=instances.many),
        "instance": Handler(RETRIEVE, read=instances.one),
        "bulk data": Handler(RETRIEVE, read=BulkData(layouts, archive.blobs)),
        "all bulk data": Handler(RETRIEVE, read=collections.bulk),
        "all pixel data": Handler(RETRIEVE, read=collections.pixels),
        "WADO-URI": Handler("PS3.18 9", read=uri, threads=pictures),
        "rendered": Handler(RETRIEVE, read=picture, threads=pictures, at_hand=picture.at_hand),
        "thumbnail": Handler(RETRIEVE, read=thumbnail, threads=pictures, at_hand=thumbnail.at_hand),
        **{
            name: Handler(SEARCH, read=Search(
                archive.index, level, most=settings.search_most, empty_status=settings.search_empty_status
            ))
            for name, level in _SEARCHES.items()
        },
        "store": Handler(STORE, take=Store(archive, settings)),
        "delete": Handler(DELETE, take=removal.delete),
        "reject": Handler(DELETE, take=removal.reject),
        **_non_patient_handlers(NonPatientInstances(archive, layouts, instances, removal), archive, settings),
        "request commitment": Handler("PS3.18 13.4", take=commitment.request),
        "commitment result": Handler("PS3.18 13.5", read=commitment.check),
        **_worklist(Worklist(Workitems(archive.index), settings)),
    }


def _non_patient_handlers(service: NonPatientInstances, archive: Archive, settings: WebSettings) -> dict[str, Handler]:
    store = Handler("PS3.18 12.5", take=Store(archive, settings, expected))
    search = NonPatientSearch(archive.index, most=settings.search_most, empty_status=settings.search_empty_status)
    return {
        "non-patient instance": Handler("PS3.18 12.4", read=service.retrieve),
        "bulk data of a non-patient instance": Handler("PS3.18 12.4", read=service.bulk_data),
        "store non-patient instances": store,
        "store non-patient instance": store,
        "search non-patient instances": Handler("PS3.18 12.6", read=search),
        "delete non-patient instance": Handler(DELETE, take=service.delete),
    }


def _worklist(service: Worklist) -> dict[str, Handler]:
    return {
        "create workitem": Handler("PS3.18 11.4", take=service.create),
        "workitem": Handler("PS3.18 11.5", read=service.retrieve),
        "update workitem": Handler("PS3.18 11.6", take=service.update),
        "change state": Handler("PS3.18 11.7", take=service.change_state),
        "request cancellation": Handler("PS3.18 11.8", take=service.request_cancel),
        "search workitems": Handler("PS3.18 11.9", read=service.search),
        "subscribe": Handler("PS3.18 11.10", take=service.subscribe),
        "unsubscribe": Handler("PS3.18 11.11", read=service.unsubscribe),
        "suspend": Handler("PS3.18 11.12", take=service.suspend),
        "event channel": Handler("PS3.18 11.13", read=_not_upgraded),
    }


class _Rest(BaseRoute):
    """Every other path under `prefix`, also those that a route's pattern cannot match, such as one with a line break."""

    def __init__(self, prefix: str, endpoint: ASGIApp) -> None:
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

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        # What is compressed has to be looked at on its way.
        extensions = {name: what for name, what in (scope.get("extensions") or {}).items() if name != EXTENSION}
        await endpoint({**scope, "extensions": extensions}, receive, send)

    return CompressMiddleware(plain, zstd_level=1, brotli=False, gzip_level=1)


def _not_upgraded(_call: Call) -> Answer:
    raise WebRefusal(
        426,
        "this is an event channel, which is a WebSocket",
        "connect with ws:// or wss:// to the same address (RFC 6455 4.1)",
        {"Upgrade": "websocket", "Connection": "Upgrade"},
    )


def _nothing(_call: Call) -> Answer:
    raise NotFound("there is no such resource in DICOMweb; see PS3.18 10 for the paths that there are")
