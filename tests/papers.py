"""Artifacts of two papers over planted data, and records of their runs that nobody made."""

from __future__ import annotations

from dataclasses import replace

from recot.artifacts.plan import Request
from recot.artifacts.spec import Artifact, Column, Row
from recot.artifacts.state import State
from recot.pages.publish import Publisher
from recot.record.ledger import read
from recot.record.lines import CellLine
from recot.record.store import Runs

COLUMN = Column("planted", "planted", "Planted", ("data=planted",))
ROWS = tuple(Row(id_, id_, (f"model={id_}",), False) for id_ in ("popularity", "bprmf"))
TABLE = Artifact("toy", "table1", "results", "One", "", ROWS, (COLUMN,), ("recall@20",), (0,), tests=True)
OTHER = replace(TABLE, name="table2", title="Two")
COMPOSED = {}, {}, {}  # what the planners of all programs have composed: always the same
PAPER = replace(TABLE, paper="else", title="Of another paper")


def publisher(folder, *artifacts, seeds=()):
    """What a program that has just started knows of the artifacts."""
    request = Request(list(artifacts or (TABLE,)), seeds=seeds, results=folder / "results")
    state = State(request, Runs(folder / "runs"))
    state.planner.layers, state.planner.configs, state.planner.code = COMPOSED
    return Publisher(state)


def run(folder, row=ROWS[0], seed=0, value=0.5, **changes):
    """Leaves the record of a run as if it had been made; returns its file."""
    key = publisher(folder).state.planner.keys(TABLE, COLUMN, row, [seed])[seed]
    return Runs(folder / "runs").put(key, {
        "key": key, "status": "done", "data": "planted", "model": row.id, "loss": "none", "denoiser": "none",
        "noise": "none", "seed": seed, "command": "c", "config": {}, "valid": {}, "test": {"recall@20": value},
        "split": "s", "epochs": 0, "seconds": 1.0, "device": "cpu", "threads": 1, "sources": "0" * 16, "commit": "c",
        **changes})


def stale(program):
    """What the list of runs says of those behind a number that other code than today's made."""
    return [run.line for run in program.state.behind() if run.outdated]


def cells(folder, artifact=TABLE):
    file = folder / "results" / artifact.paper / f"{artifact.name}.csv"
    return {line.row: line for line in read(file, CellLine)}
