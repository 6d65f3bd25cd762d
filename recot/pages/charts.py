"""The figures of the results page: vector graphics that take their colours from the page and name each value."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from recot.artifacts.report import Report
from recot.artifacts.spec import Artifact, Column
from recot.pages.figures import multiply
from recot.pages.grid import anchor, completed
from recot.pages.table import Lines, by_data, percent, shown, sorted_by_value

INK, RULE, BARS = "#1a1b1c", "#dadbdc", "#e1e2e3"
SERIES = tuple(f"#c0ffe{number}" for number in range(10))
"""Colours that stand for those of the page; see :func:`themed`."""

THEME = {INK: "currentColor", RULE: "var(--line)", BARS: "var(--bar)"} | {
    colour: f"var(--s{number})" for number, colour in enumerate(SERIES)}
MARKS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"), ("<", "◀"), (">", "▶"),
         ("*", "★"))
"""Markers of the lines, for matplotlib and as letters: colour alone tells nothing to some readers."""

STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
         "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK,
         "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.linewidth": 0.8,
         "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"}


@dataclass(frozen=True)
class Panel:
    """One metric of one data set.

    Attributes:
        title: what it shows. alt: what a reader who does not see it is told. svg: the picture, to be put into a page.
    """

    title: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Chart:
    """The panels of a figure, and its legend: the name of each method, the number of its colour and its mark."""

    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, int, str], ...]


def chart(report: Report) -> Chart | None:
    """The pictures of a figure along an axis; None where there is no number yet, and for a case study."""
    artifact, lines = report.artifact, completed(report)
    if artifact.kind != "figure" or artifact.axis is None:
        return None
    panels, named = [], set()
    for columns in by_data(artifact).values():
        along = sorted_by_value(columns)
        for metric in (metric for metric in artifact.metrics if metric != "questions"):
            known = [row.id for row in artifact.rows
                     if any(lines[row.id, column.id, metric].mean is not None for column in along)]
            if known:
                named |= set(known)
                panels.append(panel(artifact, along, metric, lines))
                if artifact.plot == "degradation":
                    panels.append(panel(artifact, along, metric, lines, changes=True))
    legend = tuple((row.name, number(artifact, row.id) % len(SERIES), mark(artifact, row.id)[1])
                   for row in artifact.rows if row.id in named)
    return Chart(tuple(panels), legend) if panels else None


def number(artifact: Artifact, row: str) -> int:
    """The place of a method among those of all figures of the paper; it has one colour in all of them."""
    return (artifact.colours or tuple(each.id for each in artifact.rows)).index(row)


def mark(artifact: Artifact, row: str) -> tuple[str, str]:
    """The marker of a method."""
    return MARKS[number(artifact, row) % len(MARKS)]


def panel(artifact: Artifact, columns: Sequence[Column], metric: str, lines: Lines, changes: bool = False) -> Panel:
    """A picture of one metric of one data set along the axis.

    Args:
        changes: relative to the first column, in percent, in place of the values.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    what = f"{metric}, change in %" if changes else metric
    title = f"{columns[0].name}: {what}"
    salt = anchor(artifact.label, columns[0].entry, what)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        right = 0.85 if any(column.group for column in columns) else 0.97  # a second axis; a layout engine takes .1 s
        drawn, axes = pyplot.subplots(figsize=(4.5, 3.1), gridspec_kw={
            "left": 0.16, "right": right, "top": 0.97, "bottom": 0.155})
        tips = draw(axes, artifact, columns, metric, lines, changes, salt)
        axes.set(ylabel=what, xlabel=artifact.axis[1] if artifact.axis else "")
        axes.grid(visible=False, axis="x")
        content = io.BytesIO()
        drawn.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(drawn)
    return Panel(title, alternative(artifact, columns, metric, lines, title),
                 themed(content.getvalue().decode(), tips))


