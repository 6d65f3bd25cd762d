"""Strong generalisation: users are split, not pairs, so that whoever is asked about was never trained on."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recot.data.interactions import Interactions, Ragged, sorted_order
from recot.data.questions import EvalSet, Query, Split, Strangers

log = logging.getLogger(__name__)


def strong(interactions: Interactions, valid: float = 500, test: float = 500, targets: float = 0.2, least: int = 5,
           split_seed: int = 98765) -> Strangers:
    """Some users are tested, some validate, and the others train.

    A user who is held out is asked with a part of the history and graded on the rest, which is drawn at random:
    ``floor(targets * k)`` of k items. Items that no training user took are left out of all, and the others numbered
    anew (``Split.items``). A user with fewer than ``least`` items then, or without a target, is not asked about; the
    set counts them (``left_out``). No question says who is asked about: ``query.users`` is -1.

    Pairs that are known to be noise train, or stay in the history, and are no targets; see
    :func:`recot.data.split.ratio`. The result depends on the set of pairs, their marks and ``split_seed``. It is drawn
    by NumPy's legacy generator, whose numbers are the same in every version: with the seed 98765, 10,000 users each and
    MovieLens-20M the 20,108 items come out that the papers print.

    Args:
        valid, test: users to hold out; a share of all users where it is below 1.
        targets: share of a user's items that is to be predicted, above 0 and below 1.
        least: items that a user needs to be asked about.

    Raises:
        ValueError: a number is out of its range, or no user is left to train on.

    Source: SinkhornCF, experimental settings; Liang et al. (WWW 2018), Sec. 4.1, and the authors' notebook.
    Departures: that notebook keeps users with fewer than five items without a target, so that their metrics are 0/0;
    SinkhornCF's program drops them, as is done here. Its own seeds, 3 and 2020, give other items than the papers print.
    """
    share = Fraction(targets).limit_denominator(10**6)
    if not 0 < share < 1:
        raise ValueError(f"protocol.split.targets = {targets} is the share of a history to predict; give more than 0 "
                         "and less than 1, for example 0.2")
    if least < 1:
        raise ValueError(f"protocol.split.least = {least} is a number of items; give 1 or more")
    rng = np.random.RandomState(split_seed)
    users = interactions.activity.nonzero().flatten()
    n_valid, n_test = (held_out(name, size, len(users)) for name, size in (("valid", valid), ("test", test)))
    if n_valid + n_test >= len(users):
        raise ValueError(f"protocol.split holds out {n_valid} + {n_test} of {len(users)} users, and nobody is left to "
                         "train on; give smaller numbers, or shares such as protocol.split.valid=0.1")
    order = users[torch.from_numpy(rng.permutation(len(users)))]
    role = torch.zeros(interactions.n_users, dtype=torch.int64)  # 0 trains, 1 validates, 2 is tested
    role[order[len(users) - n_test - n_valid:]] = 1
    role[order[len(users) - n_test:]] = 2
    train = interactions.select(role[interactions.users] == 0)
    items = train.popularity.nonzero().flatten()
    known = interactions.of_items(items)
    asked = [question(known, (role == part).nonzero().flatten(), share, least, rng, name)
             for part, name in ((1, "valid"), (2, "test"))]
    return Split(known.select(role[known.users] == 0), asked[0], (asked[1],), items)


def held_out(name: str, size: float, n_users: int) -> int:
    """The number of users that ``size`` stands for.

    Raises:
        ValueError: it is none.
    """
    if size <= 0 or (size > 1 and size != int(size)):
        raise ValueError(f"protocol.split.{name} = {size} is a number of users, or a share of them below 1; give for "
                         f"example {name}=500 or {name}=0.1")
    return int(size) if size >= 1 else max(1, int(Fraction(size).limit_denominator(10**6) * n_users))


def question(known: Interactions, users: Tensor, share: Fraction, least: int, rng: np.random.RandomState,
             name: str) -> EvalSet:
    """What is asked about ``users``, (n,) in rising order: a part of each history is known, the rest is the answer."""
    clean = known.clean()
    places = sorted_order(clean.users * clean.n_items + clean.items)  # each user's items in rising order
    rows = Ragged.from_pairs(clean.users[places], places, clean.n_users).take(users)
    answer = np.zeros(len(clean), dtype=bool)
    for row in np.split(rows.values.numpy(), rows.bounds[1:-1]):
        if len(row) >= least:
            answer[row[rng.choice(len(row), len(row) * share.numerator // share.denominator, replace=False)]] = True
    held = clean.select(torch.from_numpy(answer))
    history = known.select(~held.contains(known.users, known.items))
    asked = users[held.activity[users] > 0]
    if short := len(users) - len(asked):
        log.info("%d of %d users of %s have no target and are not asked about", short, len(users), name)
    query = Query(torch.full_like(asked, -1), history.by_user.take(asked))
    return EvalSet(query, held.by_user.take(asked), history.clean().by_user.take(asked), None, name, asked, short)


def transductive(split: Split) -> Split:
    """The split with whom it asks about among the training users, by what is known of each: the histories train.

    So a model with a vector for each user can be asked about them. The joined pairs are marked (``train.folded``), have
    weight one, are no known noise, and no pair keeps its time. Targets, histories and masks stay, and so do questions
    about users who train.

    Source: the second training file of SinkhornCF's program, for its models without an encoder.
    """
    train, parts = split.train, (split.valid, *split.test[:1])  # later sets ask about the same users
    users, items = [train.users], [train.items]
    for part in parts:
        new = (part.query.users < 0)[part.query.history.rows]  # (nnz,)
        users.append(part.asked[part.query.history.rows][new])
        items.append(part.query.history.values[new])
    owner = torch.cat(users)  # (n,)
    order, joins = sorted_order(owner), torch.arange(len(owner)) >= len(train)
    noisy = None if train.noisy is None else F.pad(train.noisy, (0, len(owner) - len(train)))[order]
    whole = replace(train, users=owner[order], items=torch.cat(items)[order], weights=torch.ones(len(owner)),
                    times=None, noisy=noisy, folded=joins[order])
    valid, *test = (replace(part, query=replace(part.query, users=part.asked)) for part in (split.valid, *split.test))
    return replace(split, train=whole, valid=valid, test=tuple(test))
