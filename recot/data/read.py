"""Raw files as tables: one function per format, to the columns user, item and, where there are any, rating and time.

What all formats have in common:

* Nothing is dropped here, and every line that is not blank is one row. Duplicate pairs stay; ``recot.data.prepare``
  keeps one of them and counts the rest. Ids that look like missing values stay and are counted in one line.
* A malformed line is an error that names the file and the line: a missing or additional field, an open quote, an empty
  id, a rating that is not a finite number, a time that is none. Where all lines are so, the error is about the column.
* A byte-order mark, UTF-16 with such a mark, line ends of all systems (CR, LF, CRLF), blank lines after the first and a
  missing last line end are accepted. A file may be compressed (see :func:`recot.data.fetch.opened`).
* Ids are int64 when every id of the column is a whole number below 10**18 written without leading zeros; otherwise
  they are strings exactly as written, so that ``001`` and ``1`` differ. Formats of integers refuse other ids. Parquet
  has types: there a whole floating-point or decimal id is that integer, and another one is refused.
* Times are whole seconds. ``1600000000.0`` is one; fractions of a second are left out, and dates of ISO 8601 become
  seconds since 1970 (UTC where they name no zone); one line says so. Numbers of another unit become seconds where the
  unit is said. Where none is said, numbers that would lie beyond the year 5138 are refused, and in any case a column
  that holds such numbers beside ones that are seconds.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from recot.data import times
from recot.data.fetch import uncompressed
from recot.data.times import DATE, OF_TIME, SECONDS, Unit, is_date

logger = logging.getLogger(__name__)

INTEGER = r"^(0|[1-9][0-9]{0,17})$"
UNUSABLE = r"\A\z|\n"                  # of a string id: empty, or with a line end, which no list could be printed with
NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
FIELDS = ("user", "item", "rating", "time")
TYPES = {**{kind: pa.dictionary(pa.int32(), pa.string()) for kind in ("user", "item", "domain")},
         "rating": pa.float64(), "time": pa.int64()}
Values: TypeAlias = np.ndarray[Any, Any] | pd.Categorical
"""A column of a table: numbers, or words each of which is kept once."""

MISSING = {form for word in ("null", "nan", "none", "na", "n/a", "<na>", "nil", "nat", "#n/a", "undefined", "\\n", "-")
           for form in (word, word.upper(), word.capitalize())} | {"NaN", "NaT", "<Na>", " "}
"""Ids that are more often a missing value than a user or an item."""

ENCODINGS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
             codecs.BOM_UTF16_BE: "utf-16"}
FOREIGN = {b"PAR1": "a parquet file", b"ARROW1": "an Arrow file", b"\x89HDF": "an HDF5 file", b"ORC": "an ORC file",
           b"SQLite format 3": "an SQLite database", b"\xd0\xcf\x11\xe0": "an Excel workbook", b"%PDF": "a PDF file"}
PIECE = 2**20                             # bytes that are looked at together
WIDE = 10_000                             # lines that are looked at for what a whole column is
ADVICE = {
    "user": "such files hold whole numbers; read other ids with data=csv",
    "item": "such files hold whole numbers; read other ids with data=csv",
    "domain": "give every row a domain, or leave them out with data.domain=null",
    "rating": "write decimals with a point, or name a column of numbers with data.rating",
    "time": "convert that column to whole seconds since 1970 or to dates of ISO 8601, such as 2020-01-31T12:30:00Z "
            "(pandas.to_datetime reads most others), or leave it out with data.time=null",
    "fields": "give every column a name in the header, or name the character between the columns with data.delimiter"}
"""What to do where all lines of a column are malformed."""


def adjacency_list(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """One user per line, ``user item item ...``, integers between blanks; a user without items yields no row.

    Args:
        path: the file. content: what it holds, uncompressed; None reads it. Likewise in the functions below.

    Raises:
        ValueError: a token is not an integer (file and line named), or the file is empty.
    """
    numbers, line, leads = _integers(path, content)
    owner = numbers[leads][np.cumsum(leads) - 1]
    return pd.DataFrame({"user": owner[~leads], "item": numbers[~leads]})


def sequences(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """An adjacency list whose items stand in order of time; the time of an item is its place in the line, from 0.

    Raises:
        ValueError: as :func:`adjacency_list`; or a user has two lines, of which nothing says which came first, or an
            item has the id 0, which such files keep for padding (file and line named).
    """
    numbers, line, leads = _integers(path, content)
    users = numbers[leads]
    order = np.argsort(users, kind="stable")
    twice = order[1:][users[order][1:] == users[order][:-1]]
    if len(twice):
        again = int(twice.min())
        raise malformed(path, int(line[leads][again]) + 1, f"the user {users[again]} has a line of its own above; "
                         "join the two in order of time")
    zeros = np.flatnonzero((numbers == 0) & ~leads)
    if len(zeros):
        raise malformed(path, int(line[zeros[0]]) + 1, "the item 0 stands for padding in such files; number items "
                         "from 1")
    first = np.flatnonzero(leads)[np.cumsum(leads) - 1]                # (tokens,) where the line of a token begins
    place = np.arange(len(numbers)) - first - 1
    return pd.DataFrame({"user": numbers[first][~leads], "item": numbers[~leads], "time": place[~leads]})


def _integers(path: Path, content: bytes | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a file of integers between blanks: the integers, their lines from 0, and which of them open a line; (n,) each.

    Raises:
        ValueError: a token is not an integer (file and line named), or the file is empty.
    """
    content = content_of(path, content)
    text = np.frombuffer(content, np.uint8)
    blank = (text == 32) | (text == 9) | (text == 10)
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
        raise malformed(path, int(line[token]) + 1, f"the id {written!r} is not a whole number below 10**18")
    numbers = np.fromstring(content.decode("ascii"), dtype=np.int64, sep=" ")
    return numbers, line, np.concatenate([[True], line[1:] != line[:-1]])


