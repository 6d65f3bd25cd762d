"""Is this config one that can run? Answered from the source, without importing torch.

The constructor is the schema: names, types and defaults of parameters are read from the class or function that a
``_target_`` names (``signature.py``), so that a mistyped request is refused in a second.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from recot.request import former
from recot.request.errors import RequestError, nearest
from recot.request.kinds import KINDS, outside
from recot.request.presets import building
from recot.request.signature import Target, classes, defined_in, describe, fits, parse, resolved

SUPPLIED = {"model": {"n_users", "n_items", "domains", "before"}, "protocol.split": {"interactions"},
            "noise": {"split"}}
"""Parameters that the run itself gives to a target."""

SIZES = {"batch_size", "dim", "n_heads", "max_length", "max_epochs", "eval_every"}
"""Parameters that are 1 or more wherever they occur; others are refused by their constructors."""

STAGE = ("model", "loss", "trainer", "domains", "monitor")
"""What each of ``stages`` says."""

DOMAINS = ("joint", "each", "others")
"""What one fit of a model may learn from."""

KEYS = {"": {"protocol", "data", "noise", "trainer", "loss", "denoiser", "model", "logger", "seed", "metrics", "force",
             "plugins", "paths", "stages", "domains"},
        "protocol": {"split", "metrics", "monitor", "refit"}, "paths": {"runs", "cache"}}
"""All keys of the mappings without a ``_target_``."""


def targets(config: dict[str, Any] | list[Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a ``_target_`` in a plain config, inside lists as well, with its path."""
    for name, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, dict) and "_target_" in value:
            yield f"{prefix}{name}", value
        if isinstance(value, dict | list):
            yield from targets(value, f"{prefix}{name}.")


def named(path: str, node: Mapping[str, Any], plugins: Sequence[str]) -> Target:
    """What the ``_target_`` at ``path`` names, where it may be looked at.

    Raises:
        RequestError: it lies outside recot and is not trusted, or does not exist.
    """
    dotted = node["_target_"]
    if package := outside(dotted, plugins):
        raise RequestError(f"{path}._target_ = {dotted!r} lies outside recot, so it is not run. If you trust it, "
                           f"name its package: plugins=[{package}]")
    found = describe(dotted)
    if found is None:
        if (now := former.present(dotted)) != dotted:
            raise RequestError(f"{path}._target_: {dotted} is now {now}")
        module, _, name = dotted.rpartition(".")
        hint = nearest(name, defined_in(module)) if defined_in(module) else f"there is no module {module!r}."
        raise RequestError(f"{path}._target_ = {dotted!r} names nothing that is defined there: {hint}")
    return found


def check_target(path: str, node: Mapping[str, Any], plugins: Sequence[str], place: str | None = None) -> None:
    """Refuse what does not belong at a place of :data:`recot.request.kinds.KINDS`, or does not take the values given.

    Args:
        place: of that table; None where it is ``path``.

    Raises:
        RequestError: with the path of the key and what would work.
    """
    place = place or path
    found, kind = named(path, node, plugins), KINDS[place]
    if not kind.holds(found):
        raise RequestError(f"{path}._target_ = {node['_target_']!r} is no {kind.what} of {' or '.join(kind.packages)}, "
                           f"nor of a package in plugins. {nearest(node['_target_'], kind.known())}")
    if bool(kind.takes) != (node.get("_partial_") is True) or ("_partial_" in node and not kind.takes):
        raise RequestError(f"{path}._partial_ = {node.get('_partial_')!r} does not fit: it is "
                           f"{'true here' if kind.takes else 'left out here'}")
    check_values(path, node, found, plugins, SUPPLIED.get(place, set()))


def check_values(path: str, node: Mapping[str, Any], found: Target, plugins: Sequence[str],
                 supplied: Collection[str] = ()) -> None:
    """Refuse values that a class or function does not take, and the lack of those it needs.

    Raises:
        RequestError: with the path of the key and what would work.
    """
    given = {name: value for name, value in node.items() if name not in ("_target_", "_partial_")}
    for name, value in given.items():
        if name not in found.parameters or name in supplied:
            raise RequestError(f"{path}.{name} is not a parameter of {found.name} that a config can set. "
                               f"{nearest(str(name), sorted(set(found.parameters) - {*supplied}))}")
        annotation = found.parameters[name]
        wanted = ast.unparse(resolved(annotation, found.module)) if annotation else "anything plain"
        if isinstance(value, Mapping) and "_target_" in value:
            part = named(f"{path}.{name}", value, plugins)
            taken = [describe(place) for place in classes(annotation, found.module)]
            if not any(kind and kind.name in part.bases for kind in taken):
                raise RequestError(f"{path}.{name}._target_ = {value['_target_']!r} does not fit: {found.name} takes "
                                   f"{wanted}")
            check_values(f"{path}.{name}", value, part, plugins)
            continue
        if inner := dict(targets({name: value})):
            raise RequestError(f"{path}.{next(iter(inner))} holds a _target_, and {path}.{name} takes plain values; "
                               "take it out")
        if name.endswith("seed") and isinstance(value, int):
            check_seed(f"{path}.{name}", value)
        check_number(f"{path}.{name}", value)
        if name in SIZES and isinstance(value, int) and value < 1:
            raise RequestError(f"{path}.{name} = {value} is too small; give 1 or more")
        if not fits(value, annotation, found.module):
            raise RequestError(f"{path}.{name} = {value!r} does not fit: {found.name} takes {wanted}")
    missing = found.required - set(given) - {*supplied}
    if missing:
        raise RequestError(f"{path} lacks {', '.join(sorted(missing))}: give it as {path}.{sorted(missing)[0]}=...")


