"""What the tables of the results page hold: each cell with our number, the paper's, its verdict and its origin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from recot.artifacts.collect import NO_DATA, NOT_RUN
from recot.artifacts.report import Report
from recot.artifacts.spec import Artifact, Column, Row
from recot.pages.table import Lines, by_data, leaders, older, percent, shown, sorted_by_value, stars
from recot.record.lines import CellLine, PairedLine, RunLine

VERDICTS = {"match": "match", "close": "close", "differs": "differs"}
"""Verdicts of a number beside a printed one, each the name of its style; others have none."""


@dataclass(frozen=True)
class Box:
    """A cell of a table.

    Attributes:
        id: of the element, for links. ours: our value, or why there is none. spread: its deviation over seeds.
        paper: the printed number; delta: the difference to it; verdict: what the difference is called; or empty.
        change: against the reference row of the table, or empty. order: what the column is sorted by, or None.
        best, star, dagger: the marks. line: of the csv. title: what the number is, in words.
    """

    id: str
    ours: str
    title: str
    line: CellLine
    spread: str = ""
    paper: str = ""
    delta: str = ""
    verdict: str = ""
    change: str = ""
    order: float | None = None
    best: bool = False
    star: bool = False
    dagger: bool = False

    @property
    def measured(self) -> bool:
        """Whether there is a number of ours."""
        return self.order is not None


@dataclass(frozen=True)
class Band:
    """A row of a table: its id and name, whether it is beyond the paper (of data: stands in for others), its boxes."""

    id: str
    name: str
    beyond: bool
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: what it shows. corner: the head of the names of its rows. heads: of its columns.
    """

    caption: str
    corner: str
    heads: tuple[str, ...]
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class Section:
    """The tables of one data set.

    Attributes:
        id: of the element. name, data: of the data set. part: the test set, where it is not the usual one.
        stands_in: the data set in whose place this one stands, or empty. empty: whether no number of ours is there.
        improvement: how far the rows in question are above the best other one, a sentence each.
    """

    id: str
    name: str
    data: str
    part: str
    stands_in: str
    grids: tuple[Grid, ...]
    empty: bool
    improvement: tuple[str, ...] = field(default=())


def slug(text: str) -> str:
    """A text as part of an address."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def anchor(*parts: str) -> str:
    """The id of an element that these parts name; different parts have different ids."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:6]
    return f"{slug('-'.join(parts)) or 'x'}-{digest}"


def completed(report: Report) -> Lines:
    """A line for every cell of the spec; one that the csv does not have is not run yet."""
    artifact, empty = report.artifact, {}
    for column, row in artifact.cells():
        for metric in artifact.metrics:
            empty[row.id, column.id, metric] = CellLine(artifact.name, row.id, column.id, metric, verdict=NOT_RUN)
    return empty | report.cells


