"""The files that show the papers' artifacts: csv, markdown, LaTeX and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from recot.artifacts import collect
from recot.artifacts.collect import Cell
from recot.artifacts.spec import Artifact
from recot.artifacts.state import State, named
from recot.pages import figures, latex, markdown
from recot.pages.notes import notes
from recot.pages.statistics import statistics, worked
from recot.record.ledger import read, write
from recot.record.lines import CellLine, PairedLine, RunLine
from recot.system.files import sweep, write_whole


class Publisher:
    """Brings the files of artifacts up to date.

    Attributes:
        state: which cells have which runs; an artifact that is left as it was is noted there.
        known: cells of the artifacts that were written, by label.
    """

    def __init__(self, state: State):
        self.state = state
        self.known: dict[str, list[Cell]] = {}

    def write_all(self, key: str | None = None) -> None:
        """Bring the files of all artifacts up to date, or of those that show the run ``key``."""
        for artifact in self.state.request.artifacts:
            if key is None or any(key in cell.keys.values() for cell in self.known.get(artifact.label, ())):
                self.write(artifact)

    def write(self, artifact: Artifact) -> None:
        """Bring the files of an artifact up to date.

        They stay as they were where one of them is damaged, or where its runs are of different splits.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = self.state.folder(artifact)
        self.state.refused.pop(artifact.label, None)
        self.state.faults.pop(artifact.label, None)
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
                self.state.refused[artifact.label] = str(error)

    def bring_up_to_date(self, artifact: Artifact, folder: Path) -> None:
        """Read all that the files of an artifact are made from, and then write them.

        Raises:
            ValueError: what is there cannot be read, or does not belong together; nothing was written.
        """
        state, code = self.state, self.state.planner.code
        file, tests_file = folder / f"{artifact.name}.csv", folder / f"{artifact.name}_tests.csv"
        earlier, faults = read(file, CellLine), state.faults.setdefault(artifact.label, [])
        cells = state.cells(artifact, earlier) if artifact.shows_runs else []
        self.known[artifact.label] = cells
        collect.same_questions(cells)
        lines = (collect.lines(artifact, cells, earlier) if artifact.shows_runs else list(worked(artifact)) if
                 artifact.kind == "worked" else list(statistics(artifact, state.planner, earlier)))
        tests = collect.paired_tests(artifact, lines, state.runs, read(tests_file, PairedLine),
                                     faults) if artifact.tests else []
        fresh = [record.line for cell in cells for record in cell.records.values() if record.line]
        runs = collect.run_lines(read(folder / "runs.csv", RunLine), fresh, named(folder, artifact, lines))
        ledger = {line.key: line for line in runs}
        page = markdown.markdown(artifact, lines, tests, ledger, code, list(
            notes(artifact, lines, tests, ledger, code, state.request.results / "tuning")))
        tex = latex.latex(artifact, lines, tests, ledger, code)
        case = self.case(cells, faults) if artifact.plot == "case" else None
        faults += dict.fromkeys(fault for cell in cells for fault in cell.faults if fault not in faults)
        write(file, CellLine, lines)
        if artifact.tests:
            write(tests_file, PairedLine, tests)
        write(folder / "runs.csv", RunLine, runs)
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
                pairs, lists = (collect.frame(self.state.runs, key, f"{name}.parquet") for name in ("pairs", "lists"))
            except FileNotFoundError:
                continue
            except OSError as error:
                faults.append(str(error))
                continue
            return pairs, lists
        return None
