"""The files that a run leaves beside its record."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from recot.data.dataset import Dataset
from recot.data.interactions import Interactions
from recot.data.questions import EvalSet, Split
from recot.evaluation.contracts import History, Recommender, device_of
from recot.evaluation.evaluate import recommended
from recot.fit.rounds import Relabelled
from recot.system.files import write_whole

LIST = 6  # items of a list in ProRec's case study


def save(folder: Path, dataset: Dataset, valid: EvalSet, whole: Split, first: Recommender, model: Recommender,
         values: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write all files of a fitted and graded run into an empty folder.

    Args:
        valid: the validation questions, answered by ``first``. whole: what ``model`` was trained on, and the test
            questions. values: every user's value of every metric, by set.
    """
    if history := getattr(first, "history", []):
        save_history(folder / "epochs.csv", history)
    for questions in (valid, *whole.test):
        save_answers(folder / f"{questions.name}.parquet", dataset, whole.train, questions, values[questions.name])
    if hasattr(model, "save"):  # one made of closed forms has it too, and writes nothing
        model.save(folder / "weights.pt")
    if isinstance(model, Relabelled):
        save_pairs(folder / "pairs.parquet", dataset, model)
        save_lists(folder / "lists.parquet", dataset, whole.test[0], whole.train.n_items, model)


def save_history(file: Path, history: History) -> None:
    """One line per epoch as csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in history for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(file, text.getvalue().encode())


def save_answers(file: Path, dataset: Dataset, train: Interactions, questions: EvalSet,
                 values: Mapping[str, Tensor]) -> None:
    """Every user's value of every metric as parquet, beside the user's original id and training pairs (``activity``).

    If every user has exactly one target, a column ``popularity`` holds that target's number of training pairs.
    """
    users, targets = questions.query.users, questions.targets
    columns = {"activity": train.activity[users].numpy()}
    if bool((targets.lengths == 1).all()):
        columns["popularity"] = train.popularity[targets.values].numpy()
    columns |= {metric: value.numpy() for metric, value in values.items()}
    write_frame(file, {"user": dataset.user_ids[users.numpy()], **columns})


def save_pairs(file: Path, dataset: Dataset, model: Relabelled) -> None:
    """The pairs that a model was trained on, with their weights, as parquet."""
    pairs = model.trained_on.to("cpu")
    columns = {"user": dataset.user_ids[pairs.users.numpy()], "item": dataset.item_ids[pairs.items.numpy()],
               "weight": pairs.weights.numpy(), **{name: value.cpu().numpy() for name, value in model.marks.items()}}
    if pairs.noisy is not None:
        columns["noisy"] = pairs.noisy.numpy()
    write_frame(file, columns)


def save_lists(file: Path, dataset: Dataset, questions: EvalSet, n_items: int, model: Relabelled) -> None:
    """The first ``LIST`` items that users are shown without and with the relabelling, as parquet."""
    length, users = min(LIST, n_items), dataset.user_ids[questions.query.users.numpy()]
    columns = {"user": users.repeat(length), "place": [*range(1, length + 1)] * len(users)}
    for name, one in (("before", model.first), ("after", model.model)):
        items, _ = recommended(one, questions.query.to(device_of(one)), questions.seen, length)  # (b, length)
        columns[name] = dataset.item_ids[items.flatten().numpy()]
    write_frame(file, columns)


def write_frame(file: Path, columns: Mapping[str, Any]) -> None:
    """Columns as parquet, whole or not at all."""
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    write_whole(file, buffer.getvalue())
