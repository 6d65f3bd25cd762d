"""Objectives on histories in order: hand values, and what enters which loss."""

import pytest
import torch
import torch.nn.functional as F

from recot.data.interactions import Interactions
from recot.networks.sasrec import SASRec
from recot.sequential import NextGaussian, NextItem


@pytest.fixture
def ordered():
    users, items = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([3, 4, 1, 0, 5, 2, 6])
    return Interactions.from_pairs(users, items, 2, 15, times=torch.arange(7))


def test_next_item_is_two_cross_entropies_per_position(ordered, rng):
    network = SASRec(2, 15, dim=4, max_length=8).eval()
    batch = next(NextItem(2, negatives=2).batches(ordered, rng, True))
    loss, _ = NextItem(2, negatives=2)(network, batch)
    states = network.states(network.layout(batch.query.history))
    for row, (state, item, others) in enumerate(zip(states, batch.items, batch.negatives, strict=True)):
        expected = F.softplus(-state @ network.table.weight[item]) + sum(
            F.softplus(state @ network.table.weight[other]) for other in others)
        torch.testing.assert_close(loss[row], expected)


def test_next_item_reads_no_more_than_the_network_does(ordered, rng):
    network = SASRec(2, 15, dim=4, max_length=2).eval()
    loss, batch = NextItem(2)(network, next(NextItem(2).batches(ordered, rng, True)))
    assert len(loss) == 4 and batch.query.history.lengths.tolist() == [2, 2]


def test_next_gaussian_by_hand():
    state, items = torch.tensor([[0.0, 1.0]]), torch.tensor([[[1.0, 1.0], [3 ** 0.5, 1.0]]])  # distances 1 and 3
    between = (3 ** 0.5 - 1) ** 2
    plain, hinged = (NextGaussian(pvn=pvn).compare(state, items).item() for pvn in (0.0, 1.0))
    assert plain == pytest.approx(0.126928, abs=1e-5) and hinged - plain == pytest.approx(1 - between, abs=1e-5)


def test_next_gaussian_wants_something_to_be_farther_away():
    for wrong in ({"negatives": 0}, {"pvn": -0.1}):
        with pytest.raises(ValueError, match=r"loss\.pvn"):
            NextGaussian(**wrong)