def draw(axes: Any, artifact: Artifact, columns: Sequence[Column], metric: str, lines: Lines, changes: bool,
         salt: str) -> dict[str, str]:
    """Draw lines, deviations, printed numbers and sizes of groups; id of each point -> what it says."""
    grouped = any(column.group for column in columns)
    places = [float(number) if grouped else column.value or 0.0 for number, column in enumerate(columns)]
    tips: dict[str, str] = {}
    if grouped:
        sizes(axes, artifact, columns, lines)
    for row in artifact.rows:
        cells = [lines[row.id, column.id, metric] for column in columns]
        start = cells[0].mean
        if changes and not start:
            continue
        colour = SERIES[number(artifact, row.id) % len(SERIES)]
        points = [(place, cell, 100 * (cell.mean / start - 1) if changes and start else cell.mean)
                  for place, cell in zip(places, cells, strict=True) if cell.mean is not None]
        axes.plot([place for place, _, _ in points], [value for _, _, value in points], color=colour, linewidth=1.8)
        for place, cell, value in points:
            id_ = f"{salt}-{len(tips)}"
            at = columns[places.index(place)].label
            name = artifact.axis[0] if artifact.axis else ""
            text = percent(value / 100) if changes else shown(cell.mean, metric)
            tips[id_] = f"{row.name}, {name} {at}: {text}" + (f" ± {cell.std:.4f}" if cell.std and not changes else "")
            axes.plot([place], [value], marker=mark(artifact, row.id)[0], markersize=6.5, color=colour, gid=id_)
            if cell.std and not changes:
                axes.errorbar([place], [value], [cell.std], color=colour, linewidth=1.0, capsize=2)
        for place, cell in zip(places, cells, strict=True):
            if cell.paper is not None and not changes:
                id_ = f"{salt}-{len(tips)}"
                tips[id_] = f"{row.name}, the paper: {shown(cell.paper, metric)}"
                axes.plot([place], [cell.paper], marker="x", markersize=8, markeredgewidth=2, color=colour, gid=id_)
    if not grouped and multiply(places):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(places, [tick(column) for column in columns])
    if changes:
        axes.axhline(0.0, color=INK, linewidth=0.8)
    return tips


def tick(column: Column) -> str:
    """The place of a column on the axis, short: ``4–7`` for the group that tables call ``4 to 7``."""
    group = column.group
    if group is None or group.low == group.high:
        return column.label
    if group.high is None:
        return f"≥ {group.low}"
    return f"{group.low}–{group.high}" if group.low else f"≤ {group.high}"


def sizes(axes: Any, artifact: Artifact, columns: Sequence[Column], lines: Lines) -> None:
    """Behind the lines: how many questions each group has, on an axis of its own."""
    counts = {place: size for place, column in enumerate(columns) for row in artifact.rows
              if (row.id, column.id, "questions") in lines
              and (size := lines[row.id, column.id, "questions"].mean) is not None}
    if not counts:
        return
    behind = axes.twinx()
    behind.bar(list(counts), list(counts.values()), 0.62, color=BARS)
    behind.set(ylabel="questions (bars)", ylim=(0, 1.6 * max(counts.values())))
    behind.grid(visible=False)
    axes.set_zorder(behind.get_zorder() + 1)


def alternative(artifact: Artifact, columns: Sequence[Column], metric: str, lines: Lines, title: str) -> str:
    """The picture in words: each method from its first to its last value."""
    parts = []
    for row in artifact.rows:
        known = [(column.label, lines[row.id, column.id, metric].mean) for column in columns
                 if lines[row.id, column.id, metric].mean is not None]
        if known:
            (first, low), (last, high) = known[0], known[-1]
            parts.append(f"{row.name} from {shown(low, metric)} at {first} to {shown(high, metric)} at {last}")
    axis = artifact.axis[1] if artifact.axis else ""
    return f"{title} by {axis}. {'; '.join(parts)}. The table below has all values."


def themed(svg: str, tips: dict[str, str]) -> str:
    """A picture for a page: without a head, its colours those of the page, its points with what they say."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    for name, colour in THEME.items():
        svg = svg.replace(name, colour)
    for id_, text in tips.items():
        svg = svg.replace(f'<g id="{id_}">', f'<g class="point"><title>{escape(text)}</title>')
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    return re.sub(r'^<svg [^>]*?(viewBox="[^"]+")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', svg).strip()
