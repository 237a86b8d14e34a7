"""All that a presentation state shows, one after the other in one picture that moves (PS3.18 8.7.4, PS3.3 C.11.21)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dicomweb.loops import alike, in_motion
from dicomweb.presented_pages import Page, Presentation
from dicomweb.rendering import Picture, RenderRequest, frame_times
from dicomweb.rendering.angiography import frame_time, is_skipped
from dicomweb.rendering.marks import ANNOTATIONS, LAYERS
from dicomweb.rendering.references import ANGIOGRAPHY, sop_class


def in_film(state: Presentation, pages: Sequence[Page]) -> list[Page]:
    """The pages without those whose frames the state says may be skipped; all of them where it says so of every one."""
    if sop_class(state.state.dataset) != ANGIOGRAPHY:
        return list(pages)
    return [page for page in pages if not is_skipped(state.state.dataset, *_place(page))] or list(pages)


def filmed_state(state: Presentation, pages: Sequence[Page], request: RenderRequest, folder: Path) -> bytes:
    """A GIF, WebP or MP4 at the pace that the state has for each frame, else at that of the first image.

    Raises BadRequest where it would be too long or too large, CannotDecode.
    """
    # A line in colour may be on a later page than the first.
    dataset = state.state.dataset
    coloured = bool({ANNOTATIONS, LAYERS} & dataset.keys()) or any(map(state.colour, pages))
    return in_motion(alike(_pictures(state, pages, request), coloured=coloured), _times(state, pages), request, folder)


def _pictures(state: Presentation, pages: Sequence[Page], request: RenderRequest) -> Iterator[Picture]:
    return (state.draw(page, request) for page in pages)


def _times(state: Presentation, pages: Sequence[Page]) -> list[int]:
    usual = frame_times(pages[0].image.dataset, len(pages))
    if sop_class(state.state.dataset) != ANGIOGRAPHY:
        return usual
    return [frame_time(state.state.dataset, *_place(page)) or time for page, time in zip(pages, usual, strict=True)]


def _place(page: Page) -> tuple[str, int]:
    return page.image.located.uids.instance, page.frame
