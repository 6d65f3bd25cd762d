"""Artifacts with lines of csv to show."""

from recot.artifacts.collect import NOT_RUN
from recot.artifacts.spec import Artifact, Column, Row
from recot.record.lines import CellLine

ROWS = tuple(Row(id_, name, (), beyond) for id_, name, beyond in
             (("bprmf", "BPRMF", False), ("full", "R&D_1 | 50% {x}", False), ("knn", "ItemKNN", True)))
AXIS = tuple(Column(f"{data} noise={value:g}", data, data.upper(), (), value)
             for data in ("gowalla", "ml1m") for value in (0.0, 0.2, 0.1))
FIGURE = Artifact("toy", "fig2", "figure", "Added noise", "", ROWS[:2], AXIS, ("recall@20",), (0,),
                  axis=("noise", "share of added interactions"), plot="degradation")


def csv_rows(artifact, values, **others):
    """The csv of an artifact: (row, column, metric) or (row, column) -> fields of that row; others are not run yet."""
    found = []
    for column, row in artifact.cells():
        for metric in artifact.metrics:
            fields = {"verdict": NOT_RUN} | others | values.get((row.id, column.id), {}) | values.get(
                (row.id, column.id, metric), {})
            found.append(CellLine(artifact.name, row.id, column.id, metric, **fields))
    return found


def mean(value, **others):
    return {"mean": value, "seeds": (0,), "keys": ("k0",), "verdict": "no printed number"} | others


NOISE = csv_rows(FIGURE, {(row, f"{data} noise={value}"): mean(number) for row, data, value, number in (
    ("bprmf", "gowalla", "0", 0.2), ("bprmf", "gowalla", "0.1", 0.19), ("bprmf", "gowalla", "0.2", 0.17),
    ("full", "gowalla", "0", 0.25), ("full", "ml1m", "0", 0.3), ("full", "ml1m", "0.2", 0.27))})
