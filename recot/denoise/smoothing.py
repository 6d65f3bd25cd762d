"""The control for SCLRec's transport: softer targets that know popularity and nothing else."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recot.batches.pairs import Pairs
from recot.data.interactions import Interactions
from recot.denoise.base import Denoiser
from recot.nn import ranks
from recot.nn.contracts import Network
from recot.request.limits import check


class PopularitySmoothing(Denoiser):
    """Replaces the target "its own item" by ``alpha * own + (1 - alpha) * popularity`` over the other items of a batch.

    Column j gets a share in proportion to ``c_j ** kappa``, c being training counts. There is no teacher, no similarity
    and no transport: what SCLRec gains over this is earned by its matching, and what this gains is not.

    Args:
        alpha: share of the hard target; 1 is plain InfoNCE. kappa: exponent; 0 is plain label smoothing.

    Raises:
        ValueError: ``alpha`` is out of 0..1; at :meth:`bind`, ``kappa`` takes a share to zero or out of float32.

    Departures: in no paper; a control.
    """

    objectives = ("InfoNCE",)
    mass: Tensor
    shared = True

    def __init__(self, alpha: float = 0.9, kappa: float = 0.5):
        super().__init__()
        check("denoiser", ("alpha", alpha, 0 <= alpha <= 1, "is a share of the target; give 0 to 1"))
        self.alpha, self.kappa = alpha, kappa

    def bind(self, network: Network, train: Interactions) -> None:
        """Note the popularity of the items."""
        self.register_buffer("mass", powers(train.popularity.float(), self.kappa), persistent=False)

    @torch.no_grad()
    def before(self, batch: Pairs, network: Network) -> Pairs:
        """The batch with soft targets, (n, n) float32; a row whose other columns are all taken keeps its own."""
        rows = ranks.rows(len(batch.items))
        mass = self.mass[rows.gathered(batch.items)]  # (n,)
        own = rows.diagonal(mass.device)
        taken = own if batch.observed is None else own | batch.observed
        soft = mass.repeat(len(own), 1).masked_fill_(taken, 0.0)  # (n, n)
        total = soft.sum(1, keepdim=True)  # (n, 1)
        hard = own.float() if batch.targets is None else batch.targets
        soft = torch.where(total > 0, soft / total.clamp(min=1e-30), hard)
        return replace(batch, targets=self.alpha * hard + (1 - self.alpha) * soft)


def powers(counts: Tensor, kappa: float) -> Tensor:
    """``counts ** kappa``, (n,); those of zero are of items that no batch holds.

    Raises:
        ValueError: one of a positive count is zero or infinite in float32, so that shares of a sum would be NaN.
    """
    found = counts**kappa
    taken = found[counts > 0]
    if not bool(((taken > 0) & (taken * len(taken)).isfinite()).all()):
        raise ValueError(f"denoiser.kappa = {kappa} takes counts of 1 to {int(counts.max()):,} out of float32; give "
                         "one nearer to 0, for example 0.5")
    return found
