"""From the csv files of an artifact to what people read: markdown and LaTeX. Reads no record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from recot.collect import NO_DATA
from recot.ledger import Line
from recot.spec import Artifact, Column, Row

STAR = 0.05  # p value after Holm's correction below which the best row gets a star

Lines = Mapping[tuple[str, str, str], Line]


def indexed(lines: Iterable[Line]) -> Lines:
    """By row, column and metric."""
    return {(line["row"], line["column"], line["metric"]): line for line in lines}


def shown(value: str, metric: str) -> str:
    """A value as a table shows it: four digits behind the point, counts in full."""
    if metric in ("users", "items", "interactions", "questions"):
        return f"{float(value):,.0f}"
    if metric in ("avg_interactions_per_user", "density"):
        return f"{float(value):.3g}" if metric == "density" else f"{float(value):.1f}"
    if metric.endswith("seconds"):
        return f"{float(value):.1f}"
    return f"{float(value):.4f}"


def ours(line: Line) -> str:
    """Mean, and deviation over seeds where there are several."""
    text = shown(line["mean"], line["metric"])
    return f"{text} ± {float(line['std']):.4f}" if line["std"] else text


def against_paper(line: Line) -> str:
    """The relative difference and what it is called."""
    return f"{percent(float(line['delta']))}, {line['verdict']}" if line["delta"] else ""


def percent(share: float) -> str:
    """With a sign and one digit; nothing is 0.0 %."""
    text = f"{share:+.1%}".replace("%", " %")
    return "0.0 %" if text[1:] == "0.0 %" else text


def leaders(artifact: Artifact, column: Column, lines: Lines) -> dict[str, str]:
    """Metric -> id of the best of the paper's own rows; none where there is one row only, and none of times."""
    best = {}
    for metric in (metric for metric in artifact.metrics if not metric.endswith("seconds")):
        values = {row.id: float(lines[row.id, column.id, metric]["mean"]) for row in artifact.rows
                  if not row.beyond and lines[row.id, column.id, metric]["mean"]}
        if len(values) > 1:
            best[metric] = max(values, key=lambda id_: values[id_])
    return best


def stars(tests: Iterable[Line]) -> set[tuple[str, str, str]]:
    """Row, column and metric of the best rows that beat the second significantly."""
    return {(line["best"], line["column"], line["metric"]) for line in tests if float(line["p_holm"]) < STAR
            and float(line["difference"]) > 0}


def older(line: Line, runs: Mapping[str, Line], today: Mapping[str, str]) -> bool:
    """Whether a run of the cell was made by code that has changed since, and that today's was not seen to repeat."""
    return any(key in runs and key in today and today[key] not in (runs[key]["sources"], runs[key]["repeated"])
               for key in line["key"].split())


def cell_lines(artifact: Artifact, row: Row, column: Column, lines: Lines) -> list[Line]:
    """The csv rows of a cell, one per metric."""
    return [lines[row.id, column.id, metric] for metric in artifact.metrics]


def markdown(artifact: Artifact, found: Sequence[Line], tests: Sequence[Line], runs: Mapping[str, Line],
             today: Mapping[str, str], notes: Sequence[str]) -> str:
    """The page of an artifact.

    Args:
        runs: key -> row of the list of runs. today: key -> digest of the code that would make the run now.
        notes: provenance, one sentence each.
    """
    lines, starred = indexed(found), stars(tests)
    page = [f"# {escape(artifact.title)} ({artifact.paper} {artifact.name})", ""]
    if artifact.planted:
        page += ["**Planted data, tiny settings: these numbers show that everything runs, and mean nothing else.**", ""]
    if artifact.kind == "statistics":
        page += statistics(artifact, lines)
    for columns in by_data(artifact).values() if artifact.kind != "statistics" else ():
        first = columns[0]
        page += [f"## {escape(first.name)} (`{first.data}`)", ""]
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
        texts = ([ours(line) for line in cells] if cells[0]["mean"] else
                 [escape(cells[0]["verdict"]), *[""] * (len(cells) - 1)])
        body.append([escape(column.name), "ours", *texts])
        if any(line["paper"] for line in cells):
            body.append(["", "paper", *(shown(line["paper"], line["metric"]) if line["paper"] else ""
                                        for line in cells)])
            if any(line["delta"] for line in cells):
                body.append(["", "difference", *(against_paper(line) for line in cells)])
    return table(["", "", *artifact.metrics], body)


def shown_cell(line: Line, runs: Mapping[str, Line], today: Mapping[str, str]) -> str:
    """Ours, or why there is nothing."""
    return ours(line) + ("†" if older(line, runs, today) else "") if line["mean"] else line["verdict"]


def by_data(artifact: Artifact) -> dict[str, list[Column]]:
    """The columns of each data set."""
    grouped: dict[str, list[Column]] = {}
    for column in artifact.columns:
        grouped.setdefault(column.data, []).append(column)
    return grouped


def sorted_by_value(columns: Iterable[Column]) -> list[Column]:
    """Along the axis."""
    return sorted(columns, key=lambda column: column.value or 0.0)


