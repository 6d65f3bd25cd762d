"""Data that come with their own test pairs, and perhaps their own validation pairs."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from recot.data.interactions import Interactions, sorted_order
from recot.data.questions import Given
from recot.data.roles import TRAIN, VALID, by_role


def given(interactions: Interactions, valid: float = 0.1, split_seed: int = 0) -> Given:
    """The parts that the data come with: ``interactions.parts`` says of each pair what it is for.

    Where no pair is for validation, training pairs of each user become such, at random: ``floor(valid * k)`` of k, and
    one at least of a user who has two or more. They follow from the set of training pairs and ``split_seed``, not from
    their order or times. Where the data bring validation pairs, both arguments say nothing.

    Unknown are users and items without a pair in the training part, as it came; see :func:`recot.data.roles.by_role`.

    Args:
        valid: share of each user's training pairs, above 0 and below 1.

    Raises:
        ValueError: the data come without parts, the share is none, or nothing is left to ask.

    Source: the public splits of LightGCN (He et al., SIGIR 2020), which have no validation part.
    """
    if interactions.parts is None:
        raise ValueError("protocol=given takes the parts that data come with, and these come in one; name a file with "
                         "data.test, or use protocol=topk")
    share = Fraction(valid).limit_denominator(10**6)
    if not 0 < share < 1:
        raise ValueError(f"protocol.split.valid = {valid} is a share of each user's training pairs; give more than 0 "
                         "and less than 1, for example 0.1")
    role, known = interactions.parts, interactions.parts == TRAIN
    if not bool((role == VALID).any()):
        role = carved(interactions, share, split_seed)
    return by_role(interactions, role, known)


def carved(interactions: Interactions, share: Fraction, split_seed: int) -> Tensor:
    """(n,) int8, the parts with a share of each user's training pairs moved to validation; see :func:`given`."""
    role = interactions.parts.clone()  # type: ignore[union-attr]  # given has seen that there are parts
    takes = role == TRAIN if interactions.noisy is None else (role == TRAIN) & ~interactions.noisy
    order = takes.nonzero().flatten()  # (m,)
    order = order[sorted_order((interactions.users * interactions.n_items + interactions.items)[order])]
    order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(split_seed))]
    order = order[sorted_order(interactions.users[order])]  # by user, random inside
    owner = interactions.users[order]
    k = torch.bincount(owner, minlength=interactions.n_users)  # (n_users,)
    count = (k * share.numerator // share.denominator).clamp(min=1) * (k >= 2)
    place = torch.arange(len(order)) - (k.cumsum(0) - k)[owner]
    role[order[place < count[owner]]] = VALID
    return role
