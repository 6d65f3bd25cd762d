"""Former names in configs. The key of a run is made of the former names, so that a run keeps its key.

A key that comes, a parameter that goes and a definition that moves each get a line here. :func:`keyed` brings a config
of today to what the first records said, and :func:`current` brings the config of a record to what is said today.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recot.request.signature import describe

LATER: dict[str, Any] = {
    "trainer.optimizer": "adam", "trainer.patience_steps": None, "protocol.refit": False, "noise.seen": "all",
    "model.hidden_activation": "tanh", "model.spread": "log_std", "model.std": None, "loss.scope": "all",
    "domains": "joint", "stages": {}, "data.n_domains": 1, "data.domain": None, "data.domains": None,
    "data.domain_core": 1, "data.time_unit": None}
"""Config keys that came, each with the value that stands for what was done before."""

GONE = {target: {"restart": True, "first": 30, "every": 20} for target in (
    "recot.denoise.iterative.IterativeRelabelling", "recot.denoise.prorec.ProRec")}
"""Parameters that targets had, each with the value that stands for what is done now."""

MOVED = {
    **{f"recot.objectives.pairs.{name}": f"recot.objectives.{name}" for name in (
        "BPR", "InfoNCE", "DirectAU", "BCE", "Bootstrap")},
    **{f"recot.objectives.rows.{name}": f"recot.objectives.{name}" for name in (
        "RowBCE", "SampledRowBCE", "Multinomial")},
    **{f"recot.objectives.sequences.{name}": f"recot.sequential.{name}" for name in (
        "NextItem", "NextGaussian", "DuoRec", "NextItems", "Cloze")},
    **{f"recot.record.trackers.{name}": f"recot.track.{name}" for name in ("Csv", "TensorBoard", "Wandb")},
    "recot.objectives.views.Contrast": "recot.contrast.Contrast",
    "recot.batches.augment.Augmentation": "recot.data.augment.Augmentation",
    "recot.networks.factorisation.Tables": "recot.networks.tables.Tables",
    "recot.fit.settings.Training": "recot.training.Training",
}
"""Where a target is defined now -> where the first records found it."""


def keyed(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as the first records said it: without :data:`LATER`, with :data:`GONE`, before :data:`MOVED`."""
    said = {}
    for name, value in config.items():
        if f"{prefix}{name}" not in LATER or value != LATER[f"{prefix}{name}"]:
            said[name] = keyed(value, f"{prefix}{name}.") if isinstance(value, Mapping) else value
    target = config.get("_target_", "")
    return said | GONE.get(target, {}) | ({"_target_": MOVED[target]} if target in MOVED else {})


def current(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The config of a record as it is said today, what :func:`keyed` makes of it being the same."""
    target = present(config.get("_target_", ""))
    gone = GONE.get(target, {})
    said = {name: current(value, f"{prefix}{name}.") if isinstance(value, Mapping) else value
            for name, value in config.items() if name not in gone or value != gone[name]}
    came = {path.removeprefix(prefix): value for path, value in LATER.items() if path.startswith(prefix)}
    found = describe(target) if came and target.startswith("recot.") else None  # the record may be anybody's
    whole = prefix == "protocol." or (not prefix and "protocol" in config)
    taken = {name: value for name, value in came.items() if "." not in name and name not in said and (
        whole or (found is not None and name in found.parameters))}
    return said | taken | ({"_target_": target} if target else {})


def present(target: Any) -> str:
    """Where a target of a record is defined now."""
    return next((now for now, then in MOVED.items() if then == target), str(target))