def ratings(path: Path, delimiter: Literal["\t", "::", ","], content: bytes | None = None,
            integers: bool = True, unit: Unit | None = None) -> pd.DataFrame:
    """Lines ``user item [rating [time]]`` without a header; the first line says how many fields there are.

    Args:
        integers: whether other ids than whole numbers are refused. unit: of times; None takes seconds and dates.

    Raises:
        ValueError: a line is malformed (file and line named), or the file is empty.
    """
    text = content_of(path, content)
    width = len(_first_line(path, text).split(delimiter))
    if not 2 <= width <= 4:
        raise malformed(path, 1, f"it has {width} fields between {delimiter!r}, expected 'user item [rating [time]]'")
    return _delimited(path, text, list(FIELDS[:width]), {kind: kind for kind in FIELDS[:width]}, delimiter,
                      header=False, integers=integers, unit=unit)


def table(path: Path, columns: dict[str, str], delimiter: str = ",", content: bytes | None = None,
          unit: Unit | None = None) -> pd.DataFrame:
    """A file with a header line and named columns, values in double quotes where need be; a line is a row.

    Args:
        path: the file.
        columns: "user", "item" and, if wanted, "rating", "time" and "domain" -> the column's name in the header.
        delimiter: one character.
        content: as in :func:`adjacency_list`. unit: as in :func:`ratings`.

    Raises:
        ValueError: a column is missing, occurs twice or is named twice, a line is malformed (file and line named), a
            column holds what it should not, or the file is empty.
    """
    text = content_of(path, content)
    first = _first_line(path, text)
    _check_quotes(path, text, delimiter)
    header = next(csv.reader([first], delimiter=delimiter))
    others = [other for other in ";\t|," if other in first]
    if delimiter not in first and others:
        raise ValueError(f"the header of {path} has no {delimiter!r} but {first.count(others[0])} {others[0]!r}; "
                         + ("call the file .tsv" if others[0] == "\t" else f"type \"data.delimiter='{others[0]}'\""))
    _check_columns(path, header, columns, " and their separator with data.delimiter")
    return _delimited(path, text, header, columns, delimiter, header=True, integers=False, unit=unit)


def parquet(path: Path, columns: dict[str, str], content: bytes | None = None,
            unit: Unit | None = None) -> pd.DataFrame:
    """A parquet file; the rest as in :func:`table`. Timestamps have their unit and need none.

    Raises:
        ValueError: the file cannot be read, or a column is missing, of another type, or has an unusable cell.
    """
    raw = uncompressed(path) if content is None else content
    try:
        file = pyarrow.parquet.ParquetFile(pa.BufferReader(raw))
        _check_columns(path, file.schema_arrow.names, columns)
        read = file.read(columns=list(columns.values()))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet ({error}); write it anew") from error
    frame = pd.DataFrame({kind: _cells(path, kind, name, read[name], unit) for kind, name in columns.items()},
                         copy=False)
    _say(path, frame)
    return frame


