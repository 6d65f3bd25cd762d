"""Records of finished runs, addressed by what was asked: the resolved config and the digest of the data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

IRRELEVANT = {"logger", "paths", "hydra", "force", "plugins", "data.root", "data.cache", "data.path", "trainer.device",
              "trainer.deterministic", "trainer.progress", "trainer.checkpoint_seconds"}
"""Config keys that say where and how to run, not what: they do not change a result that was asked for."""

LATER = {"trainer.optimizer": "adam", "trainer.patience_steps": None, "protocol.refit": False, "noise.seen": "all"}
"""Config keys that came after the first records, each with the value that stands for what was done before: with it, a
run keeps the name it had without the key."""


FORMER = {target: {"restart": True, "first": 30, "every": 20} for target in (
    "recot.denoise.iterative.IterativeRelabelling", "recot.denoise.prorec.ProRec")}
"""Parameters that targets had once, each with the value that stands for what they do now: in the name of a run they
still stand, so that it keeps the name it had with them."""


def relevant(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``config`` without the keys in :data:`IRRELEVANT`, and without those in :data:`LATER` at the value there."""
    kept = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if path not in IRRELEVANT and (path not in LATER or value != LATER[path]):
            kept[name] = relevant(value, f"{path}.") if isinstance(value, Mapping) else value
    return kept


def named(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the parameters in :data:`FORMER`."""
    return {name: named(value) if isinstance(value, Mapping) else value for name, value in config.items()} | FORMER.get(
        config.get("_target_", ""), {})


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a record, without the parameters in :data:`FORMER` at the values there."""
    gone = FORMER.get(config.get("_target_", ""), {})
    return {name: current(value) if isinstance(value, Mapping) else value for name, value in config.items()
            if name not in gone or value != gone[name]}


def key(config: Mapping[str, Any], digest: str) -> str:
    """16 hexadecimal digits that name a run.

    Args:
        config: resolved, plain containers. digest: of the raw data files.
    """
    text = json.dumps([named(relevant(config)), digest], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def jsonable(value: Any) -> Any:
    """``value`` with NaN and infinities as strings, which JSON has no number for."""
    if isinstance(value, Mapping):
        return {name: jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(file: Path, content: bytes) -> None:
    """Write ``file`` so that it holds what it held or all of ``content``, also after a power cut or on a full disk."""
    aside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


class Runs:
    """A folder of run folders, ``<root>/<key>/record.json``. A run whose record says ``done`` is finished."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def folder(self, key: str) -> Path:
        """Where everything about a run lies."""
        return self.root / key

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a run, whatever its status, or None where there is none.

        Raises:
            ValueError: the file is not a record.
        """
        file = self.folder(key) / "record.json"
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is not a record ({error}); delete it and run the same command again") from error

    def finished(self, key: str) -> bool:
        """Whether there is a record of a run that ended well."""
        record = self.get(key)
        return record is not None and record["status"] == "done"

    def busy(self, key: str) -> bool:
        """Whether another process works on a run at this moment."""
        lock = FileLock(self.folder(key) / ".lock")
        if not Path(lock.lock_file).exists():
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def claim(self, key: str) -> FileLock | None:
        """Take a run for a process that is about to be started, until ``release()``; None where another one has it.

        The system frees it when the process that took it dies.
        """
        claim = FileLock(self.folder(key) / ".claim")
        try:
            self.folder(key).mkdir(parents=True, exist_ok=True)
            claim.acquire(timeout=0)
        except Timeout:
            return None
        return claim

    def put(self, key: str, record: Mapping[str, Any]) -> Path:
        """Write the record of a run, whole or not at all."""
        file = self.folder(key) / "record.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, (json.dumps(jsonable(record), indent=1, ensure_ascii=False) + "\n").encode())
        return file

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a run for this process; waits for another one that holds it. The system frees it when a process dies.

        Raises:
            OSError: the folder cannot be made or written.
        """
        folder = self.folder(key)
        lock = FileLock(folder / ".lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("another process is working on %s; waiting for it", folder)
            lock.acquire()
        except OSError as error:
            raise OSError(f"{folder} cannot be written ({error}); name another place for records with RECOT_RUNS or "
                          "paths.runs") from error
        try:
            yield
        finally:
            lock.release()
