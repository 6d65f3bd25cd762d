"""What the rows of raw files are for, where the files say so: to train, to validate or to be tested."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recot.data.filters import Array
from recot.data.roles import NAMES


def refuse_overlap(frame: pd.DataFrame, pairs: Array, called: Sequence[str], name: str) -> None:
    """Refuse pairs that stand in two parts.

    Args:
        frame: n rows with the columns user, item and part. pairs: (n,) the number of each pair. called: what messages
            call the three parts.

    Raises:
        ValueError: with how many there are, and one of them.
    """
    part = frame["part"].to_numpy()
    order = np.lexsort((part, pairs))
    again = np.flatnonzero((pairs[order][1:] == pairs[order][:-1]) & (part[order][1:] != part[order][:-1]))
    if not len(again):
        return
    places = order[again[0]:again[0] + 2]
    one, other = (called[number] for number in part[places])
    row = frame.iloc[places[0]]
    raise ValueError(f"{len(np.unique(pairs[order][again])):,} pairs of {name} stand in two of its parts, for example "
                     f"user {row['user']!r} with item {row['item']!r} in {one} and in {other}; what is known cannot be "
                     f"asked for, so take such rows out of {other}")


def called(names: Sequence[str]) -> str:
    """What messages call several files: their names, or how many they are.

    >>> called(["a.csv", "b.csv"]), called(["a.csv", "b.csv", "c.csv", "d.csv"])
    ('a.csv and b.csv', 'a.csv and 3 other files')
    """
    return " and ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} other files"


def counted(part: Array) -> str:
    """How many pairs each part has, ``7 to train, 1 to validate, 2 to test``."""
    numbers = np.bincount(part, minlength=len(NAMES)).tolist()
    return ", ".join(f"{number:,} to {verb}" for number, verb in zip(
        numbers, ("train", "validate", "test"), strict=True) if number)
