"""Can a model, a loss, a denoiser and a protocol work together? Their classes claim it, see ``nn/contracts.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recot.request.errors import RequestError
from recot.request.presets import building
from recot.request.signature import describe


def check_combination(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Refuse a model, loss and denoiser that cannot work together by what they claim; see :mod:`recot.nn.contracts`.

    Raises:
        RequestError: with a sentence that names what would work.
    """
    model, loss, denoiser = (describe(config[group].get("_target_", "")) for group in ("model", "loss", "denoiser"))
    named = {group: choices.get(group, group) for group in ("model", "loss", "denoiser")}
    trained = "TwoTower" in model.bases if model else False
    heeds = bool(model and model.constants.get("weighted"))  # fits pairs by their weights
    weighs = bool(denoiser and denoiser.constants.get("weighs"))  # between two fits
    if not trained and (loss or (denoiser and denoiser.name != "Denoiser" and not (heeds and weighs))):
        taken, use = ("of the denoisers only prorec", "denoiser=prorec") if heeds else ("no denoiser", "denoiser=none")
        raise RequestError(f"model={named['model']} is fitted in closed form and takes no loss and {taken}; "
                           f"use loss=none {use}, or a network such as model=bprmf")
    if trained and not loss:
        raise RequestError(f"model={named['model']} is a network and needs a loss; use loss=bpr or loss=infonce")
    for group, part in (("denoiser", denoiser), ("model", model)) if trained and loss else ():
        wanted = part.constants.get("objectives", ()) if part else ()
        if wanted and loss.name not in wanted:  # type: ignore[union-attr]  # the loop is empty without a loss
            fitting = ", ".join(f"loss={name.lower()}" for name in wanted)
            remedy = ", or denoiser=none" if group == "denoiser" else ", or another model"
            raise RequestError(f"{group}={named[group]} needs {fitting}, and loss={named['loss']} gives it nothing "
                               f"to work on; use {fitting}{remedy}")
    networks = loss.constants.get("networks", ()) if loss else ()
    if trained and networks and not model.bases & set(networks):  # type: ignore[union-attr]  # what is trained is there
        fitting = ", ".join(f"model={name}" for name in building(networks))
        raise RequestError(f"loss={named['loss']} works only with {fitting}; use {fitting}, or another loss")


