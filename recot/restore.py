"""A finished run brought back: its model, its data, and what it recommends."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from recot import cache, experiment, former
from recot.compose import composed
from recot.data.dataset import Dataset
from recot.data.interactions import Interactions
from recot.data.split import Query, Split
from recot.evaluate import Recommender, recommended
from recot.learn import Gradient
from recot.schema import RequestError, check_target, targets
from recot.signature import describe
from recot.staged import Relabelled

log = logging.getLogger(__name__)

PLACES = sorted(name for name in cache.IRRELEVANT if name.startswith("data.") or name == "trainer.device")
"""Config keys that say where things lie, which a record leaves out and building it again takes."""


@dataclass(frozen=True)
class Finished:
    """A run that was brought back.

    Attributes:
        model: fitted. dataset: with the ids of the raw files.
        split: what the run trained on, and the questions it was tested with.
    """

    model: Recommender
    dataset: Dataset
    split: Split

    def users(self, ids: Iterable[str]) -> Tensor:
        """(b,) int64, the numbers of users that are given by the ids of the raw files.

        Raises:
            RequestError: a user is not there.
        """
        numbers, given = {str(id_): number for number, id_ in enumerate(self.dataset.user_ids)}, list(ids)
        if absent := [id_ for id_ in given if id_ not in numbers]:
            raise RequestError(f"{len(absent)} of {len(given)} users are not in these data, for example {absent[0]!r}; "
                               f"their ids are like {', '.join(list(numbers)[:3])}")
        return torch.tensor([numbers[id_] for id_ in given], dtype=torch.int64)

    def known(self, users: Tensor | None = None) -> Query:
        """Questions of users, (b,) numbers, or all who have a pair, with every pair of the data in their histories."""
        pairs = self.dataset.interactions
        asked = pairs.activity.nonzero().flatten() if users is None else users
        return Query(asked, pairs.by_user.take(asked))

    def lists(self, k: int, users: Tensor | None = None, tested: bool = False) -> pd.DataFrame:
        """The best items of each user, without those they are known to have had.

        Args:
            k: length of a list; it is shorter where fewer items are left.
            users: (b,) numbers, or None for all there are.
            tested: know and leave out what the test questions did, so that these are the lists that were graded.

        Returns:
            Columns ``user`` and ``item``, ids of the raw files, ``place`` from 1, and ``score``; a row for each item.

        Raises:
            RequestError: ``k`` is not positive, or a user was not tested.
        """
        if k < 1:
            raise RequestError(f"--k {k} shows nothing; give 1 or more")
        query = self.known(users)
        seen = query.history
        if tested:
            questions = self.split.test[0]
            asked = questions.query.users if users is None else users
            place = {int(user): row for row, user in enumerate(questions.query.users)}
            if absent := [user for user in asked.tolist() if user not in place]:
                raise RequestError(f"user {self.dataset.user_ids[absent[0]]} was not tested; leave --tested out")
            rows = torch.tensor([place[user] for user in asked.tolist()], dtype=torch.int64)
            query, seen = Query(asked, questions.query.history.take(rows)), questions.seen.take(rows)
        k = min(k, self.split.train.n_items)
        items, scores = recommended(self.model, query.to(getattr(self.model, "device", "cpu")), seen, k)  # (b, k) each
        frame = pd.DataFrame({
            "user": self.dataset.user_ids[query.users.numpy()].repeat(k),
            "place": np.tile(np.arange(1, k + 1), len(query)),
            "item": self.dataset.item_ids[items.flatten().numpy()], "score": scores.flatten().numpy()})
        return frame[~np.isneginf(frame["score"])].reset_index(drop=True)


def restore(folder: str | Path, words: Sequence[str] = ()) -> Finished:
    """Bring back the run whose record is in ``folder``.

    The data are prepared and split as they were. A network reads its weights; a closed form, which has none, is fitted
    again.

    Args:
        words: where things lie now, such as ``data.root=...``, and what may run; see :func:`settings`.

    Raises:
        RequestError: there is no finished run, what is there now is not what it was made with, or the record names code
            outside recot that its words do not trust.
    """
    folder = Path(folder)
    record, weights, pairs = stored(folder)
    config = settings(record, words)
    source = experiment.make(config["data"])
    if cache.key(config, source.digest()) != record["key"]:
        raise RequestError(f"the raw data are not those that {folder} was made with; say where those are, with "
                           "data.root=... or data.path=...")
    dataset = source.load()
    dataset = replace(dataset, interactions=experiment.in_order(config, dataset))  # histories as the model read them
    split = experiment.ask_questions(config, dataset)
    if split.fingerprint != record["split"]:
        raise RequestError(f"today's code splits these data otherwise than when {folder} was made; run it again: "
                           f"{record['command']} force=true")
    if config["protocol"].get("refit"):
        split = experiment.ask_again(config, dataset)
    return Finished(fitted(config, record, dataset, split, weights, pairs), dataset, split)


def stored(folder: Path) -> tuple[dict[str, Any], Path | None, Path | None]:
    """The record of a finished run and, where it left them, its weights and its training pairs, as it wrote them.

    Raises:
        RequestError: there is no finished run, or something in the folder is not what it wrote.
    """
    runs = cache.Runs(folder.parent)
    try:
        record = runs.get(folder.name)
        if record is None:
            raise RequestError(f"{folder} holds no record.json; give the folder or the key that recot.run printed")
        if record["status"] != "done":
            raise RequestError(f"{folder} is the record of a run that is {record['status']}; its command ends it: "
                               f"{record.get('command', 'unknown')}")
        return record, runs.file(folder.name, "weights.pt", record), runs.file(folder.name, "pairs.parquet", record)
    except (ValueError, FileNotFoundError) as error:
        raise RequestError(str(error)) from error


def settings(record: Mapping[str, Any], words: Sequence[str] = ()) -> dict[str, Any]:
    """The config of a run, as far as building it again takes one, with :data:`PLACES` as its command and ``words`` say.

    Raises:
        RequestError: a word says something else, for what was run cannot be changed now; or the record names code
            outside recot, and no word trusts its package (``plugins=[my_package]``).
    """
    for word in words:
        if word.partition("=")[0] not in (*PLACES, "plugins"):
            raise RequestError(f"{word} would change what was run; all that can be said now is "
                               f"{', '.join((*PLACES, 'plugins'))}")
    config = former.current(record["config"])
    typed = dict(word.partition("=")[::2] for word in (*shlex.split(record["command"]), *words))
    for name, value in typed.items():
        if name in PLACES:
            group, _, key = name.partition(".")
            config[group][key] = yaml.safe_load(value)
    trusted = [yaml.safe_load(word.partition("=")[2]) for word in words if word.startswith("plugins=")]
    for path, node in targets(config):  # the record may be anybody's
        check_target(path, node, [name for names in trusted for name in ([names] if isinstance(names, str) else names)])
    read = describe(config["data"]["_target_"])
    if read and "cache" in read.parameters:
        config["data"].setdefault("cache", typed.get("paths.cache") or composed()[0]["paths"]["cache"])
    return config


def fitted(config: dict[str, Any], record: Mapping[str, Any], dataset: Dataset, split: Split, weights: Path | None,
           pairs: Path | None) -> Recommender:
    """The model of a record: read where it left weights, fitted where it left none.

    Raises:
        RequestError: it is a network and left none.
    """
    if config["protocol"].get("refit") and "rounds" in record:
        config["denoiser"]["rounds"] = record["rounds"][-1]["round"]  # chosen by questions that now train as well
    model = experiment.build(config)
    inner = model.make(None, lambda history: None) if isinstance(model, Relabelled) else model
    if isinstance(inner, Gradient):
        if weights is None:
            raise RequestError(f"run {record['key']} left no weights.pt; make it again: {cache.again(record)}")
        return inner.load(weights, trained_on(dataset, split.train, pairs))
    log.info("fitting %s again", record["model"])
    return model.fit(split.for_training())


def trained_on(dataset: Dataset, train: Interactions, file: Path | None) -> Interactions:
    """The training pairs that a denoiser left in ``file``, or ``train`` where it changed none."""
    if file is None:
        return train
    frame = pd.read_parquet(file)
    users, items = (torch.from_numpy(np.searchsorted(ids, frame[kind].to_numpy()))
                    for kind, ids in (("user", dataset.user_ids), ("item", dataset.item_ids)))
    order = (users * train.n_items + items).argsort()
    return Interactions.from_pairs(users, items, train.n_users, train.n_items).reweighted(
        torch.tensor(frame["weight"].to_numpy())[order])
