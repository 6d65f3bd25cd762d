"""Finished runs side by side: ``python -m recot.compare runs/KEY runs/KEY``, or ``--data NAME``, or ``--last``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recot.request import command
from recot.request.errors import RequestError, nearest

if TYPE_CHECKING:
    from recot.artifacts.comparison import Comparison
    from recot.record.record import Record
    from recot.record.store import Runs

log = logging.getLogger("recot.compare")  # __name__ is __main__ under python -m

SWEEP = Path(".sweep", "keys.json")
"""In the folder of records: the keys of the runs of the last sweep."""

ENDINGS = (".md", ".csv", ".html")
"""How the files end that a comparison is written into."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.Parser(prog=command.program("compare"), description=(
        "A table over finished runs that answered the same questions: runs that differ in the seed alone are one row. "
        "Intervals and paired tests are over the users."))
    parser.add_argument("run", nargs="*", help="folders of runs, or their keys")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--data", metavar="NAME", help="all finished runs on a data set, such as gowalla or csv")
    asked.add_argument("--last", action="store_true", help="the runs of the last sweep (-m), or without one those on "
                       "the data and the split of the run that was finished last")
    parser.add_argument("--split", metavar="ID", help="only the runs of this split, by its first letters")
    parser.add_argument("--questions", metavar="NAME", default="test", help="the test set, where there are several "
                        "(default test)")
    parser.add_argument("--metric", metavar="NAMES", type=lambda text: [name for name in text.split(",") if name],
                        default=[], help="metrics, separated by commas; the first orders the rows. All without, the "
                        "monitor first")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of records (RECOT_RUNS, or runs)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file .md, .csv or .html; the terminal without it")
    return parser


def folder_of_records(typed: Path | None) -> Path:
    """The folder of records: what was typed, or what a run without overrides takes."""
    if typed is not None:
        return typed
    import yaml

    from recot.request.compose import CONF
    from recot.system.environment import looked_up

    content = yaml.safe_load((CONF / "run.yaml").read_text(encoding="utf-8"))  # composing the config costs twice this
    return Path(looked_up(content["paths"]["runs"]))


def place(options: argparse.Namespace) -> tuple[Path, list[str]]:
    """The folder of records, and the keys of the runs that were named.

    Raises:
        RequestError: nothing was asked for, or two things; there is no such folder or run; runs lie in several folders.
    """
    ways = [*["folders"] * bool(options.run), *["--data"] * (options.data is not None), *["--last"] * options.last]
    if len(ways) != 1:
        given = f"; {' and '.join(ways)} were given" if ways else ""
        raise RequestError(f"give folders of runs, --data NAME or --last, one of them{given}")
    root = folder_of_records(options.runs)
    if not options.run:
        if not root.is_dir():
            raise RequestError(f"there is no folder {root} of records; name one with --runs or RECOT_RUNS")
        return root, []
    typed = [name.parent if name.name == "record.json" else name for name in map(Path, options.run)]
    folders = [folder if folder.is_dir() else root / folder for folder in typed]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise RequestError(f"there is no folder {missing[0]}; name folders of runs, such as runs/eee5486caa8298d9")
    if len({folder.absolute().parent for folder in folders}) > 1:
        raise RequestError(f"{folders[0]} and {folders[-1]} lie in different folders of records; compare runs of one")
    return folders[0].parent, [folder.absolute().name for folder in folders]


def all_keys(runs: Runs) -> list[str]:
    """The keys of all runs that have a record, by name."""
    return sorted(place.name for place in runs.root.iterdir() if not place.name.startswith(".") and place.is_dir())


def swept(runs: Runs) -> list[str]:
    """The keys of the last sweep.

    Raises:
        RequestError: the file that names them is damaged.
    """
    file = runs.root / SWEEP
    if not file.exists():
        return []
    try:
        keys: list[str] = json.loads(file.read_bytes())
    except ValueError as error:
        raise RequestError(f"{file} is damaged ({error}); delete it, and name the runs or their data") from error
    return keys


