"""How long runs will take, judged by those that were made."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recot.artifacts import collect
from recot.artifacts.workers import Job
from recot.record.ledger import RUN_HEADER, Line, read
from recot.record.store import Runs

log = logging.getLogger(__name__)


class Estimates:
    """Estimates for runs that are to start, from the ledgers in ``results`` and the records in ``runs``."""

    def __init__(self, results: Path, runs: Runs):
        self.runs = runs
        self.seen: dict[tuple[str, ...], list[tuple[float, float, float]]] = {}
        known: dict[str, Line] = {}
        for file in (*sorted(results.glob("*/runs.csv")), *sorted(runs.root.glob("*/record.json"))):
            try:
                known |= {line["key"]: line for line in (
                    read(file, RUN_HEADER) if file.name == "runs.csv" else self.told(file.parent.name))}
            except ValueError as error:  # one file that is damaged costs an estimate, and nothing else
                log.warning("%s", error)
        for line in known.values():
            self.seen.setdefault(self.kind(line), []).append(
                (float(line["seconds"]), float(line["epochs"]), float(line["max_epochs"] or 0)))

    def told(self, key: str) -> Iterator[Line]:
        """The line of a finished run, or none."""
        record = collect.finished(self.runs, key)
        if record and record["status"] == "done":
            yield collect.run_line(record)

    @staticmethod
    def kind(line: Mapping[str, Any]) -> tuple[str, ...]:
        """What runs have to share to take the same time an epoch."""
        return tuple(str(line[name]) for name in ("data", "model", "loss", "denoiser"))

    def seconds(self, job: Job) -> float | None:
        """Seconds that a run will take, without what it has done already; None if no run like it was made.

        Assumes the median number of epochs of earlier runs with the same cap, or the whole cap where there are none.
        """
        earlier = self.seen.get(self.kind(job.choices))
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
