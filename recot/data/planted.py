"""Data with a known answer: communities of users and items, and noise that is marked."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recot.data.dataset import Dataset
from recot.data.interactions import Domain, Interactions, sorted_order
from recot.data.noise import unobserved_pairs

VERSION = 2                            # of the recipe: raise it whenever the same settings give other pairs
START, HOUR = 1_000_000_000, 3600      # seconds


class Planted:
    """Users who take items of their own community, in a known order, plus marked noise.

    Every user and every item belongs to one community; within a community, the item of popularity rank r has weight
    ``r ** -popularity_exponent``. A user takes a Poisson number of different items, each draw proportional to the
    weights, and walks through them in rising item id from a random start, round the end to the beginning. So the
    next item lies a little above the last one, which a sequential model can learn and a set model cannot.

    Of all pairs the share ``noise`` is drawn regardless of communities: users in proportion to their clean pairs,
    items uniformly outside the user's own, at random moments between the user's other pairs. These pairs are marked in
    ``interactions.noisy``, and ``recot.data.split.ratio`` puts marked pairs into training only: a target drawn at
    random can be predicted by nobody, and would only dilute the metric. Hence the share of noise in training is a
    little above ``noise``.

    Args:
        n_users, n_items, n_communities: sizes; communities differ by at most one item and one user.
        mean_activity: mean number of clean pairs per user; no user has fewer than 5.
        popularity_exponent: 0 makes all items of a community equally popular.
        noise: noisy pairs over all pairs, at least 0 and at most 0.5.
        data_seed: another seed, other communities and pairs.
        n_domains: how many domains the items are dealt into; each has items of every community.

    Attributes:
        user_communities: (n_users,) int64.
        item_communities: (n_items,) int64.
        item_weights: (n_items,) float32, the popularity of each item within its community, up to a factor.

    Raises:
        ValueError: the communities are too small for ``mean_activity``, or ``noise`` is out of range.
    """

    def __init__(self, n_users: int = 400, n_items: int = 300, n_communities: int = 6, mean_activity: float = 20.0,
                 popularity_exponent: float = 0.6, noise: float = 0.1, data_seed: int = 0,
                 n_domains: int = 1) -> None:
        size = n_items // max(n_communities, 1)
        if not (1 <= n_communities <= n_users and 5 <= mean_activity <= size / 2):
            raise ValueError(f"{n_users} users and {n_items} items in {n_communities} communities of {size} items do "
                             f"not suit a mean of {mean_activity} items per user; use a mean of at least 5 and at most "
                             "half a community, and no more communities than users")
        if not 0 <= noise <= 0.5:
            raise ValueError(f"noise is a share of all pairs, got {noise}; use a number from 0 to 0.5")
        if not 1 <= n_domains <= size:
            raise ValueError(f"communities of {size} items do not have one in each of {n_domains} domains; give 1 to "
                             f"{size} domains")
        self.settings = {"n_users": n_users, "n_items": n_items, "n_communities": n_communities,
                         "mean_activity": float(mean_activity), "popularity_exponent": float(popularity_exponent),
                         "noise": float(noise), "data_seed": data_seed}
        self.settings |= {"n_domains": n_domains} if n_domains > 1 else {}  # without, the digest is what it was
        bounds = [number * n_items // n_domains for number in range(n_domains + 1)]
        self.domains = tuple(Domain(f"domain{number}", start, stop) for number, (start, stop) in enumerate(
            pairwise(bounds)))[:n_domains if n_domains > 1 else 0]
        self.mean_activity, self.noise = float(mean_activity), float(noise)
        rng = torch.Generator().manual_seed(data_seed)
        self.user_communities = torch.randperm(n_users, generator=rng) % n_communities
        self.item_communities = torch.randperm(n_items, generator=rng) % n_communities
        rank = torch.empty(n_items)
        for community in range(n_communities):
            members = (self.item_communities == community).nonzero().flatten()
            rank[members[torch.randperm(len(members), generator=rng)]] = torch.arange(1.0, len(members) + 1)
        self.item_weights = rank ** -popularity_exponent
        self._state = rng.get_state()

    def digest(self) -> str:
        """16 hexadecimal digits that change with the settings and with the recipe."""
        return hashlib.sha256(json.dumps([VERSION, self.settings], sort_keys=True).encode()).hexdigest()[:16]

    def load(self) -> Dataset:
        """The pairs, the same at every call; ids are their own raw ids, and nothing was dropped."""
        rng = torch.Generator()
        rng.set_state(self._state)
        users, items, step = self._walks(rng)
        n_users, n_items = len(self.user_communities), len(self.item_communities)
        clean = Interactions.from_pairs(users, items, n_users, n_items)
        n_noisy = round(len(clean) * self.noise / (1 - self.noise))
        noisy_users, noisy_items = unobserved_pairs(clean, clean.keys, n_noisy, "user", rng)
        moment = torch.rand(n_noisy, generator=rng, dtype=torch.float64) * clean.activity[noisy_users]
        users, items = torch.cat([users, noisy_users]), torch.cat([items, noisy_items])
        order = torch.cat([step, moment]).argsort(stable=True)
        order = order[sorted_order(users[order])]                                     # by user, then moment
        activity = torch.bincount(users, minlength=n_users)
        place = torch.arange(len(users)) - (activity.cumsum(0) - activity)[users[order]]
        noisy = torch.arange(len(users)) >= len(clean)
        interactions = Interactions.from_pairs(users[order], items[order], n_users, n_items,
                                               times=START + HOUR * place, noisy=noisy[order],
                                               domains=self.domains)
        return Dataset(interactions, np.arange(n_users), np.arange(n_items), {})

    def _walks(self, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Users, items and step of the clean pairs, (n,) each: int64, int64, float64."""
        n_users, n_items = len(self.user_communities), len(self.item_communities)
        foreign = self.user_communities[:, None] != self.item_communities
        size = (~foreign).sum(1)
        activity = (5 + torch.poisson(torch.full((n_users,), self.mean_activity - 5), generator=rng)).minimum(size)
        # The k largest of log weight + Gumbel noise are k draws without replacement, in proportion to the weights.
        gumbel = -torch.empty(n_users, n_items).exponential_(generator=rng).log()
        score = (self.item_weights.log() + gumbel).masked_fill(foreign, -torch.inf)       # (n_users, n_items)
        rank = score.argsort(dim=1, descending=True).argsort(dim=1)
        users, items = (rank < activity[:, None]).nonzero(as_tuple=True)
        lengths = torch.bincount(users, minlength=n_users)
        start = (torch.rand(n_users, generator=rng) * lengths).long()
        place = torch.arange(len(users)) - (lengths.cumsum(0) - lengths)[users]
        return users, items, ((place - start[users]) % lengths[users]).double()
