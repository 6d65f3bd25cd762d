"""How long runs will take, judged by those that were made."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator
from pathlib import Path

from recot.artifacts.jobs import Job
from recot.record.ledger import read
from recot.record.lines import RunLine
from recot.record.record import look_up
from recot.record.store import Runs

log = logging.getLogger(__name__)


class Estimates:
    """Estimates for runs that are to start, from the ledgers in ``results`` and the records in ``runs``."""

    def __init__(self, results: Path, runs: Runs):
        self.runs = runs
        self.seen: dict[tuple[str, ...], list[tuple[float, int, int]]] = {}  # by what decides the time of an epoch
        lines: dict[str, RunLine] = {}
        for file in (*sorted(results.glob("*/runs.csv")), *sorted(runs.root.glob("*/record.json"))):
            try:
                lines |= {line.key: line for line in (
                    read(file, RunLine) if file.name == "runs.csv" else self.finished(file.parent.name))}
            except ValueError as error:  # one file that is damaged costs an estimate, and nothing else
                log.warning("%s", error)
        for line in lines.values():
            self.seen.setdefault((line.data, line.model, line.loss, line.denoiser), []).append(
                (line.seconds, line.epochs, line.max_epochs or 0))

    def finished(self, key: str) -> Iterator[RunLine]:
        """The line of a finished run, or none."""
        record = look_up(self.runs, key)
        if record and record.line:
            yield record.line

    def seconds(self, job: Job) -> float | None:
        """Seconds that a run will take, without what it has done already; None if no run like it was made.

        Assumes the median number of epochs of earlier runs with the same cap, or the whole cap where there are none.
        """
        earlier = self.seen.get(tuple(job.choices[group] for group in ("data", "model", "loss", "denoiser")))
        if not earlier:
            return None
        cap = job.config["trainer"]["max_epochs"]
        trained = any(n for _, n, _ in earlier)  # a closed form has no epochs
        epochs = statistics.median([n for _, n, allowed in earlier if allowed == cap] or [cap]) if trained else 0
        each = statistics.median(seconds / max(n, 1) for seconds, n, _ in earlier)
        folder = self.runs.folder(job.key)
        history = folder / "epochs.csv"
        begun = (folder / "last.ckpt").exists() and history.exists()
        finished = history.read_text().count("\n") - 1 if begun else 0
        return each * max(epochs - finished, 1) if epochs else each
