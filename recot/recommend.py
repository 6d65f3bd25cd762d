"""Lists from a finished run: ``python -m recot.recommend runs/<key> --k 20 --out lists.parquet``."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from recot.pages.spreadsheet import FORMULA
from recot.request import command
from recot.request.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 100_000
"""Rows that are made into text at a time."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.Parser(prog=command.program("recommend"), description=(
        "The best items of each user by a finished run, under the ids of the raw files."))
    parser.add_argument("run", help="folder of a run, or its key")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="where things lie now: data.root=..., "
                        "data.path=..., data.cache=..., trainer.device=cpu")
    parser.add_argument("--k", type=int, default=10, help="length of a list (default 10)")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--users", metavar="IDS", help="ids, separated by commas; one that holds a comma or a quotation "
                       "mark is quoted as in csv: '\"a,b\",c'. All users without it")
    asked.add_argument("--users-from", type=Path, metavar="FILE", help="a text file in UTF-8, one id a line, as it is")
    asked.add_argument("--histories", type=Path, metavar="FILE", help="histories of users whom the run has never seen, "
                       "csv or parquet with the columns of its data (or user, item and time); from a model that reads "
                       "histories")
    parser.add_argument("--domain", metavar="NAME", help="rank the items of this domain alone; without it those of all")
    parser.add_argument("--tested", action="store_true", help="the lists that were graded, of the users that were "
                        "tested; without it all known pairs are part of the histories, and left out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file .csv or .parquet; csv on the terminal "
                        "without it")
    parser.add_argument("--spreadsheet", action="store_true", help="begin an id with an apostrophe where a spreadsheet "
                        "would run it as a formula, since it begins with = + - @, a tab or a carriage return. Csv "
                        "holds ids as they are without it; parquet, where nothing is run, does so always")
    return parser


def answer(options: argparse.Namespace) -> None:
    """Bring back the run and write its lists.

    Raises:
        RequestError: an option is wrong, or see :mod:`recot.restore`.
        OSError: the lists cannot be written.
    """
    check(options)
    users = asked_for(options)
    with command.held():
        from recot.restore import restore

    finished = restore(folder_of(options.run), options.words)
    if options.histories is None:
        frame = finished.lists(options.k, None if users is None else finished.users(users), options.tested,
                               options.domain)
    else:
        frame = finished.served(options.histories, options.k, options.domain)
    write(guarded(frame) if options.spreadsheet else frame, options.out)


def folder_of(typed: str) -> Path:
    """The folder of a run, of which the folder, its record or the key was typed."""
    from recot.request.compose import composed

    folder = Path(typed)
    if folder.name == "record.json":  # the path that recot.run prints
        folder = folder.parent
    return folder if folder.is_dir() else Path(composed()[0]["paths"]["runs"]) / folder


def guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with an apostrophe before what a spreadsheet would run."""
    texts = {name: frame[name].astype(str).str.replace(FORMULA, "'", regex=True) for name in ("user", "item")}
    return frame.assign(**texts)


def check(options: argparse.Namespace) -> None:
    """Refuse options that cannot work before anything is read.

    Raises:
        RequestError: with what would work.
    """
    out: Path | None = options.out
    if options.k < 1:
        raise RequestError(f"--k {options.k} shows nothing; give 1 or more")
    if options.tested and options.histories is not None:
        raise RequestError("--tested shows the lists of users who were tested, and --histories those of others; leave "
                           "one of them out")
    if options.histories is not None and not options.histories.is_file():
        raise RequestError(f"--histories {options.histories} is no file; name a csv or parquet file")
    check_out(out, options.spreadsheet)


def check_out(out: Path | None, spreadsheet: bool) -> None:
    """Refuse a file that cannot be written.

    Raises:
        RequestError: with what would work.
    """
    if out is None:
        return
    command.check_out(out, (".csv", ".parquet"))
    if spreadsheet and out.suffix.lower() == ".parquet":
        raise RequestError("--spreadsheet is for csv, and parquet holds ids as they are, which nothing runs; leave "
                           "--spreadsheet out")


def asked_for(options: argparse.Namespace) -> list[str] | None:
    """The ids of the users that are asked for, or None for all.

    Raises:
        RequestError: there are none, or they cannot be read.
    """
    if options.users is not None:
        try:
            ids = [id_ for row in csv.reader(io.StringIO(options.users, newline=""), strict=True) for id_ in row]
        except csv.Error as error:
            raise RequestError(f"--users {options.users}: {error}; quote an id as in csv, such as '\"a,b\",c', or use "
                               "--users-from FILE") from error
        if not ids:
            raise RequestError("--users names nobody; leave it out for all users")
        return ids
    file: Path | None = options.users_from
    if file is None:
        return None
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"--users-from {file} cannot be read ({error.strerror}); name a text file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"--users-from {file} is not in UTF-8 ({error.reason} at byte {error.start}); save it in "
                           "UTF-8") from error
    ids = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    if not ids:
        raise RequestError(f"--users-from {file} is empty; leave it out for all users")
    return ids


def write(frame: pd.DataFrame, out: Path | None) -> None:
    """Write lists into a file, all of them or nothing, or print them.

    Raises:
        BrokenPipeError, OSError: they cannot be written.
    """
    if out is None:
        for start in range(0, max(1, len(frame)), AT_ONCE):
            rows = frame[start:start + AT_ONCE]
            command.tell(rows.to_csv(index=False, header=not start, lineterminator="\n"))
        return
    from recot.system.files import write_whole

    try:
        if out.suffix.lower() == ".parquet":
            write_whole(out, lambda stream: frame.to_parquet(stream, index=False))
        else:
            write_whole(out, lambda stream: frame.to_csv(stream, index=False, lineterminator="\n", mode="wb"))
    except OSError as error:
        raise OSError(f"--out {out} cannot be written ({error.strerror}); name another file") from error


def lists() -> int:
    """What the command does; its exit code."""
    return command.answered(arguments(), answer)


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    command.carry_out(lists, "recot.restore", "nothing was written")


if __name__ == "__main__":
    main()
