"""The name of a run: a key made of all of its config that can change a number."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from recot.request.former import keyed

IRRELEVANT = {"logger", "paths", "hydra", "force", "plugins", "data.root", "data.cache", "data.path",
              "data.valid", "data.test", "trainer.device", "trainer.devices", "trainer.deterministic",
              "trainer.progress", "trainer.checkpoint_seconds"}
"""Config keys that say where and how to run, not what: they do not change a result that was asked for."""


def relevant(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``config`` without the keys in :data:`IRRELEVANT`."""
    return {name: relevant(value, f"{prefix}{name}.") if isinstance(value, Mapping) else value
            for name, value in config.items() if f"{prefix}{name}" not in IRRELEVANT}


def key(config: Mapping[str, Any], digest: str) -> str:
    """16 hexadecimal digits that name a run.

    Args:
        config: resolved, plain containers. digest: of the raw data files.
    """
    text = json.dumps([keyed(relevant(config)), digest], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def jsonable(value: Any) -> Any:
    """``value`` as JSON can hold it: NaN and infinities as words, bytes that are no UTF-8 as backslash escapes."""
    if isinstance(value, Mapping):
        return {jsonable(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
