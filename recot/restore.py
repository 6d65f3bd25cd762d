"""A finished run brought back: its model, its data, and what it recommends."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recot.data.dataset import Dataset
from recot.data.histories import histories
from recot.data.interactions import Interactions, Ragged, sorted_order
from recot.data.questions import EvalSet, Query, Split
from recot.data.times import Unit
from recot.evaluation.evaluate import recommended
from recot.evaluation.recommender import Recommender
from recot.evaluation.suspicion import Belief, belief_in, levels
from recot.record import build, store
from recot.record.crossfit import crossfit
from recot.request import former, keys
from recot.request.compose import composed, values
from recot.request.errors import RequestError
from recot.request.kinds import outside
from recot.request.schema import check
from recot.request.signature import describe
from recot.system.environment import REFERENCE

log = logging.getLogger(__name__)

PLACES = ("data.cache", "data.path", "data.valid", "data.test", "data.root", "trainer.device")
"""Config keys that say where things lie, which the config of a record leaves out and building it again takes."""


@dataclass(frozen=True)
class Finished:
    """A run that was brought back.

    Attributes:
        model: fitted. dataset: with the ids of the raw files, and those items alone that the run knew.
        split: what the run trained on, and the questions it was tested with.
        columns: "user", "item" and "time" -> the names that the columns of the raw files have, where they have some.
        time_unit: of the times in the raw files, see :func:`recot.data.read.ratings`.
        folder: of the run. config: as it was run, with places of today. record: what the run left of itself.
        weighed: the training pairs with the weights that a denoiser left, or None where it changed none.
    """

    model: Recommender
    dataset: Dataset
    split: Split
    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: Unit | None = None
    folder: Path = Path()
    config: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    weighed: Interactions | None = None

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
        """Questions about users, (b,) numbers, or all who have a pair, with every pair of the data in their histories.

        Whoever did not train is asked about as a stranger (-1).

        Raises:
            RequestError: the model has a vector for each user who trained, and one of these did not.
        """
        asked = self.everybody() if users is None else users
        if not self.inductive and len(absent := asked[self.split.train.activity[asked] == 0]):
            raise RequestError(f"user {self.dataset.user_ids[int(absent[0])]} has no training pair, and "
                               f"{self.model.name} has a vector for users who trained alone; leave that user out, or "
                               "train a model that reads histories, such as model=vae or model=itemknn")
        trained = self.split.train.activity[asked] > 0
        return Query(torch.where(trained, asked, -1), self.dataset.interactions.by_user.take(asked))

    def everybody(self) -> Tensor:
        """(b,) int64, the numbers of the users who have a pair, and whom the model can serve."""
        users = self.dataset.interactions.activity.nonzero().flatten()
        served = users if self.inductive else users[self.split.train.activity[users] > 0]
        if len(served) < len(users):
            log.warning("%d of %d users have no training pair and get no list: %s has a vector for users who trained "
                        "alone", len(users) - len(served), len(users), self.model.name)
        return served

    @property
    def inductive(self) -> bool:
        """Whether the model serves users who did not train."""
        return bool(self.model.networks[0].inductive)  # of one class, where there are several

    def lists(self, k: int, users: Tensor | None = None, tested: bool = False,
              domain: str | None = None) -> pd.DataFrame:
        """The best items of each user, without those they are known to have had.

        Args:
            k: length of a list; it is shorter where fewer items are left.
            users: (b,) numbers, or None for all there are.
            tested: know and leave out what the test questions did, so that these are the lists that were graded.
            domain: name of the domain whose items are ranked; None for all items.

        Returns:
            Columns ``user`` and ``item``, ids of the raw files, ``place`` from 1, and ``score``; a row for each item.

        Raises:
            RequestError: ``k`` is not positive, a user was not tested, there is no such domain, or users were tested in
                each domain and none is named.
        """
        if k < 1:
            raise RequestError(f"--k {k} shows nothing; give 1 or more")
        among = self.among(domain)
        questions = self.questions(among) if tested else None
        asked = (self.everybody() if questions is None else questions.asked) if users is None else users
        known = self.known(asked)
        query, seen = (known, known.history) if questions is None else self.graded(asked, questions)
        return self.best(k, query, seen, self.dataset.user_ids[asked.numpy()], among)

    def among(self, domain: str | None) -> slice | None:
        """The range of items of a domain, by its name in any letters; None for all items.

        Raises:
            RequestError: there is no such domain.
        """
        if domain is None:
            return None
        ranges = {found.name.lower(): found.items for found in self.split.train.domains}
        if not ranges:
            raise RequestError(f"--domain {domain}: these data have no domains; leave --domain out")
        if domain.lower() not in ranges:
            names = ", ".join(found.name for found in self.split.train.domains)
            raise RequestError(f"--domain {domain}: there is no such domain in these data; use one of {names}")
        return ranges[domain.lower()]

    def questions(self, among: slice | None) -> EvalSet:
        """The test questions about all items, or about those of a domain.

        Raises:
            RequestError: users were tested in each domain, and ``among`` is None.
        """
        first = self.split.test[0]
        if first.candidates is None:
            return first
        if among is None:
            names = ", ".join(found.name for found in self.split.train.domains)
            raise RequestError(f"--tested: users were tested in each domain; name one with --domain, of {names}")
        return next(part for part in self.split.test if part.among == among)

    def graded(self, users: Tensor, questions: EvalSet) -> tuple[Query, Ragged]:
        """The test questions about users, (b,) numbers, and what is left out of their rankings, b rows.

        Raises:
            RequestError: a user was not tested.
        """
        row_of = {int(user): row for row, user in enumerate(questions.asked)}
        if absent := [user for user in users.tolist() if user not in row_of]:
            raise RequestError(f"user {self.dataset.user_ids[absent[0]]} was not tested; leave --tested out")
        rows = torch.tensor([row_of[user] for user in users.tolist()], dtype=torch.int64)
        return Query(questions.query.users[rows], questions.query.history.take(rows)), questions.seen.take(rows)

    def served(self, file: str | Path, k: int, domain: str | None = None) -> pd.DataFrame:
        """The best items of each user of a file, whom the run has never seen; see :meth:`lists`.

        The columns of the file are called as in the data of the run, where these have names, and else ``user``,
        ``item`` and, for a model that reads histories in order, ``time``; see :func:`recot.data.histories.histories`.

        Raises:
            RequestError: ``k`` is not positive, the model knows users by a vector of their own, the file is not such a
                one, or there is no such domain.
        """
        if k < 1:
            raise RequestError(f"--k {k} shows nothing; give 1 or more")
        among, scorer = self.among(domain), self.model.networks[0]
        if not self.inductive:
            raise RequestError(f"{type(scorer).__name__} has a vector for each user who trained, and none for others; "
                               "train a model that reads histories, such as model=vae, model=itemknn or model=sasrec")
        columns = {kind: self.columns.get(kind, kind) for kind in ("user", "item", *(["time"] * scorer.ordered))}
        try:
            pairs, names = histories(Path(file), self.dataset.item_ids, columns, self.time_unit)
        except (OSError, ValueError) as error:
            raise RequestError(f"--histories {file}: {error}") from error
        strangers = Query(torch.full((len(names),), -1), pairs.by_user)
        return self.best(k, strangers, strangers.history, names, among)

    def best(self, k: int, query: Query, seen: Ragged, names: np.ndarray[Any, Any],
             among: slice | None = None) -> pd.DataFrame:
        """The best items of each question without those in ``seen``; ``names`` (b,) stand in the column ``user``.

        Args:
            among: the items that are ranked; None for all.
        """
        if among is None and len(self.model.networks) > 1:
            log.warning("each domain has a recommender of its own, and their scores do not compare: these lists are of "
                        "all domains, and --domain NAME ranks within one")
        model, start, n_items = self.model, 0, self.split.train.n_items
        if among is not None:
            model, start, n_items = Within(model, among), among.start, among.stop - among.start
            inside = (seen.values >= among.start) & (seen.values < among.stop)
            seen = Ragged.from_pairs(seen.rows[inside], seen.values[inside] - start, len(seen))
        k = min(k, n_items)
        items, scores = recommended(model, query.to(model.device), seen, k)  # (b, k) each
        frame = pd.DataFrame({
            "user": names.repeat(k), "place": np.tile(np.arange(1, k + 1), len(names)),
            "item": self.dataset.item_ids[items.flatten().numpy() + start], "score": scores.flatten().numpy()})
        return frame[~np.isneginf(frame["score"])].reset_index(drop=True)


    def suspects(self, folds: int = 0) -> pd.DataFrame:
        """The training pairs, those that the model believes in least first.

        Args:
            folds: 0 asks the model of the run, which was trained on all of them. With more the model is fitted that
                often without a part of them, and each pair is judged by one that was not trained on it; see
                :func:`recot.record.crossfit.crossfit`.

        Returns:
            Columns ``user`` and ``item``, ids of the raw files; ``weight``, where a denoiser left one and there are no
            folds; ``share`` of the items that the user has not taken which score above the pair, ties half; ``rank``
            among these items, from 1, and ``of`` how many, the pair itself among them; ``margin`` of the score over the
            mean score of these items; ``score``; ``noisy``, where noise is known. ``level`` numbers the order: equal
            pairs have one. Rows are in the order of weight, then share; those without a share come last.

        Raises:
            RequestError: the model reads histories in order, or cannot be fitted in folds.
            OSError: the folder of the run cannot be written, and folds were asked for.
        """
        if self.model.networks[0].ordered:
            raise RequestError(f"{self.model.name} reads histories in order: its scores say what comes next, and not "
                               "what belongs to a user; use a run of a model that reads histories as sets, such as "
                               "model=bprmf or model=itemknn")
        pairs, taken = self.split.train.unfolded(), self.taken()
        if folds:
            belief = crossfit(self.config, self.record, self.split, taken, folds, self.folder)
        else:
            belief = belief_in(self.model, self.split.train, pairs, taken)
        weights = None if folds or self.weighed is None else weights_of(self.weighed, pairs)
        return ranked(self.dataset, pairs, belief, weights)

    def taken(self) -> Ragged:
        """(n_users,) rows of the items that each user is known to have had, in training or held out."""
        train, n_items = self.split.train, self.split.train.n_items
        keys = torch.cat([self.dataset.interactions.keys, train.keys]).unique()  # added noise is in one alone
        return Ragged.from_pairs(keys // n_items, keys % n_items, train.n_users)


class Within(Recommender):
    """A fitted recommender that is asked about a range of items alone."""

    def __init__(self, whole: Recommender, items: slice):
        self.whole, self.items, self.device = whole, items, whole.device

    @property
    def name(self) -> str:
        """That of the whole."""
        return self.whole.name

    def score(self, query: Query) -> Tensor:
        """(b, n) float32."""
        return self.whole.score_of(query, self.items)


def weights_of(weighed: Interactions, pairs: Interactions) -> Tensor:
    """(n,) float64: the weight that a denoiser gave to each pair, 0 where it took the pair out."""
    order = sorted_order(weighed.users * weighed.n_items + weighed.items)
    place = torch.searchsorted(weighed.keys, pairs.users * pairs.n_items + pairs.items).clamp(max=len(weighed) - 1)
    found = weighed.contains(pairs.users, pairs.items)
    return torch.where(found, weighed.weights[order[place]].double(), 0.0)


def ranked(dataset: Dataset, pairs: Interactions, belief: Belief, weights: Tensor | None) -> pd.DataFrame:
    """The table of :meth:`Finished.suspects`."""
    share = belief.share.numpy()
    columns = {"user": dataset.user_ids[pairs.users.numpy()], "item": dataset.item_ids[pairs.items.numpy()]}
    columns |= {} if weights is None else {"weight": weights.numpy()}
    columns |= {"share": share, "rank": 1 + share * belief.others.numpy(), "of": (belief.others + 1).numpy(),
                "margin": belief.margin.numpy(), "score": belief.score.numpy()}
    columns |= {} if pairs.noisy is None else {"noisy": pairs.noisy.numpy()}
    columns["level"] = levels(share, None if weights is None else weights.numpy())
    return pd.DataFrame(columns).sort_values("level", kind="stable", ignore_index=True)


def restore(folder: str | Path, words: Sequence[str] = ()) -> Finished:
    """Bring back the run whose record is in ``folder``.

    The data are prepared and split as they were. A network reads its weights; a closed form, which has none, is fitted
    again.

    Args:
        words: where things lie now, such as ``data.root=...``, and what may run; see :func:`settings`.

    Raises:
        RequestError: there is no finished run, what is there now is not what it was made with, or the record names code
            outside recot that the words do not trust, or something else that is no config.
        FileNotFoundError: the data are not there; they are not downloaded.
    """
    folder = Path(folder)
    record, weights, pairs = stored(folder)
    config = settings(record, words)
    source = build.make(config["data"])
    if keys.key(record["config"], source.digest()) != record["key"]:
        raise RequestError(f"the raw data are not those that {folder} was made with; say where those are, with "
                           "data.root=... or data.path=...")
    dataset = source.load()
    dataset = replace(dataset, interactions=build.in_order(config, dataset))  # histories as the model read them
    split = build.ask_questions(config, dataset)
    if split.fingerprint != record["split"]:
        raise RequestError(f"today's code splits these data otherwise than when {folder} was made; run it again: "
                           f"{record['command']} force=true")
    if config["protocol"].get("refit"):
        split = build.ask_again(config, dataset)
    asked = {name: dict(part) if isinstance(part, dict) else part for name, part in config.items()}
    dataset = dataset.of(split.items)
    model = fitted(config, record, dataset, split, weights, pairs)
    weighed = None if pairs is None else trained_on(dataset, split.train, pairs)
    return Finished(model, dataset, split, columns_of(config["data"]), config["data"].get("time_unit"), folder, asked,
                    record, weighed)


def columns_of(data: Mapping[str, Any]) -> dict[str, str]:
    """The names of the columns of raw files, by kind, where a config gives some."""
    named = data.get("columns") or data
    return {kind: str(named[kind]) for kind in ("user", "item", "time") if named.get(kind)}


def stored(folder: Path) -> tuple[dict[str, Any], Path | None, Path | None]:
    """The record of a finished run and, where it left them, its weights and its training pairs, as it wrote them.

    Raises:
        RequestError: there is no finished run, or something in the folder is not what it wrote.
    """
    runs = store.Runs(folder.parent)
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


DEPTH = 20
"""Levels that the config of a record may have."""


def settings(record: Mapping[str, Any], words: Sequence[str] = ()) -> dict[str, Any]:
    """The config of a run, as far as building it again takes one, with :data:`PLACES` as its places and ``words`` say.

    The record may be anybody's. So its texts are taken as they are, nothing is downloaded for it, what it says of where
    to write is left out, and where it says that data lie is a place to read. Only the words trust a package.

    Args:
        record: of a run; see :func:`recot.record.experiment.run`.

    Raises:
        RequestError: a word says something else, for what was run cannot be changed now; or the config is none that
            could be run, or names code outside recot whose package no word trusts (``plugins=[my_package]``).
    """
    said = values(words)
    for name in said:
        if name not in (*PLACES, "plugins"):
            raise RequestError(f"{name}={said[name]} would change what was run; all that can be said now is "
                               f"{', '.join((*PLACES, 'plugins'))}")
    asked = said.pop("plugins", [])
    trusted = [str(name) for name in (asked if isinstance(asked, list) else [asked])]
    here, choices = composed()
    config = former.current(literal("config", record["config"]))
    if not isinstance(data := config.get("data"), dict) or not isinstance(config.get("trainer"), dict):
        raise RequestError("the config of the record has no data or no trainer; it is none of recot.run")
    for name in PLACES:
        config[name.partition(".")[0]].pop(name.partition(".")[2], None)
    read = describe(str(data.get("_target_"))) if not outside(data.get("_target_"), trusted) else None
    taken = read.parameters if read else {}
    data |= {name: None for name in ("url", "manual") if name in data and name in taken}
    data |= {name: here["paths"]["cache"] for name in ("cache",) if name in taken}
    data |= {name: place for name in ("path", "valid", "test", "root")
             if name in taken and (place := believed(record, f"data.{name}"))}
    for name, value in said.items():
        config[name.partition(".")[0]][name.partition(".")[2]] = value
    names = {group: str(record.get(group)) for group in choices}
    unasked = {name: here[name] for name in ("force", "paths", "logger")}
    return check({**config, **unasked, "plugins": trusted}, names)


def literal(path: str, value: Any) -> Any:
    """A copy of a plain value out of a record.

    Raises:
        RequestError: a text refers to something, which a config that was run does not, but for the places of its data.
    """
    if path.count(".") > DEPTH:
        raise RequestError(f"the config of the record is nested more than {DEPTH} times; the record is none of "
                           "recot.run, or was changed")
    if isinstance(value, dict):
        return {name: literal(f"{path}.{name}", item) for name, item in value.items()}
    if isinstance(value, list):
        return [literal(f"{path}.{place}", item) for place, item in enumerate(value)]
    if isinstance(value, str) and "${" in value and path not in ("config.data.url", "config.data.manual"):
        raise RequestError(f"{path} of the record is {value!r}, and what was run refers to nothing; the record is none "
                           "of recot.run, or was changed")
    return value


def believed(record: Mapping[str, Any], name: str) -> str | list[str] | None:
    """Where a record says that the data lie, if these are places on this machine which hold files."""
    said = record.get("places")
    place = said.get(name) if isinstance(said, dict) else None
    if isinstance(place, list) and name != "data.root":
        several = [at_hand(one, name) for one in place]
        return [one for one in several if one is not None] if None not in several else None
    return at_hand(place, name)


def at_hand(place: object, name: str) -> str | None:
    """A place that a record names, if it is one on this machine which holds files."""
    if not isinstance(place, str) or REFERENCE.search(place) or "\0" in place or not Path(place).is_absolute():
        return None
    if Path(place).resolve().parts[1:2] in (("dev",), ("proc",), ("sys",)):
        return None
    return place if name != "data.root" or Path(place).is_dir() else None


def fitted(config: dict[str, Any], record: Mapping[str, Any], dataset: Dataset, split: Split, weights: Path | None,
           pairs: Path | None) -> Recommender:
    """The model of a record: read where it left weights, fitted where it left none.

    Raises:
        RequestError: it is a network and left none.
    """
    if config["protocol"].get("refit") and "rounds" in record:
        config["denoiser"]["rounds"] = record["rounds"][-1]["round"]  # chosen by questions that now train as well
    if not build.descends(config):
        log.info("fitting %s again", record["model"])
        return build.build(config).fit(split.for_training())
    if weights is None:
        raise RequestError(f"run {record['key']} left no weights.pt; make it again: {store.again(record)}")
    config["denoiser"] = {"_target_": "recot.denoise.base.Denoiser"}  # what is asked needs none
    return build.build(config).load(weights, trained_on(dataset, split.train, pairs))


def trained_on(dataset: Dataset, train: Interactions, file: Path | None) -> Interactions:
    """The training pairs that a denoiser left in ``file``, or ``train`` where it changed none."""
    if file is None:
        return train
    frame = pd.read_parquet(file)
    users, items = (torch.from_numpy(np.searchsorted(ids, frame[kind].to_numpy()))
                    for kind, ids in (("user", dataset.user_ids), ("item", dataset.item_ids)))
    order = (users * train.n_items + items).argsort()
    return Interactions.from_pairs(users, items, train.n_users, train.n_items, domains=train.domains).reweighted(
        torch.tensor(frame["weight"].to_numpy())[order])
