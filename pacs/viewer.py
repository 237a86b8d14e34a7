"""The viewer's pages: OHIF from its unpacked package, with its generated configuration, on the archive's own origin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import orjson
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from pacs.viewer_package import ViewerUnavailable, config_folder, fetch, find, pinned
from storage.errors import BadRequest
from storage.preset_file import built_in
from storage.presets import LINEAR, LINEAR_EXACT, PERCENT, Preset, Presets, checked_user

__all__ = ["ViewerSettings", "ViewerUnavailable", "fetch", "find", "routes"]

# What OHIF needs, seen in a browser: its codecs are WebAssembly made by `eval`ed glue, and its workers are blobs.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-eval' 'unsafe-inline'",
        "worker-src 'self' blob:",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self' data:",
        "connect-src 'self' blob: data:",
        "object-src 'self' blob:",
        "frame-src 'self' blob:",
        "media-src 'self' blob:",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_GUARDS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # A study's UID is in the page's address; it is nobody else's business.
    "Referrer-Policy": "same-origin",
}
_ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webapp": "application/manifest+json",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
# OHIF's own addresses, all answered by its one page: its modes and the pages built into it.
_PAGES = frozenset(
    {"viewer", "basic", "segmentation", "microscopy", "tmtv", "dynamic-volume", "preclinical-4d", "usAnnotation"}
    | {"local", "localbasic", "notfoundserver", "notfoundstudy", "debug", "login", "logout", "callback"}
)
# A name with a content hash in it never means other bytes.
_HASHED = re.compile(r"(^|\.)[0-9a-f]{16,20}\.(js|css|wasm|woff2|png|svg)$")
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
# Whose window presets a browser shows.
_COOKIE = "lightbox-user"
_YEAR = 31_536_000


@dataclass(frozen=True, slots=True)
class ViewerSettings:
    """What the viewer must be told of the server it came from."""

    dicomweb_root: str = "/dicom-web"
    wado_uri_root: str = "/wado"
    upload: bool = True
    # Whether its pages are cross-origin isolated (HTML 7.1.4), which gives them SharedArrayBuffer.
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class _Asset:
    path: Path
    compressed: Path | None
    media_type: str
    cache_control: str
    etag: str


def routes(
    viewer_folder: Path | None, settings: ViewerSettings | None = None, presets: Callable[[str], Presets] = lambda _user: Presets(built_in())
) -> list[BaseRoute]:
    """`/app-config.js`, the viewer's files and its pages; the last routes of an application, for they take any path.

    `viewer_folder` is what `find` gave; with None, `/` says how to add the viewer and nothing else is routed.
    `presets` are those that hold for a user, or for the site (an empty key), asked for at each load of a page. Whose a browser shows
    is said once, by `?user=KEY` on any page of the viewer, and kept in its cookie; `?user=` is the site again. Nobody is asked who they are.
    """
    if viewer_folder is None:
        return [Route("/", _missing, name="viewer-missing")]
    settings = settings or ViewerSettings()
    site = _Site(_assets(viewer_folder), lambda user: app_config(settings, presets(user)), _ISOLATION if settings.isolated else {})
    return [Route("/app-config.js", site.configuration), Route("/{path:path}", site.file, name="viewer")]


def app_config(settings: ViewerSettings, presets: Presets) -> bytes:
    """The script that OHIF reads its configuration from: `viewer-config/app-config.json`, this server's roots, and presets."""
    config = orjson.loads((config_folder() / "app-config.json").read_bytes())
    for source in config["dataSources"]:
        if source["namespace"].endswith(".dicomweb"):
            source["configuration"] |= {
                "qidoRoot": settings.dicomweb_root,
                "wadoRoot": settings.dicomweb_root,
                "wadoUriRoot": settings.wado_uri_root,
                "dicomUploadEnabled": settings.upload,
            }
    config["customizationService"]["cornerstone.windowLevelPresets"] = {"$set": _window_presets(presets)}
    # OHIF 3.12's prebuilt bundle dies on many warm loads for want of this Node.js name (onnxruntime's loader).
    prelude = b"window.__filename = location.origin + '/';\nwindow.config = "
    return prelude + orjson.dumps(config, option=orjson.OPT_INDENT_2) + b";\n"


