"""BERT4Rec: what the state at a mask depends on, and the layers of torch without a causal mask."""

import pytest
import torch
import torch.nn.functional as F

from recot.batches.layout import Layout
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.bert4rec import BERT4Rec

N_ITEMS = 30


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = BERT4Rec(1, N_ITEMS, dim=8, max_length=6).eval()
    for parameter in network.parameters():  # at 0.02 nothing would look at anything in particular
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def asked(*rows):
    return Query(torch.zeros(len(rows), dtype=torch.int64), Ragged.from_lists([list(row) for row in rows]))


def states(network, *rows):
    return network.states(network.layout(asked(*rows).history))


@pytest.mark.parametrize("changed", [0, 1, 3, 4])
def test_a_mask_sees_every_other_item_before_and_after_it(network, changed):
    row = [5, 6, network.mask, 8, 9]
    other = [*row[:changed], 1, *row[changed + 1:]]
    assert (states(network, row)[2] - states(network, other)[2]).abs().max() > 1e-3


def test_a_mask_sees_the_order_of_the_items(network):
    assert (states(network, [5, 6, N_ITEMS])[2] - states(network, [6, 5, N_ITEMS])[2]).abs().max() > 1e-3


def test_the_state_that_is_read_is_that_of_a_mask_behind_the_latest_items(network):
    assert network.asked(asked([0, 1, 2, 3, 4, 5, 6], [7, 8], []).history).values.tolist() == [
        2, 3, 4, 5, 6, N_ITEMS, 7, 8, N_ITEMS, N_ITEMS]
    found = network.transform(states(network, [2, 3, 4, 5, 6, N_ITEMS])[5])
    torch.testing.assert_close(network.users(asked([0, 1, 2, 3, 4, 5, 6]))[0], torch.cat([found, torch.ones(1)]))


def test_a_user_without_items_is_the_mask_alone_and_nobody_is_nobody(network):
    together, alone = network.users(asked([], [1, 2], [])), network.transform(states(network, [N_ITEMS])[0])
    torch.testing.assert_close(together[[0, 2], :-1], alone.expand(2, -1))
    assert network(asked()).shape == (0, N_ITEMS)


def test_a_score_is_a_product_and_the_bias_of_the_item_and_the_mask_has_none(network):
    query = asked([1, 2, 3])
    h = states(network, [1, 2, 3, N_ITEMS])[3]
    dense, norm = network.transform[0], network.transform[2]
    t = F.layer_norm(F.gelu(dense.weight @ h + dense.bias), (8,), norm.weight, norm.bias, 1e-12)
    expected = network.table.weight[:N_ITEMS] @ t + network.bias
    torch.testing.assert_close(network(query)[0], expected)
    some = torch.tensor([[4, 7]])
    torch.testing.assert_close(network.similarity(network.users(query)[:, None], network.items(some))[0, 0],
                               expected[[4, 7]])


def test_rows_do_not_see_each_other(network):
    rows = [1, 2], [3, N_ITEMS, 5, 6, 7], [N_ITEMS]
    torch.testing.assert_close(states(network, *rows), torch.cat([states(network, row) for row in rows]))


def test_the_encoder_is_that_of_torch_without_a_causal_mask(network):
    row, x = torch.tensor([4, N_ITEMS, 7, 1, N_ITEMS]), None
    x = F.layer_norm(network.table.weight[row] + network.positions[1:], (8,), network.norm.weight, network.norm.bias)
    for block in network.blocks:
        layer = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", 1e-12, batch_first=True, norm_first=False)
        layer.load_state_dict({
            "self_attn.in_proj_weight": block.inward.weight, "self_attn.in_proj_bias": block.inward.bias,
            "self_attn.out_proj.weight": block.outward.weight, "self_attn.out_proj.bias": block.outward.bias,
            "linear1.weight": block.widen.weight, "linear1.bias": block.widen.bias,
            "linear2.weight": block.narrow.weight, "linear2.bias": block.narrow.bias,
            "norm1.weight": block.first_norm.weight, "norm1.bias": block.first_norm.bias,
            "norm2.weight": block.second_norm.weight, "norm2.bias": block.second_norm.bias})
        x = layer.eval()(x[None])[0]
    torch.testing.assert_close(network.states(Layout(Ragged.from_lists([row.tolist()]), 6)), x, rtol=1e-4, atol=1e-4)


def test_weights_start_within_two_deviations_and_biases_at_zero():
    network = BERT4Rec(1, 2000, dim=64)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            assert parameter.abs().max() <= 0.04 and abs(parameter.mean()) < 2e-3, name
            assert parameter.std().item() == pytest.approx(0.0176, rel=0.05), name  # of a normal of 0.02, cut at 0.04
        else:  # the weights of norms are one
            assert parameter.eq(float(name.endswith("weight"))).all(), name


def test_parameters_are_those_of_sasrec_a_transform_and_a_bias_per_item():
    network = BERT4Rec(22363, 12101)
    assert sum(parameter.numel() for parameter in network.parameters()) == 877_888 - 64 + 64 * 64 + 3 * 64 + 12101


def test_a_history_of_the_mask_alone_is_refused():
    with pytest.raises(ValueError, match=r"model\.max_length = 1 .* give 2 or more"):
        BERT4Rec(3, 4, max_length=1)
    with pytest.raises(ValueError, match=r"model\.n_heads"):
        BERT4Rec(3, 4, dim=9, n_heads=2)
