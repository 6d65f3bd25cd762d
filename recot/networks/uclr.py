"""UCLR's later stages: an autoencoder of the users that a stage before has fitted, and its adaptation to a domain."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.networks.stages import filled
from recot.nn import similarity
from recot.nn.contracts import Before
from recot.request.limits import check

Representation = Literal["decoded", "raw", "sum"]


class Coded(TwoTower):
    """A user is what an autoencoder makes of a vector of theirs. A subclass says which vector, and has the items.

    Args:
        encoder: (b, m) to codes (b, c). decoder: back to (b, m).
        length: scalar that the vectors were divided by, and that what ranks is multiplied by.
        user_repr: what ranks: the ``decoded`` vector, the ``raw`` one that was encoded, or their ``sum``.

    Attributes:
        width: m, of the vectors that enter the autoencoder.
        temperature: (n_users,) float32, of the contrast of each user; a buffer, which the objective moves.
        visits: (n_users,) int64, how often it moved.
        drift: (n_users,) float32, average of the gradients that it moves by.
        log_mean: (n_users,) float32, log of the average that is kept of each user's negatives.
    """

    width: int
    length: Tensor
    temperature: Tensor
    visits: Tensor
    drift: Tensor
    log_mean: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, length: Tensor, user_repr: Representation):
        super().__init__()
        self.similarity, self.user_repr = similarity.dot, user_repr
        self.encoder, self.decoder = encoder, decoder
        self.register_buffer("length", length)

    def remember(self, temperature: Tensor, visits: Tensor, drift: Tensor, log_mean: Tensor) -> None:
        """Go on with copies of these, (n_users,) each; see the class."""
        for name, value in (("temperature", temperature), ("visits", visits), ("drift", drift), ("log_mean", log_mean)):
            self.register_buffer(name, value.detach().clone())

    def about_users(self) -> Mapping[str, Tensor]:
        """Their temperatures, and how often these moved."""
        return {"temperature": self.temperature, "visits": self.visits}

    def vectors(self, users: Tensor) -> Tensor:
        """(b, m) what enters the autoencoder, of ``users`` (b,)."""
        raise TypeError(f"{type(self).__name__} is Coded and has to define vectors(users)")

    def ranking(self, x: Tensor, decoded: Tensor | None = None) -> Tensor:
        """(b, m) what ranks items, of vectors ``x`` (b, m) and what they are decoded to, where that is known already.
        """
        if self.user_repr == "raw":
            return x * self.length
        found = self.decoder(self.encoder(x)) if decoded is None else decoded
        return (found if self.user_repr == "decoded" else found + x) * self.length

    def users(self, query: Query) -> Tensor:
        """(b, m)."""
        return self.ranking(self.vectors(query.users))


class ContrastiveAutoencoder(Coded):
    """An autoencoder of the user vectors of the stage before, which stay as they are (UCLR, stage 2).

    ``enc`` has the widths m, hidden, code and ``dec`` code, hidden, m, with a ReLU between. A user ranks items by
    ``<dec(enc(E_u)), Q_i>``; nothing is hidden from the encoder then.

    Args:
        n_users, n_items: sizes.
        before: the stage whose vectors of users, E, and of items, Q, are taken.
        code: width of the code. hidden: of the layers between.
        scale: ``rms`` divides E by the root mean square of the norms of its rows, so that the weight of the
            reconstruction means the same whatever the epoch that E comes from. What ranks is multiplied by it.
        user_repr: see :class:`Coded`; with ``raw`` this stage changes no score.
        temperature: of each user, before it moves.

    Raises:
        ValueError: a parameter is out of its range.

    Source: UCLR (WWW 2024), Eqs. 3 to 5.

    Departures: the paper gives neither the activation nor the start: ReLU, Xavier-uniform weights and the layers' own
    biases. With biases of zero the code of a hidden vector is zero, and so has no cosine. The paper does not say that
    scores come from the decoder; no other reading lets its ablation's rows differ.
    """

    objectives = ("Contrastive",)
    user_vectors: Tensor
    item_vectors: Tensor

    def __init__(self, n_users: int, n_items: int, before: Before, code: int = 32, hidden: int = 128,
                 scale: Literal["none", "rms"] = "none", user_repr: Representation = "decoded",
                 temperature: float = 1.0):
        check("model", ("code", code, code >= 1, "is the width of the code; give 1 or more"),
              ("hidden", hidden, hidden >= 1, "is the width of a layer; give 1 or more"),
              ("temperature", temperature, temperature > 0, "divides; give more than 0, as 0.05 to 1"))
        users, items = before.vectors(n_users)
        length = root_mean_square(users) if scale == "rms" else users.new_ones(())
        m = users.shape[1]
        super().__init__(perceptron(m, hidden, code), perceptron(code, hidden, m), length, user_repr)
        self.width = m
        self.register_buffer("user_vectors", users / length)
        self.register_buffer("item_vectors", items)
        nothing = users.new_zeros(n_users)
        self.remember(nothing + temperature, nothing.long(), nothing, nothing)

    def vectors(self, users: Tensor) -> Tensor:
        """(b, m), rows of E."""
        return self.user_vectors.index_select(0, users)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, m), or (n_items, m)."""
        return self.item_vectors if ids is None else self.item_vectors[ids]


