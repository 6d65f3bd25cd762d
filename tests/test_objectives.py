"""Which scores enter which loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from recot.data.batches import pairs
from recot.data.interactions import Interactions
from recot.networks.tables import Tables
from recot.objectives import BPR, InfoNCE


@pytest.fixture
def train(rng):
    users, items = (torch.rand(12, 15, generator=rng) < 0.3).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 12, 15)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Tables(12, 15, dim=4)


def test_bpr_compares_each_item_with_its_own_negatives(train, network, rng):
    objective = BPR(batch_size=10, negatives=2)
    batch = next(objective.batches(train, rng, history=False))
    z, v = network.user_table.weight[batch.query.users], network.item_table.weight
    margins = (z[:, None] * (v[batch.negatives] - v[batch.items][:, None])).sum(-1)
    torch.testing.assert_close(objective(network, batch)[0], F.softplus(margins).mean(1))


def test_bpr_of_equal_embeddings_is_log_two(train, network, rng):
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)
    objective = BPR(batch_size=10)
    loss, _ = objective(network, next(objective.batches(train, rng, history=False)))
    assert loss.tolist() == pytest.approx([math.log(2)] * 10)


def test_infonce_is_cross_entropy_of_cosines_over_tau(train, network, rng):
    objective = InfoNCE(batch_size=10, tau=0.3)
    batch = next(objective.batches(train, rng, history=False))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    expected = F.cross_entropy(u @ v.T / 0.3, torch.arange(10), reduction="none")
    torch.testing.assert_close(objective(network, batch)[0], expected)


def test_symmetric_averages_both_directions(train, network, rng):
    batch = next(pairs(train, 10, rng))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    logits = u @ v.T / 0.3
    both = (F.cross_entropy(logits, torch.arange(10)) + F.cross_entropy(logits.T, torch.arange(10))) / 2
    torch.testing.assert_close(InfoNCE(10, 0.3, symmetric=True)(network, batch)[0].mean(), both)


def test_mask_takes_observed_columns_out_of_the_denominator(train, network, rng):
    objective = InfoNCE(batch_size=20, tau=0.3, duplicates="mask")
    batch = next(objective.batches(train, rng, history=False))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    logits = u @ v.T / 0.3
    for row, user in enumerate(batch.query.users):
        kept = [j for j, item in enumerate(batch.items)
                if j == row or not train.contains(user[None], item[None]).item()]
        expected = logits[row, kept].logsumexp(0) - logits[row, row]
        torch.testing.assert_close(objective(network, batch)[0][row], expected)
    assert batch.observed.sum() > 20  # otherwise nothing was masked


def test_multi_positive_shares_the_target_among_observed_columns(train, network, rng):
    objective = InfoNCE(batch_size=20, tau=0.3, duplicates="multi_positive")
    batch = next(objective.batches(train, rng, history=False))
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(20))
    assert batch.targets.gt(0).equal(batch.observed) and batch.targets.max(1).values.min() < 1
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    expected = -(batch.targets * (u @ v.T / 0.3).log_softmax(-1)).sum(-1)
    torch.testing.assert_close(objective(network, batch)[0], expected)


def test_weights_of_pairs_multiply_their_loss(train, network, rng):
    weights = torch.rand(len(train), generator=rng)
    for objective in (BPR(10), InfoNCE(10)):
        plain = objective(network, next(objective.batches(train, rng.manual_seed(3), history=False)))[0]
        batch = next(objective.batches(train.reweighted(weights), rng.manual_seed(3), history=False))
        torch.testing.assert_close(objective(network, batch)[0], plain * batch.weights)


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="common values lie in"):
        InfoNCE(tau=0)
