"""Recommenders made of recommenders."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from recot.data.interactions import Interactions
from recot.data.questions import Split
from recot.evaluation.recommender import Deputy, History, Recommender
from recot.fit.graded import graded
from recot.nn import ranks
from recot.nn.contracts import Relabeller

log = logging.getLogger(__name__)


class Relabelled(Deputy):
    """Fits, relabels, and fits afresh, for a number of rounds; keeps the best round after the first relabelling.

    Validation and the items left out of a ranking stay those of the original split: relabelling changes what is trained
    on and nothing else. Without validation questions the last round is kept.

    Args:
        make: called with a folder for checkpoints (or None) and a callback for the history; gives an unfitted
            recommender. It is used once a round.
        denoiser: relabels.
        monitor: validation metric that selects the round.
        folder: where the rounds keep what they need to resume, or None.
        observe: called after each epoch of a network with the history of all rounds.

    Attributes:
        rounds: a row of scalars for each round: its number, seconds of the fit and of the relabelling before it, pairs,
            the monitored value where there is one, and what the relabelling reported.
        model, before: the recommenders of the chosen round, and of the one before any relabelling.
        trained_on: the training set of the chosen round. marks: what the denoiser says of each of its pairs, by name.

    Source: the outer loop of IR (Wang et al., 2021), which reports the best round from the first relabelling on.
    """

    def __init__(self, make: Callable[[Path | None, Callable[[History], None]], Recommender], denoiser: Relabeller,
                 monitor: str, folder: Path | None = None, observe: Callable[[History], None] = lambda history: None):
        self.make, self.denoiser, self.monitor, self.folder, self.observe = make, denoiser, monitor, folder, observe
        self.history: History = []
        self.rounds: History = []

    def fit(self, split: Split) -> Self:
        """All rounds; goes on in the round that was interrupted.

        Raises:
            Exception: what a round raises.
        """
        fitted = Recommender()  # of round 0 once that is fitted, before anything asks for it
        current, best = split.train, -math.inf
        self.history, self.rounds = [], []
        for number in range(self.denoiser.rounds + 1):
            start = time.monotonic()
            if number:
                current = ranks.agreed(partial(self.relabelled, fitted, split.train, current))
            told = {} if number == 0 else self.denoiser.report()
            folder = self.folder / f"round{number}" if self.folder else None
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
            # Defaults hold this round's values; mypy has no type for a lambda with some.
            fitted = self.make(folder, lambda history, told=told, number=number: self.observe(  # type: ignore[misc]
                self.history + numbered(history, number, told)))
            fitted.fit(replace(split, train=current))
            self.history += numbered(fitted.history, number, told)
            row = {"round": number, "seconds": round(time.monotonic() - start, 3), "pairs": len(current), **told}
            if len(split.valid):
                questions = split.valid.to(fitted.device)
                row[self.monitor] = float(graded(fitted, questions, [self.monitor])[self.monitor].mean())
            value = row.get(self.monitor, math.inf)
            if number == 0:
                self.before = fitted
            log.info("round %d: %s", number, ", ".join(f"{name} {found:.4g}" for name, found in row.items()))
            self.rounds.append(row)
            if number <= 1 or value > best or not len(split.valid):  # round 0 counts only where nothing is relabelled
                best, self.model, self.best_round, self.trained_on = value, fitted, number, current
                self.marks = dict(self.denoiser.marks)
        return self

    @torch.no_grad()
    def relabelled(self, model: Recommender, original: Interactions, current: Interactions) -> Interactions:
        """The training set of the next round."""
        where, scorer = model.device, model.scorer
        return self.denoiser.relabel(original.to(where), current.to(where), scorer).to(original.users.device)

    @property
    def chosen(self) -> Mapping[str, Mapping[str, Any]]:
        """As many rounds as were best, and what the chosen one says."""
        return {**self.model.chosen, "denoiser": {"rounds": self.best_round}}


def numbered(history: Sequence[dict[str, float]], number: int, told: dict[str, float]) -> History:
    """The history of a round, with its number and what the relabelling before it reported."""
    return [{"round": number, **row, **told} for row in history]
