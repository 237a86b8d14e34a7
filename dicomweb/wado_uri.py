"""WADO-URI (PS3.18 9): one instance by a query string, as a DICOM file or as something to look at.

What the parameters ask for is put into the terms of WADO-RS, and answered by what answers there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dicomweb.bodies import CACHE_CONTROL, Body, respond, unchanged
from dicomweb.exchange import Answer, Call, Reader
from dicomweb.instance import Instance
from dicomweb.layouts import Layouts
from dicomweb.media_types import DICOM, HTML, MediaType, parse_accept
from dicomweb.negotiation import PICTURES
from dicomweb.rendering.request import MAX_AREA, MAX_SIDE
from dicomweb.shown import shown_of
from storage.archive import Archive
from storage.blobs.in_file import in_hand
from storage.coercing import deidentified
from storage.errors import BadRequest, NotAcceptable
from storage.procedure_steps import is_uid
from storage.spool import read_out
from storage.types import Scope

# Parameter of PS3.18 9.1.2 -> part of the path in WADO-RS.
_UIDS: Final = {"studyUID": "study", "seriesUID": "series", "objectUID": "instance"}
# 9.5.2 and 9.4.2; what only a picture, or only a file, can have.
_OF_PICTURES: Final = frozenset(
    {"annotation", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "frameNumber"}
)
_OF_FILES: Final = frozenset({"anonymize", "transferSyntax"})
_PRESENTATION: Final = frozenset({"presentationUID", "presentationSeriesUID"})
# A preset by its name, and whose.
_EXTENSIONS: Final = frozenset({"window", "user"})
PARAMETERS: Final = frozenset({"requestType", "contentType", "charset", *_UIDS}) | _OF_PICTURES | _OF_FILES | _PRESENTATION | _EXTENSIONS
_PICTURES: Final = tuple(offer.media_type for offer in PICTURES)


class WadoUri:
    """GET /wado?requestType=WADO&…; `instance` and `rendered` are what answers there in WADO-RS."""

    def __init__(self, layouts: Layouts, archive: Archive, instance: Reader, rendered: Reader) -> None:
        self._layouts = layouts
        self._archive = archive
        self._instance = instance
        self._rendered = rendered

    def __call__(self, call: Call) -> Answer:
        """The instance, or a picture of it. Raises BadRequest naming the parameter, NotFound, NotAcceptable."""
        given = _given(call)
        path = {name: given[parameter] for parameter, name in _UIDS.items()}
        instance = Instance(
            self._layouts.get(Scope(path["study"], path["series"], path["instance"])), self._archive.blobs
        )
        through = "presentationUID" in given
        kind = _kind(given, call, _PICTURES if through else _possible(instance, self._archive, self._layouts))
        call = replace(call, path=path)
        if kind == DICOM:
            return self._file(call, given)
        return self._picture(call, given, instance, kind)

    def _file(self, call: Call, given: Mapping[str, str]) -> Answer:
        """The Part 10 file (9.4): in Explicit VR Little Endian unless another transfer syntax is asked for."""
        if unfit := sorted(_OF_PICTURES & given.keys()):
            raise BadRequest(f"{unfit[0]} is for pictures; leave it out, or ask for contentType=image/jpeg")
        syntax = given.get("transferSyntax", "")
        if syntax not in ("", "*") and not is_uid(syntax):
            raise BadRequest("transferSyntax is no UID; write that of a transfer syntax, or * for the instance as it is stored")
        accept = DICOM + (f"; transfer-syntax={syntax}" if syntax else "")
        call = replace(call, query=(("accept", accept),))
        return self._anonymous(call) if "anonymize" in given else self._instance(call)

    def _anonymous(self, call: Call) -> Answer:
        """The file without what identifies anybody, under other UIDs (9.4.1.2): made anew, the same bytes each time."""
        whole = self._instance(replace(call, method="GET", headers={}))
        spool = self._archive.spool()
        try:
            with self._archive.spool() as content:
                for piece in in_hand(whole.body):
                    content.write(piece)
                deidentified(self._archive, content, spool)
        except BaseException:
            spool.close()
            raise
        headers = {name: whole.headers[name] for name in ("Content-Type", "Warning") if name in whole.headers}
        etag = f'"{spool.sha256}"'
        if unchanged(call, etag):
            spool.close()
            return respond(call, self._archive.blobs, Body(()), headers, etag)
        headers |= {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Vary": "Accept", "Content-Length": str(spool.size)}
        return Answer(200, headers, read_out(spool))

    def _picture(self, call: Call, given: Mapping[str, str], instance: Instance, kind: str) -> Answer:
        """A rendered picture, or the video or document that is stored (9.5)."""
        if unfit := sorted(_OF_FILES & given.keys()):
            raise BadRequest(f"{unfit[0]} is for contentType={DICOM}; leave it out for a picture")
        query = [("accept", kind)]
        names = {"annotation": "annotation", "imageQuality": "quality", "user": "user"}
        query += [(name, given[parameter]) for parameter, name in names.items() if parameter in given]
        query += [("window", window)] if (window := _window(given)) else []
        query += [("viewport", viewport)] if (viewport := _viewport(given, instance)) else []
        path = dict(call.path)
        if "frameNumber" in given:
            path["frames"] = str(_whole(given, "frameNumber"))
        if "presentationUID" in given:
            path |= {"presentation": given["presentationUID"], "presentation series": given["presentationSeriesUID"]}
        return self._rendered(replace(call, path=path, query=tuple(query)))


def _check_presentation(given: Mapping[str, str]) -> None:
    """The two parameters belong together, and the state has the window and what part is shown (9.5.1.2)."""
    if not all(given.get(name) for name in _PRESENTATION):
        raise BadRequest("presentationUID and presentationSeriesUID belong together; give both")
    if unfit := sorted({"window", "windowCenter", "windowWidth", "region"} & given.keys()):
        raise BadRequest(f"{unfit[0]} is that of the presentation state; leave it out, or presentationUID")


def _given(call: Call) -> dict[str, str]:
    """The parameters, each at most once, all those that must be there among them."""
    given: dict[str, str] = {}
    for name, value in call.query:
        if name not in PARAMETERS:
            # Servers pass over what they do not know (9.1.2): clients add parameters of their own.
            continue
        if name in given:
            raise BadRequest(f"{name} is given more than once")
        given[name] = value.strip()
    if given.get("requestType") != "WADO":
        raise BadRequest("requestType is not WADO; write requestType=WADO&studyUID=…&seriesUID=…&objectUID=…")
    for parameter in _UIDS:
        if not given.get(parameter):
            raise BadRequest(f"{parameter} is missing; name the instance by studyUID, seriesUID and objectUID")
    if given.get("anonymize") not in (None, "yes"):
        raise BadRequest("anonymize can only be yes; leave it out otherwise")
    if _PRESENTATION & given.keys():
        _check_presentation(given)
    return given


def _kind(given: Mapping[str, str], call: Call, possible: tuple[str, ...]) -> str:
    """The media type to answer with: the first that `contentType` names and the instance can be had as.

    Without one the Accept header is asked, and where it says nothing useful the default of 9.1.2.2.1 holds.
    """
    asked = given.get("contentType", "")
    if asked:
        for wanted in sorted(parse_accept(asked), key=lambda one: -one.quality):
            if (found := _first(wanted, possible)) is not None:
                return found
        raise NotAcceptable(f"contentType names nothing that this can be; it can be had as: {', '.join(possible)}")
    for wanted in sorted(parse_accept(call.headers.get("accept", "")), key=lambda one: -one.quality):
        if wanted.type != "*/*" and (found := _first(wanted, possible)) is not None:
            return found
    return possible[0]


def _possible(instance: Instance, archive: Archive, layouts: Layouts) -> tuple[str, ...]:
    """What an instance can be had as, its default first: a single frame is a picture, a report HTML, all else a file (9.1.2.2.1)."""
    shown = shown_of(instance, "", archive, layouts)
    if shown is not None:
        kinds = [offer.media_type for offer in shown.offers]
        alone = kinds[0] == HTML or (instance.frames == 1 and kinds[0] in _PICTURES)
        return (*kinds, DICOM) if alone else (DICOM, *kinds)
    if not instance.frames:
        return (DICOM,)
    return (*_PICTURES, DICOM) if instance.frames == 1 else (DICOM, *_PICTURES)


def _first(wanted: MediaType, possible: tuple[str, ...]) -> str | None:
    for kind in possible:
        if wanted.quality > 0 and (
            wanted.type in (kind, "*/*") or (wanted.type.endswith("/*") and kind.startswith(wanted.type[:-1]))
        ):
            return kind
    return None


def _window(given: Mapping[str, str]) -> str:
    """Center and width, or, as an extension, what `window` of WADO-RS takes: a preset's name."""
    both = [given.get(name) for name in ("windowCenter", "windowWidth")]
    if both == [None, None]:
        return given.get("window", "")
    if "window" in given:
        raise BadRequest("window names a preset; leave it out, or windowCenter and windowWidth")
    if None in both:
        raise BadRequest("windowCenter and windowWidth belong together; give both")
    return ",".join(str(one) for one in both)


