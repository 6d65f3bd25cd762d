"""Self-attention over a history in both directions, read at a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.sasrec import SASRec
from recot.networks.sequential import initialise
from recot.nn.attention import EPS
from recot.request.limits import check


class BERT4Rec(SASRec):
    """Bidirectional self-attention: the state at a mask guesses the item there (MStein, Table 1).

    The score of an item is ``<t(h), e_i> + b_i`` for the state h at a mask behind the latest items and a transform t;
    with a one behind t(h), and b_i behind e_i, an inner product.

    Args:
        n_users, n_items: sizes; users have no vectors.
        dim: width d. n_layers: blocks. n_heads: of attention, a divisor of ``dim``.
        max_length: L, items of a history that are read in training; with the mask, one less.
        dropout, attention_dropout: probabilities, in training.

    Attributes:
        mask: the id that stands for a masked item; no score is given to it.

    Raises:
        ValueError: as :class:`SASRec`; or only the mask would be read.

    Source: Sun et al. (CIKM 2019), BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
    Transformer.

    Departures: places are counted from the end, so that the mask of a question is always at the last one, and padding
    does not exist; the authors pad on the right and count from the start. They train with decoupled decay, warm-up, a
    falling learning rate and clipped gradients, for a fixed number of steps; here, as for all methods of the table,
    with Adam until validation stops improving. A user without items is asked about with the mask alone.
    """

    objectives = ("Cloze",)  # type: ignore[assignment]  # the base has two, and TwoTower any number
    causal = False

    def __init__(self, n_users: int, n_items: int, dim: int = 64, n_layers: int = 2, n_heads: int = 2,
                 max_length: int = 50, dropout: float = 0.5, attention_dropout: float = 0.2):
        check("model", ("max_length", max_length, max_length >= 2, "holds no item beside the mask; give 2 or more"))
        super().__init__(n_users, n_items, dim, n_layers, n_heads, max_length, dropout, attention_dropout)
        self.mask = n_items
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, EPS))
        self.bias = nn.Parameter(torch.empty(n_items))
        initialise(self, 0.0, cut=True)

    def users(self, query: Query) -> Tensor:
        """(b, d + 1), what is guessed behind the last item."""
        if not len(query):
            return self.items()[:0]
        layout = self.layout(self.asked(query.history))
        return self.guesses(layout.last(self.states(layout)))

    def asked(self, history: Ragged) -> Ragged:
        """The latest ``max_length - 1`` items of each row and a mask."""
        known = history.latest(self.max_length - 1)
        values = known.values.new_full((len(known.values) + len(known),), self.mask)
        values[torch.arange(len(known.values), device=values.device) + known.rows] = known.values
        return Ragged.from_lengths(known.lengths + 1, values)

    def guesses(self, states: Tensor) -> Tensor:
        """(n, d + 1): states (n, d) at masks transformed, and a one that meets the bias of an item."""
        return F.pad(self.transform(states), (0, 1), value=1.0)  # (n, d + 1)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d + 1), or (n_items, d + 1): the vectors that are read, and biases."""
        bias = self.bias if ids is None else self.bias[ids]
        return torch.cat([super().items(ids), bias[..., None]], -1)
