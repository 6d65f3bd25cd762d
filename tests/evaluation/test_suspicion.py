"""Where pairs stand among what their users have not taken: by hand, by definition, and however users are cut."""

import numpy as np
import pytest
import torch
from observed import interactions

from recot.data.interactions import Domain, Interactions, Ragged
from recot.evaluation.evaluate import Diverged
from recot.evaluation.recommender import Recommender
from recot.evaluation.suspicion import Belief, belief_in, levels, precision


class Table(Recommender):
    """Scores are known; remembers what it was told of each user."""

    def __init__(self, scores):
        self.scores, self.asked = scores, []

    def score(self, query):
        self.asked.append(query)
        return self.scores[query.users].clone()


def test_three_pairs_by_hand():
    """User 0 took items 0 and 1 and validates with item 4: the pairs stand among items 2, 3 and 5 alone."""
    scores = torch.tensor([[3.0, 1.0, 2.0, 1.0, 9.0, 0.0], [-1.0, 0.0, -0.0, 5.0, 5.0, -2.0]])
    pairs = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 6)
    found = belief_in(Table(scores), pairs, pairs, Ragged.from_lists([[0, 1, 4], [1]]))
    assert found.above.tolist() == [0, 1, 2] and found.equal.tolist() == [0, 1, 1]  # the two zeros are equal
    assert found.others.tolist() == [3, 3, 5] and found.score.tolist() == [3.0, 1.0, 0.0]
    torch.testing.assert_close(found.margin, torch.tensor([3.0 - 1.0, 1.0 - 1.0, 0.0 - 7 / 5], dtype=torch.float64))
    torch.testing.assert_close(found.share, torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64))


def defined(scores, pairs, taken, ranges):
    """Above, equal, others and margin of each pair, by looking at each item."""
    rows = []
    for user, item in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True):
        [part] = [part for part in ranges if part.start <= item < part.stop]
        others = [scores[user, other] for other in range(part.start, part.stop) if other not in taken[user]]
        own = scores[user, item]
        rows.append((sum(other > own for other in others), sum(other == own for other in others), len(others),
                     own - np.mean(others)))
    return np.array(rows).T


@pytest.mark.parametrize("domains", [(), (Domain("a", 0, 15), Domain("b", 15, 40))], ids=["all items", "domains"])
@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_it_is_what_the_definition_says_with_ties_and_however_users_are_cut(rng, domains, chunk):
    scores = torch.randint(-6, 6, (30, 40), generator=rng).float() / 3
    whole = interactions(rng)
    held = torch.rand(len(whole), generator=rng) < 0.3  # taken, and neither judged nor known
    pairs = Interactions.from_pairs(whole.users[~held], whole.items[~held], 30, 40, domains=domains)
    found = belief_in(Table(scores), pairs, pairs, whole.by_user, chunk)
    above, equal, others, margin = defined(scores.double().numpy(), pairs, whole.by_user.to_lists(),
                                           [domain.items for domain in domains] or [slice(0, 40)])
    assert found.above.tolist() == above.tolist() and found.equal.tolist() == equal.tolist()
    assert found.others.tolist() == others.tolist() and equal.any()
    np.testing.assert_allclose(found.margin, margin, atol=1e-5)
    assert found.score.equal(scores[pairs.users, pairs.items].double())


def test_users_without_a_pair_are_not_asked_about_and_the_others_with_what_may_be_known(rng):
    whole = interactions(rng)
    held = whole.select(whole.users % 3 == 0)
    known = whole.select(whole.users % 2 == 0)
    table = Table(torch.rand(30, 40, generator=rng))
    belief_in(table, known, held, whole.by_user)
    asked = torch.cat([query.users for query in table.asked])
    assert asked.tolist() == held.activity.nonzero().flatten().tolist()
    assert torch.cat([query.history.values for query in table.asked]).equal(known.by_user.take(asked).values)


def test_who_has_taken_everything_has_no_share(rng):
    pairs = Interactions.from_pairs(torch.zeros(4, dtype=torch.int64), torch.arange(4), 1, 4)
    found = belief_in(Table(torch.rand(1, 4, generator=rng)), pairs, pairs, pairs.by_user)
    assert found.share.isnan().all() and found.others.tolist() == [0] * 4


def test_no_pairs_have_no_belief():
    nothing = torch.zeros(0, dtype=torch.int64)
    pairs = Interactions.from_pairs(nothing, nothing, 3, 5)
    assert belief_in(Table(torch.zeros(3, 5)), pairs, pairs, pairs.by_user).share.shape == (0,)


def test_scores_that_cannot_be_ranked_are_refused(rng):
    pairs = interactions(rng)
    with pytest.raises(Diverged, match="non-finite scores"):
        belief_in(Table(torch.full((30, 40), torch.nan)), pairs, pairs, pairs.by_user)
    with pytest.raises(ValueError, match="return float32 of shape"):
        belief_in(Table(torch.zeros(30, 41)), pairs, pairs, pairs.by_user)


def test_weights_come_before_shares_and_what_is_not_known_comes_last():
    assert levels([0.2, 0.9, np.nan, 0.9]).tolist() == [1, 0, 2, 0]
    assert levels([0.2, 0.9, np.nan, 0.5], [0.0, 1.0, 1.0, 1.0]).tolist() == [0, 1, 3, 2]
    assert levels([]).tolist() == []


@pytest.mark.parametrize("k", [1, 3, 10, 60, 99])
def test_precision_is_the_mean_over_orders_of_ties(k):
    random = np.random.default_rng(0)
    level, noisy = random.integers(0, 6, 60), random.random(60) < 0.4
    drawn = [noisy[np.lexsort((random.random(60), level))][:k].mean() for _ in range(4000)]
    assert precision(level, noisy, k) == pytest.approx(np.mean(drawn), abs=0.03)


def test_the_share_of_a_pair_by_its_parts():
    one = torch.tensor([1])
    assert Belief(one, one, above=one * 3, equal=one * 2, others=one * 8).share.item() == 0.5
