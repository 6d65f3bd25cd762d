"""The table of all methods: one row for each preset of a model, from its first line, its config and its classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

from recot.pages.markdown import escape, table
from recot.request.claims import is_inductive, stranger_to
from recot.request.compose import CONF, composed
from recot.request.signature import describe

PRESETS = CONF / "model"
HEAD = re.compile(r"# (?P<name>[^:]+): (?P<paper>no paper|[^:]+, \w+ [12]\d{3})\.")
"""How the first comment of a preset begins: ``# NAME: AUTHORS, VENUE YEAR.``, or ``# NAME: no paper.``"""


@dataclass(frozen=True)
class Method:
    """What a preset is.

    Attributes:
        preset: what ``model=`` takes.
        name: as papers write it.
        paper: authors, venue and year; ``-`` where no paper has the method.
        kind: ``closed form``, or how the training set is drawn (the module of the objective: pairs, rows, sequences),
            with ``views`` where two views of a history are compared as well.
        denoiser: that the preset chooses, or ``-``.
        needs: ``times`` where data without times are refused, else ``-``.
        unseen: ``yes`` where users are served who were not in the training set, else ``no``.
    """

    preset: str
    name: str
    paper: str
    kind: str
    denoiser: str
    needs: str
    unseen: str


def method(preset: str, found: tuple[Mapping[str, Any], Mapping[str, str]] | None = None) -> Method:
    """What ``conf/model/<preset>.yaml`` is.

    Args:
        found: its config and choices, where they were composed before.

    Raises:
        ValueError: the preset does not begin as all presets do.
    """
    file = PRESETS / f"{preset}.yaml"
    head = next(line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package"))
    cited = HEAD.match(head)
    if cited is None:
        raise ValueError(f"{file} begins with {head!r}; give the name and the paper first, as in "
                         "'# BPRMF: Rendle et al., UAI 2009.', or '# NAME: no paper.'")
    config, choices = found or composed(f"model={preset}")
    model, loss = (describe(config[group].get("_target_", "")) for group in ("model", "loss"))
    kind = loss.module.rpartition(".")[2] if loss else "closed form"
    return Method(preset, cited["name"], "-" if cited["paper"] == "no paper" else cited["paper"],
                  f"{kind}, views" if config["loss"].get("contrast") else kind,
                  "-" if choices["denoiser"] == "none" else choices["denoiser"],
                  "times" if model and model.constants.get("ordered") else "-",
                  "yes" if is_inductive(config) and stranger_to(config) is None else "no")


def methods() -> list[Method]:
    """All presets of recot, by name of the preset."""
    return [method(preset) for preset in sorted(file.stem for file in PRESETS.glob("*.yaml"))]


def markdown() -> str:
    """The table of README.md."""
    header = ["`model=`" if field.name == "preset" else field.name for field in fields(Method)]
    return "\n".join(table(header, [[f"`{preset}`", *map(escape, rest)]
                                    for preset, *rest in map(astuple, methods())])).rstrip() + "\n"
