"""The table of a method's studies on a data set, ``<results>/tuning/<data>/<model>-<loss>-<denoiser>.csv``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from recot.record.ledger import TRIAL_HEADER, Line, read, write
from recot.system.files import sweep

FINAL = ("final", "final_epochs", "final_best_epoch", "final_seconds", "final_status", "final_key")
"""Columns of a row: the outcome of its run without the cap on epochs."""


class Study:
    """One request among those whose trials are in a table, which only grows.

    A row stays until the same trial of the same request replaces it, whatever else is studied and whenever a study is
    killed. Tables of before requests had names hold one request without a name; it goes on as long as its trials are
    those that are there.

    Args:
        file: the table. request: what decides which trials there are, in which order; plain values.

    Attributes:
        told: what the table says of records that ended, by their keys, whichever request they were trials of.

    Raises:
        ValueError: the table is damaged; says in which line, and what to do.
    """

    def __init__(self, file: Path, request: Any):
        self.file = file
        self.name = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:8]
        earlier = file.with_suffix(".before.csv")  # where a table was put aside when it held one request only
        self.told = {key: record for part in (earlier, file) for row in read(part, TRIAL_HEADER)
                     for key, record in reported(row)}

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put the trials so far into the table.

        Args:
            rows: one for each trial, with its settings and what is in ``TRIAL_HEADER``; ``FINAL`` where it has one.

        Raises:
            ValueError: the table was damaged meanwhile. OSError: it cannot be written.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.file.parent.parent / ".lock"):
            sweep(self.file.parent)
            groups = requests(read(self.file, TRIAL_HEADER))
            name = "" if self.name not in groups and continues(groups.get("", []), rows) else self.name
            old = {row["key"]: row for row in groups.get(name, [])}
            new = {row["key"]: merged(old.get(row["key"], {}), row) | {"study": name} for row in rows}
            groups[name] = [*new.values(), *(row for key, row in old.items() if key not in new)]
            every = [row for group in groups.values() for row in group]
            columns = ["trial", *dict.fromkeys(column for row in every for column in settings(row)), *TRIAL_HEADER[1:]]
            columns += [column for column in (*FINAL, "study") if any(column in row for row in every)]
            if set(groups) == {""}:
                columns = [column for column in columns if column != "study"]
                every = [{column: row.get(column) for column in columns} for row in every]
            write(self.file, columns, every)


def requests(rows: Sequence[Line]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each request in a table, by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.get("study", ""), []).append(dict(row))
    return found


def settings(row: Mapping[str, Any]) -> list[str]:
    """The columns of a trial that say what was tried."""
    return [column for column, cell in row.items()
            if cell not in ("", None) and column not in (*TRIAL_HEADER, *FINAL, "study")]


def continues(earlier: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``rows`` are trials of the same request as those of before requests had names."""
    return bool(earlier) and set(settings(earlier[0])) == set(settings(rows[0])) and all(
        old["key"] == new["key"] for old, new in zip(earlier, rows, strict=False))


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new row of a trial. If the trial was not run to the end now, its earlier final outcome stays."""
    kept = {column: old[column] for column in FINAL if column in old} if not new.get("final_key") else {}
    return {**new, **kept}


def reported(row: Line) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a trial that its row stands for, by key. A failed trial is tried again, so it is left out."""
    for kind, value in (("", "value"), ("final_", "final")):
        if row.get(f"{kind}status") in ("done", "diverged"):
            numbers = {name: float(row[f"{kind}{name}"]) if row[f"{kind}{name}"] else None
                       for name in ("epochs", "best_epoch", "seconds")}
            told = {"status": row[f"{kind}status"], "fresh": False, "seconds": numbers["seconds"],
                    **{name: None if numbers[name] is None else int(numbers[name] or 0)
                       for name in ("epochs", "best_epoch")}}
            if told["status"] == "done":
                yield row[f"{kind}key"], told | {"valid": {row["metric"]: float(row[value])}}
            else:
                yield row[f"{kind}key"], told | {"error": "it did so before, says the table of the study"}
