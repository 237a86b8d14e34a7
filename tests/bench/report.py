"""What was measured, as people read it: medians with their spread, ratios, the page and its plot."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.meter import BUSY
from tests.bench.workloads import Workload


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one workload: units a second, CPU milliseconds a unit, peak MB, and others' share of the machine."""

    server: str
    rate: float
    cpu_ms: float
    peak_mb: float
    foreign: float


@dataclass(frozen=True, slots=True)
class Started:
    """Starts of a server: seconds until it answered, and MB of all its processes when idle, shared pages counted once.

    `first`: it had no database yet.
    """

    server: str
    first: bool
    seconds: float
    idle_mb: float


def median(runs: Iterable[float]) -> float:
    """Of at least one."""
    return statistics.median(list(runs))


def ratio(runs: Sequence[Measured], ours: str, theirs: str) -> float | None:
    """Our median rate over theirs; None where one has none."""
    of = {name: [one.rate for one in runs if one.server == name] for name in (ours, theirs)}
    return median(of[ours]) / median(of[theirs]) if of[ours] and of[theirs] else None


def page(
    results: Mapping[Workload, Sequence[Measured]], starts: Sequence[Started], failures: Mapping[tuple[str, str], str], about: Sequence[str]
) -> str:
    """The whole page in Markdown."""
    servers = list(dict.fromkeys(one.server for runs in results.values() for one in runs))
    ours, theirs = servers[0], servers[1] if len(servers) > 1 else ""
    head = ["workload", f"{ours}, median (least to most)", f"{theirs or 'no peer'}", "ratio", "wanted", "CPU ms each", "peak MB", ""]
    lines = [_TITLE, "", *(f"- {line}" for line in about), "", *(["![ratios](benchmarks.svg)", ""] if theirs else []), _row(head), _row(["---"] * len(head))]
    for workload, runs in results.items():
        lines.append(_row(_cells(workload, runs, ours, theirs)))
    lines += ["", "| server | seconds to ready | the first time | idle MB |", "|---|---|---|---|"]
    for server in servers:
        own = [one for one in starts if one.server == server]
        if own:
            first, later = ([one.seconds for one in own if one.first is wanted] for wanted in (True, False))
            lines.append(f"| {server} | {median(later):.2f} | {median(first):.2f} | {max(one.idle_mb for one in own):.0f} |")
    if failures:
        lines += ["", "## What did not work", "", *(f"- {server}, {what}: {why}" for (server, what), why in failures.items())]
    return "\n".join(lines) + "\n"


_TITLE: Final = """# Benchmarks

Written by `make bench`: both servers on one machine, asked in turn within each round; what counts is the ratio. Lightbox
answers after object and index are on the disk; the peer syncs its files and not its index."""


def _cells(workload: Workload, runs: Sequence[Measured], ours: str, theirs: str) -> list[str]:
    by_server = {name: [one for one in runs if one.server == name] for name in (ours, theirs) if name}
    both = ratio(runs, ours, theirs)
    rates = [_spread([one.rate for one in by_server.get(name, [])], workload.unit) for name in (ours, theirs)]
    return [
        f"{workload.group}: {workload.what}",
        *rates,
        f"**{both:.2f}**" if both else "",
        f"{workload.target:g}" if workload.target else "",
        " / ".join(f"{median(one.cpu_ms for one in own):.2f}" for own in by_server.values() if own),
        " / ".join(f"{max(one.peak_mb for one in own):.0f}" for own in by_server.values() if own),
        "busy machine" if any(one.foreign > BUSY for one in runs) else "",
    ]


def _spread(rates: list[float], unit: str) -> str:
    if not rates:
        return "-"
    return f"{_short(median(rates))} {unit}/s ({_short(min(rates))} to {_short(max(rates))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_BAR, _LEFT, _WIDTH = 20, 330, 460


def plot(results: Mapping[Workload, Sequence[Measured]], ours: str, theirs: str) -> str:
    """The ratios as bars on a logarithmic scale, in SVG: right of the line we are faster, the tick is what is wanted."""
    rows = [(one, found) for one, runs in results.items() if (found := ratio(runs, ours, theirs))]
    least = min((0.5, *(found for _, found in rows)))
    most = max((10.0, *(found for _, found in rows)))

    def at(value: float) -> float:
        return _LEFT + _WIDTH * math.log(value / least) / math.log(most / least)

    height = _BAR * (len(rows) + 2)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 60}" height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{at(1):.0f}" y="12" text-anchor="middle">{html.escape(ours)} over {html.escape(theirs)}: 1 is the same</text>',
    ]
    for number, (workload, found) in enumerate(rows, 1):
        y = number * _BAR
        colour = "#2b7a4b" if found >= (workload.target or 1) else "#c9a227" if found >= 1 else "#b03a2e"
        left, right = sorted((at(1), at(found)))
        name = html.escape(f"{workload.group}: {workload.what}")
        drawn += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{name}</text>',
            f'<rect x="{left:.1f}" y="{y + 3}" width="{max(right - left, 1):.1f}" height="{_BAR - 6}" fill="{colour}"/>',
            f'<text x="{right + 4:.1f}" y="{y + 14}">{found:.2f}</text>',
        ]
        if workload.target:
            x = at(workload.target)
            drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + _BAR - 1}" stroke="black"/>')
    drawn.append(f'<line x1="{at(1):.1f}" x2="{at(1):.1f}" y1="16" y2="{height - 4}" stroke="#888"/>')
    return "\n".join([*drawn, "</svg>", ""])
