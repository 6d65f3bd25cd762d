"""The model of a finished run fitted again, each time without a part of the training pairs, which it then judges."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recot.data.folds import dealt
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Split
from recot.evaluation.recommender import Recommender
from recot.evaluation.suspicion import Belief, belief_in
from recot.fit.stages import unasked
from recot.fit.stored import read
from recot.record import build
from recot.record.provenance import source_digest
from recot.record.store import Runs
from recot.request import keys
from recot.request.errors import RequestError
from recot.system.files import write_sealed

log = logging.getLogger(__name__)


def as_chosen(config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run with as many epochs and rounds as its validation chose, for a fit that has no validation.

    Raises:
        RequestError: each domain was fitted by itself, or what was best is not to be trained at all.
    """
    chosen = dict(config)
    for name, part in build.stages(config).items():
        if part["domains"] != "joint":
            raise RequestError(f"--folds: the run fitted each domain by itself (domains={part['domains']}), and each "
                               "stopped at an epoch of its own; leave --folds out, or use a run with domains=joint")
        best = record["best_epoch"] if name == "last" else record["stages"][name]["best_epoch"]
        if not build.descends(part):
            continue
        if best < 1:
            raise RequestError("--folds: the weights that this run kept are those that its network began with, so that "
                               "there is no fit to repeat; leave --folds out")
        said = config if name == "last" else config["stages"][name]
        limited = {**said, "trainer": {**said["trainer"], "max_epochs": best}}
        chosen |= {"trainer": limited["trainer"]} if name == "last" else {"stages": {**chosen["stages"], name: limited}}
    if record.get("rounds"):
        chosen["denoiser"] = {**config["denoiser"], "rounds": best_round(record["rounds"], config)}
    return chosen


def best_round(rounds: list[dict[str, Any]], config: Mapping[str, Any]) -> int:
    """The round of relabelling that a run kept: the best by validation, or the last where a refit had none."""
    monitor = config["protocol"]["monitor"]
    if monitor not in rounds[-1]:
        return int(rounds[-1]["round"])
    return int(max(rounds[1:], key=lambda row: row[monitor])["round"])


def crossfit(config: Mapping[str, Any], record: Mapping[str, Any], split: Split, taken: Ragged, folds: int,
             folder: Path) -> Belief:
    """What models that were not trained on a pair say of the pair.

    The training pairs are dealt into folds within each user, by the seed of the run. A model is fitted for each fold to
    the pairs of all others, as the run fitted its own: the same settings and seed, as many epochs as were best there,
    and no validation. A fold that is done leaves ``fold<number>.pt`` in a folder below that of the run, which is used
    again; a fit that was stopped goes on. Other code, folds or data have a folder of their own.

    Args:
        config, record: of the run. split: what the run trained on. taken: see :func:`belief_in`. folder: of the run.

    Returns:
        Of the pairs of ``split.train`` who train for their own sake, in their order; a pair whose user has no pair in
        other folds has ``others`` 0, so that its share is NaN.

    Raises:
        RequestError: see :func:`as_chosen`; or there are fewer than two folds.
        ValueError: a file of a fold is damaged.
        OSError: the folder of the run cannot be written.
    """
    if folds < 2:
        raise RequestError(f"--folds {folds} leaves nothing to train on; give 2 or more")
    chosen = as_chosen(config, record)
    build.import_training(chosen)
    fold = dealt(split.train, folds, config["seed"])
    runs = Runs(folder.parent)
    with runs.lock(folder.name), runs.writing(folder.name):
        place = folder / f"folds{folds}-{identity(chosen, record)}"
        place.mkdir(exist_ok=True)
        parts = [judged(chosen, split, taken, fold == number, place, f"fold{number}") for number in range(folds)]
    order = torch.cat([(fold == number).nonzero().flatten() for number in range(folds)]).argsort()
    return Belief(*(torch.cat([getattr(part, field.name) for part in parts])[order] for field in fields(Belief)))


def identity(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """8 hexadecimal digits of what the fits of folds depend on: the run, its settings and split, and today's code."""
    text = json.dumps([keys.relevant(config), record["key"], record["split"], record.get("digest"),
                       source_digest(config)], sort_keys=True)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def judged(config: Mapping[str, Any], split: Split, taken: Ragged, held: Tensor, place: Path, name: str) -> Belief:
    """What a model that is fitted without the pairs ``held``, (n,) bool, says of them; read where that is known.

    Raises:
        ValueError: what is known is in a file that is damaged.
    """
    file, names = place / f"{name}.pt", [field.name for field in fields(Belief)]
    if file.exists():
        found = read(file, {*names})
        return Belief(**{part: found[part] for part in names})
    start, folder = time.monotonic(), place / name
    folder.mkdir(exist_ok=True)
    kept, pairs = split.train.select(~held), split.train.select(held)
    # Without validation and test questions, so that nobody reads the histories in these, which hold all pairs.
    model = build.build(config, folder).fit(unasked(replace(split, train=kept)).for_training())
    belief = of_the_known(model, kept, pairs, taken)
    write_sealed(file, partial(torch.save, {part: getattr(belief, part) for part in names}))
    shutil.rmtree(folder)
    log.info("%s: a fit to %d pairs judged %d others, %.1f s", name, len(kept), len(pairs), time.monotonic() - start)
    return belief


def of_the_known(model: Recommender, kept: Interactions, pairs: Interactions, taken: Ragged) -> Belief:
    """See :func:`belief_in`; zeros, ``others`` too, for pairs of users of whom ``kept`` holds nothing."""
    known = kept.activity[pairs.users] > 0
    said = belief_in(model, kept, pairs.select(known), taken)

    def everywhere(values: Tensor) -> Tensor:
        return values.new_zeros(len(pairs)).masked_scatter(known, values)

    return Belief(*(everywhere(getattr(said, field.name)) for field in fields(Belief)))
