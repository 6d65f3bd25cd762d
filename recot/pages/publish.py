"""The state of the papers' artifacts: which cells have which runs, and the files that show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from recot.artifacts import collect, workers
from recot.artifacts.collect import NO_DATA, NOT_RUN, Cell
from recot.artifacts.plan import Planner, Request
from recot.artifacts.printed import printed
from recot.artifacts.spec import Artifact, Column, Row
from recot.pages import figures, latex, markdown
from recot.pages.notes import notes
from recot.record.ledger import HEADER, RUN_HEADER, TEST_HEADER, Line, read, write
from recot.record.store import Runs
from recot.system.files import sweep, write_whole


@dataclass(frozen=True)
class Behind:
    """A run behind a number.

    Attributes:
        job: how it is made. line: what the list of runs says of it.
        outdated: other code than today's made it, and today's was not seen to repeat it.
        artifacts: labels of those that show it.
    """

    job: workers.Job
    line: Line
    outdated: bool
    artifacts: tuple[str, ...]


class Board:
    """The state of the artifacts: which cells have which runs, and the files that show it.

    Other programs write the same files: what is in them is read when it is asked for, and under their lock where they
    are written.

    Attributes:
        known: cells of the artifacts that were written. refused: artifacts that are left as they were, and why.
        faults: of artifacts, files of their runs that cannot be read, and what to do about each.
    """

    def __init__(self, request: Request, runs: Runs):
        self.request, self.runs, self.planner = request, runs, Planner(request)
        self.known: dict[str, list[Cell]] = {}
        self.refused: dict[str, str] = {}
        self.faults: dict[str, list[str]] = {}

    def folder(self, artifact: Artifact) -> Path:
        """Where an artifact is written."""
        return self.request.results / artifact.paper

    def told(self) -> Iterator[tuple[Artifact, list[Line], dict[str, Line]]]:
        """Each artifact that has runs, the rows of its csv as they are now, and the list of runs by key.

        An artifact whose files are damaged is refused, and its runs are not looked at: nothing could show them.
        """
        for artifact in self.request.artifacts:
            if artifact.kind == "statistics":
                continue
            try:
                lines = read(self.folder(artifact) / f"{artifact.name}.csv", HEADER)
                runs = {line["key"]: line for line in read(self.folder(artifact) / "runs.csv", RUN_HEADER)}
            except ValueError as error:
                self.refused[artifact.label] = str(error)
                continue
            yield artifact, lines, runs

    def record(self, artifact: Artifact, key: str) -> Mapping[str, Any] | None:
        """The record of a run; None where there is none, or where it is damaged, which is noted."""
        try:
            return collect.finished(self.runs, key)
        except ValueError as error:
            found = self.faults.setdefault(artifact.label, [])
            found += [str(error)] * (str(error) not in found)
            return None

    def cells(self, artifact: Artifact, earlier: Sequence[Line]) -> list[Cell]:
        """Every cell with its records, also of seeds that the csv, as it is now, reports."""
        found, seeds = [], self.planner.seeds(artifact, earlier)
        for column, row in artifact.cells():
            keys = self.planner.keys(artifact, column, row, seeds)
            records: dict[int, Mapping[str, Any]] = {}
            reason = NOT_RUN if keys else NO_DATA
            for seed, key in keys.items():
                record = self.record(artifact, key)
                if record and record["status"] == "done":
                    records[seed] = record
                elif record and record["status"] in ("failed", "diverged"):
                    reason = f"{record['status']}: {record.get('error', 'no reason given')}".splitlines()[0]
            found.append(Cell(row, column, keys, records, reason, self.runs))
        return found

    def jobs(self, fresh: bool) -> list[workers.Job]:
        """Runs that were asked for and were not made yet, most wanted first.

        One that a cell already reports was made, also where its record is gone, as in a clone.

        Args:
            fresh: also those that are :meth:`outdated`.
        """
        found: dict[str, workers.Job] = {}
        wanted = [(a, lines, runs, column, row) for a, lines, runs in self.told()
                  for column, row in a.cells() if self.request.wants(row, column)]
        for seed in sorted({seed for a in self.request.artifacts for seed in self.request.seeds or a.seeds}):
            for artifact, lines, runs, column, row in wanted:
                if seed not in (self.request.seeds or artifact.seeds):
                    continue
                for key in self.planner.keys(artifact, column, row, [seed]).values():
                    record = self.record(artifact, key)
                    if record is None and (self.runs.folder(key) / "record.json").exists():
                        continue  # it is damaged, and a run would refuse to write over it
                    finished = record is not None and record["status"] in ("done", "diverged")
                    made = record if finished else reported(artifact, column, row, key, lines, runs)
                    if made is None or (fresh and self.outdated(key, made)):
                        job = self.planner.job(column, row, seed, key)
                        found.setdefault(key, replace(job, config={**job.config, "force": finished}))
        return list(found.values())

    def outdated(self, key: str, made: Mapping[str, Any]) -> bool:
        """Whether a finished run was made by code that has changed since, and that today's was not seen to repeat."""
        return self.planner.code[key] not in (made.get("sources"), made.get("repeated"))

    def behind(self) -> list[Behind]:
        """The runs behind the numbers that were asked for. Their records need not be at hand."""
        found: dict[str, Behind] = {}
        for artifact, lines, runs in self.told():
            for column, row in artifact.cells():
                seeds = self.planner.seeds(artifact, lines)
                keys = self.planner.keys(artifact, column, row, seeds) if self.request.wants(row, column) else {}
                for seed, key in keys.items():
                    record = self.record(artifact, key)
                    done = record is not None and record["status"] == "done"
                    line = collect.run_line(record) if record and done else runs.get(key)
                    if line:
                        shown = found[key].artifacts if key in found else ()
                        found[key] = Behind(self.planner.job(column, row, seed, key), line, self.outdated(key, line),
                                            tuple(dict.fromkeys((*shown, artifact.label))))
        return list(found.values())

    def silent(self) -> dict[str, tuple[int, int]]:
        """Of what was asked for, data sets whose files could not be looked at: cells with a number, and all cells."""
        found: dict[str, tuple[int, int]] = {}
        for artifact, lines, _ in self.told():
            filled = {(line["row"], line["column"]) for line in lines if line["mean"]}
            for column, row in artifact.cells():
                if column.data in self.planner.missing and self.request.wants(row, column):
                    told, cells = found.get(column.data, (0, 0))
                    found[column.data] = told + ((row.id, column.id) in filled), cells + 1
        return found

    def confirm(self, line: Line) -> None:
        """Write down that today's code repeats a run, in its record and in the lists of runs that name it."""
        key, repeated = line["key"], {"repeated": self.planner.code[line["key"]]}
        if self.runs.get(key):
            with self.runs.lock(key):
                record = self.runs.get(key)
                if record and record.get("sources") == line["sources"]:  # and was not made again meanwhile
                    self.runs.put(key, record | repeated)
        for folder in {self.folder(artifact) for artifact in self.request.artifacts}:
            with FileLock(folder / ".lock"):
                lines = read(folder / "runs.csv", RUN_HEADER)
                if any((other["key"], other["sources"]) == (key, line["sources"]) for other in lines):
                    write(folder / "runs.csv", RUN_HEADER, [other | (repeated if other["key"] == key else {})
                                                            for other in lines])

    def write_all(self, key: str | None = None) -> None:
        """Bring the files of all artifacts up to date, or of those that show the run ``key``."""
        for artifact in self.request.artifacts:
            if key is None or any(key in cell.keys.values() for cell in self.known.get(artifact.label, ())):
                self.write(artifact)

    def write(self, artifact: Artifact) -> None:
        """Bring the files of an artifact up to date.

        They stay as they were where one of them is damaged, or where its runs are of different splits.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = self.folder(artifact)
        self.refused.pop(artifact.label, None)
        self.faults.pop(artifact.label, None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock").acquire()
        except OSError as error:
            raise OSError(f"{folder} cannot be written ({error}); name another place for tables with --results"
                          ) from error
        with lock:
            sweep(folder)
            try:
                self.bring_up_to_date(artifact, folder)
            except ValueError as error:  # until it is mended, or the other run is made again by this very command
                self.refused[artifact.label] = str(error)

    def bring_up_to_date(self, artifact: Artifact, folder: Path) -> None:
        """Read all that the files of an artifact are made from, and then write them.

        Raises:
            ValueError: what is there cannot be read, or does not belong together; nothing was written.
        """
        file, tests_file = folder / f"{artifact.name}.csv", folder / f"{artifact.name}_tests.csv"
        earlier, faults = read(file, HEADER), self.faults.setdefault(artifact.label, [])
        cells = [] if artifact.kind == "statistics" else self.cells(artifact, earlier)
        self.known[artifact.label] = cells
        collect.same_questions(cells)
        lines = (list(self.statistics(artifact, earlier)) if artifact.kind == "statistics" else
                 collect.lines(artifact, cells, earlier))
        tests = collect.paired_tests(artifact, lines, self.runs, read(tests_file, TEST_HEADER),
                                     faults) if artifact.tests else []
        fresh = [collect.run_line(record) for cell in cells for record in cell.records.values()]
        runs = collect.run_lines(read(folder / "runs.csv", RUN_HEADER), fresh, named(folder, artifact, lines))
        ledger = {line["key"]: line for line in runs}
        page = markdown.markdown(artifact, lines, tests, ledger, self.planner.code,
                               list(notes(artifact, lines, tests, ledger, self.planner.code,
                                          self.request.results / "tuning")))
        tex = latex.latex(artifact, lines, tests, ledger, self.planner.code)
        case = self.case(cells, faults) if artifact.plot == "case" else None
        faults += dict.fromkeys(fault for cell in cells for fault in cell.faults if fault not in faults)
        write(file, HEADER, lines)
        if artifact.tests:
            write(tests_file, TEST_HEADER, tests)
        write(folder / "runs.csv", RUN_HEADER, runs)
        write_whole(folder / f"{artifact.name}.md", page.encode())
        write_whole(folder / f"{artifact.name}.tex", tex.encode())
        if case:
            figures.case(artifact, *case, folder)
        elif artifact.kind == "figure" and artifact.plot != "case":
            figures.figure(artifact, lines, folder)

    def case(self, cells: Sequence[Cell], faults: list[str]) -> tuple[Any, Any] | None:
        """Pairs and lists of the first run that has them at hand; without one the picture stays as it was."""
        for key in (cell.keys[seed] for cell in cells for seed in sorted(cell.records)):
            try:
                pairs, lists = (collect.frame(self.runs, key, f"{name}.parquet") for name in ("pairs", "lists"))
            except FileNotFoundError:
                continue
            except OSError as error:
                faults.append(str(error))
                continue
            return pairs, lists
        return None

    def statistics(self, artifact: Artifact, earlier: Sequence[Line]) -> Iterator[Line]:
        """The csv rows of a table about data sets: counted now where they are at hand, as before where the same data
        were counted then.
        """
        from recot.record.build import make

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


def reported(artifact: Artifact, column: Column, row: Row, key: str, lines: Sequence[Line],
             runs: Mapping[str, Line]) -> Line | None:
    """What the list of runs says of a run off which every metric of a cell was read when its csv was written."""
    told = {line["metric"] for line in lines
            if (line["row"], line["column"]) == (row.id, column.id) and key in line["key"].split()}
    return runs.get(key) if told.issuperset(artifact.metrics) else None


def named(folder: Path, artifact: Artifact, lines: Sequence[Line]) -> set[str] | None:
    """Keys that some csv of a paper names, with ``lines`` as that of the artifact; None where one cannot be read."""
    found = {key for line in lines for key in line["key"].split()}
    for other in folder.glob("*.csv"):
        if other.name not in ("runs.csv", f"{artifact.name}.csv") and not other.name.endswith("_tests.csv"):
            try:
                found |= {key for line in read(other, HEADER) for key in line["key"].split()}
            except ValueError:  # the artifact itself says so; the runs behind it must not leave the list meanwhile
                return None
    return found


def count(interactions: Any) -> dict[str, float]:
    """Statistics of a data set as SCLRec's and ProRec's first tables have them; density in percent."""
    users, items, pairs = interactions.n_users, interactions.n_items, len(interactions)
    return {"users": users, "items": items, "interactions": pairs, "avg_interactions_per_user": pairs / users,
            "density": 100 * pairs / users / items, "sparsity": 1 - pairs / users / items}
