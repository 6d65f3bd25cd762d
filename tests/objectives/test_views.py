"""Views that recognise each other: hand values, symmetries, and a term that is away at weight zero."""

import math

import pytest
import torch
import torch.nn.functional as F

from recot.batches.augment import Augmentation, similar_by_users, similar_by_vectors
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.networks.sasrec import SASRec
from recot.networks.stosa import Stosa
from recot.objectives.sequences import NextGaussian, NextItem
from recot.objectives.views import Contrast, gram, two_views

RATIOS = {"crop": 0.5, "mask": 0.5, "reorder": 0.5, "substitute": 0.5, "insert": 0.5}
LINE = torch.tensor([[0.0, 1.0], [3.0, 1.0], [1.0, 1.0], [3.0, 1.0]])  # views (0, 3) and (1, 3), all of deviation 1


@pytest.fixture
def train():
    users = torch.arange(6).repeat_interleave(7)
    items = (users * 2 + torch.arange(7).repeat(6) * 3) % 20
    return Interactions.from_pairs(users, items, 6, 20, times=torch.arange(42))


@pytest.mark.parametrize(("alike", "expected"), [("neg_w2", [0.00067, 0.01827, 0.09492, 0.01827]),
                                                 ("inv_w2", [0.85042, 0.61837, 0.90892, 0.61837])])
def test_the_hand_example_on_a_line(alike, expected):
    assert two_views(LINE, alike, 1.0).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("alike", ["dot", "cosine", "neg_w2", "inv_w2"])
def test_symmetries_and_limits(alike, rng):
    vectors = torch.randn(10, 4, generator=rng)
    loss = two_views(vectors, alike, 0.7)
    torch.testing.assert_close(two_views(vectors.roll(5, 0), alike, 0.7), loss.roll(5))  # the other view first
    order = torch.randperm(5, generator=rng)
    both = torch.cat([order, order + 5])
    torch.testing.assert_close(two_views(vectors[both], alike, 0.7), loss[both])
    assert two_views(vectors, alike, 1e6).tolist() == pytest.approx([math.log(9)] * 10, abs=1e-4)
    assert two_views(vectors[[0, 5]], alike, 0.7).tolist() == pytest.approx([0.0, 0.0])


def test_of_equal_deviations_only_means_count_by_their_squared_distance(rng):
    mean = torch.randn(8, 3, generator=rng, dtype=torch.float64)
    gaussians = torch.cat([mean, torch.full((8, 2), 0.7, dtype=torch.float64)], 1)
    logits = -torch.cdist(mean, mean).square().fill_diagonal_(math.inf)
    expected = logits.logsumexp(1) - logits[torch.arange(8), torch.arange(8).roll(4)]
    torch.testing.assert_close(two_views(gaussians, "neg_w2", 1.0), expected)


def test_only_distances_are_blind_to_a_common_shift(rng):
    vectors, shift = torch.randn(8, 4, generator=rng, dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.float64)
    torch.testing.assert_close(two_views(vectors + shift, "neg_w2", 1.0), two_views(vectors, "neg_w2", 1.0))
    assert not torch.allclose(two_views(vectors + shift, "dot", 1.0), two_views(vectors, "dot", 1.0))


@pytest.mark.parametrize("n", [1, 2, 7, 16, 33])
def test_half_of_the_inner_products_make_all_of_them_and_their_gradient(n, rng):
    vectors = torch.randn(n, 40, generator=rng, dtype=torch.float64, requires_grad=True)
    found, weight = gram(vectors), torch.randn(n, n, generator=rng, dtype=torch.float64)
    assert found.grad_fn.name() == "GramBackward"  # wide enough for the short way
    plain = vectors @ vectors.T
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), vectors),
                               torch.autograd.grad((plain * weight).sum(), vectors))


