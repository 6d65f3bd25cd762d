"""Cosines as probabilities, one domain at a time."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from domains import DOMAINS, before, joint

from recot.batches.alternating import alternating
from recot.networks.ga_mtcdr import GA_MTCDR
from recot.objectives.alternating import AlternatingBCE, apartness, entropies


@pytest.fixture
def network():
    stage = before(12, dim=4)
    torch.manual_seed(0)
    return GA_MTCDR(12, 15, DOMAINS, stage)


@pytest.fixture
def train(rng):
    return joint(rng, 12)


def test_what_a_cosine_costs_by_hand():
    """The first item is observed: at cosine 0, and against negatives at 0 and at 0.6."""
    users, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 3.0], [0.0, 1.0], [0.6, 0.8]]])
    found = entropies(users.double(), items.double())[0].tolist()
    assert found == pytest.approx([13.815511, 1e-6, -math.log(0.4)], rel=1e-6)
    assert entropies(users, items[:, 1:])[0, 1].item() == pytest.approx(-math.log(0.4), rel=1e-6)
    assert entropies(users, users[:, None].repeat(1, 2, 1))[0].tolist() == pytest.approx([1e-6, 13.8155], rel=0.05)


def test_the_mean_of_the_loss_is_the_sum_of_the_method(network, train, rng):
    objective = AlternatingBCE(24, negatives=3)
    batch = next(objective.batches(train, rng, network, 0))
    items = torch.cat([batch.items[:, None], batch.negatives], 1)
    users, ids = network.towers(batch.query.users, items, batch.number)
    rows = users[:, None].expand_as(ids)
    y = F.cosine_similarity(rows, ids, dim=-1).clamp(1e-6, 1 - 1e-6)
    labels = torch.zeros_like(y)
    labels[:, 0] = 1
    norms = rows.square().sum() + ids.square().sum()
    expected = F.binary_cross_entropy(y, labels, reduction="sum") + 0.001 / 2 * norms
    loss, _ = objective(network, batch)
    assert loss.shape == (6, 4)
    torch.testing.assert_close(loss.mean(), expected)


def test_weights_scale_the_observed_item_only(network, train, rng):
    objective = AlternatingBCE(24, negatives=3, penalty=0.0)
    batch = next(objective.batches(train, rng, network, 0))
    plain, halved = (objective(network, replace(batch, weights=weights))[0]
                     for weights in (None, torch.full((6,), 0.5)))
    torch.testing.assert_close(halved[:, 0], plain[:, 0] / 2)
    assert halved[:, 1:].equal(plain[:, 1:])


def test_the_domains_take_turns_and_the_longer_ones_go_on_alone(train, rng):
    batches = list(alternating(train, 7, rng, 2))
    sizes = [sum(int(domain.start <= item < domain.stop) for item in train.items) for domain in DOMAINS]
    counts = [-(-size // 7) for size in sizes]
    turns = [number for turn in range(max(counts)) for number in range(3) if turn < counts[number]]
    assert [batch.number for batch in batches] == turns and len({*counts}) > 1
    keys = torch.cat([batch.query.users * 15 + batch.items for batch in batches])
    assert keys.sort().values.equal(train.keys)
    for batch in batches:
        own = DOMAINS[batch.number]
        everything = torch.cat([batch.items[:, None], batch.negatives], 1)
        assert bool(((everything >= own.start) & (everything < own.stop)).all())


def test_a_step_has_as_many_rows_as_the_batch_size(network, train, rng):
    batch = next(AlternatingBCE(32).batches(train, rng, network, 0))
    assert batch.negatives.shape == (4, 7)


def test_the_p_term_by_hand_and_its_sign(network, train, rng):
    own = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]])  # squared distances 1, 0, 1
    expected = (2 * (1 - math.exp(-1 / 0.5))) / 3
    assert apartness(own, 0.5).item() == pytest.approx(expected)
    assert apartness(own).item() == pytest.approx(2 / 3)  # theta 2 / 100
    assert apartness(own[:1]).item() == 0.0
    given = own.clone().requires_grad_()
    apartness(given, 0.5).backward()
    assert given.grad[0, 0, 0] > 0 > given.grad[1, 0, 0]  # a step against it brings them together


def test_the_p_term_is_added_once_to_the_loss_of_a_step(network, train, rng):
    plain, personalised = AlternatingBCE(24), AlternatingBCE(24, personalised=True, theta=3.0)
    batch = next(plain.batches(train, rng, network, 0))
    torch.testing.assert_close(personalised(network, batch)[0].mean(),
                               plain(network, batch)[0].mean() + apartness(network.own(), 3.0))


@pytest.mark.parametrize(("words", "message"), [
    ({"negatives": 0}, "loss.negatives = 0 leaves"), ({"penalty": -1.0}, "loss.penalty = -1.0 would reward"),
    ({"theta": 0.0}, "loss.theta = 0.0 is a scale")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        AlternatingBCE(**words)
