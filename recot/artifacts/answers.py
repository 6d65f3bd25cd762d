"""What runs say of single pairs and users: the values behind a number, and their means over seeds.

Arrow reads without pandas, so that a comparison of many runs is shown soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recot.record.store import Runs

Means = tuple[pa.Array, dict[str, NDArray[np.float64]]]
"""(users,) ids of users, and (users,) values of each metric."""


def table(runs: Runs, key: str, name: str, columns: list[str] | None = None) -> Any:
    """What a run says of each pair or user, in the file ``name``, as an Arrow table.

    Raises:
        FileNotFoundError: it is gone. OSError: it is damaged, is not what the run wrote, or has other columns.
    """
    try:
        file = runs.file(key, name)
    except ValueError as error:
        raise OSError(str(error)) from error
    if file is None:
        raise FileNotFoundError(f"the run {key} left no {name}")
    try:
        with pq.ParquetFile(file) as stored:  # read_table imports pandas first
            absent = [column for column in columns or () if column not in stored.schema_arrow.names]
            if absent:
                raise LookupError(f"it has no column {absent[0]}")
            return stored.read(columns)
    except (OSError, ValueError, LookupError) as error:  # whatever Arrow finds wrong with the bytes
        raise OSError(f"{file} is damaged ({' '.join(str(error).split())}); the command of the run makes it again with "
                      "force=true") from error


def over_seeds(runs: Runs, keys: Sequence[str], metrics: Sequence[str], questions: str = "test") -> Means:
    """The users that runs were tested on, and the mean over these runs of each user's value of each metric.

    Args:
        keys: of the runs, which differ in their seeds. questions: name of the test set.

    Raises:
        FileNotFoundError, OSError: as :func:`table`. ValueError: the runs were tested on different users.
    """
    users, sums = None, dict.fromkeys(metrics, np.zeros(0))
    for key in keys:
        found = table(runs, key, f"{questions}.parquet", ["user", *metrics])
        asked = found.column("user").combine_chunks()
        values = {metric: plain(found.column(metric)) for metric in metrics}
        same_users(users, asked, keys)
        sums = values if users is None else {metric: sums[metric] + values[metric] for metric in metrics}
        users = asked
    return users, {metric: total / len(keys) for metric, total in sums.items()}


def plain(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """(users,) values of a column; its ``to_numpy`` would import pandas."""
    return np.asarray(np.from_dlpack(column.combine_chunks()), dtype=np.float64)


def same_users(some: pa.Array | None, others: pa.Array, keys: Sequence[str]) -> None:
    """Refuse to compare values of different users; where ``some`` is None there is nothing to compare yet.

    Raises:
        ValueError: with the keys of the runs.
    """
    if some is not None and not some.equals(others):
        raise ValueError(f"the runs {' and '.join(keys)} were tested on different users; they cannot stand in one "
                         "table")
