"""Paired tests and Holm's correction: hand values, independent counts, and what holds whatever the numbers."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from recot.evaluation.paired import holm, paired_test, welch


@pytest.fixture
def pairs(np_rng):
    a = np_rng.random(200)
    return a, a + np_rng.normal(0.02, 0.3, 200)


@pytest.fixture
def np_rng():
    return np.random.default_rng(0)


def test_sleep_of_student_1908():
    """Extra hours of sleep of ten patients under two drugs; printed are a mean of 1.58 and t = 4.06 on 9 degrees."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    difference, p = paired_test(second, first)
    assert difference == pytest.approx(1.58) and p == pytest.approx(0.002833, abs=1e-6)


def test_p_agrees_with_flipping_the_sign_of_every_difference(np_rng):
    """With no difference in truth each sign is as likely: all 2**14 of them are counted, without any t distribution."""
    d = np_rng.normal(0.45, 1, 14)
    flipped = np.array(list(product([1, -1], repeat=14))) @ d
    counted = (np.abs(flipped) >= abs(d.sum()) - 1e-12).mean()
    assert 0.01 < counted < 0.3 and paired_test(d, np.zeros(14))[1] == pytest.approx(counted, rel=0.1)


def test_the_order_of_the_two_flips_the_difference_and_not_p(pairs):
    (difference, p), (back, again) = paired_test(*pairs), paired_test(*pairs[::-1])
    assert (difference, p) == pytest.approx((-back, again)) and 0 < p < 1


def test_what_all_users_share_cancels(pairs, np_rng):
    hard = 100 * np_rng.random(200)
    assert paired_test(pairs[0] + hard, pairs[1] + hard) == pytest.approx(paired_test(*pairs))


def test_false_alarms_are_as_frequent_as_p_says(np_rng):
    p = np.array([paired_test(*np_rng.random((2, 50)))[1] for _ in range(1000)])
    assert 0.03 < (p < 0.05).mean() < 0.07


def test_no_difference_at_all_has_p_one_and_the_same_for_everybody_zero():
    assert paired_test([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]) == (0.0, 1.0)
    assert paired_test([1.5, 2.5, 3.5], [1.0, 2.0, 3.0]) == (0.5, 0.0)


@pytest.mark.parametrize(("a", "b"), [([1, 2, 3], [1, 2]), ([1], [2]), ([], []), ([[1, 2]], [[3, 4]])])
def test_it_refuses_values_that_are_not_paired(a, b):
    with pytest.raises(ValueError, match="one value per user from both, for two users or more"):
        paired_test(a, b)


def test_four_p_values_by_hand():
    """Smallest first: 4 x .005 = .02, 3 x .01 = .03, 2 x .03 = .06, and 1 x .04, which may not lie below .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_fifteen_p_values_of_benjamini_and_hochberg_1995():
    """Their Sec. 4.1, where three of fifteen survive a control of the family-wise error at .05."""
    p = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1.0]
    by_hand = [.0015, .0056, .0247, .1140, .2211, .2780, .2780, .2780, .3213, 1, 1, 1, 1, 1, 1]
    assert holm(p) == pytest.approx(by_hand) and sum(value < 0.05 for value in holm(p)) == 3


def test_a_corrected_value_below_alpha_is_what_the_step_down_procedure_rejects(np_rng):
    """The procedure as Holm states it: go up from the smallest, and stop at the first above alpha / (those left)."""
    for alpha in (0.01, 0.05, 0.2):
        for p in np_rng.beta(0.3, 3, (50, 8)):
            rejected = set()
            for step, place in enumerate(np.argsort(p)):
                if p[place] > alpha / (8 - step):
                    break
                rejected.add(place)
            assert {place for place, value in enumerate(holm(p)) if value <= alpha} == rejected


def test_corrected_values_keep_the_order_and_lie_between_p_and_bonferroni(np_rng):
    p = np.r_[np_rng.random(20) ** 3, 0.0, 1.0, 0.5, 0.5]
    corrected = np.array(holm(p))
    assert (corrected >= p).all() and (corrected <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(corrected[p.argsort()]) >= 0).all() and corrected[-1] == corrected[-2]


def test_one_p_value_stays_and_none_gives_none():
    assert holm([0.3]) == [0.3] and holm([]) == []


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(wrong):
    with pytest.raises(ValueError, match="look for NaN in what was compared"):
        holm([0.5, wrong])


def test_welch_has_a_p_value_by_hand():
    # t = 0.1 / sqrt(.04 / 4 + .04 / 4) = .1 / sqrt(.02); of equal variances and sizes Welch's degrees are 6
    assert welch((0.3, 0.2, 4), (0.2, 0.2, 4)) == pytest.approx(2 * stats.t.sf(0.1 / 0.02 ** 0.5, 6))


@pytest.mark.parametrize(("second", "p"), [(0.2, 1.0), (0.3, 0.0)])
def test_means_without_any_deviation_are_the_same_or_not(second, p):
    assert welch((0.2, 0.0, 5), (second, 0.0, 5)) == p


def test_a_test_over_one_seed_is_refused():
    with pytest.raises(ValueError, match="two seeds or more of both; got 1 and 5"):
        welch((0.2, 0.0, 1), (0.3, 0.1, 5))
