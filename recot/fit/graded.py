"""The questions of an evaluation, shared among the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recot.data.questions import EvalSet
from recot.evaluation.evaluate import evaluate, users_at_once
from recot.evaluation.recommender import Recommender
from recot.nn import ranks


def graded(recommender: Recommender, questions: EvalSet, metrics: Sequence[str]) -> dict[str, Tensor]:
    """As :func:`recot.evaluation.evaluate.evaluate`, each process asking some of the questions.

    They are cut where one process would cut them too, so that no score is computed among others than there.

    Raises:
        Exception: what it raises in one of the processes, in all of them.
    """
    if ranks.processes() == 1:
        return evaluate(recommender, questions, metrics)
    chunk = ranks.agreed(lambda: users_at_once(questions.query.users.device, width(questions)))
    start, stop = ranks.spans(len(questions), chunk)[ranks.rank()]
    parts = ranks.collected(
        lambda: evaluate(recommender, some(questions, start, stop), metrics, chunk) if start < stop else None)
    return {name: torch.cat([part[name] for part in parts if part is not None]) for name in metrics}


def width(questions: EvalSet) -> int:
    """How many items are ranked for a question, at least."""
    if questions.candidates is not None:
        return questions.candidates.shape[1]
    return 1 + max(int(rows.values.max()) for rows in (questions.targets, questions.seen) if len(rows.values))


def some(questions: EvalSet, start: int, stop: int) -> EvalSet:
    """Questions ``start`` to ``stop``."""
    candidates, owners = questions.candidates, questions.owners
    return replace(questions, query=questions.query.slice(start, stop), targets=questions.targets.slice(start, stop),
                   seen=questions.seen.slice(start, stop), candidates=None if candidates is None else
                   candidates[start:stop], owners=None if owners is None else owners[start:stop])
