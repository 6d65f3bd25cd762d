"""The control: soft targets that know popularity and nothing else."""

import pytest
import torch

from recot.batches.pairs import pairs
from recot.data.interactions import Interactions
from recot.denoise.smoothing import PopularitySmoothing
from recot.networks.factorisation import Tables


@pytest.fixture
def train(rng):
    users, items = (torch.rand(12, 15, generator=rng) < 0.3).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 12, 15)


def bound(train, **given):
    denoiser = PopularitySmoothing(**given)
    denoiser.bind(Tables(12, 15, dim=4), train)
    return denoiser


def test_off_the_diagonal_targets_are_in_proportion_to_popularity(train, rng):
    batch = next(pairs(train, 10, rng))
    targets = bound(train, alpha=0.7, kappa=0.5).before(batch, None).targets
    share = train.popularity[batch.items].float().sqrt().repeat(10, 1).fill_diagonal_(0.0)
    expected = 0.7 * torch.eye(10) + 0.3 * share / share.sum(1, keepdim=True)
    torch.testing.assert_close(targets, expected)


def test_kappa_zero_is_label_smoothing_and_alpha_one_no_smoothing(train, rng):
    batch = next(pairs(train, 10, rng))
    torch.testing.assert_close(bound(train, kappa=0.0).before(batch, None).targets,
                               0.9 * torch.eye(10) + 0.1 * (1 - torch.eye(10)) / 9)
    torch.testing.assert_close(bound(train, alpha=1.0).before(batch, None).targets, torch.eye(10))


def test_columns_the_user_took_get_nothing_and_rows_sum_to_one(train, rng):
    batch = next(pairs(train, 10, rng, observed=True))
    targets = bound(train).before(batch, None).targets
    torch.testing.assert_close(targets.sum(1), torch.ones(10))
    assert not targets[batch.observed & ~torch.eye(10, dtype=torch.bool)].any()


def test_a_row_whose_every_other_column_is_taken_keeps_its_own():
    train = Interactions.from_pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), 1, 2)
    batch = next(pairs(train, 2, torch.Generator().manual_seed(0), observed=True))
    denoiser = PopularitySmoothing()
    denoiser.bind(None, train)
    torch.testing.assert_close(denoiser.before(batch, None).targets, torch.eye(2))
