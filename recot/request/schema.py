"""Is this config one that can run? Answered from the source, without importing torch.

The constructor is the schema (``nodes.py``), and classes claim what they work with (``claims.py``), so that a mistyped
request is refused in a second.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from recot.request.claims import check_chain, check_combination, check_devices, check_protocol
from recot.request.errors import RequestError, nearest
from recot.request.kinds import KINDS
from recot.request.nodes import canonical, check_seed, check_target, targets
from recot.request.signature import describe, parse

STAGE = ("model", "loss", "trainer", "domains", "monitor")
"""What each of ``stages`` says."""

DOMAINS = ("joint", "each", "others")
"""What one fit of a model may learn from."""

KEYS = {"": {"protocol", "data", "noise", "trainer", "loss", "denoiser", "model", "logger", "seed", "metrics", "force",
             "plugins", "paths", "stages", "domains"},
        "protocol": {"split", "metrics", "monitor", "refit"}, "paths": {"runs", "cache"}}
"""All keys of the mappings without a ``_target_``."""


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


def check_metrics(config: Mapping[str, Any]) -> None:
    """Refuse unknown metric names, and a selection by anything but a validation metric.

    Raises:
        RequestError: with the nearest known name.
    """
    names, lists = metric_names(), list_names()
    for path, metrics in (("metrics", config["metrics"]), ("protocol.monitor", [config["protocol"]["monitor"]])):
        for metric in metrics:
            if "/" in str(metric):
                raise RequestError(f"{path} = {metric!r}: runs are selected on validation answers only, and test "
                                   f"answers are reported once, at the end. Use {path}={str(metric).split('/')[-1]}")
            name, at, cutoff = str(metric).partition("@")
            if path == "protocol.monitor" and name in lists:
                raise RequestError(f"{path} = {metric}: {name} is of lists, whoever took what, and says nothing of how "
                                   f"good they are; use {path}=ndcg@20, and report {metric} by metrics=[...]")
            if name not in names + lists:
                raise RequestError(f"{path}: there is no metric {name!r}. {nearest(name, names + lists)}")
            if not (cutoff.isdecimal() and int(cutoff) > 0) and (at or name != "mrr"):
                raise RequestError(f"{path}: {metric!r} needs a whole cut-off above 0, for example {name}@20")
    check_lists(config, of_lists(config["metrics"]))


def check_lists(config: Mapping[str, Any], asked: Sequence[str]) -> None:
    """Refuse metrics of lists, ``asked``, where there is nothing to make them of.

    Raises:
        RequestError: with what would work.
    """
    if asked and len(asked) == len(config["metrics"]):
        raise RequestError(f"metrics = [{', '.join(asked)}] says nothing of held-out items; add one that does, such as "
                           "recall@20")
    if asked and "candidates" in config["protocol"]["split"]:
        raise RequestError(f"{asked[0]} is of lists over all items, and protocol.split.candidates ranks a few; leave "
                           f"{asked[0]} out, or use another protocol, such as protocol=topk")
    for metric in (metric for metric in asked if metric.startswith("intra_list_similarity")):
        if metric.endswith("@1"):
            raise RequestError(f"{metric} compares the items of a list of one; give intra_list_similarity@2 or more")
        model = describe(config["model"].get("_target_", ""))
        if model and "TwoTower" not in model.bases and not model.opaque:
            raise RequestError(f"{metric} compares vectors of items, and {model.name} has none; use a network such as "
                               f"model=bprmf, or leave {metric} out")
        if config["domains"] != "joint":
            raise RequestError(f"{metric} compares vectors of items, and domains={config['domains']} has others in "
                               f"each domain, which do not compare; use domains=joint, or leave {metric} out")


def check_precision(config: Mapping[str, Any]) -> None:
    """Refuse a precision that the device asked for cannot compute in; of ``auto`` only the run knows what it is.

    Raises:
        RequestError: with what would work instead.
    """
    trainer = config["trainer"]
    if trainer.get("precision") == "16-mixed" and trainer.get("device") == "cpu":
        raise RequestError("trainer.precision=16-mixed needs CUDA; use bf16-mixed or 32-true")


def metric_names() -> list[str]:
    """Names of the metrics of held-out items, read from the table in ``recot/evaluation/metrics.py``."""
    return names_in("recot.evaluation.metrics", "METRICS")


def list_names() -> list[str]:
    """Names of the metrics of lists, read from the table in ``recot/evaluation/lists.py``."""
    return names_in("recot.evaluation.lists", "LISTS")


def of_lists(metrics: Sequence[str]) -> list[str]:
    """Those of the names of metrics, with their cuts, that are of lists."""
    known = list_names()
    return [metric for metric in metrics if str(metric).partition("@")[0] in known]


def names_in(module: str, table: str) -> list[str]:
    """The keys of a dictionary that a module of recot defines.

    Raises:
        LookupError: the module defines none of that name.
    """
    for node in parse(module).body:  # type: ignore[union-attr]  # a module of this package is there
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table and isinstance(node.value, ast.Dict):
            return [ast.literal_eval(name) for name in node.value.keys if name]
    raise LookupError(f"{module.replace('.', '/')}.py defines no {table}; the names of the metrics are read from it")


def check(config: dict[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The canonical form of a resolved plain config that can run.

    Raises:
        RequestError: see the other checks.
    """
    check_keys(config)
    check_parts(config, config["plugins"])
    check_combination(config, choices)
    check_chain(config, choices)
    check_devices(config, choices)
    check_protocol(config, choices)
    check_metrics(config)
    check_precision(config)
    return canonical(config)
