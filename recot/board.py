"""The state of the papers' artifacts: which cells have which runs, and the files that show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from recot import collect, pictures, render, runner
from recot.cache import Runs
from recot.collect import HEADER, NO_DATA, NOT_RUN, RUN_HEADER, TEST_HEADER, Cell, Line
from recot.files import write_whole
from recot.notes import notes
from recot.plan import Planner, Request
from recot.spec import Artifact, Column, Row, printed


class Board:
    """The state of the artifacts: which cells have which runs, and the files that show it."""

    def __init__(self, request: Request, runs: Runs):
        self.request, self.runs, self.planner = request, runs, Planner(request)
        self.earlier = {a.label: collect.read(self.folder(a) / f"{a.name}.csv", HEADER) for a in request.artifacts}
        self.ledgers = {a.paper: {line["key"]: line for line in collect.read(self.folder(a) / "runs.csv", RUN_HEADER)}
                        for a in request.artifacts}
        self.known: dict[str, list[Cell]] = {}  # cells of the artifacts that were written
        self.refused: dict[str, str] = {}  # artifacts that cannot be written, and why

    def folder(self, artifact: Artifact) -> Path:
        """Where an artifact is written."""
        return self.request.results / artifact.paper

    def cells(self, artifact: Artifact) -> list[Cell]:
        """Every cell with its records."""
        found, seeds = [], self.planner.seeds(artifact, self.earlier[artifact.label])
        for column, row in artifact.cells():
            keys = self.planner.keys(artifact, column, row, seeds)
            records: dict[int, Mapping[str, Any]] = {}
            reason = NOT_RUN if keys else NO_DATA
            for seed, key in keys.items():
                record = self.runs.get(key)
                if record and record["status"] == "done":
                    records[seed] = record
                elif record and record["status"] in ("failed", "diverged"):
                    reason = f"{record['status']}: {record.get('error', 'no reason given')}".splitlines()[0]
            found.append(Cell(row, column, keys, records, reason, self.runs))
        return found

    def jobs(self, fresh: bool) -> list[runner.Job]:
        """Runs that were asked for and were not made yet, most wanted first.

        One that a cell already reports was made, also where its record is gone, as in a clone.

        Args:
            fresh: also those that are :meth:`outdated`.
        """
        found: dict[str, runner.Job] = {}
        wanted = [(a, column, row) for a in self.request.artifacts if a.kind != "statistics"
                  for column, row in a.cells() if self.request.wants(row, column)]
        for seed in sorted({seed for a in self.request.artifacts for seed in self.request.seeds or a.seeds}):
            for artifact, column, row in wanted:
                if seed not in (self.request.seeds or artifact.seeds):
                    continue
                for key in self.planner.keys(artifact, column, row, [seed]).values():
                    record = self.runs.get(key)
                    finished = record is not None and record["status"] in ("done", "diverged")
                    made = record if finished else self.reported(artifact, column, row, key)
                    if made is None or (fresh and self.outdated(key, made)):
                        job = self.planner.job(column, row, seed, key)
                        found.setdefault(key, replace(job, config={**job.config, "force": finished}))
        return list(found.values())

    def reported(self, artifact: Artifact, column: Column, row: Row, key: str) -> Line | None:
        """What the list of runs says of a run off which every metric of a cell was read when its csv was written."""
        told = {line["metric"] for line in self.earlier[artifact.label]
                if (line["row"], line["column"]) == (row.id, column.id) and key in line["key"].split()}
        return self.ledgers[artifact.paper].get(key) if told.issuperset(artifact.metrics) else None

    def outdated(self, key: str, made: Mapping[str, Any]) -> bool:
        """Whether a finished run was made by code that has changed since, and that today's was not seen to repeat."""
        return self.planner.code[key] not in (made.get("sources"), made.get("repeated"))

    def stale(self) -> list[tuple[runner.Job, Line]]:
        """Runs behind the numbers that were asked for which are :meth:`outdated`, with what the list of runs says.

        Their records need not be at hand.
        """
        found = {}
        for artifact in self.request.artifacts:
            for column, row in artifact.cells() if artifact.kind != "statistics" else ():
                seeds = self.planner.seeds(artifact, self.earlier[artifact.label])
                keys = self.planner.keys(artifact, column, row, seeds) if self.request.wants(row, column) else {}
                for seed, key in keys.items():
                    record = self.runs.get(key)
                    done = record is not None and record["status"] == "done"
                    line = collect.run_line(record) if record and done else self.ledgers[artifact.paper].get(key)
                    if line and self.outdated(key, line):
                        found[key] = self.planner.job(column, row, seed, key), line
        return list(found.values())

    def silent(self) -> dict[str, tuple[int, int]]:
        """Of what was asked for, data sets whose files could not be looked at: cells with a number, and all cells."""
        found: dict[str, tuple[int, int]] = {}
        for artifact in self.request.artifacts:
            filled = {(line["row"], line["column"]) for line in self.earlier[artifact.label] if line["mean"]}
            for column, row in artifact.cells() if artifact.kind != "statistics" else ():
                if column.data in self.planner.missing and self.request.wants(row, column):
                    told, cells = found.get(column.data, (0, 0))
                    found[column.data] = told + ((row.id, column.id) in filled), cells + 1
        return found

    def confirm(self, line: Line) -> None:
        """Write down that today's code repeats a run, in its record and in the lists of runs that name it."""
        repeated = {"repeated": self.planner.code[line["key"]]}
        if record := self.runs.get(line["key"]):
            self.runs.put(line["key"], record | repeated)
        for folder in {self.folder(artifact) for artifact in self.request.artifacts}:
            with FileLock(folder / ".lock"):
                lines = collect.read(folder / "runs.csv", RUN_HEADER)
                keys = {other["key"] for other in lines}
                if line["key"] in keys:
                    collect.write_runs(folder / "runs.csv", [line | repeated], keys)

    def write_all(self, key: str | None = None) -> None:
        """Bring the files of all artifacts up to date, or of those that show the run ``key``."""
        for artifact in self.request.artifacts:
            if key is None or any(key in cell.keys.values() for cell in self.known.get(artifact.label, ())):
                self.write(artifact)

    def write(self, artifact: Artifact) -> None:
        """Bring the files of an artifact up to date; where its runs are of different splits, they stay as they were."""
        folder = self.folder(artifact)
        folder.mkdir(parents=True, exist_ok=True)
        cells = [] if artifact.kind == "statistics" else self.cells(artifact)
        self.known[artifact.label] = cells
        self.refused.pop(artifact.label, None)
        try:
            collect.same_questions(cells)
        except ValueError as error:  # until the other one is made again as well, by the very command that found it
            self.refused[artifact.label] = str(error)
            return
        with FileLock(folder / ".lock"):
            file, tests_file = folder / f"{artifact.name}.csv", folder / f"{artifact.name}_tests.csv"
            earlier = collect.read(file, HEADER)
            lines = (list(self.statistics(artifact, earlier)) if artifact.kind == "statistics" else
                     collect.lines(artifact, cells, earlier))
            collect.write(file, HEADER, lines)
            tests = []
            if artifact.tests:
                tests = collect.paired_tests(artifact, lines, self.runs, collect.read(tests_file, TEST_HEADER))
                collect.write(tests_file, TEST_HEADER, tests)
            named = {key for other in folder.glob("*.csv") if other.name not in ("runs.csv", tests_file.name)
                     and not other.name.endswith("_tests.csv") for line in collect.read(other, HEADER)
                     for key in line["key"].split()}
            fresh = [collect.run_line(record) for cell in cells for record in cell.records.values()]
            ledger = {line["key"]: line for line in collect.write_runs(folder / "runs.csv", fresh, named)}
            page = render.markdown(artifact, lines, tests, ledger, self.planner.code,
                                   list(notes(artifact, lines, tests, ledger, self.planner.code,
                                              self.request.results / "tuning")))
            write_whole(folder / f"{artifact.name}.md", page.encode())
            tex = render.latex(artifact, lines, tests, ledger, self.planner.code)
            write_whole(folder / f"{artifact.name}.tex", tex.encode())
            if artifact.plot == "case":
                self.draw_case(artifact, cells, folder)
            elif artifact.kind == "figure":
                pictures.figure(artifact, lines, folder)

    def draw_case(self, artifact: Artifact, cells: Sequence[Cell], folder: Path) -> None:
        """Draw the pairs of a few users from the first run that is at hand; without one the picture stays as it was."""
        for key in (cell.keys[seed] for cell in cells for seed in sorted(cell.records)):
            pairs, lists = (self.runs.folder(key) / f"{name}.parquet" for name in ("pairs", "lists"))
            if pairs.exists() and lists.exists():
                return pictures.case(artifact, collect.frame(pairs), collect.frame(lists), folder)
        return None

    def statistics(self, artifact: Artifact, earlier: Sequence[Line]) -> Iterator[Line]:
        """The csv rows of a table about data sets: counted now where they are at hand, as before where the same data
        were counted then.
        """
        from recot.experiment import make

        before = {(line["column"], line["metric"]): line for line in earlier}
        row = artifact.rows[0]
        for column in artifact.columns:
            config, _ = self.planner.config((*column.overrides, "model=popularity"))
            keys, counts = self.planner.keys(artifact, column, replace(row, overrides=("model=popularity",)), [0]), {}
            old = before.get((column.id, artifact.metrics[0]))
            if keys and not (old and old["key"] == keys[0]) and self.request.wants(row, column):
                counts = count(make(config["data"]).load().interactions)
            for metric in artifact.metrics:
                paper = printed(artifact, row, column, metric)
                line = dict.fromkeys(HEADER, "") | {"table": artifact.name, "row": row.id, "column": column.id,
                                                    "metric": metric, "paper": collect.number(paper)}
                if counts:
                    value = counts[metric]
                    line |= {"seeds": "0", "mean": f"{value:.10g}", "key": keys[0]}
                elif old and (not keys or old["key"] == keys[0]) and before[column.id, metric]["mean"]:
                    line |= {name: before[column.id, metric][name] for name in ("seeds", "mean", "key")}
                else:
                    yield line | {"verdict": NOT_RUN if keys else NO_DATA}
                    continue
                delta, word = collect.verdict(float(line["mean"]), paper)
                yield line | {"delta": collect.number(delta), "verdict": word}


def count(interactions: Any) -> dict[str, float]:
    """Statistics of a data set as SCLRec's and ProRec's first tables have them; density in percent."""
    users, items, pairs = interactions.n_users, interactions.n_items, len(interactions)
    return {"users": users, "items": items, "interactions": pairs, "avg_interactions_per_user": pairs / users,
            "density": 100 * pairs / users / items, "sparsity": 1 - pairs / users / items}
