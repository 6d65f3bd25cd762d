"""Worked examples that papers print, computed by the package's own functions."""

from __future__ import annotations

import torch
from torch import Tensor

from recot.ot.ragged import Kernel, Rows, transport

SIMILARITY = torch.tensor([[1.0, 0.8, 0.1, 0.1], [0.8, 1.0, 0.1, 0.1], [0.1, 0.1, 1.0, 0.8], [0.1, 0.1, 0.8, 1.0]],
                          dtype=torch.float64)
"""Of four items, of which the first two and the last two are alike."""

TAKEN = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
"""What a user took."""

OUTPUTS = {"x1_hat_1": torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64),
           "x1_hat_2": torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)}
"""What two models would show besides: an item that is alike, and one that is not."""


def losses() -> dict[str, dict[str, float]]:
    """Three losses of two outputs, by output.

    ``kl`` is the divergence of the output's shares from what was taken, natural log; ``sq_euclidean`` the squared
    distance of the zeros and ones; ``w1`` the transport of the shares at the cost ``1 - similarity``. What was taken is
    one item, so that there is one plan, which every epsilon and number of rounds gives.

    >>> losses()["x1_hat_1"]["kl"] == losses()["x1_hat_2"]["kl"], losses()["x1_hat_1"]["w1"]
    (True, 0.1)

    Source: SinkhornCF, Sec. 2.3: only the transport tells the outputs apart.
    """
    return {name: {"kl": float((TAKEN.xlogy(TAKEN) - TAKEN.xlogy(output / output.sum())).sum()),
                   "sq_euclidean": float((TAKEN - output).square().sum()), "w1": moved(output)}
            for name, output in OUTPUTS.items()}


def moved(output: Tensor) -> float:
    """The transport of what was taken to the shares of an output."""
    one = Rows(torch.tensor([0, 1]), torch.tensor([0]), [1])
    cost = (1 - SIMILARITY)[TAKEN.argmax()][None]  # (1, 4)
    found = transport(Kernel(cost, one, 1.0), torch.zeros(1, dtype=cost.dtype), (output / output.sum()).log()[None], 1)
    return round(float(found), 12)
