"""From overrides to a checked config, and from Hydra's complaints to one line. Imports no torch."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from omegaconf.resolvers import oc

from recot.request.errors import RequestError, nearest
from recot.request.schema import check
from recot.request.tuned import objection
from recot.system.environment import REFERENCE, hidden, looked_up, secret_in, shown

log = logging.getLogger(__name__)

HERE = Path(__file__).parents[1]
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
"""The config groups: inside an installed package, or at the top of a clone."""


WITHHELD = ("data.url", "data.root", "data.path", "data.valid", "data.test", "data.cache", "data.manual", "paths",
            "logger")
"""Keys that may refer to variables of the environment: they say where things lie, and not what is run."""


@contextlib.contextmanager
def withheld() -> Iterator[None]:
    """Resolve references to the environment to their own text, except those to RECOT_*."""
    def reference(name: str, *default: Any) -> Any:
        if str(name).startswith("RECOT_"):
            return oc.env(name, *default)
        text = f"${{oc.env:{name}" + "".join(f",{'null' if other is None else other}" for other in default) + "}"
        if not REFERENCE.fullmatch(text):
            raise RequestError(f"{text} is not a name and a plain default; type the value")
        return text

    OmegaConf.register_new_resolver("oc.env", reference, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def check_references(path: str, value: Any) -> None:
    """Refuse secrets in ``data.url``, and references to the environment in keys that say what is run.

    Raises:
        RequestError: with the path of the key.
    """
    if path != "paths" and isinstance(value, str) and any(0xD800 <= ord(mark) < 0xE000 for mark in value):
        raise RequestError(f"{path} = {value!r} has bytes that are not UTF-8; give it another name")
    if path in WITHHELD:
        if path == "data.url" and isinstance(value, str) and (part := secret_in(value)):
            raise RequestError(f"data.url = {shown(value)} has {part}, which the record would keep; put "
                               "the secret into a variable of the environment, and write ${oc.env:NAME} in the url")
        return
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            check_references(f"{path}.{name}".lstrip("."), item)
            check_references(path, name)
    elif isinstance(value, str) and REFERENCE.search(value):
        raise RequestError(f"{path} = {value!r} would differ with the environment, but a record has to say what "
                           "was run; type the value")


def check_trust(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Refuse packages in ``plugins`` that were not typed: a preset may be anybody's.

    Args:
        typed: words of the command.

    Raises:
        RequestError: with the word that trusts them.
    """
    plugins = OmegaConf.to_container(cfg, resolve=False).get("plugins")  # type: ignore[union-attr]  # a mapping
    trusted = any(word.lstrip("+").partition("=")[0] == "plugins" for word in typed)
    if plugins and (not trusted or "${" in str(plugins)):
        raise RequestError(f"plugins = {plugins} comes from a preset, and only what you type is trusted; if you trust "
                           f"these packages, type plugins={str(plugins).replace(chr(39), '').replace(' ', '')}")


def check_folders(words: Sequence[str]) -> None:
    """Refuse folders of presets that set Hydra itself: it builds its callbacks and launchers before any check.

    Args:
        words: everything that was typed after ``python -m recot.run``.

    Raises:
        RequestError: with the file.
    """
    given = get_args_parser().parse_known_args(list(words))[0]
    paths = [word for word in given.overrides if word.lstrip("+").startswith("hydra.searchpath=")]
    searched = [path for value in values(paths).values() for path in (value if isinstance(value, list) else [value])]
    for path in (given.config_dir, given.config_path, *searched):
        folder = str(path or "").removeprefix("file://")
        for root, _, names in os.walk(folder, followlinks=True) if folder else ():
            for file in (Path(root) / name for name in sorted(names) if name.endswith(".yaml")):
                if "hydra" in Path(root).relative_to(folder).parts or sets_hydra(file.read_text("utf-8", "replace")):
                    raise RequestError(f"{file} sets hydra itself, which runs before anything is checked; take that "
                                       "out of the file, and type what you trust, like hydra.sweep.dir=x")


def sets_hydra(text: str) -> bool:
    """Whether a file of the config writes into the key ``hydra``. Hydra itself complains of a file that is not yaml."""
    if re.search(r"^\s*#\s*@package\b.*\bhydra\b", text, re.MULTILINE):
        return True
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    if not isinstance(content, dict):
        return False
    return any(re.match(r"/?hydra\b", str(key)) for key in content) or bool(
        re.search(r"\bhydra\b", str(content.get("defaults"))))


