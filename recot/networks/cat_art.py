"""CAT-ART: what a user is in every domain, by a contrastive autoencoder, and what one domain takes from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recot.data.interactions import Domain, Interactions
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.networks.domains import ByDomain
from recot.networks.stages import by_domain, filled
from recot.nn import similarity
from recot.nn.contracts import Before
from recot.nn.dropout import Dropout
from recot.request.limits import check


class CAT(ByDomain):
    """Autoencoder of what a user is in all domains, with one of them hidden at random (CAT-ART, its first half).

    The input is ``e_u``, the vectors of a user in n domains side by side, as the stage before has fitted them. They
    stay as they are. In the masked copy a vector v that is learnt stands for one of the domains. The encoder has the
    widths ``n m -> 5 m -> 3 m -> m`` with PReLU between, and the decoder has them backwards. By itself the network
    ranks the items of a domain by their inner product with that domain's part of the reconstruction of ``e_u``.

    Args:
        n_users, n_items: sizes.
        domains: the ranges of items.
        before: one network for each domain, with vectors of one width m.
        pad_std: deviation of the normal that v starts from.

    Raises:
        ValueError: there is not one network for each domain, or their widths differ; in :meth:`bind`, there is one
            domain.

    Source: Li et al. (WSDM 2023), One for All, All for One, and the authors' code.

    Departures: the authors' code has the widths for five domains; here the number of domains is free. The start of v is
    our choice.
    """

    objectives = ("MaskedDomains",)

    def __init__(self, n_users: int, n_items: int, domains: Sequence[Domain], before: Before, pad_std: float = 0.01):
        super().__init__(n_items, domains)
        check("model", ("pad_std", pad_std, pad_std >= 0, "is a deviation; give 0 or more, for example 0.01"))
        users, items = by_domain(before, n_users, "CAT")
        self.encoded: Tensor
        self.catalogue: Tensor
        self.register_buffer("encoded", users)  # (n_users, n, m)
        self.register_buffer("catalogue", items)  # (n_items, m)
        n, m = self.encoded.shape[1:]
        self.encoder = perceptron(n * m, 5 * m, 3 * m, m)
        self.decoder = perceptron(m, 3 * m, 5 * m, n * m)
        self.pad = nn.Parameter(torch.randn(m) * pad_std)

    def bind(self, train: Interactions) -> None:
        """Refuse to learn where nothing would be left of a user."""
        if len(self.domains) < 2:
            raise ValueError(f"CAT hides one domain of a user and guesses it from the others, and the only domain is "
                             f"{self.domains[0].name}; give data with two domains or more, or use model=bprmf")

    def masked(self, vectors: Tensor, hidden: Tensor) -> Tensor:
        """``vectors`` (b, n, m) with the pad vector in place of domain ``hidden``, (b,) int64, of each."""
        here = hidden[:, None] == torch.arange(vectors.shape[1], device=hidden.device)  # (b, n)
        return torch.where(here[..., None], self.pad, vectors)

    def streams(self, users: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is compared in training.

        Args:
            users: (b,) int64. hidden: (b,) int64, the domain that is masked for each.

        Returns:
            (b, n m) the input, (2, b, m) codes of the input and of its masked copy, (2, b, n m) what both decode to.
        """
        whole = self.encoded[users]  # (b, n, m)
        both = torch.stack([whole, self.masked(whole, hidden)]).flatten(2)  # (2, b, n m)
        codes = self.encoder(both)
        return both[0], codes, self.decoder(codes)

    def invariant(self) -> Tensor:
        """(n_users, m): the codes of all users, nothing masked."""
        return self.encoder(self.encoded.flatten(1))

    def views(self, query: Query) -> Tensor:
        """(b, n, m), what is decoded."""
        codes = self.encoder(self.encoded[query.users].flatten(1))  # (b, m)
        return self.decoder(codes).unflatten(1, (-1, len(self.pad)))  # (b, n, m)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, m), or (n_items, m), as the stage before has fitted them."""
        return self.catalogue if ids is None else self.catalogue[ids]


