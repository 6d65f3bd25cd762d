"""Several domains over the same users: what is asked within each, and the split of some of them alone."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from recot.data.interactions import Domain, Interactions, Ragged, numbers, scattered, sorted_order
from recot.data.questions import EvalSet, Query, Split

log = logging.getLogger(__name__)

ENDINGS = ("", "_full", "_warm", "_few")
"""What the names of the test sets of a domain end in."""

TAKEN = {"valid", "test", "users", "pairs", "lists"}
"""Names of files that a run leaves besides those of its domains."""


def domains(interactions: Interactions, candidates: int = 99, few: int = 2, split_seed: int = 0) -> Split:
    """The last item of each user and domain is tested, the one before validates, the others train.

    A user with two items of a domain trains on the first and is tested on the second; one with a single item trains on
    nothing there and is tested all the same; nothing is asked of a user without any (``left_out`` counts them). Without
    times the order is random (``split_seed``). Pairs that are known to be noise train.

    Ranked are the target and ``candidates`` items, drawn uniformly without replacement from those of the domain that
    the user has in no part of the data. Each question has its own, which follow from the pairs and ``split_seed`` and
    are part of the fingerprint of the split. A model knows the training pairs of all domains, in both sets.

    The validation set holds the questions of all domains, one domain after the other. Test sets are ``test``, of all
    domains, and of each domain, by its name in small letters: NAME; NAME_full, which ranks all items of the domain but
    those the user has in training and validation; NAME_warm, without targets that no training pair has; NAME_few, of
    users with one to ``few`` training pairs in the domain. A set without questions is left out.

    Raises:
        ValueError: the data have no domains, or a domain has too few items for a user's candidates.

    Source: UCLR, experimental settings; how ties in time are broken and candidates are drawn is not said there.
    """
    if not interactions.domains:
        raise ValueError("protocol=domains asks within each domain, and these data have none; name their column "
                         "(data.domain=... with data=csv), or use protocol=sequence")
    if candidates < 1 or few < 1:
        raise ValueError(f"protocol.split.candidates = {candidates} and few = {few} are numbers of items and pairs; "
                         "give 1 or more")
    names = Counter(called(domain) + ending for domain in interactions.domains for ending in ENDINGS)
    if wrong := [domain.name for domain in interactions.domains
                 if any(names[called(domain) + ending] > 1 or called(domain) + ending in TAKEN for ending in ENDINGS)]:
        raise ValueError(f"the domains {wrong} are called as each other's test sets, or as files of a run; rename them "
                         "in the data")
    role = roles(interactions, split_seed)
    train, valid, test = (interactions.select(role == part) for part in range(3))
    rng = np.random.RandomState(split_seed)
    known = interactions.select(role < 2)
    to_select, to_report = [], []
    for domain in interactions.domains:
        to_select.append(questions(interactions, train, valid, train, domain, candidates, rng))
        to_report.append(questions(interactions, train, test, known, domain, candidates, rng))
    sets = [joined(to_report, "test")]
    for domain, part in zip(interactions.domains, to_report, strict=True):
        sets += [found for found in variants(part, domain, train, few) if len(found)]
    return Split(train, joined(to_select, "valid"), tuple(sets))


def roles(interactions: Interactions, split_seed: int) -> Tensor:
    """(n,) int64: 0 where a pair trains, 1 where it validates, 2 where it is tested."""
    clean = torch.arange(len(interactions))
    if interactions.noisy is not None:
        clean = clean[~interactions.noisy]
    if interactions.times is None:
        clean = clean[sorted_order(scattered(interactions.users * interactions.n_items + interactions.items,
                                             split_seed)[clean])]
    group = interactions.users * len(interactions.domains) + number_of(interactions.items, interactions.domains)
    clean = clean[sorted_order(group[clean])]  # by user and domain, each from the first to the last
    size = torch.bincount(group[clean], minlength=interactions.n_users * len(interactions.domains))
    owner = group[clean]
    left = size.cumsum(0)[owner] - torch.arange(len(clean))  # 1 for the last pair of a user in a domain
    role = torch.zeros(len(interactions), dtype=torch.int64)
    role[clean[left == 1]] = 2
    role[clean[(left == 2) & (size >= 3)[owner]]] = 1
    return role


def number_of(items: Tensor, domains: Sequence[Domain]) -> Tensor:
    """The number of each item's domain, int64 of the shape of ``items``."""
    return torch.bucketize(items, torch.tensor([domain.stop for domain in domains], device=items.device), right=True)


def positions(interactions: Interactions, domain: Domain) -> Tensor:
    """Where the pairs of a domain stand, int64 in rising order."""
    return ((interactions.items >= domain.start) & (interactions.items < domain.stop)).nonzero().squeeze(1)


def of_domain(interactions: Interactions, domain: Domain) -> Interactions:
    """The pairs of a domain, in the id spaces of all."""
    return interactions.select(positions(interactions, domain))


