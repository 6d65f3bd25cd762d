"""Transition counts by hand."""

import numpy as np
import pytest
import torch

from recot.closed.markov import Markov
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split

NONE = Ragged.from_lists([])
NOBODY = EvalSet(Query(torch.zeros(0, dtype=torch.int64), NONE), NONE, NONE, None, "valid")


def fitted(weights=None):
    train = Interactions.from_pairs(torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([2, 0, 1, 2, 0, 3]), 3, 5,
                                    times=torch.tensor([0, 1, 2, 0, 1, 0]))
    train = train if weights is None else train.reweighted(torch.tensor(weights))
    return Markov().fit(Split(train, NOBODY, ()))


def asked(model, *histories):
    return model.score(Query(torch.full((len(histories),), -1), Ragged.from_lists([list(row) for row in histories])))


def test_what_followed_the_last_item_comes_first_and_the_rest_by_popularity():
    scores = asked(fitted(), [1, 2], [1, 0], [])
    assert scores.argmax(1).tolist() == [0, 1, 0]  # 2 -> 0 twice, 0 -> 1 once, most taken 0 (and 2)
    assert scores[0, 2] > scores[0, 1] == scores[0, 3] > scores[0, 4] == 0.0
    assert scores[1, 1] > scores[1, 0] and scores[2, 0] == scores[2, 2]


def test_popularity_never_outweighs_a_transition():
    scores = asked(fitted([1.0, 1.0, 0.01, 1.0, 1.0, 1.0]), [0])
    assert scores.argmax().item() == 1


def test_a_rarer_successor_of_a_more_popular_item_stays_below():
    """0 -> 1 twice with weight .5, 0 -> 2 once with .9, and item 2 more popular."""
    users, items = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 5]), torch.tensor([0, 1, 0, 1, 0, 2, 2, 2, 2])
    train = Interactions.from_pairs(users, items, 6, 3, times=torch.arange(9))
    train = train.reweighted(torch.tensor([1, 0.5, 1, 0.5, 1, 0.9, 1, 1, 1]))
    assert asked(Markov().fit(Split(train, NOBODY, ())), [0]).argsort(descending=True).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("weights", ["one", "whole", "halves", "thirds", "any", "tiny", "near one", "some zero"])
@pytest.mark.parametrize("n_items", [4, 40])
def test_items_are_in_the_order_of_sum_and_popularity_whatever_the_weights(n_items, weights, rng):
    lengths = torch.randint(1, 9, (150,), generator=rng)
    keys = torch.rand(150, 40, generator=rng)[:, :n_items].argsort(1)
    users, items = zip(*((u, i) for u in range(150) for i in keys[u, :lengths[u]].tolist()), strict=True)
    train = Interactions.from_pairs(torch.tensor(users), torch.tensor(items), 150, n_items,
                                    times=torch.arange(len(users)))
    drawn = torch.rand(len(train), generator=rng)
    train = train.reweighted({
        "one": drawn * 0 + 1, "whole": (3 * drawn).ceil(), "halves": (4 * drawn).ceil() / 2,
        "thirds": (3 * drawn).ceil() / 3, "any": drawn, "tiny": drawn * 1e-12, "near one": 1 - drawn * 1e-6,
        "some zero": drawn * (drawn > 0.5)}[weights])
    sums, popularity = np.zeros((n_items, n_items)), np.zeros(n_items)
    for row, (item, weight) in enumerate(zip(train.items.tolist(), train.weights.double().tolist(), strict=True)):
        popularity[item] += weight
        if row and train.users[row] == train.users[row - 1]:
            sums[train.items[row - 1], item] += weight
    scores = asked(Markov().fit(Split(train, NOBODY, ())), *([i] for i in range(n_items)), []).numpy()
    for row, found in zip([*sums, np.zeros(n_items)], scores, strict=True):
        ahead = (row[:, None] > row) | ((row[:, None] == row) & (popularity[:, None] > popularity))
        np.testing.assert_array_equal(found[:, None] > found, ahead)


def test_scores_of_weights_of_one_are_counts_and_a_share_of_the_popularity():
    scores = asked(fitted(), [2], [])
    assert scores.tolist() == [[pytest.approx(2 + 2 / 6), *[pytest.approx(share / 6) for share in (1, 2, 1, 0)]],
                               [pytest.approx(share / 6) for share in (2, 1, 2, 1, 0)]]
