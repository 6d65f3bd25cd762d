"""Histories of users whom a model has never seen, from a file of theirs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recot.data import filters, read
from recot.data.fetch import unpacked
from recot.data.interactions import Interactions
from recot.data.prepare import is_parquet
from recot.data.times import Unit

log = logging.getLogger(__name__)


def histories(file: Path, item_ids: np.ndarray[Any, Any],
              columns: Mapping[str, str], unit: Unit | None = None) -> tuple[Interactions, np.ndarray[Any, Any]]:
    """The pairs of a csv, tsv or parquet file, and the names of its users, (n_users,) in rising order.

    Each user has a pair: items that are not known are skipped, and users without any other left out; a warning names
    and counts both. Of equal pairs the earliest counts.

    Args:
        item_ids: (n_items,) the ids of the items that are known, in the order of their numbers.
        columns: "user", "item" and, where the order of a history counts, "time" -> the column's name.
        unit: of times, see :func:`recot.data.read.ratings`.

    Raises:
        ValueError: the file is malformed, or no item of it is known. OSError: it cannot be read.
    """
    frame = rows_of(file, dict(columns), unit)
    items = pd.Index(item_ids.astype(str)).get_indexer(frame["item"].astype(str).to_numpy())  # (rows,), -1 if not known
    known = items >= 0
    skipped = frame["item"][~known].astype(str).tolist()
    say(file, skipped, len(frame), "%d of %d rows of %s are about items that the run does not know, for example %s; "
        "they are skipped")
    users, names = filters.numbered(frame["user"])
    users, items = users[known], items[known]
    if not len(items):
        raise ValueError(f"{file} holds no item that the run knows; its ids are like "
                         f"{', '.join(item_ids[:3].astype(str))}")
    short = names[np.bincount(users, minlength=len(names)) == 0].astype(str).tolist()
    say(file, short, len(names), "%d of %d users of %s have no item that the run knows, for example %s; they are left "
        "out")
    users, names = filters.renumbered(users, names)
    times = frame["time"].to_numpy()[known].astype(np.int64) if "time" in frame else None
    first = filters.one_per_pair(users * len(item_ids) + items, times)
    pairs = Interactions.from_pairs(torch.from_numpy(users[first]), torch.from_numpy(items[first]), len(names),
                                    len(item_ids), times=None if times is None else torch.from_numpy(times[first]))
    return pairs, names


def rows_of(file: Path, columns: dict[str, str], unit: Unit | None) -> pd.DataFrame:
    """The rows of a file, by kind of column."""
    if is_parquet(file):
        return read.parquet(file, columns, unit=unit)
    return read.table(file, columns, "\t" if unpacked(file.name).endswith(".tsv") else ",", unit=unit)


def say(file: Path, left: list[str], of: int, text: str) -> None:
    """Warn of what is left out of a file, where there is something."""
    if left:
        log.warning(text, len(left), of, file, ", ".join(list(dict.fromkeys(left))[:3]))
