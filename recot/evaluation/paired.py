"""Is one method better than another over the same users? Paired tests, and a correction for asking many times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def paired_test(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Mean difference ``a - b`` and its two-sided p value by the paired t-test.

    The tables report means over thousands of users, and the t-test is the one about means; that single values are far
    from normal does not matter at such sizes.

    Args:
        a, b: (users,) values of one metric, in the same order of users.

    Returns:
        The difference, and a p value in 0..1; 1 where no user differs.

    Raises:
        ValueError: the lengths differ, or there are fewer than two users.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"a paired test needs one value per user from both, for two users or more; got shapes "
                         f"{first.shape} and {second.shape}")
    difference = first - second
    if not difference.any():
        return 0.0, 1.0
    if np.ptp(difference) == 0:  # the same difference for every user: no spread to compare it with
        return float(difference[0]), 0.0
    return float(difference.mean()), float(stats.ttest_rel(first, second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected by Holm's step-down procedure, in the order given.

    Source: Holm (1979). The smallest of m is multiplied by m, the next by m - 1, and so on; a corrected value is never
    below one of a smaller p value, nor above 1.

    Raises:
        ValueError: a p value is NaN or outside 0..1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values lie in 0..1, got {p[~((p >= 0) & (p <= 1))].tolist()}; look for NaN in what was "
                         "compared")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return corrected.tolist()  # type: ignore[no-any-return]  # numpy says so of any list


def welch(first: tuple[float, float, int], second: tuple[float, float, int]) -> float:
    """Two-sided p value of the difference of two means over seeds, whose deviations may differ.

    Source: Welch (1947). Seeds that share a split make the means alike, which this test does not know: its p value is
    then too large.

    Args:
        first, second: mean, standard deviation and number of seeds, two or more.

    Returns:
        p in 0..1; without any deviation 1 where the means are the same, else 0.

    Raises:
        ValueError: there are fewer than two seeds.
    """
    if min(first[2], second[2]) < 2:
        raise ValueError(f"a test over seeds needs two seeds or more of both; got {first[2]} and {second[2]}")
    if first[1] == second[1] == 0:
        return float(first[0] == second[0])
    return float(stats.ttest_ind_from_stats(*first, *second, equal_var=False).pvalue)