def check_devices(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Refuse several processes where a part of the run cannot be shared; see :mod:`recot.nn.contracts`.

    Raises:
        RequestError: with what would work instead.
    """
    devices = config["trainer"].get("devices", 1)
    for name, stage in config["stages"].items():
        if stage["trainer"].get("devices", devices) != devices:
            raise RequestError(f"stages.{name}.trainer.devices differs from trainer.devices = {devices}, and all "
                               "stages are of the same processes; give trainer.devices alone")
    if devices == 1:
        return
    alone, use = f"and trainer.devices = {devices} shares each batch", "use trainer.devices=1"
    for name, part in ({f"stages.{name}.": stage for name, stage in config["stages"].items()} | {"": config}).items():
        model, loss = (describe(part[group].get("_target_", "")) for group in ("model", "loss"))
        if model and "TwoTower" not in model.bases:
            raise RequestError(f"{name}model={choices.get('model') if part is config else model.name} is fitted in "
                               f"closed form, by one process, {alone}; {use}")
        if loss and not loss.constants.get("shared"):
            raise RequestError(f"{name}loss={choices.get('loss') if part is config else loss.name} looks at a batch as "
                               f"a whole, {alone}; {use}, or another loss")
    denoiser = describe(config["denoiser"].get("_target_", ""))
    if denoiser and denoiser.name != "Denoiser" and not denoiser.constants.get("shared"):
        raise RequestError(f"denoiser={choices.get('denoiser')} looks at a batch as a whole, {alone}; {use}, or "
                           "denoiser=none")


def check_chain(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Refuse stages of which one does not go on from the one before, and what cannot work in stages or by domain.

    Raises:
        RequestError: with what would work instead.
    """
    stages, last = config["stages"], f"model={choices.get('model', 'model')}"
    chain = [*((f"stages.{name}.model", stage) for name, stage in stages.items()), (last, config)]
    for number, (path, part) in enumerate(chain):
        model = describe(part["model"].get("_target_", ""))
        goes_on = bool(model and "before" in model.parameters)
        if goes_on and not number:
            raise RequestError(f"{path} goes on from a stage before, and there is none; give one like "
                               "+stage@stages.pretraining=pge")
        if number and model and not goes_on:
            raise RequestError(f"{path} learns nothing from the stages before; use stages={{}}, or a model that goes "
                               "on from one, such as model=uclr")
        if path != last:
            check_combination({**part, "denoiser": {}}, {"model": path, "loss": f"stages.{list(stages)[number]}.loss"})
    if config["protocol"]["refit"] and (stages or config["domains"] != "joint"):
        raise RequestError("protocol.refit=true knows no stages and no fit for each domain; use protocol.refit=false")


def is_inductive(config: Mapping[str, Any]) -> bool:
    """Whether the model of a config serves users who were not in its training set."""
    model = describe(config["model"].get("_target_", ""))
    decided = model.constants.get("inductive_if", {}) if model else {}
    return bool(model and model.constants.get("inductive")) or any(
        config["model"].get(name) in wanted for name, wanted in decided.items())


def stranger_to(config: Mapping[str, Any]) -> str | None:
    """The first earlier stage that has no vector for users who did not train; None where there is no such stage."""
    return next((name for name, stage in config["stages"].items() if not is_inductive(stage)), None)


def check_protocol(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Refuse a model with a vector for each user where some users do not train, and one that reads histories in order
    where pairs are joined for a second fit, which have no times; see :mod:`recot.nn.contracts`.

    Raises:
        RequestError: with what would work instead.
    """
    portion, model = config["protocol"]["split"].get("portion", 1), describe(config["model"].get("_target_", ""))
    if config["protocol"]["refit"] and model and model.constants.get("ordered"):
        raise RequestError(f"protocol.refit=true joins pairs without their times, and model={choices.get('model')} "
                           "reads histories in order; use protocol.refit=false")
    split = describe(config["protocol"]["split"].get("_target_", ""))
    check_parts(config["data"], split.returns == "Given" if split else False, choices)
    if split and split.returns == "Strangers":
        check_strangers(config, choices)
    if portion != 1 and (stage := stranger_to(config)):
        raise RequestError(f"protocol.split.portion = {portion} leaves users without a vector in stages.{stage}.model; "
                           "use protocol.split.portion=1")
    if portion != 1 and model and not is_inductive(config):
        raise RequestError(f"protocol.split.portion = {portion} leaves users without a vector in "
                           f"model={choices.get('model')}; use protocol.split.portion=1, or a model that reads "
                           "histories, such as model=sasrec")


def check_parts(data: Mapping[str, Any], taken: bool, choices: Mapping[str, str]) -> None:
    """Refuse a protocol that would deal anew what the data bring as test pairs, and one that takes what is not there.

    Args:
        taken: whether the protocol takes the parts that data come with.

    Raises:
        RequestError: with what would work instead.
    """
    source = describe(data.get("_target_", ""))
    if source is None or not {"parts", "test"} & {*source.parameters}:
        if taken and source and source.module.startswith("recot."):
            raise RequestError(f"protocol=given takes the parts that data come with, and data={choices.get('data')} "
                               "has none; use protocol=topk, or files of your own with data.test")
        return
    key = "test" if "test" in source.parameters else "parts"
    if taken and not data.get(key):
        raise RequestError(f"protocol=given takes the parts that data come with, and these have none; name them with "
                           f"data.{key}, or use protocol=topk")
    if not taken and data.get(key):
        whole = "name all files in data.path" if key == "test" else "leave that out with data.parts=null"
        raise RequestError(f"data.{key} says what is tested, and protocol={choices.get('protocol')} would deal all "
                           f"pairs anew; use protocol=given, or {whole}")


def check_strangers(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Refuse what cannot work where the questions are about users who did not train.

    Raises:
        RequestError: with what would work instead.
    """
    model, protocol = describe(config["model"].get("_target_", "")), choices.get("protocol", "strong")
    if config["protocol"]["refit"]:
        raise RequestError(f"protocol.refit=true wants validation users who also train, and protocol={protocol} asks "
                           "about users who do not; use protocol.refit=false")
    if config["domains"] != "joint":
        raise RequestError(f"protocol={protocol} keeps items that somebody trains on, and not which domain they are "
                           "of; use domains=joint, or protocol=topk")
    if stage := stranger_to(config):
        raise RequestError(f"protocol={protocol} asks about users who did not train, and stages.{stage}.model has no "
                           "vector for them; use another protocol, such as protocol=domains")
    if model and not is_inductive(config) and config["model"].get("fold_in") != "transductive":
        ways = [f"model.fold_in={way}" for way in model.constants.get("inductive_if", {}).get("fold_in", ())]
        ways += ["model.fold_in=transductive"] * ("fold_in" in model.parameters)
        raise RequestError(f"protocol={protocol} asks about users who did not train, and model={choices.get('model')} "
                           f"has no vector for them; use {' or '.join([*ways, 'a model that reads histories'])}, such "
                           "as model=vae or model=itemknn")
