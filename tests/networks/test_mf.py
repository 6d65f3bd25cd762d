"""Matrix factorisation of whole rows: the regression that serves anybody, and what its loss is."""

import pytest
import torch
from commands import composed

from recot.batches.rows import Rows
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.mf import MF, regressed
from recot.objectives.rows import Squared
from recot.request.errors import RequestError


def asked(*rows, users=None):
    return Query(torch.tensor(users or [-1] * len(rows)), Ragged.from_lists(list(rows)))


def test_one_dimension_by_hand():
    """Items at 1 and 2, of which the first was taken: the user is at 1 / (5 + ridge)."""
    found = regressed(torch.tensor([[1.0]]), torch.tensor([[1.0], [2.0]]), 5.0)
    assert found.item() == pytest.approx(0.1)


def test_the_vector_that_is_folded_in_is_optimal():
    """The gradient of its objective vanishes there, in float64."""
    network = MF(4, 30, 5, std=1.0, fold_in="als", ridge=0.3).double().eval()
    query = asked([3, 7, 20], [], list(range(30)))
    u = network.users(query).detach().requires_grad_()
    rows, items = query.history.dense(30).double(), network.items().detach()
    ((rows - u @ items.T).square().sum() + 0.3 * u.square().sum()).backward()
    assert u.grad.abs().max() < 1e-12 and not u[1].any()


def test_without_a_ridge_to_speak_of_a_row_in_the_span_of_the_items_is_reproduced():
    network = MF(1, 3, 3, std=1.0, fold_in="als", ridge=1e-6).eval()
    with torch.no_grad():
        network.item_table.weight.copy_(torch.tensor([[2.0, 0, 0], [0, 1, 0], [1, 0, 1]]))
    torch.testing.assert_close(network.score(asked([0, 2])), torch.tensor([[1.0, 0.0, 1.0]]), atol=1e-4, rtol=0)


def test_tables_train_and_histories_answer_where_users_are_folded_in():
    network = MF(2, 30, 5, fold_in="als")
    query = asked([3, 7], [1], users=[0, 1])
    assert network.train().users(query).equal(network.user_table.weight)
    network.eval()
    assert network.users(query).equal(network.users(asked([3, 7], [1])))
    assert network.inductive and not MF(2, 30, 5, fold_in="transductive").inductive


@pytest.mark.parametrize("words", ["model=mf model.fold_in=als", "model=mf model.fold_in=transductive",
                                   "model=neumf model.fold_in=transductive", "model=neumf_table4"])
def test_a_protocol_that_asks_about_unseen_users_wants_a_way_to_serve_them(words):
    asked = ("protocol=strong", *words.split())
    if "fold_in" in words:
        composed(*asked)
    else:
        with pytest.raises(RequestError, match="use model.fold_in=transductive"):
            composed(*asked)


@pytest.mark.parametrize("fold_in", ["none", "transductive"])
def test_other_networks_refuse_users_without_a_vector(fold_in):
    with pytest.raises(ValueError, match="pick an inductive model"):
        MF(2, 30, 5, fold_in=fold_in).eval().score(asked([3]))


def test_the_tables_start_from_the_deviation_that_is_asked_for():
    network = MF(400, 300, 16, std=0.05)
    for table in (network.user_table, network.item_table):
        assert table.weight.std().item() == pytest.approx(0.05, rel=0.05)


def test_the_squared_error_of_a_row_by_hand():
    """User 0 with vector 1 took the first of items at 0.5 and 2; user 1 at 0 took both, of which one in half."""
    network = MF(2, 2, 1)
    with torch.no_grad():
        network.user_table.weight.copy_(torch.tensor([[1.0], [0.0]]))
        network.item_table.weight.copy_(torch.tensor([[0.5], [2.0]]))
    query = asked([0], [0, 1], users=[0, 1])
    assert Squared()(network, Rows(query))[0].tolist() == pytest.approx([(0.25 + 4) / 2, 1.0])
    halved = Rows(query, weights=torch.tensor([1.0, 1.0, 0.5]))
    assert Squared()(network, halved)[0].tolist() == pytest.approx([(0.25 + 4) / 2, 1.25 / 2])


@pytest.mark.parametrize(("words", "message"), [({"std": 0.0}, "model.std = 0.0 lets no gradient"),
                                                ({"ridge": 0.0}, "model.ridge = 0.0 could divide by zero"),
                                                ({"dim": 0}, "model.dim = 0 is the width")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        MF(2, 3, **words)
