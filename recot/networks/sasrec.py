"""Self-attention over a history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recot.batches.layout import Layout
from recot.networks.sequential import Sequential, check_sizes, initialise
from recot.nn import similarity
from recot.nn.attention import EPS, Block
from recot.nn.dropout import Dropout
from recot.nn.table import Table


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