def _cells(path: Path, kind: str, name: str, column: Any, unit: Unit | None) -> Values:
    """Values of a column of parquet, (rows,)."""
    types = pa.types
    unusable = f"{path} has an empty or unusable cell in column {name!r}, row "
    if (empty := column.is_null(nan_is_null=True).index(pa.scalar(True)).as_py()) >= 0:
        raise ValueError(f"{unusable}{empty + 1}; remove that row")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    type_ = column.type
    number = types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_)
    moment = types.is_timestamp(type_) or types.is_date(type_)
    text = types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_)
    text = text or (kind in ("user", "item", "domain") and (types.is_binary(type_) or types.is_large_binary(type_)))
    if not (number or text or (moment and kind == "time")):
        raise ValueError(f"{path} has values of type {type_} in column {name!r}, which is data.{kind}; convert that "
                         f"column to {'whole seconds or timestamps' if kind == 'time' else 'numbers or text'}")
    try:
        if kind == "time":
            found = times.of_moments(path, column) if moment else times.of_numbers(path, column, text, unit)
        elif kind == "rating":
            found = _values(kind, column.cast(pa.float64()), integers=False)
        else:
            whole = number and not types.is_integer(type_)
            written = column.cast(pa.int64()) if whole else column if number else column.cast(pa.string())
            found = _values(kind, written, integers=False)
    except pa.ArrowException as error:
        raise ValueError(f"{path} has values in column {name!r} that are no {kind} ({error}); convert that column, or "
                         f"name another one with data.{kind}") from error
    if found is None:
        wrong = [row for row, value in enumerate(column.to_pylist(), 1) if _fault(kind, str(value), False, unit)]
        raise ValueError(f"{unusable}{wrong[0]}; " + ("remove that row" if len(wrong) < len(column) else ADVICE[kind]))
    return found


def _say(path: Path, frame: pd.DataFrame) -> None:
    """What of the values of a file is worth a look, one line each."""
    found = []
    for kind in ("user", "item"):
        if frame[kind].dtype != np.int64:
            rows = frame[kind][frame[kind].isin(MISSING)].astype(object).value_counts()
            found += [f"{count} rows have the {kind} {id_!r}" for id_, count in rows.items()]
    if found:
        logger.warning("%s: %s; these look like missing values and are kept as ids: remove the rows if they are",
                       path, ", ".join(found))


def _check_columns(path: Path, header: list[str], columns: dict[str, str], more: str = "") -> None:
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"one column of {path} is given two meanings, {columns}; name another one for data.user, "
                         "data.item, data.rating, data.time or data.domain")
    for name in columns.values():
        if header.count(name) != 1:
            raise ValueError(f"{path} has {header.count(name)} columns called {name!r}, expected one; its header is "
                             f"{header}. Name the columns with data.user, data.item, data.rating, data.time, "
                             f"data.domain{more}")


def content_of(path: Path, content: bytes | None) -> bytes:
    """UTF-8 without a byte-order mark, with line ends LF.

    Raises:
        ValueError: the file is no text.
    """
    text = uncompressed(path) if content is None else content
    for magic, name in FOREIGN.items():
        if text.startswith(magic):
            raise ValueError(f"{path} is {name}, where text was expected; write it as .csv, or for data=csv as "
                             ".parquet")
    for mark, encoding in ENCODINGS.items():
        if text.startswith(mark):
            try:
                text = text.decode(encoding).encode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} begins as {encoding} and goes on otherwise ({error}); write it as "
                                 "UTF-8") from error
            break
    text = text.removeprefix(codecs.BOM_UTF8)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if (place := text.find(b"\0")) >= 0:
        raise malformed(path, text.count(b"\n", 0, place) + 1, "it holds a zero byte, as UTF-16 without a byte-order "
                         "mark and files that are no text do; write the file as UTF-8")
    return text


