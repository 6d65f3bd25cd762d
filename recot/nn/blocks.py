"""Vectors that are zero but for a block: how domains that share nothing but users become one inner product.

The vector of a user is the vectors of all domains side by side. That of an item is zero but for the block of its
domain, so that the inner product is that of the domain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recot.data.interactions import Domain


def numbers(domains: Sequence[Domain]) -> Tensor:
    """(n_items,) int64, which domain each item is of."""
    sizes = torch.tensor([domain.stop - domain.start for domain in domains])
    return torch.arange(len(domains)).repeat_interleave(sizes)  # (n_items,)


def in_block(vectors: Tensor, number: Tensor, n_blocks: int) -> Tensor:
    """Vectors (..., m), each in block ``number`` (...) of ``n_blocks`` and zero elsewhere; (..., n_blocks * m).

    >>> in_block(torch.tensor([[1.0, 2.0]]), torch.tensor([1]), 3)
    tensor([[0., 0., 1., 2., 0., 0.]])
    """
    own = number[..., None] == torch.arange(n_blocks, device=number.device)  # (..., n_blocks)
    return (vectors[..., None, :] * own[..., None]).flatten(-2)  # (..., n_blocks * m)
