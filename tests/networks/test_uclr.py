"""UCLR's autoencoder of fitted users, and its adaptation by a product of low rank."""

import copy
from functools import partial

import pytest
import torch

from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query
from recot.data.split import ratio
from recot.denoise.base import Denoiser
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks.factorisation import Tables
from recot.networks.uclr import Adapted, Coded, ContrastiveAutoencoder, root_mean_square
from recot.nn.contracts import Before
from recot.nn.table import clear_gradients
from recot.objectives import contrast
from recot.objectives.contrast import Contrastive, Temperatures

N_USERS, N_ITEMS, WIDTH = 40, 30, 16
DOMAINS = (Domain("films", 0, 18), Domain("books", 18, 30))


@pytest.fixture
def first():
    torch.manual_seed(0)
    return Tables(N_USERS, N_ITEMS, WIDTH)


def second(first, **given):
    torch.manual_seed(1)
    return ContrastiveAutoencoder(N_USERS, N_ITEMS, Before((first,), DOMAINS), **{"code": 8, "hidden": 12, **given})


def third(before, number=1, **given):
    torch.manual_seed(2)
    items = DOMAINS[number].items if number is not None else slice(0, N_ITEMS)
    return Adapted(N_USERS, items.stop - items.start, Before((before,), DOMAINS, number), **{"rank": 4, **given})


def asked(users=N_USERS):
    return Query(torch.arange(users), Ragged.from_lists([[]] * users))


def in_domain(number=1, rng=None):
    """Pairs of one domain, whose items are numbered from 0."""
    domain = DOMAINS[number]
    taken = torch.rand(N_USERS, domain.stop - domain.start, generator=rng) < 0.4
    return Interactions.from_pairs(*taken.nonzero(as_tuple=True), N_USERS, domain.stop - domain.start)


@pytest.mark.parametrize("scale", ["none", "rms"])
def test_users_are_what_their_vectors_are_decoded_to(first, scale):
    network = second(first, scale=scale)
    e, q = first.user_table.weight, first.item_table.weight
    length = e.square().sum(1).mean().sqrt() if scale == "rms" else torch.tensor(1.0)
    expected = network.decoder(network.encoder(e / length)) * length @ q.T
    torch.testing.assert_close(network.score(asked()), expected)
    x = network.vectors(torch.arange(N_USERS))
    assert (root_mean_square(x) == pytest.approx(1.0, abs=1e-6)) == (scale == "rms")
    assert [layer.weight.shape for layer in (network.encoder[0], network.encoder[2], network.decoder[0],
                                             network.decoder[2])] == [(12, 16), (8, 12), (12, 8), (16, 12)]


def test_a_length_of_its_own_makes_scores_and_loss_those_of_other_units(first):
    """Ten times the vectors are the same vectors, coded alike and scored ten times as high."""
    larger = copy.deepcopy(first)
    larger.user_table.weight.data *= 10
    small, large = second(first, scale="rms"), second(larger, scale="rms")
    torch.testing.assert_close(large.score(asked()), 10 * small.score(asked()))
    users = next(Contrastive().batches(in_domain(), torch.Generator().manual_seed(0), small, 0))
    torch.testing.assert_close(*(Contrastive()(network, users)[0] for network in (small, large)))


@pytest.mark.parametrize("scale", ["none", "rms"])
def test_what_ranks_may_be_the_vector_itself_or_the_sum(first, scale):
    raw, decoded, both = (second(first, scale=scale, user_repr=name).users(asked()) for name in (
        "raw", "decoded", "sum"))
    torch.testing.assert_close(raw, first.user_table.weight)
    torch.testing.assert_close(both, raw + decoded)


def test_nothing_of_the_stage_before_is_kept(first):
    """So a later fit cannot change what the network says, and its weights are all that has to be saved."""
    network = second(first)
    adapted = third(network)
    scores = [part.score(asked()) for part in (network, adapted)]
    with torch.no_grad():
        for parameter in (*first.parameters(), *network.parameters(), network.user_vectors, network.temperature):
            parameter += 1
    assert adapted.score(asked()).equal(scores[1]) and bool((adapted.temperature == 1).all())
    for part, other in ((network, second(Tables(N_USERS, N_ITEMS, WIDTH))), (adapted, third(second(first)))):
        other.load_state_dict(part.state_dict())
        assert other.score(asked()).equal(part.score(asked()))


