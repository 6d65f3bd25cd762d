"""Self-attention over a history."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.interactions import Ragged
from recot.data.layout import Filled, Layout
from recot.data.split import Query
from recot.limits import check
from recot.networks.base import TwoTower
from recot.nn import similarity
from recot.nn.dropout import Dropout
from recot.nn.table import Table

EPS = 1e-12
"""Of the layer norms, in the code of S3-Rec."""


class Block(nn.Module):
    """One layer of a transformer with the norms after the sums, on histories end to end.

    Args:
        dim: width d. n_heads: heads, a divisor of it. dropout: after either half. attention_dropout: of the attention.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.n_heads, self.attention_dropout = n_heads, Dropout(attention_dropout)
        self.inward, self.outward = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.first_norm, self.second_norm = nn.LayerNorm(dim, EPS), nn.LayerNorm(dim, EPS)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, layout: Layout, causal: bool = True) -> Tensor:
        """(nnz, d) of (nnz, d)."""
        q, k, v = self.inward(x).view(len(x), 3, self.n_heads, -1).unbind(1)  # (nnz, heads, d / heads)
        seen = layout.attend(self.attention, q, k, v, causal=causal).flatten(1)  # (nnz, d)
        x = self.first_norm(x + self.dropout(self.outward(seen)))
        y: Tensor = self.second_norm(x + self.dropout(self.narrow(F.gelu(self.widen(x)))))
        return y

    def attention(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
        """Scaled dot products; (g, heads, t, d / heads)."""
        dropout = self.attention_dropout
        if not dropout.drop or q.device.type != "cpu":
            return F.scaled_dot_product_attention(q, k, v, allowed, dropout.p if dropout.training else 0.0)
        near = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~allowed, -torch.inf)  # (g, heads, t, t)
        seen: Tensor = dropout(near.softmax(-1)) @ v
        return seen


class Sequential(TwoTower):
    """What is common to networks that read a history in order.

    Attributes:
        ordered: data without times are refused.
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


class SASRec(Sequential):
    """Causal self-attention: the state after t items predicts item t + 1 (MStein, Table 1).

    Args:
        n_users, n_items: sizes; users have no vectors.
        dim: width d. n_layers: blocks. n_heads: of attention, a divisor of ``dim``.
        max_length: L, items of a history that are read.
        dropout, attention_dropout: probabilities, in training.

    Raises:
        ValueError: a size is not positive, heads do not divide the width, or a dropout is not in [0, 1).

    Source: Kang and McAuley (ICDM 2018), in the form of S3-Rec's code, to which MStein points.

    Departures: Kang and McAuley normalise before attention, have a narrower inner layer with ReLU and no projection
    after attention, and scale embeddings. Padding does not exist here (in S3-Rec it attends to anything).
    """

    causal = True

    def __init__(self, n_users: int, n_items: int, dim: int = 64, n_layers: int = 2, n_heads: int = 2,
                 max_length: int = 50, dropout: float = 0.5, attention_dropout: float = 0.5):
        super().__init__()
        check_sizes(dim, n_layers, n_heads, max_length, dropout, attention_dropout)
        self.similarity, self.max_length, self.n_items = similarity.dot, max_length, n_items
        self.table = Table(n_items + 1, dim)  # the last row stands for a masked item
        self.positions = nn.Parameter(torch.empty(max_length, dim))
        self.norm, self.dropout = nn.LayerNorm(dim, EPS), Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, n_heads, dropout, attention_dropout) for _ in range(n_layers))
        initialise(self, 0.0)

    def states(self, layout: Layout) -> Tensor:
        """(nnz, d)."""
        x = layout.laid(self.table(layout.items)) + self.positions[self.max_length - 1 - layout.places]
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, layout, self.causal)
        return x

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d), or (n_items, d): the vectors that are read are those that are predicted."""
        return self.table()[: self.n_items] if ids is None else self.table(ids)


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
