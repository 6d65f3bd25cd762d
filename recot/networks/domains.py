"""What networks share that have another vector of a user for each domain of items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recot.data.interactions import Domain
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn import similarity


class ByDomain(TwoTower):
    """A network where a user has a vector for each domain, and an item is compared with that of its own.

    Subclasses define :meth:`views`, :meth:`vectors` and, where it saves work, :meth:`within`. As an encoder it has long
    vectors: those of a user stand side by side, and that of an item is zero outside of its domain. Their inner product
    is the score, so any objective may train it.

    Args:
        n_items: size. domains: the ranges of items, in order and without a gap; none are one of all items.
    """

    by_domain = True

    def __init__(self, n_items: int, domains: Sequence[Domain] = ()):
        super().__init__()
        self.similarity = similarity.dot
        self.domains = tuple(domains) or (Domain("all", 0, n_items),)
        sizes = torch.tensor([domain.stop - domain.start for domain in self.domains])
        self.register_buffer("domain", torch.arange(len(sizes)).repeat_interleave(sizes), persistent=False)
        self.domain: Tensor  # (n_items,) the domain of each item

    def sample(self, rng: torch.Generator) -> None:
        """Draw what holds for an epoch; called before its first batch by an objective that knows of domains."""

    def views(self, query: Query) -> Tensor:
        """(b, n, d): the vectors of b users in n domains."""
        raise TypeError(f"{type(self).__name__} is a ByDomain and has to define views(query)")

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d), or (n_items, d): the vectors of items, to be compared with those of users in their domain.
        """
        raise TypeError(f"{type(self).__name__} is a ByDomain and has to define vectors(ids)")

    def within(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(b, d) and (b, k, d) of b users and, for each, of k items from one domain, which is that of the first."""
        own = self.domain[ids[:, 0]]  # (b,)
        return self.views(query)[torch.arange(len(own), device=own.device), own], self.vectors(ids)

    def users(self, query: Query) -> Tensor:
        """(b, n * d)."""
        return self.views(query).flatten(1)  # (b, n * d)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, n * d), or (n_items, n * d)."""
        domain = self.domain if ids is None else self.domain[ids]
        places = torch.arange(len(self.domains), device=domain.device)
        own = (domain[..., None] == places)[..., None]  # (*ids.shape, n, 1)
        return (self.vectors(ids)[..., None, :] * own).flatten(-2)  # (*ids.shape, n * d)

    def score(self, query: Query) -> Tensor:
        """(b, n_items): the products of :meth:`users` and :meth:`items`, domain by domain and without the zeros."""
        self.refuse_strangers(query)
        users, items = self.views(query), self.vectors()
        return torch.cat([users[:, number] @ items[domain.items].T for number, domain in enumerate(self.domains)], 1)

    def score_of(self, query: Query, ids: Tensor) -> Tensor:
        """(b, n) of items (n,), or (b, c) of items (b, c); without the zeros as well."""
        self.refuse_strangers(query)
        scores = self.views(query) @ self.vectors(ids).mT  # (b, n_domains, c)
        return scores.gather(1, self.domain[ids].expand(len(scores), -1)[:, None]).squeeze(1)  # (b, c)
