"""The floor."""

from dataclasses import replace

import pytest
import torch

from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query
from recot.data.split import ratio
from recot.evaluation.evaluate import evaluate
from recot.evaluation.metrics import METRICS

EVERY = ["mrr", *(f"{name}@{k}" for name in METRICS for k in (1, 5, 20))]


class Compared(Popularity):
    """The same scores, compared one by one."""

    def ranked(self, questions):
        return None


def drawn(seed, n_users=60, n_items=900, pairs=2_000):
    """A split of users and items of which few have many pairs, so that most counts are shared by many items."""
    rng = torch.Generator().manual_seed(seed)
    users, items = ((torch.rand(pairs, generator=rng) ** 3 * size).long() for size in (n_users, n_items))
    keys = (users * n_items + items).unique()
    return ratio(Interactions.from_pairs(keys // n_items, keys % n_items, n_users, n_items))


def both(split, questions):
    return [evaluate(model().fit(split), questions, EVERY) for model in (Popularity, Compared)]


def test_it_scores_every_item_by_its_training_users():
    users, items = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 3, 3, 3, 1, 0])
    split = ratio(Interactions.from_pairs(users, items, 3, 5))
    counts = torch.zeros(5).index_add(0, split.train.items, torch.ones(len(split.train)))
    scores = Popularity().fit(split).score(split.test[0].query)
    assert scores.equal(counts.repeat(len(split.test[0]), 1))


@pytest.mark.parametrize("seed", range(4))
def test_counting_gives_the_ranks_that_scores_give(seed):
    split = drawn(seed, n_items=(900, 30)[seed % 2])
    counted, compared = both(split, split.test[0])
    assert all(counted[name].equal(compared[name]) for name in EVERY)
    assert 0 < counted["mrr"].mean() < 1


def test_counting_within_a_range_of_items_and_of_repeated_seen_ones_gives_the_same():
    split, among = drawn(0), slice(0, 300)
    whole = split.test[0]
    inside = [[item for item in row if item < 300] for row in whole.targets.to_lists()]
    users = torch.tensor([user for user, row in enumerate(inside) if row])
    seen = [2 * [item for item in row if item < 300] for row in whole.seen.take(users).to_lists()]
    questions = EvalSet(Query(whole.query.users[users], whole.query.history.take(users)),
                        Ragged.from_lists([inside[user] for user in users]), Ragged.from_lists(seen), None, "part",
                        among=among)
    counted, compared = both(split, questions)
    assert len(users) > 20 and all(counted[name].equal(compared[name]) for name in EVERY)


def test_candidates_are_compared():
    split = drawn(1)
    rows = torch.arange(900).repeat(len(split.test[0]), 1)
    counted, compared = both(split, replace(split.test[0], candidates=rows))
    assert all(counted[name].equal(compared[name]) for name in EVERY)


def test_questions_that_cannot_be_ranked_are_refused_as_by_any_other_method():
    split = drawn(1)
    model, test = Popularity().fit(split), split.test[0]
    with pytest.raises(ValueError, match="targets are also in seen"):
        evaluate(model, replace(test, seen=test.targets), EVERY)
    with pytest.raises(ValueError, match=r"Popularity.score returned torch.float32 of shape .* items up to 900"):
        evaluate(model, replace(test, targets=replace(test.targets, values=test.targets.values.fill_(900))), EVERY)
