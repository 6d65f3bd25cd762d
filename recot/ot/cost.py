"""What it costs to move mass from one item to another: one minus how much their users overlap.

``S_ij = n_ij / (sqrt(n_i n_j) + shrink)`` with the numbers of users who have both items and each of them, and one of an
item to itself; the cost is ``1 - S``, between 0 and 1. An item that nobody has is unlike all others. Similarities are
stored and not costs: most of them are small, and 16 bits hold a small number to three digits, but not its distance
from one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

ENTRIES = 2**22
"""Similarities computed at a time, each 4 bytes a few times over."""


class Cost(Protocol):
    """The cost between any two of n items."""

    def gather(self, items: Tensor, columns: Tensor, owners: Tensor) -> Tensor:
        """(e, k) float32, a fresh tensor: the cost from ``items`` (e,) to the columns (b, k) of their ``owners`` (e,).
        """

    def whole(self) -> Tensor:
        """(n, n) float32."""


class Dense:
    """All costs: n x n numbers, in an order that has most of what is looked up close together.

    Args:
        similarity: (n, n) float16 or float32. rank: (n,) int64, the row and column of each item.
    """

    def __init__(self, similarity: Tensor, rank: Tensor):
        self.similarity = similarity
        # Half as many bytes of index; on a CPU the look-up takes half the time then.
        self.rank = rank.to(torch.int32 if similarity.numel() < 2**31 else torch.int64)

    def gather(self, items: Tensor, columns: Tensor, owners: Tensor) -> Tensor:
        """See :class:`Cost`."""
        places = self.rank[columns].index_select(0, owners)  # (e, k)
        places += (self.rank[items] * self.similarity.shape[1])[:, None]
        found = self.similarity.view(-1).index_select(0, places.view(-1)).view(places.shape)  # (e, k)
        return 1 - found.float()

    def whole(self) -> Tensor:
        """See :class:`Cost`."""
        return 1 - self.similarity[self.rank][:, self.rank].float()


class Listed:
    """The costs of pairs in a list; all other items are one apart.

    Args:
        keys: (m,) int64, ``item * n + other`` in rising order. similarity: (m,) float16 or float32. n: items.
    """

    def __init__(self, keys: Tensor, similarity: Tensor, n: int):
        self.keys, self.similarity, self.n = keys, similarity, n

    def gather(self, items: Tensor, columns: Tensor, owners: Tensor) -> Tensor:
        """See :class:`Cost`."""
        wanted = columns.index_select(0, owners) + (items * self.n)[:, None]  # (e, k)
        place = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)  # an item is listed with itself
        return torch.where(self.keys[place] == wanted, 1 - self.similarity[place].float(), 1.0)

    def whole(self) -> Tensor:
        """See :class:`Cost`."""
        found = torch.ones(self.n * self.n, device=self.keys.device)
        return found.index_copy_(0, self.keys, 1 - self.similarity.float()).view(self.n, self.n)


def blocks(users: Tensor, items: Tensor, n_users: int, n_items: int, shrink: float) -> Iterator[tuple[int, np.ndarray]]:
    """Similarities of some items to all, (b, n_items) float32, with the first of these items."""
    pairs = (np.ones(len(users), np.float32), (users.cpu().numpy(), items.cpu().numpy()))
    x = sparse.csr_array(pairs, (n_users, n_items))
    columns, step = x.T.tocsr(), max(1, ENTRIES // n_items)
    norm = np.sqrt(np.diff(columns.indptr)).astype(np.float32)  # (n_items,)
    for start in range(0, n_items, step):
        both = (columns[start:start + step] @ x).toarray()  # (b, n_items)
        divisor = norm[start:start + step, None] * norm + np.float32(shrink)
        np.divide(both, divisor, out=both, where=divisor > 0)
        own = np.arange(len(both))
        both[own, own + start] = 1.0
        yield start, np.minimum(both, 1.0, out=both)


def dense(users: Tensor, items: Tensor, n_users: int, n_items: int, shrink: float, dtype: torch.dtype) -> Dense:
    """All costs of items, from the pairs ``users`` and ``items`` (m,), on their device.

    Popular items come first, as histories and probable items are full of them: the look-up waits for memory, and takes
    a quarter less time than in an order by chance. The products are made on the CPU, ``ENTRIES`` at a time, in time
    that grows with the sum of squared history lengths.

    Args:
        shrink: added to the divisor. dtype: float16 or float32.

    Two users have item 0, one of them item 1 as well: a cosine of .7071, and nobody has item 2.

    >>> dense(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), 2, 3, 0.0, torch.float32).whole()
    tensor([[0.0000, 0.2929, 1.0000],
            [0.2929, 0.0000, 1.0000],
            [1.0000, 1.0000, 0.0000]])
    """
    found = torch.empty(n_items, n_items, dtype=dtype)
    rank = torch.bincount(items, minlength=n_items).argsort(descending=True, stable=True).argsort()  # (n_items,)
    for start, block in blocks(users, rank[items], n_users, n_items, shrink):
        found[start:start + len(block)] = torch.from_numpy(block)
    return Dense(found.to(items.device), rank)


def listed(users: Tensor, items: Tensor, n_users: int, n_items: int, shrink: float, dtype: torch.dtype,
           topn: int) -> Listed:
    """The costs between each item and its ``topn`` most similar others; see :func:`dense`.

    A pair is listed both ways where either item has the other among its most similar ones, so that costs are symmetric.
    """
    rows, others, values = [], [], []
    for start, block in blocks(users, items, n_users, n_items, shrink):
        own = torch.arange(len(block))
        similar = torch.from_numpy(block)
        similar[own, own + start] = torch.inf  # itself, beside the others
        value, other = similar.topk(min(topn + 1, n_items), 1)  # (b, t)
        kept = value > 0
        rows.append((own + start)[:, None].expand_as(other)[kept])
        others.append(other[kept])
        values.append(value[kept].clamp(max=1).to(dtype))
    row, other, value = torch.cat(rows), torch.cat(others), torch.cat(values)
    both = torch.cat([row * n_items + other, other * n_items + row])
    keys, first = np.unique(both.numpy(), return_index=True)
    similarity = torch.cat([value, value])[torch.from_numpy(first)]
    return Listed(torch.from_numpy(keys).to(items.device), similarity.to(items.device), n_items)
