"""The supervision: four moments at which a denoiser may step in, and all of them do nothing here."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recot.data.interactions import Interactions


class Denoiser(nn.Module):
    """Leaves every batch, loss and training set as it is (``denoiser=none``).

    Subclasses override the moments they need. State that has to survive an interruption lives in buffers or
    parameters, so that checkpoints hold it.

    Attributes:
        objectives: names of the objectives it works with; empty for any. A config that pairs it with another one is
            refused before data are read.
    """

    objectives: tuple[str, ...] = ()

    def bind(self, network: nn.Module, train: Interactions) -> None:
        """Meet the network and the training set, once, before the first step."""

    def before(self, batch: Any, network: nn.Module) -> Any:
        """The batch to compute the loss of: other targets, for example."""
        return batch

    def after(self, loss: Tensor, batch: Any) -> Tensor:
        """The unreduced loss with other weights, same shape."""
        return loss

    def after_step(self, network: nn.Module) -> None:
        """Called when the optimiser has moved the network."""

    def after_epoch(self, train: Interactions, network: nn.Module) -> Interactions:
        """The training set of the next epoch; a new object where it differs.

        Called without gradients; ``network`` is in evaluation mode, so that ``network.score(query)`` ranks.
        """
        return train

    def report(self) -> dict[str, float]:
        """Scalars worth a line in the history of the run, read once an epoch."""
        return {}
