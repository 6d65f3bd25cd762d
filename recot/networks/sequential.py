"""What networks that read a history in order have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recot.batches.layout import Filled, Layout
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.request.limits import check


class Sequential(TwoTower):
    """What is common to networks that read a history in order.

    It keeps the contract :class:`recot.nn.contracts.SequenceEncoder`.

    Attributes:
        max_length: items of a history that are read, its latest.
    """

    inductive = True
    ordered = True
    objectives = ("NextItem", "DuoRec")
    max_length: int

    def states(self, layout: Layout) -> Tensor:
        """(nnz, d): what is known after each item of the histories; they are at most ``max_length`` long."""
        raise TypeError(f"{type(self).__name__} reads histories and has to define states(layout)")

    def layout(self, history: Ragged, filled: bool = False) -> Layout:
        """Of histories that are at most ``max_length`` long; ``filled`` up to that, see :class:`Filled`."""
        return (Filled if filled else Layout)(history, self.max_length)

    def users(self, query: Query) -> Tensor:
        """(b, d), the last state; zero where nothing is known of a user."""
        history = query.history.latest(self.max_length)
        if not len(history.values):
            return torch.zeros(len(query), self.items().shape[1], device=query.users.device)
        layout = self.layout(history)
        return layout.last(self.states(layout))


def check_sizes(dim: int, n_layers: int, n_heads: int, max_length: int, dropout: float,
                attention_dropout: float) -> None:
    """Refuse what makes no network.

    Raises:
        ValueError: a size is not positive, heads do not divide the width, or a dropout is not in [0, 1).
    """
    check("model", *((name, size, size >= 1, "leaves no network; give 1 or more") for name, size in (
              ("dim", dim), ("n_layers", n_layers), ("n_heads", n_heads), ("max_length", max_length))))
    check("model", ("n_heads", n_heads, dim % n_heads == 0, f"does not divide model.dim = {dim}; give a divisor, for "
                    "each head has an equal share"),
          *((name, share, 0 <= share < 1, "is a probability; give 0 or more and less than 1") for name, share in (
              ("dropout", dropout), ("attention_dropout", attention_dropout))))


def initialise(network: nn.Module, mean: float, cut: bool = False) -> None:
    """Weights and tables from a normal of deviation 0.02, biases zero, norms the identity; as S3-Rec's code.

    Args:
        cut: draw again what lies more than two deviations from the mean; as BERT's code.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1 and cut:
            nn.init.trunc_normal_(parameter, mean, 0.02, mean - 0.04, mean + 0.04)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, mean, 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