def _window_presets(presets: Presets) -> dict[str, list[dict[str, object]]]:
    """The presets as OHIF wants them: by modality, with `window` for the width and `level` for the center."""
    by_modality: dict[str, list[dict[str, object]]] = {}
    for preset in presets.shown:
        if is_in_viewer(preset):
            # OHIF shows every preset by LINEAR, whose line is half a unit lower and whose width one more (PS3.3 C.11.2.1.2).
            half = 0.5 if preset.function == LINEAR_EXACT else 0.0
            shown = {"id": preset.id, "description": preset.name, "window": _plain(preset.width + 2 * half), "level": _plain(preset.center + half)}
            by_modality.setdefault(preset.modality, []).append(shown)
    return by_modality


def is_in_viewer(preset: Preset) -> bool:
    """Whether OHIF can show it as it is: it knows no sigmoid presets and no percentiles, and under one name there is one picture."""
    return preset.function in (LINEAR, LINEAR_EXACT) and preset.units != PERCENT


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value


class _Site:
    """The viewer's files by their address; a path that is not in the table does not exist, whatever the disk says."""

    def __init__(self, assets: Mapping[str, _Asset], script: Callable[[str], bytes], isolation: Mapping[str, str]) -> None:
        self._assets = assets
        self._script = script
        self._guards = {**_GUARDS, **isolation}

    async def configuration(self, request: Request) -> Response:
        """GET /app-config.js"""
        headers = {"Cache-Control": _ASK_AGAIN, "Vary": "Cookie", **self._guards}
        script = await to_thread.run_sync(self._script, _user(unquote(request.cookies.get(_COOKIE, ""))))
        return Response(script, media_type=_MEDIA_TYPES[".js"], headers=headers)

    async def file(self, request: Request) -> Response:
        """GET /{path}: a file of the viewer, or its page where the path is one of its own addresses."""
        path = request.path_params["path"]
        named = request.query_params.get("user") if _is_page(path) else None
        asset = self._assets.get("index.html" if _is_page(path) else path)
        if asset is None:
            raise HTTPException(404)
        headers = {"Cache-Control": asset.cache_control, "ETag": asset.etag, "Vary": "Accept-Encoding", **self._guards}
        if named is not None:
            headers["Set-Cookie"] = _cookie(_user(named))
        elif request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        served = asset.path
        if asset.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            served = asset.compressed
            headers["Content-Encoding"] = "gzip"
        return FileResponse(served, headers=headers, media_type=asset.media_type)


def _user(key: str) -> str:
    try:
        return checked_user(key)
    except BadRequest as error:
        raise HTTPException(400, str(error)) from error


def _cookie(user: str) -> str:
    """Keeps a key of `/api/presets?user=` for a year, for this origin alone; an empty one is forgotten."""
    return f"{_COOKIE}={quote(user, safe='')}; Path=/; Max-Age={_YEAR if user else 0}; SameSite=Lax; HttpOnly"


def _is_page(path: str) -> bool:
    return not path or path.partition("/")[0] in _PAGES


def _assets(folder: Path) -> dict[str, _Asset]:
    """Every file of the package by its path, read once."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: _asset(name, path, files.get(f"{name}.gz"))
        for name, path in files.items()
        if not name.endswith(".gz") and not PurePosixPath(name).name.startswith((".", "_"))
    }


def _asset(name: str, path: Path, compressed: Path | None) -> _Asset:
    known = path.stat()
    return _Asset(
        path=path,
        compressed=compressed,
        media_type=_MEDIA_TYPES.get(path.suffix, "text/plain; charset=utf-8"),
        cache_control=_FOREVER if _HASHED.search(PurePosixPath(name).name) else _ASK_AGAIN,
        etag=f'W/"{known.st_size:x}-{known.st_mtime_ns:x}"',
    )


async def _missing(_request: Request) -> Response:
    """GET / where no viewer could be fetched: what still works, and how to add it."""
    pin = pinned()
    page = (config_folder() / "missing.html").read_text(encoding="utf-8")
    page = page.replace("@PACKAGE@", pin.package).replace("@VERSION@", pin.version)
    return HTMLResponse(page, headers={"Cache-Control": "no-store", **_GUARDS})