class Adapted(Coded):
    """Stage 2 adapted to what is trained on now, one domain or all: its users move by a product of low rank (UCLR).

    The vectors that enter the autoencoder are ``W = E + B A``, with B (n_users, rank), which starts at zero, and A
    (rank, m), which starts from N(0, 1/m). So the scores start as those of stage 2, and that is a candidate as every
    epoch is. Temperatures go on.

    Args:
        n_users, n_items: sizes; the items are those of the domain where one domain is fitted.
        before: stage 2, a :class:`Coded` network, of which this one has a copy.
        rank: of the product; None trains all of W.
        user_repr: see :class:`Coded`; None is that of stage 2. ``raw`` with ``loss.stage2_weight=0`` adapts the vectors
            of stage 1 and leaves the autoencoder out.
        train_ae: train the copy of the autoencoder. train_items: train the copy of the items.

    Raises:
        ValueError: ``rank`` is below 1 or not below the width of the vectors, or the stage before has no autoencoder.

    Source: UCLR (WWW 2024), Eqs. 6 and 7; Hu et al. (2022), LoRA, without its factor.

    Departures: the paper says neither how A and B start, nor whether autoencoder and items are trained: "the whole
    framework" is, as it writes. Where stage 2 has ``scale=rms``, B A is in its units.
    """

    objectives = ("Adapted",)
    starts_fitted = True
    base: Tensor

    def __init__(self, n_users: int, n_items: int, before: Before, rank: int | None = 16,
                 user_repr: Representation | None = None, train_ae: bool = True, train_items: bool = True):
        earlier = before.network
        if not isinstance(earlier, Coded):
            raise ValueError(f"model=Adapted goes on from an autoencoder, and the stage before fitted "
                             f"{type(earlier).__name__}; put a stage such as stage=contrast before it")
        super().__init__(copy.deepcopy(earlier.encoder), copy.deepcopy(earlier.decoder),
                         earlier.length.detach().clone(), user_repr or earlier.user_repr)
        self.width = m = earlier.width
        check("model", ("rank", rank, rank is None or 1 <= rank < m,
                        f"saves nothing over all {m} columns, or leaves none; give 1 to {m - 1}, or null for all"))
        self.remember(earlier.temperature, earlier.visits, earlier.drift, earlier.log_mean)
        with torch.no_grad():
            start = earlier.vectors(torch.arange(n_users, device=earlier.length.device)).clone()
        self.rank = rank
        if rank is None:
            self.user_table = filled(start)
        else:
            self.register_buffer("base", start)
            self.coordinates = filled(start.new_zeros(n_users, rank))
            self.directions = nn.Parameter(torch.randn(rank, m).to(start) / m**0.5)
        self.item_table = filled(before.vectors(n_users)[1])
        self.item_table.requires_grad_(train_items)
        self.encoder.requires_grad_(train_ae)
        self.decoder.requires_grad_(train_ae)

    def vectors(self, users: Tensor) -> Tensor:
        """(b, m), rows of W."""
        return self.user_table(users) if self.rank is None else self.base.index_select(0, users) + self.moved(users)

    def moved(self, users: Tensor) -> Tensor:
        """(b, m), rows of B A."""
        return self.coordinates(users) @ self.directions

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, m), or (n_items, m)."""
        return self.item_table(ids)

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of B A, for what is frozen cannot shrink, or of W where all of it is trained; and items."""
        return self.vectors(query.users) if self.rank is None else self.moved(query.users), self.items(ids)


def perceptron(inner: int, hidden: int, outer: int) -> nn.Sequential:
    """Two layers with a ReLU between, Xavier-uniform weights and torch's own biases."""
    layers = nn.Linear(inner, hidden), nn.Linear(hidden, outer)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def root_mean_square(x: Tensor) -> Tensor:
    """Root of the mean squared norm of the rows of ``x`` (n, m), a positive scalar."""
    return x.square().sum(1).mean().sqrt().clamp(min=torch.finfo(x.dtype).tiny)
