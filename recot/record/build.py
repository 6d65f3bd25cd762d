"""A checked config becomes data, questions and an unfitted recommender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.errors import InstantiationException

from recot.data.dataset import Dataset
from recot.data.domains import of
from recot.data.interactions import Domain, Interactions
from recot.data.questions import Split, validate
from recot.data.split import in_time_order, joined
from recot.data.strong import transductive
from recot.denoise.base import Denoiser
from recot.evaluation.recommender import History, Recommender
from recot.fit.gradient import Gradient
from recot.fit.rounds import Relabelled
from recot.fit.stages import Apart, Make, Staged
from recot.nn.contracts import Before
from recot.request.command import held
from recot.request.errors import RequestError
from recot.system.environment import looked_up


def make(node: Mapping[str, Any], **given: Any) -> Any:
    """What a checked config node with a ``_target_`` describes. Texts are taken as they are, but for references to
    the environment.

    Args:
        given: values that are not in the node; ``_partial_=True`` leaves the call for later.

    Raises:
        hydra.errors.InstantiationException: the class or function refuses its values.
    """
    values = {name: make(value) if isinstance(value, Mapping) and "_target_" in value else looked_up(value)
              for name, value in node.items()} | given
    target, later = hydra.utils.get_object(values.pop("_target_")), values.pop("_partial_", False)
    try:
        return partial(target, **values) if later else target(**values)
    except Exception as error:
        raise InstantiationException(f"{node['_target_']} refuses its values ({error})") from error


def ask_questions(config: Mapping[str, Any], dataset: Dataset) -> Split:
    """The split of a data set under the config's protocol, with its noise, checked for leaks.

    Raises:
        ValueError: the model reads histories in order, and the data have no times.
        RequestError: the model, or a stage before it, is fitted by domain, and the data have none.
    """
    for part in stages(config).values():
        if part["domains"] != "joint" and not dataset.interactions.domains:
            raise RequestError(f"domains={part['domains']} wants data with domains; use domains=joint, or such data, "
                               "as data=amazon_kbe, or data=planted data.n_domains=3 protocol=domains")
    split = make(config["noise"])(make(config["protocol"]["split"])(in_order(config, dataset)))
    if config["model"].get("fold_in") == "transductive":
        split = transductive(split)
    validate(split)
    return split


def in_order(config: Mapping[str, Any], dataset: Dataset) -> Interactions:
    """The pairs of a data set; where the model reads histories in order, ties in time are broken at random.

    Raises:
        ValueError: the model reads histories in order, and the data have no times.
    """
    pairs = dataset.interactions
    if not hydra.utils.get_object(config["model"]["_target_"]).ordered:
        return pairs
    if pairs.times is None:
        raise ValueError("the model reads histories in order, and these data have no times; name their column, as in "
                         "data.time=timestamp, or use a model that reads histories as sets, such as model=sclrec")
    return in_time_order(pairs, config["protocol"]["split"].get("split_seed", 0))


def ask_again(config: Mapping[str, Any], dataset: Dataset) -> Split:
    """The same for a refit: the validation pairs train as well, and the noise is relative to all of these pairs."""
    return make(config["noise"])(joined(make(config["protocol"]["split"])(dataset.interactions)))


def build(config: Mapping[str, Any], folder: Path | None = None,
          observe: Callable[[History], None] = lambda history: None) -> Recommender:
    """The unfitted recommender of a config.

    Args:
        folder: where a network keeps its checkpoint, or None to keep none. observe: see :class:`Gradient`.
    """
    if not config["stages"]:
        return maker(config)(None, folder, observe)
    makes = {name: maker(part) for name, part in stages(config).items()}
    blind = [name for name, stage in config["stages"].items() if not stage["monitor"]]
    return Staged(makes, blind, folder, observe)


def stages(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The config of each stage, the last of which is called ``last``: that of the run with the parts of the stage.

    What a stage does not say of the trainer is that of the run. A denoiser acts on the last stage.
    """
    earlier = {name: {**config, **stage, "trainer": {**config["trainer"], **stage["trainer"]},
                      "denoiser": {"_target_": "recot.denoise.base.Denoiser"}}
               for name, stage in config["stages"].items()}
    return {**earlier, "last": config}