@dataclass(frozen=True)
class Maker:
    """Makes the sections of an artifact.

    Attributes:
        today: key -> digest of the code that would make the run now.
    """

    report: Report
    today: Mapping[str, str]

    @property
    def artifact(self) -> Artifact:
        """What is shown."""
        return self.report.artifact

    @cached_property
    def stars(self) -> set[tuple[str, str, str]]:
        """Row, column and metric of the best rows that beat the second significantly."""
        return stars(self.report.tests)

    @cached_property
    def sections(self) -> list[Section]:
        """One for each data set, or one for all where data sets are counted. What has numbers comes first."""
        lines, known = completed(self.report), {line.column for line in self.report.cells.values()}
        if self.artifact.kind == "statistics":
            columns = [column for column in self.artifact.columns if column.id in known]
            return [self.counted(columns, lines)] if columns else []
        found = [self.section(columns, lines) for columns in by_data(self.artifact).values()
                 if any(column.id in known for column in columns)]
        return sorted(found, key=lambda section: section.empty)

    def counted(self, columns: Sequence[Column], lines: Lines) -> Section:
        """The table of data sets, which are its rows."""
        row, bands = self.artifact.rows[0], []
        for column in columns:
            boxes = tuple(self.box(row, column, metric, lines, {}) for metric in self.artifact.metrics)
            bands.append(Band(column.id, column.name, bool(column.stands_in), boxes))
        bands.sort(key=lambda band: not measured([band]))
        grid = Grid(self.artifact.title, "data set", self.artifact.metrics, tuple(bands))
        return Section("data", "", "", "", "", (grid,), not measured(bands))

    def section(self, columns: Sequence[Column], lines: Lines) -> Section:
        """The tables of a data set: one, or along an axis one for each metric."""
        first, axis = columns[0], self.artifact.axis
        part = "" if first.questions == "test" or axis else first.questions
        along = sorted_by_value(columns)
        if axis:
            heads = tuple(column.label for column in along)
            grids = tuple(self.grid(f"{metric} by {axis[1]}, {first.name}", [(column, metric) for column in along],
                                    heads, lines, {}) for metric in self.artifact.metrics)
        else:
            best = leaders(self.artifact, first, lines)
            grids = (self.grid(f"{self.artifact.title}, {first.name}",
                               [(first, metric) for metric in self.artifact.metrics], self.artifact.metrics, lines,
                               best),)
        empty = not any(measured(grid.bands) for grid in grids)
        return Section(anchor("data", first.entry), first.name, first.data, part, first.stands_in or "", grids, empty,
                       tuple(improvements(self.artifact, first, lines)))

    def grid(self, caption: str, places: Sequence[tuple[Column, str]], heads: tuple[str, ...], lines: Lines,
             best: Mapping[str, str]) -> Grid:
        """A table whose columns are ``places``."""
        bands = []
        for row in self.artifact.rows:
            cells = [lines[row.id, column.id, metric] for column, metric in places]
            if row.beyond and all(line.verdict == NO_DATA for line in cells):
                continue  # there is neither a number of ours nor one of the paper's
            boxes = tuple(self.box(row, column, metric, lines, best) for column, metric in places)
            bands.append(Band(row.id, row.name, row.beyond, boxes))
        return Grid(caption, "method" if self.artifact.kind != "worked" else "output", heads, tuple(bands))

    def box(self, row: Row, column: Column, metric: str, lines: Lines, best: Mapping[str, str]) -> Box:
        """A cell."""
        line, artifact = lines[row.id, column.id, metric], self.artifact
        name = column.name if artifact.kind == "statistics" else row.name
        where = [metric, *([f"{artifact.axis[0]} {column.label}"] if artifact.axis else [])]
        title = ", ".join([name, *where, *[column.name] * (artifact.kind != "statistics")])
        id_ = anchor(row.id, column.id, metric)
        paper = shown(line.paper, metric)
        if line.mean is None:
            return Box(id_, line.verdict, title, line, paper=paper)
        place = row.id, column.id, metric
        return Box(id_, shown(line.mean, metric), title, line, paper=paper, order=line.mean,
                   spread="" if line.std is None or metric == "questions" else f"{line.std:.4f}",
                   delta="" if line.delta is None else percent(line.delta),
                   verdict=VERDICTS.get(line.verdict, "") if paper else "", change=self.change(*place, lines),
                   best=best.get(metric) == row.id, star=place in self.stars,
                   dagger=older(line, self.report.runs, self.today))

    def change(self, row: str, column: str, metric: str, lines: Lines) -> str:
        """Of our number against the reference row of the table, where it has one."""
        reference = self.artifact.relative_to
        if not reference or reference == row:
            return ""
        value, other = lines[row, column, metric].mean, lines[reference, column, metric].mean
        return percent(value / other - 1) if value is not None and other else ""


def measured(bands: Sequence[Band]) -> bool:
    """Whether a row has a number of ours."""
    return any(box.measured for band in bands for box in band.boxes)


def improvements(artifact: Artifact, column: Column, lines: Lines) -> Iterator[str]:
    """How far the best of the rows in question is above the best other one of the paper, ours and the paper's."""
    from recot.pages.markdown import improvement

    if artifact.improvement:
        for _, whose, *texts in improvement(artifact, column, lines):
            known = [f"{metric} {text}" for metric, text in zip(artifact.metrics, texts, strict=True) if text]
            names = ", ".join(row.name for row in artifact.rows if row.id in artifact.improvement)
            if known:
                yield f"Best of {names} against the best other, {whose}: {', '.join(known)}."


def tested(line: CellLine, tests: Sequence[PairedLine], names: Mapping[str, str]) -> str:
    """The stored test that a cell is part of, in words; empty where there is none. ``names``: of the rows."""
    for test in tests:
        if (test.column, test.metric) == (line.column, line.metric) and line.row in (test.best, test.second):
            rows = " against ".join(names.get(row, row) for row in (test.best, test.second))
            return (f"{rows}: {test.difference:+.4f} over {test.users:,} users, paired "
                    f"t-test p = {test.p:.3g}, after Holm's correction {test.p_holm:.3g}")
    return ""


def told(run: RunLine, today: Mapping[str, str]) -> dict[str, str]:
    """What the list of runs says of a run, in words, by name; what it does not say is left out."""
    best = "" if run.best_epoch is None else f" (best {run.best_epoch:g})"
    state = ""
    if run.key in today and today[run.key] != run.sources:
        state = "today's code repeats it" if today[run.key] == run.repeated else "code has changed since"
    memory = "" if run.peak_memory_mb is None else f"{run.peak_memory_mb:,.0f} MB"
    threads = "" if run.threads is None else f", {run.threads} thread{'s' * (run.threads != 1)}"
    parts = {"seed": str(run.seed), "command": run.command, "split": run.split, "commit": run.commit,
             "device": f"{run.device}{threads}", "epochs": f"{run.epochs}{best}" if run.epochs else "closed form",
             "seconds of fitting": f"{run.seconds:,.1f}", "peak memory": memory, "finished": run.finished,
             "digest of answers": run.digest, "code": state, "key": run.key}
    return {name: text for name, text in parts.items() if text}
