"""Autoencoders: a user is the code of its row of items."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.interactions import Interactions, sorted_order
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn import similarity
from recot.nn.contracts import Code
from recot.nn.table import Table
from recot.request.limits import check

SMALL = 1 / 500
"""Deviation of all weights in the code that ProRec takes its baselines from."""


class Autoencoder(TwoTower):
    """Denoising autoencoder of a user's row: CDAE with a vector per user, Mult-VAE where the code is drawn.

    The first layer is the sum of one vector per item of the row, some of them hidden at random while it trains, so that
    no row has to be dense on its way in. The decoder is one vector and one bias per item: the score is the inner
    product of ``[h; 1]`` and ``[v; bias]``.

    Args:
        n_users, n_items: sizes.
        dim: width r of the code.
        hidden: width of a layer on either side of the code; 0 for none.
        hidden_activation: of these layers.
        activation: of the code, or of its mean where it is drawn.
        user_vector: added to the first layer: ``none``, ``trained``, or ``frozen`` at its random start.
        variational: draw the code from a Gaussian while training; the score takes the mean.
        spread: what the second half of the encoder's output is: ``log_std`` or ``log_variance``.
        corruption: probability with which an item of the row is hidden in training; the others grow by
            ``1 / (1 - corruption)``.
        normalize: scale rows to length one first.
        start: ``truncated`` draws all weights from a normal of deviation 1/500 cut at two deviations, biases zero;
            ``xavier`` has Xavier-normal weights and biases of deviation 1/1000, ``xavier_uniform`` Xavier-uniform
            weights and no biases.
        input: where a denoiser has given weights to the training pairs, a row of a known user is made of these, both in
            training and when scoring (``weighted``), or of ones (``binary``). A pair outside the training set and any
            pair of user -1 counts one.

    Attributes:
        inductive: true without a user vector. Once pairs are weighted, a known user and an unseen one with the same
            history differ by these weights.

    Raises:
        ValueError: a width is not positive, or ``corruption`` lies outside 0..1.

    Source: Wu et al. (WSDM 2016), Collaborative Denoising Auto-Encoders; Liang et al. (WWW 2018), Variational
    Autoencoders for Collaborative Filtering; and the code ProRec takes its baselines from (NCE-PLRec's), whose variants
    differ from both papers.

    Departures: the second half of the variational encoder is the log deviation unless ``spread`` says otherwise, as in
    that code; Liang et al. have the log variance. CDAE's paper penalises biases as well; no bias is decayed here. That
    a denoiser's weights enter the row that is scored is our reading of ProRec, which has them in the row that trains.
    """

    inductive_if = {"user_vector": ("none",)}
    objectives = ("RowBCE", "SampledRowBCE", "Multinomial", "Sinkhorn", "SinkhornCF")
    undecayed = ("first_bias", "item_bias", "inward.bias", "outward.bias")

    def __init__(self, n_users: int, n_items: int, dim: int = 50, hidden: int = 0,
                 activation: Literal["identity", "relu", "sigmoid", "tanh"] = "relu",
                 user_vector: Literal["none", "trained", "frozen"] = "none", variational: bool = False,
                 corruption: float = 0.5, normalize: bool = False,
                 start: Literal["truncated", "xavier", "xavier_uniform"] = "xavier",
                 input: Literal["weighted", "binary"] = "weighted",
                 hidden_activation: Literal["relu", "tanh"] = "tanh",
                 spread: Literal["log_std", "log_variance"] = "log_std"):
        super().__init__()
        check("model", ("dim", dim, dim >= 1, "is the width of the code; give 1 or more"),
              ("hidden", hidden, hidden >= 0, "is the width of a layer; give 1 or more, or 0 for no hidden layer"),
              ("corruption", corruption, 0 <= corruption < 1, "is the probability that an item is hidden; give 0 or "
               "more and less than 1, and at most 0.5 for the weights of loss=rowbce"))
        self.similarity, self.inductive = similarity.dot, user_vector == "none"
        self.dim, self.variational, self.corruption, self.normalize = dim, variational, corruption, normalize
        self.activation, self.weighted_input = activation, input == "weighted"
        self.hidden_activation, self.halved = hidden_activation, spread == "log_variance"
        coded = 2 * dim if variational else dim
        first = hidden or coded
        self.encoder, self.decoder = Table(n_items, first), Table(n_items, hidden or dim)
        self.first_bias, self.item_bias = nn.Parameter(torch.zeros(first)), nn.Parameter(torch.zeros(n_items))
        self.inward = nn.Linear(hidden, coded) if hidden else None
        self.outward = nn.Linear(dim, hidden) if hidden else None
        self.user_table = None if self.inductive else Table(n_users, first)
        self.initialise(start)
        if user_vector == "frozen" and self.user_table is not None:
            self.user_table.requires_grad_(False)
        self.pairs: tuple[Tensor, Tensor] | None = None  # keys in rising order and their weights
        self.joined: tuple[tuple[object, ...], Tensor] | None = None

    def initialise(self, start: str) -> None:
        """Draw all weights anew."""
        for parameter in self.parameters():
            bias = parameter.dim() == 1
            if start == "xavier" and not bias:
                nn.init.xavier_normal_(parameter)
            elif start == "xavier_uniform" and not bias:
                nn.init.xavier_uniform_(parameter)
            elif start != "xavier" and bias:
                nn.init.zeros_(parameter)
            else:
                deviation = 1e-3 if bias else SMALL
                nn.init.trunc_normal_(parameter, std=deviation, a=-2 * deviation, b=2 * deviation)

    def bind(self, train: Interactions) -> None:
        """Learn the weights of the training pairs, where not all are one."""
        self.pairs = None
        if self.weighted_input and not bool((train.weights == 1).all()):
            keys = train.users * train.n_items + train.items
            order = sorted_order(keys)
            self.pairs = keys[order], train.weights[order]

    def row(self, query: Query) -> Tensor:
        """(nnz,) the values that the items of the histories have in the rows of their users."""
        items, owners = query.history.values, query.history.rows
        values = self.item_bias.new_ones(len(items))
        if self.pairs is not None:
            keys, weights = self.pairs
            wanted = query.users[owners] * len(self.item_bias) + items
            place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            values = torch.where(keys[place] == wanted, weights[place], values)  # never for user -1, of negative keys
        if self.normalize:
            squares = values.new_zeros(len(query)).index_add_(0, owners, values.square())  # (b,)
            values = values / squares.sqrt().clamp(min=1e-12)[owners]
        return values

    def encode(self, query: Query) -> Code:
        """Codes of b users: drawn, and from corrupted rows, in training mode; exact otherwise."""
        values = self.row(query)
        hides = self.training and self.corruption > 0
        kept = F.dropout(torch.ones_like(values), self.corruption) if hides else None  # (nnz,)
        summed = F.embedding_bag(query.history.values, self.encoder(), query.history.offsets, mode="sum",
                                 per_sample_weights=values if kept is None else values * kept,
                                 include_last_offset=True)  # (b, first)
        z = summed + self.first_bias
        if self.user_table is not None:
            z = z + self.user_table(query.users)
        if self.inward is not None:
            z = self.inward(self.bent(z))  # (b, r) or (b, 2r)
        log_std = z[:, self.dim:] if self.variational else None
        log_std = log_std / 2 if log_std is not None and self.halved else log_std
        mean = z[:, : self.dim]
        mean = mean if self.activation == "identity" else getattr(torch, self.activation)(mean)
        z, log_ratio = (mean, None) if log_std is None else self.drawn(mean, log_std)
        if self.outward is not None:
            z = self.bent(self.outward(z))  # (b, hidden)
        vectors = torch.cat([z, z.new_ones(len(z), 1)], 1)  # (b, d + 1)
        return Code(vectors, self.corruption if hides else 0.0, kept, None if log_std is None else mean, log_std,
                    log_ratio)

    def drawn(self, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes (b, r), drawn while training and expected otherwise, and their ``log_ratio``, see :class:`Code`."""
        return (mean + log_std.exp() * torch.randn_like(mean) if self.training else mean), None

    def bent(self, z: Tensor) -> Tensor:
        """What leaves a hidden layer, of the shape of ``z``."""
        return z.relu() if self.hidden_activation == "relu" else z.tanh()

    def users(self, query: Query) -> Tensor:
        """(b, d + 1), the last coordinate one."""
        return self.encode(query).vectors

    def train(self, mode: bool = True) -> Self:
        """See ``nn.Module``; weights that are to be trained are joined anew."""
        self.joined = None if mode else self.joined
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: everything but what follows from the weights."""
        return self.__dict__ | {"joined": None}

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d + 1), or (n_items, d + 1); the last coordinate is the bias.

        All items are put together once for all questions between two trainings: it takes a sixth of their scores' time.
        """
        if ids is not None or self.training or torch.is_grad_enabled():
            bias = self.item_bias if ids is None else self.item_bias[ids]
            return torch.cat([self.decoder(ids), bias[..., None]], -1)  # (*ids.shape, d + 1)
        # Loading raises a tensor's version, and fused optimisers do not; see train().
        state = self.decoder.weight._version, self.item_bias._version, self.item_bias.device
        if self.joined is None or self.joined[0] != state:
            self.joined = state, torch.cat([self.decoder(), self.item_bias[:, None]], 1)  # (n_items, d + 1)
        return self.joined[1]