def results(artifact: Artifact, column: Column, lines: Lines, starred: set[tuple[str, str, str]],
            runs: Mapping[str, Line], today: Mapping[str, str]) -> list[str]:
    """The table of one data set: for every row what we measured, what the paper prints, and the difference."""
    best, body = leaders(artifact, column, lines), []
    beyond = next((row for row in artifact.rows if row.beyond), None)
    for place, row in enumerate(artifact.rows):
        if row.beyond and all(line["verdict"] == NO_DATA for line in cell_lines(artifact, row, column, lines)):
            continue  # there is neither a number of ours nor one of the paper's
        if row is beyond:
            body.append(["*beyond the paper*", *[""] * (len(artifact.metrics) + 1)])
        cells = cell_lines(artifact, row, column, lines)
        texts = []
        for line in cells:
            text = escape(shown_cell(line, runs, today))
            if best.get(line["metric"]) == row.id:
                text = f"**{text}**" + ("\\*" if (row.id, column.id, line["metric"]) in starred else "")
            texts.append(text)
        if not any(line["mean"] for line in cells) and len({line["verdict"] for line in cells}) == 1:
            texts = [escape(cells[0]["verdict"]), *[""] * (len(cells) - 1)]
        body.append([escape(row.name), "ours", *texts])
        if artifact.relative_to and row.id != artifact.relative_to and cells[0]["mean"]:
            body.append(["", "against " + escape(artifact.relative_to), *(change(line, lines[
                artifact.relative_to, column.id, line["metric"]], "mean") for line in cells)])
        if any(line["paper"] for line in cells):
            printed = [shown(line["paper"], line["metric"]) if line["paper"] else "" for line in cells]
            body.append(["", "paper", *printed])
            if artifact.relative_to and row.id != artifact.relative_to:
                body.append(["", "paper against " + escape(artifact.relative_to), *(change(line, lines[
                    artifact.relative_to, column.id, line["metric"]], "paper") for line in cells)])
            if any(line["delta"] for line in cells):
                body.append(["", "difference", *(against_paper(line) for line in cells)])
        if artifact.improvement and not row.beyond and (row is artifact.rows[-1] or artifact.rows[place + 1].beyond):
            body += improvement(artifact, column, lines)
    return table(["", "", *artifact.metrics], body)


def improvement(artifact: Artifact, column: Column, lines: Lines) -> list[list[str]]:
    """How far the best of the rows in question is above the best other one of the paper; where all are known."""
    found = []
    for which, label in (("mean", "ours"), ("paper", "paper")):
        texts = []
        for metric in artifact.metrics:
            values = {row.id: lines[row.id, column.id, metric][which] for row in artifact.rows if not row.beyond}
            known = all(values.values())
            best = [max(float(value) for id_, value in values.items() if (id_ in artifact.improvement) is own)
                    for own in (True, False)] if known else []
            texts.append(percent(best[0] / best[1] - 1) if known and best[1] else "")
        found.append(["", label, *texts])
    names = ", ".join(row.name for row in artifact.rows if row.id in artifact.improvement)
    shown = [row for row in found if any(row[2:])]
    for row in shown[:1]:
        row[0] = escape(f"best of {names} against the best other")
    return shown


def change(line: Line, reference: Line, which: str) -> str:
    """Relative change of ours or the paper's against the reference row."""
    if not (line[which] and reference[which] and float(reference[which])):
        return ""
    return percent(float(line[which]) / float(reference[which]) - 1)


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A markdown table and an empty line."""
    return [f"| {' | '.join(header)} |", "|" + " --- |" * len(header), *(f"| {' | '.join(row)} |" for row in body), ""]


def escape(text: str) -> str:
    """Plain text for markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$", "<": r"\textless{}",
       ">": r"\textgreater{}", "|": r"\textbar{}"}


def tex_escape(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def latex(artifact: Artifact, found: Sequence[Line], tests: Sequence[Line], runs: Mapping[str, Line],
          today: Mapping[str, str]) -> str:
    """A table environment for each data set (packages booktabs); ours, and the paper's number in parentheses."""
    lines, starred, parts = indexed(found), stars(tests), []
    for columns in by_data(artifact).values():
        axis = artifact.axis is not None
        places = ([(column, metric) for metric in artifact.metrics for column in sorted_by_value(columns)] if axis else
                  [(columns[0], metric) for metric in artifact.metrics])
        best = {} if axis else leaders(artifact, columns[0], lines)
        header = [tex_escape(f"{metric}, {column.label}" if axis else metric) for column, metric in places]
        body = []
        for place, row in enumerate(artifact.rows):
            if row.beyond and place and not artifact.rows[place - 1].beyond:
                body.append(r"\midrule")
            texts = []
            for column, metric in places:
                line = lines[row.id, column.id, metric]
                text = tex_escape(shown_cell(line, runs, today))
                if best.get(metric) == row.id:
                    text = rf"\textbf{{{text}}}" + ("$^*$" if (row.id, column.id, metric) in starred else "")
                texts.append(text + (f" ({shown(line['paper'], metric)})" if line["paper"] else ""))
            body.append(" & ".join([tex_escape(row.name), *texts]) + r" \\")
        mark = " Planted data, tiny settings." if artifact.planted else ""
        parts.append("\n".join([
            r"\begin{table}", r"\centering",
            rf"\caption{{{tex_escape(artifact.title)}, {tex_escape(columns[0].name)}: ours (the paper's).{mark}}}",
            rf"\begin{{tabular}}{{l{'r' * len(places)}}}", r"\toprule", " & ".join(["", *header]) + r" \\", r"\midrule",
            *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]))
    return "\n".join(parts)
