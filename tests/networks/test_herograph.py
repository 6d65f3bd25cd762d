"""HeroGRAPH: the worked example, a plain reading of the equations, and what it reduces to."""

import copy

import pytest
import torch

from recot.batches.domains import domain_batches
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query
from recot.networks.herograph import HeroGRAPH
from recot.nn.table import clear_gradients
from recot.objectives.domains import DomainBPR

DOMAINS = (Domain("books", 0, 6), Domain("films", 6, 10), Domain("music", 10, 17))


def question(*users):
    return Query(torch.tensor(users), Ragged.from_lists([[]] * len(users)))


@pytest.fixture
def train(rng):
    chosen = torch.rand(12, 17, generator=rng) < 0.3
    chosen[11], chosen[:, 16] = False, False  # a user and an item without pairs
    users, items = chosen.nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 12, 17, domains=DOMAINS)


@pytest.fixture
def network(train):
    torch.manual_seed(0)
    made = HeroGRAPH(12, 17, DOMAINS, dim=5, widths=[4, 3])
    made.bind(train)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def hand_example(n_layers):
    """A user with two items, one of each domain."""
    network = HeroGRAPH(1, 2, (Domain("a", 0, 1), Domain("b", 1, 2)), dim=2, widths=[2] * n_layers)
    network.bind(Interactions.from_pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), 1, 2))
    with torch.no_grad():
        network.nodes.weight.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 1]]))
        network.output.weight.copy_(torch.eye(2).repeat(1, 2))
        network.neighbour.weight.copy_(torch.eye(2))
        for layer in network.layers:
            layer.own.copy_(torch.eye(2))
            layer.attention.copy_(torch.tensor([[2.0, 0], [0, 0]]))
    return network


