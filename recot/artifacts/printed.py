"""The numbers that a paper prints, ``experiments/papers/<paper>.csv``."""

from __future__ import annotations

import csv
from functools import cache

from recot.artifacts import load
from recot.artifacts.spec import Artifact, Column, Row


@cache
def printed_numbers(paper: str) -> dict[tuple[str, str, str, str, str], float]:
    """(artifact, data set, model, variant, metric) -> the number a paper prints."""
    file, numbers = load.EXPERIMENTS / "papers" / f"{paper}.csv", {}
    if not file.exists():  # tables of one's own have nothing printed
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            metric = f"{row['metric']}@{row['k']}" if row["k"] else row["metric"]
            numbers[row["artifact"], row["dataset"], row["model"], row["variant"], metric] = float(row["value"])
    return numbers


def printed(artifact: Artifact, row: Row, column: Column, metric: str) -> float | None:
    """What the paper prints in a cell, or None; planted data have no printed numbers."""
    if artifact.planted or (column.value is not None and artifact.kind != "figure"):
        return None
    numbers, called = printed_numbers(artifact.paper), dict(artifact.called)
    if metric not in called and metric in called.values():
        return None
    metric = called.get(metric, metric)
    variant = f"{artifact.axis[0]}={column.value:.2f}" if artifact.axis and column.value is not None else ""
    if artifact.kind == "statistics":
        return numbers.get((artifact.name, column.entry, "", "", metric))
    if artifact.printed == "model":
        return numbers.get((artifact.name, column.entry, row.paper or row.id, variant, metric))
    if artifact.printed == "variant":
        return numbers.get((artifact.name, column.entry, row.paper or artifact.paper, row.id, metric))
    return None
