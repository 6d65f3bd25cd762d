"""GA-MTCDR: how domains are mixed, what the towers compare, and what is remembered."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from domains import DOMAINS, before, domain_interactions, joint, question

from recot.data.interactions import Domain
from recot.data.split import ratio
from recot.denoise.base import Denoiser
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks.factorisation import Tables
from recot.networks.ga_mtcdr import GA_MTCDR, tower
from recot.networks.node2vec import Node2Vec
from recot.nn.contracts import Before
from recot.nn.similarity import direction
from recot.nn.table import clear_gradients
from recot.objectives.alternating import AlternatingBCE
from recot.objectives.walks import SkipGram

N_USERS, N_ITEMS = 12, DOMAINS[-1].stop


def made(domains=DOMAINS, dim=4, **given):
    stage = before(N_USERS, dim=dim, domains=domains)
    torch.manual_seed(0)
    return GA_MTCDR(N_USERS, domains[-1].stop, domains, stage, **given)


def test_the_mix_of_three_domains_by_hand():
    network = made(dim=2)
    with torch.no_grad():
        network.node_users[:] = torch.tensor([[1.0, 0], [0, 2], [4, 4]])
        network.maps[:] = torch.eye(2)
    users = torch.tensor([3])
    assert network.weights(users, 0)[:, 0].tolist() == [[pytest.approx(value)] * 2 for value in (0.5, 0.25, 0.25)]
    assert network.mixed(network.own(users), users, 0)[0].tolist() == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_half_of_the_weight_is_on_the_own_domain_at_the_start_and_all_weights_sum_to_one(n):
    network = made(DOMAINS[:n])
    for number in range(n):
        weights = network.weights(torch.arange(N_USERS), number)
        torch.testing.assert_close(weights.sum(0), torch.ones(N_USERS, 4))
        assert weights[number].unique().tolist() == pytest.approx([0.5 if n > 1 else 1.0])


def test_with_all_weight_on_the_own_domain_the_others_make_no_difference():
    """The model of a single domain, made of the same weights."""
    network, alone = made(), made(DOMAINS[:1])
    with torch.no_grad():
        network.logits[0].weight[:] = torch.tensor([100.0, 0, 0]).repeat_interleave(4)
        alone.maps[0] = network.maps[0]
    for name in ("user_towers", "item_towers"):
        getattr(alone, name)[0].load_state_dict(getattr(network, name)[0].state_dict())
    torch.testing.assert_close(network.score(question(1, 5))[:, DOMAINS[0].items], alone.score(question(1, 5)))
    assert not network.score(question(1, 5))[:, DOMAINS[1].items].equal(torch.zeros(2, 4))


def test_the_score_is_the_cosine_of_the_towers_of_the_domain_of_the_item():
    network = made()
    scores = network.score(question(2, 7))
    for number, domain in enumerate(DOMAINS):
        ids = torch.arange(domain.start, domain.stop).expand(2, -1)
        users, items = network.towers(torch.tensor([2, 7]), ids, number)
        expected = F.cosine_similarity(users[:, None], items, dim=-1)
        torch.testing.assert_close(scores[:, domain.items], expected)
        assert users.min() >= 0 and items.min() >= 0
    assert scores.min() >= 0 and scores.max() <= 1 + 1e-6


def test_a_tower_that_gives_zeros_scores_zero_and_has_a_finite_gradient():
    network = made()
    with torch.no_grad():
        network.item_towers[1][-2].bias.fill_(-1e3)
    assert not network.score(question(4))[:, DOMAINS[1].items].any()
    z = torch.zeros(3, requires_grad=True)
    direction(z).sum().backward()
    assert z.grad.isfinite().all() and z.grad.max() <= 1.01e8


def test_the_towers_double_up_to_the_factor_and_come_back():
    widths = [layer.out_features for layer in tower(128, 8) if isinstance(layer, torch.nn.Linear)]
    assert widths == [256, 512, 1024, 512, 256, 128] and isinstance(tower(128, 8)[-1], torch.nn.ReLU)
    narrow = [layer.out_features for layer in tower(128, 2) if isinstance(layer, torch.nn.Linear)]
    assert narrow == [256, 128]


@pytest.mark.parametrize(("init", "least", "most"), [("he", 0.04, 0.06), ("sd0.1", 0.04, 0.06), ("sd0.01", 0, 1e-4)])
def test_a_small_deviation_starts_blind_and_others_do_not(init, least, most):
    """Cosines of inputs of unit variance spread by about 0.05; of a deviation of 0.01 the biases outweigh the input."""
    domain = (Domain("books", 0, 50),)
    torch.manual_seed(1)
    stage = Before((Tables(N_USERS, 50, dim=128, std=1.0),), domain)
    network = GA_MTCDR(N_USERS, 50, domain, stage, init=init)
    assert least <= network.score(question(*range(N_USERS))).std().item() <= most
    assert any(layer.bias.any() for layer in network.user_towers[0][::2]) == (init != "he")


def test_items_without_a_pair_tie_exactly():
    network = made()
    with torch.no_grad():
        network.node_items[[1, 3, 4]] = 0.0  # as node2vec has them
        for layer in network.item_towers[0][::2]:
            layer.bias.fill_(0.1)
    scores = network.score(question(0, 1))
    assert scores[:, 1].equal(scores[:, 3]) and scores[:, 3].equal(scores[:, 4]) and scores[:, 1].min() > 0


def test_a_step_of_one_domain_moves_the_maps_of_the_others_and_no_other_tower(rng):
    network = made()
    train = joint(rng, N_USERS)
    batch = next(AlternatingBCE(40).batches(train, rng, network, 0))
    assert batch.number == 0
    AlternatingBCE()(network, batch)[0].mean().backward()
    assert all(bool(gradient.any()) for gradient in network.maps.grad)
    for towers in (network.user_towers, network.item_towers):
        assert bool(towers[0][0].weight.grad.any()) and towers[1][0].weight.grad is None
    assert network.logits[0].weight.grad.any() and network.logits[1].weight.grad is None
    assert not network.node_users.requires_grad and not network.node_items.requires_grad


def test_what_was_fitted_before_is_copied_as_it_is():
    stage = before(N_USERS, dim=4)
    network = GA_MTCDR(N_USERS, N_ITEMS, DOMAINS, stage)
    for number, each in enumerate(stage.networks):
        assert network.node_users[:, number].equal(each.user_table.weight)
        assert network.node_items[DOMAINS[number].items].equal(each.item_table.weight)
    assert {"node_users", "node_items"} <= set(network.state_dict())


def test_all_items_go_through_the_towers_once_until_weights_change(monkeypatch):
    network, calls = made().eval(), []
    whole = network.all_items
    monkeypatch.setattr(network, "all_items", lambda: calls.append(1) or whole())
    optimizer = torch.optim.Adam(network.parameters(), 0.1, fused=True)
    with torch.no_grad():
        first = network.score(question(0))
        some = torch.tensor([[2, 6]])
        torch.testing.assert_close(network.score_of(question(0), some)[0], first[0, some[0]])
        assert len(calls) == 1
    ids = torch.tensor([[0, 7, 14]])
    torch.testing.assert_close(network.vectors(ids), network.vectors()[ids])
    users, items = network.towers(torch.tensor([0]), torch.tensor([[0]]), 0)
    (users.sum() + items.sum()).backward()
    optimizer.step()
    clear_gradients(network)
    network.after_step()
    with torch.no_grad():
        assert not network.score(question(0)).equal(first)
        network.load_state_dict(network.state_dict())
        count = len(calls)
        network.score(question(0))
        assert len(calls) == count + 1
    assert copy.deepcopy(network).cached is None


def test_a_fit_on_walks_finds_the_communities():
    """Users of either half like the items of their half; cosines of such pairs end half as high again as of others."""
    wide = tuple(Domain(name, 60 * place, 60 * place + 60) for place, name in enumerate(("books", "films", "music")))
    drawn = {"n_users": 40, "communities": True, "domains": wide, "share": 0.15}
    splits = [ratio(train) for train in domain_interactions(torch.Generator().manual_seed(0), **drawn)]
    whole = ratio(joint(torch.Generator().manual_seed(0), **drawn))
    gradient = partial(Gradient, denoiser=Denoiser(), monitor="ndcg@5")
    walking = Training(max_epochs=10, patience=30, learning_rate=0.01, device="cpu")
    first = [gradient(partial(Node2Vec, dim=32), SkipGram(64), training=walking).fit(split) for split in splits]
    stage = Before(tuple(model.scorer for model in first), wide)
    model = gradient(partial(GA_MTCDR, domains=wide, before=stage, width_factor=2), AlternatingBCE(512),
                     training=Training(max_epochs=20, patience=30, device="cpu")).fit(whole)
    scores = model.score(question(*range(40)))
    own = torch.arange(40)[:, None] % 2 == torch.arange(180) % 2
    assert scores[own].mean() > 1.5 * scores[~own].mean()
    assert all(math.isfinite(row["loss"]) for row in model.history)


@pytest.mark.parametrize(("words", "message"), [({"width_factor": 1}, "model.width_factor = 1 is reached by doubling"),
                                                ({"width_factor": 6}, "model.width_factor = 6 is reached by doubling")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        made(**words)


def test_one_network_for_all_domains_is_refused():
    stage = before(N_USERS, dim=4)
    with pytest.raises(ValueError, match="GA_MTCDR goes on from a network for each of 3 domains and was given 1"):
        GA_MTCDR(N_USERS, N_ITEMS, DOMAINS, Before(stage.networks[:1], DOMAINS))
