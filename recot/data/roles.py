"""A split by what each pair is for, where it may be that nobody trained on a user or an item who is asked about."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.questions import EvalSet, Query, Split

log = logging.getLogger(__name__)

TRAIN, VALID, TEST = range(3)
"""What a pair is for. Any other number stands for nothing."""

NAMES = ("train", "valid", "test")
"""What a part is called."""


def by_role(interactions: Interactions, role: Tensor, known: Tensor) -> Split:
    """What trains and what is asked, by the role of each pair.

    A model knows the training pairs when validating and the validation pairs as well when testing (``query.history``,
    oldest first), and these are left out of the ranking (``seen``). Users and items that ``known`` pairs do not have
    are unknown: such items are left out of all, and the others numbered anew (``Split.items``); nothing is asked about
    such users. A set counts the users who would have been asked (``left_out``), and a log line counts the pairs. Pairs
    that are known to be noise train, or stay in the history, and are no targets.

    Args:
        role: (n,) int8, see :data:`TRAIN`. known: (n,) bool.

    Raises:
        ValueError: nothing is left to ask in a set.
    """
    is_user = torch.bincount(interactions.users[known], minlength=interactions.n_users) > 0  # (n_users,)
    is_item = torch.bincount(interactions.items[known], minlength=interactions.n_items) > 0  # (n_items,)
    items = None if bool(is_item.all()) else is_item.nonzero().flatten()
    whole = replace(interactions, parts=None)
    inside = is_item[whole.items]
    clean = torch.ones_like(inside) if whole.noisy is None else ~whole.noisy
    parts = [whole.select(clean & (role == part)) for part in (VALID, TEST)]
    asked = [pairs.select(is_user[pairs.users] & is_item[pairs.items]) for pairs in parts]
    if items is not None:
        whole, role, asked = whole.of_items(items), role[inside], [pairs.of_items(items) for pairs in asked]
    train, shown = whole.select(role == TRAIN), whole.select((role == TRAIN) | (role == VALID))
    valid, test = (question(pairs, of, history, name) for pairs, of, history, name in zip(
        asked, parts, (train, shown), NAMES[VALID:], strict=True))
    return Split(train, valid, (test,), items)


def question(held: Interactions, of: Interactions, history: Interactions, name: str) -> EvalSet:
    """What is asked about the users of ``held``, those pairs of ``of`` whose users and items are known.

    Raises:
        ValueError: there are none.
    """
    if not len(held):
        raise ValueError(f"none of the {len(of):,} pairs of {name} has a user and an item that trained, so that "
                         "nothing can be asked; let more pairs train, or see whether ids are written alike in all")
    users = held.activity.nonzero().flatten()  # (b,)
    left_out = int((of.activity > 0).sum()) - len(users)
    if len(held) < len(of):
        log.info("%s of %s pairs of %s have a user or an item without a training pair and are left out; %s of %s users "
                 "are not asked about for that", f"{len(of) - len(held):,}", f"{len(of):,}", name, f"{left_out:,}",
                 f"{left_out + len(users):,}")
    return EvalSet(Query(users, history.by_user.take(users)), held.by_user.take(users),
                   history.clean().by_user.take(users), None, name, left_out=left_out)
