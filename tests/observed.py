"""Small training sets."""

import torch

from recot.data.interactions import Interactions


def interactions(rng, n_users=30, n_items=40, share=0.2):
    users, items = (torch.rand(n_users, n_items, generator=rng) < share).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, n_users, n_items)
