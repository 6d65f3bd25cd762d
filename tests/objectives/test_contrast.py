"""UCLR's contrast, its temperatures, and what of users enters it; the numbers are worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from observed import interactions

from recot.batches.distinct import Users
from recot.data.interactions import Domain
from recot.networks.factorisation import Tables
from recot.networks.uclr import Adapted, ContrastiveAutoencoder
from recot.nn.contracts import Before
from recot.nn.similarity import unit
from recot.objectives import contrast
from recot.objectives.contrast import Contrastive, Temperatures, least_error, soft_maximum
from recot.objectives.pairs import BPR

N_USERS, N_ITEMS = 40, 30
WORKED = (0.8, 0.5, 0.1, -0.3)
"""Cosines of a user with what is left of them, and of three negatives."""


@pytest.fixture
def train(rng):
    return interactions(rng, N_USERS, N_ITEMS, share=0.3)


@pytest.fixture
def first():
    """What stage 1 has fitted."""
    torch.manual_seed(0)
    return Tables(N_USERS, N_ITEMS, 16)


@pytest.fixture
def network(first):
    torch.manual_seed(1)
    return ContrastiveAutoencoder(N_USERS, N_ITEMS, Before((first,), (Domain("all", 0, N_ITEMS),)), 8, 16)


@pytest.fixture
def adapted(network):
    torch.manual_seed(2)
    return Adapted(N_USERS, N_ITEMS, Before((network,), (Domain("all", 0, N_ITEMS),)), rank=4)


def state(n=4, tau=1.0, dtype=torch.float64):
    """The temperatures of a network in training."""
    nothing = torch.zeros(n, dtype=dtype)
    return SimpleNamespace(training=True, temperature=nothing + tau, visits=nothing.long(), drift=nothing.clone(),
                           log_mean=nothing.clone())


def on_the_circle(cosines):
    """Unit vectors whose cosines with (1, 0) are these."""
    cosines = torch.tensor(cosines, dtype=torch.float64)
    return torch.stack([cosines, (1 - cosines.square()).sqrt()], 1)  # (n, 2)


def worked(tau, settings, network=None, cosines=WORKED):
    """The loss of the user whose cosines are given, and the gradient that their temperature moved by."""
    network, masked = network or state(len(cosines), tau), on_the_circle(cosines)
    codes = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(len(masked), 2)
    before = network.temperature[0].clone()
    codes, masked = (vectors.to(network.temperature) for vectors in (codes, masked))
    loss = Contrastive(temperatures=settings).contrast(network, codes, masked, torch.arange(len(masked)), None)
    return float(loss[0]), float((before - network.temperature[0]) / settings.learning_rate)


def free(form, rho=0.0, **given):
    return Temperatures(form, rho, **{"learning_rate": 1e-3, "lower": 1e-9, "upper": 10.0, **given})


@pytest.mark.parametrize(("tau", "form", "rho", "loss", "gradient"), [
    (1.0, "literal", 0.0, 0.451251, 1.047333), (1.0, "rho", 0.0, -0.647362, -0.051279),
    (1.0, "rho", 0.3, -0.347362, 0.248721), (0.5, "literal", 0.0, -0.049241, 0.914846),
    (0.5, "rho", 0.0, -0.598547, -0.183767), (0.1, "literal", 0.0, -0.298152, 0.093035)])
def test_the_loss_and_the_gradient_of_the_temperature_are_those_worked_out(tau, form, rho, loss, gradient):
    assert worked(tau, free(form, rho)) == (pytest.approx(loss, abs=1e-6), pytest.approx(gradient, abs=1e-6))


@pytest.mark.parametrize("form", ["literal", "rho"])
@pytest.mark.parametrize("tau", [1.0, 0.5, 0.1, 0.03])
def test_the_gradient_of_the_temperature_is_the_central_difference_of_the_loss(tau, form):
    h, settings = 1e-5, free(form, 0.3)
    above, below = worked(tau + h, settings)[0], worked(tau - h, settings)[0]
    assert worked(tau, settings)[1] == pytest.approx((above - below) / (2 * h), abs=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.2, 0.01])
def test_as_printed_the_loss_is_that_of_the_mean_and_the_log_of_their_number(tau):
    assert worked(tau, free("literal"))[0] == pytest.approx(worked(tau, free("rho"))[0] + tau * math.log(3), abs=1e-9)
    assert worked(tau, free("literal")) == pytest.approx(worked(tau, free("rho", math.log(3))), abs=1e-9)


def test_as_printed_no_temperature_ever_rises(rng):
    """Of 1,000 draws."""
    scores = 2 * torch.rand(1000, 9, generator=rng, dtype=torch.float64) - 1
    taus = torch.rand(1000, generator=rng, dtype=torch.float64).clamp(min=1e-5)
    assert all(worked(float(tau), free("literal"), cosines=row.tolist())[1] >= 0
               for tau, row in zip(taus, scores, strict=True))


def test_the_divergence_from_uniform_falls_with_the_temperature():
    found = [-worked(tau, free("rho"))[1] for tau in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)]
    assert found == sorted(found, reverse=True) and found[0] == pytest.approx(math.log(3), abs=1e-6)


@pytest.mark.parametrize(("rho", "tau"), [(0.1, 0.702294), (0.3, 0.370661), (0.5, 0.256766), (1.0, 0.101821)])
def test_a_temperature_rests_where_the_divergence_is_rho(rho, tau):
    network = state(tau=0.4)
    settings = free("rho", rho, learning_rate=0.02)
    for _ in range(3000):
        worked(None, settings, network)
    assert float(network.temperature[0]) == pytest.approx(tau, abs=2e-6)


def test_a_divergence_above_that_of_one_negative_alone_is_never_reached():
    """It is log 3, of three negatives."""
    network = state(tau=0.4)
    for _ in range(100):
        worked(None, Temperatures("rho", 1.2, 0.05), network)
    assert float(network.temperature[0]) == 1e-5


def test_one_step_is_the_one_worked_out():
    for beta, moved in ((1.0, 0.498837663), (0.9, 0.498953900)):
        network = state(tau=0.5)
        _, gradient = worked(None, free("rho", 0.3, learning_rate=0.01, beta=beta), network)
        assert gradient == pytest.approx(0.116233 * beta, abs=1e-6)
        assert float(network.temperature[0]) == pytest.approx(moved, abs=1e-8)
    assert float(network.drift[0]) == pytest.approx(0.9 * 0.116233, abs=1e-6) and network.visits.tolist() == [1] * 4


def test_a_clipped_gradient_moves_as_far_as_it_is_clipped_to():
    assert worked(0.5, free("rho", 0.3, grad_clip=0.05))[1] == pytest.approx(0.05, abs=1e-9)


def weighted_by(network, settings):
    """What the softmax of the worked user is multiplied by in the gradient of the codes."""
    masked = on_the_circle(WORKED)
    codes = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(4, 1).requires_grad_()
    tau = float(network.temperature[0])
    loss = Contrastive(temperatures=settings).contrast(network, codes, masked, torch.arange(4), None)
    loss[0].backward()
    shares = (torch.tensor(WORKED[1:], dtype=torch.float64) / tau).softmax(0)
    return float((codes.grad[0] + masked[0])[1] / (shares @ masked[1:])[1])  # along unit()


def test_the_moving_average_is_the_one_worked_out():
    network, settings = state(tau=0.5), free("rho", 0.3, gamma=0.9)
    network.visits += 1  # the first visit has an average already: log 1
    assert weighted_by(network, settings) == pytest.approx(1.034300, abs=1e-6)
    assert float(network.log_mean[0].exp()) == pytest.approx(1.446549, abs=1e-6)
    assert (0.5 - float(network.temperature[0])) / settings.learning_rate == pytest.approx(0.062386, abs=1e-6)


def test_the_first_visit_has_no_average():
    for settings in (free("rho", 0.3, gamma=0.9), free("rho", 0.3)):
        assert worked(0.5, settings)[1] == pytest.approx(0.116233, abs=1e-6)
        assert weighted_by(state(tau=0.5), settings) == pytest.approx(1.0, abs=1e-9)


def test_as_printed_an_average_moves_the_temperature_as_the_mean_with_the_log_of_the_number_does():
    found = []
    for settings in (free("literal", gamma=0.5), free("rho", math.log(3), gamma=0.5)):
        network = state(tau=0.5)
        found.append([worked(None, settings, network)[1] for _ in range(3)])
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_an_average_stands_a_temperature_whose_powers_overflow():
    network = state(tau=1e-5, dtype=torch.float32)
    settings = Temperatures("rho", 0.3, lower=1e-5, gamma=0.9)
    for _ in range(3):
        loss, _ = worked(None, settings, network)
        assert math.isfinite(loss) and all(bool(value.isfinite().all()) for value in (
            network.temperature, network.log_mean, network.drift))


@pytest.mark.parametrize("n", [2, 64, 512])
def test_the_entropy_of_cold_codes_is_between_none_and_all(rng, n):
    """Unshifted, in float32, it was below -100 at a temperature of 1e-5."""
    codes, masked = (unit(torch.randn(n, 32, generator=rng)) for _ in range(2))
    for tau in (1e-5, 1e-3, 1e-1):
        _, entropy, _ = soft_maximum(codes, masked, torch.full((n,), tau), None)
        assert bool((entropy >= 0).all()) and bool((entropy <= math.log(n - 1) + 1e-5).all())


def test_the_gradient_of_the_contrast_is_autograds(rng):
    anchors, others = (torch.randn(6, 3, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2))
    tau, left = torch.linspace(0.1, 1, 6, dtype=torch.float64), torch.tensor([False, True, False, False, True, False])
    weights = torch.randn(6, generator=rng, dtype=torch.float64)
    for left_out in (None, left):
        def plain(a, b, left_out=left_out):
            scores = (a @ b.T).masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
            scores = scores if left_out is None else scores.masked_fill(left_out, -torch.inf)
            return (weights * tau * (scores / tau[:, None]).logsumexp(1)).sum()

        ours = (weights * soft_maximum(anchors, others, tau, left_out)[0]).sum()
        torch.testing.assert_close(ours, plain(anchors, others))
        for found, expected in zip(torch.autograd.grad(ours, (anchors, others)),
                                   torch.autograd.grad(plain(anchors, others), (anchors, others)), strict=True):
            torch.testing.assert_close(found, expected)


def drawn(network, objective, train, rng):
    return next(objective.batches(train, rng, network, 0))


def straight(network, batch, tau, alpha, negatives=None):
    """The loss as it is written down: two streams through the network, and every pair of users."""
    x = network.vectors(batch.ids)
    left = x if batch.kept is None else x * batch.kept
    e, e_left = network.encoder(x), network.encoder(left)
    s = F.cosine_similarity(e[:, None], e_left[None], dim=-1)
    allowed = ~torch.eye(len(x), dtype=torch.bool)
    allowed = allowed if negatives is None else allowed & negatives
    out = tau * torch.where(allowed, s / tau, -torch.inf).logsumexp(1) - s.diagonal()
    errors = (network.decoder(e) - x).square().sum(1) + (network.decoder(e_left) - x).square().sum(1)
    return out + alpha * errors


@pytest.mark.parametrize("mask", ["row", "feature", "none"])
def test_the_loss_is_that_of_two_streams(network, train, rng, mask):
    objective = Contrastive(16, mask=mask, alpha=0.1, temperatures=Temperatures("fixed"))
    network.temperature.fill_(0.2)
    batch = drawn(network, objective, train, rng)
    assert (batch.kept is None) == (mask == "none")
    torch.testing.assert_close(objective(network, batch)[0], straight(network, batch, 0.2, 0.1))
    found = torch.autograd.grad(objective(network, batch)[0].sum(), [*network.parameters()])
    expected = torch.autograd.grad(straight(network, batch, 0.2, 0.1).sum(), [*network.parameters()])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_users_who_are_hidden_need_not_be_negatives(network, train, rng):
    objective = Contrastive(16, masked_negatives=False, temperatures=Temperatures("fixed"))
    batch = drawn(network, objective, train, rng)
    assert 0 < int(batch.kept.sum()) < 16
    torch.testing.assert_close(objective(network, batch)[0],
                               straight(network, batch, 1.0, 1e-3, batch.kept.squeeze(1)[None]))


def test_hidden_users_share_one_code_and_the_others_keep_theirs(network):
    x, kept = network.vectors(torch.arange(6)), torch.tensor([1, 0, 1, 0, 0, 1]).bool()
    codes, masked, _, _ = contrast.streams(network, x, kept[:, None])
    assert all(masked[i].equal(masked[1]) for i in (3, 4)) and masked[kept].equal(codes[kept])
    torch.testing.assert_close(masked[1], network.encoder(torch.zeros(16)))


@pytest.mark.parametrize("mask", ["row", "feature"])
def test_with_nothing_hidden_both_streams_are_one(network, train, rng, mask):
    batch = drawn(network, Contrastive(16, mask=mask, ratio=0.0), train, rng)
    x = network.vectors(batch.ids)
    codes, masked, decoded, error = contrast.streams(network, x, batch.kept)
    torch.testing.assert_close(masked, codes)
    torch.testing.assert_close(error, 2 * (decoded - x).square().sum(1))


def test_a_share_of_ratio_is_hidden(network, rng):
    ids = torch.arange(20_000)
    for mask, shape in (("row", (20_000, 1)), ("feature", (20_000, 16))):
        kept = Contrastive(mask=mask, ratio=0.3).hidden(ids, 16, rng).kept
        assert kept.shape == shape and float(kept.float().mean()) == pytest.approx(0.7, abs=0.02)


def test_one_stream_is_the_reconstruction_alone(network, train, rng):
    objective = Contrastive(16, streams=1)
    batch = drawn(network, objective, train, rng)
    x = network.vectors(batch.ids)
    assert batch.kept is None
    torch.testing.assert_close(objective(network, batch)[0], (network.decoder(network.encoder(x)) - x).square().sum(1))
    assert network.visits.sum() == 0


def test_permuting_a_batch_permutes_its_losses(network, train, rng):
    objective = Contrastive(16, temperatures=Temperatures("fixed"))
    network.temperature.uniform_(0.05, 1)
    batch, order = drawn(network, objective, train, rng), torch.randperm(16, generator=rng)
    loss = objective(network, batch)[0]
    turned = objective(network, Users(batch.ids[order], batch.kept[order]))[0]
    torch.testing.assert_close(turned, loss[order])
    assert loss.std() > 0.01


@pytest.mark.parametrize("form", ["literal", "rho"])
def test_temperatures_stay_between_their_bounds_and_those_who_are_absent_keep_theirs(network, train, rng, form):
    objective = Contrastive(8, temperatures=Temperatures(form, 0.01, learning_rate=3.0, lower=1e-5, upper=1.0))
    for _ in range(3):
        network.temperature.uniform_(1e-5, 1)
        before, visits = network.temperature.clone(), network.visits.clone()
        batch = drawn(network, objective, train, rng)
        objective(network, batch)
        absent = torch.ones(N_USERS, dtype=torch.bool).index_fill(0, batch.ids, False)
        assert network.temperature[absent].equal(before[absent]) and network.visits[absent].equal(visits[absent])
        moved = network.temperature[batch.ids]
        assert bool((moved != before[batch.ids]).any()) and network.visits[batch.ids].equal(visits[batch.ids] + 1)
        assert float(network.temperature.min()) >= torch.tensor(1e-5) and float(network.temperature.max()) <= 1


def test_the_gradient_is_that_at_the_temperature_before(network, train, rng):
    """The last half of a step, in the paper's algorithm, comes after the temperature has moved."""
    network.temperature.fill_(0.3)
    batch = drawn(network, Contrastive(16), train, rng)
    found = []
    for settings in (Temperatures("fixed"), Temperatures("literal", learning_rate=0.1)):
        loss = Contrastive(16, temperatures=settings)(network, batch)[0].mean()
        found.append(torch.autograd.grad(loss, [*network.parameters()]))
    assert float(network.temperature.min()) < 0.3
    assert all(one.equal(other) for one, other in zip(*found, strict=True))


