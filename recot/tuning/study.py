"""The table of a method's studies on a data set, ``<results>/tuning/<data>/<model>-<loss>-<denoiser>.csv``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from recot.record.ledger import read, write
from recot.record.lines import TrialLine, TrialRun
from recot.system.files import sweep


class Study:
    """One request among those whose trials are in a table, which only grows.

    A row stays until the same trial of the same request replaces it, whatever else is studied and whenever a study is
    killed. Tables of before requests had names hold one request without a name; it goes on as long as its trials are
    those that are there.

    Args:
        file: the table. request: what decides which trials there are, in which order; plain values.

    Attributes:
        records: what the table says of records that ended, by their keys, whichever request they were trials of.

    Raises:
        ValueError: the table is damaged; says in which line, and what to do.
    """

    def __init__(self, file: Path, request: Any):
        self.file = file
        self.name = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:8]
        earlier = file.with_suffix(".before.csv")  # where a table was put aside when it held one request only
        self.records = {key: record for part in (earlier, file) for trial in read(part, TrialLine)
                        for key, record in reported(trial)}

    def write(self, trials: Sequence[TrialLine]) -> None:
        """Put the trials so far into the table.

        Raises:
            ValueError: the table was damaged meanwhile. OSError: it cannot be written.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.file.parent.parent / ".lock"):
            sweep(self.file.parent)
            groups = requests(read(self.file, TrialLine))
            name = "" if self.name not in groups and continues(groups.get("", []), trials) else self.name
            old = {trial.run.key: trial for trial in groups.get(name, [])}
            new = {trial.run.key: replace(merged(old.get(trial.run.key), trial), study=name) for trial in trials}
            groups[name] = [*new.values(), *(trial for key, trial in old.items() if key not in new)]
            write(self.file, TrialLine, [trial for group in groups.values() for trial in group])


def requests(trials: Sequence[TrialLine]) -> dict[str, list[TrialLine]]:
    """The trials of each request in a table, by its name."""
    groups: dict[str, list[TrialLine]] = {}
    for trial in trials:
        groups.setdefault(trial.study, []).append(trial)
    return groups


def continues(earlier: Sequence[TrialLine], trials: Sequence[TrialLine]) -> bool:
    """Whether ``trials`` are of the same request as those of before requests had names."""
    return bool(earlier) and set(earlier[0].settings) == set(trials[0].settings) and all(
        old.run.key == new.run.key for old, new in zip(earlier, trials, strict=False))


def merged(old: TrialLine | None, new: TrialLine) -> TrialLine:
    """The new line of a trial. If the trial was not run to the end now, its earlier final run stays."""
    return replace(new, final=old.final) if old and not new.final else new


def reported(trial: TrialLine) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a trial that its line stands for, by key. A failed run is tried again, so it is left out."""
    for run in (trial.run, *([trial.final] if trial.final else [])):
        if run.status in ("done", "diverged"):
            yield run.key, {"status": run.status, "fresh": False, "seconds": run.seconds, "epochs": run.epochs,
                            "best_epoch": run.best_epoch, **came_to(run, trial.metric)}


def came_to(run: TrialRun, metric: str) -> dict[str, Any]:
    """What a run came to: its validation answer, or why there is none."""
    if run.status == "done":
        return {"valid": {metric: run.value}}
    return {"error": "it did so before, says the table of the study"}
