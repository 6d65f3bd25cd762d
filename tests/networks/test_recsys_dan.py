"""RecSys-DAN: what is carried over, what is drawn of the source, and what each side of the game moves."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from recot.data.domains import of
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.denoise.base import Denoiser
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks.factorisation import Tables
from recot.networks.recsys_dan import RecSys_DAN, Source
from recot.nn.contracts import Before
from recot.nn.table import clear_gradients
from recot.objectives.transfer import Adversarial, told_apart

DOMAINS = (Domain("books", 0, 6), Domain("films", 6, 10), Domain("music", 10, 17))


def question(*users):
    return Query(torch.tensor(users), Ragged.from_lists([[]] * len(users)))


@pytest.fixture
def train(rng):
    users, items = (torch.rand(12, 17, generator=rng) < 0.4).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 12, 17, domains=DOMAINS)


@pytest.fixture
def others(train):
    return of(train, [DOMAINS[0], DOMAINS[2]])


@pytest.fixture
def own(train):
    return of(train, [DOMAINS[1]])


@pytest.fixture
def before(others):
    torch.manual_seed(0)
    source = Source(12, 13, dim=5, std=0.5)
    source.bind(others)
    return Before((None, source, None), DOMAINS, 1)


@pytest.fixture
def network(before):
    return RecSys_DAN(12, 4, before, std=0.5, hidden=7)


def fitted(network, train, objective, epochs=3, seed=0):
    """The network after a training like Step's, whose optimiser has all parameters."""
    optimizer, rng = torch.optim.Adam(network.parameters(), 0.02), torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for batch in objective.batches(train, rng, network, epoch):
            objective(network, batch)[0].mean().backward()
            optimizer.step()
            clear_gradients(network)
    return network


def moved(network, state):
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, state[name])}


def kept(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_the_score_of_a_source_is_the_weighted_code(before):
    source = before.network
    f, g = (layers(table()) for layers, table in ((source.user_map, source.user_table),
                                                 (source.item_map, source.item_table)))
    expected = torch.einsum("ud,id,d->ui", f, g, source.weights)
    torch.testing.assert_close(source.score(question(*range(12))), expected)


def test_weights_and_maps_start_as_stated():
    source = Source(3, 4, dim=400)
    assert source.weights.std().item() == pytest.approx(400 ** -0.5, rel=0.2)
    assert source.user_table.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert source.user_map[0].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert not source.item_map[2].bias.any()


def test_a_target_starts_from_the_users_and_maps_of_its_source_and_with_items_of_its_own(network, before):
    source, items = before.network, network.item_table.weight
    torch.testing.assert_close(network.users(question(*range(12))), source.users(question(*range(12))))
    torch.testing.assert_close(network.items(), source.item_map(items))
    assert items.shape == (4, 5)
    ids = torch.tensor([[1, 3], [0, 0]])
    scores = network.codes(question(7, 2), ids) @ network.weights
    torch.testing.assert_close(scores, network.score(question(7, 2)).gather(1, ids))


def test_a_change_of_the_source_changes_nothing_afterwards(network, before):
    expected = network.score(question(3))
    with torch.no_grad():
        for parameter in before.network.parameters():
            parameter.zero_()
    assert torch.equal(network.score(question(3)), expected)


def test_the_state_is_that_of_the_target_alone(network, before):
    """Neither pairs nor tables of the source are in it, and it is enough to rank by."""
    assert {name.partition(".")[0] for name in network.state_dict()} == {
        "user_vectors", "weights", "user_map", "item_map", "item_table", "discriminator"}
    other = RecSys_DAN(12, 4, Before((Source(12, 13, dim=5),), DOMAINS, 1), hidden=7)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.score(question(*range(12))), network.score(question(*range(12))))


def test_codes_of_the_source_are_those_of_its_own_networks(network, before, others):
    source, pairs = before.network, torch.stack([others.users, others.items])
    expected = source.user_map(source.user_table(others.users)) * source.item_map(source.item_table(others.items))
    torch.testing.assert_close(network.source_codes(pairs), expected)


@pytest.mark.parametrize("count", [1, 2, 7, 2000])
def test_source_domains_have_equal_shares(network, others, count):
    users, items = network.draw(count, torch.Generator().manual_seed(0))
    assert others.contains(users, items).all() and len(users) == count
    assert abs(int((items < 6).sum()) - count / 2) <= 0.5
    if count == 2000:
        assert len((users * 13 + items).unique()) == len(others)


def test_a_discriminator_that_knows_nothing(network, others):
    torch.nn.init.zeros_(network.discriminator.output.weight)
    torch.nn.init.zeros_(network.discriminator.output.bias)
    codes = network.source_codes(torch.stack([others.users, others.items]))
    assert told_apart(codes, codes[:3], network.discriminator).item() == pytest.approx(1.386294, abs=1e-6)
    assert F.softplus(-network.discriminator(codes)).mean().item() == pytest.approx(0.693147, abs=1e-6)


def test_a_step_of_the_discriminator_moves_it_alone_and_one_of_the_model_all_else(network, own):
    objective, state = Adversarial(8, eta=1.0), kept(network)
    batch = next(objective.batches(own, torch.Generator().manual_seed(0), network, 0))
    loss, _ = objective(network, batch)  # with the discriminator's step
    of_discriminator = {name for name in state if name.startswith("discriminator")}
    assert moved(network, state) == of_discriminator
    assert all(parameter.grad is None for parameter in network.discriminator.parameters())
    state = kept(network)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    loss.mean().backward()
    optimizer.step()
    assert moved(network, state) == {*state} - of_discriminator - {"user_vectors", "weights"}


