"""node2vec: whose vector is whose, and what walks make alike."""

import pytest
import torch
import torch.nn.functional as F
from domains import question

from recot.batches.walks import Walks
from recot.data.interactions import Interactions
from recot.networks.node2vec import Node2Vec
from recot.nn.table import clear_gradients
from recot.objectives.walks import SkipGram


def trained(train, objective, epochs=1, rate=0.02):
    torch.manual_seed(0)
    network, rng = Node2Vec(train.n_users, train.n_items, dim=8), torch.Generator().manual_seed(0)
    network.bind(train)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for epoch in range(epochs):
        for batch in objective.batches(train, rng, network, epoch):
            objective(network, batch)[0].mean().backward()
            optimizer.step()
            clear_gradients(network)
    return network.eval()


@pytest.fixture
def stars():
    """User u takes the items 3 u, 3 u + 1 and 3 u + 2, in ids that are shuffled: components that share no node."""
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    users, items = order.repeat_interleave(3), torch.arange(18)
    return Interactions.from_pairs(users, items, 7, 20)


def test_the_vector_of_a_node_is_found_by_its_id(stars):
    """A user is more like each of its items than any other item; rows ordered in another way would fail."""
    network = trained(stars, SkipGram(32, per_node=40, length=10, window=5), epochs=4)
    scores = network.score(question(*range(6)))[:, :18]
    own = stars.by_user.dense(20).bool()[:6, :18]
    assert bool((scores.where(own, 2.0).amin(1) > scores.where(~own, -2.0).amax(1) + 0.1).all())
    assert network.items(torch.tensor([3])).equal(network.centres.weight[[7 + 3]])
    assert network.items().equal(network.centres.weight[7:]) and network.users(question(2))[0].equal(
        network.centres.weight[2])


def test_nodes_without_a_pair_are_zero_and_stay_so(stars):
    network = trained(stars, SkipGram(32, per_node=4))
    assert not network.users(question(6)).any() and not network.items(torch.tensor([18, 19])).any()
    assert bool((network.centres.weight[:6].norm(dim=1) > 0).all())


def test_a_network_that_has_learnt_nothing_has_the_loss_of_a_guess(stars, rng):
    network, objective = Node2Vec(7, 20), SkipGram(16, negatives=5)
    loss, _ = objective(network, next(objective.batches(stars, rng, network, 0)))
    torch.testing.assert_close(loss, torch.full((16,), 6 * 0.693147))


@pytest.mark.parametrize(("length", "window"), [(5, 2), (4, 9)])
def test_the_loss_of_a_walk_is_the_sum_over_its_pairs_written_out(length, window):
    torch.manual_seed(0)
    network, objective = Node2Vec(4, 5, dim=3), SkipGram(window=window, negatives=4, drawn=3)
    torch.nn.init.normal_(network.contexts.weight)
    torch.nn.init.normal_(network.centres.weight)
    nodes, drawn = torch.randint(9, (length,)).tolist(), [1, 8, 1]
    z, c = network.centres.weight, network.contexts.weight
    total, weights = torch.zeros(()), 0.0
    for i, a in enumerate(nodes):
        for j, b in enumerate(nodes):
            if i != j and abs(i - j) <= window:
                weight = (window + 1 - abs(i - j)) / window
                against = torch.stack([F.logsigmoid(-z[a] @ c[k]) for k in drawn]).mean()
                total, weights = total - weight * (F.logsigmoid(z[a] @ c[b]) + 4 * against), weights + weight
    found = objective(network, Walks(torch.tensor([nodes]), torch.tensor([drawn])))[0]
    torch.testing.assert_close(found, (total / weights)[None])


@pytest.mark.parametrize(("words", "message"), [
    ({"per_node": 0}, "loss.per_node = 0 leaves"), ({"length": 1}, "loss.length = 1 is a number of nodes"),
    ({"window": 0}, "loss.window = 0 leaves"), ({"negatives": 0}, "loss.negatives = 0 leaves"),
    ({"drawn": 0}, "loss.drawn = 0 leaves")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        SkipGram(**words)


def test_a_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="model.dim = 0 is the width"):
        Node2Vec(2, 3, dim=0)
