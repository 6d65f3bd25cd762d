"""Times of raw files as whole seconds since 1970: numbers in a unit, moments of parquet, and dates of ISO 8601."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute

logger = logging.getLogger(__name__)

SECONDS = r"^-?[0-9]{1,18}(\.[0-9]*)?$"
DATE = r"^[0-9]{4}-[0-9]{2}"
ZONED = r"(Z|:[0-9.]+[+-][0-9]{2}(:?[0-9]{2})?)$"
Unit = Literal["s", "ms", "us", "ns", "date"]
"""What times may be: seconds or parts of them since 1970, or dates of ISO 8601."""

PLAUSIBLE = (10**8, 10**11)            # seconds since 1970 in 1973 and in 5138; times in other units lie beyond
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
OF_TIME: dict[str | None, str] = {
    None: "a whole number of seconds or a date of ISO 8601", "date": "a date of ISO 8601, data.time_unit=date",
    **{unit: f"a whole number, data.time_unit={unit}" for unit in ("s", "ms", "us", "ns")}}


def of_moments(path: Path, column: Any) -> np.ndarray[Any, Any]:
    """Whole seconds of timestamps or dates, (rows,) int64."""
    moments = column.cast(pa.timestamp("s")) if pa.types.is_date(column.type) else column
    return _without_fractions(path, moments.cast(pa.int64()).to_numpy(), PER_SECOND[moments.type.unit])


def of_numbers(path: Path, column: Any, text: bool, unit: Unit | None) -> np.ndarray[Any, Any] | None:
    """Whole seconds of numbers or of what is written, (rows,) int64; None when some are malformed."""
    def place(row: int) -> str:
        return f"row {row + 1}"

    if text:
        return of_words(path, column, unit, place)
    if unit == "date":
        return None
    if pa.types.is_integer(column.type):
        return in_seconds(path, column.cast(pa.int64()).to_numpy(), unit, place)
    numbers: np.ndarray[Any, Any] = column.cast(pa.float64()).to_numpy()
    if not (np.abs(numbers) < 2.0**62).all():
        return None
    if (numbers % 1 != 0).any():
        logger.info("%s: fractions of seconds are left out of the times", path)
    floored: np.ndarray[Any, Any] = np.floor(numbers).astype(np.int64)
    return in_seconds(path, floored, unit, place)


def in_seconds(path: Path, numbers: np.ndarray[Any, Any], unit: Unit | None,
               place: Callable[[int], str]) -> np.ndarray[Any, Any]:
    """Times in a unit as whole seconds, (rows,) int64 both.

    Args:
        place: where a row stands, from its number.

    Raises:
        ValueError: the times are of two units, or of another one than seconds where none is said.
    """
    least, most = PLAUSIBLE
    if len(numbers) and -most < numbers.min() and numbers.max() < most:
        return _without_fractions(path, numbers, PER_SECOND[unit or "s"])
    beyond = np.abs(numbers) >= most  # (rows,)
    if not beyond.any():
        return _without_fractions(path, numbers, PER_SECOND[unit or "s"])
    if len(within := np.flatnonzero(~beyond & (np.abs(numbers) >= least))):
        row = int(within[0])
        raise ValueError(f"{path}, {place(row)}: the time {numbers[row]} is one in seconds, and {int(beyond.sum()):,} "
                         f"of {len(numbers):,} times are in another unit, as {numbers[beyond][0]} in "
                         f"{place(int(beyond.argmax()))}; write all in one unit")
    if unit is None:
        raise ValueError(f"{path}, {place(int(beyond.argmax()))}: as seconds, the time {numbers[beyond][0]} would lie "
                         f"beyond the year 5138, and so would {int(beyond.sum()):,} of {len(numbers):,}; say what they "
                         "are with data.time_unit=ms (or us, ns, or s for seconds all the same)")
    return _without_fractions(path, numbers, PER_SECOND[unit])


def of_words(path: Path, column: Any, unit: Unit | None, place: Callable[[int], str]) -> np.ndarray[Any, Any] | None:
    """Whole seconds of times as they are written, (rows,) int64; None when some are malformed."""
    encoded = column.cast(pa.dictionary(pa.int32(), pa.string())).unify_dictionaries().combine_chunks()
    words = encoded.dictionary

    def every(pattern: str) -> bool:
        return bool(pyarrow.compute.all(pyarrow.compute.match_substring_regex(words, pattern)).as_py())

    if every(SECONDS) and unit != "date":
        if bool(pyarrow.compute.any(pyarrow.compute.match_substring_regex(words, r"\.0*[1-9]")).as_py()):
            logger.info("%s: fractions of seconds are left out of the times", path)
        moments = pyarrow.compute.replace_substring_regex(words, r"\..*$", "").cast(pa.int64()).to_numpy()
        return in_seconds(path, moments[encoded.indices.to_numpy()], unit, place)
    if every(DATE) and unit in (None, "date"):
        try:
            dates = pd.DatetimeIndex(pd.to_datetime(words.to_pandas(), format="ISO8601", utc=True)).as_unit("us")
        except ValueError:
            return None
        if not every(ZONED):
            logger.info("%s: times that name no zone are taken as UTC", path)
        moments = _without_fractions(path, dates.asi8, PER_SECOND["us"])
    else:
        return None
    found: np.ndarray[Any, Any] = moments[encoded.indices.to_numpy()]
    return found


def _without_fractions(path: Path, moments: np.ndarray[Any, Any], unit: int) -> np.ndarray[Any, Any]:
    if unit == 1:
        return moments
    if (moments % unit).any():
        logger.info("%s: fractions of seconds are left out of the times", path)
    return moments // unit


def of_text(path: Path, column: Any, unit: Unit | None,
                   place: Callable[[int], str]) -> np.ndarray[Any, Any] | None:
    """Whole seconds of a column of text, (rows,) int64; None when some are malformed."""
    if column.type == pa.string():
        return of_words(path, column, unit, place)
    return None if unit == "date" or column.null_count else in_seconds(path, column.to_numpy(), unit, place)


def is_date(text: str) -> bool:
    try:
        pd.to_datetime([text], format="ISO8601", utc=True)
    except ValueError:
        return False
    return re.match(DATE, text) is not None
