"""Parts of a batch: some of its rows, with all that belongs to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from recot.batches.pairs import Pairs
from recot.batches.rows import Rows
from recot.batches.sequences import Masked, Sequences, Windows
from recot.batches.users import MaskedUsers
from recot.batches.walks import Walks

Batch = TypeVar("Batch")

FIELDS: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Pairs: (("query", "items", "negatives", "weights", "observed", "targets", "labels", "partners"), ()),
    Rows: (("query",), ("weights", "negatives", "labels")),
    Sequences: (("query", "views"), ("items", "negatives", "weights")),
    Masked: (("query", "shares"), ("key", "weights")),
    Windows: (("query", "targets", "negatives", "weights"), ()),
    MaskedUsers: (("query", "hidden"), ()),
    Walks: (("nodes", "negatives"), ()),
}
"""Of each kind of batch, what has an entry for each row, and what has one for each item of the histories."""


def fields(batch: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """See :data:`FIELDS`.

    Raises:
        TypeError: it is no batch that has parts.
    """
    for kind in type(batch).__mro__:
        if kind in FIELDS:
            by_row, by_item = FIELDS[kind]
            return tuple(name for name in by_row if hasattr(batch, name)), by_item
    raise TypeError(f"{type(batch).__name__} is no batch that can be divided by rows")


def length(batch: object) -> int:
    """How many rows a batch has; errors as in :func:`fields`."""
    return len(getattr(batch, fields(batch)[0][0]))


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Rows ``start`` to ``stop`` of a batch; errors as in :func:`fields`."""
    by_row, by_item = fields(batch)
    found = {name: cut(getattr(batch, name), start, stop) for name in by_row}
    if by_item:
        bounds = batch.query.history.bounds  # type: ignore[attr-defined]  # which those with items have
        found |= {name: cut(getattr(batch, name), int(bounds[start]), int(bounds[stop])) for name in by_item}
    return replace(batch, **found)  # type: ignore[type-var]  # of a batch, which is a dataclass


def cut(value: Any, start: int, stop: int) -> Any:
    """Entries ``start`` to ``stop`` of a tensor, of rows, of questions, or of each of several; None of None."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else value[start:stop]
    return tuple(cut(one, start, stop) for one in value) if isinstance(value, tuple) else value.slice(start, stop)
