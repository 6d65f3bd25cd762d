"""The state of the papers' artifacts: which cells have which runs. Writes no page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from filelock import FileLock

from recot.artifacts.collect import NO_DATA, NOT_RUN, Cell
from recot.artifacts.jobs import Job
from recot.artifacts.plan import Planner, Request, at_hand, described, needed, reachable
from recot.artifacts.spec import Artifact, Column, Row
from recot.record.ledger import read, write
from recot.record.lines import CellLine, RunLine
from recot.record.record import Record, look_up
from recot.record.store import Runs


@dataclass(frozen=True)
class Behind:
    """A run behind a number.

    Attributes:
        job: how it is made. line: what the list of runs says of it.
        outdated: other code than today's made it, and today's was not seen to repeat it.
        artifacts: labels of those that show it.
    """

    job: Job
    line: RunLine
    outdated: bool
    artifacts: tuple[str, ...]


class State:
    """Which cells of the artifacts that were asked for have which runs.

    Other programs write the same files: what is in them is read when it is asked for, and under their lock where they
    are written.

    Attributes:
        refused: artifacts whose files are damaged or do not belong together, and why.
        faults: of artifacts, files of their runs that cannot be read, and what to do about each.
    """

    def __init__(self, request: Request, runs: Runs):
        self.request, self.runs, self.planner = request, runs, Planner(request)
        self.refused: dict[str, str] = {}
        self.faults: dict[str, list[str]] = {}

    def folder(self, artifact: Artifact) -> Path:
        """Where an artifact is written."""
        return self.request.results / artifact.paper

    def reports(self) -> Iterator[tuple[Artifact, list[CellLine], dict[str, RunLine]]]:
        """Each artifact that has runs, the rows of its csv as they are now, and the list of runs by key.

        An artifact whose files are damaged is refused, and its runs are not looked at: nothing could show them.
        """
        for artifact in self.request.artifacts:
            if not artifact.shows_runs:
                continue
            try:
                lines = read(self.folder(artifact) / f"{artifact.name}.csv", CellLine)
                runs = {line.key: line for line in read(self.folder(artifact) / "runs.csv", RunLine)}
            except ValueError as error:
                self.refused[artifact.label] = str(error)
                continue
            yield artifact, lines, runs

    def record(self, artifact: Artifact, key: str) -> Record | None:
        """The record of a run; None where there is none, or where it is damaged, which is noted."""
        try:
            return look_up(self.runs, key)
        except ValueError as error:
            faults = self.faults.setdefault(artifact.label, [])
            faults += [str(error)] * (str(error) not in faults)
            return None

    def cells(self, artifact: Artifact, earlier: Sequence[CellLine]) -> list[Cell]:
        """Every cell with its records, also of seeds that the csv, as it is now, reports."""
        cells, seeds = [], self.planner.seeds(artifact, earlier)
        for column, row in artifact.cells():
            keys = self.planner.keys(artifact, column, row, seeds)
            records: dict[int, Record] = {}
            reason = NOT_RUN if keys else NO_DATA
            for seed, key in keys.items():
                record = self.record(artifact, key)
                if record and record.line:
                    records[seed] = record
                elif record and record.status in ("failed", "diverged"):
                    reason = f"{record.status}: {record.error}".splitlines()[0]
            cells.append(Cell(row, column, keys, records, reason, self.runs))
        return cells

    def jobs(self, fresh: bool) -> list[Job]:
        """Runs that were asked for and were not made yet, most wanted first.

        One that a cell already reports was made, also where its record is gone, as in a clone.

        Args:
            fresh: also those that are :meth:`outdated`.
        """
        jobs: dict[str, Job] = {}
        wanted = [(artifact, lines, runs, column, row) for artifact, lines, runs in self.reports()
                  for column, row in artifact.cells() if self.request.wants(row, column)]
        for seed in sorted({seed for a in self.request.artifacts for seed in self.request.seeds or a.seeds}):
            for artifact, lines, runs, column, row in wanted:
                if seed not in (self.request.seeds or artifact.seeds):
                    continue
                for key in self.planner.keys(artifact, column, row, [seed]).values():
                    record = self.record(artifact, key)
                    if record is None and (self.runs.folder(key) / "record.json").exists():
                        continue  # it is damaged, and a run would refuse to write over it
                    ended = record is not None and record.ended
                    made = record if ended else reported(artifact, column, row, key, lines, runs)
                    if made is None or (fresh and self.outdated(key, made)):
                        job = self.planner.job(column, row, seed, key)
                        jobs.setdefault(key, replace(job, config={**job.config, "force": ended}))
        return list(jobs.values())

    def outdated(self, key: str, made: Record | RunLine) -> bool:
        """Whether a finished run was made by code that has changed since, and that today's was not seen to repeat."""
        return self.planner.code[key] not in (made.sources, made.repeated)

    def behind(self) -> list[Behind]:
        """The runs behind the numbers that were asked for. Their records need not be at hand."""
        behind: dict[str, Behind] = {}
        for artifact, lines, runs in self.reports():
            for column, row in artifact.cells():
                seeds = self.planner.seeds(artifact, lines)
                keys = self.planner.keys(artifact, column, row, seeds) if self.request.wants(row, column) else {}
                for seed, key in keys.items():
                    record = self.record(artifact, key)
                    line = record.line if record and record.line else runs.get(key)
                    if line:
                        labels = behind[key].artifacts if key in behind else ()
                        behind[key] = Behind(self.planner.job(column, row, seed, key), line, self.outdated(key, line),
                                             tuple(dict.fromkeys((*labels, artifact.label))))
        return list(behind.values())

    def silent(self) -> dict[str, tuple[int, int]]:
        """Of what was asked for, data sets whose files could not be looked at: cells with a number, and all cells."""
        counts: dict[str, tuple[int, int]] = {}
        for artifact, lines, _ in self.reports():
            filled = {(line.row, line.column) for line in lines if line.mean is not None}
            for column, row in artifact.cells():
                if column.data in self.planner.missing and self.request.wants(row, column):
                    numbers, cells = counts.get(column.data, (0, 0))
                    counts[column.data] = numbers + ((row.id, column.id) in filled), cells + 1
        return counts

    def unlisted(self) -> Iterator[str]:
        """One line for each data set whose runs cannot be listed, since its files were not looked at: what then."""
        for name, (numbers, cells) in self.silent().items():
            data = self.planner.missing[name]
            then = ("its files cannot be read" if at_hand(data) else
                    "its files are not here, and a run downloads them first" if data.get("url") else
                    f"its files are not here, and `python -m recot.run data={name}` says where to get them")
            yield f"not listed: {name}, {cells - numbers} of {cells} cells without a number; {then}"

    def confirm(self, line: RunLine) -> None:
        """Write down that today's code repeats a run, in its record and in the lists of runs that name it."""
        today = self.planner.code[line.key]
        if self.runs.get(line.key):
            with self.runs.lock(line.key):
                record = self.runs.get(line.key)
                if record and record.get("sources") == line.sources:  # and was not made again meanwhile
                    self.runs.put(line.key, record | {"repeated": today})
        for folder in {self.folder(artifact) for artifact in self.request.artifacts}:
            with FileLock(folder / ".lock"):
                lines = read(folder / "runs.csv", RunLine)
                if any((other.key, other.sources) == (line.key, line.sources) for other in lines):
                    write(folder / "runs.csv", RunLine, [
                        replace(other, repeated=today) if other.key == line.key else other for other in lines])


