"""Raw files: where they lie, how they get there, and whether they are the right ones.

A file is looked for below the data root first (``root``, else the environment variable RECOT_DATA), then below
``<cache>/raw``, as NAME or as NAME.gz. What is missing is downloaded into ``<cache>/raw``; the data root is only read.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import logging
import lzma
import os
import re
import shutil
import stat
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import filelock
import platformdirs

from recot.system.environment import hidden, shown
from recot.system.files import sweep, write_whole

logger = logging.getLogger(__name__)

MAX_RATIO = 200                   # of uncompressed to compressed; text of ratings stays below 10
MAX_BYTES = 20 * 2**30            # of everything in one archive
TIMEOUT = 60                      # seconds without a byte from the server
SMALL = 100 * 2**20               # bytes of a file that is read each time its digest is asked for
SETTLED = 10                      # seconds, more than any clock of a file system is coarse
HTML = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class RawFiles:
    """The raw files of one data set.

    Attributes:
        folder: their folder below the data root.
        files: name -> sha256 of the uncompressed content, None when unknown.
        url: a .zip that holds the files, or the folder on a server they lie in; None when they cannot be downloaded.
        archive_sha256: of the .zip, None when unknown or when ``url`` is a folder.
        manual: where to get them by hand, one sentence.

    Raises:
        ValueError: a name leaves its place, or the URL is none of the web.
    """

    folder: str
    files: dict[str, str | None]
    url: str | None = None
    archive_sha256: str | None = None
    manual: str | None = None

    def __post_init__(self) -> None:
        for key, name in (("folder", self.folder), *(("files", name) for name in self.files)):
            check_name(f"data.{key}", name)
        if self.url is not None and not re.match(r"https?://[^/\s]", self.url):
            raise ValueError(f"data.url = {shown(self.url)} is no address of the web; give one that begins with "
                             "http:// or https://, or null where nothing is downloaded")

    def by_hand(self, names: list[str], place: Path) -> str:
        """The remedy for missing ``names``: what to get, from where, and where to put it."""
        wanted = ", ".join(f"{name} (sha256 {self.files[name] or 'unknown'})" for name in names)
        archive = f" (sha256 {self.archive_sha256})" if self.archive_sha256 else ""
        source = hidden(self.manual or "") or (
            f"Get it from {shown(self.url)}{archive} by hand." if self.url else "Get another copy.")
        return f"{source} Put {wanted} into {place}, or name another data root with RECOT_DATA or data.root"


def check_name(key: str, name: str) -> None:
    """Refuse a name of a file or folder that leads out of where it is put.

    Raises:
        ValueError: with the config key that has it.
    """
    if name in ("", ".", "..") or name.startswith("-") or any(
            mark in "/\\" or unicodedata.category(mark) in ("Cc", "Cs") for mark in name):
        raise ValueError(f"{key} has {name!r}, which is no single name; give one that has no / \\ or control "
                         "character, does not begin with - and is not empty . or ..")


def cache_folder(cache: str | None) -> Path:
    """The folder of downloads and prepared data; None is the platform's own."""
    return Path(cache).absolute() if cache else Path(platformdirs.user_cache_dir("recot"))


def data_root(root: str | None, cache: Path) -> Path:
    """``root``, else the environment variable RECOT_DATA, else the folder of downloads.

    Raises:
        FileNotFoundError: it was named and is no folder.
    """
    named = root or os.environ.get("RECOT_DATA")
    if named and not Path(named).is_dir():
        raise FileNotFoundError(f"the data root {named} is no folder; set RECOT_DATA or data.root to the folder with "
                                "the raw files, or leave both empty for downloads")
    return Path(named) if named else cache / "raw"


def writable(folder: Path) -> Path:
    """``folder``, made if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the cache folder {folder} cannot be made ({error}); name another place with RECOT_CACHE or "
                      "paths.cache") from error
    return folder


def opened(path: Path) -> BinaryIO:
    """The uncompressed content of ``path``: a plain file, or one that gzip, bzip2, xz, zstd or zip packed.

    What it is is told by its first bytes, not by its name. A .zip holds one file, but for arrays of NumPy (.npz), which
    are read as they are.

    Raises:
        ValueError: a .zip holds another number of files, or is a spreadsheet.
    """
    with path.open("rb") as stream:
        head = stream.read(6)
    for magic, open_ in OPENERS.items():
        if head.startswith(magic) and path.suffix != ".npz":
            return open_(path)
    if path.suffix == ".gz" and head:
        raise ValueError(f"{path} is damaged (it does not begin as a .gz does); get it again")
    return path.open("rb")


def uncompressed(path: Path) -> bytes:
    """All of :func:`opened`.

    Raises:
        ValueError: the file is damaged, or as in :func:`opened`.
        OSError: it cannot be read.
    """
    with _damage_named(path), opened(path) as stream:
        return stream.read()


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Errors of the libraries that unpack become one that names the file."""
    try:
        yield
    except _of_damage() as error:
        raise ValueError(f"{path} is damaged ({error}); get it again") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged ({error}); get it again") from error  # so says bzip2


