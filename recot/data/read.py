"""Raw files as tables: one function per format, to the columns user, item and, where there are any, rating and time.

What all formats have in common:

* Nothing is dropped here. Duplicate pairs stay; ``recot.data.prepare`` keeps one of them and counts the rest.
* A malformed line is an error that names the file and the line: a missing or additional field, an empty id, a rating
  that is not a finite number, a time that is not a whole number. Negative ratings and times are numbers like others.
* A byte-order mark, CRLF line ends, blank lines after the first and a missing last line end are accepted. A file may
  be compressed (.gz).
* Ids are int64 when every id of the column is a whole number below 10**18 written without leading zeros; otherwise
  they are strings exactly as written, so that ``001`` and ``1`` differ. Formats of integers refuse other ids.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from recot.data.fetch import opened

INTEGER = r"^(0|[1-9][0-9]{0,17})$"
UNUSABLE = r"\A\z|\n"                  # of a string id: empty, or with a line end, which an open quote leaves there
NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
WHOLE = r"^-?[0-9]{1,18}$"
FIELDS = ("user", "item", "rating", "time")
TYPES = {"user": pa.dictionary(pa.int32(), pa.string()), "item": pa.dictionary(pa.int32(), pa.string()),
         "rating": pa.float64(), "time": pa.int64()}


def adjacency_list(path: Path) -> pd.DataFrame:
    """One user per line, ``user item item ...``, integers between blanks; a user without items yields no row.

    Raises:
        ValueError: a token is not an integer (file and line named), or the file is empty.
    """
    numbers, line, leads = _integers(path)
    owner = numbers[leads][np.cumsum(leads) - 1]
    return pd.DataFrame({"user": owner[~leads], "item": numbers[~leads]})


def sequences(path: Path) -> pd.DataFrame:
    """An adjacency list whose items stand in order of time; the time of an item is its place in the line, from 0.

    Raises:
        ValueError: as :func:`adjacency_list`; or a user has two lines, of which nothing says which came first, or an
            item has the id 0, which such files keep for padding (file and line named).
    """
    numbers, line, leads = _integers(path)
    users = numbers[leads]
    order = np.argsort(users, kind="stable")
    twice = order[1:][users[order][1:] == users[order][:-1]]
    if len(twice):
        again = int(twice.min())
        raise _malformed(path, int(line[leads][again]) + 1, f"the user {users[again]} has a line of its own above; "
                         "join the two in order of time")
    zeros = np.flatnonzero((numbers == 0) & ~leads)
    if len(zeros):
        raise _malformed(path, int(line[zeros[0]]) + 1, "the item 0 stands for padding in such files; number items "
                         "from 1")
    first = np.flatnonzero(leads)[np.cumsum(leads) - 1]                # (tokens,) where the line of a token begins
    place = np.arange(len(numbers)) - first - 1
    return pd.DataFrame({"user": numbers[first][~leads], "item": numbers[~leads], "time": place[~leads]})


def _integers(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a file of integers between blanks: the integers, their lines from 0, and which of them open a line; (n,) each.

    Raises:
        ValueError: a token is not an integer (file and line named), or the file is empty.
    """
    with opened(path) as raw:
        content = raw.read().removeprefix(b"\xef\xbb\xbf")
    text = np.frombuffer(content, np.uint8)
    blank = (text == 32) | (text == 9) | (text == 10) | (text == 13)
    inside = np.concatenate([[False], ~blank, [False]])
    start, stop = np.flatnonzero(inside[1:] & ~inside[:-1]), np.flatnonzero(inside[:-1] & ~inside[1:])
    if not len(start):
        raise ValueError(f"{path} is empty; get it again")
    line = np.cumsum(text == 10)[start]                               # (tokens,)
    strange = np.flatnonzero(((text < 48) | (text > 57)) & ~blank)
    wrong = (stop - start > 18) | ((text[start] == 48) & (stop - start > 1))
    wrong[np.searchsorted(start, strange, side="right") - 1] = True
    if wrong.any():
        token = int(np.flatnonzero(wrong)[0])
        written = content[start[token]:stop[token]].decode(errors="replace")
        raise _malformed(path, int(line[token]) + 1, f"the id {written!r} is not a whole number below 10**18")
    numbers = np.fromstring(content.decode("ascii"), dtype=np.int64, sep=" ")
    return numbers, line, np.concatenate([[True], line[1:] != line[:-1]])


def ratings(path: Path, delimiter: Literal["\t", "::"]) -> pd.DataFrame:
    """Lines ``user item [rating [time]]`` without a header, integer ids; the first line says how many fields there are.

    Raises:
        ValueError: a line is malformed (file and line named), or the file is empty.
    """
    width = len(_first_line(path).split(delimiter))
    if not 2 <= width <= 4:
        raise _malformed(path, 1, f"it has {width} fields between {delimiter!r}, expected 'user item [rating [time]]'")
    return _delimited(path, list(FIELDS[:width]), {kind: kind for kind in FIELDS[:width]}, delimiter, header=False)


def table(path: Path, columns: dict[str, str], delimiter: str = ",") -> pd.DataFrame:
    """A file with a header line and named columns, values in double quotes where need be.

    Args:
        path: the file.
        columns: "user", "item" and, if wanted, "rating" and "time" -> the column's name in the header.
        delimiter: one character.

    Raises:
        ValueError: a column is missing, occurs twice or is named twice, a line is malformed (file and line named), or
            the file is empty.
    """
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"one column of {path} is given two meanings, {columns}; name another one for data.user, "
                         "data.item, data.rating or data.time")
    header = next(csv.reader([_first_line(path)], delimiter=delimiter))
    for name in columns.values():
        if header.count(name) != 1:
            raise ValueError(f"{path} has {header.count(name)} columns called {name!r}, expected one; its header is "
                             f"{header}. Name the columns with data.user, data.item, data.rating, data.time and their "
                             "separator with data.delimiter")
    return _delimited(path, header, columns, delimiter, header=True)


