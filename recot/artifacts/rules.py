"""What decides a claim: rules, each a function that asks cells of tables and yields comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recot.artifacts.report import Report, report
from recot.artifacts.spec import Artifact
from recot.evaluation.paired import welch
from recot.record.lines import CellLine

ONE_SEED = "one seed"
"""What stands in place of a p value where there is none."""

SIGNIFICANT = 0.05
"""P value below which a difference is called so."""


@dataclass(frozen=True)
class Reading:
    """A cell of a table that a claim reads.

    Attributes:
        table: name of the artifact. row, column, metric: ids of the spec. name: of the row. data: name of the column.
        value: its number, or None. seeds: how many the number is a mean of.
    """

    table: str
    row: str
    column: str
    metric: str
    name: str
    data: str
    value: float | None = None
    seeds: int = 0


@dataclass(frozen=True)
class Comparison:
    """One question to the cells, of which a claim asks several.

    Attributes:
        readings: the cells, at most four. holds: the answer; None where a number is missing.
        change: the number that the rule judges, relative, as in ``+2.1 %``; None where a number is missing.
        p: of the difference, or None where no test can be made. evidence: what the p value is of, or why there is none.
        what: what ``change`` is. slack: how well the claim is borne out, for telling which comparison does so least.
    """

    readings: tuple[Reading, ...]
    holds: bool | None = None
    change: float | None = None
    p: float | None = None
    evidence: str = ""
    what: str = "difference"
    slack: float = 0.0


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what decides it.

    Attributes:
        paper, id: its name here. text: in our words. table: name of the artifact.
        data: columns, or entries of ``data``; metrics: of the table; both empty for all.
        rule: a name of :data:`RULES`, or empty for prose. settings: of the rule.
        remarks: verdict -> what it is to be read with. prose: what is known where no cell decides.
    """

    paper: str
    id: str
    text: str
    table: str = ""
    data: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    rule: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    prose: str = ""


@dataclass(frozen=True)
class Reports:
    """The reports of a paper's tables, each read once.

    Attributes:
        artifacts: by name.
    """

    artifacts: Mapping[str, Artifact]
    results: Path
    known: dict[str, Report] = field(default_factory=dict)

    def get(self, name: str) -> Report:
        """The report of a table."""
        if name not in self.known:
            self.known[name] = report(self.artifacts[name], self.results)
        return self.known[name]


@dataclass(frozen=True)
class Asked:
    """A claim with the tables that answer it, as a rule sees it."""

    claim: Claim
    reports: Reports

    def read(self, row: str, column: str, metric: str, table: str = "") -> tuple[Reading, CellLine | None]:
        """A cell of the claim's table, or of another one of the paper, and the line of its csv."""
        found = self.reports.get(table or self.claim.table)
        line = found.cells.get((row, column, metric))
        name = next(each.name for each in found.artifact.rows if each.id == row)
        at = next(each for each in found.artifact.columns if each.id == column)
        data = f"{at.name}, {found.artifact.axis[0]} {at.label}" if found.artifact.axis else at.name
        known = line is not None and line.mean is not None
        return Reading(found.artifact.name, row, column, metric, name, data, line.mean if line else None,
                       len(line.seeds) if line and known else 0), line if known else None

    def columns(self, names: Sequence[str] = (), table: str = "") -> list[str]:
        """Ids of the columns that these names stand for; without any those of the claim, or all of the table."""
        found = self.reports.get(table or self.claim.table)
        wanted = names or (self.claim.data if not table else ())
        return [column.id for column in found.artifact.columns] if not wanted else [
            column.id for name in wanted for column in found.columns_of(name)]

    def metrics(self) -> Sequence[str]:
        """Metrics of the claim, or all of the table."""
        return self.claim.metrics or self.reports.get(self.claim.table).artifact.metrics

    def places(self) -> Iterator[tuple[str, str]]:
        """Each column and metric of the claim."""
        for column in self.columns():
            for metric in self.metrics():
                yield column, metric

    def tested(self, first: CellLine, second: CellLine) -> tuple[float | None, str]:
        """P value of the difference of two cells and what it is of: seeds, or the stored test over users."""
        if first.std is not None and second.std is not None and first.mean is not None and second.mean is not None:
            return welch((first.mean, first.std, len(first.seeds)), (second.mean, second.std, len(second.seeds))), (
                f"over {min(len(first.seeds), len(second.seeds))} seeds")
        for test in self.reports.get(self.claim.table).tests:
            if (test.column, test.metric) == (first.column, first.metric) == (second.column, second.metric) and {
                    test.best, test.second} == {first.row, second.row}:
                return test.p_holm, f"paired over {test.users:,} users"
        return None, ONE_SEED


def greater(asked: Asked, rows: Sequence[str], than: Sequence[str], margin: float = 0.0, significant: bool = False,
            than_metric: str = "", than_data: Sequence[str] = ()) -> Iterator[Comparison]:
    """Each of ``rows`` is above each of ``than`` in every column and metric.

    Args:
        margin: by how much at least, relative to the other. significant: whether p has to be below .05 as well; then
            what has one seed and no stored test cannot be decided.
        than_metric, than_data: of the other cell, where they are not those of the first.
    """
    others = asked.columns(than_data) if than_data else []
    for number, column in enumerate(asked.columns()):
        for metric in asked.metrics():
            for row in rows:
                for other in than:
                    there = others[min(number, len(others) - 1)] if others else column
                    (first, own), (second, line) = (asked.read(row, column, metric),
                                                    asked.read(other, there, than_metric or metric))
                    yield against(asked, (first, second), own, line, margin, significant)


