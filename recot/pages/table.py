"""The text of the cells of a table and their marks, for markdown and LaTeX alike. Reads no record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recot.artifacts.spec import HELD_OUT, Artifact, Column, Row
from recot.record.lines import CellLine, PairedLine, RunLine

STAR = 0.05  # p value after Holm's correction below which the best row gets a star

Lines = Mapping[tuple[str, str, str], CellLine]


def indexed(lines: Iterable[CellLine]) -> Lines:
    """The lines by row, column and metric."""
    return {(line.row, line.column, line.metric): line for line in lines}


def shown(value: float | None, metric: str) -> str:
    """A value as a table shows it: four digits behind the point, counts in full; empty where there is none."""
    if value is None:
        return ""
    if metric in ("users", "items", "interactions", "questions", *HELD_OUT):
        return f"{value:,.0f}"
    if metric in ("avg_interactions_per_user", "density"):
        return f"{value:.3g}" if metric == "density" else f"{value:.1f}"
    return f"{value:.1f}" if metric.endswith("seconds") else f"{value:.4f}"


def ours(line: CellLine) -> str:
    """Mean, and deviation over seeds where there are several."""
    text = shown(line.mean, line.metric)
    return text if line.std is None else f"{text} ± {line.std:.4f}"


def against_paper(line: CellLine) -> str:
    """The relative difference to the paper and its verdict."""
    return "" if line.delta is None else f"{percent(line.delta)}, {line.verdict}"


def percent(share: float) -> str:
    """A share in percent, with a sign and one digit; no change is 0.0 %."""
    text = f"{share:+.1%}".replace("%", " %")
    return "0.0 %" if text[1:] == "0.0 %" else text


def leaders(artifact: Artifact, column: Column, lines: Lines) -> dict[str, str]:
    """Metric -> id of the best of the paper's own rows; none where there is one row only, and none of times, losses
    and lists.
    """
    best: dict[str, str] = {}
    if artifact.kind == "worked":
        return best
    for metric in artifact.contested:
        values = {row.id: mean for row in artifact.rows
                  if not row.beyond and (mean := lines[row.id, column.id, metric].mean) is not None}
        if len(values) > 1:
            best[metric] = max(values, key=lambda id_: values[id_])
    return best


def stars(tests: Iterable[PairedLine]) -> set[tuple[str, str, str]]:
    """Row, column and metric of the best rows that beat the second significantly."""
    return {(test.best, test.column, test.metric) for test in tests if test.p_holm < STAR and test.difference > 0}


def older(line: CellLine, runs: Mapping[str, RunLine], today: Mapping[str, str]) -> bool:
    """Whether a run of the cell was made by older code whose number today's code was not seen to repeat."""
    return any(key in runs and key in today and today[key] not in (runs[key].sources, runs[key].repeated)
               for key in line.keys)


def cell_lines(artifact: Artifact, row: Row, column: Column, lines: Lines) -> list[CellLine]:
    """The csv rows of a cell, one per metric."""
    return [lines[row.id, column.id, metric] for metric in artifact.metrics]


def shown_cell(line: CellLine, runs: Mapping[str, RunLine], today: Mapping[str, str]) -> str:
    """Our value, or the reason why there is none."""
    return line.verdict if line.mean is None else ours(line) + "†" * older(line, runs, today)


def by_data(artifact: Artifact) -> dict[str, list[Column]]:
    """The columns of each data set, or of each of its test sets that the spec names."""
    grouped: dict[str, list[Column]] = {}
    for column in artifact.columns:
        grouped.setdefault(column.entry, []).append(column)
    return grouped


def sorted_by_value(columns: Iterable[Column]) -> list[Column]:
    """The columns in the order of their values on the axis."""
    return sorted(columns, key=lambda column: column.value or 0.0)
