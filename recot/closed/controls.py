"""Controls of what a stage makes of fitted users: the least that could be done to them, in closed form (UCLR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from recot.data.questions import Query, Split
from recot.evaluation.evaluate import evaluate
from recot.evaluation.recommender import Recommender
from recot.nn.contracts import Before
from recot.request.limits import check


class Changed(Recommender):
    """Scores by the users and items of the stage before, its users changed by one number that validation chooses.

    A subclass says how, by :meth:`changed`.

    Args:
        before: the stage whose vectors are taken.
        values: to choose from; the first of the best.
        monitor: validation metric that chooses, for example ``ndcg@10``.

    Attributes:
        value: the chosen one, once it is fitted.
        parameter: what ``values`` are called in a config.
    """

    parameter = ""
    value: float
    users: Tensor
    items: Tensor

    def __init__(self, before: Before, values: Sequence[float], monitor: str = "ndcg@10"):
        check("model", (self.parameter, list(values), len(values) > 0, "leaves nothing to choose; give one or more"))
        self.stage, self.values, self.monitor = before, list(values), monitor

    def changed(self, users: Tensor, value: float) -> Tensor:
        """(n_users, d) of ``users`` (n_users, d)."""
        raise TypeError(f"{type(self).__name__} has to define changed(users, value)")

    def fit(self, split: Split) -> Self:
        """Choose, by validation where there is more than one value.

        Raises:
            ValueError: there is more than one value and nothing to validate by.
        """
        users, items = (vectors.cpu().float() for vectors in self.stage.vectors(split.train.n_users))
        self.items, best = items, -1.0
        if len(self.values) > 1 and not len(split.valid):
            raise ValueError(f"model.{self.parameter} = {self.values}, and the split has no validation questions to "
                             f"choose by; give model.{self.parameter} one value")
        for value in self.values:
            self.users = self.changed(users, value)
            found = float(evaluate(self, split.valid.to("cpu"), [self.monitor])[self.monitor].mean()) if (
                len(self.values) > 1) else 0.0
            if found > best:
                best, self.value = found, value
        self.users = self.changed(users, self.value)
        return self

    @property
    def chosen(self) -> Mapping[str, Mapping[str, Any]]:
        """The value that was best."""
        return {"model": {self.parameter: [self.value]}}

    def score(self, query: Query) -> Tensor:
        """(b, n_items), on the CPU.

        Raises:
            ValueError: a user was not seen in training (-1).
        """
        refuse_strangers(query, type(self).__name__)
        return self.users[query.users.cpu()] @ self.items.T  # (b, n_items)


class TruncatedUsers(Changed):
    """The user vectors of the stage before, E, cut to their first singular vectors: ``E V V^T``.

    What an autoencoder with a narrow code can do at most to the squared error, without one.

    Args:
        before: the stage whose vectors are taken. ranks: numbers of singular vectors to choose from; those from the
            width of the vectors on change nothing. monitor: validation metric that chooses.

    Raises:
        ValueError: ``ranks`` is empty, or one is below 1.

    Departures: none; of no paper.
    """

    parameter = "ranks"

    def __init__(self, before: Before, ranks: Sequence[int] = (1, 2, 3, 4, 8, 16, 32, 64), monitor: str = "ndcg@10"):
        super().__init__(before, ranks, monitor)
        check("model", ("ranks", list(ranks), min(ranks) >= 1, "has one that leaves nothing; give numbers from 1 on"))

    def changed(self, users: Tensor, value: float) -> Tensor:
        """See the class."""
        _, directions = torch.linalg.eigh(users.double().T @ users.double())  # (d, d), the last is the first
        kept = directions[:, -int(value):].to(users)  # (d, r)
        cut: Tensor = users @ kept @ kept.T
        return cut


class ShrunkUsers(Changed):
    """The user vectors of the stage before, moved towards their mean by a share of the way.

    Args:
        before: the stage whose vectors are taken. shares: of the way, to choose from; 0 changes nothing, and 1 gives
            all users the same list. monitor: validation metric that chooses.

    Raises:
        ValueError: ``shares`` is empty, or one is not in 0..1.

    Departures: none; of no paper.
    """

    parameter = "shares"

    def __init__(self, before: Before, shares: Sequence[float] = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9),
                 monitor: str = "ndcg@10"):
        super().__init__(before, shares, monitor)
        check("model", ("shares", list(shares), all(0 <= share <= 1 for share in shares),
                        "has one that overshoots; give numbers from 0 to 1"))

    def changed(self, users: Tensor, value: float) -> Tensor:
        """See the class."""
        moved: Tensor = torch.lerp(users, users.mean(0), value)
        return moved


class MeanUser(Recommender):
    """One list for all: the items of the stage before, ranked by the mean of its users.

    Not inductive, although it never looks at the user: the stage before has to know them.

    Args:
        before: the stage whose vectors are taken.

    Departures: none; of no paper.
    """

    def __init__(self, before: Before):
        self.stage = before

    def fit(self, split: Split) -> Self:
        """Take the mean."""
        users, items = self.stage.vectors(split.train.n_users)
        self.scores = (items @ users.mean(0)).cpu().float()  # (n_items,)
        return self

    def score(self, query: Query) -> Tensor:
        """(b, n_items), on the CPU.

        Raises:
            ValueError: a user was not seen in training (-1).
        """
        refuse_strangers(query, type(self).__name__)
        return self.scores.repeat(len(query), 1)  # (b, n_items)


def refuse_strangers(query: Query, name: str) -> None:
    """Raise where a question is about a user whom the stage before does not know; ``name`` is who was asked."""
    if bool((query.users < 0).any()):
        raise ValueError(f"{name} goes on from a stage that has no vector for user -1, one it was not trained on. "
                         "Ask about training users (protocol=topk), or pick an inductive model.")
