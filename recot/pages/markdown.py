"""A page per artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recot.artifacts.collect import NO_DATA
from recot.artifacts.spec import Artifact, Column
from recot.pages.pipes import escape, table
from recot.pages.table import (
    Lines,
    against_paper,
    by_data,
    cell_lines,
    indexed,
    leaders,
    ours,
    percent,
    shown,
    shown_cell,
    sorted_by_value,
    stars,
)
from recot.record.lines import CellLine, PairedLine, RunLine


def markdown(artifact: Artifact, rows: Sequence[CellLine], tests: Sequence[PairedLine], runs: Mapping[str, RunLine],
             today: Mapping[str, str], notes: Sequence[str]) -> str:
    """The page of an artifact.

    Args:
        runs: key -> row of the list of runs. today: key -> digest of the code that would make the run now.
        notes: provenance, one sentence each.
    """
    lines, starred = indexed(rows), stars(tests)
    page = [f"# {escape(artifact.title)} ({artifact.paper} {artifact.name})", ""]
    if artifact.planted:
        page += ["**Planted data, tiny settings: these numbers show that everything runs, and mean nothing else.**", ""]
    if artifact.kind == "statistics":
        page += statistics(artifact, lines)
    for columns in by_data(artifact).values() if artifact.kind != "statistics" else ():
        first = columns[0]
        part = "" if first.questions == "test" or artifact.axis else f", test set `{first.questions}`"
        page += [f"## {escape(first.name)} (`{first.data}`{part})", ""]
        if first.stands_in:
            page += [f"In place of `{first.stands_in}`, which is not at hand; not comparable with the paper's numbers.",
                     ""]
        if artifact.axis:
            along = sorted_by_value(columns)
            for metric in artifact.metrics:
                page += table([f"{metric}, {artifact.axis[0]}", *(column.label for column in along)],
                              [[escape(row.name), *(escape(shown_cell(lines[row.id, column.id, metric], runs, today))
                                                    for column in along)] for row in artifact.rows])
        else:
            page += results(artifact, first, lines, starred, runs, today)
    if artifact.kind == "figure":
        page += [f"![{escape(artifact.title)}]({artifact.name}.png)", ""]
    page += [escape(artifact.note), ""] if artifact.note else []
    page += [f"* {note}" for note in notes]
    return "\n".join(page).rstrip() + "\n"


def statistics(artifact: Artifact, lines: Lines) -> list[str]:
    """One table for all data sets."""
    body = []
    for column in artifact.columns:
        cells = cell_lines(artifact, artifact.rows[0], column, lines)
        texts = ([escape(cells[0].verdict), *[""] * (len(cells) - 1)] if cells[0].mean is None else
                 [ours(line) for line in cells])
        body.append([escape(column.name), "ours", *texts])
        if any(line.paper is not None for line in cells):
            body.append(["", "paper", *(shown(line.paper, line.metric) for line in cells)])
            if any(line.delta is not None for line in cells):
                body.append(["", "difference", *(against_paper(line) for line in cells)])
    return table(["", "", *artifact.metrics], body)


def results(artifact: Artifact, column: Column, lines: Lines, starred: set[tuple[str, str, str]],
            runs: Mapping[str, RunLine], today: Mapping[str, str]) -> list[str]:
    """The table of one data set: for every row what we measured, what the paper prints, and the difference."""
    best, body = leaders(artifact, column, lines), []
    beyond = next((row for row in artifact.rows if row.beyond), None)
    for number, row in enumerate(artifact.rows):
        if row.beyond and all(line.verdict == NO_DATA for line in cell_lines(artifact, row, column, lines)):
            continue  # there is neither a number of ours nor one of the paper's
        if row is beyond:
            body.append(["*beyond the paper*", *[""] * (len(artifact.metrics) + 1)])
        cells = cell_lines(artifact, row, column, lines)
        texts = []
        for line in cells:
            text = escape(shown_cell(line, runs, today))
            if best.get(line.metric) == row.id:
                text = f"**{text}**" + ("\\*" if (row.id, column.id, line.metric) in starred else "")
            texts.append(text)
        if all(line.mean is None for line in cells) and len({line.verdict for line in cells}) == 1:
            texts = [escape(cells[0].verdict), *[""] * (len(cells) - 1)]
        body.append([escape(row.name), "ours", *texts])
        if artifact.relative_to and row.id != artifact.relative_to and cells[0].mean is not None:
            body.append(["", "against " + escape(artifact.relative_to), *(change(line, lines[
                artifact.relative_to, column.id, line.metric], "mean") for line in cells)])
        if any(line.paper is not None for line in cells):
            body.append(["", "paper", *(shown(line.paper, line.metric) for line in cells)])
            if artifact.relative_to and row.id != artifact.relative_to:
                body.append(["", "paper against " + escape(artifact.relative_to), *(change(line, lines[
                    artifact.relative_to, column.id, line.metric], "paper") for line in cells)])
            if any(line.delta is not None for line in cells):
                body.append(["", "difference", *(against_paper(line) for line in cells)])
        if artifact.improvement and not row.beyond and (row is artifact.rows[-1] or artifact.rows[number + 1].beyond):
            body += improvement(artifact, column, lines)
    return table(["", "", *artifact.metrics], body)


def improvement(artifact: Artifact, column: Column, lines: Lines) -> list[list[str]]:
    """How far the best of the rows in question is above the best other one of the paper; where all are known."""
    body = []
    for which, label in (("mean", "ours"), ("paper", "paper")):
        texts = []
        for metric in artifact.metrics:
            values = {row.id: getattr(lines[row.id, column.id, metric], which) for row in artifact.rows
                      if not row.beyond}
            known = None not in values.values()
            best = [max(value for id_, value in values.items() if (id_ in artifact.improvement) is own)
                    for own in (True, False)] if known else []
            better = known and best[1] and metric in artifact.contested
            texts.append(percent(best[0] / best[1] - 1) if better else "")
        body.append(["", label, *texts])
    names = ", ".join(row.name for row in artifact.rows if row.id in artifact.improvement)
    filled = [row for row in body if any(row[2:])]
    for row in filled[:1]:
        row[0] = escape(f"best of {names} against the best other")
    return filled


def change(line: CellLine, reference: CellLine, which: str) -> str:
    """Relative change of ours (``which`` is mean) or the paper's (paper) against the reference row."""
    value, other = getattr(line, which), getattr(reference, which)
    return "" if value is None or not other else percent(value / other - 1)