def parquet(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """A parquet file; ``columns`` as in :func:`table`. Ids of any type count as written, times are whole seconds.

    Raises:
        ValueError: the file cannot be read, or a column is missing, of another type, or has an empty or unusable cell.
    """
    try:
        with opened(path) as raw:
            content = pyarrow.parquet.read_table(io.BytesIO(raw.read()))
        for name in columns.values():
            if name not in content.column_names:
                raise ValueError(f"{path} has no column {name!r} but {content.column_names}; correct data.columns")
        frame = {kind: _values(kind, content[name].cast(pa.string() if kind in ("user", "item") else TYPES[kind]),
                               integers=False) for kind, name in columns.items()}
    except pa.ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet with ids, numeric ratings and times in whole seconds "
                         f"({error}); write it anew") from error
    for kind, values in frame.items():
        if values is None:
            raise ValueError(f"{path} has an empty or unusable cell in column {columns[kind]!r}; remove that row")
    return pd.DataFrame(frame)


def _first_line(path: Path) -> str:
    with opened(path) as raw:
        line = raw.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
    if not line.strip():
        raise ValueError(f"{path} is empty or starts with a blank line; get it again or remove that line")
    return line


def _delimited(path: Path, names: list[str], columns: dict[str, str], delimiter: str, header: bool) -> pd.DataFrame:
    """The chosen columns of delimited text; ids are integers exactly when there is no header."""
    try:
        with opened(path) as raw:
            # The parser knows separators of one character only.
            content = pyarrow.csv.read_csv(
                io.BytesIO(raw.read().replace(b"::", b"\t")) if delimiter == "::" else raw,
                read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=int(header)),
                parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if delimiter == "::" else delimiter,
                                                       quote_char='"' if header else False,
                                                       newlines_in_values=header),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types={name: TYPES[kind] for kind, name in columns.items()},
                    include_columns=list(columns.values()), null_values=[], strings_can_be_null=False))
    except pa.ArrowInvalid as error:
        raise _first_fault(path, names, columns, delimiter, header, str(error)) from error
    frame = {kind: _values(kind, content[name], integers=not header) for kind, name in columns.items()}
    if any(values is None for values in frame.values()):
        raise _first_fault(path, names, columns, delimiter, header, "a value is malformed")
    return pd.DataFrame(frame)


def _values(kind: str, column: Any, integers: bool) -> np.ndarray[Any, Any] | None:
    """Values of a column, (rows,); None when some of them are malformed."""
    if column.null_count:
        return None
    if kind in ("rating", "time"):
        numbers: np.ndarray[Any, Any] = column.to_numpy()
        return numbers if np.isfinite(numbers).all() else None
    if not len(column):
        return np.empty(0, np.int64)
    encoded = column.cast(TYPES[kind]).unify_dictionaries().combine_chunks()
    words = encoded.dictionary
    if bool(pyarrow.compute.all(pyarrow.compute.match_substring_regex(words, INTEGER)).as_py()):
        words = words.cast(pa.int64())
    elif integers or bool(pyarrow.compute.any(pyarrow.compute.match_substring_regex(words, UNUSABLE)).as_py()):
        return None
    values: np.ndarray[Any, Any] = words.to_numpy(zero_copy_only=False)
    written: np.ndarray[Any, Any] = values[encoded.indices.to_numpy()]
    return written


def _first_fault(path: Path, names: list[str], columns: dict[str, str], delimiter: str, header: bool,
                 otherwise: str) -> ValueError:
    """The error for the first malformed line; slow, and called only when there is one."""
    try:
        for number, row in _rows(path, delimiter, header):
            if len(row) != len(names):
                return _malformed(path, number, f"it has {len(row)} fields, expected {len(names)}")
            for kind, name in columns.items():
                text = row[names.index(name)]
                if (reason := _fault(kind, text, integers=not header)) is not None:
                    return _malformed(path, number, f"the {kind} {text[:40]!r} {reason}")
    except csv.Error as error:
        otherwise = str(error)
    return ValueError(f"{path} cannot be read ({otherwise}); close open quotes, or write it anew")


def _rows(path: Path, delimiter: str, header: bool) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank, without the header."""
    with opened(path) as raw:
        lines = io.TextIOWrapper(raw, "utf-8-sig", "replace")
        if not header:
            yield from ((number, line.rstrip("\r\n").split(delimiter)) for number, line in enumerate(lines, 1)
                        if line.rstrip("\r\n"))
        else:
            reader, start = csv.reader(lines, delimiter=delimiter), 1
            for row in reader:
                if row and start > 1:
                    yield start, row
                start = reader.line_num + 1


def _fault(kind: str, text: str, integers: bool) -> str | None:
    """What is wrong with one value, or None."""
    if kind in ("user", "item"):
        if "\ufffd" in text:
            return "is not UTF-8"
        if integers and not re.fullmatch(INTEGER, text):
            return "is not a whole number below 10**18"
        if "\n" in text:
            return "contains a line end, as after a quote left open"
        return None if text else "is empty"
    if kind == "time":
        return None if re.fullmatch(WHOLE, text) else "is not a whole number of seconds"
    return None if re.fullmatch(NUMBER, text) and math.isfinite(float(text)) else "is not a finite number"


def _malformed(path: Path, line: int, reason: str) -> ValueError:
    return ValueError(f"{path}, line {line}: {reason}; correct or remove that line, or get the file again")
