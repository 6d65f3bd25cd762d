"""Rows and columns of a batch that nothing stands in: no sum of zero is divided by, and no logarithm taken of it."""

import warnings

import numpy as np
import pytest
import torch

from recot.batches.augment import Augmentation
from recot.batches.pairs import Pairs
from recot.closed.neighbours import ItemKNN
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.denoise.base import Denoiser
from recot.denoise.prorec import ProRec
from recot.denoise.smoothing import PopularitySmoothing
from recot.denoise.soft_matching import SoftMatching
from recot.networks.factorisation import Tables
from recot.networks.sasrec import SASRec
from recot.objectives.pairs import InfoNCE, transposed
from recot.objectives.views import Contrast

ALL_TOOK_ONE = ([0, 1, 2], [0, 0, 0])
ONE_USER = ([0, 0, 0], [0, 1, 2])
ONE_PAIR = ([0], [0])
MIXED = ([0, 1, 2, 0, 1], [0, 0, 0, 1, 2])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("duplicates", ["none", "mask", "multi_positive"])
@pytest.mark.parametrize("make", [
    Denoiser, *(lambda alpha=alpha, kind=kind, given=given: kind(alpha=alpha, **given)
                for alpha in (0.0, 0.9, 1.0) for kind, given in (
                    (PopularitySmoothing, {}), (SoftMatching, {}), (SoftMatching, {"n_iters": 0}),
                    (SoftMatching, {"lam": 0.01}), (SoftMatching, {"popularity": "log"}),
                    (SoftMatching, {"popularity": "marginal"})))])
@pytest.mark.parametrize("taken", [ALL_TOOK_ONE, ONE_USER, ONE_PAIR, MIXED])
def test_targets_are_distributions_and_the_loss_is_finite(taken, make, duplicates, symmetric, rng):
    train = Interactions.from_pairs(torch.tensor(taken[0]), torch.tensor(taken[1]), 3, 3)
    torch.manual_seed(0)
    network, denoiser, objective = Tables(3, 3, dim=4), make(), InfoNCE(8, 0.2, symmetric, duplicates)
    denoiser.bind(network, train)
    for copies in (1, 2):
        batch = next(objective.batches(train, rng.manual_seed(0), network, 0))
        if copies == 2:  # pairs of several epochs, so that a user or an item stands there twice
            batch = Pairs(Query(batch.query.users.repeat(2), Ragged.from_lists([[]] * 2 * len(train))),
                          batch.items.repeat(2), batch.negatives.repeat(2, 1),
                          observed=None if batch.observed is None else batch.observed.repeat(2, 2),
                          targets=None if batch.targets is None else batch.targets.repeat(2, 2) / 2)
        batch = denoiser.before(batch, network)
        loss, _ = objective(network, batch)
        assert loss.isfinite().all()
        if batch.targets is not None:
            for side in (batch.targets, transposed(batch.targets)):
                torch.testing.assert_close(side.sum(1), torch.ones(len(side)))


def test_an_item_that_is_nobodys_target_keeps_its_own_row():
    targets = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    torch.testing.assert_close(transposed(targets), torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.4, 0.2], [0.0, 0.0, 1.0]]))


@pytest.mark.parametrize("make", [PopularitySmoothing, lambda kappa: SoftMatching(popularity="marginal", kappa=kappa)])
@pytest.mark.parametrize("kappa", [40.0, -50.0])
def test_a_kappa_that_takes_counts_out_of_float32_is_refused(make, kappa):
    train = Interactions.from_pairs(torch.arange(12), torch.tensor([0] * 11 + [1]), 12, 2)
    with pytest.raises(ValueError, match=rf"denoiser\.kappa = {kappa} takes counts of 1 to 11 .*; give one nearer to"):
        make(kappa=kappa).bind(Tables(12, 2, dim=2), train)
    make(kappa=kappa / 10).bind(Tables(12, 2, dim=2), train)


@pytest.mark.parametrize("pooling", ["last", "mean", "flatten"])
def test_the_view_of_an_empty_history_is_zero(pooling):
    contrast = Contrast(Augmentation(["reorder"], ratios={"reorder": 0.5}), pooling=pooling)
    network = SASRec(2, 9, dim=4, max_length=3).eval()
    layout = network.layout(Ragged.from_lists([[1, 2], []]))
    pooled = contrast.pooled(network.states(layout), layout, 3)
    assert pooled[0].any() and not pooled[1].any()


def test_a_round_after_all_weights_became_zero_reports_a_finite_change():
    train = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 3)
    denoiser = ProRec(lam=0.5, origin="previous")
    weighed = denoiser.relabel(train, train.reweighted(torch.zeros(3)), Tables(2, 3, dim=2))
    assert not weighed.weights.any() and denoiser.report()["change"] == 0.0


def test_neighbours_of_pairs_of_weight_zero_divide_nothing_by_zero():
    train = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 3).reweighted(torch.zeros(3))
    nobody = Query(torch.zeros(0, dtype=torch.int64), Ragged.from_lists([]))
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        model = ItemKNN(2).fit(Split(train, EvalSet(nobody, nobody.history, nobody.history, None, "valid"), ()))
    assert model.similarity.nnz == 0
