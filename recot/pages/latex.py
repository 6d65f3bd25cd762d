"""A table that LaTeX reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recot.artifacts.spec import Artifact
from recot.pages.table import by_data, indexed, leaders, shown, shown_cell, sorted_by_value, stars
from recot.record.lines import CellLine, PairedLine, RunLine

TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$", "<": r"\textless{}",
       ">": r"\textgreater{}", "|": r"\textbar{}"}


def tex_escape(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def latex(artifact: Artifact, rows: Sequence[CellLine], tests: Sequence[PairedLine],
          runs: Mapping[str, RunLine], today: Mapping[str, str]) -> str:
    """A table environment for each data set (packages booktabs); ours, and the paper's number in parentheses."""
    lines, starred, parts = indexed(rows), stars(tests), []
    for columns in by_data(artifact).values():
        axis = artifact.axis is not None
        places = ([(column, metric) for metric in artifact.metrics for column in sorted_by_value(columns)] if axis else
                  [(columns[0], metric) for metric in artifact.metrics])
        best = {} if axis else leaders(artifact, columns[0], lines)
        header = [tex_escape(f"{metric}, {column.label}" if axis else metric) for column, metric in places]
        body = []
        for number, row in enumerate(artifact.rows):
            if row.beyond and number and not artifact.rows[number - 1].beyond:
                body.append(r"\midrule")
            texts = []
            for column, metric in places:
                line = lines[row.id, column.id, metric]
                text = tex_escape(shown_cell(line, runs, today))
                if best.get(metric) == row.id:
                    text = rf"\textbf{{{text}}}" + ("$^*$" if (row.id, column.id, metric) in starred else "")
                texts.append(text + ("" if line.paper is None else f" ({shown(line.paper, metric)})"))
            body.append(" & ".join([tex_escape(row.name), *texts]) + r" \\")
        mark = " Planted data, tiny settings." if artifact.planted else ""
        parts.append("\n".join([
            r"\begin{table}", r"\centering",
            rf"\caption{{{tex_escape(artifact.title)}, {tex_escape(columns[0].name)}: ours (the paper's).{mark}}}",
            rf"\begin{{tabular}}{{l{'r' * len(places)}}}", r"\toprule", " & ".join(["", *header]) + r" \\", r"\midrule",
            *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]))
    return "\n".join(parts)