def latest(records: Sequence[Record]) -> list[Record]:
    """The runs on the data and the split of the one that was finished last."""
    last = max((record.line for record in records if record.line), key=lambda line: line.finished, default=None)
    return [record for record in records if last and record.line
            and (record.line.data, record.line.split) == (last.data, last.split)]


def records_of(options: argparse.Namespace, runs: Runs, named: Sequence[str]) -> list[Record]:
    """The finished runs that were asked for.

    Raises:
        RequestError: there are none.
    """
    from recot.artifacts.comparison import data_sets, finished

    keys = named or (swept(runs) if options.last else [])
    found = finished(runs, dict.fromkeys(keys)) if keys else finished(runs, all_keys(runs), options.data)
    if options.last and not keys:
        found = latest(found)
    if options.split is not None:
        found = [record for record in found if record.line and record.line.split.startswith(options.split)]
    if not found:
        from recot.request.compose import CONF

        data = "" if options.data is None else f" data={options.data}"
        if data and not (CONF / "data" / f"{options.data}.yaml").exists():
            there = data_sets(runs, all_keys(runs))
            raise RequestError(f"no data set is called {options.data}, and {runs.root} holds no run on it. "
                               f"{nearest(options.data, there)}")
        part = "" if options.split is None else f" of the split {options.split}"
        raise RequestError(f"{runs.root} holds no finished run{part} of those that were asked for; python -m "
                           f"recot.run{data} makes one")
    return found


def answer(options: argparse.Namespace) -> None:
    """Compare the runs that were asked for, and print or write the table.

    Raises:
        RequestError: an option is wrong, no run is left, or the runs do not compare. OSError: the file cannot be
            written.
    """
    if options.out is not None:
        command.check_out(options.out, ENDINGS)
    root, named = place(options)
    with command.held():
        from recot.artifacts.comparison import compare
        from recot.record.store import Runs

    runs = Runs(root)
    comparison = compare(records_of(options, runs, named), runs, options.metric, options.questions)
    if options.out is None:
        command.tell(drawn(comparison))
    else:
        write(comparison, options.out)


def drawn(comparison: Comparison) -> str:
    """A comparison as a text in letters that standard output has."""
    from rich.console import Console

    from recot.pages.comparison import show

    console = Console(soft_wrap=True, markup=False, force_terminal=False)
    with console.capture() as text:
        show(comparison, console)
    return text.get()


def write(comparison: Comparison, out: Path) -> None:
    """Write a comparison into a file, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    from recot.pages import comparison as pages
    from recot.system.files import write_whole

    ways = {".md": pages.markdown, ".csv": pages.spreadsheet, ".html": pages.document}
    try:
        write_whole(out, ways[out.suffix.lower()](comparison).encode())
    except OSError as error:
        raise OSError(f"--out {out} cannot be written ({error.strerror}); name another file") from error
    log.info("written to %s", out)


def conclude(done: Iterable[tuple[str, str]]) -> None:
    """End a sweep: write down which runs it had, and print a table of them for each split.

    Args:
        done: folder of records and key of each finished run.
    """
    from recot.artifacts.comparison import compare, finished, groups
    from recot.record.store import Runs
    from recot.system.files import write_whole

    by_root: dict[str, list[str]] = {}
    for root, key in done:
        by_root.setdefault(root, []).append(key)
    for root, keys in by_root.items():
        (Path(root) / SWEEP).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(root) / SWEEP, json.dumps(list(dict.fromkeys(keys))).encode())
        runs = Runs(root)
        for group in groups(finished(runs, dict.fromkeys(keys))):
            command.tell(drawn(compare(group, runs)))


def table() -> int:
    """What the command does; its exit code."""
    return command.answered(arguments(), answer)


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    command.carry_out(table, "recot", "nothing was written")


if __name__ == "__main__":
    main()
