"""The supervision: the moments at which a denoiser may step in, and all of them do nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from recot.data.interactions import Interactions
from recot.nn.contracts import Network, Scorer


class Denoiser(nn.Module):
    """Leaves every batch and loss as it is (``denoiser=none``).

    Subclasses override the moments they need. State that has to survive an interruption lives in buffers or
    parameters, so that checkpoints hold it.

    It keeps the contract :class:`recot.nn.contracts.Supervision` for any kind of batch; a subclass that names its
    ``objectives`` asks for theirs.
    """

    objectives: tuple[str, ...] = ()
    relabels: bool = False
    shared: bool = False

    def bind(self, network: Network, train: Interactions) -> None:
        """Meet the network and the training set, once, before the first step."""

    def before(self, batch: Any, network: Network) -> Any:
        """The batch to compute the loss of: other targets, for example."""
        return batch

    def after(self, loss: Tensor, batch: Any) -> Tensor:
        """The unreduced loss with other weights, same shape."""
        return loss

    def after_step(self, network: Network) -> None:
        """Called when the optimiser has moved the network."""

    def after_epoch(self) -> None:
        """Called at the end of an epoch, before :meth:`report`."""

    def report(self) -> dict[str, float]:
        """Scalars worth a line in the history of the run, read once an epoch."""
        return {}


class Relabelling(Denoiser):
    """A denoiser that decides, between two fits, what to train on next; subclasses define :meth:`relabel`.

    It keeps the contract :class:`recot.nn.contracts.Relabeller`.

    Args:
        rounds: how often to relabel; ``fit.rounds.Relabelled`` fits a fresh model after each.

    Attributes:
        marks: what the last relabelling says of each pair that it left, (n,) each, by name.

    Raises:
        ValueError: ``rounds`` is below 1.
    """

    relabels = True

    def __init__(self, rounds: int):
        super().__init__()
        if rounds < 1:
            raise ValueError(f"denoiser.rounds = {rounds} is out of range; it has to be 1 or more")
        self.rounds = rounds
        self.told: dict[str, float] = {}
        self.marks: Mapping[str, Tensor] = {}

    def relabel(self, original: Interactions, current: Interactions, network: Scorer) -> Interactions:
        """The training set of the next fit.

        Args:
            original: what was observed. current: what was trained on last. network: what was fitted to it.
        """
        raise TypeError(f"{type(self).__name__} has to define relabel(original, current, network)")

    def report(self) -> dict[str, float]:
        """What the last relabelling did, once."""
        told, self.told = self.told, {}
        return told
