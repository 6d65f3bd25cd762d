"""CAT-ART: what is encoded and masked, and what a target takes from other domains."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from domains import DOMAINS, before, domain_interactions, joint, question

from recot.batches.users import masked_users
from recot.data.interactions import Domain
from recot.data.split import ratio
from recot.denoise.base import Denoiser
from recot.evaluation.evaluate import evaluate
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks.cat_art import ART, CAT, perceptron
from recot.networks.factorisation import Tables
from recot.nn.contracts import Before
from recot.objectives.masking import MaskedDomains
from recot.objectives.pairs import BPR

N_USERS, N_ITEMS = 20, DOMAINS[-1].stop
TARGETS = range(len(DOMAINS))


@pytest.fixture
def cat():
    torch.manual_seed(0)
    return CAT(N_USERS, N_ITEMS, DOMAINS, before(N_USERS, dim=4)).eval()


def art(cat, number, domains=DOMAINS, **given):
    torch.manual_seed(1)
    size = domains[number].stop - domains[number].start
    return ART(N_USERS, size, Before((cat,), domains, number), **given).eval()


def silenced(network):
    """Without what comes from other domains and without the code: G = 0 and O = 0."""
    for part in (network.out, network.invariant):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    return network


def test_the_encoder_of_three_domains_has_the_parameters_of_the_paper():
    encoder = perceptron(384, 640, 384, 128)
    weights = [p for layer in encoder if isinstance(layer, torch.nn.Linear) for p in layer.parameters()]
    assert sum(p.numel() for p in weights) == 541_824
    assert sum(p.numel() for p in encoder.parameters()) == 541_824 + 2


def test_the_vectors_of_all_domains_are_side_by_side_and_frozen():
    given = before(N_USERS, dim=4)
    network = CAT(N_USERS, N_ITEMS, DOMAINS, given)
    for number, each in enumerate(given.networks):
        assert network.encoded[:, number].equal(each.user_table.weight)
        assert network.catalogue[DOMAINS[number].items].equal(each.item_table.weight)
    trained = {name for name, _ in network.named_parameters()}
    assert not trained & {"encoded", "catalogue"} and {"encoded", "catalogue"} <= set(network.state_dict())


def test_what_was_fitted_before_is_neither_kept_nor_changed():
    given = before(N_USERS, dim=4)
    kept = [each.user_table.weight.clone() for each in given.networks]
    network = CAT(N_USERS, N_ITEMS, DOMAINS, given)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert all(each.user_table.weight.equal(weight) for each, weight in zip(given.networks, kept, strict=True))
    assert not any(isinstance(part, Tables) for part in network.modules())


def test_one_domain_is_masked_by_the_pad_vector_and_the_others_stay(cat):
    hidden = torch.tensor([0, 2, 1])
    found = cat.masked(cat.encoded[:3], hidden)
    for row, number in enumerate(hidden.tolist()):
        assert found[row, number].equal(cat.pad)
        others = [other for other in TARGETS if other != number]
        assert found[row, others].equal(cat.encoded[row, others])


def test_what_was_masked_does_not_reach_the_masked_stream(cat):
    users, hidden = torch.tensor([4, 5]), torch.tensor([1, 1])
    _, codes, _ = cat.streams(users, hidden)
    with torch.no_grad():
        cat.encoded[:, 1] += 1.0
    _, moved, _ = cat.streams(users, hidden)
    torch.testing.assert_close(moved[1], codes[1])
    assert not torch.allclose(moved[0], codes[0])


def test_the_autoencoder_ranks_a_domain_by_its_part_of_the_reconstruction(cat):
    query = question(3, 7)
    decoded = cat.views(query)
    expected = torch.cat([decoded[:, number] @ cat.catalogue[domain.items].T
                          for number, domain in enumerate(DOMAINS)], 1)
    torch.testing.assert_close(cat.score(query), expected)
    some = torch.tensor([[0, 6], [9, 1]])
    assert cat.items(some).equal(cat.items()[some])


@pytest.mark.parametrize("number", TARGETS)
def test_without_code_and_transfer_the_scores_are_those_of_the_first_stage(cat, number):
    query = question(*range(N_USERS))
    expected = cat.encoded[:, number] @ cat.catalogue[DOMAINS[number].items].T
    assert silenced(art(cat, number)).score(query).equal(expected)
    assert not torch.allclose(art(cat, number).score(query), expected)


def test_with_two_domains_all_attention_is_on_the_other_one():
    given = before(N_USERS, dim=4, domains=DOMAINS[:2])
    network = art(CAT(N_USERS, DOMAINS[1].stop, DOMAINS[:2], given).eval(), 1, DOMAINS[:2])
    own, users = network.user_tables[1].weight[:5], torch.arange(5)
    assert network.attention(own, network.adapted(users)).equal(torch.ones(5, 1))


def test_the_vector_of_a_user_is_the_formula_written_out(cat):
    network, user = art(cat, 1), 6
    own = network.user_tables[1].weight[user]
    sources = [network.adapt[place](network.user_tables[number].weight[user]) for place, number in enumerate([0, 2])]
    alike = torch.stack([network.query(own) @ network.key(source) / 4 ** 0.5 for source in sources])
    mixed = sum(weight * network.value(source) for weight, source in zip(alike.softmax(0), sources, strict=True))
    code = cat.encoder(cat.encoded[user].flatten())
    torch.testing.assert_close(network.users(question(user))[0], own + network.out(mixed) + network.invariant(code))


def test_the_parts_add_up_to_both(cat):
    query, own = question(1, 2, 3), art(cat, 0).user_tables[0].weight[1:4]
    both, invariant, transferred = (art(cat, 0, parts=parts).users(query)
                                    for parts in ("both", "invariant", "transferred"))
    torch.testing.assert_close(both, invariant + transferred - own)


def test_tables_of_target_and_sources_are_trained_and_codes_are_not(cat, rng):
    network = art(cat, 0).train()
    train = domain_interactions(rng, N_USERS)[0]
    batch = next(BPR(batch_size=50).batches(train, rng, network, 0))
    BPR()(network, batch)[0].mean().backward()
    assert all(bool(table.weight.grad.any()) for table in (*network.user_tables, network.item_table))
    assert not network.codes.requires_grad
    with torch.no_grad():
        network.user_tables[1].weight.add_(1.0)
    assert network.codes.equal(cat.invariant()) and not cat.encoded[:, 1].equal(network.user_tables[1].weight)


def test_dropout_is_on_the_attention_weights_and_in_training_only(cat):
    network, query = art(cat, 0, dropout=0.5), question(*range(N_USERS))
    still = network.users(query)
    assert network.users(query).equal(still)
    torch.manual_seed(3)
    assert not network.train().users(query).equal(still)
    with torch.no_grad():
        for part in (network.value, network.query):
            torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(network.query.bias)
        found = network.transferred(still, query.users)[:, 0]
    assert len({round(value, 4) for value in found.tolist()}) == 3  # of two equal sources 0, 1 or 2 are left


def test_a_fit_of_three_stages_finds_the_communities():
    """Users of either half like the items of their half."""
    wide = tuple(Domain(name, 24 * place, 24 * place + 24) for place, name in enumerate(("books", "films", "music")))
    drawn = {"n_users": 40, "communities": True, "domains": wide}
    splits = [ratio(train) for train in domain_interactions(torch.Generator().manual_seed(0), **drawn)]
    whole = ratio(joint(torch.Generator().manual_seed(0), **drawn))
    training = Training(max_epochs=30, patience=30, learning_rate=0.02, device="cpu")
    gradient = partial(Gradient, denoiser=Denoiser(), monitor="ndcg@5")
    first = [gradient(partial(Tables, dim=8), BPR(64), training=training).fit(split) for split in splits]
    stage = Before(tuple(model.scorer for model in first), wide)
    quick = replace(training, max_epochs=5, learning_rate=1e-3)
    cat = gradient(partial(CAT, domains=wide, before=stage), MaskedDomains(64, passes=20), training=quick).fit(whole)
    last = gradient(partial(ART, before=Before((cat.scorer,), wide, 1)), BPR(64), training=quick).fit(splits[1])
    blind = gradient(partial(Tables, dim=8), BPR(64), training=Training(max_epochs=1, learning_rate=1e-9, device="cpu"))
    blind.fit(splits[1])
    chance, start, end = (float(evaluate(model, splits[1].test[0], ["ndcg@5"])["ndcg@5"].mean())
                          for model in (blind, first[1], last))
    assert end > 0.9 * start > 1.5 * chance
    assert cat.history[-1]["loss"] < 0.8 * cat.history[1]["loss"]


@pytest.mark.parametrize(("given", "message"), [
    (lambda: replace(before(N_USERS, dim=4), networks=before(N_USERS, dim=4).networks[:1]),
     "was given 1; give the stage before it domains: each"),
    (lambda: replace(before(N_USERS, dim=4), networks=tuple(
        Tables(N_USERS, d.stop - d.start, dim=4 + d.start) for d in DOMAINS)), "have the widths")])
def test_what_the_autoencoder_cannot_go_on_from_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        CAT(N_USERS, N_ITEMS, DOMAINS, given())


def test_one_domain_is_refused(rng):
    network = CAT(N_USERS, 5, DOMAINS[:1], before(N_USERS, dim=4, domains=DOMAINS[:1]))
    with pytest.raises(ValueError, match="the only domain is books; give data with two domains or more"):
        network.bind(domain_interactions(rng, N_USERS)[0])


def test_what_art_cannot_go_on_from_is_refused(cat):
    with pytest.raises(ValueError, match="goes on from CAT and was given Tables"):
        ART(N_USERS, 5, replace(before(N_USERS, dim=4), number=0))
    with pytest.raises(ValueError, match="has one target of 3 domains; give it domains: each"):
        ART(N_USERS, N_ITEMS, Before((cat,), DOMAINS))


@pytest.mark.parametrize(("make", "message"), [
    (lambda cat: art(cat, 0, dropout=1.0), "model.dropout = 1.0 is the share"),
    (lambda cat: CAT(N_USERS, N_ITEMS, DOMAINS, before(N_USERS, dim=4), pad_std=-1.0), "model.pad_std = -1.0 is a")])
def test_values_out_of_range_are_refused(cat, make, message):
    with pytest.raises(ValueError, match=message):
        make(cat)


def test_every_user_has_a_domain_hidden_in_each_pass_and_all_domains_are(rng):
    train = domain_interactions(rng, N_USERS)[0]
    drawn = list(masked_users(train, 8, rng, n_domains=3, passes=4))
    assert [len(batch.query) for batch in drawn] == [8, 8, 4] * 4
    users = torch.cat([batch.query.users for batch in drawn]).view(4, N_USERS)
    assert users.sort(1).values.equal(torch.arange(N_USERS).expand(4, -1)) and not users[0].equal(users[1])
    assert torch.cat([batch.hidden for batch in drawn]).unique().tolist() == [0, 1, 2]