def questions(interactions: Interactions, train: Interactions, held: Interactions, shown: Interactions, domain: Domain,
              count: int, rng: np.random.RandomState) -> EvalSet:
    """What is asked in a domain: one target of each user who has one in ``held``, and ``count`` candidates beside it.

    Args:
        interactions: all pairs. shown: those that a full ranking leaves out.
    """
    here = of_domain(held, domain)
    users, targets = here.users, here.items
    drawn = sampled(of_domain(interactions, domain), users, domain, count, rng)
    rows = Ragged.from_lengths(torch.ones_like(users), targets)
    seen = of_domain(shown, domain).clean().by_user.take(users)
    return EvalSet(Query(users, train.by_user.take(users)), rows, seen, torch.cat([targets[:, None], drawn], 1),
                   "", left_out=interactions.n_users - len(users))


def sampled(taken: Interactions, users: Tensor, domain: Domain, count: int, rng: np.random.RandomState) -> Tensor:
    """(b, count) int64, different items of a domain that the user of each row has not taken, uniformly.

    What was taken, or is in its row already, is drawn again. The procedure treats all items alike, so each set of
    ``count`` of them is as likely as any other.

    Raises:
        ValueError: a user has left too few.
    """
    size = domain.stop - domain.start
    short = taken.activity[users] > size - count
    if bool(short.any()):
        user = int(users[short][0])
        raise ValueError(f"{int(short.sum())} users have left fewer than {count} of the {size} items of the domain "
                         f"{domain.name!r}, for example user {user}, who has {int(taken.activity[user])}; give fewer, "
                         "as in protocol.split.candidates=20")
    items = torch.from_numpy(rng.randint(domain.start, domain.stop, (len(users), count)))  # (b, count)
    while True:
        order = items.argsort(dim=1, stable=True)
        inside = items.gather(1, order)
        again = torch.zeros_like(items, dtype=torch.bool)
        again[:, 1:] = inside[:, 1:] == inside[:, :-1]
        again = torch.zeros_like(again).scatter_(1, order, again)  # of equal ones the first stays
        again |= taken.contains(users[:, None], items)
        wrong = int(again.sum())
        if not wrong:
            return items
        items[again] = torch.from_numpy(rng.randint(domain.start, domain.stop, wrong))


def called(domain: Domain) -> str:
    """The name of a domain's test set."""
    return re.sub(r"\W+", "_", domain.name.lower())


def variants(part: EvalSet, domain: Domain, train: Interactions, few: int) -> list[EvalSet]:
    """The test sets of a domain, see :func:`domains`; some may be empty."""
    name = called(domain)
    users, targets = part.query.users, part.targets.values
    here = of_domain(train, domain).activity[users]
    sampled_only = replace(part, name=name)
    return [sampled_only, replace(part, name=f"{name}_full", candidates=None, among=domain.items),
            replace(taken(sampled_only, train.popularity[targets] > 0), name=f"{name}_warm"),
            replace(taken(sampled_only, (here >= 1) & (here <= few)), name=f"{name}_few")]


def taken(part: EvalSet, chosen: Tensor) -> EvalSet:
    """The questions that are ``chosen``, (b,) bool or (k,) int64."""
    index = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen
    query = Query(part.query.users[index], part.query.history.take(index))
    return replace(part, query=query, targets=part.targets.take(index), seen=part.seen.take(index),
                   candidates=None if part.candidates is None else part.candidates[index],
                   owners=None if part.owners is None else part.owners[index])


def joined(parts: Sequence[EvalSet], name: str) -> EvalSet:
    """Sets of questions with candidates, one after the other."""
    def rows(each: Sequence[Ragged]) -> Ragged:
        return Ragged.from_lengths(torch.cat([row.lengths for row in each]), torch.cat([row.values for row in each]))

    query = Query(torch.cat([part.query.users for part in parts]), rows([part.query.history for part in parts]))
    candidates = [part.candidates for part in parts if part.candidates is not None]
    return EvalSet(query, rows([part.targets for part in parts]), rows([part.seen for part in parts]),
                   torch.cat(candidates), name, left_out=sum(part.left_out for part in parts))


def of(pairs: Interactions, kept: Sequence[Domain]) -> Interactions:
    """The pairs of some domains alone, in the order that they have there, their items numbered from 0."""
    return pairs.of_items(items_of(kept))


def items_of(domains: Sequence[Domain]) -> Tensor:
    """(k,) int64, the items of some domains."""
    return torch.cat([torch.arange(domain.start, domain.stop) for domain in domains])


def cut(split: Split, kept: Sequence[int]) -> Split:
    """What trains and validates in the domains ``kept``, in rising order, their items numbered from 0.

    Users stay as they are. A model of these domains knows them alone: pairs of the others are in no history. Test
    questions are left out.
    """
    chosen = [split.train.domains[index] for index in kept]
    number = numbers(items_of(chosen), split.train.n_items)

    def renumbered(rows: Ragged) -> Ragged:
        now = number[rows.values]
        inside = now >= 0
        return Ragged.from_pairs(rows.rows[inside], now[inside], len(rows))

    targets = renumbered(split.valid.targets)
    valid = taken(replace(split.valid, targets=targets), targets.lengths > 0)
    valid = replace(valid, query=Query(valid.query.users, renumbered(valid.query.history)), seen=renumbered(valid.seen),
                    candidates=None if valid.candidates is None else number[valid.candidates])
    return Split(of(split.train, chosen), valid, ())