def checked(cfg: DictConfig, choices: dict[str, str]) -> dict[str, Any]:
    """The resolved, complete and checked form of a config.

    References to the environment stay what they are, see :mod:`recot.system.environment`; only ``paths`` has values.
    """
    with withheld():
        content: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_references("", content)
    check_references("the choice of a group", choices)
    config = check(content, choices)
    return {**config, "paths": looked_up(config["paths"])}


def layered(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """The config of a command before its references are resolved, and the choice of each group.

    Args:
        overrides: what is typed after ``python -m recot.run``.

    Raises:
        HydraException, OmegaConfBaseException: the request is wrong; :func:`explain` says how.
        RequestError: a preset asks for trust.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return fitting(*layers(overrides), overrides, [CONF])


def layers(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The config of a command as Hydra, which has been started, composes it, and the choice of each group."""
    cfg = compose("run", list(overrides), return_hydra_config=True)
    choices = {group: str(choice) for group, choice in cfg.hydra.runtime.choices.items()}
    check_trust(cfg, overrides)
    return OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"]), choices


def fitting(cfg: DictConfig, choices: dict[str, str], overrides: Sequence[str],
            folders: Sequence[Path]) -> tuple[DictConfig, dict[str, str]]:
    """The config of a command and its choices, composed again without a tuned file that is not for this run.

    One line says what becomes of a tuned file. A tuned file that is typed, as in
    ``tuned=office/sasrec-nextitem-none``, applies.

    Args:
        cfg: as Hydra, which is still there, composed it out of ``folders``.
    """
    choice = choices.get("tuned")
    file = next((file for folder in folders if (file := folder / "tuned" / f"{choice}.yaml").exists()), None)
    if file is None:
        return cfg, choices
    try:
        data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    except OmegaConfBaseException:  # no such data; the check of the config says what is missing
        return cfg, choices
    why = objection(file, data, lambda key: OmegaConf.select(cfg, key))
    if any(word.startswith("tuned=") for word in overrides):
        log.info("settings of conf/tuned/%s.yaml apply, since they were asked for%s", choice, why and f": {why}")
        return cfg, choices
    if why:
        log.warning("settings of conf/tuned/%s.yaml do not apply: %s", choice, why)
        return layers([*overrides, "~tuned"])
    log.info("settings of conf/tuned/%s.yaml apply (found on these data)", choice)
    return cfg, choices


def composed(*overrides: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The checked config of a command and the choice of each group, without starting it.

    Raises:
        RequestError, HydraException, OmegaConfBaseException: as in :func:`layered`.
    """
    cfg, choices = layered(*overrides)
    return checked(cfg, choices), choices


def seeded(cfg: DictConfig, choices: dict[str, str], seed: int) -> dict[str, Any]:
    """The checked form of a layered config with a seed; values that refer to the seed follow."""
    OmegaConf.update(cfg, "seed", seed)
    return checked(cfg, choices)


def values(words: Sequence[str]) -> dict[str, Any]:
    """What words like ``data.path="my log.csv"`` set, in the grammar of the command line of ``recot.run``.

    Raises:
        OverrideParseException: a word cannot be read. RequestError: a word takes a key out, or sweeps over values.
    """
    by_key = {}
    for override in OverridesParser.create().parse_overrides(list(words)):
        if override.is_delete() or override.is_sweep_override():
            raise RequestError(f"{override.input_line}: give one value, like {override.key_or_group.lstrip('~')}=...")
        by_key[override.key_or_group] = override.value()
    return by_key


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def explain(error: BaseException) -> str:
    """What went wrong, in one line: the path of the key and the nearest known name if Hydra complains, and no value of
    the environment.
    """
    return hidden(explanation(error))


def explanation(error: BaseException) -> str:
    """:func:`explain`, with values of the environment where a library printed them."""
    if isinstance(error, InstantiationException) and error.__cause__:
        return str(error.__cause__)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark else "a file of the config"
        return f"{where} is not the yaml of a config: {error.problem or error.context}; correct it"
    if isinstance(error, yaml.YAMLError):
        return f"a file of the config is not yaml: {' '.join(str(error).split())}; correct it"
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
