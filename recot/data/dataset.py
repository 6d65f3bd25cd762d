"""Prepared data, and how they are kept on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch

from recot.data.interactions import Domain, Interactions
from recot.system.files import read_sealed, write_sealed


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

    def of(self, items: torch.Tensor | None) -> Dataset:
        """The same data with the items of a split alone, renumbered; all where ``items``, see ``Split``, is None."""
        if items is None:
            return self
        return replace(self, interactions=self.interactions.of_items(items), item_ids=self.item_ids[items.numpy()])


def write(dataset: Dataset, file: Path) -> None:
    """Write ``dataset`` to ``file``, whole or not at all, with a checksum.

    Raises:
        OSError: the disk is full or cannot be written; nothing is left behind.
    """
    pairs = dataset.interactions
    columns = {"user": pairs.users.numpy(), "item": pairs.items.numpy()}
    if pairs.times is not None:
        columns["time"] = pairs.times.numpy()
    if pairs.parts is not None:
        columns["part"] = pairs.parts.numpy()
    notes = {"dropped": json.dumps(dataset.dropped), "domains": json.dumps(pairs.domains)}
    tables = [pa.table(columns).replace_schema_metadata(notes), pa.table({"id": dataset.user_ids}),
              pa.table({"id": dataset.item_ids})]

    def streams(out: BinaryIO) -> None:
        for table in tables:
            with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
                stream.write_table(table)

    try:
        write_sealed(file, streams)
    except OSError as error:
        raise OSError(f"{file} cannot be written ({error}); free some space, or name another place with RECOT_CACHE "
                      "or paths.cache") from error


def load(file: Path) -> Dataset:
    """What :func:`write` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        content = read_sealed(file)
        pairs, *ids = (pa.ipc.open_stream(content).read_all() for _ in range(3))
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"the prepared data in {file} are damaged ({error}); they have to be "
                         "made again") from error
    columns = {kind: torch.tensor(pairs[kind].to_numpy()) for kind in pairs.column_names}
    users, items = (table["id"].to_numpy() for table in ids)
    ranges = tuple(Domain(*one) for one in json.loads(pairs.schema.metadata.get(b"domains", b"[]")))
    # The rows were sorted by Interactions.from_pairs before they were written.
    interactions = Interactions(columns["user"], columns["item"], torch.ones(len(pairs)), len(users), len(items),
                                times=columns.get("time"), domains=ranges, parts=columns.get("part"))
    return Dataset(interactions, users, items, json.loads(pairs.schema.metadata[b"dropped"]))
