"""From overrides to a checked config, and from Hydra's complaints to one line. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from recot.schema import check, nearest
from recot.signature import describe

HERE = Path(__file__).parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
"""The config groups: inside an installed package, or at the top of a clone."""


def checked(cfg: DictConfig, choices: dict[str, str], folders: Sequence[Path] = (CONF,)) -> dict[str, Any]:
    """The resolved, complete and checked form of a config composed out of ``folders``, searched in this order."""
    content: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    leave_out(content, choices, folders)
    return check(content, choices)


def leave_out(content: dict[str, Any], choices: dict[str, str], folders: Sequence[Path]) -> None:
    """Take out what a preset says of its own loss or denoiser where another one was chosen, which does not take it."""
    files = (folder / "model" / f"{choices.get('model')}.yaml" for folder in folders)
    file = next((file for file in files if file.exists()), None)
    preset: Any = OmegaConf.to_container(OmegaConf.load(file)) if file else {}
    own = {key: value for default in preset.get("defaults", ()) for key, value in default.items()}
    for group in ("loss", "denoiser"):
        taken = describe(str((content.get(group) or {}).get("_target_", "")))
        if taken and own.get(f"override /{group}") not in (None, choices.get(group)):
            for name, value in (preset.get(group) or {}).items():
                if name not in taken.parameters and content[group].get(name) == value:
                    del content[group][name]


def layered(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """The config of a command before its references are resolved, and the choice of each group.

    Args:
        overrides: what is typed after ``python -m recot.run``.

    Raises:
        HydraException, OmegaConfBaseException: the request is wrong; :func:`explain` says how.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("run", list(overrides), return_hydra_config=True)
    choices = {group: str(choice) for group, choice in cfg.hydra.runtime.choices.items()}
    return OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"]), choices


def composed(*overrides: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The checked config of a command and the choice of each group, without starting it.

    Raises:
        RequestError, HydraException, OmegaConfBaseException: as in :func:`layered`.
    """
    cfg, choices = layered(*overrides)
    return checked(cfg, choices), choices


def seeded(cfg: DictConfig, choices: dict[str, str], seed: int) -> dict[str, Any]:
    """The checked form of a layered config with a seed, which whatever refers to it follows."""
    OmegaConf.update(cfg, "seed", seed)
    return checked(cfg, choices)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def explain(error: BaseException) -> str:
    """What went wrong in one line, with the path of the key and the nearest known name where Hydra complains."""
    if isinstance(error, InstantiationException) and error.__cause__:
        return str(error.__cause__)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return str(error)
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    for cause in causes(error):
        if isinstance(cause, MissingConfigException) and cause.options:
            group, _, name = str(cause.missing_cfg_file).rpartition("/")
            return f"{group}={name}: there is no such choice. {nearest(name, list(cause.options))}"
        lost = re.match(r"Interpolation key '(\w+)' not found", str(cause))
        if lost and lost[1] in groups:
            return f"the config has no {lost[1]}, and each run needs one; see the choices in conf/{lost[1]}"
        if isinstance(cause, MissingMandatoryValue):
            return f"{cause.full_key} has no value: give it as {cause.full_key}=..."
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            parent = cause.parent_node
            known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
            hint = f" {nearest(str(cause.key), known)}" if "not in struct" in str(cause) else ""
            return f"{cause.full_key}: {str(cause).splitlines()[0]}.{hint}"
    if isinstance(error, OverrideParseException) and "=" in error.override:
        name, _, value = error.override.partition("=")
        return (f"{error.override}: Hydra cannot read this value; put it in quotes of its own, as in "
                f"'{name}=\"{value}\"' with the outer ones for the shell")
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    hint = f" {nearest(unknown.group(1), groups)}" if unknown else ""
    return " ".join(line.strip() for line in str(error).splitlines() if "http" not in line and line.strip(" ^")) + hint
