"""One attempt at an experiment: train, answer, and what the record says of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions
from recot.data.questions import EvalSet, Split
from recot.evaluation.recommender import History, Recommender
from recot.fit.graded import graded
from recot.nn import ranks
from recot.record import console, outputs, trackers
from recot.record.build import ask_again, ask_questions, build, make, refitted
from recot.request import keys
from recot.system import memory


def attempt(config: dict[str, Any], source: Any, key: str, folder: Path, epochs: str = "epochs.csv",
            left: outputs.Left | None = None) -> dict[str, Any]:
    """Train and evaluate; the parts of the record that come out of it.

    Of several processes the first one writes, shows and sends, and the others have nothing to record.

    Where the protocol says ``refit``, validation answers come from the first fit, and all else from the second.

    Args:
        config: with metrics of held-out items alone, see :func:`recot.request.schema.of_lists`.
        folder: where the run keeps what it needs to resume, and the file ``epochs``, which gets a line per epoch.
        left: where the files go that the run leaves, or None to leave none. What is said of lists is said there alone.
    """
    start = time.monotonic()
    dataset = source.load()
    split = whole = ask_questions(config, dataset)
    bar, give_back = console.Bar(config["trainer"], config["protocol"]["monitor"]), memory.GiveBack()
    first_one = ranks.rank() == 0
    with trackers.Guarded(make(config["logger"]) if first_one else trackers.Csv()) as tracker:
        tracker.start(key, keys.relevant(config), folder)

        def observe(history: History) -> None:
            if not first_one:
                return
            outputs.save_history(folder / epochs, history)
            tracker.log(history[-1], len(history))
            bar.show(history)
            give_back()

        first = model = build(config, folder if first_one else None, observe)
        began = time.monotonic()
        with bar:
            model.fit(split.for_training())
        fitted = time.monotonic()
        values = answers(model, split.valid, config)
        if config["protocol"]["refit"]:
            whole, began = ask_again(config, dataset), time.monotonic()
            model = refitted(config, first, whole, folder / "refit" if first_one else None)
        fit_seconds = (time.monotonic() if model is not first else fitted) - began
        fit_seconds = max(fit_seconds, elapsed(model))  # a run that went on has spent more than this process knows
        asked = time.monotonic()
        values |= answers(model, whole.test, config)
        ask_seconds = time.monotonic() - asked
        means = {name: average(found) for name, found in values.items()}
        tracker.finish({f"{name}/{metric}": mean for name in means for metric, mean in means[name].items()})
    floor = answers(Popularity().fit(split), split.valid, config) | answers(Popularity().fit(whole), whole.test, config)
    if not first_one:
        return {}
    if left is not None:
        outputs.save(left, dataset.of(split.items), split.valid, whole, first, model, values)
    told = next((row for row in first.history if config["protocol"]["monitor"] in row), {})  # see artifacts.verify
    spent = elapsed(first) or fitted - start
    return {
        "status": "done", **means, **about_noise(model, whole.train),
        **({"rounds": model.rounds} if model.rounds else {}), **({"stages": model.stages} if model.stages else {}),
        "floor": {name: average(found) for name, found in floor.items()}, "digest": digest(values),
        "split": split.fingerprint, "sizes": sizes(split), "dropped": dataset.dropped, "epochs": len(first.history),
        "first_epoch": {name: value for name, value in told.items() if name != "seconds"},
        "best_epoch": first.best_epoch, "fit_seconds": round(fit_seconds, 3), "ask_seconds": round(ask_seconds, 3),
        "seconds": round(spent + time.monotonic() - fitted, 3), "wall_seconds": round(time.monotonic() - start, 3)}


def elapsed(model: Recommender) -> float:
    """Seconds that the epochs of a fit have taken, those before an interruption too; 0 where it has none."""
    return sum(row["seconds"] for row in model.history)


def answers(model: Recommender, questions: EvalSet | tuple[EvalSet, ...],
            config: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Every user's value of every metric of the config, by set."""
    parts = questions if isinstance(questions, tuple) else (questions,)
    return {part.name: graded(model, part.to(model.device), config["metrics"]) for part in parts}


def about_noise(model: Recommender, train: Interactions) -> dict[str, Any]:
    """How well known noise is told from the other training pairs: by low scores, and by low weights where it has some.

    Nothing where no noise is known.
    """
    from recot.evaluation.known_noise import noise_auc, score_pairs  # and scipy.stats with it, .4 s of CPU

    train = train.unfolded()
    if train.noisy is None or not 0 < int(train.noisy.sum()) < len(train):
        return {}
    areas = {"noise_auc": noise_auc(score_pairs(model, train.to(model.device)), train.noisy, train.users)}
    if model.trained_on is not None and torch.equal(model.trained_on.keys, train.keys):
        areas["weight_auc"] = noise_auc(model.trained_on.weights, train.noisy, train.users)
    return areas


def question_sets(split: Split) -> dict[str, EvalSet]:
    """The sets a record reports on, by name."""
    return {questions.name: questions for questions in (split.valid, *split.test)}


def average(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean over users of each metric."""
    return {metric: float(value.mean()) for metric, value in values.items()}


def digest(answers: Mapping[str, Mapping[str, Tensor]]) -> str:
    """16 hexadecimal digits of every user's value of every metric: equal only for runs that agree bit for bit."""
    sha = hashlib.sha256()
    for name in sorted(answers):
        for metric in sorted(answers[name]):
            sha.update(f"{name}/{metric}".encode())
            sha.update(answers[name][metric].numpy().tobytes())
    return sha.hexdigest()[:16]


def sizes(split: Split) -> dict[str, int]:
    """Counts a reader checks first."""
    counts = {"users": split.train.n_users, "items": split.train.n_items, "train": len(split.train)}
    if split.train.noisy is not None:
        counts["train_noisy"] = int(split.train.noisy.sum())
    if split.items is not None:
        counts["train_users"] = int((split.train.unfolded().activity > 0).sum())
    for name, questions in question_sets(split).items():
        counts |= {f"{name}_users": len(questions), f"{name}_targets": len(questions.targets.values)}
        if questions.left_out:
            counts[f"{name}_left_out"] = questions.left_out
    return counts
