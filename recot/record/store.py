"""Records of finished runs, addressed by what was asked: the resolved config and the digest of the data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recot.request.keys import jsonable
from recot.system import files

log = logging.getLogger(__name__)

RECORD, NEW, WHOLE = "record.json", ".new", ".whole"
"""In the folder of a run: its record, what is being made, and what was made and is to be moved beside the record."""

LEFT = ("*.parquet", "epochs.csv", "weights.pt")
"""Patterns of the files that runs leave beside their records."""

PARTS = ("*.part", "round*/*.part", "refit/**/*.part")
"""Patterns of files that killed processes left half written."""

TYPES = {"key": str, "status": str, "command": str, "config": dict, "seed": int, "split": str, "digest": str,
         "epochs": int, "error": str, "sources": str, "model": str, "rounds": list, "files": dict}
"""Types of the fields of a record."""

NEEDED = {False: ("status",), True: ("status", "key", "command", "config", "model", "split")}
"""Fields that a record has, and those that it has where its run is done."""


def seal(record: Mapping[str, Any]) -> str:
    """The sha256 of a record, by which damage to its file is found; it is no protection against a forger."""
    text = json.dumps({name: value for name, value in record.items() if name != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def again(record: Mapping[str, Any]) -> str:
    """What to type to make a run again; letters that would steer a terminal are escaped."""
    command = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in record["command"])
    return command if " force=true" in command else f"{command} force=true"


def read_record(file: Path) -> dict[str, Any]:
    """A record, without its seal.

    Raises:
        ValueError: the file is damaged, is a link, or holds something else.
        OSError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise ValueError("a link or no plain file")
        record = json.loads(file.read_bytes().decode(), object_pairs_hook=distinct, parse_constant=strict)
        check_shape(record)
        if record.pop("seal", own := seal(record)) != own:
            raise ValueError("it was changed after it was written")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a record ({error}); delete it and run the same command again") from error
    return record


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What a JSON object holds.

    Raises:
        ValueError: it holds a name twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it holds {next(name for name in found if names.count(name) > 1)!r} twice")
    return found


