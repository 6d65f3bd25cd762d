"""Dropout whose masks cost a CPU a quarter of what torch's do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 2**16


def mask(like: Tensor, drop: int) -> Tensor:
    """Zeros with probability ``drop / STEPS`` and one over that of the others elsewhere, of the shape of ``like``.

    torch draws 64 bits for each number. A quarter of them says yes or no finely enough, so four answers come out of one
    draw.
    """
    count, low = like.numel(), torch.iinfo(torch.int64).min
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(low, None)  # all 64 bits
    bits = drawn.view(torch.int16)[:count].view(like.shape)  # of the shape of like, -STEPS / 2 ... STEPS / 2 - 1
    kept = torch.ge(bits, drop - STEPS // 2, out=torch.empty_like(like, requires_grad=False))
    return kept.mul_(STEPS / (STEPS - drop))


class Dropout(nn.Module):
    """``nn.Dropout``; on a CPU by masks of its own.

    Args:
        p: probability of a zero, there rounded to a multiple of 1 / 65,536.

    Raises:
        ValueError: ``p`` is not in [0, 1).
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a dropout of {p} is no probability that leaves something; give 0 or more, below 1")
        self.p = p

    @property
    def drop(self) -> int:
        """Of ``STEPS`` numbers, how many become zero in training; 0 where nothing is dropped."""
        return min(round(self.p * STEPS), STEPS - 1) if self.training else 0

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of ``x``."""
        if x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        return x * mask(x, self.drop) if self.drop else x

    def extra_repr(self) -> str:
        """For printing a network."""
        return f"p={self.p}"
