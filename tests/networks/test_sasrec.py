"""Networks that read a history in order: what a state may depend on, and attention written out."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from recot.batches.layout import Filled, Layout
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.sasrec import SASRec
from recot.networks.stosa import GaussianBlock, Stosa
from recot.nn.attention import Block
from recot.nn.gaussian import deviation, variance

N_ITEMS = 30
BUILD = {"sasrec": partial(SASRec, 1, N_ITEMS, dim=8, max_length=6),
         "stosa": partial(Stosa, 1, N_ITEMS, dim=8, max_length=6),
         "stosa, two layers": partial(Stosa, 1, N_ITEMS, dim=8, max_length=6, n_layers=2),
         "stosa as released": partial(Stosa, 1, N_ITEMS, dim=8, max_length=6, mean_stream="embedding")}


@pytest.fixture(params=BUILD)
def network(request):
    torch.manual_seed(0)
    network = BUILD[request.param]().eval()
    for parameter in network.parameters():  # at 0.02 nothing would look at anything in particular
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def states(network, *rows):
    return network.states(network.layout(Ragged.from_lists([list(row) for row in rows])))


def test_a_state_does_not_know_the_future(network):
    torch.testing.assert_close(states(network, [5, 6, 7, 8, 9])[0:3] - states(network, [5, 6, 7, 1, 2])[0:3],
                               torch.zeros_like(states(network, [5, 6, 7])))


def test_a_state_knows_the_past_and_its_order(network):
    first, second, swapped = (states(network, row)[-1] for row in ([1, 2, 9], [3, 2, 9], [2, 1, 9]))
    assert (first - second).abs().max() > 1e-3 and (first - swapped).abs().max() > 1e-3


def test_rows_do_not_see_each_other(network):
    together = states(network, [1, 2], [3, 4, 5, 6, 7], [8])
    apart = torch.cat([states(network, row) for row in ([1, 2], [3, 4, 5, 6, 7], [8])])
    torch.testing.assert_close(together, apart)


def test_the_state_of_an_item_is_the_same_with_padding_before_it(network):
    history = Ragged.from_lists([[1, 2], [3, 4, 5, 6, 7], [8]])
    filled = network.layout(history, filled=True)
    torch.testing.assert_close(network.states(filled)[filled.real], network.states(network.layout(history)))


def test_padding_sees_all_of_its_row_alike_where_attention_is_by_distance(rng):
    block = GaussianBlock(4, 2, 0.0, 0.0, True).double()
    layout = Filled(Ragged.from_lists([[5, 6], [7]]), 3)
    mean, spread = (torch.randn(6, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    found = torch.cat(block(mean, spread, layout), 1)
    v, vs = block.mean.inward(mean)[:, 8:], variance(block.spread.inward(variance(spread))[:, 8:])
    for place, row in ((0, slice(0, 3)), (3, slice(3, 6)), (4, slice(3, 6))):  # the padding
        seen = v[row].mean(0, keepdim=True), vs[row].sum(0, keepdim=True) / 9  # the variance of a mean of three
        expected = (block.mean.after(mean[[place]], seen[0], block.norm, None),
                    block.spread.after(variance(spread[[place]]), seen[1], block.norm, None))
        torch.testing.assert_close(found[[place]], torch.cat(expected, 1))
    alone = torch.cat(block(mean[[1, 2, 5]], spread[[1, 2, 5]], layout.bare), 1)
    torch.testing.assert_close(found[[1, 2, 5]], alone)


def padded(network, row):
    """(L, d): the states of a row in one grid of L places, where nobody looks at -1 and all look at everything else."""
    ids = torch.tensor([-1] * (network.max_length - len(row)) + row)
    real = (ids >= 0)[:, None]
    allowed = real.T.expand(len(ids), -1).tril()
    if isinstance(network, SASRec):  # its scores stay where all are shut off; by distance they drown, and all is alike
        x = network.norm(network.table(ids.clamp(min=0)) * real + network.positions)
        for block in network.blocks:
            q, k, v = block.inward(x).view(len(ids), 3, block.n_heads, -1).permute(1, 2, 0, 3)
            seen = block.attention(q, k, v, allowed | ~allowed.any(1, keepdim=True)).transpose(0, 1).flatten(1)
            x = block.first_norm(x + block.outward(seen))
            x = block.second_norm(x + block.narrow(F.gelu(block.widen(x))))
        return x
    mean, spread = (network.norm(table(ids.clamp(min=0)) * real + positions) for table, positions in (
        (network.means, network.mean_positions), (network.spreads, network.spread_positions)))
    mean = F.elu(mean)
    for block in network.blocks:
        spread = variance(spread)
        heads = (len(ids), 3, block.n_heads, -1)
        q, k, v = block.mean.inward(mean).view(heads).permute(1, 2, 0, 3)
        qs, ks, vs = variance(block.spread.inward(spread)).view(heads).permute(1, 2, 0, 3)
        seen = block.attention(torch.cat([q, qs.sqrt()], -1), torch.cat([k, ks.sqrt()], -1), v, vs, allowed)
        seen, seen_spread = seen.transpose(0, 1).unflatten(-1, (2, -1)).transpose(1, 2).flatten(2).unbind(1)
        spread = block.spread.after(spread, seen_spread, block.norm, None)
        mean = block.mean.after(mean, seen, block.norm, None) if block.contextual else mean
    return torch.cat([mean, deviation(spread)], -1)


def test_padding_before_a_history_and_for_its_items_is_that_of_one_padded_grid(network):
    rows = [[1, 2, -1, 4, 5], [-1, 6], [3, -1, -1, 7, 8, -1], [9]]
    found = network.states(network.layout(Ragged.from_lists(rows), filled=True))
    torch.testing.assert_close(found, torch.cat([padded(network, row) for row in rows]), atol=1e-5, rtol=1e-4)


def test_only_the_latest_items_are_read_and_nothing_known_is_zero(network):
    query = Query(torch.tensor([0, -1, 0]), Ragged.from_lists([list(range(10)), list(range(4, 10)), []]))
    users = network.users(query)
    assert torch.equal(users[0], users[1]) and not users[2].any()
    assert network.users(Query(torch.tensor([0]), Ragged.from_lists([[]]))).shape == users[:1].shape


def test_a_step_moves_what_is_scored(network):
    query = Query(torch.tensor([0]), Ragged.from_lists([[1, 2]]))
    before = network(query)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.data.mul_(1.5)
    network.after_step()
    assert not torch.equal(network(query), before)


def test_parameters_of_sasrec_are_those_of_the_code_without_a_row_for_padding():
    network = SASRec(22363, 12101)
    assert sum(parameter.numel() for parameter in network.parameters()) == 877_888 - 64


def test_a_block_is_the_layer_of_torch(rng):
    block, layer = Block(8, 2, 0.0, 0.0), torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", 1e-12, True)
    pairs = ((layer.self_attn.in_proj_weight, block.inward.weight), (layer.self_attn.in_proj_bias, block.inward.bias),
             (layer.self_attn.out_proj.weight, block.outward.weight), (layer.linear1.weight, block.widen.weight),
             (layer.linear2.weight, block.narrow.weight), (layer.linear1.bias, block.widen.bias))
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)
        layer.self_attn.out_proj.bias.copy_(block.outward.bias)
        layer.linear2.bias.copy_(block.narrow.bias)
    x = torch.randn(1, 5, 8, generator=rng)
    theirs = layer(x, torch.nn.Transformer.generate_square_subsequent_mask(5))
    torch.testing.assert_close(block(x[0], Layout(Ragged.from_lists([[0] * 5]), 5)), theirs[0], rtol=1e-4, atol=1e-5)


def test_attention_with_dropout_is_the_same_on_average(rng):
    block = Block(8, 2, 0.0, 0.3)
    q, k, v = (torch.randn(1, 2, 5, 4, generator=rng) for _ in range(3))
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    torch.manual_seed(0)
    drawn = torch.stack([block.attention(q, k, v, allowed) for _ in range(4000)])
    plain = block.eval().attention(q, k, v, allowed)
    assert drawn.std(0)[0, :, 0].min() > 0.01  # the first position sees itself, or nothing
    torch.testing.assert_close(drawn.mean(0), plain, rtol=0, atol=5 * float(drawn.std(0).max()) / 4000 ** 0.5)


def test_wasserstein_attention_is_the_softmax_of_minus_the_distance(rng):
    block = GaussianBlock(6, 1, 0.0, 0.0, True)
    q, k, v, vs = (torch.randn(1, 1, 4, width, generator=rng, dtype=torch.float64) for width in (6, 6, 3, 3))
    allowed = torch.ones(4, 4, dtype=torch.bool).tril()[None, None]
    distance = torch.tensor([[float((q[0, 0, i] - k[0, 0, j]).square().sum()) for j in range(4)] for i in range(4)],
                            dtype=torch.float64)
    a = (-distance / 3 ** 0.5).masked_fill(~allowed[0, 0], -torch.inf).softmax(-1)
    found = block.attention(q, k, v, variance(vs), allowed)
    torch.testing.assert_close(found[0, 0], torch.cat([a @ v[0, 0], a ** 2 @ variance(vs)[0, 0]], -1))


def test_as_released_the_mean_of_a_state_is_that_of_its_last_item():
    network = BUILD["stosa as released"]()
    first, second = states(network.eval(), [1, 2, 9]), states(network, [4, 5, 9])
    assert torch.equal(first[-1, :8], second[-1, :8]) and not torch.equal(first[-1, 8:], second[-1, 8:])
    network.train()
    states(network, [1, 2, 9]).sum().backward()
    assert network.blocks[0].mean.widen.weight.grad is None and network.blocks[0].spread.widen.weight.grad.any()


def test_items_are_gaussians_and_remembered_between_steps_only():
    network = BUILD["stosa"]().eval()
    torch.testing.assert_close(network.items()[:, 8:], deviation(network.spreads.weight[:N_ITEMS]))
    torch.testing.assert_close(network.items(torch.tensor([[3, 4]]))[0], network.items()[3:5])
    with torch.no_grad():
        assert network.items() is network.items()
        network.spreads.weight.add_(1.0)
        torch.testing.assert_close(network.items()[:, 8:], deviation(network.spreads.weight[:N_ITEMS]))


def test_dropout_acts_in_training_only(network):
    torch.testing.assert_close(states(network, [1, 2, 3]), states(network, [1, 2, 3]), rtol=0, atol=0)
    network.train()
    assert not torch.equal(states(network, [1, 2, 3]), states(network, [1, 2, 3]))