def _viewport(given: Mapping[str, str], instance: Instance) -> str:
    """`rows`, `columns` and `region` as WADO-RS has them: the size to fit in, and the part of the image in pixels."""
    if not {"rows", "columns", "region"} & given.keys():
        return ""
    left, top, width, height = _region(given, instance)
    rows = _whole(given, "rows") if "rows" in given else None
    columns = _whole(given, "columns") if "columns" in given else None
    if rows is None and columns is None:
        rows, columns = max(1, round(height)), max(1, round(width))
    # Where only one is given the other is whatever follows from the shape of the image.
    rows = rows if rows is not None else min(MAX_SIDE, MAX_AREA // (columns or 1))
    columns = columns if columns is not None else min(MAX_SIDE, MAX_AREA // rows)
    size = f"{columns},{rows}"
    return f"{size},{left:.10g},{top:.10g},{width:.10g},{height:.10g}" if "region" in given else size


def _region(given: Mapping[str, str], instance: Instance) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels, of `xmin,ymin,xmax,ymax` in parts of the image (9.5.2)."""
    rows, columns = instance.pixels.rows, instance.pixels.columns
    if "region" not in given:
        return 0.0, 0.0, float(columns), float(rows)
    try:
        left, top, right, bottom = (float(part) for part in given["region"].split(","))
    except ValueError:
        raise BadRequest("region is not xmin,ymin,xmax,ymax; write for example region=0.25,0.25,0.75,0.75") from None
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise BadRequest("region's numbers are parts of the image, from 0 to 1, the smaller before the larger")
    return left * columns, top * rows, (right - left) * columns, (bottom - top) * rows


def _whole(given: Mapping[str, str], name: str) -> int:
    text = given[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise BadRequest(f"{name} is not a whole number from 1")
    return int(text)