def test_the_loss_is_that_of_the_equations(network, own):
    objective = Adversarial(8, penalty=0.3, eta=0.5, discriminator_rate=0.05)
    batch = next(objective.batches(own, torch.Generator().manual_seed(0), network, 0))
    moving = copy.deepcopy(network.discriminator)  # by plain Adam, with the betas of the sheet
    users, chosen, other = batch.query.users, batch.items, batch.negatives[:, 0]
    f, g = network.user_map(network.user_vectors), network.item_map(network.item_table.weight)
    own_codes, theirs = f[users] * g[chosen], network.source_users[batch.sources[0]] * network.source_items[
        batch.sources[1]]
    optimizer = torch.optim.Adam(moving.parameters(), 0.05, betas=(0.5, 0.999))
    (F.softplus(-moving(theirs)).mean() + F.softplus(moving(own_codes.detach())).mean()).backward()
    optimizer.step()
    expected = (F.softplus(-((own_codes - f[users] * g[other]) @ network.weights))
                + 0.5 * F.softplus(-moving(own_codes))
                + 0.15 * network.item_table.weight[torch.stack([chosen, other])].square().sum((0, 2)))
    loss, _ = objective(network, batch)
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(network.discriminator.parameters(), moving.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_a_say_the_discriminator_changes_nothing_bit_by_bit(network, own):
    other = copy.deepcopy(network)
    for parameter in other.discriminator.parameters():
        torch.nn.init.normal_(parameter)
    scores = [fitted(made, own, Adversarial(8, eta=0.0)).score(question(*range(12))) for made in (network, other)]
    assert torch.equal(*scores)


def test_the_game_brings_codes_of_target_and_source_together(before, own):
    """Of two fits of the same start, the one that plays ends closer to the source."""
    distances = []
    for eta in (0.0, 3.0):
        torch.manual_seed(1)
        network = fitted(RecSys_DAN(12, 4, before, std=2.0), own, Adversarial(8, penalty=0.0, eta=eta,
                                                                            discriminator_rate=0.01), epochs=60)
        source = network.source_codes(network.sources)
        target = network.codes(Query(own.users, question().history), own.items[:, None])[:, 0]
        distances.append((source.mean(0) - target.mean(0)).norm().item())
    assert distances[1] < 0.7 * distances[0]


def test_an_interrupted_game_goes_on_with_the_moments_of_its_discriminator(network, own):
    """Two epochs in one go, and one after the other from a saved state."""
    whole, halves = copy.deepcopy(network), copy.deepcopy(network)

    def epoch(made, objective, optimizer, rng):
        for batch in objective.batches(own, rng, made, 0):
            objective(made, batch)[0].mean().backward()
            optimizer.step()
            clear_gradients(made)

    objective, optimizer = Adversarial(8, eta=1.0), torch.optim.SGD(whole.parameters(), 0.1)
    for seed in (0, 1):
        epoch(whole, objective, optimizer, torch.Generator().manual_seed(seed))
    first, second = Adversarial(8, eta=1.0), Adversarial(8, eta=1.0)
    epoch(halves, first, torch.optim.SGD(halves.parameters(), 0.1), torch.Generator().manual_seed(0))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.state_dict()["_extra_state"]["optimizer"] is not None  # a checkpoint before the next step
    again = copy.deepcopy(halves)
    epoch(again, second, torch.optim.SGD(again.parameters(), 0.1), torch.Generator().manual_seed(1))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())
    fresh = copy.deepcopy(halves)
    epoch(fresh, Adversarial(8, eta=1.0), torch.optim.SGD(fresh.parameters(), 0.1), torch.Generator().manual_seed(1))
    assert not torch.equal(fresh.discriminator.hidden.weight, whole.discriminator.hidden.weight)


def test_a_stopped_fit_goes_on_as_if_it_had_not_been(before, own, tmp_path):
    """Through the checkpoint of training, from which nothing but tensors and plain values is read."""
    class Stop(Exception):
        pass

    def stop(history):
        if len(history) == 3:
            raise Stop

    def model(folder=None, observe=lambda history: None):
        training = Training(max_epochs=5, learning_rate=0.01, device="cpu", checkpoint_seconds=0)
        return Gradient(partial(RecSys_DAN, before=before, hidden=7), Adversarial(8, eta=1.0), Denoiser(), training,
                        folder=folder, observe=observe)

    split = Split(own, EvalSet(question(), Ragged.from_lists([]), Ragged.from_lists([]), None, "valid"), ())
    whole = model().fit(split)
    with pytest.raises(Stop):
        model(tmp_path, stop).fit(split)
    assert (tmp_path / "last.ckpt").exists()
    resumed = model(tmp_path).fit(split)
    assert len(resumed.history) == 5
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name


def test_another_stage_before_is_refused():
    with pytest.raises(TypeError, match="goes on from Tables; its stage before has to be recsys_source"):
        RecSys_DAN(12, 4, Before((Tables(12, 13, 5),), DOMAINS, 0))


def test_one_network_is_no_target_of_several_sources():
    with pytest.raises(ValueError, match="given 2 sources and no domain; use domains=each"):
        RecSys_DAN(12, 17, Before((Source(12, 13), Source(12, 11)), DOMAINS))


@pytest.mark.parametrize(("made", "remedy"), [
    (lambda before: Source(2, 3, dim=0), "width of the vectors"), (lambda before: Source(2, 3, std=0.0), "0.01"),
    (lambda before: RecSys_DAN(12, 4, before, std=0.0), "0.01"),
    (lambda before: RecSys_DAN(12, 4, before, hidden=0), "number of units"),
    (lambda before: Adversarial(eta=-1.0), "told apart"),
    (lambda before: Adversarial(discriminator_rate=0.0), "more than 0")])
def test_what_cannot_be_is_refused(made, before, remedy):
    with pytest.raises(ValueError, match=remedy):
        made(before)
