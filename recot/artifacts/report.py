"""What the csv files of results say of an artifact. Reads no record and no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recot.artifacts.spec import Artifact, Column
from recot.record.ledger import read
from recot.record.lines import CellLine, PairedLine, RunLine


@dataclass(frozen=True)
class Report:
    """An artifact and its csv files as they are.

    Attributes:
        lines, tests: of ``<artifact>.csv`` and ``<artifact>_tests.csv``, or none. runs: lines of ``runs.csv`` by key.
        fault: what is wrong with one of the files, which then counts as one without lines; empty where nothing is.
    """

    artifact: Artifact
    lines: Sequence[CellLine] = ()
    tests: Sequence[PairedLine] = ()
    runs: Mapping[str, RunLine] = field(default_factory=dict)
    fault: str = ""

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], CellLine]:
        """The lines by row, column and metric; only of what the spec still has."""
        rows, columns = {row.id for row in self.artifact.rows}, {column.id for column in self.artifact.columns}
        return {(line.row, line.column, line.metric): line for line in self.lines
                if line.row in rows and line.column in columns and line.metric in self.artifact.metrics}

    def columns_of(self, name: str) -> list[Column]:
        """The columns that an id of a column or of an entry of ``data`` names."""
        return [column for column in self.artifact.columns if name in (column.id, column.entry)]


def report(artifact: Artifact, results: Path) -> Report:
    """Read the files of an artifact; one that is damaged is named in ``fault``."""
    folder = results / artifact.paper
    try:
        return Report(artifact, read(folder / f"{artifact.name}.csv", CellLine),
                      read(folder / f"{artifact.name}_tests.csv", PairedLine),
                      {line.key: line for line in read(folder / "runs.csv", RunLine)})
    except ValueError as error:
        return Report(artifact, fault=str(error))
