"""Where a number comes from: code, libraries, machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch

from recot.nn import ranks
from recot.record import code
from recot.record.build import descends, relabels
from recot.request import keys
from recot.request.schema import of_lists
from recot.system import memory

LIBRARIES = ("recot", "torch", "lightning", "hydra-core", "omegaconf", "numpy", "pandas", "scipy")

HARMLESS = tuple((f"recot.{module}", "") for module in (
    "record.outputs", "record.console", "record.trackers", "record.provenance", "system.memory", "system.files",
    "system.environment"))
"""Modules that a run calls without an effect on its numbers: they write, show, send, or manage memory."""


def source_digest(config: Mapping[str, Any]) -> str:
    """Digest of the code that the result of ``config`` depends on: all that an attempt at it calls."""
    unused = [*HARMLESS,
              *([("recot.fit.gradient", "Gradient"), ("recot.networks.base", "TwoTower")] * (not descends(config))),
              *([("recot.fit.rounds", "Relabelled")] * (not relabels(config))),
              *([("recot.fit.stages", "Staged")] * (not config["stages"])),
              *([("recot.fit.stages", "Apart")] * all(
                  part["domains"] == "joint" for part in (config, *config["stages"].values()))),
              *([("recot.record.build", "ask_again"), ("recot.record.build", "refitted")] * (
                  not config["protocol"].get("refit", False)))]
    lists = [("recot.record.served", "served")] * bool(of_lists(config["metrics"]))
    return code.digest(keys.relevant(config), [("recot.record.attempt", "attempt"), *lists], unused)


def provenance(config: Mapping[str, Any], peak: memory.Peak) -> dict[str, Any]:
    """Libraries and machine, on which a result may depend besides config and code, and the peak of memory."""
    cuda = descends(config) and config["trainer"]["device"] != "cpu" and torch.cuda.is_available()
    return {
        **peak.report(cuda),
        "device": torch.cuda.get_device_name() if cuda else platform.machine(), "threads": torch.get_num_threads(),
        "processes": ranks.processes(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
