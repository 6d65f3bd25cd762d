"""PEPNet: gates that start at one, see no gradient of what they scale, and stay between 0 and 2."""

import pytest
import torch

from recot.batches.pairs import pairs
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query
from recot.networks.factorisation import Tables
from recot.networks.pepnet import Gate, PEPNet
from recot.nn.contracts import Before
from recot.nn.table import clear_gradients
from recot.objectives.pairs import BPR

DOMAINS = (Domain("books", 0, 6), Domain("films", 6, 10), Domain("music", 10, 17))


def question(*users):
    return Query(torch.tensor(users), Ragged.from_lists([[]] * len(users)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PEPNet(12, 17, DOMAINS, dim=5, std=0.5)


@pytest.fixture
def gated(network):
    """With gates that differ."""
    with torch.no_grad():
        for gate in (network.user_gate, network.item_gate):
            for parameter in gate.output.parameters():
                parameter.normal_(std=10)
    return network


def test_it_starts_as_matrix_factorisation(network):
    plain = Tables(12, 17, 5)
    plain.load_state_dict({name: network.state_dict()[name] for name in plain.state_dict()})
    query = question(*range(12))
    assert all(torch.equal(view, plain.users(query)) for view in network.views(query).unbind(1))
    assert torch.equal(network.vectors(), plain.items())
    torch.testing.assert_close(network.score(query), plain.score(query))
    assert (network.user_gate(network.contexts, network.user_table.weight[:, None]) == 1).all()


def test_a_gate_by_hand():
    """Pre-activations 1 and -1 from one hidden unit of 2 and one that ReLU cuts off."""
    gate = Gate(2)
    with torch.no_grad():
        gate.hidden.weight.copy_(torch.tensor([[1.0, 0, 0, 3], [0, 1, 0, 0]]))
        gate.hidden.bias.copy_(torch.tensor([-2.0, 1]))
        gate.output.weight.copy_(torch.tensor([[0.5, 7], [-1, 7]]))
        gate.output.bias.copy_(torch.tensor([0.0, 1]))
    found = gate(torch.tensor([1.0, -2]), torch.tensor([5.0, 1]))  # hidden 1 + 3 - 2 = 2, and relu(-2 + 1) = 0
    torch.testing.assert_close(found, torch.tensor([1.462117, 0.537883]), atol=1e-6, rtol=0)
    assert found.sum().item() == pytest.approx(2)


def test_weights_start_as_stated():
    network = PEPNet(300, 400, DOMAINS, dim=200)
    for weight in (network.user_table.weight, network.item_table.weight, network.contexts):
        assert weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert network.user_gate.hidden.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)


def test_weight_decay_is_on_the_gates_alone(network):
    decayed = {name for name, _ in network.named_parameters()} - {*network.undecayed}
    assert decayed == {f"{side}_gate.{layer}.{kind}" for side in ("user", "item") for layer in ("hidden", "output")
                       for kind in ("weight", "bias")}


def test_scores_are_the_equations(gated):
    expected = torch.empty(12, 17)
    for number, domain in enumerate(DOMAINS):
        context = gated.contexts[number]
        for item in range(domain.start, domain.stop):
            q = gated.item_gate(context, gated.item_table.weight[item]) * gated.item_table.weight[item]
            for user in range(12):
                e = gated.user_table.weight[user]
                expected[user, item] = (gated.user_gate(context, e) * e) @ q
    query = question(*range(12))
    torch.testing.assert_close(gated.score(query), expected)
    torch.testing.assert_close(gated.users(query) @ gated.items().T, expected)
    torch.testing.assert_close(gated.score_of(query, torch.tensor([12, 3])), expected[:, [12, 3]])


def test_gates_lie_between_0_and_2_and_differ_by_domain(gated):
    gates = gated.user_gate(gated.contexts, gated.user_table.weight[:, None])
    assert gates.shape == (12, 3, 5) and gates.min() >= 0 and gates.max() <= 2
    assert not torch.allclose(gates[:, 0], gates[:, 1])


def test_a_gate_passes_no_gradient_to_what_it_scales(gated):
    """The gradient of the tables is that of constant gates; contexts and gates have theirs."""
    query, weight = question(3, 5), torch.randn(2, 3, 5)
    (gated.views(query) * weight).sum().backward()
    with torch.no_grad():
        gates = gated.user_gate(gated.contexts, gated.user_table.weight[[3, 5], None])
    torch.testing.assert_close(gated.user_table.weight.grad[[3, 5]], (gates * weight).sum(1))
    assert gated.contexts.grad.abs().sum() > 0 and gated.user_gate.hidden.weight.grad.abs().sum() > 0
    ids, weight = torch.tensor([0, 7, 16]), torch.randn(3, 5)
    (gated.vectors(ids) * weight).sum().backward()
    with torch.no_grad():
        gates = gated.item_gate(gated.contexts, gated.item_table.weight[ids])
    torch.testing.assert_close(gated.item_table.weight.grad[ids], gates * weight)


def test_what_a_later_stage_gets(gated):
    vectors = gated.views(question(*range(12)))
    users, items = Before((gated,), DOMAINS).vectors(12)
    torch.testing.assert_close(users, (vectors[:, 0] + vectors[:, 1] + vectors[:, 2]) / 3)
    torch.testing.assert_close(items, gated.vectors())
    torch.testing.assert_close(Before((gated,), DOMAINS, 1).vectors(12)[1], gated.vectors()[6:10])
    gated.export = "raw"
    users, items = Before((gated,), DOMAINS).vectors(12)
    assert torch.equal(users, gated.user_table.weight) and torch.equal(items, gated.item_table.weight)


def test_it_trains_tables_contexts_and_gates(network, rng):
    users, items = (torch.rand(12, 17, generator=rng) < 0.3).nonzero(as_tuple=True)
    train = Interactions.from_pairs(users, items, 12, 17, domains=DOMAINS)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer, losses = torch.optim.Adam(network.parameters(), 0.02), []
    for _ in range(20):
        for batch in pairs(train, 16, rng, negatives=1):
            loss, _ = BPR(16, penalty=1e-3)(network, batch)
            loss.mean().backward()
            optimizer.step()
            clear_gradients(network)
            losses.append(loss.mean().item())
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    assert all(not torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("given", "remedy"), [
    ({"dim": 0}, "width of the vectors"), ({"std": 0.0}, "for example 0.01")])
def test_what_cannot_be_is_refused(given, remedy):
    with pytest.raises(ValueError, match=remedy):
        PEPNet(2, 3, **given)
