"""The csv files of results: what their columns hold. A file is read strictly, and written whole."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recot.system.files import write_whole

HEADER = ("table", "row", "column", "metric", "seeds", "mean", "std", "paper", "delta", "verdict", "key")
RUN_HEADER = ("key", "data", "model", "loss", "denoiser", "noise", "seed", "epochs", "best_epoch", "max_epochs",
              "seconds", "wall_seconds", "peak_memory_mb", "device", "threads", "commit", "sources", "repeated",
              "split", "digest", "first_epoch", "finished", "command")
TEST_HEADER = ("table", "column", "metric", "best", "second", "difference", "users", "p", "p_holm", "keys")
TRIAL_HEADER = ("trial", "value", "epochs", "best_epoch", "seconds", "status", "key", "metric", "trials", "max_epochs")
"""Of a study; the settings that were tuned, what a run to the end came to, and the study's name may be there too."""

Line = dict[str, str]
Check = Callable[[str], object]

MARKS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
"""How the lines begin that git leaves where two changes conflict."""


def number(text: str) -> bool:
    """Whether a cell is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def optional(check: Check) -> Check:
    """Whether a cell is empty, or passes ``check``."""
    return lambda text: not text or check(text)


def kinds(columns: str, check: Check, what: str) -> dict[str, tuple[Check, str]]:
    """The same kind for several columns."""
    return dict.fromkeys(columns.split(), (check, what))


WHOLE, KEY, KEYS, SEEDS = (re.compile(pattern).fullmatch for pattern in (
    r"\d+", r"[0-9a-f]{16}", r"[0-9a-f]{16}( [0-9a-f]{16})*", r"\d+( \d+)*"))
KINDS = {
    HEADER: kinds("mean std paper delta", optional(number), "a number") | kinds("seeds", optional(SEEDS), "seeds")
    | kinds("key", optional(KEYS), "keys of runs"),
    RUN_HEADER: kinds("key", KEY, "the key of a run") | kinds("seconds", number, "a number")
    | kinds("best_epoch wall_seconds peak_memory_mb", optional(number), "a number")
    | kinds("seed epochs", WHOLE, "a whole number") | kinds("max_epochs threads", optional(WHOLE), "a whole number"),
    TEST_HEADER: kinds("difference p p_holm", number, "a number") | kinds("users", WHOLE, "a whole number")
    | kinds("keys", KEYS, "keys of runs"),
    TRIAL_HEADER: kinds("trial", WHOLE, "a whole number") | kinds("key", KEY, "the key of a run")
    | kinds("value epochs best_epoch seconds trials max_epochs final final_epochs final_best_epoch final_seconds",
            optional(number), "a number") | kinds("final_key", optional(KEY), "the key of a run")}
"""What the cells of a column hold, by header; a column that is not named holds any text."""

NAMES = {HEADER: ("row", "column", "metric"), RUN_HEADER: ("key",), TEST_HEADER: ("column", "metric"),
         TRIAL_HEADER: ("study", "key")}
"""The columns that tell the rows of a file apart."""


def damaged(file: Path, line: int, what: str) -> ValueError:
    """The error of a file that does not hold what was written into it."""
    return ValueError(f"{file}, line {line}: {what}; mend it, or move the file away, and it is made anew from the "
                      "records that are at hand")


def numbered(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line of a csv file, and its cells.

    Raises:
        ValueError: the file is no text, is cut short, or git left a conflict in it.
    """
    content = file.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(file, content.count(b"\n", 0, error.start) + 1, "a byte here is not UTF-8") from error
    for place, line in enumerate(text.split("\n"), 1):
        if line.startswith(MARKS):
            raise damaged(file, place, f"git left a conflict here ({line[:7]}), and the conflict is not resolved")
        if "\0" in line:
            raise damaged(file, place, "a byte here is zero")
    if not text.endswith("\n"):
        raise damaged(file, text.count("\n") + 1, "the file ends in the middle of a line" if text else "it is empty")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise damaged(file, reader.line_num, f"this is no csv ({error})") from error


def read(file: Path, header: tuple[str, ...]) -> list[Line]:
    """The rows of a csv file that :func:`write` wrote; none where there is no file.

    Args:
        header: its columns; of a study those it has in any case.

    Raises:
        ValueError: the file is damaged, or something else wrote it; says in which line, and what to do.
    """
    if not file.exists():
        return []
    lines = numbered(file)
    place, columns = next(lines)
    lacking = set(header) - set(columns) if header == TRIAL_HEADER else tuple(columns) != header
    if lacking or len(set(columns)) < len(columns):
        raise damaged(file, place, f"the columns are {', '.join(columns)}, and were to be {', '.join(header)}")
    found: dict[tuple[str, ...], Line] = {}
    for place, cells in lines:
        if len(cells) != len(columns):
            raise damaged(file, place, f"there are {len(cells)} cells in {len(columns)} columns")
        line = dict(zip(columns, cells, strict=True))
        for column, (check, what) in KINDS[header].items():
            if not check(line.get(column, "")):
                raise damaged(file, place, f"{column} is {line[column]!r}, and not {what}")
        if header == HEADER and len(line["seeds"].split()) != len(line["key"].split()):
            raise damaged(file, place, f"{len(line['seeds'].split())} seeds have {len(line['key'].split())} keys")
        name = tuple(line.get(column, "") for column in NAMES[header])
        if name in found:
            raise damaged(file, place, f"there is a line of {' '.join(filter(None, name))} already")
        found[name] = line
    return list(found.values())


def write(file: Path, header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows, whole or not at all; a row without a column has an empty cell there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.getvalue().encode())
