"""The csv files of results, read strictly and written whole; :mod:`recot.record.lines` says what their columns hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from recot.record.lines import Line
from recot.system.files import write_whole

L = TypeVar("L", bound=Line)

MARKS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
"""How the lines begin that git leaves where two changes conflict."""


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
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(MARKS):
            raise damaged(file, number, f"git left a conflict here ({line[:7]}), and the conflict is not resolved")
        if "\0" in line:
            raise damaged(file, number, "a byte here is zero")
    if not text.endswith("\n"):
        raise damaged(file, text.count("\n") + 1, "the file ends in the middle of a line" if text else "it is empty")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise damaged(file, reader.line_num, f"this is no csv ({error})") from error


def read(file: Path, kind: type[L]) -> list[L]:
    """The lines of a csv file that :func:`write` wrote; none where there is no file.

    Raises:
        ValueError: the file is damaged, or something else wrote it; says in which line, and what to do.
    """
    if not file.exists():
        return []
    rows = numbered(file)
    number, columns = next(rows)
    if not kind.accepts(columns) or len(set(columns)) < len(columns):
        raise damaged(file, number, f"the columns are {', '.join(columns)}, and were to be {', '.join(kind.header())}")
    lines: dict[tuple[str, ...], L] = {}
    for number, texts in rows:
        if len(texts) != len(columns):
            raise damaged(file, number, f"there are {len(texts)} cells in {len(columns)} columns")
        cells = dict(zip(columns, texts, strict=True))
        name = tuple(cells.get(column, "") for column in kind.told_by)
        try:
            line = kind.parsed(cells)
        except ValueError as error:
            raise damaged(file, number, str(error)) from error
        if name in lines:
            raise damaged(file, number, f"there is a line of {' '.join(filter(None, name))} already")
        lines[name] = line
    return list(lines.values())


def write(file: Path, kind: type[L], lines: Sequence[L]) -> None:
    """Write the lines, whole or not at all; a column that a line does not have is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, kind.columns(lines), lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.cells() for line in lines)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.getvalue().encode())