def _check_quotes(path: Path, text: bytes, delimiter: str) -> None:
    """Refuse a quoted value that does not end in its line: it would swallow the lines up to the next quote."""
    if b'"' not in text:
        return
    between = re.escape(delimiter.encode())
    field = rb'(?:"(?:[^"\n]++|"")*+"|(?!")[^' + between + rb"\n]*+)"
    lines = re.compile(b"(?:" + field + b"(?:" + between + field + rb")*+\n)*+")
    text = text if text.endswith(b"\n") else text + b"\n"
    first, last = text.rfind(b"\n", 0, text.find(b'"')) + 1, text.find(b"\n", text.rfind(b'"')) + 1  # with quotes
    good = lines.match(text, first, last).end()  # type: ignore[union-attr]  # it matches nothing at least
    if good < last:
        raise malformed(path, text.count(b"\n", 0, good) + 1, "a quote is left open, or text follows a closing quote; "
                         "a value may not span lines, and a quote inside a quoted value is written twice")


def _first_line(path: Path, text: bytes) -> str:
    line = text.partition(b"\n")[0].decode("utf-8", "replace")
    if not line.strip():
        raise ValueError(f"{path} is empty or starts with a blank line; get it again or remove that line")
    return line


def _delimited(path: Path, text: bytes, names: list[str], columns: dict[str, str], delimiter: str,
               header: bool, integers: bool, unit: Unit | None) -> pd.DataFrame:
    """The chosen columns of delimited text; with ``integers`` its ids are whole numbers, and others malformed."""
    separator = "\t" if delimiter == "::" else delimiter  # the parser knows separators of one character only
    single = text.replace(b"::", b"\t") if delimiter == "::" else text

    def parsed(types: dict[str, Any]) -> Any:
        return pyarrow.csv.read_csv(
            pa.BufferReader(single), read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=int(header)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, quote_char='"' if header else False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: types[kind] for kind, name in columns.items()},
                include_columns=list(columns.values()), null_values=[], strings_can_be_null=False))

    content = None
    for types in _attempts(text, single, names, columns, delimiter, header):
        try:
            content = parsed(types)
            break
        except pa.ArrowInvalid as error:
            otherwise = str(error)
    if content is None:
        raise _first_fault(path, text, names, columns, delimiter, header, integers, unit, otherwise)

    def place(row: int) -> str:
        return f"line {next(itertools.islice(_rows(text, delimiter, header), row, None))[0]}"

    parts = {name: content[name] for name in columns.values()}
    del content  # or each column is there twice until the last one is read
    frame = {kind: _values(kind, parts.pop(name), integers) if kind != "time"
             else times.of_text(path, parts.pop(name), unit, place) for kind, name in columns.items()}
    pa.default_memory_pool().release_unused()
    if any(values is None for values in frame.values()):
        raise _first_fault(path, text, names, columns, delimiter, header, integers, unit,
                           "a value is malformed, or one column of times holds seconds and dates")
    found = pd.DataFrame(frame, copy=False)
    _say(path, found)
    return found


def _attempts(text: bytes, single: bytes, names: list[str], columns: dict[str, str], delimiter: str,
              header: bool) -> list[dict[str, Any]]:
    """The types of the columns to try one after the other, those that cost least first.

    Ids are read as whole numbers where the first row has such, and where no text in the file would lose its writing by
    that. Times are read as they are written where they are no whole numbers.
    """
    _, first = next(_rows(text, delimiter, header), (0, []))
    written = {kind: first[names.index(name)] for kind, name in columns.items()} if len(first) == len(names) else {}
    whole = {kind: pa.int64() for kind in ("user", "item") if re.fullmatch(INTEGER, written.get(kind, ""))}
    if whole and not _unambiguous(single, b"\t" if delimiter == "::" else delimiter.encode(), header):
        whole = {}
    ids = [TYPES | whole, TYPES] if whole else [TYPES]
    if "time" not in columns:
        return ids
    return [kinds | {"time": type_} for kinds in ids for type_ in (pa.int64(), pa.string())
            if type_ == pa.string() or not re.match(DATE, written.get("time", ""))]


def _unambiguous(text: bytes, separator: bytes, header: bool) -> bool:
    """Whether no field below the header begins as 007, 0x7, -7, a blank or a quote do, or ends with a blank.

    pyarrow reads such fields as whole numbers, and what was written is lost.
    """
    start = text.find(b"\n") + 1 if header else 0
    at_begin, at_end, behind_zero = (np.isin(np.arange(256), [*letters.replace(separator, b"")]) for letters in (
        b'"- \t', b" \t", b"0123456789xX"))
    for begin in range(start, len(text) + 1, PIECE):  # the last field may end without a line end
        before = text[begin - 1:begin] if begin else b"\n"
        letters = np.frombuffer(before + text[begin:begin + PIECE + 2].ljust(PIECE + 2, b"\n"), np.uint8)
        ends = np.flatnonzero((letters[:-2] == separator[0]) | (letters[:-2] == 10))  # (fields,)
        opening = letters[ends + 1]
        if (at_begin[opening] | ((opening == 48) & behind_zero[letters[ends + 2]])).any():
            return False
        if at_end[letters[ends[ends > 0] - 1]].any():
            return False
    return True


