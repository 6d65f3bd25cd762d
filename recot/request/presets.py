"""What presets say, read from their files: composing all of them takes seconds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from recot.request.signature import describe

TARGET = re.compile(r"^model:\n  _target_: (\S+)", re.M)
"""What a preset builds."""


def building(networks: Iterable[str]) -> list[str]:
    """Presets that build a network of the classes ``networks``: those of their names, or all, where a class has none.

    >>> building(["BUIR"]), building(["ContrastiveAutoencoder"])
    (['buir'], ['pge_ae', 'pge_cl', 'pge_ucl'])
    """
    from recot.request.compose import CONF  # which imports what calls this

    files = {file.stem: file for file in sorted((CONF / "model").glob("*.yaml"))}
    found = []
    for name in networks:
        found += [name.lower()] if name.lower() in files else [
            preset for preset, file in files.items() if (target := TARGET.search(file.read_text(encoding="utf-8")))
            and (built := describe(target[1])) and name in built.bases]
    return found


def outline(preset: str) -> dict[str, Any]:
    """What ``conf/model/<preset>.yaml`` sets, with the files that it names: model, loss, denoiser, stages and domains.

    What the composed config adds to that no preset sets. References stay what they are, and so do numbers that yaml
    takes for texts, such as 1e-3. ``choices`` holds the names of the files by group.
    """
    from recot.request.compose import CONF

    content, choices = merged(CONF, CONF / "model" / f"{preset}.yaml")
    recipe = CONF / "recipe" / f"{preset}-{choices.get('loss', 'bpr')}.yaml"
    if recipe.exists():
        content = over(content, {"loss": merged(CONF, recipe)[0]})
    return {"loss": {}, "stages": {}, "domains": "joint", **content, "choices": choices}


def merged(conf: Path, file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a file over that of those in its list of defaults, and the choices in this list by group."""
    content: dict[str, Any] = {}
    choices: dict[str, str] = {}
    own = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    for default in own.pop("defaults", ()):
        for key, name in default.items() if isinstance(default, dict) else ():
            group, _, place = key.removeprefix("override ").removeprefix("/").partition("@")
            choices[place or group] = name
            found = merged(conf, conf / group / f"{name}.yaml")[0]
            for part in reversed((place or group).split(".")):
                found = {part: found}
            content = over(content, found)
    return over(content, own), choices


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one; where both have a value, that of ``above`` stands."""
    return {**below, **{name: over(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict)
                        else value for name, value in above.items()}}
