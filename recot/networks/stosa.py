"""Self-attention between Gaussians."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.batches.layout import Filled, Layout
from recot.networks.sequential import Sequential, check_sizes, initialise
from recot.nn import similarity
from recot.nn.attention import EPS
from recot.nn.dropout import Dropout
from recot.nn.gaussian import deviation, variance
from recot.nn.table import Table


class Halves(nn.Module):
    """What a block does to one of the two streams: projections before and after attention, and the inner layer.

    Args:
        dim: width d. dropout: after either half.
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.inward, self.outward = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm, self.dropout = nn.LayerNorm(dim, EPS), Dropout(dropout)

    def after(self, x: Tensor, seen: Tensor, norm: nn.LayerNorm, shared: Tensor | None) -> Tensor:
        """(nnz, d): the stream ``x`` (nnz, d) after it has ``seen`` (nnz, d), normed by the norm both streams share.

        Args:
            shared: (nnz,) int64, which row of ``seen`` each position has, where not each has its own.
        """
        seen = self.outward(seen)
        x = norm(x + self.dropout(seen if shared is None else seen.index_select(0, shared)))
        y: Tensor = self.norm(x + self.dropout(self.narrow(F.elu(self.widen(x)))))
        return y


class GaussianBlock(nn.Module):
    """A layer in which a position looks at others the more the nearer they are as Gaussians.

    Args:
        dim: width d of either stream. n_heads: heads, a divisor of it. dropout, attention_dropout: probabilities.
        contextual: update the means too.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float, attention_dropout: float, contextual: bool):
        super().__init__()
        self.n_heads, self.contextual = n_heads, contextual
        self.mean, self.spread = Halves(dim, dropout), Halves(dim, dropout)
        self.norm, self.attention_dropout = nn.LayerNorm(dim, EPS), Dropout(attention_dropout)

    def forward(self, mean: Tensor, spread: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Means and what the variances are made of by :func:`variance`; (nnz, d) each, of (nnz, d) each."""
        spread, shared = variance(spread), None
        if isinstance(layout, Filled):
            seen = torch.cat([self.alike(mean, spread, len(layout.history)),
                              self.near(mean[layout.seeing], spread[layout.seeing], layout.bare)])  # (b + m, 2d)
            shared = layout.shared()
        else:
            seen = self.near(mean, spread, layout)  # (nnz, 2d)
        seen_mean, seen_spread = seen.chunk(2, 1)
        spread = self.spread.after(spread, seen_spread, self.norm, shared)
        return self.mean.after(mean, seen_mean, self.norm, shared) if self.contextual else mean, spread

    def near(self, mean: Tensor, variances: Tensor, layout: Layout) -> Tensor:
        """(nnz, 2d): what each item sees of itself and those before it, mean and variance, of (nnz, d) each."""
        heads = (len(mean), 3, self.n_heads, -1)
        q, k, v = self.mean.inward(mean).view(heads).unbind(1)  # (nnz, heads, d / heads)
        qs, ks, vs = self.spread.inward(variances).view(heads).unbind(1)  # (nnz, heads, d / heads)
        seen = layout.attend(self.attention, torch.cat([q, deviation(qs)], -1), torch.cat([k, deviation(ks)], -1),
                             v, variance(vs))  # (nnz, heads, 2 d / heads)
        return seen.unflatten(-1, (2, -1)).transpose(1, 2).flatten(1)  # (nnz, 2d)

    def alike(self, mean: Tensor, variances: Tensor, n_rows: int) -> Tensor:
        """(b, 2d): what padding sees, all of its row alike, padding and the future included.

        Args:
            mean, variances: (b L, d), of filled rows. n_rows: b.
        """
        d = mean.shape[1]
        v = F.linear(mean.view(n_rows, -1, d).mean(1), self.mean.inward.weight[2 * d:],
                     self.mean.inward.bias[2 * d:])  # (b, d)
        vs = variance(F.linear(variances, self.spread.inward.weight[2 * d:], self.spread.inward.bias[2 * d:]))
        vs = vs.view(n_rows, -1, d)  # (b, L, d)
        return torch.cat([v, vs.mean(1) / vs.shape[1]], 1)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, vs: Tensor, allowed: Tensor) -> Tensor:
        """(g, heads, t, 2 d / heads): means and variances of the weighted sums; a variance has their squares.

        Of the distance, the norm of the query is one number per row, which a softmax does not see.

        Args:
            q, k: (g, heads, t, 2 d / heads), means and deviations. v, vs: (g, heads, t, d / heads).
        """
        near = 2 * (q @ k.mT) - k.square().sum(-1)[..., None, :]  # (g, heads, t, t)
        scale = v.shape[-1] ** -0.5
        a = self.attention_dropout((near * scale).masked_fill(~allowed, torch.finfo(near.dtype).min).softmax(-1))
        return torch.cat([a @ v, a.square() @ vs], -1)


