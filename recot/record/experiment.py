"""One experiment: a checked config becomes a record."""

from __future__ import annotations

import json
import logging
import secrets
import shlex
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recot.data import fetch
from recot.evaluation.evaluate import Diverged
from recot.fit import processes
from recot.nn import ranks
from recot.record import code, outputs, store
from recot.record.attempt import attempt
from recot.record.build import import_training, make, rehearse
from recot.record.provenance import provenance, source_digest
from recot.request import keys
from recot.request.schema import of_lists
from recot.system import files, memory
from recot.system.environment import REFERENCE, hidden
from recot.system.place import missing

log = logging.getLogger(__name__)


def run(config: dict[str, Any], choices: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the experiment of a checked config, or find its record; go on where an earlier attempt stopped.

    Where several processes are to share it, they are started, unless this one is already one of them. The first one
    decides and writes; the others follow it.

    Args:
        config: from ``schema.check``. choices: the preset name of each config group. command: what the user typed.

    Returns:
        The record, as stored in ``<paths.runs>/<key>/record.json``, and ``fresh``: was it run just now?

    Raises:
        Exception: whatever the run raised, after a record of it was written.
    """
    memory.keep_freed()
    peak = memory.Peak()
    rehearse(config)
    commit, today = code.commit(), source_digest(config)  # of the code that is loaded; files may change meanwhile
    source = make(config["data"])
    data = source.digest()
    key, runs = keys.key(config, data), store.Runs(config["paths"]["runs"])
    devices = config["trainer"].get("devices", 1)
    if missing(devices):
        return begun_together(config, runs, key, today, command)
    device = make(config["trainer"]).pick_device().type if devices > 1 else "cpu"
    told = {"config": keys.key(config, ""), "data": data, "code": today, "device": device}
    with processes.joined(devices, device == "cuda", told):
        if ranks.rank():
            return follow(config, source, key, runs.folder(key))
        record = lead(config, choices, command, Start(source, key, commit, today, peak))
        return ranks.agreed(lambda: record)


def begun_together(config: Mapping[str, Any], runs: store.Runs, key: str, today: str, command: str) -> dict[str, Any]:
    """The record of an experiment that other processes run together, see :func:`run`."""
    if not config["force"] and (found := finished(runs, key)):
        return shown(found, runs.folder(key), today)
    _, *words = shlex.split(command)
    forced = ["force=true"] * (config["force"] and "force=true" not in words)
    processes.start(config["trainer"]["devices"], [*words, *forced], RECOT_RUNS=str(config["paths"]["runs"]))
    return {**(runs.get(key) or {}), "fresh": True}


def follow(config: dict[str, Any], source: Any, key: str, folder: Path) -> dict[str, Any]:
    """What a process does that is not the first: it shares the work, and writes nothing. Returns the record."""
    record: dict[str, Any] | None = ranks.agreed(lambda: None)
    if record is None:
        attempt(of_items(config), source, key, folder)
        record = ranks.agreed(lambda: None)
    return record or {}


def lead(config: dict[str, Any], choices: Mapping[str, str], command: str, start: Start) -> dict[str, Any]:
    """What the first process does, or the only one; see :func:`run`."""
    source, key, commit, today, peak = start
    runs = store.Runs(config["paths"]["runs"])
    folder = runs.folder(key)
    if not config["force"] and (found := finished(runs, key)):
        return shown(found, folder, today)
    import_training(config)
    with runs.lock(key), runs.writing(key):
        earlier = runs.get(key)
        kept = earlier if earlier and earlier["status"] == "done" else None  # a failed force=true costs no good record
        if kept and not config["force"]:  # another process has finished it meanwhile
            return shown(kept, folder, today)
        begun = begin(folder, today, config["force"], kept)
        record = {"key": key, **{group: choices.get(group) for group in (
            "model", "loss", "denoiser", "data", "protocol", "noise")}, "seed": config["seed"], "status": "running",
            "command": command, "config": keys.relevant(config), "places": places(config["data"])}
        made = {"commit": commit, **begun}
        try:
            with runs.draft(key) as place, processes.noticed():
                left = outputs.Left(place, of_lists(config["metrics"]))
                ranks.agreed(lambda: None)  # here the others begin
                found = attempt(of_items(config), source, key, folder, "again.csv" if kept else "epochs.csv", left)
                told = left.told(found, config["metrics"])
                record = runs.publish(key, record | told | provenance(config, peak) | made)
        except BaseException as error:
            if not kept:
                stopped = "failed" if isinstance(error, Exception) else "interrupted"
                note(runs, key, error, record | {
                    "status": "diverged" if isinstance(error, Diverged) else stopped,
                    "error": hidden(f"{type(error).__name__}: {error}"), "traceback": hidden(traceback.format_exc())}
                    | provenance(config, peak) | made)
            raise
        runs.settle(key)
        forget(folder)
        return {**record, "fresh": True}


class Start(NamedTuple):
    """What an experiment begins with: its data, its key, its code as a commit and as a digest, and its memory."""

    source: Any
    key: str
    commit: str | None
    today: str
    peak: memory.Peak


def of_items(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with metrics of held-out items alone."""
    lists = of_lists(config["metrics"])
    return {**config, "metrics": [name for name in config["metrics"] if name not in lists]}


def finished(runs: store.Runs, key: str) -> dict[str, Any] | None:
    """The record of a run that is done, or None; what a run would resume from is removed where it is still there."""
    record = runs.get(key)
    if record is None or record["status"] != "done":
        return None
    if resumes(runs.folder(key)) or runs.unsettled(key):
        try:
            with runs.lock(key):
                forget(runs.folder(key))
                record = runs.get(key) or record
        except OSError as error:
            log.warning("what was left of an earlier start stays: %s", error)
    return record


def shown(record: dict[str, Any], folder: Path, today: str) -> dict[str, Any]:
    """What :func:`run` returns of a run that was finished before; says where its code has changed."""
    if today not in (record.get("sources"), record.get("repeated")):
        log.warning("%s was made by code that has changed since; force=true makes it again", folder)
    return {**record, "fresh": False}


def note(runs: store.Runs, key: str, failure: BaseException, record: Mapping[str, Any]) -> None:
    """Write the record of a failure. If the writing fails as well, the first failure is the one that is raised.
    """
    try:
        failure.add_note(f"{runs.put(key, record)} holds it too")
    except OSError as error:
        log.warning("there is no record of this failure: %s", error)


def begin(folder: Path, today: str, force: bool, kept: Mapping[str, Any] | None) -> dict[str, str]:
    """Name an attempt and the code it goes by, in the file ``code``; an earlier one that can be goes on.

    A forced one goes on only where it was begun by this very code and has not ended in the record that is there.

    Args:
        today: digest of the code. kept: the record of the finished run that is made again.

    Returns:
        ``attempt``, its name, and ``sources``, the digests of the codes it went by.

    Raises:
        ValueError: the file is damaged, and the run is not forced.
    """
    code, before = folder / "code", None
    if resumable(folder) and code.exists():
        try:
            before = json.load(files.read_sealed(code))
        except ValueError as error:
            if not force:
                raise ValueError(f"{error}; force=true begins this run anew") from error
    if force and resumes(folder) and (before is None or before["sources"] != today
                                      or before["attempt"] == (kept or {}).get("attempt")):
        forget(folder)
        before = None
    begun = before or {"attempt": secrets.token_hex(8), "sources": today}
    if not begun["sources"].endswith(today):
        log.warning("%s was begun by code that has changed since; force=true begins anew", folder)
        begun["sources"] += f"+{today}"
    files.write_sealed(code, lambda stream: stream.write(json.dumps(begun).encode()))
    return begun


REST = ("last.ckpt", "fitted.pt", "code", "again.csv", "round*/", "stage*/", "domain*/", "refit")
"""Patterns of what a stopped attempt leaves and a finished one does not; answers may be in a file domain0.parquet."""


def places(data: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Absolute places of the data by config key. They are no part of what was run; a run is brought back with them.

    A place that refers to the environment stays a reference.
    """
    found = {f"data.{name}": data[name] for name in ("path", "valid", "test", "root") if data.get(name)}
    if "root" in data and not data["root"] and not REFERENCE.search(str(data.get("cache"))):
        found["data.root"] = str(fetch.data_root(None, fetch.cache_folder(data.get("cache"))))
    return {name: [absolute(one) for one in place] if isinstance(place, list) else absolute(str(place))
            for name, place in found.items()}


def absolute(place: str) -> str:
    """A place from the root on, or as it is where it refers to the environment."""
    return place if REFERENCE.search(place) else str(Path(place).absolute())


def resumable(folder: Path) -> bool:
    """Whether there is something that a run would resume from."""
    return any(folder.glob("**/last.ckpt")) or any(folder.glob("**/fitted.pt"))


def resumes(folder: Path) -> list[Path]:
    """What an attempt left in a folder."""
    return [place for pattern in REST for place in folder.glob(pattern)]


def forget(folder: Path) -> None:
    """Remove what a run would resume from; its ``code`` last, which says whose the others are."""
    for place in sorted(resumes(folder), key=lambda place: place.name == "code"):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