def test_nothing_moves_outside_of_training(network, train, rng):
    objective = Contrastive(16)
    objective(network.eval(), drawn(network, objective, train, rng))
    assert bool((network.temperature == 1).all()) and network.visits.sum() == 0


def test_a_user_without_a_negative_is_only_pulled_and_keeps_the_temperature(network):
    for users, objective in ((Users(torch.tensor([5]), torch.tensor([[False]])), Contrastive(alpha=0.0)),
                             (Users(torch.arange(3), torch.zeros(3, 1, dtype=torch.bool)),
                              Contrastive(alpha=0.0, masked_negatives=False, temperatures=Temperatures("rho"))),
                             (Users(torch.arange(3), torch.zeros(3, 1, dtype=torch.bool)), Contrastive(
                                 alpha=0.0, masked_negatives=False, temperatures=Temperatures("rho", gamma=0.5)))):
        codes = network.encoder(network.vectors(users.ids))
        loss, _ = objective(network, users)
        torch.testing.assert_close(loss, -F.cosine_similarity(codes, network.encoder(torch.zeros(1, 16))))
        found = torch.autograd.grad(loss.sum(), [*network.parameters()], allow_unused=True)
        assert all(bool(part.isfinite().all()) for part in found if part is not None)
        assert bool((network.temperature == 1).all()) and network.visits.sum() == 0