@pytest.mark.parametrize("number", [0, 1, None])
@pytest.mark.parametrize("rank", [4, None])
def test_the_last_stage_starts_as_the_second_bit_by_bit(first, number, rank):
    network = second(first, scale="rms")
    adapted = third(network, number, rank=rank)
    items = slice(None) if number is None else DOMAINS[number].items
    assert adapted.users(asked()).equal(network.users(asked())) and adapted.items().equal(network.items()[items])
    assert adapted.score(asked()).equal(network.users(asked()) @ network.items()[items].T)


def test_directions_start_as_long_as_rows_of_any_width():
    torch.manual_seed(0)
    network = ContrastiveAutoencoder(3, 5, Before((Tables(3, 5, 400),), (Domain("all", 0, 5),)))
    adapted = Adapted(3, 5, Before((network,), (Domain("all", 0, 5),)), rank=300)
    assert float(adapted.directions.square().sum(1).mean()) == pytest.approx(1, rel=0.02)
    assert not bool(adapted.coordinates.weight.any())


def trained(network, steps, objective=None):
    train, rng = in_domain(), torch.Generator().manual_seed(0)
    objective = objective or contrast.Adapted(16, contrast=Contrastive(alpha=0.1))
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    batches = [batch for _ in range(steps) for batch in objective.batches(train, rng, network, 0)][:steps]
    for batch in batches:
        objective(network, batch)[0].mean().backward()
        optimizer.step()
        clear_gradients(network)
    return network


def changed(network, other):
    return {name for name, value in network.state_dict().items() if not value.equal(other.state_dict()[name])}


def test_what_the_users_moved_by_is_of_low_rank(first):
    network = second(first)
    adapted = trained(third(network), 30)
    moved = adapted.vectors(torch.arange(N_USERS)) - network.vectors(torch.arange(N_USERS))
    assert int(torch.linalg.matrix_rank(moved.double(), atol=1e-5)) == 4


def test_after_one_step_of_what_moves_users_only_their_coordinates_have_moved(first):
    start = third(second(first), train_ae=False, train_items=False)
    adapted = trained(third(second(first), train_ae=False, train_items=False), 1)
    state = {"temperature", "visits", "drift"}
    assert changed(adapted, start) == {"coordinates.weight"} | state
    assert changed(trained(adapted, 1), start) == {"coordinates.weight", "directions"} | state
    assert not adapted.base.requires_grad and adapted.base.grad is None


@pytest.mark.parametrize(("given", "trains"), [
    ({}, {"coordinates", "directions", "encoder", "decoder", "item_table"}),
    ({"train_ae": False}, {"coordinates", "directions", "item_table"}),
    ({"train_items": False}, {"coordinates", "directions", "encoder", "decoder"}),
    ({"rank": None}, {"user_table", "encoder", "decoder", "item_table"})])
def test_what_is_not_to_be_trained_stays(first, given, trains):
    start, adapted = third(second(first), **given), trained(third(second(first), **given), 3)
    moved = {name.split(".")[0] for name in changed(adapted, start)}
    assert moved - {"temperature", "visits", "drift"} == trains


def test_temperatures_go_on_from_those_of_the_stage_before(first):
    network = second(first, temperature=0.7)
    network.visits += 3
    adapted = third(network)
    assert bool((adapted.temperature == 0.7).all()) and bool((adapted.visits == 3).all())
    trained(adapted, 2)
    assert bool((network.temperature == 0.7).all()) and int(adapted.visits.max()) == 5


def test_without_stage_2_temperatures_stay_and_no_vector_passes_through_the_autoencoder(first):
    network = second(first)
    start = third(network, user_repr="raw")
    adapted = trained(third(network, user_repr="raw"), 3, contrast.Adapted(16, stage2_weight=0))
    assert changed(adapted, start) == {"coordinates.weight", "directions", "item_table.weight"}


@pytest.mark.parametrize("rank", [4, None])
def test_what_is_frozen_is_not_penalised(first, rank):
    adapted = trained(third(second(first), rank=rank), 3)
    users, items = adapted.free(asked(), torch.arange(3)[None].expand(N_USERS, 3))
    start = adapted.base if rank else 0
    torch.testing.assert_close(users, adapted.vectors(torch.arange(N_USERS)) - start)
    assert items.shape == (N_USERS, 3, WIDTH)


