"""Transport to the scores of a network: Algorithm 1 written out, where it pulls, and what the settings change."""

import math
from dataclasses import replace

import pytest
import torch
from observed import interactions
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recot.batches.rows import Rows
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.networks.autoencoder import Autoencoder
from recot.nn.contracts import Code
from recot.objectives import transport
from recot.objectives.rows import Multinomial
from recot.objectives.transport import Cosine, Sinkhorn, SinkhornCF, blocks, divergence, largest

N = 15
EXACT = Cosine(dtype="float32")


class Scores:
    """A network whose scores are free: (users, N), float64 unless told otherwise."""

    inductive = False

    def __init__(self, scores):
        self.scores = scores.requires_grad_()

    def encode(self, query):
        return Code(self.scores[query.users])

    def similarity(self, vectors, items):
        return vectors

    def items(self, ids=None):
        return self.scores


@pytest.fixture
def train(rng):
    return interactions(rng, 12, N, share=0.3)


@pytest.fixture
def network(rng):
    return Scores(torch.randn(12, N, generator=rng, dtype=torch.float64) * 2)


def batch_of(train):
    return Rows(Query(torch.arange(train.n_users), train.by_user), None)


def ready(objective, train, epoch=0):
    next(objective.batches(train, torch.Generator().manual_seed(0), None, epoch))
    return objective


def costs(train, shrink=0.0):
    x = torch.zeros(train.n_users, train.n_items, dtype=torch.float64)
    x[train.users, train.items] = 1
    norm = x.sum(0).sqrt()
    return 1 - (x.T @ x / (torch.outer(norm, norm) + shrink)).nan_to_num(0).fill_diagonal_(1)


def algorithm_1(cost, mu, nu, eps, n_iters):
    """As it is printed, but with the b of its columns: no trick, no log, autograd."""
    kernel, b = torch.exp(-cost / eps), torch.ones_like(nu)
    for _ in range(n_iters):
        a = mu / (kernel @ b)
        b = nu / (kernel.T @ a)
    return (cost * kernel * a[:, None] * b).sum()


def straight(train, scores, k, eps, n_iters, mass, debias, concentration):
    """(b,) transport and (b,) likelihood, user by user."""
    cost, moved, likelihood = costs(train), [], []
    for user in range(train.n_users):
        own = train.by_user.to_lists()[user]
        log_p = scores[user].log_softmax(0)
        top = log_p.topk(min(k, N)).indices
        p = log_p[top].exp() if mass == "restricted" else log_p[top].softmax(0)
        ones = torch.ones(len(own), dtype=torch.float64)
        found = algorithm_1(cost[own][:, top], ones, p, eps, n_iters)
        if debias == "self":
            found = 2 * found - algorithm_1(cost[top][:, top], p, p, eps, n_iters)
        others = [item for item in range(N) if item not in own]
        moved.append(found)
        likelihood.append(-log_p[own].sum() - concentration * log_p[others].sum())
    return torch.stack(moved), torch.stack(likelihood)