class Stosa(Sequential):
    """Items and histories are Gaussians; attention, loss and ranking use their Wasserstein distance (STOSA; MStein).

    Args:
        n_users, n_items: sizes; users have no vectors.
        dim: width d of the means and of the deviations. n_layers: blocks. n_heads: of attention, a divisor of ``dim``.
        max_length: L, items of a history that are read.
        dropout, attention_dropout: probabilities, in training.
        mean_stream: ``contextual`` updates the means in every block, as both papers say. ``embedding`` leaves them as
            they come from the table, so that the mean of a state is that of its last item: what the released programs
            of both papers do, by a misspelt variable.

    Raises:
        ValueError: a size is not positive, heads do not divide the width, or a dropout is not in [0, 1).

    Source: Fan et al. (WWW 2022), Sequential Recommendation via Stochastic Self-Attention; MStein (WWW 2023), Sec. 4.1.

    Departures: the norm after attention is one for both streams, as in the released program; the paper does not say.
    Padding does not exist here, but where ``objectives.views.Contrast`` asks for its states. It sees all of its row
    alike, as in the released program, whose mask there leaves no difference in float32; attention dropout spares it.
    That program still sends a gradient through this softmax, which is not that of its loss; here the gradient is. With
    contextual means both streams, mean and deviation, compete for the scale and shift of the norm they share; with
    ``embedding`` the mean does not use it, so that the released program never saw this.
    """

    objectives = ("NextGaussian",)  # type: ignore[assignment]  # the base has two, and TwoTower any number

    def __init__(self, n_users: int, n_items: int, dim: int = 64, n_layers: int = 1, n_heads: int = 4,
                 max_length: int = 50, dropout: float = 0.3, attention_dropout: float = 0.0,
                 mean_stream: Literal["contextual", "embedding"] = "contextual"):
        super().__init__()
        check_sizes(dim, n_layers, n_heads, max_length, dropout, attention_dropout)
        self.similarity, self.max_length = similarity.nearest, max_length
        self.means, self.spreads = (Table(n_items + 1, dim) for _ in range(2))  # the last row: a masked item
        self.n_items = n_items
        self.mean_positions = nn.Parameter(torch.empty(max_length, dim))
        self.spread_positions = nn.Parameter(torch.empty(max_length, dim))
        self.norm, self.dropout = nn.LayerNorm(dim, EPS), Dropout(dropout)
        self.blocks = nn.ModuleList(GaussianBlock(dim, n_heads, dropout, attention_dropout, mean_stream == "contextual")
                                    for _ in range(n_layers))
        initialise(self, 0.01)
        self.cached: tuple[tuple[int, int], Tensor] | None = None

    def states(self, layout: Layout) -> Tensor:
        """(nnz, 2d), means and deviations."""
        places = self.max_length - 1 - layout.places
        mean, spread = (layout.laid(table(layout.items)) for table in (self.means, self.spreads))  # (nnz, d) each
        mean = F.elu(self.dropout(self.norm(mean + self.mean_positions[places])))
        spread = self.dropout(self.norm(spread + self.spread_positions[places]))
        for block in self.blocks:
            mean, spread = block(mean, spread, layout)
        return torch.cat([mean, deviation(spread)], -1)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, 2d), or (n_items, 2d), means and deviations."""
        if ids is not None:
            return torch.cat([self.means(ids), deviation(self.spreads(ids))], -1)
        state = self.means.weight._version, self.spreads.weight._version  # loading raises them
        if self.cached is None or self.cached[0] != state or torch.is_grad_enabled():
            whole = torch.cat([self.means(), deviation(self.spreads())], -1)[: self.n_items]
            if torch.is_grad_enabled():
                return whole
            self.cached = state, whole
        return self.cached[1]

    def after_step(self) -> None:
        """Forget the vectors of the weights before the step; fused optimisers do not raise a tensor's version."""
        self.cached = None
