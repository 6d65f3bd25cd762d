"""Convolutions over the latest items: the filters written out, padding, and the score."""

import pytest
import torch
import torch.nn.functional as F

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.caser import Caser

N_USERS, N_ITEMS, DIM, HEIGHT = 3, 20, 6, 4


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Caser(N_USERS, N_ITEMS, DIM, HEIGHT, n_vertical=2, n_horizontal=3).eval()
    for parameter in network.parameters():  # at 1/d the filters would hardly matter
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def query(*rows):
    return Query(torch.arange(len(rows)) % N_USERS, Ragged.from_lists([list(row) for row in rows]))


def test_one_vertical_filter_of_ones_adds_the_vectors_up():
    network = Caser(N_USERS, N_ITEMS, DIM, HEIGHT, n_vertical=1, n_horizontal=0)
    with torch.no_grad():
        network.vertical.weight.fill_(1.0)
        network.vertical.bias.zero_()
    found = network.found(network.image(Ragged.from_lists([[1, 2, 3, 4], [5, 6]])))
    table = network.item_table.weight
    torch.testing.assert_close(found, torch.stack([table[1:5].sum(0), table[5:7].sum(0)]))


def test_filters_of_height_one_do_not_see_the_order_and_the_others_do(network):
    network.vertical = None
    first, second = network.found(network.image(Ragged.from_lists([[1, 2, 3, 4], [3, 1, 4, 2]])))
    torch.testing.assert_close(first[:3], second[:3])
    assert all((first[start : start + 3] - second[start : start + 3]).abs().max() > 1e-3 for start in (3, 6))


def test_a_user_is_what_the_convolutions_of_torch_find_and_a_vector(network):
    """The layers as images of one channel, which is how the paper draws them."""
    asked = query([1, 2, 3, 4], [9, 8, 7, 6])
    image = network.item_table.weight[torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6]])][:, None]  # (2, 1, L, d)
    down = F.conv2d(image, network.vertical.weight[:, None, :, None], network.vertical.bias)  # (2, 2, 1, d)
    found = [down.squeeze(2).transpose(1, 2).flatten(1)]  # ours has the filters of a coordinate side by side
    for layer in network.horizontal:
        across = F.conv2d(image, layer.weight.mT[:, None], layer.bias).squeeze(3)
        found.append(F.max_pool1d(across.relu(), across.shape[2]).squeeze(2))
    z = F.relu(F.linear(torch.cat(found, 1), network.narrow.weight, network.narrow.bias))
    torch.testing.assert_close(network.users(asked), torch.cat([z, network.user_table.weight[:2], torch.ones(2, 1)], 1))
    assert z.any()


def test_a_score_is_an_inner_product_and_a_bias(network):
    asked = query([1, 2, 3, 4], [5])
    weight = network.output.weight
    expected = network.users(asked)[:, :-1] @ weight[:, :-1].T + weight[:, -1]
    torch.testing.assert_close(network.score(asked), expected)
    torch.testing.assert_close(network.items(torch.tensor([[3, 4]]))[0], network.items()[3:5])


def test_what_is_missing_of_a_history_is_zero_and_learns_nothing(network):
    image = network.image(Ragged.from_lists([[7, 2], [], [1, 2, 3, 4]]))
    assert image.shape == (3, DIM, HEIGHT) and not image[0, :, :2].any() and not image[1].any()
    torch.testing.assert_close(image[0, :, 2:].T, network.item_table.weight[[7, 2]])
    network.train()
    network.users(query([7, 2], [], [7])).sum().backward()
    assert network.item_table.weight.grad.any(1).nonzero().flatten().tolist() == [2, 7]


def test_only_the_latest_items_are_read(network):
    users = network.users(Query(torch.zeros(3, dtype=torch.int64), Ragged.from_lists([[9, 1, 2, 3, 4], [1, 2, 3, 4],
                                                                                      [1, 2, 3]])))
    assert torch.equal(users[0], users[1]) and not torch.equal(users[1], users[2])
    assert network.users(query([])).shape == network.users(query([], [1]))[:1].shape == (1, 2 * DIM + 1)


def test_users_of_one_history_differ_by_their_vectors_alone(network):
    users = network.users(query([1, 2], [1, 2]))
    assert torch.equal(users[0, :DIM], users[1, :DIM]) and not torch.equal(users[0], users[1])


def test_parameters_are_those_of_the_code_without_a_row_for_padding():
    network, d = Caser(22363, 12101), 64
    filters = 4 * (5 + 1) + sum(16 * (height * d + 1) for height in range(1, 6)) + d * (4 * d + 16 * 5) + d
    assert sum(parameter.numel() for parameter in network.parameters()) == 12101 * (3 * d + 1) + 22363 * d + filters


def test_tables_start_as_in_the_code():
    network = Caser(500, 500, dim=20)
    for weight, deviation in ((network.user_table.weight, 0.05), (network.item_table.weight, 0.05),
                              (network.output.weight[:, :-1], 0.025)):
        assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.05)
    assert not network.output.weight[:, -1].any()


def test_dropout_acts_in_training_only(network):
    asked = query([1, 2, 3])
    assert torch.equal(network.users(asked), network.users(asked))
    network.train()
    assert not torch.equal(network.users(asked), network.users(asked))
