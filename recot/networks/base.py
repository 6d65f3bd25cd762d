"""The network: three verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.nn.contracts import Code
from recot.nn.similarity import Similarity, against


class TwoTower(nn.Module):
    """A network that turns questions and items into vectors and compares them.

    It keeps the contract :class:`recot.nn.contracts.Network`. The class constants are claims, see that module.
    ``starts_fitted`` says that untrained weights are worth grading, since they are those of an earlier fit.

    Attributes:
        similarity: (..., m, d), (..., n, d) -> (..., m, n); ranks the items.
    """

    inductive: bool = False
    ordered: bool = False
    objectives: tuple[str, ...] = ()
    undecayed: tuple[str, ...] = ()
    by_domain: bool = False
    starts_fitted: bool = False
    alike: bool = False
    similarity: Similarity
    rested: Callable[[], Callable[[Tensor], Tensor]] | None = None

    def bind(self, train: Interactions) -> None:
        """Meet the training set: before the first step, and again with weights that are put back (a graph)."""

    def about_users(self) -> Mapping[str, Tensor]:
        """What it has learnt of each user besides vectors, (n_users,) each, by name."""
        return {}

    def after_step(self) -> None:
        """Called when the optimiser has moved the parameters (a slowly moving target)."""

    def users(self, query: Query) -> Tensor:
        """(b, d) vectors of ``b`` questions."""
        raise TypeError(f"{type(self).__name__} is a TwoTower and has to define users(query)")

    def encode(self, query: Query) -> Code:
        """The vectors of :meth:`users` with what their making leaves behind (corruption, a posterior)."""
        return Code(self.users(query))

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d) vectors of items, or (n_items, d) of all of them."""
        raise TypeError(f"{type(self).__name__} is a TwoTower and has to define items(ids)")

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What an L2 penalty shrinks: the free vectors behind b questions and items (b, k), as (b, d) and (b, k, d)."""
        return self.users(query), self.items(ids)

    def pretrained(self, query: Query) -> tuple[Tensor, Tensor]:
        """What a later stage goes on from: vectors of b users and of all items, (b, d) and (n_items, d)."""
        return self.users(query), self.items()

    def score(self, query: Query) -> Tensor:
        """(b, n_items) scores, higher first.

        Raises:
            ValueError: a user was not seen in training (-1) and the network is not inductive.
        """
        self.refuse_strangers(query)
        if self.rested is not None:
            return self.rested()(self.users(query))
        return self.similarity(self.users(query), self.items())

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While entered, the vectors of all items are made once. Nothing may change the network until it is left."""
        before, self.rested = self.rested, cache(lambda: against(self.similarity, self.items()))
        try:
            yield
        finally:
            self.rested = before

    def score_of(self, query: Query, ids: Tensor) -> Tensor:
        """Scores of the items (n,) for all questions (b, n), or of the items (b, c) of each question (b, c)."""
        self.refuse_strangers(query)
        if ids.dim() == 1:
            return self.similarity(self.users(query), self.items(ids))
        return self.similarity(self.users(query)[:, None], self.items(ids)).squeeze(1)  # (b, c)

    def refuse_strangers(self, query: Query) -> None:
        """Raise where a question is about a user who did not train and the network looks users up."""
        if not self.inductive and bool((query.users < 0).any()):
            raise ValueError(f"{type(self).__name__} has no vector for user -1, one it was not trained on. "
                             "Ask about training users (protocol=topk), or pick an inductive model.")

    @torch.no_grad()
    def forward(self, query: Query) -> Tensor:
        """Same as :meth:`score`, without gradients."""
        return self.score(query)
