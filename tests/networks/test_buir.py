"""BUIR: the score, the target, the collapse it must not reach by itself."""

import pytest
import torch

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.networks.buir import BUIR


@pytest.fixture
def train(rng):
    users, items = (torch.rand(12, 15, generator=rng) < 0.3).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 12, 15)


@pytest.fixture(params=["tables", "lightgcn"])
def network(request, train):
    torch.manual_seed(0)
    made = BUIR(12, 15, dim=4, encoder=request.param, edge_drop_max=0.0)
    made.bind(train)
    return made


QUERY = Query(torch.tensor([3, 5]), Ragged.from_lists([[], []]))


def test_the_score_is_the_prediction_of_either_side_against_the_other(network):
    u, v, q = network.online.users(QUERY), network.online.items(), network.predictor
    torch.testing.assert_close(network.score(QUERY), q(u) @ v.T + u @ q(v).T)


def test_the_target_follows_by_exactly_its_share_and_takes_no_gradient(network):
    before = [p.clone() for p in network.target.parameters()]
    with torch.no_grad():
        for p in network.online.parameters():
            p.add_(1.0)
    network.after_step()
    for old, new, online in zip(before, network.target.parameters(), network.online.parameters(), strict=True):
        assert not new.requires_grad
        torch.testing.assert_close(new - old, 0.005 * (online - old))
    assert not any(t.requires_grad for t in network.targets(QUERY, torch.tensor([0, 1])))


def test_the_target_starts_as_a_copy(network):
    for slow, fast in zip(network.target.parameters(), network.online.parameters(), strict=True):
        torch.testing.assert_close(slow.data, fast.data, atol=0, rtol=0)


def test_an_optimiser_leaves_the_target_alone(network):
    before = [p.clone() for p in network.target.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), 0.1, weight_decay=0.1, fused=True)
    network.score(QUERY).sum().backward()
    optimizer.step()
    for old, new in zip(before, network.target.parameters(), strict=True):
        torch.testing.assert_close(new.data, old, atol=0, rtol=0)


def test_the_bias_is_zero_unless_the_authors_start_is_asked_for():
    assert not BUIR(3, 3, dim=64).predictor.bias.any()
    assert BUIR(3, 3, dim=64, bias="normal").predictor.bias.std().item() == pytest.approx(1.0, rel=0.3)
