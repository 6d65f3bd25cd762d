"""Training pairs that closed forms are fitted to."""

import pytest
import torch

from recot.data.interactions import Interactions


@pytest.fixture
def train(rng):
    """60 users, 45 items, of which the last three have no user."""
    taken = torch.rand(60, 45, generator=rng) < torch.linspace(0.4, 0.05, 45)
    taken[:, 42:] = False
    return Interactions.from_pairs(*taken.nonzero(as_tuple=True), 60, 45)


@pytest.fixture
def weighted(train, rng):
    return train.reweighted(0.1 + 0.9 * torch.rand(len(train), generator=rng))
