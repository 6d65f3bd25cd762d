"""The question: what is known, what is asked, and what the answer is."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged, is_in, sorted_order

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """A batch of questions "what will this user take next?".

    Attributes:
        users: (b,) int64; -1 is a user the model was not trained on.
        history: b rows of items, oldest first: what the model may know about each user.
    """

    users: Tensor
    history: Ragged

    def __len__(self) -> int:
        return len(self.users)

    def slice(self, start: int, stop: int) -> Query:
        """Questions ``start`` to ``stop``."""
        return Query(self.users[start:stop], self.history.slice(start, stop))

    def to(self, device: torch.device | str) -> Query:
        """The same questions on ``device``."""
        return Query(self.users.to(device), self.history.to(device))


@dataclass(frozen=True)
class EvalSet:
    """Questions with their answers.

    Attributes:
        query: b questions.
        targets: b rows of held-out items; a user without any is not in the set.
        seen: b rows of items that are left out of the ranking (training items, and validation items at test time).
        candidates: (b, c) int64, the items to rank (targets included), or None for all of them.
        name: "valid", "test", ...
    """

    query: Query
    targets: Ragged
    seen: Ragged
    candidates: Tensor | None
    name: str

    def __len__(self) -> int:
        return len(self.query)

    def to(self, device: torch.device | str) -> EvalSet:
        """The same questions on ``device``."""
        return replace(self, query=self.query.to(device), targets=self.targets.to(device), seen=self.seen.to(device),
                       candidates=None if self.candidates is None else self.candidates.to(device))


@dataclass(frozen=True)
class Split:
    """What to train on, what to select by, and what to report.

    Attributes:
        train: the training pairs; ``train.noisy`` marks those known to be noise.
        valid: questions for early stopping and tuning.
        test: questions for the report; empty in the split a model is given to fit.
    """

    train: Interactions
    valid: EvalSet
    test: tuple[EvalSet, ...]

    def for_training(self) -> Split:
        """The same split without its test answers: what ``Recommender.fit`` is given, so that no model can peek."""
        return replace(self, test=())

    def to(self, device: torch.device | str) -> Split:
        """The same split on ``device``."""
        return Split(self.train.to(device), self.valid.to(device), tuple(test.to(device) for test in self.test))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any training pair, history, target, masked item or candidate."""
        digest = hashlib.sha256(f"{self.train.n_users},{self.train.n_items}".encode())
        tensors = [self.train.users, self.train.items]
        for part in (self.valid, *self.test):
            tensors.append(part.query.users)
            tensors += [tensor for rows in (part.query.history, part.targets, part.seen)
                        for tensor in (rows.offsets, rows.values)]
            tensors += [] if part.candidates is None else [part.candidates]
        for tensor in tensors:
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


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
    return Split(whole, empty, tuple(asked(part) for part in split.test))


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

    return Split(train, asked(split.valid), tuple(asked(part) for part in split.test))


def validate(split: Split) -> None:
    """Refuse a split whose answers are known beforehand, cannot be ranked, or are not there.

    Checks the training pairs, every set by itself, and that no test target is a validation target of the same user.

    Raises:
        ValueError: says how many pairs are wrong, shows one, and says what to do.
    """
    train = split.train
    _ids_in_range("train.users", train.users, 0, train.n_users)
    _ids_in_range("train.items", train.items, 0, train.n_items)
    twice = train.keys[1:][train.keys[1:] == train.keys[:-1]]
    if len(twice):
        raise ValueError(f"{len(twice)} training pairs occur twice, for example (user "
                         f"{int(twice[0]) // train.n_items}, item {int(twice[0]) % train.n_items}); build train with "
                         "Interactions.from_pairs")
    for part in (split.valid, *split.test):
        _validate_form(part, train)
        _validate_answers(part, train)
    users, items = split.valid.query.users[split.valid.targets.rows], split.valid.targets.values
    answers = (users * train.n_items + items)[users >= 0]
    answers = answers[sorted_order(answers)]
    for part in split.test:
        users = part.query.users[part.targets.rows]
        _refuse(part, is_in(users * train.n_items + part.targets.values, answers),
                "are validation targets of the same user too", "hold every pair out once")


def _validate_form(part: EvalSet, train: Interactions) -> None:
    rows = [len(part.query.users), len(part.query.history), len(part.targets), len(part.seen)]
    rows += [] if part.candidates is None else [len(part.candidates)]
    if len(set(rows)) > 1 or not rows[0]:
        raise ValueError(f"{part.name} has {rows} rows in users, history, targets, seen (and candidates); give every "
                         "question one row of each and at least one question; fewer than 3 pairs per user leave none")
    empty = (part.targets.lengths == 0).nonzero().flatten()
    if len(empty):
        raise ValueError(f"{len(empty)} of {rows[0]} questions of {part.name} have no target, for example user "
                         f"{int(part.query.users[empty[0]])}; leave users without targets out of the set")
    _ids_in_range(f"{part.name}.query.users", part.query.users, -1, train.n_users)
    for name, ids in (("query.history", part.query.history.values), ("targets", part.targets.values),
                      ("seen", part.seen.values), ("candidates", part.candidates)):
        if ids is not None:
            _ids_in_range(f"{part.name}.{name}", ids, 0, train.n_items)


def _validate_answers(part: EvalSet, train: Interactions) -> None:
    rows, items = part.targets.rows, part.targets.values
    wanted = rows * train.n_items + items
    order = sorted_order(wanted)
    again = torch.zeros_like(rows, dtype=torch.bool)
    again[order[1:]] = wanted[order[1:]] == wanted[order[:-1]]
    _refuse(part, again, "occur twice in their row", "keep one of each")
    users = part.query.users[rows]
    _refuse(part, train.contains(users, items), "are training pairs of the same user",
            "take them out of train or out of the targets; noise must be drawn outside the targets")
    for name, known, remedy in (("history", part.query.history, "a model must not be told the answer; shorten it"),
                                ("seen", part.seen, "they would never be ranked; take them out of seen")):
        keys = known.rows * train.n_items + known.values
        _refuse(part, is_in(wanted, keys[sorted_order(keys)]), f"are in the {name} of their question", remedy)
    if part.candidates is not None:
        _refuse(part, (part.candidates[rows] != items[:, None]).all(1),
                "are not among the candidates of their question", "add every target to its row of candidates")


def _refuse(part: EvalSet, wrong: Tensor, what: str, remedy: str) -> None:
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(f"{int(wrong.sum())} of {len(wrong)} targets of {part.name} {what}, for example (user "
                         f"{int(part.query.users[part.targets.rows[at]])}, item {int(part.targets.values[at])}); "
                         f"{remedy}")


def _ids_in_range(name: str, ids: Tensor, low: int, size: int) -> None:
    wrong = ids[(ids < low) | (ids >= size)]
    if len(wrong):
        raise ValueError(f"{len(wrong)} ids of {name} lie outside {low}..{size - 1}, for example {int(wrong[0])}; "
                         "number users and items anew from 0, after the last filter")