def maker(config: Mapping[str, Any]) -> Make:
    """How the recommender of a stage is made, or that of a run without stages."""
    def one(before: Before | None, folder: Path | None, observe: Callable[[History], None]) -> Recommender:
        denoiser, monitor = make(config["denoiser"]), config["protocol"]["monitor"]
        given = {} if before is None else {"before": before}
        if not descends(config):
            if denoiser.relabels:
                return Relabelled(lambda *_: make(config["model"], **given), denoiser, monitor)
            return make(config["model"], **given)
        if denoiser.relabels:
            return Relabelled(partial(network, config, Denoiser(), before), denoiser, monitor, folder, observe)
        return network(config, denoiser, before, folder, observe)

    if config["domains"] == "joint":
        return one
    return lambda before, folder, observe: Apart(one, before, config["domains"] == "others", folder, observe)


def network(config: Mapping[str, Any], denoiser: Denoiser, before: Before | None = None, folder: Path | None = None,
            observe: Callable[[History], None] = lambda history: None) -> Gradient:
    """The untrained network of a config; see :func:`build`."""
    given = {} if before is None else {"before": before}
    return Gradient(make(config["model"], _partial_=True, **given), make(config["loss"]), denoiser,
                    make(config["trainer"]), config["protocol"]["monitor"], config["seed"], folder, observe,
                    hydra.utils.get_object(config["model"]["_target_"]).by_domain)


def rehearse(config: Mapping[str, Any]) -> None:
    """Let every constructor refuse its values before anything is read or recorded; networks those of two items.

    Raises:
        hydra.errors.InstantiationException: one of them does.
        RequestError: see ``Training.pick_device``.
    """
    build(config)
    domains, users = (Domain("one", 0, 1), Domain("two", 1, 2)), torch.zeros(2, dtype=torch.int64)
    pairs, before = Interactions.from_pairs(users, torch.arange(2), 1, 2, domains=domains), None
    for part in stages(config).values():
        made = []
        for number in (None,) if part["domains"] == "joint" else range(2):
            given: dict[str, Any] = {} if before is None else {"before": replace(before, number=number)}
            if not descends(part):
                make(part["model"], **given)
                continue
            make(part["trainer"]).pick_device()
            train = pairs if number is None else of(pairs, [domains[number]])
            if hydra.utils.get_object(part["model"]["_target_"]).by_domain:
                given["domains"] = train.domains
            made.append(make(part["model"], n_users=1, n_items=train.n_items, **given))
            if config["stages"]:
                made[-1].bind(train)  # one with a graph has no vectors before that
        before = Before(tuple(made), domains)


def refitted(config: Mapping[str, Any], model: Recommender, split: Split, folder: Path | None) -> Recommender:
    """The recommender of a config fitted on the training and validation pairs, as long as was best for ``model``.

    Args:
        model: fitted with the validation questions at hand. split: from :func:`recot.data.split.joined`.
        folder: where a network keeps its checkpoint, or None to keep none.
    """
    chosen = dict(config)
    for group, values in model.chosen.items():
        chosen[group] = {**config[group], **values}
    if folder:
        folder.mkdir(exist_ok=True)
    return build(chosen, folder).fit(split.for_training())


def descends(config: Mapping[str, Any]) -> bool:
    """Whether the model is trained by gradient descent; a closed form has no loss and no device."""
    return config["loss"].get("_target_") is not None


def import_training(config: Mapping[str, Any]) -> None:
    """Import what trains a network, if the config has one: held against signals, and before a clock runs."""
    if any(descends(part) for part in stages(config).values()):
        with held():
            import recot.fit.epochs  # noqa: F401


def relabels(config: Mapping[str, Any]) -> bool:
    """Whether the denoiser says between two fits what is trained on next."""
    return bool(hydra.utils.get_object(config["denoiser"]["_target_"]).relabels)
