"""NeuMF: the tower over vectors side by side, written out, and hand values."""

import pytest
import torch
import torch.nn.functional as F

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks import neumf
from recot.networks.neumf import NeuMF

FORMS = [{"factors": 8, "dim": 32, "layers": [32, 16, 8]}, {"factors": 0, "dim": 16, "layers": [50]},
         {"factors": 3, "dim": 4, "layers": [5]}]


def users(*ids):
    return Query(torch.tensor(ids), Ragged.from_lists([[] for _ in ids]))


def by_definition(network, user, item):
    """One pair: vectors side by side through the tower, products of factors, and one last layer over both."""
    f = network.factors
    p, q = network.user_table.weight[user], network.item_table.weight[item]
    first = torch.cat([network.of_user.weight, network.of_item.weight], 1)
    z = F.relu(F.linear(torch.cat([p[f:], q[f:]]), first, network.of_user.bias))
    for layer in network.similarity.tower:
        z = F.relu(layer(z))
    return network.similarity.output(torch.cat([p[:f] * q[:f], z]))[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("entries", [1, 200, 2**24])
def test_a_score_is_that_of_the_vectors_side_by_side(form, entries, monkeypatch):
    monkeypatch.setattr(neumf, "ENTRIES", entries)
    torch.manual_seed(0)
    network = NeuMF(5, 7, std=1.0, **form).double()
    torch.nn.init.normal_(network.of_user.bias)
    expected = torch.stack([torch.stack([by_definition(network, u, i) for i in range(7)]) for u in (4, 0)])
    torch.testing.assert_close(network.score(users(4, 0)), expected)
    pairs = network.similarity(network.users(users(4, 0))[:, None], network.items(torch.tensor([[6, 1], [2, 2]])))
    torch.testing.assert_close(pairs.squeeze(1), torch.stack([expected[0, [6, 1]], expected[1, [2, 2]]]))


def test_one_factor_and_a_tower_of_one_by_hand():
    """p q = 2 * 3 with weight 1/2, and relu(1 * 5 - 1 * 1 - 3) = 1 with weight 4, and a bias of 1/4."""
    network = NeuMF(1, 1, factors=1, dim=1, layers=[1])
    values = {"user_table.weight": [[2, 5]], "item_table.weight": [[3, 1]], "of_user.weight": [[1]],
              "of_user.bias": [-3], "of_item.weight": [[-1]], "similarity.output.weight": [[0.5, 4]],
              "similarity.output.bias": [0.25]}
    network.load_state_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})
    assert network.score(users(0)).item() == 0.5 * 6 + 4 * 1 + 0.25


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_learns(form):
    torch.manual_seed(0)
    network = NeuMF(5, 7, std=0.5, **form)
    network.score(users(0, 1, 2, 3, 4)).square().sum().backward()
    assert all(part.grad is not None and part.grad.any() for part in network.parameters())


def test_weights_start_as_the_authors_have_them():
    network = NeuMF(400, 300, 8, 32, [32, 16, 8])
    assert network.user_table.weight.std().item() == pytest.approx(0.01, rel=0.05)
    for half in (network.of_user, network.of_item):  # Glorot's limit for 64 -> 32
        assert half.weight.abs().max().item() == pytest.approx((6 / 96) ** 0.5, rel=0.02)
    assert network.similarity.output.weight.abs().max() <= (3 / 16) ** 0.5
    assert [layer.weight.shape for layer in network.similarity.tower] == [(16, 32), (8, 16)]
    assert not any(part.any() for name, part in network.named_parameters() if name.endswith("bias"))


def test_the_free_vectors_are_rows_of_the_tables():
    network = NeuMF(5, 7)
    ids = torch.tensor([[6, 0], [2, 2]])
    p, q = network.free(users(3, 1), ids)
    assert p.equal(network.user_table.weight[[3, 1]]) and q.equal(network.item_table.weight[ids])


@pytest.mark.parametrize(("words", "message"), [
    ({"dim": 0}, "model.dim = 0 is the width"), ({"factors": -1}, "model.factors = -1 is the width"),
    ({"layers": []}, r"model.layers = \[\] are the widths"), ({"layers": [8, 0]}, r"model.layers = \[8, 0\] are"),
    ({"std": 0.0}, "model.std = 0.0 lets no gradient")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        NeuMF(2, 3, **words)