def check_seed(path: str, seed: int) -> None:
    """Refuse a seed whose random numbers are those of another one: torch's generator on a CPU reads 32 bits of it.

    Raises:
        RequestError: it is below 0, or does not fit.
    """
    if not 0 <= seed < 2**32:
        raise RequestError(f"{path} = {seed} is out of range; give 0 or more, below 2**32 (this one would draw the "
                           f"numbers of {seed % 2**32})")


def check_number(path: str, value: Any) -> None:
    """Refuse numbers that nothing computes with, in lists and mappings as well.

    Raises:
        RequestError: with the path of the key.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{path} = {value} is not finite; give a finite number")
    if isinstance(value, int) and not -2**63 <= value < 2**63:
        raise RequestError(f"{path} is a number of {value.bit_length()} bits; give one of 64 bits")
    if isinstance(value, Mapping | list):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            check_number(f"{path}.{name}", item)


def check_parts(config: Mapping[str, Any], plugins: Sequence[str]) -> None:
    """Refuse whatever does not belong where it stands; nothing is imported but the packages above trusted plugins.

    Raises:
        RequestError: with the path of the key and what would work.
    """
    rest: dict[str, Any] = {name: dict(part) if isinstance(part, Mapping) else part for name, part in config.items()}
    for path in KINDS:
        group, _, key = path.partition(".")
        node = rest.get(group) if not key else rest[group].get(key) if isinstance(rest.get(group), dict) else None
        if isinstance(node, Mapping) and "_target_" in node:
            check_target(path, node, plugins)
            del (rest[group] if key else rest)[key or group]
    check_stages(rest.pop("stages"), config["trainer"], plugins)
    for path, _ in targets(rest):
        raise RequestError(f"{path} holds a _target_, and nothing is built there; take it out. Something is built at "
                           f"{', '.join(KINDS)}")


def check_stages(found: Mapping[str, Any], trainer: Mapping[str, Any], plugins: Sequence[str]) -> None:
    """Refuse stages that lack a part, or whose parts do not belong where they stand.

    Raises:
        RequestError: with the path of the key and what would work.
    """
    for name, stage in found.items():
        path = f"stages.{name}"
        if not isinstance(stage, Mapping) or {*stage} != {*STAGE}:
            said = sorted({*stage} ^ {*STAGE}) if isinstance(stage, Mapping) else stage
            raise RequestError(f"{path} says {', '.join(STAGE)}, and no more (see {said}); a file of conf/stage does: "
                               f"+stage@{path}=pge")
        if not isinstance(stage["monitor"], bool):
            raise RequestError(f"{path}.monitor = {stage['monitor']!r} does not fit; give true to select the epoch by "
                               "validation, or false to train to the last")
        check_domains(f"{path}.domains", stage["domains"])
        for part in ("model", "loss"):
            if not isinstance(stage[part], Mapping) or "_target_" not in stage[part]:
                raise RequestError(f"{path}.{part} names nothing to run; give it a _target_")
            check_target(f"{path}.{part}", stage[part], plugins, part)
        if not isinstance(stage["trainer"], Mapping) or "_target_" in stage["trainer"]:
            raise RequestError(f"{path}.trainer says in what the stage differs from the trainer of the run; give it "
                               f"like {path}.trainer.max_epochs=20, or {{}}")
        check_target(f"{path}.trainer", {**trainer, **stage["trainer"]}, plugins, "trainer")


def check_domains(path: str, value: Any) -> None:
    """Refuse what is no way to learn from domains.

    Raises:
        RequestError: with those that are.
    """
    if value not in DOMAINS:
        raise RequestError(f"{path} = {value!r} does not fit; use one of {', '.join(DOMAINS)}")


def canonical(config: dict[str, Any]) -> dict[str, Any]:
    """The config with whole numbers as floats where the constructor takes a float, so that 0 and 0.0 are one run."""
    for _, node in targets(config):
        found = describe(node["_target_"])
        for name, annotation in found.parameters.items() if found else ():
            types = {part.id for part in ast.walk(annotation) if isinstance(part, ast.Name)} if annotation else set()
            if "float" in types and "int" not in types and isinstance(node.get(name), int):
                node[name] = float(node[name])
    return config


def check_keys(config: Mapping[str, Any]) -> None:
    """Refuse keys that nothing reads, and values outside the groups that are of the wrong type.

    Raises:
        RequestError: with the nearest known key, or an example of a value that fits.
    """
    for path, known in KEYS.items():
        found = config[path] if path else config
        if not isinstance(found, Mapping):
            raise RequestError(f"{path} = {found!r} says nothing; leave {path} out, or give its parts like "
                               f"{path}.{sorted(known)[0]}=...")
        for name in found:
            if name not in known:
                raise RequestError(f"{f'{path}.' if path else ''}{name}: nothing reads this key. "
                                   f"{nearest(str(name), sorted(known))}")
        for name in sorted(known - set(found)):
            raise RequestError(f"the config has no {f'{path}.' if path else ''}{name}; leave it in, each run needs it")
    for group in ("data", "noise", "trainer", "denoiser", "model", "logger"):
        if not (isinstance(config[group], Mapping) and "_target_" in config[group]):
            raise RequestError(f"{group} names nothing to run; give {group}=NAME, or leave out ~{group}")
    if not isinstance(config["loss"], Mapping):
        raise RequestError(f"loss = {config['loss']!r} names nothing to train on; give loss=NAME, or loss=none")
    if not (isinstance(config["protocol"]["split"], Mapping) and "_target_" in config["protocol"]["split"]):
        raise RequestError(f"protocol.split = {config['protocol']['split']!r} names nothing to run; give protocol=NAME")
    for name, place in config["paths"].items():
        if place == "":
            raise RequestError(f"paths.{name} = {place!r} names no folder; leave it out, or unset RECOT_{name.upper()}")
    for name, kind, example in (("seed", int, "0"), ("force", bool, "true"), ("metrics", list, "[recall@20,ndcg@20]"),
                                ("plugins", list, "[my_package]"), ("protocol.refit", bool, "false"),
                                ("stages", dict, "{}"), ("domains", str, "joint"),
                                ("protocol.monitor", str, "ndcg@20")):
        group, _, key = name.rpartition(".")
        value = (config[group] if group else config)[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise RequestError(f"{name} = {value!r} does not fit; give it like {name}={example}")
    for name in config["plugins"]:
        if not isinstance(name, str) or not name.isidentifier():
            raise RequestError(f"plugins has {name!r}, which is no name of a package; give it like "
                               "plugins=[my_package]")
    check_seed("seed", config["seed"])
    check_domains("domains", config["domains"])
    if not config["metrics"]:
        raise RequestError("metrics = [] leaves nothing to report; give it like metrics=[recall@20,ndcg@20]")


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
    if split and split.returns == "Strangers":
        check_strangers(config, choices)
    if portion != 1 and (stage := stranger_to(config)):
        raise RequestError(f"protocol.split.portion = {portion} leaves users without a vector in stages.{stage}.model; "
                           "use protocol.split.portion=1")
    if portion != 1 and model and not is_inductive(config):
        raise RequestError(f"protocol.split.portion = {portion} leaves users without a vector in "
                           f"model={choices.get('model')}; use protocol.split.portion=1, or a model that reads "
                           "histories, such as model=sasrec")


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


def check_metrics(config: Mapping[str, Any]) -> None:
    """Refuse unknown metric names, and a selection by anything but a validation metric.

    Raises:
        RequestError: with the nearest known name.
    """
    names = metric_names()
    for path, metrics in (("metrics", config["metrics"]), ("protocol.monitor", [config["protocol"]["monitor"]])):
        for metric in metrics:
            if "/" in str(metric):
                raise RequestError(f"{path} = {metric!r}: runs are selected on validation answers only, and test "
                                   f"answers are reported once, at the end. Use {path}={str(metric).split('/')[-1]}")
            name, at, cutoff = str(metric).partition("@")
            if name not in names:
                raise RequestError(f"{path}: there is no metric {name!r}. {nearest(name, names)}")
            if not (cutoff.isdecimal() and int(cutoff) > 0) and (at or name != "mrr"):
                raise RequestError(f"{path}: {metric!r} needs a whole cut-off above 0, for example {name}@20")


def check_precision(config: Mapping[str, Any]) -> None:
    """Refuse a precision that the device asked for cannot compute in; of ``auto`` only the run knows what it is.

    Raises:
        RequestError: with what would work instead.
    """
    trainer = config["trainer"]
    if trainer.get("precision") == "16-mixed" and trainer.get("device") == "cpu":
        raise RequestError("trainer.precision=16-mixed needs CUDA; use bf16-mixed or 32-true")


def metric_names() -> list[str]:
    """Names of the metrics, read from the table in ``recot/evaluation/metrics.py``."""
    for node in parse("recot.evaluation.metrics").body:  # type: ignore[union-attr]  # a module of this package is there
        if (isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METRICS"
                and isinstance(node.value, ast.Dict)):
            return [ast.literal_eval(name) for name in node.value.keys if name]
    raise LookupError("recot/evaluation/metrics.py defines no METRICS; the names of the metrics are read from it")


def check(config: dict[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The canonical form of a resolved plain config that can run.

    Raises:
        RequestError: see the other checks.
    """
    check_keys(config)
    check_parts(config, config["plugins"])
    check_combination(config, choices)
    check_chain(config, choices)
    check_protocol(config, choices)
    check_metrics(config)
    check_precision(config)
    return canonical(config)
