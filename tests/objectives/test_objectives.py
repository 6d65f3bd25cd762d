"""Which scores enter which loss."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from observed import interactions

from recot.batches.pairs import pairs
from recot.batches.rows import rows
from recot.denoise.reweight import RCE, TCE
from recot.networks.autoencoder import Autoencoder
from recot.networks.buir import BUIR
from recot.networks.factorisation import Tables
from recot.objectives.pairs import BCE, BPR, Bootstrap, DirectAU, InfoNCE
from recot.objectives.rows import Multinomial, RowBCE, SampledRowBCE

KNOWN = SimpleNamespace(inductive=False)  # a network that needs no history


@pytest.fixture
def train(rng):
    return interactions(rng, 12, 15, share=0.3)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Tables(12, 15, dim=4)


def test_bpr_compares_each_item_with_its_own_negatives(train, network, rng):
    objective = BPR(batch_size=10, negatives=2)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    z, v = network.user_table.weight[batch.query.users], network.item_table.weight
    margins = (z[:, None] * (v[batch.negatives] - v[batch.items][:, None])).sum(-1)
    torch.testing.assert_close(objective(network, batch)[0], F.softplus(margins).mean(1))


def test_bpr_of_equal_embeddings_is_log_two(train, network, rng):
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)
    objective = BPR(batch_size=10)
    loss, _ = objective(network, next(objective.batches(train, rng, KNOWN, 0)))
    assert loss.tolist() == pytest.approx([math.log(2)] * 10)


def test_infonce_is_cross_entropy_of_cosines_over_tau(train, network, rng):
    objective = InfoNCE(batch_size=10, tau=0.3)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    expected = F.cross_entropy(u @ v.T / 0.3, torch.arange(10), reduction="none")
    torch.testing.assert_close(objective(network, batch)[0], expected)


def test_symmetric_averages_both_directions(train, network, rng):
    batch = next(pairs(train, 10, rng))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    logits = u @ v.T / 0.3
    both = (F.cross_entropy(logits, torch.arange(10)) + F.cross_entropy(logits.T, torch.arange(10))) / 2
    torch.testing.assert_close(InfoNCE(10, 0.3, symmetric=True)(network, batch)[0].mean(), both)


def test_mask_takes_observed_columns_out_of_the_denominator(train, network, rng):
    objective = InfoNCE(batch_size=20, tau=0.3, duplicates="mask")
    batch = next(objective.batches(train, rng, KNOWN, 0))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    logits = u @ v.T / 0.3
    for row, user in enumerate(batch.query.users):
        kept = [j for j, item in enumerate(batch.items)
                if j == row or not train.contains(user[None], item[None]).item()]
        expected = logits[row, kept].logsumexp(0) - logits[row, row]
        torch.testing.assert_close(objective(network, batch)[0][row], expected)
    assert batch.observed.sum() > 20  # otherwise nothing was masked


def test_multi_positive_shares_the_target_among_observed_columns(train, network, rng):
    objective = InfoNCE(batch_size=20, tau=0.3, duplicates="multi_positive")
    batch = next(objective.batches(train, rng, KNOWN, 0))
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(20))
    assert batch.targets.gt(0).equal(batch.observed) and batch.targets.max(1).values.min() < 1
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    expected = -(batch.targets * (u @ v.T / 0.3).log_softmax(-1)).sum(-1)
    torch.testing.assert_close(objective(network, batch)[0], expected)


def test_weights_of_pairs_multiply_their_loss(train, network, rng):
    weights = torch.rand(len(train), generator=rng)
    for objective in (BPR(10), InfoNCE(10)):
        plain = objective(network, next(objective.batches(train, rng.manual_seed(3), KNOWN, 0)))[0]
        batch = next(objective.batches(train.reweighted(weights), rng.manual_seed(3), KNOWN, 0))
        torch.testing.assert_close(objective(network, batch)[0], plain * batch.weights)


def test_the_squared_penalty_shrinks_the_three_vectors_of_a_pair(train, network, rng):
    batch = next(BPR(10).batches(train, rng, KNOWN, 0))
    u, v = network.user_table.weight[batch.query.users], network.item_table.weight
    norms = u.square().sum(1) + v[batch.items].square().sum(1) + v[batch.negatives[:, 0]].square().sum(1)
    extra = BPR(10, penalty=0.3)(network, batch)[0] - BPR(10)(network, batch)[0]
    torch.testing.assert_close(extra, 0.15 * norms)


def test_the_norm_penalty_is_that_of_three_matrices_over_the_batch(train, network, rng):
    batch = next(BPR(10).batches(train, rng, KNOWN, 0))
    u, v = network.user_table.weight[batch.query.users], network.item_table.weight
    total = u.norm() + v[batch.items].norm() + v[batch.negatives[:, 0]].norm()
    extra = BPR(10, penalty=0.3, penalty_form="norm")(network, batch)[0] - BPR(10)(network, batch)[0]
    torch.testing.assert_close(extra, (0.3 * total / 10).expand(10))


def test_the_mean_of_directau_is_alignment_plus_half_gamma_times_both_uniformities(train, network, rng):
    objective = DirectAU(batch_size=10, gamma=2.0)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    u = F.normalize(network.user_table.weight[batch.query.users])
    v = F.normalize(network.item_table.weight[batch.items])
    spread = sum(torch.pdist(z).square().mul(-2).exp().mean().log() for z in (u, v))
    torch.testing.assert_close(objective(network, batch)[0].mean(), (u - v).square().sum(1).mean() + spread)


def test_directau_of_one_pair_is_alignment_alone(train, network, rng):
    loss, _ = DirectAU(gamma=5.0)(network, next(pairs(train, 1, rng)))
    assert loss.shape == (1,) and 0 <= loss.item() <= 4


def test_bce_has_one_loss_per_entry_and_tells_which_were_observed(train, network, rng):
    objective = BCE(batch_size=10, negatives=2)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    loss, labelled = objective(network, batch)
    z, v = network.user_table.weight[batch.query.users], network.item_table.weight
    logits = (z[:, None] * v[torch.cat([batch.items[:, None], batch.negatives], 1)]).sum(-1)
    assert labelled.labels.tolist() == [[1.0, 0.0, 0.0]] * 10
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, labelled.labels, reduction="none"))


def test_weights_of_pairs_scale_the_observed_entry_of_bce_and_no_other(train, network, rng):
    half = train.reweighted(torch.full((len(train),), 0.5))
    (light, _), (full, _) = (BCE(10)(network, next(BCE(10).batches(x, rng.manual_seed(1), KNOWN, 0)))
                             for x in (half, train))
    torch.testing.assert_close(light, full * torch.tensor([0.5, 1.0]))


def test_bootstrap_predicts_each_side_from_the_other(train, rng):
    torch.manual_seed(0)
    network, objective = BUIR(12, 15, dim=4), Bootstrap(batch_size=10)
    torch.nn.init.normal_(network.target.user_table.weight)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    online, target, q = network.online, network.target, network.predictor
    expected = sum(2 - 2 * F.cosine_similarity(q(a), b) for a, b in (
        (online.users(batch.query), target.items(batch.items)), (online.items(batch.items), target.users(batch.query))))
    torch.testing.assert_close(objective(network, batch)[0], expected)


def autoencoder(**given):
    torch.manual_seed(0)
    return Autoencoder(12, 15, **{"dim": 4} | given)


def entries(objective, network, batch):
    """The loss with the same corruption at every call."""
    torch.manual_seed(7)
    return objective(network, batch)[0]


def test_rowbce_is_the_cross_entropy_of_every_item_of_the_row(train, network, rng):
    batch = next(RowBCE(5).batches(train, rng, KNOWN, 0))
    logits = network.user_table.weight[batch.query.users] @ network.item_table.weight.T
    expected = F.binary_cross_entropy_with_logits(logits, train.by_user.take(batch.query.users).dense(15),
                                                  reduction="none")
    torch.testing.assert_close(RowBCE(5)(network, batch)[0], expected)


def test_the_weights_of_rowbce_follow_what_the_network_saw(train, rng):
    network, batch = autoencoder(corruption=0.2), next(rows(train, 12, rng))
    weights = entries(RowBCE(weighting="corruption"), network, batch) / entries(RowBCE(), network, batch)
    torch.manual_seed(7)
    seen = network.encode(batch.query).kept > 0
    observed = torch.zeros_like(weights, dtype=torch.bool)
    observed[batch.query.history.rows[seen], batch.query.history.values[seen]] = True
    torch.testing.assert_close(weights, torch.where(observed, 0.8, 0.2))
    assert 0 < int(observed.sum()) < len(seen)


def test_at_corruption_one_half_every_weight_is_one_half(train, rng):
    network, batch = autoencoder(corruption=0.5), next(rows(train, 12, rng))
    torch.testing.assert_close(entries(RowBCE(weighting="corruption"), network, batch),
                               entries(RowBCE(), network, batch) / 2)


@pytest.mark.parametrize("corruption", [0.0, 0.6])
def test_weights_that_would_ignore_or_reward_entries_are_refused(train, rng, corruption):
    with pytest.raises(ValueError, match="use loss.weighting=equal, or another model.corruption"):
        RowBCE(weighting="corruption")(autoencoder(corruption=corruption), next(rows(train, 12, rng)))


def test_a_pair_trusted_in_part_is_a_fractional_target_of_rows_and_counts_as_seen(train, rng):
    network = autoencoder(corruption=0.2, input="binary")
    full = next(rows(train, 12, rng, shuffle=False))
    half = next(rows(train.reweighted(torch.full((len(train),), 0.5)), 12, rng, shuffle=False))
    for objective, weight in ((RowBCE(), 1.0), (RowBCE(weighting="corruption"), None)):
        difference = entries(objective, network, half) - entries(objective, network, full)  # half a logit each
        torch.manual_seed(7)
        code = network.encode(full.query)
        scores = (code.vectors @ network.items().T)[full.query.history.rows, full.query.history.values]
        trust = torch.where(code.kept > 0, 0.8, 0.2) if weight is None else weight
        torch.testing.assert_close(difference[full.query.history.rows, full.query.history.values], trust * scores / 2,
                                   atol=1e-6, rtol=1e-4)


def test_sampledrowbce_has_one_loss_per_pair_and_negative_and_tells_which_were_observed(train, network, rng):
    objective = SampledRowBCE(batch_size=5, negatives=2)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    loss, labelled = objective(network, batch)
    own = batch.query.history
    z = network.user_table.weight[batch.query.users][own.rows]
    logits = (z[:, None] * network.item_table.weight[torch.cat([own.values[:, None], batch.negatives], 1)]).sum(-1)
    assert labelled.labels.tolist() == [[1.0, 0.0, 0.0]] * len(own.values)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, labelled.labels, reduction="none"))


def test_the_target_of_a_pair_in_sampledrowbce_is_its_weight_and_its_label_stays_one(train, network, rng):
    objective = SampledRowBCE(12)
    light = train.reweighted(torch.full((len(train),), 0.25))
    loss, batch = objective(network, next(objective.batches(light, rng.manual_seed(1), KNOWN, 0)))
    full, _ = objective(network, next(objective.batches(train, rng.manual_seed(1), KNOWN, 0)))
    own = batch.query.history
    scores = (network.user_table.weight[batch.query.users][own.rows] * network.item_table.weight[own.values]).sum(-1)
    torch.testing.assert_close(loss - full, torch.stack([0.75 * scores, torch.zeros_like(scores)], 1))
    assert batch.labels[:, 0].eq(1).all()


@pytest.mark.parametrize("denoiser", [TCE(0.2, eps_steps=1), RCE(0.2)])
def test_t_ce_and_r_ce_work_on_rows_as_on_pairs(train, rng, denoiser):
    """T-CE leaves out positives only, a fifth of all entries; R-CE weighs by exp(-beta * loss)."""
    objective = SampledRowBCE(12)
    loss, batch = objective(autoencoder(), next(objective.batches(train, rng, KNOWN, 0)))
    denoiser.after_step(None)
    after = denoiser.after(loss, batch)
    if isinstance(denoiser, RCE):
        torch.testing.assert_close(after, loss * (-0.2 * loss.detach()).exp())
    else:
        gone = loss.numel() - int(0.8 * loss.numel())
        assert int((after == 0)[:, 0].sum()) == gone and not (after == 0)[:, 1].any()


@pytest.mark.parametrize(("latents", "factor"), [("sum", 4.0), ("mean", 1.0)])
def test_multinomial_adds_the_weighted_divergence_of_the_code(train, rng, latents, factor):
    network, batch = autoencoder(variational=True), next(rows(train, 12, rng))
    loss = entries(Multinomial(beta=0.3, latents=latents), network, batch)
    torch.manual_seed(7)
    code = network.encode(batch.query)
    likelihood = -(batch.targets(15) * (code.vectors @ network.items().T).log_softmax(-1)).sum(-1)
    normal = torch.distributions.Normal(code.mean, code.log_std.exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean(-1)
    torch.testing.assert_close(loss, likelihood + 0.3 * factor * divergence)


def test_multinomial_of_a_network_that_draws_nothing_is_the_likelihood_alone(train, network, rng):
    batch = next(rows(train, 12, rng))
    logits = network.user_table.weight[batch.query.users] @ network.item_table.weight.T
    torch.testing.assert_close(Multinomial()(network, batch)[0],
                               -(batch.targets(15) * logits.log_softmax(-1)).sum(-1))


def test_the_weight_of_the_divergence_grows_to_beta_and_a_checkpoint_holds_the_step(train, network, rng):
    objective, batch, weights = Multinomial(beta=0.2, anneal_steps=10), next(rows(train, 12, rng)), []
    for _ in range(4):
        weights.append(objective.weight())
        objective(network, batch)
    assert weights == pytest.approx([0.0, 0.1, 0.2, 0.2]) and Multinomial(beta=0.2).weight() == 0.2
    other = Multinomial(beta=0.2, anneal_steps=100)
    other.load_state_dict(objective.state_dict())
    assert other.weight() == 0.04
