"""Self-attention over histories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.batches.layout import Layout
from recot.nn.dropout import Dropout

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
