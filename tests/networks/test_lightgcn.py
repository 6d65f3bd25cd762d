"""LightGCN as an encoder: one propagation per step, fresh after every change, right gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F

from recot.batches.pairs import pairs
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.networks import lightgcn
from recot.networks.lightgcn import LightGCN
from recot.nn.graph import Graph, propagate
from recot.nn.lookup import Rows
from recot.nn.table import clear_gradients
from recot.objectives.pairs import BPR


@pytest.fixture
def train(rng):
    users, items = (torch.rand(12, 15, generator=rng) < 0.3).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 12, 15)


@pytest.fixture
def network(train):
    torch.manual_seed(0)
    made = LightGCN(12, 15, dim=4, n_layers=2)
    made.bind(train)
    return made


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def counting(function):
        return lambda *given: calls.append(1) or function(*given)

    monkeypatch.setattr(lightgcn, "propagate", counting(propagate))
    monkeypatch.setattr(lightgcn, "Rows", counting(Rows))
    return calls


def question(*users):
    return Query(torch.tensor(users), Ragged.from_lists([[]] * len(users)))


def test_without_layers_it_is_matrix_factorisation(train):
    network = LightGCN(12, 15, dim=4, n_layers=0)
    network.bind(train)
    torch.testing.assert_close(network.score(question(3, 5)),
                               network.user_table.weight[[3, 5]] @ network.item_table.weight.T)


def test_all_look_ups_of_a_step_share_one_propagation(network, train, rng, counted):
    optimizer = torch.optim.Adam(network.parameters(), 0.1, fused=True)
    for batch in pairs(train, 10, rng, negatives=1):
        loss, _ = BPR(penalty=0.1)(network, batch)
        loss.mean().backward()
        optimizer.step()
        clear_gradients(network)
        network.after_step()
    assert len(counted) == -(-len(train) // 10)


def test_all_chunks_of_an_evaluation_share_one_propagation_and_a_change_is_noticed(network, counted):
    network.eval()
    with torch.no_grad():
        before = [network.score(question(user)) for user in range(12)]
        assert len(counted) == 1
        network.user_table.weight.mul_(2)
        assert not torch.equal(network.score(question(0)), before[0]) and len(counted) == 2
        network.load_state_dict(network.state_dict())
        network.score(question(0))
    assert len(counted) == 3


def test_training_equals_a_plain_loop_over_dense_propagation(network, train):
    """With the training loop's own optimiser: vectors of an earlier step would show."""
    objective, batches = BPR(10), list(pairs(train, 10, torch.Generator().manual_seed(3), negatives=1))
    u, i = (table.weight.detach().clone().requires_grad_() for table in (network.user_table, network.item_table))
    operators = Graph.of(train.users, train.items, 12, 15).operators()
    ours, plain = (torch.optim.Adam(p, 0.1, fused=True) for p in (network.parameters(), (u, i)))
    for batch in batches:
        objective(network, batch)[0].mean().backward()
        ours.step()
        clear_gradients(network)
        network.after_step()
        zu, zi = propagate(u, i, operators, 2)
        margin = (zu[batch.query.users] * (zi[batch.negatives[:, 0]] - zi[batch.items])).sum(-1)
        plain.zero_grad()
        F.softplus(margin).mean().backward()
        plain.step()
    torch.testing.assert_close(network.user_table.weight.data, u.data, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_gradients_through_propagation_and_penalty_add_up_to_those_of_autograd(network, train, rng, form):
    """The penalty's look-ups write into the gradient themselves, propagation's gradient comes from autograd."""
    batch = next(pairs(train, 10, rng, negatives=1))
    objective = BPR(penalty=0.3, penalty_form=form)
    objective(network, batch)[0].mean().backward()
    u, i = (table.weight.detach().clone().requires_grad_() for table in (network.user_table, network.item_table))
    zu, zi = propagate(u, i, Graph.of(train.users, train.items, 12, 15).operators(), 2)
    items = torch.cat([batch.items[:, None], batch.negatives], 1)
    scores = (zu[batch.query.users][:, None] * zi[items]).sum(-1)
    loss = F.softplus(scores[:, 1] - scores[:, 0]) + objective.shrinkage(u[batch.query.users], i[items])
    for mine, expected in zip((network.user_table, network.item_table), torch.autograd.grad(loss.mean(), (u, i)),
                              strict=True):
        torch.testing.assert_close(mine.weight.grad, expected)
    clear_gradients(network)
    assert not network.user_table.weight.grad.any() and not network.item_table.weight.grad.any()


def test_another_training_set_is_another_graph(network, train):
    with torch.no_grad():
        before = network.score(question(0, 1))
        network.bind(train.select(torch.arange(len(train)) % 2 == 0))
        assert not torch.equal(network.score(question(0, 1)), before)


def test_a_copy_made_in_the_middle_of_a_step_follows_its_own_weights(network):
    network.users(question(0))
    teacher = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        teacher.user_table.weight.zero_()
        teacher.item_table.weight.zero_()
        assert not teacher.score(question(0)).any() and network.score(question(0)).any()


def test_edges_are_dropped_while_training_and_not_when_ranking(train):
    torch.manual_seed(0)
    network = LightGCN(12, 15, dim=4, n_layers=2, edge_drop_max=0.9)
    network.bind(train)
    trained = network.users(question(*range(12)))
    network.eval()
    whole = propagate(network.user_table(), network.item_table(), network.graph.whole, 2)[0]
    torch.testing.assert_close(network.users(question(*range(12))), whole)
    assert not torch.allclose(trained, whole)


@pytest.mark.parametrize(("init", "spread"), [("xavier_uniform", (2 / 1064) ** 0.5), ("normal", 0.1)])
def test_layer_zero_starts_with_the_stated_spread(init, spread):
    network = LightGCN(1000, 10, dim=64, init=init)
    assert network.user_table.weight.std().item() == pytest.approx(spread, rel=0.02)


def test_without_a_graph_it_says_what_to_call():
    with pytest.raises(RuntimeError, match=r"call bind\(train\) first"):
        LightGCN(3, 3).score(question(0))
