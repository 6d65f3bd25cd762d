"""Points in time, which are whole seconds since 1970, as people write them."""

from __future__ import annotations

import re

import pandas as pd


def seconds(said: str | int) -> int:
    """What a date of ISO 8601, of UTC where it names no zone, or a number of seconds stands for.

    Four digits are a year.

    Raises:
        ValueError: it is neither.

    >>> seconds("2024-03-01"), seconds("2024-03-01T01:00:00+01:00"), seconds(1709251200)
    (1709251200, 1709251200, 1709251200)
    """
    if re.fullmatch(r"-?[0-9]{5,18}", str(said)):
        return int(said)
    return int(pd.to_datetime([str(said)], format="ISO8601", utc=True).as_unit("s").asi8[0])


def written(moment: int) -> str:
    """A point in time as a date, or as the number that it is where no calendar has it.

    >>> written(1709251200), written(10**18)
    ('2024-03-01T00:00:00Z', '1000000000000000000')
    """
    try:
        return f"{pd.Timestamp(moment, unit='s').isoformat()}Z"
    except (ValueError, OverflowError):
        return str(moment)