class ART(TwoTower):
    """A user's own vector, what attention takes from other domains, and the code of all (CAT-ART, its second half).

    For the target domain t, ``r = u^t + O(sum_j a_j V(L_j u^j)) + G(z_u)`` over the other domains j, where
    ``a_j = softmax_j(<Q(u^t), K(L_j u^j)> / sqrt(m))`` and z_u is the code that :class:`CAT` gives to the user's
    vectors as they were. The score is ``<r, q_i>``. Trained are the vectors u of all domains, those of the target's
    items, and the maps, each m x m with a bias.

    Args:
        n_users, n_items: sizes; the items are those of the target.
        before: a fitted :class:`CAT`, and which domain is the target.
        parts: ``both``, or only the ``invariant`` code beside the own vector, or only what is ``transferred``.
        dropout: of the attention weights.

    Raises:
        ValueError: the stage before is no CAT, or no domain is the target, or ``dropout`` is no probability.

    Source: Li et al. (WSDM 2023), One for All, All for One, and the authors' code.

    Departures: the encoder is frozen, so that the codes of all users are computed once. G starts anew, as the authors'
    code starts it, which loads no weights for it. The default of their code is ``invariant``; that of their abstract is
    ``both``. As in their code, there is no penalty here; give one in ``loss.penalty``, which then shrinks the rows that
    are looked up.
    """

    def __init__(self, n_users: int, n_items: int, before: Before,
                 parts: Literal["both", "invariant", "transferred"] = "both", dropout: float = 0.1):
        super().__init__()
        check("model", ("dropout", dropout, 0 <= dropout < 1,
                        "is the share of attention weights that are dropped; give 0 or more and less than 1"))
        cat, target = fitted(before)
        m = cat.encoded.shape[2]
        self.similarity, self.target, self.parts = similarity.dot, target, parts
        self.user_tables = nn.ModuleList([filled(vectors) for vectors in cat.encoded.unbind(1)])
        self.item_table = filled(cat.catalogue[before.domains[target].items])
        self.codes: Tensor
        with torch.no_grad():
            self.register_buffer("codes", cat.invariant())  # (n_users, m)
        self.adapt = nn.ModuleList([nn.Linear(m, m) for _ in self.others])
        self.query, self.key, self.value, self.out, self.invariant = (nn.Linear(m, m) for _ in range(5))
        self.dropout = Dropout(dropout)

    @property
    def others(self) -> list[int]:
        """The numbers of the domains that are not the target."""
        return [number for number in range(len(self.user_tables)) if number != self.target]

    def adapted(self, users: Tensor) -> Tensor:
        """(b, n - 1, m): the vectors of ``users``, (b,) int64, in other domains, each by the map of its domain."""
        return torch.stack([adapt(self.user_tables[number](users))
                            for adapt, number in zip(self.adapt, self.others, strict=True)], 1)

    def attention(self, own: Tensor, sources: Tensor) -> Tensor:
        """(b, n - 1) weights of ``sources`` (b, n - 1, m) for vectors ``own`` (b, m); rows sum to one."""
        alike = torch.linalg.vecdot(self.query(own)[:, None], self.key(sources))  # (b, n - 1)
        return (alike / own.shape[1] ** 0.5).softmax(1)

    def transferred(self, own: Tensor, users: Tensor) -> Tensor:
        """(b, m): what ``users``, (b,) int64, with vectors ``own`` (b, m), get from other domains."""
        sources = self.adapted(users)
        weights = self.dropout(self.attention(own, sources))
        return self.out((weights[..., None] * self.value(sources)).sum(1))

    def users(self, query: Query) -> Tensor:
        """(b, m)."""
        own = self.user_tables[self.target](query.users)
        found = own
        if self.parts != "invariant":
            found = found + self.transferred(own, query.users)
        if self.parts != "transferred":
            found = found + self.invariant(self.codes[query.users])
        return found

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, m), or (n_items, m)."""
        return self.item_table(ids)

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of all domains, side by side, (b, n m), and of the items."""
        return torch.cat([table(query.users) for table in self.user_tables], 1), self.items(ids)  # (b, n m)


def perceptron(*widths: int) -> nn.Sequential:
    """Linear maps from each width to the next, with PReLU between."""
    layers: list[nn.Module] = []
    for inward, outward in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(inward, outward), nn.PReLU()]
    return nn.Sequential(*layers[:-1])


def fitted(before: Before) -> tuple[CAT, int]:
    """The autoencoder that ART goes on from, and its target.

    Raises:
        ValueError: the stage before is no CAT, or no domain is the target.
    """
    if not isinstance(before.network, CAT):
        raise ValueError(f"ART goes on from CAT and was given {type(before.network).__name__}; "
                         "give it a stage before it with /stage: cat")
    if before.number is None:
        raise ValueError(f"ART has one target of {len(before.domains)} domains; give it domains: each")
    return before.network, before.number