def _values(kind: str, column: Any, integers: bool) -> Values | None:
    """Values of a column, (rows,); None when some of them are malformed."""
    if column.null_count:
        return None
    if kind == "rating":
        numbers: np.ndarray[Any, Any] = column.to_numpy()
        return numbers if np.isfinite(numbers).all() else None
    if not len(column):
        return np.empty(0, np.int64)
    if pa.types.is_integer(column.type):
        least, most = pyarrow.compute.min_max(column).as_py().values()
        if least >= 0 and most < 10**18:
            whole: np.ndarray[Any, Any] = column.cast(pa.int64()).to_numpy()
            return whole
        column = column.cast(pa.string())
    encoded = column.cast(TYPES[kind]).unify_dictionaries().combine_chunks()
    words = encoded.dictionary
    if bool(pyarrow.compute.all(pyarrow.compute.match_substring_regex(words, INTEGER)).as_py()):
        written: np.ndarray[Any, Any] = words.cast(pa.int64()).to_numpy()[encoded.indices.to_numpy()]
        return written
    if integers or bool(pyarrow.compute.any(pyarrow.compute.match_substring_regex(words, UNUSABLE)).as_py()):
        return None
    different = pd.Index(words.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Categorical.from_codes(encoded.indices.to_numpy(), different)


def _first_fault(path: Path, text: bytes, names: list[str], columns: dict[str, str], delimiter: str, header: bool,
                 integers: bool, unit: Unit | None, otherwise: str) -> ValueError:
    """The error for the first malformed line, or for a column where all are; slow, called only when there is one."""
    first, wrong, lines, start = None, Counter[str](), 0, 0
    for number, row in _rows(text, delimiter, header):
        lines += 1
        if len(row) != len(names):
            faults = {"fields": f"it has {len(row)} fields, expected {len(names)}"}
        else:
            values = {kind: row[names.index(name)] for kind, name in columns.items()}
            faults = {kind: f"the {kind} {value[:40]!r} {reason}" for kind, value in values.items()
                      if (reason := _fault(kind, value, integers, unit)) is not None}
        wrong.update(faults.keys())
        if faults and first is None:
            first, start = (number, *next(iter(faults.items()))), lines
        if first and lines >= start + WIDE:
            break
    if first is None:
        return ValueError(f"{path} cannot be read ({otherwise}); write it anew")
    number, kind, reason = first
    if wrong[kind] == lines > 1:
        return ValueError(f"{path}, line {number}: {reason}, and it is so in all {lines} lines that were looked at; "
                          f"{ADVICE[kind]}")
    return malformed(path, number, reason)


def _rows(text: bytes, delimiter: str, header: bool) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank, without the header."""
    for number, written in enumerate(io.BytesIO(text), 1):
        line = written.decode("utf-8", "replace").rstrip("\n")
        if line and header and number > 1:
            yield number, next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
        elif line and not header:
            yield number, line.split(delimiter)


def _fault(kind: str, text: str, integers: bool, unit: Unit | None = None) -> str | None:
    """What is wrong with one value, or None."""
    if kind in ("user", "item", "domain"):
        if "\ufffd" in text:
            return "is not UTF-8"
        if integers and not re.fullmatch(INTEGER, text):
            return "is not a whole number below 10**18"
        if "\n" in text:
            return "contains a line end"
        return None if text else "is empty"
    if kind == "time":
        number, date = re.fullmatch(SECONDS, text) and unit != "date", is_date(text) and unit in (None, "date")
        return None if number or date else f"is not {OF_TIME[unit]}"
    return None if re.fullmatch(NUMBER, text) and math.isfinite(float(text)) else "is not a finite number"


def malformed(path: Path, line: int, reason: str) -> ValueError:
    return ValueError(f"{path}, line {line}: {reason}; correct or remove that line, or get the file again")
