"""A structured report as plain text: one item to a line, two spaces to a level."""

from __future__ import annotations

from collections.abc import Iterator

from dicomweb.rendering.content import RELATIONSHIPS, Line, Report


def as_text(report: Report) -> bytes:
    """The whole document in UTF-8."""
    return ("\n".join(text_lines(report)) + "\n").encode("utf-8", "replace")


def text_lines(report: Report) -> Iterator[str]:
    """Title, what is said of it, and its items."""
    yield report.title
    yield "=" * len(report.title)
    yield from (f"{name}: {_flat(value)}" for name, value in report.about)
    yield ""
    yield from (_entry(line) for line in report.lines[1:])
    if report.left_out:
        yield report.left_out


def _entry(line: Line) -> str:
    indent = "  " * (min(line.depth, 40) - 1)
    relation = RELATIONSHIPS.get(line.relationship, "")
    label = f"[{relation}] " if relation else ""
    parts = [line.value.replace("\n", "\n" + indent + "  ").replace("\r", "")] if line.value else []
    parts += [f"item {line.target}"] if line.target else []
    parts += [f"{line.value_type.lower()} {one.instance}" for one in line.references]
    parts += [f"[{line.observed}]"] if line.observed else []
    if line.is_container:
        return f"{indent}{label}# {line.concept or 'Section'}"
    return f"{indent}{label}{line.concept}{': ' if line.concept else ''}{' '.join(parts)}"


def _flat(value: str) -> str:
    return " ".join(value.split())
