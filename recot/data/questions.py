"""What is asked: queries, sets of questions, and splits with what trains and what is asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged, is_in, sorted_order


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
        owners: (b,) int64, whose questions these are, where ``query.users`` does not say so; None where it does.
        left_out: users who were to be asked about and have no target.
        among: the range of items to rank, with what is ``seen`` inside it, or None for all of them.
    """

    query: Query
    targets: Ragged
    seen: Ragged
    candidates: Tensor | None
    name: str
    owners: Tensor | None = None
    left_out: int = 0
    among: slice | None = None

    def __len__(self) -> int:
        return len(self.query)

    @property
    def asked(self) -> Tensor:
        """(b,) int64, the users of the data who are asked about, those that no model may look up as well."""
        return self.query.users if self.owners is None else self.owners

    def to(self, device: torch.device | str) -> EvalSet:
        """The same questions on ``device``."""
        return replace(self, query=self.query.to(device), targets=self.targets.to(device), seen=self.seen.to(device),
                       candidates=None if self.candidates is None else self.candidates.to(device),
                       owners=None if self.owners is None else self.owners.to(device))


@dataclass(frozen=True)
class Split:
    """What to train on, what to select by, and what to report.

    Attributes:
        train: the training pairs; ``train.noisy`` marks those known to be noise.
        valid: questions for early stopping and tuning.
        test: questions for the report; empty in the split a model is given to fit.
        items: (train.n_items,) int64, which items of the data the items of the split are; None where they are the same.
    """

    train: Interactions
    valid: EvalSet
    test: tuple[EvalSet, ...]
    items: Tensor | None = None

    def for_training(self) -> Split:
        """The same split without its test answers: what ``Recommender.fit`` is given, so that no model can peek."""
        return replace(self, test=())

    def to(self, device: torch.device | str) -> Split:
        """The same split on ``device``."""
        return replace(self, train=self.train.to(device), valid=self.valid.to(device),
                       test=tuple(test.to(device) for test in self.test))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any training pair, history, target, masked item or candidate.

        They are the same whether those who are asked about train as well (``train.folded``) or are strangers (-1): what
        is known and asked is the same then.
        """
        digest = hashlib.sha256(f"{self.train.n_users},{self.train.n_items}".encode())
        train = self.train.unfolded()
        tensors = [train.users, train.items, *([] if self.items is None else [self.items])]
        for part in (self.valid, *self.test):
            tensors.append(part.asked)
            tensors += [tensor for rows in (part.query.history, part.targets, part.seen)
                        for tensor in (rows.offsets, rows.values)]
            tensors += [] if part.candidates is None else [part.candidates]
            tensors += [] if part.among is None else [torch.tensor([part.among.start, part.among.stop])]
        for tensor in tensors:
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


Strangers = Split
"""A split whose questions are about users who did not train, -1 each. A request is checked by this annotation."""

Given = Split
"""A split by the parts that data come with. A request is checked by this annotation."""


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