@pytest.mark.parametrize(("objective", "network"), [(NextItem, SASRec), (NextGaussian, Stosa)])
def test_at_weight_zero_loss_and_gradients_are_those_of_the_first_term(objective, network, train):
    def run(contrast):
        torch.manual_seed(0)
        made = network(6, 20, dim=4, n_heads=2, max_length=5, dropout=0.0, attention_dropout=0.0)
        made_objective = objective(4, contrast=contrast)
        batch = next(made_objective.batches(train, torch.Generator().manual_seed(0), None, 0))
        loss, _ = made_objective(made, batch)
        loss.mean().backward()
        return loss.detach(), [parameter.grad for parameter in made.parameters() if parameter.grad is not None]

    views = Contrast(Augmentation(list(RATIOS), ratios=RATIOS), weight=0.0)
    (loss, slopes), (plain, plain_slopes) = run(views), run(None)
    torch.testing.assert_close(loss, plain, rtol=0, atol=0)
    assert len(slopes) == len(plain_slopes) and all(map(torch.equal, slopes, plain_slopes))


def test_the_term_is_in_the_mean_once(train, rng):
    network = SASRec(6, 20, dim=4, max_length=9).eval()
    contrast = Contrast(Augmentation(["reorder"], ratios=RATIOS), weight=0.3, pooling="last")
    batch = next(NextItem(6, contrast=contrast).batches(train, rng, None, 0))
    with_term, without = (NextItem(6, contrast=part)(network, batch)[0].mean() for part in (contrast, None))
    torch.testing.assert_close(with_term - without, contrast(network, batch.views))


@pytest.mark.parametrize("pooling", ["last", "mean", "flatten"])
def test_a_view_is_pooled_as_said(pooling, rng):
    network = SASRec(1, 20, dim=4, max_length=3).eval()
    layout = network.layout(Ragged.from_lists([[1, 2, 3], [4]]))
    states = torch.randn(4, 4, generator=rng)
    found = Contrast(Augmentation(["crop"], ratios=RATIOS), pooling=pooling).pooled(states, layout, 3)
    expected = {"last": states[[2, 3]], "mean": torch.stack([states[:3].mean(0), states[3]]),
                "flatten": torch.stack([states[:3].flatten(), torch.cat([torch.zeros(8), states[3]])])}[pooling]
    torch.testing.assert_close(found, expected)


def test_states_of_padding_are_pooled_where_asked_for(train, rng):
    network = Stosa(6, 20, dim=4, n_heads=2, max_length=9).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=rng)
    augmentation = Augmentation(["reorder"], ratios=RATIOS)
    views = Contrast(augmentation).views(train.by_user, train.items[:0], 20, rng)
    with_padding, without = (Contrast(augmentation, 1.0, alike="neg_w2", tau=1.0, filled=filled)(network, views)
                             for filled in (True, False))
    flat = torch.cat([network.states(network.layout(view, filled=True)).view(6, -1) for view in views])
    torch.testing.assert_close(with_padding, two_views(flat, "neg_w2", 1.0).mean())
    assert abs(with_padding.item() - without.item()) > 1e-4


