"""Points in time: what lies before them trains, and what lies after is asked."""

from __future__ import annotations

import logging
from fractions import Fraction

import torch
from torch import Tensor

from recot.data import moments
from recot.data.interactions import Interactions
from recot.data.questions import Split
from recot.data.roles import NAMES, TRAIN, by_role

log = logging.getLogger(__name__)


def temporal(interactions: Interactions, valid: float = 0.1, test: float = 0.1, valid_from: str | int | None = None,
             test_from: str | int | None = None) -> Split:
    """What happened before a point in time trains, what happened from another one on is tested, what lies between
    validates.

    A point is a date, or follows from a share: so many of all pairs, rounded down, are the last of those before the
    next point. A pair at the very time of a point lies after it, so that a set has more pairs than its share where
    several share that time. Unknown are users and items without a training pair, see :func:`recot.data.roles.by_role`.
    Pairs that are known to be noise train where they lie before the points, and are no targets.

    Args:
        valid, test: shares of all pairs, above 0, together below 1; one says nothing where its point is a date.
        valid_from, test_from: dates of ISO 8601, of UTC where they name no zone, or whole seconds since 1970.

    Raises:
        ValueError: the data have no times, a point is none, the points are in the wrong order, or one of the three
            parts has no pair.

    Source: the global temporal split of Meng et al. (RecSys 2020); RecTools (TimeRangeSplitter) and LensKit
    (split_global_time) have one as well.
    """
    times = interactions.times
    if times is None:
        raise ValueError("protocol=time wants to know when a pair came, and these data have no times; name their "
                         "column (data.time=... with data=csv), or use protocol=topk")
    shares = [Fraction(share).limit_denominator(10**6) for share in (valid, test)]
    if min(shares) <= 0 or sum(shares) >= 1:
        raise ValueError(f"protocol.split.valid = {valid} and test = {test} are shares of all pairs; give more than 0 "
                         "each and less than 1 together, for example 0.1 and 0.1")
    ordered = times.sort().values  # (n,)
    late = point("test_from", test_from)
    late = begins(ordered, int(shares[1] * len(ordered))) if late is None else late
    early = point("valid_from", valid_from)
    early = begins(ordered[ordered < late], int(shares[0] * len(ordered))) if early is None else early
    role = (times >= early).to(torch.int8) + (times >= late).to(torch.int8)  # (n,)
    check(role, early, late, ordered)
    log.info("training pairs lie before %s, validation pairs before %s, and test pairs from then on",
             moments.written(early), moments.written(late))
    return by_role(interactions, role, role == TRAIN)


def begins(ordered: Tensor, count: int) -> int:
    """The time of the first of the last ``count`` pairs, one at least; ``ordered`` (n,) are the times of all."""
    return int(ordered[-max(count, 1)]) if len(ordered) else 0


def point(name: str, said: str | int | None) -> int | None:
    """The whole seconds that a date or a number stands for; None where nothing is said.

    Raises:
        ValueError: it is neither.
    """
    try:
        return None if said is None else moments.seconds(said)
    except ValueError:
        raise ValueError(f"protocol.split.{name} = {said!r} is no date of ISO 8601 and no number of seconds; give it "
                         f"like {name}=2024-03-01") from None


def check(role: Tensor, early: int, late: int, ordered: Tensor) -> None:
    """Refuse points that leave a part without a pair.

    Raises:
        ValueError: with the points, and the times of the data.
    """
    if early > late:
        raise ValueError(f"protocol.split.valid_from = {moments.written(early)} comes after test_from = "
                         f"{moments.written(late)}; give the earlier date as valid_from")
    counts = torch.bincount(role.long(), minlength=3).tolist()
    if 0 in counts:
        first, last = (moments.written(int(ordered[end])) for end in (0, -1))
        raise ValueError(f"protocol=time leaves no pair to {NAMES[counts.index(0)]}: the times of these data lie "
                         f"between {first} and {last}, and the points at {moments.written(early)} and "
                         f"{moments.written(late)}; move them with protocol.split.valid_from and test_from")