def reported(artifact: Artifact, column: Column, row: Row, key: str, lines: Sequence[CellLine],
             runs: Mapping[str, RunLine]) -> RunLine | None:
    """What the list of runs says of a run off which every metric of a cell was read when its csv was written."""
    metrics = {line.metric for line in lines if (line.row, line.column) == (row.id, column.id) and key in line.keys}
    return runs.get(key) if metrics.issuperset(artifact.metrics) else None


def named(folder: Path, artifact: Artifact, lines: Sequence[CellLine]) -> set[str] | None:
    """Keys that some csv of a paper names, with ``lines`` as that of the artifact; None where one cannot be read."""
    keys = {key for line in lines for key in line.keys}
    for other in folder.glob("*.csv"):
        if other.name not in ("runs.csv", f"{artifact.name}.csv") and not other.name.endswith("_tests.csv"):
            try:
                keys |= {key for line in read(other, CellLine) for key in line.keys}
            except ValueError:  # the artifact itself says so; the runs behind it must not leave the list meanwhile
                return None
    return keys


def listing(artifacts: Iterable[Artifact], results: Path, faults: list[str]) -> Iterator[str]:
    """One line per artifact: how much of it exists. Reads specs and csv files only; ``faults`` gets what is damaged."""
    here, remote = cache(reachable), cache(lambda *data: bool(described(*data).get("url")))
    for artifact in artifacts:
        artifact = needed(artifact, here) if artifact.kind != "worked" else artifact
        try:
            lines = read(results / artifact.paper / f"{artifact.name}.csv", CellLine)
        except ValueError as error:
            faults.append(str(error))
            yield f"{artifact.paper:11} {artifact.name:14} {'damaged':19} {'':48} {artifact.title}"
            continue
        filled = {(line.row, line.column) for line in lines if line.mean is not None}
        cells = [(row.id, column.id, (column.data, *(word for word in column.overrides if word.startswith("data."))))
                 for column, row in artifact.cells()]
        done = sum((row, column) in filled for row, column, _ in cells)
        broken = {(line.row, line.column) for line in lines if line.verdict.startswith(("failed", "diverged"))}
        empty = [data for row, column, data in cells if (row, column) not in filled | broken
                 and artifact.kind != "worked" and not here(*data)]
        far, failed = sum(remote(*data) for data in empty), len(broken)
        lost = len(empty) - far
        state = ("done" if done == len(cells) else "partly" if done else
                 "data not available" if lost == len(cells) else "not run")
        parts = [f"{done} of {len(cells)} cells"] + [f"{n} {what}" for n, what in (
            (lost, "without data"), (failed, "failed"), (far, "to download"),
            (len(cells) - done - lost - far - failed, "to run")) if n]
        yield f"{artifact.paper:11} {artifact.name:14} {state:19} {', '.join(parts):48} {artifact.title}"
