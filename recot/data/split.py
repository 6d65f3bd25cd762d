"""The question: what is known, what is asked, and what the answer is."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged, sorted_order
from recot.data.questions import EvalSet, Query, Split

logger = logging.getLogger(__name__)


def ratio(interactions: Interactions, train: float = 0.8, valid: float = 0.1, test: float = 0.1,
          split_seed: int = 0) -> Split:
    """Random split of each user's pairs.

    Of a user's k pairs ``floor(test * k)`` are tested and ``floor(valid * k)`` validate, at least one each; the rest,
    again at least one, train. A user with fewer than three pairs only trains: it is in neither ``valid`` nor ``test``,
    so metrics are means over the users with at least three pairs, and a log line says how many are left out.

    Pairs marked in ``interactions.noisy`` always train and do not count towards k: a pair known to be noise cannot be
    predicted, so targets are clean, as they are when noise is added after the split.

    A model knows the training pairs in both sets (``query.history``, oldest first). Left out of the ranking (``seen``)
    are the training items, and when testing the validation items as well. A training pair that is marked as noise stays
    in the ranking: were it left out, more noise would leave fewer items to rank, and raise every metric. The result
    depends on the set of pairs, their marks and ``split_seed``, not on the order or the times of the pairs.

    Raises:
        ValueError: a share is not positive, or the shares do not sum to one.

    Source: SCLRec, experimental settings (8:1:1 per user); masks and knowledge at test time as in RecBole.
    Departures: RecBole tests one pair of a user who has two and validates none; here that user only trains.
    """
    shares = _exact_shares(train, valid, test)
    count = interactions.clean().activity
    n_test, n_valid = _held_out_counts(count, shares[1], shares[2])
    short = int(((n_test == 0) & (interactions.activity > 0)).sum())
    if short:
        logger.info("%d of %d users have fewer than 3 pairs to deal out and only train", short, interactions.n_users)
    return _dealt(interactions, n_valid, n_test, split_seed)


def floors(interactions: Interactions, valid: float = 0.2, test: float = 0.3, split_seed: int = 0) -> Split:
    """Random split of each user's pairs, without a least number of them.

    Of a user's k pairs ``floor(test * k)`` are tested and ``floor((valid + test) * k)`` less those validate; the rest
    train. A user of whom nothing is tested is not in ``test``, likewise ``valid``. Noise, knowledge and masks are those
    of :func:`ratio`.

    Raises:
        ValueError: a share is not positive, or they leave nothing to train on.

    Source: ProRec, experimental settings (5:2:3 per user, and 4:1 on MovieLens-100K), with the counts of the repository
    it takes its baselines from (wuga214/NCE_Projected_LRec).
    """
    _, of_valid, of_test = _exact_shares(1 - valid - test, valid, test)
    held = of_valid + of_test
    count = interactions.clean().activity
    n_test = count * of_test.numerator // of_test.denominator
    return _dealt(interactions, count * held.numerator // held.denominator - n_test, n_test, split_seed)


def last(interactions: Interactions, portion: float = 1.0, order: Literal["id", "random"] = "id",
         split_seed: int = 0) -> Split:
    """The last item of each user is tested, the last but one validates, the others train.

    A user with fewer than three pairs only trains. All users are asked about, and ``floor(portion * n_users)`` of them
    train: the first by ``id``, which is the order of files that number users as they come, or any (``random``). Noise
    is treated as in :func:`ratio`. What is asked for the test knows the validation item as well (``query.history``,
    oldest first); what a model knows is left out of the ranking. Pairs of one user at the same time are in random order
    (``split_seed``): that of their ids would tell which of them is last.

    Raises:
        ValueError: the data have no times, or ``portion`` leaves nobody to train on.

    Source: MStein, experimental settings, and all papers of its baselines; called leave-last-out or leave-one-out. For
    its Fig. 3 the released program takes the first users of the file, who have longer histories than later ones.
    """
    n_users = interactions.n_users
    count = int(n_users * portion + 1e-9)
    if count < 1 or portion > 1:
        raise ValueError(f"protocol.split.portion = {portion} of {n_users} users leaves {count} to train on; give more "
                         "than 0 and at most 1")
    if interactions.times is None:
        raise ValueError("protocol=sequence wants to know what came last, and these data have no times; name their "
                         "column (data.time=... with data=csv), or use protocol=topk")
    interactions = in_time_order(interactions, split_seed)
    index = torch.arange(len(interactions), device=interactions.users.device)
    clean = index if interactions.noisy is None else index[~interactions.noisy]
    owner = interactions.users[clean]
    k = torch.bincount(owner, minlength=interactions.n_users)                     # (n_users,)
    left = k.cumsum(0)[owner] - torch.arange(len(clean), device=clean.device)     # 1 for the last pair of a user
    short = int(((k < 3) & (interactions.activity > 0)).sum())
    if short:
        logger.info("%d of %d users have fewer than 3 pairs and only train", short, interactions.n_users)
    is_test, is_valid = torch.zeros_like(index, dtype=torch.bool), torch.zeros_like(index, dtype=torch.bool)
    is_test[clean] = (left == 1) & (k >= 3)[owner]
    is_valid[clean] = (left == 2) & (k >= 3)[owner]
    trained, known = interactions.select(~is_test & ~is_valid), interactions.select(~is_test)
    rng = torch.Generator().manual_seed(split_seed)
    place = torch.randperm(n_users, generator=rng) if order == "random" else torch.arange(n_users)
    train = trained if count == n_users else trained.select((place < count)[trained.users])
    return Split(train, _question(interactions.select(is_valid), trained, trained.clean(), "valid"),
                 (_question(interactions.select(is_test), known, known.clean(), "test"),))


def in_time_order(interactions: Interactions, split_seed: int) -> Interactions:
    """The pairs in order of time, those of one user at one time in random order; says once how many these are.

    The order of their ids, which the pairs are in otherwise, would tell a model something that is not in the data.
    """
    tied = interactions.tied
    if interactions.ties is None and bool(tied.any()):
        in_tie = torch.zeros_like(interactions.users, dtype=torch.bool)
        in_tie[1:] |= tied
        in_tie[:-1] |= tied
        before_last = (interactions.activity.cumsum(0) - 2)[interactions.activity > 1]
        logger.info("%.1f %% of the pairs share their time with another pair of their user, as do the last two of %.1f "
                    "%% of the users; such pairs are in random order (split_seed)", 100 * float(in_tie.double().mean()),
                    100 * int(tied[before_last].sum()) / int((interactions.activity > 0).sum()))
    return interactions.untied(split_seed)


def joined(split: Split) -> Split:
    """What a model is refitted on: the validation pairs join the training pairs, and only the test questions remain.

    Joined pairs have weight one, are no known noise, and no pair keeps its time. ``valid`` holds no question. Known
    noise stays in the ranking, as in :func:`ratio`.

    Raises:
        ValueError: the validation questions ask about users the model was not trained on.
    """
    train, valid = split.train, split.valid
    users = valid.query.users[valid.targets.rows]
    if bool((users < 0).any()):
        raise ValueError("protocol.refit=true wants validation users that also train; split within users, for example "
                         "protocol=denoise")
    noisy = None if train.noisy is None else torch.cat([train.noisy, torch.zeros_like(users, dtype=torch.bool)])
    whole = Interactions.from_pairs(
        torch.cat([train.users, users]), torch.cat([train.items, valid.targets.values]), train.n_users, train.n_items,
        noisy=noisy, domains=train.domains)
    seen = whole.clean()

    def asked(part: EvalSet) -> EvalSet:
        users = part.query.users
        return replace(part, query=Query(users, whole.by_user.take(users)), seen=seen.by_user.take(users))

    empty = replace(valid, query=valid.query.slice(0, 0), targets=valid.targets.slice(0, 0),
                    seen=valid.seen.slice(0, 0))
    return replace(split, train=whole, valid=empty, test=tuple(asked(part) for part in split.test))


def _dealt(interactions: Interactions, n_valid: Tensor, n_test: Tensor, split_seed: int) -> Split:
    """The split that holds out so many random pairs of each user, (n_users,) int64 each.

    It depends on the set of pairs and the seed, not on the order of the pairs.
    """
    users, n_users = interactions.users, interactions.n_users
    dealt = sorted_order(users * interactions.n_items + interactions.items)
    if interactions.noisy is not None:
        dealt = dealt[~interactions.noisy[dealt]]
    rng = torch.Generator().manual_seed(split_seed)
    dealt = dealt[torch.randperm(len(dealt), generator=rng).to(dealt.device)]
    dealt = dealt[sorted_order(users[dealt])]                                     # by user, random inside
    owner = users[dealt]
    k = torch.bincount(owner, minlength=n_users)                                  # (n_users,)
    place = torch.arange(len(dealt), device=dealt.device) - (k.cumsum(0) - k)[owner]
    is_test, is_valid = torch.zeros_like(users, dtype=torch.bool), torch.zeros_like(users, dtype=torch.bool)
    is_test[dealt] = place < n_test[owner]
    is_valid[dealt] = (place >= n_test[owner]) & (place < (n_test + n_valid)[owner])
    trained, known = interactions.select(~is_test & ~is_valid), interactions.select(~is_test)
    return Split(trained, _question(interactions.select(is_valid), trained, trained.clean(), "valid"),
                 (_question(interactions.select(is_test), trained, known.clean(), "test"),))


def _exact_shares(*shares: float) -> list[Fraction]:
    """The shares as exact fractions: in floating point ``0.29 * 100`` falls below 29 and would lose a pair."""
    exact = [Fraction(share).limit_denominator(10**6) for share in shares if 0 < share < 1]
    if len(exact) < len(shares) or sum(exact) != 1:
        raise ValueError("train, valid and test are shares of a user's pairs, got "
                         f"{' + '.join(map(str, shares))} = {sum(shares):g}; make them positive with sum 1, "
                         "for example 0.8, 0.1 and 0.1")
    return exact


def _held_out_counts(k: Tensor, valid: Fraction, test: Fraction) -> tuple[Tensor, Tensor]:
    """(n_users,) int64 each, how many of ``k`` pairs are tested and validate; one pair is always left to train on."""
    enough = k >= 3
    n_test = (k * test.numerator // test.denominator).clamp(min=1).minimum(k - 2)
    n_valid = (k * valid.numerator // valid.denominator).clamp(min=1).minimum(k - 1 - n_test)
    return n_test * enough, n_valid * enough


def _question(held: Interactions, train: Interactions, seen: Interactions, name: str) -> EvalSet:
    users = held.activity.nonzero().flatten()
    return EvalSet(Query(users, train.by_user.take(users)), held.by_user.take(users), seen.by_user.take(users), None,
                   name)


def with_train(split: Split, train: Interactions, seen: Literal["clean", "all"] = "clean") -> Split:
    """The same questions after the training pairs have changed, (n,) pairs in the same id spaces.

    In every history the old training pairs give way to the new ones. What a row holds besides (a validation item)
    stays, behind them; rows of users the model was not trained on stay as they are.

    Args:
        seen: ``clean`` leaves out of the ranking what was left out before, so that the same items are ranked whatever
            the noise. ``all`` leaves out the new training pairs in place of the old ones.
    """
    def renewed(rows: Ragged, users: Tensor) -> Ragged:
        now = train.by_user.take(users.clamp(min=0))
        trained = (users >= 0)[now.rows]
        besides = ~split.train.contains(users[rows.rows], rows.values)
        place = torch.cat([now.rows[trained], rows.rows[besides]])
        order = sorted_order(place)
        return Ragged.from_pairs(place, torch.cat([now.values[trained], rows.values[besides]])[order], len(rows))

    def asked(part: EvalSet) -> EvalSet:
        users = part.query.users
        return replace(part, query=Query(users, renewed(part.query.history, users)),
                       seen=part.seen if seen == "clean" else renewed(part.seen, users))

    return replace(split, train=train, valid=asked(split.valid), test=tuple(asked(part) for part in split.test))
