"""The files that a run leaves beside its record."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from recot.data.dataset import Dataset
from recot.data.domains import number_of
from recot.data.interactions import Interactions
from recot.data.questions import EvalSet, Split
from recot.evaluation.evaluate import recommended
from recot.evaluation.recommender import Recommender
from recot.record.served import Values, served
from recot.system.files import write_whole

LIST = 6  # items of a list in ProRec's case study


@dataclass
class Left:
    """Where a run leaves its files, and what it says there of its lists.

    Attributes:
        folder: empty at first. metrics: those of lists that the config asks for.
        lists, floor: their values, of the run and of the popularity floor, once :func:`save` has written the files.
    """

    folder: Path
    metrics: Sequence[str] = ()
    lists: Values = field(default_factory=dict)
    floor: Values = field(default_factory=dict)

    def told(self, record: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
        """The fields of a record with the metrics of lists among the others, in the order of the config."""
        def joined(means: Mapping[str, float], values: Mapping[str, Tensor]) -> dict[str, float]:
            both = {**means, **{name: float(value.mean()) for name, value in values.items()}}
            return {name: both[name] for name in order if name in both}

        sets = {name: joined(record[name], values) for name, values in self.lists.items()}
        floor = {name: joined(record["floor"][name], values) for name, values in self.floor.items()}
        return {**record, **sets, "floor": {**record["floor"], **floor}}


def save(left: Left, dataset: Dataset, valid: EvalSet, whole: Split, first: Recommender, model: Recommender,
         values: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write all files of a fitted and graded run into an empty folder, and look at its lists where that is asked for.

    Args:
        valid: the validation questions, answered by ``first``. whole: what ``model`` was trained on, and the test
            questions. values: every user's value of every metric, by set.
    """
    folder = left.folder
    if left.metrics:
        left.lists, left.floor = served(valid, whole, first, model, left.metrics)
    if first.history:
        save_history(folder / "epochs.csv", first.history)
    for questions in (valid, *whole.test):
        of_users = {name: value for name, value in left.lists.get(questions.name, {}).items() if value.dim()}
        save_answers(folder / f"{questions.name}.parquet", dataset, whole.train, questions,
                     {**values[questions.name], **of_users})
    model.save(folder / "weights.pt")
    if model.trained_on is not None:
        save_pairs(folder / "pairs.parquet", dataset, model.trained_on, model.marks)
    if model.about_users:
        save_users(folder / "users.parquet", dataset, whole.train, model.about_users)
    if model.before is not None:
        save_lists(folder / "lists.parquet", dataset, whole.test[0], whole.train.n_items, model.before, model)


def save_history(file: Path, history: Sequence[dict[str, float]]) -> None:
    """One line per epoch as csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in history for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(file, text.getvalue().encode())


def save_answers(file: Path, dataset: Dataset, train: Interactions, questions: EvalSet,
                 values: Mapping[str, Tensor]) -> None:
    """Every user's value of every metric as parquet, beside the user's original id and the number of pairs that the
    model knows of (``activity``): in training, or in the history of a user who did not train.

    If every user has exactly one target, a column ``popularity`` holds that target's number of training pairs.
    """
    users, targets, strange = questions.asked, questions.targets, questions.query.users < 0
    activity = torch.where(strange, questions.query.history.lengths, train.activity[users])  # (b,)
    columns = {"activity": activity.numpy()}
    if train.domains and bool((targets.lengths == 1).all()):
        columns["activity_here"] = activity_here(train, questions).numpy()
    if bool((targets.lengths == 1).all()):
        columns["popularity"] = train.popularity[targets.values].numpy()
    columns |= {metric: value.numpy() for metric, value in values.items()}
    write_frame(file, {"user": dataset.user_ids[users.numpy()], **columns})


def activity_here(train: Interactions, questions: EvalSet) -> Tensor:
    """(b,) int64, how many items a model knows of each user in the domain of the one target."""
    history, asked = questions.query.history, number_of(questions.targets.values, train.domains)
    here = number_of(history.values, train.domains) == asked[history.rows]
    return torch.bincount(history.rows[here], minlength=len(questions))


def save_users(file: Path, dataset: Dataset, train: Interactions, known: Mapping[str, Tensor]) -> None:
    """What a model has learnt of each user, (n_users,) each, as parquet: beside the original id, the training pairs,
    and which ninth by these the user is in, 1 the most active; ties in order of the ids.
    """
    place = torch.empty_like(train.activity)
    place[train.activity.argsort(descending=True, stable=True)] = torch.arange(train.n_users)
    write_frame(file, {"user": dataset.user_ids, "activity": train.activity.numpy(),
                       "ninth": (1 + place * 9 // train.n_users).numpy(),
                       **{name: value.cpu().numpy() for name, value in known.items()}})


def save_pairs(file: Path, dataset: Dataset, pairs: Interactions, marks: Mapping[str, Tensor]) -> None:
    """The pairs that a model was trained on, with their weights and ``marks``, (n,) each, as parquet."""
    pairs = pairs.to("cpu")
    columns = {"user": dataset.user_ids[pairs.users.numpy()], "item": dataset.item_ids[pairs.items.numpy()],
               "weight": pairs.weights.numpy(), **{name: value.cpu().numpy() for name, value in marks.items()}}
    if pairs.noisy is not None:
        columns["noisy"] = pairs.noisy.numpy()
    write_frame(file, columns)


def save_lists(file: Path, dataset: Dataset, questions: EvalSet, n_items: int, before: Recommender,
               after: Recommender) -> None:
    """The first ``LIST`` items that users are shown without and with the relabelling, as parquet."""
    length, users = min(LIST, n_items), dataset.user_ids[questions.asked.numpy()]
    columns = {"user": users.repeat(length), "place": [*range(1, length + 1)] * len(users)}
    for name, one in (("before", before), ("after", after)):
        items, _ = recommended(one, questions.query.to(one.device), questions.seen, length)  # (b, length)
        columns[name] = dataset.item_ids[items.flatten().numpy()]
    write_frame(file, columns)


def write_frame(file: Path, columns: Mapping[str, Any]) -> None:
    """Columns as parquet, whole or not at all."""
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    write_whole(file, buffer.getvalue())