def test_a_user_whose_only_negatives_are_hidden_loses_them_and_no_one_else(network):
    """Of three users two are hidden, so the third is the only negative of either and has none."""
    users = Users(torch.arange(3), torch.tensor([[True], [False], [False]]))
    objective = Contrastive(alpha=0.0, masked_negatives=False)
    loss, _ = objective(network, users)
    assert float(loss[0].detach()) == pytest.approx(-1, abs=1e-6) and network.visits.tolist()[:3] == [0, 1, 1]


def test_only_the_autoencoder_learns(network, train, rng):
    batch = drawn(network, Contrastive(16), train, rng)
    Contrastive(16)(network, batch)[0].mean().backward()
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"encoder", "decoder"}
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.user_vectors.grad is None and network.item_vectors.grad is None


def test_a_report_has_the_temperatures_and_the_error_beside_the_least(network, train, rng):
    found = Contrastive(16).report(network)
    x = network.user_vectors
    left = ((network.decoder(network.encoder(x)) - x).norm() / x.norm()).detach()
    assert found["reconstruction"] == pytest.approx(float(left), rel=1e-5)
    u, strength, v = torch.linalg.svd(x.double(), full_matrices=False)
    best = (x - (u[:, :8] * strength[:8]) @ v[:8]).norm() / x.double().norm()
    assert found["reconstruction_floor"] == pytest.approx(float(best), rel=1e-6) and least_error(x, 16) == 0
    assert (found["tau_min"], found["tau_mean"], found["tau_max"]) == (1, 1, 1)
    assert (found["tau_at_lower"], found["tau_at_upper"]) == (0, 1)
    assert Contrastive(streams=1).report(network).keys() == {"reconstruction", "reconstruction_floor"}


