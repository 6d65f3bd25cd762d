"""Two denoisers that trust a large loss less: T-CE leaves it out, R-CE weighs it down."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from recot.denoise.base import Denoiser
from recot.nn import ranks
from recot.nn.contracts import Network
from recot.request.limits import check


class Labelled(Protocol):
    """A batch that says which entries of its loss are of observed pairs, as the objectives below leave it."""

    @property
    def labels(self) -> Tensor | None:
        """Of the shape of the loss, one where an entry is of an observed pair, and zero elsewhere."""


class TCE(Denoiser):
    """Leaves the observed pairs with the largest losses out of each batch, more of them as training goes on (T-CE).

    Args:
        eps_max: largest share left out; the authors use .05, .1 and .2.
        eps_steps: optimiser steps over which the share grows from 0; the authors use 1,000 to 30,000.
        exponent: of the growth, ``eps_max ** exponent * min(step / eps_steps, 1)``; the share jumps at ``eps_steps``
            unless it is 1.
        rate_of: what the share is one of: the whole ``batch``, negatives included, or its ``positives``.

    Raises:
        ValueError: a parameter is out of its range.

    Source: Wang et al. (WSDM 2021), Denoising Implicit Feedback.

    Departures: follows the released code, where the rate is a share of the whole batch and only positives are left out,
    so that .2 drops two fifths of the positives beside one negative each; the paper's wording is a share of the
    interactions (``rate_of=positives``). The authors select by the truncated validation loss, which rewards dropping;
    here the protocol's metric selects.
    """

    objectives = ("BCE", "SampledRowBCE")
    shared = True

    def __init__(self, eps_max: float = 0.1, eps_steps: int = 10_000, exponent: float = 1.0,
                 rate_of: Literal["batch", "positives"] = "batch"):
        super().__init__()
        check("denoiser", ("eps_max", eps_max, 0 <= eps_max < 1, "is a share to leave out; give 0 or more, below 1"),
              ("eps_steps", eps_steps, eps_steps >= 1, "is a number of steps; give 1 or more"),
              ("exponent", exponent, exponent > 0, "is the exponent of a growth; give more than 0, for example 1"))
        self.eps_max, self.eps_steps, self.exponent, self.rate_of = eps_max, eps_steps, exponent, rate_of
        self.step = 0
        self.dropped: Tensor | None = None

    def rate(self) -> float:
        """The share left out of the next step."""
        if self.step >= self.eps_steps:
            return self.eps_max
        # A negative number to a fraction would be complex, so that a power has no type.
        return self.eps_max**self.exponent * self.step / self.eps_steps  # type: ignore[no-any-return]

    def after(self, loss: Tensor, batch: Labelled) -> Tensor:
        """``loss`` (n, 1 + k) with zeros where it is left out, scaled so that its mean is that of what is kept."""
        # Counts stay on the device, so that no step waits for them. The objectives named above give labels.
        rows = ranks.entries(loss.numel())
        total, positives = rows.all, ranks.summed(batch.labels.double().sum())  # type: ignore[union-attr]
        if self.rate_of == "batch":
            gone = positives.clamp(max=total - max(int((1 - self.rate()) * total), 1))
        else:
            gone = (self.rate() * positives).floor()
        # Negatives have key 0 and are kept first.
        key = rows.gathered((loss.detach() * batch.labels).flatten())  # type: ignore[operator]
        place = torch.arange(total, device=loss.device)
        keep = torch.empty_like(key).index_copy_(0, key.argsort(descending=True), (place >= gone).to(key.dtype))
        if self.dropped is None:
            self.dropped = gone / positives
        return loss * rows.own(keep).view_as(loss) * (total / (total - gone)).to(loss.dtype)

    def after_step(self, network: Network) -> None:
        """Count the step."""
        self.step += 1

    def report(self) -> dict[str, float]:
        """Share of the positives left out of the first batch since the last report."""
        dropped, self.dropped = self.dropped, None
        return {} if dropped is None else {"dropped": float(dropped)}

    def get_extra_state(self) -> dict[str, int]:
        """The counter a checkpoint has to hold."""
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Put the counter back."""
        self.step = state["step"]


class RCE(Denoiser):
    """Weighs every entry by how far the model agrees with its label, to the power ``beta`` (R-CE).

    The weight is ``sigmoid(s) ** beta`` for an observed pair and ``(1 - sigmoid(s)) ** beta`` for a negative, which is
    ``exp(-beta * loss)`` for both. No gradient runs through it, and the weights of a batch are not normalised.

    Args:
        beta: 0 is plain binary cross entropy; the authors search .05 to 1.

    Raises:
        ValueError: ``beta`` is negative.

    Source: Wang et al. (WSDM 2021), Denoising Implicit Feedback.

    Departures: none known.
    """

    objectives = ("BCE", "SampledRowBCE")
    shared = True

    def __init__(self, beta: float = 0.2):
        super().__init__()
        check("denoiser", ("beta", beta, beta >= 0, "would trust large losses more; give 0 or more"))
        self.beta = beta
        self.weight: Tensor | None = None

    def after(self, loss: Tensor, batch: Labelled) -> Tensor:
        """``loss`` (n, 1 + k), weighted."""
        weights = (-self.beta * loss.detach()).exp()
        if self.weight is None:
            # The objectives named above give labels.
            self.weight = (ranks.summed((weights * batch.labels).sum())  # type: ignore[operator]
                           / ranks.summed(batch.labels.sum()))  # type: ignore[union-attr]
        return loss * weights

    def report(self) -> dict[str, float]:
        """Mean weight of the positives of the first batch since the last report."""
        weight, self.weight = self.weight, None
        return {} if weight is None else {"weight_of_positives": float(weight)}