def _of_damage() -> tuple[type[Exception], ...]:
    """What the libraries that unpack raise for a damaged file."""
    import pyarrow as pa  # a command that reads no file does without its 0.1 s

    return (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException,
            NotImplementedError)


def _zstd(path: Path) -> BinaryIO:
    """The content of a file that zstd has packed."""
    import pyarrow as pa

    return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


def _only_member(path: Path) -> BinaryIO:
    """The content of a .zip of one file."""
    archive = zipfile.ZipFile(path)
    names = [member.filename for member in archive.infolist()
             if not member.is_dir() and not member.filename.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names or "content.xml" in names:
        raise ValueError(f"{path} is a spreadsheet; save its table as .csv")
    if len(names) != 1:
        raise ValueError(f"{path} is a .zip of {len(names)} files, expected one; unpack it and name one of them")
    if archive.getinfo(names[0]).flag_bits & 1:
        raise ValueError(f"{path} is encrypted; unpack it")
    return cast(BinaryIO, archive.open(names[0]))


OPENERS: dict[bytes, Callable[[Path], BinaryIO]] = {
    b"\x1f\x8b": lambda path: cast(BinaryIO, gzip.GzipFile(path)),
    b"BZh": lambda path: cast(BinaryIO, bz2.BZ2File(path)),
    b"\xfd7zXZ\0": lambda path: cast(BinaryIO, lzma.LZMAFile(path)),  # noqa: SIM115
    b"PK\x03\x04": _only_member,
    b"\x28\xb5\x2f\xfd": _zstd}
"""First bytes of a packed file -> what opens it."""


def in_folder(folder: Path, name: str) -> Path | None:
    """``folder/NAME`` or ``folder/NAME.gz``, whichever is there; None when neither is."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def locate(raw: RawFiles, root: str | None, cache: Path) -> list[Path]:
    """Paths of the raw files in the listed order, all there and of the right content; downloads what is missing.

    Raises:
        FileNotFoundError: the data root is no folder, or a file is missing and cannot be downloaded.
        ValueError: a file is not the expected one.
        OSError: a download fails, or the cache cannot be written.
    """
    place, own = data_root(root, cache) / raw.folder, cache / "raw" / raw.folder
    missing = [name for name in raw.files if not (in_folder(place, name) or in_folder(own, name))]
    if missing and raw.url is None:
        raise FileNotFoundError(f"{raw.folder}/{missing[0]} is missing and cannot be downloaded. "
                                f"{raw.by_hand(missing, place)}.")
    if missing:
        _download(raw, own, place)
    paths = [in_folder(place, name) or in_folder(own, name) or own / name for name in raw.files]
    for path, name in zip(paths, raw.files, strict=True):
        if raw.files[name] is not None and (found := content_sha256(path, cache)) != raw.files[name]:
            raise ValueError(f"{path} is another file than the expected {name}: its content has sha256 {found}. "
                             f"Remove it. {raw.by_hand([name], place)}.")
    return paths


def content_sha256(path: Path, cache: Path) -> str:
    """sha256 of the uncompressed content of ``path``, 64 hexadecimal digits.

    A file below :data:`SMALL` bytes is read each time. The digest of a larger one is kept below ``<cache>/digests`` for
    its path, device, number, size and the times of its last change, one of which no program can set back. A file that
    changed less than :data:`SETTLED` seconds ago could change again without another time, so it is not kept.

    Raises:
        ValueError: a packed file is damaged.
        OSError: the file cannot be read.
    """
    state = path.stat()
    memory = cache / "digests" / hashlib.sha256("\n".join(map(str, (
        path.absolute(), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns,
        state.st_ctime_ns))).encode(errors="surrogateescape")).hexdigest()
    if state.st_size >= SMALL and memory.exists() and (
            re.fullmatch("[0-9a-f]{64}", known := memory.read_text("ascii", "replace"))):
        return known
    with _damage_named(path), opened(path) as content:
        sha = hashlib.sha256()
        while block := content.read(2**20):
            sha.update(block)
    found = sha.hexdigest()
    if state.st_size >= SMALL and time.time() - state.st_ctime > SETTLED and path.stat() == state:
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            sweep(memory.parent)
            write_whole(memory, found.encode())
        except OSError as error:
            logger.info("%s cannot be written (%s), so %s is read again next time; name another cache with RECOT_CACHE "
                        "or paths.cache", memory.parent, error, path)
    return found


def _download(raw: RawFiles, own: Path, place: Path) -> None:
    """Fill ``own`` with the files that are in neither folder; one process does it, the others wait."""
    with filelock.FileLock(writable(own.parent) / f"{own.name}.lock"):
        missing = [name for name in raw.files if not (in_folder(place, name) or in_folder(own, name))]
        partial = own.with_name(f"{own.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)                 # left by a killed process: nobody else is here
        writable(partial)
        try:
            if (raw.url or "").endswith(".zip") and missing:
                _get(raw, str(raw.url), partial / "archive.zip", raw.archive_sha256, missing, place)
                _extract(raw, partial / "archive.zip", partial, missing, place)
            else:
                for name in missing:
                    _get(raw, f"{raw.url}/{name}", partial / name, raw.files[name], missing, place)
            for name in missing:
                writable(own)
                with (partial / name).open("rb+") as done:
                    os.fsync(done.fileno())
                os.replace(partial / name, own / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _get(raw: RawFiles, url: str, target: Path, sha256: str | None, missing: list[str], place: Path) -> None:
    """Download ``url`` to ``target`` and check what came."""
    import pooch

    logger.info("downloading %s", shown(url))
    remedy = f"Expected sha256 {sha256 or 'unknown'}. {raw.by_hand(missing, place)}."
    try:
        pooch.HTTPDownloader(chunk_size=2**16, timeout=TIMEOUT)(url, str(target), None)
    except OSError as error:                                        # covers every error of requests
        # A library prints a URL in the pieces that it took it for, so of one with a secret its text is not shown.
        status = getattr(getattr(error, "response", None), "status_code", "no answer")
        reason = shown(error) if hidden(url) == url else f"{type(error).__name__}, {status}"
        raise ConnectionError(f"{shown(url)} could not be downloaded ({reason}). {remedy}") from None
    with target.open("rb") as content:
        if content.read(512).lstrip().lower().startswith(HTML):
            raise ValueError(f"{shown(url)} served a web page in place of the file. {remedy}")
        content.seek(0)
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if sha256 not in (None, found):
        raise ValueError(f"{shown(url)} served a file with sha256 {found}. {remedy}")


def _extract(raw: RawFiles, path: Path, target: Path, names: list[str], place: Path) -> None:
    """Write the members called ``names``, in whatever folder of the archive, to ``target``."""
    remedy = f"Nothing was extracted. {raw.by_hand(names, place)}."
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if (reason := refusal(member)) is not None:
                    raise ValueError(f"{shown(raw.url)} is refused: its member {member.filename!r} {reason}. "
                                     f"{remedy}")
            if (total := sum(member.file_size for member in archive.infolist())) > MAX_BYTES:
                raise ValueError(f"{shown(raw.url)} is refused: it expands to {total:,} bytes, more than "
                                 f"{MAX_BYTES:,}. "
                                 f"{remedy}")
            for name in names:
                found = [m for m in archive.infolist() if PurePosixPath(m.filename).name == name and not m.is_dir()]
                if len(found) != 1:
                    raise ValueError(f"{shown(raw.url)} holds {len(found)} files called {name}, expected one. "
                                     f"{remedy}")
                with archive.open(found[0]) as source, (target / name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                with (target / name).open("rb") as content:
                    sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                if raw.files[name] not in (None, sha256):
                    raise ValueError(f"{shown(raw.url)} holds another {name} than expected, with sha256 {sha256}. "
                                     f"{remedy}")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{shown(raw.url)} served an archive that cannot be read ({error}). {remedy}") from error


def refusal(member: zipfile.ZipInfo) -> str | None:
    """Why an archive with this member is not extracted, or None."""
    name = member.filename.replace("\\", "/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "leaves its folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.file_size > MAX_RATIO * max(member.compress_size, 1):
        return f"expands {member.compress_size:,} bytes to {member.file_size:,}, more than {MAX_RATIO} times"
    return None
