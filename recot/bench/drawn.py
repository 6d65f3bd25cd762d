"""What is drawn to be measured on: pairs of the size of Gowalla, and users by their tastes."""

from __future__ import annotations

import torch
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.questions import Split
from recot.data.split import ratio

N_USERS, N_ITEMS, N_PAIRS, DIM, BATCH = 29_858, 40_981, 1_027_370, 64, 1024


def synthetic(seed: int = 0) -> Split:
    """A split of the size and skew of Gowalla: users with 9 items or more, items by a power law."""
    rng = torch.Generator().manual_seed(seed)
    activity = torch.rand(N_USERS, generator=rng, dtype=torch.float64).pow(-0.6)
    drawn = torch.multinomial(activity, N_PAIRS - 12 * N_USERS, replacement=True, generator=rng)
    users = torch.cat([torch.arange(N_USERS).repeat_interleave(12), drawn])
    weights = torch.arange(1, N_ITEMS + 1, dtype=torch.float64).pow(-0.7)
    items = torch.multinomial(weights, len(users), replacement=True, generator=rng)
    keys = (users * N_ITEMS + items).unique()
    return ratio(Interactions.from_pairs(keys // N_ITEMS, keys % N_ITEMS, N_USERS, N_ITEMS))


def tastes(n_users: int, popularity: Tensor, rng: torch.Generator) -> Interactions:
    """Users of 74 items on average, drawn by ``popularity`` (n_items,)."""
    lengths = (45 * torch.rand(n_users, generator=rng).pow(-0.4)).long().clamp(5, 1_000)
    items = torch.cat([torch.multinomial(popularity, int(length), generator=rng) for length in lengths])
    return Interactions.from_pairs(torch.arange(n_users).repeat_interleave(lengths), items, n_users, len(popularity))