def test_the_last_stage_adds_what_it_had_of_the_second_for_each_user_once(adapted, train, rng):
    objective = contrast.Adapted(64, stage2_weight=0.5, contrast=Contrastive(alpha=0.1))
    adapted.eval()
    batch = drawn(adapted, objective, train, rng)
    assert batch.users.ids.tolist() == sorted(set(batch.pairs.query.users.tolist())) and len(batch.users) < 64
    assert batch.users.ids[batch.place].equal(batch.pairs.query.users)
    ranked, _ = BPR()(adapted, batch.pairs)
    again, _ = objective.stage2(adapted, batch.users)
    torch.testing.assert_close(objective(adapted, batch)[0], ranked + 0.5 * again.mean())
    torch.testing.assert_close(contrast.Adapted(64, stage2_weight=0)(adapted, batch)[0], ranked)


@pytest.mark.parametrize("user_repr", ["decoded", "raw", "sum"])
def test_the_last_stage_ranks_by_what_is_asked_afterwards(adapted, train, rng, user_repr):
    adapted.user_repr = user_repr
    objective = contrast.Adapted(64, penalty=1e-2)
    batch = drawn(adapted, objective, train, rng)
    torch.nn.init.normal_(adapted.coordinates.weight)
    loss = objective(adapted.eval(), batch)[0] - objective.stage2(adapted, batch.users)[0].mean()
    torch.testing.assert_close(loss, BPR(penalty=1e-2)(adapted, batch.pairs)[0])