def test_a_network_is_fitted_on_another_and_validated_after_so_many_steps(first):
    taken = torch.arange(N_USERS)[:, None] % 2 == torch.arange(N_ITEMS) % 2
    split = ratio(Interactions.from_pairs(*taken.nonzero(as_tuple=True), N_USERS, N_ITEMS))
    objective = Contrastive(16, steps=7, temperatures=Temperatures("rho", 0.1, learning_rate=0.01))
    model = Gradient(partial(ContrastiveAutoencoder, before=Before((first,), DOMAINS), code=4, hidden=8), objective,
                     Denoiser(), Training(max_epochs=3, patience=5, device="cpu"))
    model.fit(split)
    assert len(model.history) == 3 and model.selection.best_step % 7 == 0
    assert model.history[-1]["reconstruction"] > model.history[-1]["reconstruction_floor"] > 0
    assert 0 < model.history[-1]["tau_mean"] < model.history[0]["tau_mean"] < 1
    passes = model.network.visits.sum()
    assert int(passes) == model.best_epoch * (16 + 16 + 8 + 16 + 16 + 8 + 16)  # 40 users in batches of 16, 7 of these
    again = copy.deepcopy(model).fit(split)
    assert again.network.state_dict().keys() == model.network.state_dict().keys()
    assert all(value.equal(again.network.state_dict()[name]) for name, value in model.network.state_dict().items())


@pytest.mark.parametrize("stage", [2, 3])
def test_an_interrupted_fit_goes_on_bit_by_bit(first, tmp_path, stage):
    """With temperatures that have averages, and masks that are drawn."""
    class Stop(Exception):
        pass

    def observe(history):
        if len(history) == 3:
            raise Stop

    def fit(**given):
        return Gradient(network, objective, Denoiser(), Training(
            max_epochs=5, patience=9, learning_rate=0.01, device="cpu", checkpoint_seconds=0), **given).fit(split)

    contrastive = Contrastive(16, steps=5, mask="feature", temperatures=Temperatures(
        "rho", 0.1, learning_rate=0.05, beta=0.9, gamma=0.9))
    objective = contrastive if stage == 2 else contrast.Adapted(32, contrast=contrastive)
    network = partial(ContrastiveAutoencoder, before=Before((first,), DOMAINS), code=4, hidden=8) if stage == 2 else (
        partial(Adapted, before=Before((second(first),), DOMAINS), rank=3))
    taken = torch.rand(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(3)) < 0.4
    split = ratio(Interactions.from_pairs(*taken.nonzero(as_tuple=True), N_USERS, N_ITEMS))
    whole = fit()
    with pytest.raises(Stop):
        fit(folder=tmp_path, observe=observe)
    resumed = fit(folder=tmp_path)
    assert [{**row, "seconds": 0} for row in resumed.history] == [{**row, "seconds": 0} for row in whole.history]
    assert resumed.history[-1]["tau_mean"] != resumed.history[2]["tau_mean"]
    kept = whole.network.state_dict()
    assert all(value.equal(kept[name]) for name, value in resumed.network.state_dict().items())


@pytest.mark.parametrize(("build", "fault"), [
    (lambda first: second(first, code=0), "model.code = 0 is the width"),
    (lambda first: second(first, hidden=0), "model.hidden = 0 is the width"),
    (lambda first: second(first, temperature=0), "model.temperature = 0 divides"),
    (lambda first: third(second(first), rank=16), "model.rank = 16 saves nothing over all 16 columns.*give 1 to 15"),
    (lambda first: third(second(first), rank=0), "model.rank = 0 saves nothing"),
    (lambda first: third(first), "goes on from an autoencoder, and the stage before fitted Tables; put a stage")])
def test_what_makes_no_sense_is_refused(first, build, fault):
    with pytest.raises(ValueError, match=fault):
        build(first)


def test_a_base_says_what_a_subclass_has_to_define(first):
    network = second(first)
    with pytest.raises(TypeError, match="has to define vectors"):
        Coded(network.encoder, network.decoder, network.length, "decoded").vectors(torch.arange(2))
