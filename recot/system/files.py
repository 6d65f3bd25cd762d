"""Files that are whole or not there, and files that say themselves whether they are what was written."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PART = ".part"
"""Ending of a file that is being written."""

SEAL = b"recot-sealed sha256="
"""How a sealed file begins: this, 64 hexadecimal digits, a line end, and then what was written."""

Content = bytes | Callable[[BinaryIO], object]
"""What a file is to hold, or what writes it to an open file."""


def write_whole(file: Path, content: Content) -> None:
    """Write ``file`` so that it holds what it held before or all of ``content``, also after a power cut or a full disk.

    The file that is written meanwhile is a new one beside it, so that no link is followed. It is locked as long as its
    writer lives, which is how :func:`sweep` knows one that a killed process left.

    Raises:
        OSError: the folder cannot be written; it names the file, and nothing is left behind.
    """
    aside, stream = _new_beside(file)
    try:
        with stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                content(stream)
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(aside, file)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # what torch says of a full disk
        if isinstance(cause, OSError):
            cause.filename = cause.filename or str(file)  # a full disk does not say where
            raise cause from None
        raise
    sync(file.parent)


def _new_beside(file: Path) -> tuple[Path, BinaryIO]:
    """A new, locked, empty file in the folder of ``file``."""
    while True:
        aside = file.with_name(f"{file.name}.{secrets.token_hex(4)}{PART}")
        stream = aside.open("xb")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if aside.exists():  # no sweep came between the two lines above
            return aside, stream
        stream.close()


def sync(place: Path) -> None:
    """Make the content of a file, or the names in a folder, last through a power cut."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(place)
        raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, pattern: str = f"*{PART}") -> None:
    """Remove what killed writers left in ``folder``; the files of living ones stay.

    Args:
        pattern: of the names, as for :meth:`Path.glob`; ``**/*.part`` looks into folders below as well.
    """
    for part in folder.glob(pattern):
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # gone meanwhile, a link, or of somebody else
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)
        except OSError:  # its writer lives, or the folder is read-only
            pass
        finally:
            os.close(descriptor)


def sha256(file: Path) -> str:
    """64 hexadecimal digits of the content of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sealed(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """As :func:`write_whole`, with the sha256 of the content before it, which :func:`read_sealed` checks."""
    content = io.BytesIO()
    write(content)
    payload = content.getbuffer()
    head = SEAL + hashlib.sha256(payload).hexdigest().encode() + b"\n"

    def whole(stream: BinaryIO) -> None:
        stream.write(head)
        stream.write(payload)

    write_whole(file, whole)


def read_sealed(file: Path) -> io.BytesIO:
    """What :func:`write_sealed` wrote.

    Raises:
        ValueError: the file is damaged, cut short, or was not written so.
        OSError: it cannot be read.
    """
    head, _, payload = file.read_bytes().partition(b"\n")
    if not head.startswith(SEAL):
        raise ValueError(f"{file} was not written by recot, or by a version before it sealed its files")
    if head.removeprefix(SEAL).decode("ascii", "replace") != hashlib.sha256(payload).hexdigest():
        raise ValueError(f"{file} is damaged: its content is not what was written")
    return io.BytesIO(payload)
