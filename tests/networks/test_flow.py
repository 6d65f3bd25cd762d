"""Flows: the Jacobian by autograd, counts of the authors' program, and the density that the divergence is made of."""

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Independent, Normal

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks import flow
from recot.networks.flow import Autoregressive, FlowAutoencoder


def loud(module):
    """With weights so large that everything that can depend on something does."""
    for part in module.parameters():
        torch.nn.init.normal_(part, std=0.5)
    return module.double()


def test_sizes_are_those_of_the_authors_program():
    network = FlowAutoencoder(1, 10)
    stored = [sum(part.numel() for part in each.parameters()) for each in network.flows]
    assert stored == [361_601, 361_601] and sum(stored) == 723_202
    used = sum(int(mask.sum()) for each in network.flows for mask in (each.into, each.out_of))
    assert used / (2 * (200 * 601 + 601 * 400)) == pytest.approx(0.5, abs=0.01)
    assert not network.flows[0].into.equal(network.flows[1].into)  # each has an order of its own


@pytest.mark.parametrize(("dim", "hidden"), [(1, 3), (5, 4), (7, 22)])
def test_the_jacobian_is_triangular_in_its_order_and_its_determinant_the_sum(dim, hidden):
    torch.manual_seed(0)
    module = loud(Autoregressive(dim, hidden))
    z = torch.randn(dim, dtype=torch.float64)
    found = jacobian(lambda z: module(z[None])[0][0], z)
    _, s = module(z[None])
    order = (found != 0).sum(1).argsort()  # a coordinate depends on those before it and on itself
    assert not found[order][:, order].triu(1).any()
    torch.testing.assert_close(found.diagonal(), s[0].exp())
    torch.testing.assert_close(torch.linalg.slogdet(found).logabsdet, s.sum())
    if hidden >= dim:  # nothing is masked that need not be
        assert int((module.out_of[:dim].float() @ module.into.float() > 0).sum()) == dim * (dim - 1) // 2


def test_two_coordinates_by_hand():
    """The first in the order is moved by constants; the second by what the one unit that sees the first makes of it."""
    torch.manual_seed(0)
    module = Autoregressive(2, 2)
    start = int(module.into[0].nonzero())  # what the first hidden unit sees
    with torch.no_grad():
        for layer in (module.first, module.second):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        module.second.bias.copy_(torch.tensor([0.5, 0.5, 0.25, 0.25]))
    z = torch.tensor([[2.0, 2.0]])
    out, s = module(z)
    other = 1 - start  # t = 2 + 1/2 and s = 2 + 1/4
    assert s[0, start] == 0.25 and s[0, other] == 2.25
    assert out[0, start].item() == pytest.approx(2 * 2.71828 ** 0.25 + 0.5, rel=1e-5)
    assert out[0, other].item() == pytest.approx(2 * 2.71828 ** 2.25 + 2.5, rel=1e-5)


def test_the_logs_are_cut_and_their_gradients_are_not():
    module = Autoregressive(1, 3)
    with torch.no_grad():
        module.second.bias.copy_(torch.tensor([0.0, 7.0]))
    _, s = module(torch.ones(1, 1))
    s.sum().backward()
    assert s.item() == pytest.approx(3.0) and module.second.bias.grad.tolist() == [0.0, 1.0]
    with torch.no_grad():
        module.second.bias.copy_(torch.tensor([0.0, -7.0]))
    assert module(torch.ones(1, 1))[1].item() == pytest.approx(-5.0)


def code_of(network, rows):
    return network.encode(Query(torch.full((len(rows),), -1), Ragged.from_lists(rows)))


def test_the_log_ratio_is_that_of_the_densities():
    """By the change of variables: of what went in, less the log determinant of the whole map by autograd."""
    torch.manual_seed(0)
    network = loud(FlowAutoencoder(1, 12, dim=4, hidden=6, flow_hidden=13, corruption=0.0)).train()
    first, second = network.flows
    mean, log_std = torch.randn(2, 3, 4, dtype=torch.float64) / 2
    torch.manual_seed(1)
    z, found = network.drawn(mean, log_std)
    torch.manual_seed(1)
    start = mean + log_std.exp() * torch.randn_like(mean)
    for row in range(3):
        def through(x):
            return second(first(x[None])[0].flip(1))[0][0]
        torch.testing.assert_close(through(start[row]), z[row])
        before = Independent(Normal(mean[row], log_std[row].exp()), 1).log_prob(start[row])
        after = before - torch.linalg.slogdet(jacobian(through, start[row])).logabsdet
        unit = Independent(Normal(torch.zeros(4, dtype=torch.float64), 1.0), 1).log_prob(z[row])
        torch.testing.assert_close(found[row], after - unit)


def test_maps_that_do_nothing_leave_the_gaussian_and_its_divergence():
    torch.manual_seed(0)
    network = FlowAutoencoder(1, 12, dim=3, hidden=6, flow_hidden=7).train()
    for part in network.flows.parameters():
        torch.nn.init.zeros_(part)
    mean, log_std = torch.full((200_000, 3), 0.5), torch.full((200_000, 3), -0.3)
    _, found = network.drawn(mean, log_std)
    divergence = 3 * ((0.25 + 2.71828 ** -0.6 - 1) / 2 + 0.3)
    assert found.mean().item() == pytest.approx(divergence, abs=0.01)


def test_the_score_sends_the_mean_through_and_draws_nothing():
    torch.manual_seed(0)
    network = loud(FlowAutoencoder(1, 12, dim=4, hidden=6, flow_hidden=13)).eval()
    rows = [[0, 5], [], list(range(12))]
    code = code_of(network, rows)
    first, second = network.flows
    z = second(first(code.mean)[0].flip(1))[0]
    torch.testing.assert_close(code.vectors[:, :-1], network.outward(z).relu())
    assert code.log_ratio.shape == (3,) and code_of(network, rows).vectors.equal(code.vectors)
    assert network.inductive and not network.train().encode(
        Query(torch.tensor([-1]), Ragged.from_lists([[0, 5]]))).vectors.equal(code.vectors[:1])


def test_the_log_ratio_is_float32_of_shorter_numbers():
    short = torch.ones(2, 300, dtype=torch.bfloat16)
    found = flow.log_ratio(short, short, short, short)
    assert found.dtype == torch.float32 and found.tolist() == [-600, -600]


def test_an_order_travels_with_the_weights():
    one, other = (FlowAutoencoder(1, 12, dim=8, hidden=6, flow_hidden=13).eval() for _ in range(2))
    other.load_state_dict(one.state_dict())
    query = Query(torch.tensor([-1]), Ragged.from_lists([[0, 5]]))
    assert other.score(query).equal(one.score(query))


def test_a_map_without_a_hidden_unit_is_refused():
    with pytest.raises(ValueError, match="model.flow_hidden = 0 is the width of a layer"):
        FlowAutoencoder(1, 12, flow_hidden=0)