def against(asked: Asked, readings: tuple[Reading, ...], first: CellLine | None, second: CellLine | None,
            margin: float, significant: bool) -> Comparison:
    """Whether the first of two cells is above the second; see :func:`greater`."""
    if first is None or second is None or first.mean is None or second.mean is None:
        return Comparison(readings)
    p, evidence = asked.tested(first, second)
    holds: bool | None = first.mean > second.mean + margin * abs(second.mean)
    if significant and holds:
        holds = None if p is None else p < SIGNIFICANT
    change = relative(first.mean, second.mean)
    return Comparison(readings, holds, change, p, evidence, slack=change)


def relative(value: float, other: float) -> float:
    """``value`` against ``other``; of zero the sign of the difference."""
    return (value - other) / abs(other) if other else float((value > other) - (value < other))


def within(asked: Asked, rows: Sequence[str], by: float) -> Iterator[Comparison]:
    """Ours is within ``by`` of the printed number, relative, for each of ``rows`` in every column and metric; what the
    paper does not print is not asked.
    """
    for column, metric in asked.places():
        for row in rows:
            reading, line = asked.read(row, column, metric)
            if line and line.mean is not None and line.paper is not None:
                change = relative(line.mean, line.paper)
                yield Comparison((reading,), abs(change) <= by, change, None, "",
                                 f"difference to the paper's {line.paper:g}", -abs(change))


def flat(asked: Asked, rows: Sequence[str], by: float) -> Iterator[Comparison]:
    """The values of each row along the columns of the claim are within ``by`` of each other, of the largest."""
    for metric in asked.metrics():
        for row in rows:
            cells = [asked.read(row, column, metric)[0] for column in asked.columns()]
            cells = [cell for cell in cells if cell.value is not None]
            if len(cells) > 1:
                low, high = (pick(cells, key=lambda cell: cell.value or 0.0) for pick in (min, max))
                change = relative(low.value or 0.0, high.value or 0.0)
                yield Comparison((low, high), -change <= by, change, None, "", "least against largest", change)


def falls_least(asked: Asked, row: str, among: Sequence[str], start: str, end: str) -> Iterator[Comparison]:
    """From the column ``start`` to ``end`` the value of ``row`` changes more favourably than that of each of ``among``.
    """
    for metric in asked.metrics():
        own = [asked.read(row, column, metric)[0] for column in (start, end)]
        for other in among:
            theirs = [asked.read(other, column, metric)[0] for column in (start, end)]
            yield gain(own, theirs, "change of the first less that of the second")


def gains(asked: Asked, row: str, over: str, than: Mapping[str, Any]) -> Iterator[Comparison]:
    """``row`` gains more over ``over`` than another row over its own base: relative gains, each a mean over columns.

    Args:
        than: the other ``row`` and ``over``, and their ``table`` and ``data`` where these are others.
    """
    for metric in asked.metrics():
        means = []
        for words, table, columns in (({"row": row, "over": over}, "", asked.columns()), (
                than, than.get("table", ""), asked.columns(than.get("data", ()), than.get("table", "")))):
            for name in ("over", "row"):
                cells = [asked.read(words[name], column, metric, table)[0] for column in columns]
                means.append(mean(cells))
        yield gain(means[:2], means[2:], "gain of the first less that of the second")


def mean(cells: Sequence[Reading]) -> Reading:
    """A reading of the mean over columns; without a value where one of the cells has none."""
    values = [cell.value for cell in cells if cell.value is not None]
    first = cells[0]
    if len(cells) == 1:
        return first
    value = sum(values) / len(values) if len(values) == len(cells) else None
    return replace(first, data=f"mean of {len(cells)} columns", value=value, seeds=min(cell.seeds for cell in cells))


def gain(first: Sequence[Reading], second: Sequence[Reading], what: str) -> Comparison:
    """Whether the relative change from the one to the other of ``first`` is above that of ``second``."""
    values = [cell.value for cell in (*first, *second)]
    if None in values or not values[0] or not values[2]:
        return Comparison((*first, *second))
    own, other = (relative(*(cell.value or 0.0 for cell in reversed(pair))) for pair in (first, second))
    seeds = min(cell.seeds for cell in (*first, *second))
    return Comparison((*first, *second), own > other, own - other, None,
                      ONE_SEED if seeds == 1 else f"{seeds} seeds, no test", what, own - other)


RULES: dict[str, Callable[..., Iterator[Comparison]]] = {
    "greater": greater, "within": within, "flat": flat, "falls_least": falls_least, "gains": gains}
"""What may decide a claim. Each rule is a function of a claim and its settings, and yields comparisons."""

SETTINGS = {
    "greater": ({"rows", "than"}, {"margin", "significant", "than_metric", "than_data"}),
    "within": ({"rows", "by"}, set()), "flat": ({"rows", "by"}, set()),
    "falls_least": ({"row", "among", "start", "end"}, set()),
    "gains": ({"row", "over", "than"}, set())}
"""Rule -> settings that it needs, and settings that it may have."""