def test_equal_views_without_dropout_are_nearest(train):
    network = Stosa(6, 20, dim=4, n_heads=2).eval()
    same = Contrast(Augmentation(["reorder"], ratios={"reorder": 0.0}), 1.0, 1e-3, "neg_w2", "last")
    views = same.views(train.by_user, train.items[:0], 20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(views[0].values, train.by_user.values)
    assert same(network, views) < same(network, (views[0], views[1].take(torch.arange(6).roll(1))))


def test_items_are_compared_by_users_first_and_then_by_whatever_is_more_alike(rng):
    users, items = (torch.rand(40, 20, generator=rng) < 0.2).nonzero(as_tuple=True)
    train = Interactions.from_pairs(users, items, 40, 20, times=torch.arange(len(users)))
    network = SASRec(40, 20, dim=4, max_length=9).eval()

    def similar(comparison, epoch):
        contrast = Contrast(Augmentation(["insert"], ratios=RATIOS), comparison=comparison, warm_up=3)
        return contrast.similar(train, network, epoch)

    users, by_users = similar_by_users(train, torch.Generator().manual_seed(0))
    vectors, by_vectors = similar_by_vectors(network.items().detach(), network.similarity)
    for comparison in ("users", "vectors", "hybrid"):
        assert similar(comparison, 2).equal(users)
    assert similar("users", 3).equal(users) and similar("vectors", 3).equal(vectors)
    chosen = similar("hybrid", 3)
    assert chosen.equal(torch.where(by_vectors > by_users, vectors, users))
    assert not chosen.equal(users) and not chosen.equal(vectors)
    assert not similar("vectors", 3).requires_grad


def test_views_are_compared_among_a_group_of_users(train, rng):
    network = SASRec(6, 20, dim=4, max_length=9).eval()
    views = Contrast(Augmentation(["reorder"], ratios=RATIOS)).views(train.by_user, train.items[:0], 20, rng)
    found = Contrast(Augmentation(["reorder"], ratios=RATIOS), 1.0, pooling="last", group=4)(network, views)
    own = [network.users(Query(torch.arange(6), view)) for view in views]
    parts = [two_views(torch.cat([side[rows] for side in own]), "dot", 1.0) for rows in (slice(0, 4), slice(4, 6))]
    torch.testing.assert_close(found, torch.cat(parts).mean())


def test_variances_may_be_taken_through_elu_twice(train, rng):
    network = Stosa(6, 20, dim=4, n_heads=2).eval()
    augmentation = Augmentation(["reorder"], ratios=RATIOS)
    views = Contrast(augmentation).views(train.by_user, train.items[:0], 20, rng)
    mean, std = torch.cat([network.users(Query(torch.arange(6), view)) for view in views]).chunk(2, 1)
    found = Contrast(augmentation, 1.0, alike="neg_w2", pooling="last", variance_twice=True)(network, views)
    again = (F.elu(std.square()) + 1).sqrt()
    torch.testing.assert_close(found, two_views(torch.cat([mean, again], 1), "neg_w2", 1.0).mean())


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"weight": -1.0}, {"group": 0},
                                   {"filled": True, "pooling": "last"},
                                   {"augmentation": Augmentation(["mask"], ratios=RATIOS, masked="padding")}])
def test_what_is_no_contrast_is_refused(wrong):
    with pytest.raises(ValueError, match=r"loss\.contrast"):
        Contrast(**{"augmentation": Augmentation(["crop"], ratios=RATIOS)} | wrong)


def test_states_of_an_odd_width_have_no_halves(train, rng):
    network = SASRec(6, 20, dim=5, n_heads=1, max_length=9).eval()
    contrast = Contrast(Augmentation(["reorder"], ratios=RATIOS), pooling="last", halves=True)
    with pytest.raises(ValueError, match="an even model"):
        contrast(network, contrast.views(train.by_user, train.items[:0], 20, rng))


def test_gaussians_are_compared_by_their_distance(rng):
    users, items = (torch.rand(40, 20, generator=rng) < 0.2).nonzero(as_tuple=True)
    train = Interactions.from_pairs(users, items, 40, 20, times=torch.arange(len(users)))
    network = Stosa(40, 20, dim=4, n_heads=2).eval()
    torch.nn.init.normal_(network.means.weight, generator=rng)
    contrast = Contrast(Augmentation(["insert"], ratios=RATIOS), comparison="hybrid", warm_up=0)
    vectors = network.items().double().detach()
    minus = -torch.cdist(vectors, vectors).square()
    nearest = minus.clone().fill_diagonal_(-torch.inf).max(1)
    by_vectors = (nearest.values - minus.min()) / (nearest.values.max() - minus.min())
    by_users, alike = similar_by_users(train, torch.Generator().manual_seed(0))
    chosen = torch.where(by_vectors > alike, nearest.indices, by_users)
    assert contrast.similar(train, network, 0).equal(chosen) and not chosen.equal(by_users)
