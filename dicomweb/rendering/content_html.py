"""A structured report as HTML: nested lists that screen readers and printers understand, nothing in it but text and links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Final

from dicomweb.rendering.content import RELATIONSHIPS, Line, Reference, Report

# The path of a resource of an instance, as clients see it; empty where it is not to be linked.
Link = Callable[[Reference, str], str]

# Nothing runs in it and nothing is fetched but pictures of this server: it is made of what strangers have sent.
POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'self'; sandbox allow-popups allow-same-origin allow-top-navigation-by-user-activation"
)
# A report may refer to a thousand images: so many are shown, the others are linked.
MOST_PICTURES: Final = 60
_STYLE: Final = (
    "body{font:1rem/1.45 system-ui,sans-serif;max-width:60rem;margin:1.5rem auto;padding:0 1rem;color:#1b2226;background:#fff}"
    "h1{font-size:1.6rem;margin:0 0 .8rem}h2,h3,h4,h5,h6{font-size:1.1rem;margin:1rem 0 .2rem}h2{font-size:1.3rem}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0 0 1rem;padding:0 0 1rem;border-bottom:1px solid #aab5bc}"
    "dt{color:#4c5a63}dd{margin:0}ul{list-style:none;margin:0;padding:0 0 0 1.1rem;border-left:2px solid #e1e6e9}"
    "main>ul{padding:0;border:0}li{margin:.2rem 0}.concept{font-weight:600}.relation{color:#4c5a63;font-size:.85rem}"
    ".value{white-space:pre-wrap;overflow-wrap:anywhere}.note{border:1px solid #b58900;padding:.4rem .6rem}"
    "img{max-width:8rem;max-height:8rem;vertical-align:middle;background:#000}a{color:#0b5cad}:target{background:#fff3c4}"
    "@media print{body{margin:0;max-width:none;font-size:10pt}a{color:inherit}li,dl{break-inside:avoid-page}h2,h3{break-after:avoid}}"
)


def as_html(report: Report, link: Link) -> bytes:
    """The whole page, in UTF-8. `link` makes the paths of what it refers to."""
    return "".join(_page(report, link)).encode("utf-8", "replace")


def _page(report: Report, link: Link) -> Iterator[str]:
    title = escape(report.title)
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head>\n"
    yield f'<body><main id="item-1"><h1>{title}</h1>\n'
    if report.about:
        yield "<dl>"
        yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in report.about)
        yield "</dl>\n"
    if report.left_out:
        yield f'<p class="note">{escape(report.left_out)}</p>\n'
    yield from _tree(report, link)
    yield "</main></body></html>\n"


def _tree(report: Report, link: Link) -> Iterator[str]:
    """Lists in lists; the root is the page itself and has no entry of its own."""
    numbers = {line.number for line in report.lines}
    depth, pictures = 0, 0
    for line in report.lines[1:]:
        if line.depth > depth:
            yield "<ul>" * (line.depth - depth)
        else:
            yield "</li>" + "</ul></li>" * (depth - line.depth)
        depth = line.depth
        pictures += len(line.references)
        yield f'\n<li id="item-{line.number}">{_entry(line, link, numbers, pictures <= MOST_PICTURES)}'
    yield "</li></ul>" * depth


def _entry(line: Line, link: Link, numbers: set[str], with_pictures: bool) -> str:
    relation = RELATIONSHIPS.get(line.relationship, "")
    label = f'<span class="relation">{relation}</span> ' if relation else ""
    observed = f' <span class="relation">{escape(line.observed)}</span>' if line.observed else ""
    if line.is_container:
        level = min(line.depth + 1, 6)
        return f"{label}<h{level}>{escape(line.concept or 'Section')}</h{level}>{observed}"
    concept = f'<span class="concept">{escape(line.concept)}:</span> ' if line.concept else ""
    value = f'<span class="value">{escape(line.value)}</span>' if line.value else ""
    return f"{label}{concept}{value}{_target(line, numbers)}{''.join(_pictures(line, link, with_pictures))}{observed}"


def _target(line: Line, numbers: set[str]) -> str:
    if not line.target:
        return ""
    if line.target not in numbers:
        return f"item {escape(line.target)}, which is not in the document"
    return f'<a href="#item-{line.target}">item {line.target}</a>'


def _pictures(line: Line, link: Link, with_pictures: bool) -> Iterator[str]:
    for one in line.references:
        what = {"IMAGE": "image", "WAVEFORM": "waveform"}.get(line.value_type, "object")
        href = escape(link(one, "rendered"))
        if not href:
            yield f" {what} {escape(one.instance)}"
            continue
        shown = f'<img src="{escape(link(one, "thumbnail"))}" alt="" loading="lazy"> ' if with_pictures else ""
        yield f' <a href="{href}">{shown}{what} {escape(one.instance)}</a>'
