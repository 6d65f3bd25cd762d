"""Small fits by gradient descent, whole and interrupted."""

from functools import partial

import pytest
import torch

from recot.data.interactions import Interactions
from recot.data.split import ratio
from recot.denoise.soft_matching import SoftMatching
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks.factorisation import Tables
from recot.objectives.pairs import InfoNCE

QUICK = Training(max_epochs=4, patience=10, learning_rate=0.05, device="cpu", block=3, checkpoint_seconds=0)


def small_split(rng=None):
    """Two communities of 20 users who take items of their own half."""
    rng = rng or torch.Generator().manual_seed(1)
    own = torch.arange(40)[:, None] % 2 == torch.arange(30) % 2
    users, items = ((torch.rand(40, 30, generator=rng) < 0.7) & own).nonzero(as_tuple=True)
    return ratio(Interactions.from_pairs(users, items, 40, 30))


def gradient(training=QUICK, objective=None, denoiser=None, **given):
    return Gradient(partial(Tables, dim=8), objective or InfoNCE(64), denoiser or SoftMatching(), training, **given)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def interrupted(folder):
    """A folder with the checkpoint of a run that stopped after two epochs."""
    class Stop(Exception):
        pass

    def observe(history):
        if len(history) == 3:
            raise Stop

    with pytest.raises(Stop):
        gradient(folder=folder, observe=observe).fit(small_split())
    return folder / "last.ckpt"
