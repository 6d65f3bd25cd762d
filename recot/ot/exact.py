"""Transport without entropy, by the network simplex of POT."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

ITERATIONS = 100_000_000  # of the simplex; POT's 100,000 end long before 1,000 users x 10,000 items are done


def exact_plan(cost: Tensor) -> Tensor:
    """The cheapest plan with uniform marginals: rows sum to 1 / m, columns to 1 / n.

    A solution is a vertex: of its m x n entries at most m + n - 1 are not zero. Time grows faster than m x n, and
    memory is some 50 bytes a cell.

    Args:
        cost: (m, n), finite.

    Returns:
        (m, n) float64, on the device of ``cost``; computed on the CPU.

    Raises:
        ImportError: POT is not installed.
        RuntimeError: the simplex stopped early.

    >>> exact_plan(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))  # each row goes where it costs nothing
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]], dtype=torch.float64)
    """
    try:
        import ot
    except ImportError as error:
        raise ImportError("transport without entropy needs POT: pip install 'recot[exact]'") from error
    m, n = cost.shape
    mass = [torch.full((size,), 1 / size, dtype=torch.float64) for size in (m, n)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told by the log, as an error
        plan, told = ot.emd(mass[0].numpy(), mass[1].numpy(), cost.double().cpu().numpy(), ITERATIONS, log=True)
    if told["warning"]:
        raise RuntimeError(f"exact transport of {m} x {n} stopped early: {told['warning']}")
    return torch.from_numpy(plan).to(cost.device)