def strict(word: str) -> None:
    """Refuse the numbers that Python reads and JSON does not have (NaN and infinities).

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{word} is no JSON")


def check_shape(record: Any) -> None:
    """Refuse what no run wrote.

    Raises:
        ValueError: a field is missing or is of another type.
    """
    if not isinstance(record, dict):
        raise ValueError(f"it holds a {type(record).__name__} and no fields")
    if missing := [name for name in NEEDED[record.get("status") == "done"] if name not in record]:
        raise ValueError(f"it has no {missing[0]}")
    if "files" in record and "seal" not in record:  # one of before recot noted files had none
        raise ValueError("it has lost its seal")
    for name, kind in TYPES.items():
        if name in record and (not isinstance(record[name], kind) or isinstance(record[name], bool)):
            raise ValueError(f"its {name} is no {kind.__name__}")
    for row in record.get("rounds", [{"round": 0}]) or [None]:
        if not isinstance(row, dict) or not isinstance(row.get("round"), int):
            raise ValueError("its rounds have no numbers")
    for name, told in record.get("files", {}).items():
        if not isinstance(told, dict) or not isinstance(told.get("bytes"), int) or (
                not isinstance(told.get("sha256"), str)):
            raise ValueError(f"it does not say how long {name!r} is and what its sha256 is")


class Runs:
    """A folder of run folders.

    ``<root>/<key>/record.json`` is the record of a run, whose files lie beside it. A run whose record says ``done`` is
    finished. A record and its files change together: they are made in ``.new``, which :meth:`publish` renames to
    ``.whole``; from that moment on it is the run, and :meth:`lock` moves its files to where they belong.
    """

    def __init__(self, root: str | Path):
        self.root, self.warned = Path(root), False

    def folder(self, key: str) -> Path:
        """Where everything about a run lies."""
        return self.root / key

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a run, whatever its status, or None where there is none.

        Raises:
            ValueError: the file is not a record.
        """
        for file in (self.folder(key) / WHOLE / RECORD, self.folder(key) / RECORD):
            if os.path.lexists(file):
                with contextlib.suppress(FileNotFoundError):  # moved meanwhile to where the next turn looks
                    return read_record(file)
        return None

    def finished(self, key: str) -> bool:
        """Whether there is a record of a run that ended well."""
        record = self.get(key)
        return record is not None and record["status"] == "done"

    def file(self, key: str, name: str, record: Mapping[str, Any] | None = None) -> Path | None:
        """A file that a run left, or None where it left none of that name.

        What is read is what was written: its size and sha256 are those in the record. A record of before recot noted
        them is believed, with a warning.

        Args:
            record: the record at hand; read where it is not given.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: it is not what the run wrote.
        """
        record = record or self.get(key) or {"files": {}}
        places = [place for place in (self.folder(key) / WHOLE / name, self.folder(key) / name)
                  if os.path.lexists(place)]
        told = record.get("files", {}).get(name)
        if told is None and ("files" in record or not places):
            return None
        if not places:
            raise FileNotFoundError(f"{self.folder(key) / name} is gone; make the run again: {again(record)}")
        if not stat.S_ISREG(places[0].lstat().st_mode):
            raise ValueError(f"{places[0]} is a link or no plain file, and not what this run wrote; make the run "
                             f"again: {again(record)}")
        if told is None and not self.warned:
            log.warning("the record in %s is of before recot noted what files a run left; whether they are still what "
                        "it wrote cannot be checked", self.folder(key))
            self.warned = True
        elif told and (places[0].stat().st_size != told["bytes"] or files.sha256(places[0]) != told["sha256"]):
            raise ValueError(f"{places[0]} is not what this run wrote (its sha256 is not {told['sha256'][:16]}...); "
                             f"run its command again with force=true: {again(record)}")
        return places[0]

    def busy(self, key: str) -> bool:
        """Whether another process works on a run at this moment.

        Raises:
            OSError: the folder cannot be written.
        """
        lock = FileLock(self.folder(key) / ".lock")
        if not Path(lock.lock_file).exists():
            return False
        try:
            with self.writing(key):
                lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def claim(self, key: str) -> FileLock | None:
        """Take a run for a process that is about to be started, until ``release()``; None where another one has it.

        The system frees it when the process that took it dies.

        Raises:
            OSError: the folder cannot be made or written.
        """
        claim = FileLock(self.folder(key) / ".claim")
        try:
            with self.writing(key):
                self.folder(key).mkdir(parents=True, exist_ok=True)
                claim.acquire(timeout=0)
        except Timeout:
            return None
        return claim

    def put(self, key: str, record: Mapping[str, Any]) -> Path:
        """Write the record of a run, whole or not at all.

        Raises:
            OSError: the folder cannot be made or written.
        """
        file = self.folder(key) / RECORD
        with self.writing(key):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_record(file, record)
        return file

    @contextlib.contextmanager
    def draft(self, key: str) -> Iterator[Path]:
        """An empty folder for the files that a run leaves, until :meth:`publish` or the end of the context."""
        new = self.folder(key) / NEW
        new.mkdir()
        try:
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)  # the next holder of the lock removes what stays

    def publish(self, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Make the files in :meth:`draft` and ``record`` the run, both or neither, for the holder of its lock.

        Returns:
            The record as it is stored, with ``files``: name -> ``bytes`` and ``sha256``.
        """
        new, told = self.folder(key) / NEW, {}
        for file in sorted(new.iterdir()):
            files.sync(file)
            told[file.name] = {"bytes": file.stat().st_size, "sha256": files.sha256(file)}
        record = write_record(new / RECORD, {**record, "files": told})
        os.rename(new, self.folder(key) / WHOLE)
        files.sync(self.folder(key))
        return record

    def settle(self, key: str) -> None:
        """Move what was published to where it belongs and remove what the killed left, for the holder of the lock.

        Files that the published record does not name are of an earlier run and go. The record moves last.
        """
        folder, whole = self.folder(key), self.folder(key) / WHOLE
        if (whole / RECORD).exists():
            told = read_record(whole / RECORD)["files"]
            for name in told:
                if (whole / name).exists():
                    os.replace(whole / name, folder / name)
            for pattern in LEFT:
                for file in folder.glob(pattern):
                    if file.name not in told:
                        file.unlink()
            files.sync(folder)
            os.replace(whole / RECORD, folder / RECORD)
            files.sync(folder)
        for rest in (whole, folder / NEW):
            if rest.exists():
                shutil.rmtree(rest)
        for pattern in PARTS:
            files.sweep(folder, pattern)

    def unsettled(self, key: str) -> bool:
        """Whether :meth:`settle` would move or remove a file."""
        return any(True for pattern in (WHOLE, NEW, *PARTS) for _ in self.folder(key).glob(pattern))

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a run for this process, settled; waits for another one that holds it.

        The system frees it when a process dies.

        Raises:
            OSError: the folder cannot be made or written.
        """
        folder = self.folder(key)
        lock = FileLock(folder / ".lock")
        with self.writing(key):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.warning("another process is working on %s; waiting for it", folder)
                lock.acquire()
        try:
            with self.writing(key):
                self.settle(key)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[None]:
        """Add to an error about a file of a run how to move the folder.

        Raises:
            OSError: in place of one that names the folder, a file in it or a folder above it.
        """
        folder = self.folder(key)
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not folder.is_absolute() and not working_directory():
                raise OSError(f"{folder} cannot be written: the working directory was deleted; change into a folder "
                              "that exists") from error
            named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | Path) else None
            place, own = named and named.absolute(), folder.absolute()
            if place is None or not (place == own or own in place.parents or place in own.parents):
                raise
            raise OSError(f"{folder} cannot be written ({error}); name another place for records with RECOT_RUNS or "
                          "paths.runs") from error


def working_directory() -> bool:
    """Whether the folder that relative paths start from exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def write_record(file: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record with its seal, whole or not at all; returns it as :func:`read_record` reads it."""
    kept = json.loads(json.dumps(jsonable({name: value for name, value in record.items() if name != "seal"})))
    files.write_whole(file, (json.dumps(kept | {"seal": seal(kept)}, indent=1, ensure_ascii=False) + "\n").encode())
    return kept
