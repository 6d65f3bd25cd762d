"""Prepared data, and how they are kept on disk."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recot.data.interactions import Interactions


@dataclass(frozen=True)
class Dataset:
    """Interactions and the ids they had in the raw files.

    Attributes:
        interactions: on the CPU, users and items numbered from 0.
        user_ids: (n_users,) the raw id of every user, int64 or str objects, in rising order.
        item_ids: (n_items,) likewise.
        dropped: reason -> number of raw interactions left out for it.
    """

    interactions: Interactions
    user_ids: np.ndarray[Any, Any]
    item_ids: np.ndarray[Any, Any]
    dropped: dict[str, int]


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``dataset`` to ``folder``, whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written; nothing is left behind.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)                     # left by a killed process
    pairs = dataset.interactions
    columns = {"user": pairs.users.numpy(), "item": pairs.items.numpy()}
    if pairs.times is not None:
        columns["time"] = pairs.times.numpy()
    try:
        partial.mkdir()
        pq.write_table(pa.table(columns), partial / "interactions.parquet")
        pq.write_table(pa.table({"id": dataset.user_ids}), partial / "users.parquet")
        pq.write_table(pa.table({"id": dataset.item_ids}), partial / "items.parquet")
        (partial / "dropped.json").write_text(json.dumps(dataset.dropped), "utf-8")
        for path in (*partial.iterdir(), partial):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        partial.rename(folder)
    except OSError as error:
        raise OSError(f"{folder} cannot be written ({error}); free some space, or name another place with RECOT_CACHE "
                      "or paths.cache") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: Path) -> Dataset:
    """What :func:`write` wrote.

    Raises:
        ValueError: a file is missing or damaged.
    """
    try:
        pairs = pq.read_table(folder / "interactions.parquet")
        ids = [pq.read_table(folder / f"{kind}.parquet")["id"].to_numpy() for kind in ("users", "items")]
        dropped = json.loads((folder / "dropped.json").read_text("utf-8"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"the prepared data in {folder} are damaged ({error}); remove that folder and "
                         "run again") from error
    columns = {kind: torch.tensor(pairs[kind].to_numpy()) for kind in pairs.column_names}
    # The rows were sorted by Interactions.from_pairs before they were written.
    interactions = Interactions(columns["user"], columns["item"], torch.ones(len(pairs)), len(ids[0]), len(ids[1]),
                                times=columns.get("time"))
    return Dataset(interactions, ids[0], ids[1], dropped)
