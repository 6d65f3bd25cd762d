"""Transition counts by hand."""

import torch

from recot.closed.markov import Markov
from recot.data.interactions import Interactions, Ragged
from recot.data.split import EvalSet, Query, Split


def fitted(weights=None):
    train = Interactions.from_pairs(torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([2, 0, 1, 2, 0, 3]), 3, 5,
                                    times=torch.tensor([0, 1, 2, 0, 1, 0]))
    train = train if weights is None else train.reweighted(torch.tensor(weights))
    nobody = Query(torch.zeros(0, dtype=torch.int64), Ragged.from_lists([]))
    return Markov().fit(Split(train, EvalSet(nobody, nobody.history, nobody.history, None, "valid"), ()))


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