def test_what_is_to_be_reconstructed_is_a_constant(adapted):
    """Else a user would move to where they are decoded to."""
    with torch.no_grad():
        for part in (*adapted.encoder.parameters(), *adapted.decoder.parameters()):
            part.zero_()
    loss, _ = Contrastive(streams=1)(adapted, Users(torch.arange(5)))
    assert float(loss.sum().detach()) > 0
    loss.sum().backward()
    assert not bool(adapted.coordinates.weight.grad.any())


@pytest.mark.parametrize(("build", "fault"), [
    (lambda: Contrastive(steps=0), "loss.steps = 0 leaves an epoch empty"),
    (lambda: Contrastive(alpha=-1), "loss.alpha = -1 would reward"),
    (lambda: Contrastive(ratio=1.0), "loss.ratio = 1.0 is a share"),
    (lambda: contrast.Adapted(stage2_weight=-1), "loss.stage2_weight = -1 would reward"),
    (lambda: Temperatures(rho=-1), "loss.temperatures.rho = -1 is a divergence"),
    (lambda: Temperatures(learning_rate=0), "learning_rate = 0 moves nothing"),
    (lambda: Temperatures(lower=0), "lower = 0 could divide"),
    (lambda: Temperatures(upper=0), "upper = 0 lies below lower = 1e-05"),
    (lambda: Temperatures(beta=0), "beta = 0 is the weight"),
    (lambda: Temperatures(grad_clip=0), "grad_clip = 0 moves nothing"),
    (lambda: Temperatures(gamma=0), "gamma = 0 is the weight")])
def test_what_makes_no_sense_is_refused(build, fault):
    with pytest.raises(ValueError, match=fault):
        build()
