"""What is not an image, as something a person can look at: reports, documents, videos (PS3.18 8.7.4)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Final

import numpy as np

from dicomweb.apart import Result, run_apart
from dicomweb.bodies import Body, read, stream
from dicomweb.bulkdata import (
    DOCUMENT_LENGTH,
    DOCUMENT_TYPES,
    ENCAPSULATED_DOCUMENT,
    MIME_TYPE,
    PIXEL_DATA,
    unpadded,
)
from dicomweb.dosed import DoseShown
from dicomweb.instance import Instance
from dicomweb.layouts import Layouts
from dicomweb.media_types import HTML, PDF, SVG, TEXT, XML
from dicomweb.negotiation import PICTURES, Offer
from dicomweb.overlaid import SegmentationShown, StructuresShown
from dicomweb.ranges import Span
from dicomweb.rendering import Picture, RenderRequest, is_image
from dicomweb.rendering.content import Reference, Report, is_report, report
from dicomweb.rendering.content_html import as_html
from dicomweb.rendering.content_text import as_text, text_lines
from dicomweb.rendering.contours import is_structure_set
from dicomweb.rendering.dose import is_dose
from dicomweb.rendering.geometry import fitted
from dicomweb.rendering.mappings import is_mapping, mapping
from dicomweb.rendering.pages import page, paginated
from dicomweb.rendering.segments import is_segmentation
from dicomweb.rendering.sheet import Sheet
from dicomweb.rendering.tracings import Part, parts, traced
from dicomweb.rendering.values import number, words
from dicomweb.rendering.waveforms import groups, has_waveforms, written
from dicomweb.rendering.waveforms import values as samples
from dicomweb.shown_kinds import Shown
from dicomweb.sources import Sources
from dicomweb.videos import VideoShown
from storage.archive import Archive
from storage.errors import CannotDecode, NotAcceptable
from storage.pieces import Piece
from storage.procedure_steps import is_uid
from storage.transfer_syntaxes import Coding

# A day of ECG is 8,640 pages: what is beyond can be had as stored.
MOST_PAGES: Final = 20_000


class ReportShown(Shown):
    """A structured report, key object selection or value mapping: HTML, text, or pages (PS3.18 table 8.7.4-1, category Text)."""

    offers = (Offer(HTML), Offer(TEXT), *PICTURES)

    def __init__(self, instance: Instance, mount: str) -> None:
        self._instance = instance
        self._mount = mount

    @cached_property
    def _report(self) -> Report:
        if is_mapping(self._instance.dataset):
            return mapping(self._instance.dataset)
        return report(self._instance.dataset, self._instance.little_endian_bulk)

    @cached_property
    def _pages(self) -> tuple[tuple[str, ...], ...]:
        # The page has the title already.
        return paginated(list(text_lines(self._report))[2:])

    @property
    def pages(self) -> int:
        return len(self._pages)

    def picture(self, number: int, request: RenderRequest) -> Picture:
        sheet = page(self._report.title, self._pages[number - 1], number, self.pages)
        return sheet.picture(request.viewport)

    def whole(self, kind: str, number: int) -> tuple[Piece, ...]:
        if kind == HTML:
            return (as_html(self._report, self._link),)
        return (as_text(self._report),)

    def _link(self, to: Reference, resource: str) -> str:
        """Of frames the first is shown."""
        if not all(map(is_uid, (to.study, to.series, to.instance))):
            return ""
        frames = f"/frames/{to.frames[0]}" if to.frames and to.frames[0] > 0 else ""
        return f"{self._mount}/studies/{to.study}/series/{to.series}/instances/{to.instance}{frames}/{resource}"


class WaveformShown(Shown):
    """ECG and other waveforms, page by page: PNG, or SVG for browsers, which name it."""

    offers = (Offer("image/png"), Offer(SVG), *(offer for offer in PICTURES if offer.media_type != "image/png"))

    def __init__(self, instance: Instance, archive: Archive) -> None:
        self._instance = instance
        self._archive = archive

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        try:
            found = groups(self._instance.dataset)
        except CannotDecode as error:
            raise NotAcceptable(f"the waveforms cannot be traced: {error}") from error
        return tuple(islice(parts(found, self._instance.text("00080016")), MOST_PAGES))

    @property
    def pages(self) -> int:
        return len(self._parts)

    def picture(self, number: int, request: RenderRequest) -> Picture:
        return self._sheet(number).picture(request.viewport)

    def whole(self, kind: str, number: int) -> tuple[Piece, ...]:
        return (self._sheet(number).svg(f"Waveforms, page {number} of {self.pages}"),)

    def _sheet(self, number: int) -> Sheet:
        part = self._parts[number - 1]
        traces = samples(self._instance.dataset, part.group, part.first, part.count, self._part)
        return traced(part, traces, written(self._instance.dataset), number, self.pages)

    def _part(self, path: str, start: int, length: int) -> bytes:
        item = self._instance.bulk(path)
        if item is None:
            raise CannotDecode("the samples of the waveform are not there")
        body = Body(self._instance.little_endian(item)).cut(Span(start, start + length))
        return b"".join(read(self._archive.blobs, body))


class PdfShown(Shown):
    """An encapsulated PDF document: as it is, its text, or its pages as pictures."""

    offers = (Offer(PDF), *PICTURES, Offer(TEXT))
    stored = PDF
    small = True

    def __init__(self, pieces: tuple[Piece, ...], archive: Archive) -> None:
        self._pieces = pieces
        self._archive = archive

    @property
    def pages(self) -> int:
        return int(self._apart("pdf page", {"page": 1, "width": 1, "height": 1}).about["pages"])

    def picture(self, number: int, request: RenderRequest) -> Picture:
        wanted = request.viewport
        scaled = wanted is not None and wanted.source_width is None and wanted.source_height is None
        size = {"width": wanted.width, "height": wanted.height} if wanted is not None and scaled else {}
        drawn = self._apart("pdf page", {"page": number, **size})
        shape = drawn.about["rows"], drawn.about["columns"], 3
        return fitted(np.frombuffer(drawn.content, np.uint8).reshape(shape), wanted, 1.0)

    def whole(self, kind: str, number: int) -> tuple[Piece, ...]:
        return self._pieces if kind == PDF else (self._apart("pdf text", {}).content,)

    def _apart(self, task: str, asked: Mapping[str, Any]) -> Result:
        content = stream(self._archive.blobs, Body(self._pieces))
        try:
            return run_apart(task, content, asked, self._archive.spool_folder)
        except CannotDecode as error:
            raise NotAcceptable(f"the document cannot be drawn: {error}. It can be had as {PDF}") from error


class StoredShown(Shown):
    """A document or video that is given as it is stored, because nobody draws it here."""

    def __init__(self, pieces: tuple[Piece, ...], kind: str) -> None:
        self.offers = (Offer(kind),)
        self.stored = kind
        self._pieces = pieces

    def whole(self, kind: str, number: int) -> tuple[Piece, ...]:
        return self._pieces


def shown_of(instance: Instance, mount: str, archive: Archive, layouts: Layouts) -> Shown | None:
    """How an instance is looked at; None where its frames are pictures, or where there is nothing to look at.

    `mount` is the path of the root of DICOMweb, for links.
    """
    if instance.syntax.coding is Coding.VIDEO:
        video = instance.bulk(PIXEL_DATA)
        return VideoShown(instance, instance.bulk_pieces(video), archive) if video else None
    if ENCAPSULATED_DOCUMENT in instance.dataset:
        return _document(instance, archive)
    if is_segmentation(instance.dataset) and instance.frames and is_image(instance.dataset, instance.syntax.uid):
        return SegmentationShown(instance, Sources(instance, archive, layouts))
    if is_dose(instance.dataset) and instance.frames and is_image(instance.dataset, instance.syntax.uid):
        return DoseShown(instance, Sources(instance, archive, layouts))
    if is_structure_set(instance.dataset):
        return StructuresShown(instance, Sources(instance, archive, layouts))
    if has_waveforms(instance.dataset):
        return WaveformShown(instance, archive)
    if is_report(instance.dataset) or is_mapping(instance.dataset):
        return ReportShown(instance, mount)
    return None


def _document(instance: Instance, archive: Archive) -> Shown | None:
    """An encapsulated document by the type that it says it has, if that is one of those that are known."""
    kind = instance.text(MIME_TYPE).lower()
    item = instance.bulk(ENCAPSULATED_DOCUMENT)
    if item is not None:
        pieces = unpadded(instance, item, instance.bulk_pieces(item))
    else:
        length = number(instance.dataset, DOCUMENT_LENGTH)
        pieces = (words(instance.dataset, ENCAPSULATED_DOCUMENT, None)[: None if length is None else int(length)],)
    if kind == PDF:
        return PdfShown(pieces, archive)
    # Clinical documents (CDA, PS3.3 A.45.2) are given as XML with a policy that keeps a browser from acting on it.
    return StoredShown(pieces, kind) if kind in DOCUMENT_TYPES or kind == XML else None
