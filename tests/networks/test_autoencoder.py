"""Autoencoders: the sparse product, what acts in training only, and the two-step loop of the code they come from."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.data.split import ratio
from recot.denoise.base import Denoiser
from recot.fit.gradient import Gradient
from recot.fit.rmsprop import RMSProp
from recot.fit.settings import Training
from recot.networks.autoencoder import Autoencoder
from recot.objectives.rows import RowBCE

N_USERS, N_ITEMS = 12, 15


@pytest.fixture
def train(rng):
    users, items = (torch.rand(N_USERS, N_ITEMS, generator=rng) < 0.3).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, N_USERS, N_ITEMS)


def made(train, **given):
    """A network in evaluation mode, its biases moved away from where they start."""
    torch.manual_seed(0)
    network = Autoencoder(N_USERS, N_ITEMS, **{"dim": 4} | given).eval()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    network.bind(train)
    return network


def everybody(train):
    users = torch.arange(N_USERS)
    return Query(users, train.by_user)


def test_the_score_of_cdae_is_the_dense_product(train):
    network = made(train, user_vector="trained", activation="sigmoid")
    x, own = train.by_user.dense(N_ITEMS), network.user_table.weight
    h = (x @ network.encoder.weight + own + network.first_bias).sigmoid()
    torch.testing.assert_close(network.score(everybody(train)), h @ network.decoder.weight.T + network.item_bias)


def test_the_score_of_mult_vae_is_that_of_dense_layers_at_the_mean(train):
    network = made(train, hidden=6, activation="identity", variational=True, normalize=True)
    x = F.normalize(train.by_user.dense(N_ITEMS))
    mean = network.inward((x @ network.encoder.weight + network.first_bias).tanh())[:, :4]
    expected = network.outward(mean).tanh() @ network.decoder.weight.T + network.item_bias
    torch.testing.assert_close(network.score(everybody(train)), expected)


@pytest.mark.parametrize("given", [{}, {"normalize": True, "variational": True, "hidden": 3}])
def test_an_empty_history_has_the_score_of_a_zero_row_and_no_question_no_score(train, given):
    network = made(train, activation="identity", **given)
    nobody = Query(torch.tensor([-1, -1]), Ragged.from_lists([[], []]))
    zero = network.first_bias if network.inward is None else network.inward(network.first_bias.tanh())[:4]
    vector = zero if network.outward is None else network.outward(zero).tanh()
    expected = (network.decoder.weight @ vector + network.item_bias).expand(2, -1)
    torch.testing.assert_close(network.score(nobody), expected)
    assert network.score(nobody.slice(0, 0)).shape == (0, N_ITEMS)


def test_corruption_hides_items_in_training_only_and_keeps_the_mean(train):
    network, query = made(train, corruption=0.25), everybody(train)
    assert network.encode(query).kept is None and network.score(query).equal(network.score(query))
    network.train()
    torch.manual_seed(1)
    kept = torch.stack([network.encode(query).kept for _ in range(2000)])
    assert sorted(kept.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.01)
    torch.manual_seed(1)
    code = network.encode(query)
    assert code.kept.equal(kept[0]) and code.corruption == 0.25  # all chance comes from torch's global generator
    row = torch.zeros(N_USERS, N_ITEMS)
    row[query.history.rows, query.history.values] = kept[0]
    torch.testing.assert_close(code.vectors[:, :4], (row @ network.encoder.weight + network.first_bias).relu())


def test_codes_are_drawn_around_their_mean_in_training_only(train):
    network, query = made(train, variational=True, corruption=0.0, activation="identity"), everybody(train)
    exact = network.encode(query)
    assert exact.vectors[:, :4].equal(exact.mean) and exact.log_std.shape == exact.mean.shape == (N_USERS, 4)
    network.train()
    torch.manual_seed(0)
    drawn = torch.stack([network.users(query)[:, :4] for _ in range(4000)])
    torch.testing.assert_close(drawn.mean(0), exact.mean, atol=0.1, rtol=0.1)
    torch.testing.assert_close(drawn.std(0), exact.log_std.exp(), rtol=0.1, atol=0)


def test_the_row_of_a_known_user_carries_the_weights_of_its_pairs(train, rng):
    weights = torch.rand(len(train), generator=rng)
    network = made(train.reweighted(weights), activation="identity")
    x = torch.zeros(N_USERS, N_ITEMS)
    x[train.users, train.items] = weights
    expected = (x @ network.encoder.weight + network.first_bias) @ network.decoder.weight.T + network.item_bias
    torch.testing.assert_close(network.score(everybody(train)), expected)
    network.bind(train)
    torch.testing.assert_close(network.score(everybody(train)), made(train, activation="identity").score(
        everybody(train)))


def test_a_pair_outside_training_an_unseen_user_and_a_binary_input_count_one(train, rng):
    light = train.reweighted(torch.rand(len(train), generator=rng))
    weighted, binary = made(light), made(light, input="binary")
    known, unseen = everybody(train), Query(torch.full((N_USERS,), -1), train.by_user)
    assert weighted.row(unseen).eq(1).all() and binary.row(known).eq(1).all()
    torch.testing.assert_close(weighted.score(unseen), binary.score(known))
    new = int((~train.by_user.dense(N_ITEMS)[3].bool()).nonzero()[0])
    assert weighted.row(Query(torch.tensor([3]), Ragged.from_lists([[new]]))).tolist() == [1.0]


def test_without_a_user_vector_it_is_inductive_as_far_as_the_pairs_are_unweighted(train):
    """Once a denoiser has weighted them, a known user is scored by its weights, which an unseen one has not."""
    network, unseen = made(train), Query(torch.full((N_USERS,), -1), train.by_user)
    assert network.inductive and not made(train, user_vector="frozen").inductive
    assert network.score(unseen).equal(network.score(everybody(train)))
    network.bind(train.reweighted(torch.full((len(train),), 0.5)))
    assert not network.score(unseen).allclose(network.score(everybody(train)))
    with pytest.raises(ValueError, match="pick an inductive model"):
        made(train, user_vector="trained").score(unseen)


def test_the_truncated_start_is_small_with_biases_zero_and_the_other_is_xavier():
    small, wide = (Autoencoder(1000, 2000, dim=8, start=start) for start in ("truncated", "xavier"))
    assert small.encoder.weight.abs().max() <= 2 / 500 and small.encoder.weight.std().item() > 0.8 / 500
    assert not small.item_bias.any() and not small.first_bias.any()
    assert wide.encoder.weight.std().item() == pytest.approx((2 / 2008) ** 0.5, rel=0.1)
    assert 0 < wide.item_bias.abs().max() <= 2e-3


def test_a_frozen_user_vector_gets_no_gradient_and_stays_where_it_started(train):
    split = ratio(train)
    model = Gradient(partial(Autoencoder, dim=4, user_vector="frozen", corruption=0.5), RowBCE(5, "corruption"),
                     Denoiser(), Training(max_epochs=3, weight_decay=0.1, optimizer="rmsprop", device="cpu"))
    start = model.build(N_USERS, N_ITEMS).state_dict()["user_table.weight"].clone()
    trained = model.fit(split).network.user_table.weight
    assert trained.grad is None and trained.equal(start)
    assert not model.network.encoder.weight.equal(model.build(N_USERS, N_ITEMS).encoder.weight)


def test_biases_are_spared_by_weight_decay_and_nothing_else():
    network = Autoencoder(3, 4, dim=2, hidden=5, user_vector="trained")
    assert set(network.undecayed) == {name for name, parameter in network.named_parameters() if parameter.dim() == 1}


def test_two_steps_equal_a_dense_loop_written_out_after_the_code_it_comes_from(train):
    """Dense rows, ``floor`` of the corrupted row, l2 of both matrices in the loss, no sparse product anywhere."""
    c, l2, split = 0.2, 0.01, ratio(train)
    settings = Training(max_epochs=1, learning_rate=1e-2, weight_decay=l2, optimizer="rmsprop", device="cpu")
    model = Gradient(partial(Autoencoder, dim=4, user_vector="frozen", corruption=c, start="truncated"),
                     RowBCE(6, "corruption", shuffle=False), Denoiser(), settings)
    found = model.fit(split).network.state_dict()

    start = model.build(N_USERS, N_ITEMS).state_dict()  # seeds anew, so that the masks below are those of the fit
    e, d, b, h0 = (start[name].clone().requires_grad_() for name in (
        "encoder.weight", "decoder.weight", "item_bias", "first_bias"))
    optimizer, dense, items = RMSProp([e, d, b, h0], 1e-2), split.train.by_user.dense(N_ITEMS), split.train.by_user
    users = split.train.activity.nonzero().flatten()
    assert 6 < len(users) <= 12
    for batch in users.split(6):
        own = items.take(batch)
        x, mask = dense[batch], torch.zeros(len(batch), N_ITEMS)
        mask[own.rows, own.values] = F.dropout(torch.ones(len(own.values)), c)
        logits = (x * mask @ e + start["user_table.weight"][batch] + h0).relu() @ d.T + b
        seen = (x * mask).floor()
        loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        total = (seen * (1 - c) * loss + (1 - seen) * c * loss).mean() + l2 * (e.square().sum() + d.square().sum()) / 2
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for name, ours in (("encoder.weight", e), ("decoder.weight", d), ("item_bias", b), ("first_bias", h0)):
        torch.testing.assert_close(found[name], ours.data, atol=1e-7, rtol=1e-5)
        assert not found[name].equal(start[name])


def test_items_are_joined_once_for_all_questions_and_anew_after_a_change(rng):
    """Fused optimisers raise no version, so what training moved is known by the change of mode."""
    network = Autoencoder(5, 7, 3)
    fresh = network.items().detach().clone()
    network.eval()
    with torch.no_grad():
        assert network.items() is network.items() and torch.equal(network.items(), fresh)
        network.load_state_dict({name: tensor + 1 for name, tensor in network.state_dict().items()})
        assert torch.equal(network.items(), fresh + 1)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 0.5, fused=True)
    network.items().sum().backward()
    optimizer.step()
    moved = network.items().detach().clone()
    network.eval()
    with torch.no_grad():
        assert torch.equal(network.items(), moved) and not torch.equal(moved, fresh + 1)
    assert network.items().requires_grad and copy.deepcopy(network).joined is None