@pytest.mark.parametrize("gradient", ["exact", "unrolled"])
@pytest.mark.parametrize("debias", ["none", "self"])
@pytest.mark.parametrize("mass", ["restricted", "renorm"])
@pytest.mark.parametrize(("k", "eps", "n_iters"), [(4, 1.0, 5), (4, 0.1, 2), (N, 1.0, 3), (N + 5, 0.5, 1)])
def test_loss_and_gradient_are_those_of_algorithm_1(train, network, k, eps, n_iters, mass, debias, gradient):
    objective = ready(SinkhornCF(weight=3.0, concentration=0.1, k=k, eps=eps, n_iters=n_iters, mass=mass, debias=debias,
                                 gradient=gradient, cost=EXACT), train)
    moved, likelihood = straight(train, network.scores, k, eps, n_iters, mass, debias, 0.1)
    loss, _ = objective(network, batch_of(train))
    torch.testing.assert_close(loss, 3 * moved + likelihood, atol=1e-5, rtol=1e-6)  # costs are float32
    ours, right = (torch.autograd.grad(part.sum(), network.scores)[0] for part in (loss, 3 * moved + likelihood))
    torch.testing.assert_close(ours, right, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("debias", ["none", "self"])
@pytest.mark.parametrize("eps", [1.0, 0.1])
def test_the_loss_over_all_items_is_algorithm_1_written_out(train, network, eps, debias):
    objective = ready(Sinkhorn(eps=eps, debias=debias, cost=EXACT), train)
    moved, _ = straight(train, network.scores, N, eps, 5, "restricted", debias, 0.0)
    loss, _ = objective(network, batch_of(train))
    torch.testing.assert_close(loss, moved, atol=1e-6, rtol=1e-6)
    ours, right = (torch.autograd.grad(part.sum(), network.scores)[0] for part in (loss, moved))
    torch.testing.assert_close(ours, right, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("debias", ["none", "self"])
@pytest.mark.parametrize("eps", [1.0, 0.1, 0.01])
def test_transport_to_the_k_best_of_k_items_is_transport_to_all(train, network, eps, debias):
    whole = ready(Sinkhorn(eps=eps, debias=debias, cost=EXACT), train)
    top, alone = (ready(SinkhornCF(weight=weight, eps=eps, debias=debias, k=N, cost=EXACT), train) for weight in (1, 0))
    loss = whole(network, batch_of(train))[0]
    torch.testing.assert_close(loss, top(network, batch_of(train))[0] - alone(network, batch_of(train))[0], atol=1e-9,
                               rtol=1e-6)


def transported(objective, train, network):
    """(b,) transport alone."""
    return ready(objective, train).to_top(batch_of(train), network.scores.log_softmax(1))[0]


@pytest.mark.parametrize("debias", ["none", "self"])
def test_restricted_masses_leak_and_renormed_ones_do_not(train, network, debias):
    """Descent raises what lies outside the top k, in total by its probability times the cost; with both forms of debias
    since either is of degree one in the masses.
    """
    p = network.scores.softmax(1).detach()
    outside = torch.ones_like(p).scatter(1, largest(p, 4), 0)
    for mass in ("restricted", "renorm"):
        cost = transported(SinkhornCF(k=4, mass=mass, debias=debias, cost=EXACT), train, network)
        (grad,) = torch.autograd.grad(cost.sum(), network.scores)
        expected = -outside * p * cost.detach()[:, None] if mass == "restricted" else torch.zeros_like(p)
        torch.testing.assert_close(grad * outside, expected, atol=1e-9, rtol=1e-6)
        torch.testing.assert_close(grad.sum(1), torch.zeros(12, dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_likelihood_is_least_at_the_smoothed_shares_and_pulls_by_what_is_missing(train, network):
    objective = ready(SinkhornCF(weight=0, concentration=0.1), train)
    target = batch_of(train).targets(N).double() * 0.9 + 0.1
    total = target.sum(1, keepdim=True)
    (grad,) = torch.autograd.grad(objective(network, batch_of(train))[0].sum(), network.scores)
    torch.testing.assert_close(grad, total * network.scores.softmax(1) - target, atol=1e-6, rtol=1e-6)
    best = Scores((target / total).log())
    (grad,) = torch.autograd.grad(objective(best, batch_of(train))[0].sum(), best.scores)
    torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-6, rtol=0)


def test_at_entropy_one_the_plain_loss_prefers_one_popular_item_and_the_debiased_one_the_data(rng):
    """The plan is nearly the product of the masses then, and a linear cost is least at a vertex: the medoid."""
    taste = torch.randint(3, (400,), generator=rng)  # each likes one of three kinds of items, popular ones most
    liked = torch.rand(400, 60, generator=rng) < torch.linspace(0.6, 0.05, 60)
    liked &= (torch.arange(60) % 3 == taste[:, None]) | (torch.rand(400, 60, generator=rng) < 0.4)
    users, items = liked.nonzero(as_tuple=True)
    train = Interactions.from_pairs(users, items, 400, 60)
    busy = int((train.activity >= 20).nonzero()[0])
    own = torch.tensor(train.by_user.to_lists()[busy])
    medoid = costs(train)[:, own].sum(1).argmin()
    data, vertex = torch.full((60,), -40.0), torch.full((60,), -40.0)
    data[own], vertex[medoid] = 0.0, 0.0
    batch = Rows(Query(torch.tensor([0, 1]), train.by_user.take(torch.tensor([busy, busy]))), None)
    plain, debiased = (ready(Sinkhorn(debias=debias), train)(Scores(torch.stack([data, vertex])), batch)[0]
                       for debias in ("none", "self"))
    assert plain[1] < plain[0] - 0.005 and debiased[0] < debiased[1] - 0.005


def test_items_in_another_order_have_the_same_gradients_in_that_order(train, network, rng):
    order = torch.randperm(N, generator=rng)
    new = torch.empty_like(order)
    new[order] = torch.arange(N)
    turned = Interactions.from_pairs(train.users, new[train.items], 12, N)
    grads = []
    for part, scores in ((train, network), (turned, Scores(network.scores.detach()[:, order].clone()))):
        loss, _ = ready(SinkhornCF(k=6, debias="self", cost=EXACT), part)(scores, batch_of(part))
        grads.append(torch.autograd.grad(loss.sum(), scores.scores)[0])
    torch.testing.assert_close(grads[1], grads[0][:, order], atol=1e-6, rtol=1e-6)


def coder():
    torch.manual_seed(0)
    return Autoencoder(12, N, dim=4, variational=True, corruption=0.5)


def test_a_run_with_the_transport_draws_the_same_numbers_as_one_without(train):
    losses, after = [], []
    for weight in (0.0, 1.0):
        net, objective, rng = coder(), SinkhornCF(batch_size=5, weight=weight), torch.Generator().manual_seed(3)
        parts = []
        for batch in objective.batches(train, rng, net, 0):
            parts.append((objective(net, batch)[0], objective.to_top(batch, torch.zeros(len(batch.query), N))[0]))
        losses.append(parts)
        after.append((torch.rand(1), torch.rand(1, generator=rng)))
    assert after[0] == after[1]
    net, objective = coder(), ready(SinkhornCF(batch_size=5), train)
    batch = next(SinkhornCF(batch_size=5).batches(train, torch.Generator().manual_seed(3), net, 0))
    logits = net.similarity(net.encode(batch.query).vectors, net.items())  # draws as the first batch did
    moved, _ = objective.to_top(batch, logits.log_softmax(1))
    torch.testing.assert_close(losses[1][0][0] - losses[0][0][0], moved, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("epoch", "steps"), [(2, []), (3, [0, 4, 8])])
def test_the_transport_enters_one_step_in_so_many_from_an_epoch_on(train, network, epoch, steps):
    objective = ready(SinkhornCF(every=4, start_epoch=3), train, epoch)
    alone = ready(SinkhornCF(weight=0), train)(network, batch_of(train))[0]
    found = [step for step in range(10) if not torch.equal(objective(network, batch_of(train))[0], alone)]
    assert found == steps


def test_some_users_of_a_batch_stand_for_all_in_the_mean(train, network):
    some = transported(SinkhornCF(k=5, max_rows=4), train, network)
    every = transported(SinkhornCF(k=5), train, network)
    torch.testing.assert_close(some, torch.cat([3 * every[:4], torch.zeros(8, dtype=torch.float64)]))
    assert torch.equal(transported(SinkhornCF(k=5, max_rows=400), train, network), every)


@pytest.mark.parametrize("mass", ["restricted", "renorm"])
def test_a_scaled_weight_is_a_share_of_the_likelihoods_gradient(train, network, mass):
    grads = [torch.autograd.grad(ready(SinkhornCF(weight=weight, k=5, mass=mass, scale="norm"), train)(
        network, batch_of(train))[0].mean(), network.scores)[0] for weight in (0.0, 0.3)]
    torch.testing.assert_close((grads[1] - grads[0]).norm(), 0.3 * grads[0].norm())


@pytest.mark.parametrize(("scale", "weight"), [("none", 0.3), ("norm", None)])
def test_a_report_has_the_weight_of_the_transport_and_the_probability_of_its_columns(train, network, scale, weight):
    objective = ready(SinkhornCF(weight=0.3, k=3, scale=scale, cost=EXACT), train)
    assert objective.report(network) == {}
    batch = batch_of(train)
    for _ in range(2):
        objective(network, batch)
    log_p = network.scores.log_softmax(1)
    if weight is None:
        alone = ready(SinkhornCF(weight=0, k=3, cost=EXACT), train)
        parts = [alone(network, batch)[0], objective.to_top(batch, log_p)[0]]
        norms = [torch.autograd.grad(part.sum(), network.scores, retain_graph=True)[0].norm() for part in parts]
        weight = 0.3 * float(norms[0] / norms[1])
    told = objective.report(network)
    assert told["transport_weight"] == pytest.approx(weight, rel=1e-5)
    assert told["top_mass"] == pytest.approx(float(log_p.exp().topk(3).values.sum(1).mean()), rel=1e-5)
    assert objective.report(network) == {}


def test_what_a_pair_is_trusted_is_its_mass_and_lies_between_the_targets(train, network):
    weights = torch.where(train.items < 7, 0.0, 1.0)
    trusted = replace(batch_of(train), weights=weights)
    kept = train.select(weights > 0)
    objective = ready(SinkhornCF(k=5, concentration=0.2), train)
    torch.testing.assert_close(objective(network, trusted)[0], objective(network, batch_of(kept))[0])
    whole = ready(Sinkhorn(), train)
    torch.testing.assert_close(whole(network, trusted)[0], whole(network, batch_of(kept))[0])


def test_a_user_without_items_costs_nothing_and_is_pulled_nowhere(train, network):
    kept = train.select(train.users != 3)
    for objective in (Sinkhorn(), Sinkhorn(eps=0.01), Sinkhorn(debias="none")):
        loss, _ = ready(objective, train)(network, batch_of(kept))
        (grad,) = torch.autograd.grad(loss.sum(), network.scores)
        assert loss[3] == 0 and not grad[3].any() and loss.isfinite().all() and bool(grad[2].any())


@pytest.mark.parametrize("objective", [SinkhornCF, Sinkhorn])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_16_bits_are_computed_with_in_32(train, network, objective, dtype):
    short = network.scores.detach().to(dtype)
    made = ready(objective(), train)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(Scores(short), batch_of(train))[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, made(Scores(short.float()), batch_of(train))[0], atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("debias", ["none", "self"])
def test_implicit_gradients_are_those_of_many_rounds(train, network, debias):
    grads = []
    for gradient, n_iters in (("implicit", 800), ("unrolled", 800)):
        objective = SinkhornCF(k=5, eps=0.4, n_iters=n_iters, debias=debias, gradient=gradient, cost=EXACT)
        grads.append(torch.autograd.grad(transported(objective, train, network).sum(), network.scores)[0])
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("debias", ["none", "self"])
@pytest.mark.parametrize("cells", [1, 60, 200])
def test_how_many_users_are_moved_at_a_time_changes_nothing(train, network, monkeypatch, cells, debias):
    together = transported(SinkhornCF(k=5, debias=debias), train, network)
    monkeypatch.setitem(transport.CELLS, "cpu", cells)
    assert torch.allclose(transported(SinkhornCF(k=5, debias=debias), train, network), together, atol=1e-12)


def test_spans_hold_as_many_users_as_fit_and_at_least_one(monkeypatch):
    history = Ragged.from_lists([[0], [1] * 9, [2], [3] * 2, [4] * 50, [5]])
    monkeypatch.setitem(transport.CELLS, "cpu", 60)
    assert list(blocks(history, 5, 0)) == [(0, 3), (3, 4), (4, 5), (5, 6)]
    assert list(blocks(history, 5, 5)) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]


class Largest(TorchDispatchMode):
    """The largest tensor that came about."""

    cells = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        found = operation(*arguments, **(named or {}))
        if isinstance(found, Tensor):
            self.cells = max(self.cells, found.numel())
        return found


def test_memory_grows_with_the_pairs_and_not_with_users_times_the_longest_history():
    lengths = torch.tensor([200, *[2] * 1500])
    users = torch.arange(1501).repeat_interleave(lengths)
    items = torch.cat([torch.arange(200), torch.arange(3000) % 200])
    train = Interactions.from_pairs(users, items, 1501, 200)
    objective = ready(SinkhornCF(k=100), train)
    with Largest() as seen:
        objective.to_top(batch_of(train), torch.zeros(1501, 200).log_softmax(1))
    scores, pairs, padded = 1501 * 200, len(train) * 100, 1501 * 200 * 100
    assert seen.cells <= max(scores, pairs) < padded / 50


def test_the_most_probable_items_are_the_same_with_and_without_the_detour(rng):
    values = torch.rand(6, 40, generator=rng)
    for k in (1, 7, 40):
        assert torch.equal(largest(values, k).sort(1).values, values.topk(k, 1).indices.sort(1).values)


def test_costs_are_of_the_training_set_that_is_drawn_from(train, network):
    objective = ready(Sinkhorn(cost=Cosine(shrink=3.0, dtype="float32")), train)
    torch.testing.assert_close(objective.cost.whole().double(), costs(train, 3.0), atol=1e-6, rtol=0)
    kept = objective.cost
    assert ready(objective, train).cost is kept
    part = train.select(train.users < 6)
    torch.testing.assert_close(ready(objective, part).cost.whole().double(), costs(part, 3.0), atol=1e-6, rtol=0)
    near = ready(Sinkhorn(cost=Cosine(topn=2)), train)
    assert 0 < int((near.cost.whole() < 1).sum()) < int((costs(train) < 1).sum())
    assert near(network, batch_of(train))[0].isfinite().all()


def anneal(objective, train, net, steps):
    ready(objective, train)
    weights = []
    for _ in range(steps):
        weights.append(objective.weight())
        objective(net, batch_of(train))
    return weights


def test_a_fraction_of_all_steps_is_known_from_the_epochs(train):
    objective = SinkhornCF(batch_size=5, beta=0.6, anneal_steps=0.5, epochs=4)  # 3 steps an epoch, 12 in all
    assert anneal(objective, train, coder(), 5) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 0.6])
    assert anneal(SinkhornCF(beta=0.6, anneal_steps=2), train, coder(), 3) == [0, 0.5, 0.6]
    other = SinkhornCF(batch_size=5, beta=0.6, anneal_steps=0.5, epochs=4)
    other.load_state_dict(objective.state_dict())
    assert ready(other, train).weight() == objective.weight() == 0.6
    with pytest.raises(ValueError, match="give a whole number of steps, or the epochs as well"):
        Sinkhorn(anneal_steps=0.5)


def of_code(code, objective, train):
    """What the code of each user adds to the loss."""
    logits = torch.zeros(12, N)
    plain, net = Scores(logits), Scores(logits)
    net.encode = lambda query: replace(code, vectors=net.scores)
    made = ready(objective, train)
    return made(net, batch_of(train))[0] - made(plain, batch_of(train))[0]


def test_a_drawn_code_adds_its_divergence_and_a_cap_of_zero_leaves_it_out(train, rng):
    mean, log_std = torch.randn(12, 3, generator=rng), torch.randn(12, 3, generator=rng)
    code = Code(torch.zeros(12, N), mean=mean, log_std=log_std)
    normal = torch.distributions.Normal(mean, log_std.exp())
    right = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    for objective in (SinkhornCF(beta=0.3, anneal_steps=0), Sinkhorn(beta=0.3)):
        torch.testing.assert_close(of_code(code, objective, train), 0.3 * right, atol=1e-4, rtol=1e-4)
    scaled = Sinkhorn(beta=0.3, kl_scale="activity")
    torch.testing.assert_close(of_code(code, scaled, train), 0.3 * right * 12 / len(train), atol=1e-5, rtol=1e-4)
    for objective in (SinkhornCF(beta=0.0), Sinkhorn(), Sinkhorn(beta=0.0, anneal_steps=0.5, epochs=3)):
        assert not of_code(code, objective, train).any()


def test_a_code_that_brings_the_estimate_of_its_divergence_is_taken_at_its_word(train, rng):
    ratio = torch.randn(12, generator=rng)
    code = Code(torch.zeros(12, N), mean=torch.ones(12, 3), log_std=torch.ones(12, 3), log_ratio=ratio)
    assert divergence(code) is ratio and divergence(Code(torch.zeros(12, N))) is None
    torch.testing.assert_close(of_code(code, SinkhornCF(beta=0.5, anneal_steps=0), train), 0.5 * ratio, atol=1e-4,
                               rtol=1e-4)


def test_without_smoothing_and_transport_it_is_the_loss_of_mult_vae(train):
    losses = []
    for objective in (Multinomial(beta=0.4), SinkhornCF(weight=0, concentration=0.0, beta=0.4, anneal_steps=0)):
        losses.append(objective(coder(), batch_of(train))[0])
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("objective", [SinkhornCF(k=5, weight=20.0, concentration=0.0, mass="renorm", debias="self"),
                                       Sinkhorn(debias="self", eps=0.1)], ids=["k", "all"])
def test_descent_raises_the_observed_items(train, objective):
    network = Scores(torch.zeros(12, N, dtype=torch.float64))
    optimizer, batch = torch.optim.Adam([network.scores], 0.1), batch_of(train)
    ready(objective, train)
    before = objective(network, batch)[0].mean()
    for _ in range(60):
        optimizer.zero_grad()
        objective(network, batch)[0].mean().backward()
        optimizer.step()
    p, seen = network.scores.detach().softmax(1), batch.targets(N).bool()
    assert objective(network, batch)[0].mean() < before and math.isclose(float(p.sum()), 12, rel_tol=1e-6)
    assert (p * seen).sum(1).mean() > 0.6 > seen.double().mean()