@pytest.mark.parametrize(("n_layers", "expected"), [(1, (2.188131, 0.811869)), (2, (4.644631, 1.355369))])
def test_the_worked_example(n_layers, expected):
    network = hand_example(n_layers)
    torch.testing.assert_close(network.shared(torch.tensor([0])), torch.tensor([expected]), atol=2e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(network.shared(torch.tensor([0])), torch.tensor([expected]), atol=2e-6, rtol=0)


def by_hand(network, train):
    """(n_nodes, w): h, node by node as the equations are written."""
    n_users, g = network.n_users, list(network.nodes.weight)
    hears = [[] for _ in g]
    for user, item in zip(train.users.tolist(), train.items.tolist(), strict=True):
        hears[user].append(n_users + item)
        hears[n_users + item].append(user)
    for number, layer in enumerate(network.layers):
        last, following, outputs = number == len(network.layers) - 1, [], []
        for node, row in enumerate(hears):
            heard, value = torch.zeros_like(g[node]), torch.zeros(network.neighbour.out_features)
            if row:
                w = torch.cat([*layer.attention])
                a = torch.stack([(w @ torch.cat([g[j], g[node]])).sigmoid() for j in row]).softmax(0)
                heard = sum(a_j * g[j] for a_j, j in zip(a, row, strict=True))
                if last:
                    value = sum(a_j * network.neighbour(g[j]) for a_j, j in zip(a, row, strict=True))
            following.append(layer.own @ (g[node] + heard))
            outputs.append(value)
        g = following
    return torch.stack([network.output(torch.cat(pair)).relu() for pair in zip(g, outputs, strict=True)])


def test_it_is_the_equations_node_by_node_and_so_are_its_gradients(network, train):
    mine, hand = network.shared(torch.arange(29)), by_hand(network, train)
    torch.testing.assert_close(mine, hand)
    weight = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1))
    given = [*network.layers.parameters(), *network.neighbour.parameters(), *network.output.parameters(),
             network.nodes.weight]
    for found, expected in zip(torch.autograd.grad((mine * weight).sum(), given),
                               torch.autograd.grad((hand * weight).sum(), given), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_score_is_that_of_the_private_vectors_of_its_domain_plus_that_of_the_shared_ones(network):
    private, h = network.private_users.weight.view(12, 3, 5), network.shared(torch.arange(29))
    expected = h[:12] @ h[12:].T
    for number, domain in enumerate(DOMAINS):
        expected[:, domain.items] += private[:, number] @ network.private_items.weight[domain.items].T
    torch.testing.assert_close(network.score(question(*range(12))), expected)
    torch.testing.assert_close(network.users(question(*range(12))) @ network.items().T, expected)
    candidates = torch.tensor([[7, 0, 16], [2, 12, 9]])
    torch.testing.assert_close(network.score_of(question(3, 5), candidates), expected[[3, 5]].gather(1, candidates))
    torch.testing.assert_close(network.score_of(question(3, 5), candidates[0]), expected[[3, 5]][:, candidates[0]])
    users, items = network.within(question(3, 4), torch.tensor([[7, 9, 6], [16, 10, 12]]))
    torch.testing.assert_close((users[:, None] * items).sum(-1), torch.stack([expected[3, [7, 9, 6]],
                                                                              expected[4, [16, 10, 12]]]))


def test_a_node_without_neighbours_hears_nothing_and_not_the_bias_either(network):
    with torch.no_grad():
        first, second = (layer.own for layer in network.layers)
        for node in (11, 12 + 16):
            own = torch.cat([second @ first @ network.nodes.weight[node], torch.zeros(3)])
            torch.testing.assert_close(network.shared(torch.tensor([node]))[0], network.output(own).relu())


def train_for(network, train, steps=6):
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    objective = DomainBPR(8, penalty=0.1)
    rng = torch.Generator().manual_seed(4)
    for _ in range(steps):
        for batch in objective.batches(train, rng, network, 0):
            objective(network, batch)[0].mean().backward()
            optimizer.step()
            clear_gradients(network)
            network.after_step()


def test_without_output_it_is_matrix_factorisation_of_each_domain_by_itself(network, train):
    """Another domain's pairs and tables then leave the tables of a domain as they are."""
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.zero_()
    network.output.requires_grad_(False)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.private_items.weight[6:].normal_()
        other.nodes.weight.normal_()
    before = network.private_users.weight.clone()
    train_for(network, train)
    train_for(other, train)
    mine, theirs = (made.private_users.weight.view(12, 3, 5) for made in (network, other))
    assert torch.equal(mine[:, 0], theirs[:, 0]) and not torch.allclose(mine[:, 1], theirs[:, 1])
    assert torch.equal(network.private_items.weight[:6], other.private_items.weight[:6])
    assert not torch.equal(network.private_users.weight, before)
    scores = network.score(question(*range(12)))
    torch.testing.assert_close(scores[:, :6], mine[:, 0] @ network.private_items.weight[:6].T)


def test_the_penalty_is_on_the_rows_used(network, train):
    batch = next(domain_batches(train, 8, torch.Generator().manual_seed(0), 1))
    objective = DomainBPR(8, penalty=0.3)
    objective.shrinkage(*network.free(batch.query, batch.items[:, None])).sum().backward()
    used = network.private_users.weight.grad.view(12, 3, 5).any(-1)
    domain = network.domain[batch.items]
    expected = torch.zeros(12, 3, dtype=torch.bool)
    expected[batch.query.users, domain] = True
    assert torch.equal(used, expected)
    item, times = batch.items[0], (batch.items == batch.items[0]).sum()
    torch.testing.assert_close(network.private_items.weight.grad[item],
                               0.3 * times * network.private_items.weight[item])
    assert set(network.nodes.weight.grad.any(1).nonzero()[:, 0].tolist()) == {
        *batch.query.users.tolist(), *(batch.items + 12).tolist()}


def test_neighbours_are_drawn_for_training_and_ranking_has_all(train):
    torch.manual_seed(0)
    network = HeroGRAPH(12, 17, DOMAINS, dim=5, widths=[4], neighbours=2)
    network.bind(train)
    rng = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(3):
        network.sample(rng)
        assert int(network.drawn.heard.lengths.max()) == 2
        seen.append(network.shared(torch.arange(29)).detach())
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    network.eval()
    torch.testing.assert_close(network.shared(torch.arange(29)), by_hand(network, train))


def test_all_look_ups_of_a_step_share_one_pass(network, train, monkeypatch):
    passes = []
    whole = HeroGRAPH.attended
    monkeypatch.setattr(HeroGRAPH, "attended", lambda self, graph: passes.append(1) or whole(self, graph))
    train_for(network, train, steps=1)
    count = len(list(domain_batches(train, 8, torch.Generator().manual_seed(0), 1)))
    assert len(passes) == count > 1
    network.eval()
    for user in range(12):
        network(question(user))
    assert len(passes) == count + 1


def test_a_copy_made_in_the_middle_of_a_step_follows_its_own_weights(network):
    network.users(question(0))
    teacher = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
        assert not teacher.score(question(0)).any() and network.score(question(0)).any()


@pytest.mark.parametrize(("given", "remedy"), [
    ({"dim": 0}, "width of the vectors"), ({"widths": []}, "width of each layer"), ({"neighbours": 0}, "null for all")])
def test_what_cannot_be_is_refused(given, remedy):
    with pytest.raises(ValueError, match=remedy):
        HeroGRAPH(**{"n_users": 2, "n_items": 17, "domains": DOMAINS} | given)


def test_data_without_domains_are_one_domain(train):
    plain = Interactions.from_pairs(train.users, train.items, 12, 17)
    networks = []
    for data, domains in ((plain, ()), (plain, (Domain("all", 0, 17),))):
        torch.manual_seed(0)
        networks.append(HeroGRAPH(12, 17, domains, dim=5, widths=[4]))
        networks[-1].bind(data)
        train_for(networks[-1], data, steps=1)
    assert torch.equal(*(network.score(question(3)) for network in networks))


def test_without_a_graph_it_says_what_to_call():
    with pytest.raises(RuntimeError, match=r"call bind\(train\) first"):
        HeroGRAPH(3, 17, DOMAINS).score(question(0))
