"""The table of all methods: one row for each preset of a model, from its first line, its config and its classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

from recot.artifacts import differences
from recot.pages.pipes import escape, table
from recot.request.claims import is_inductive, stranger_to
from recot.request.compose import CONF, composed
from recot.request.errors import RequestError, nearest
from recot.request.presets import outline
from recot.request.signature import definition, describe

PRESETS = CONF / "model"
HEAD = re.compile(r"# (?P<name>[^:]+): (?P<paper>no paper|[^:]+, \w+ [12]\d{3})\.")
"""How the first comment of a preset begins: ``# NAME: AUTHORS, VENUE YEAR.``, or ``# NAME: no paper.``"""

SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Source:")
"""How the paragraphs of a docstring begin that are about its code, and not about the method."""

ASKED = {"times": (["protocol=sequence"], ["data.time=timestamp", "protocol=sequence"]),
         "domains": (["data.n_domains=3", "protocol=domains", "protocol.split.candidates=20"],
                     ["data.domain=category", "protocol=domains"])}
"""What a method that needs something is asked with: on planted data, and on a file of one's own."""


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
        needs: ``times`` where data without times are refused, ``domains`` where those without domains are, or ``-``.
        unseen: ``yes`` where users are served who were not in the training set, else ``no``.
    """

    preset: str
    name: str
    paper: str
    kind: str
    denoiser: str
    needs: str
    unseen: str


def method(preset: str) -> Method:
    """What ``conf/model/<preset>.yaml`` is.

    Raises:
        ValueError: the preset does not begin as all presets do.
    """
    file = PRESETS / f"{preset}.yaml"
    head = next(line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package"))
    cited = HEAD.match(head)
    if cited is None:
        raise ValueError(f"{file} begins with {head!r}; give the name and the paper first, as in "
                         "'# BPRMF: Rendle et al., UAI 2009.', or '# NAME: no paper.'")
    config = outline(preset)
    loss, denoiser = describe(config["loss"].get("_target_", "")), config["choices"].get("denoiser", "none")
    kind = loss.module.rpartition(".")[2] if loss else "closed form"
    return Method(preset, cited["name"], "-" if cited["paper"] == "no paper" else cited["paper"],
                  f"{kind}, views" if config["loss"].get("contrast") else kind, "-" if denoiser == "none" else denoiser,
                  ", ".join(needs(config)) or "-",
                  "yes" if is_inductive(config) and stranger_to(config) is None else "no")


def needs(config: Mapping[str, Any]) -> Iterator[str]:
    """What data have to have: the model or a stage before it refuses others."""
    model = describe(config["model"].get("_target_", ""))
    if model and model.constants.get("ordered"):
        yield "times"
    if any(part.get("domains", "joint") != "joint" for part in (config, *config["stages"].values())):
        yield "domains"


def methods() -> list[Method]:
    """All presets of recot, by name of the preset."""
    return [method(preset) for preset in sorted(file.stem for file in PRESETS.glob("*.yaml"))]


def chosen(kind: str | None = None, need: str | None = None, unseen: bool = False) -> list[Method]:
    """The methods of a kind, with a need, or that serve unseen users.

    Args:
        kind: one of the words of the column, such as ``views``. need: ``times``, ``domains`` or ``-``.

    Raises:
        RequestError: there is no such kind or need.
    """
    every = methods()
    for name, word, column in (("--kind", kind, "kind"), ("--needs", need, "needs")):
        known = sorted({part for each in every for part in getattr(each, column).split(", ")})
        if word is not None and word not in known:
            raise RequestError(f"{name} {word}: no method is so. {nearest(word, known)}")
    return [each for each in every if (kind is None or kind in each.kind.split(", "))
            and (need is None or need in each.needs.split(", ")) and (not unseen or each.unseen == "yes")]


def rows(found: Iterable[Method]) -> list[tuple[str, ...]]:
    """The header of the table, and the texts of its rows."""
    return [("model=", *[field.name for field in fields(Method)][1:]), *map(astuple, found)]


def page(preset: str) -> str:
    """A preset in full: its parts with what their docstrings say, its settings, and commands to try.

    Raises:
        RequestError: there is no such preset.
    """
    known = [file.stem for file in PRESETS.glob("*.yaml")]
    if preset not in known:
        raise RequestError(f"no method is called {preset!r}. {nearest(preset, known)}")
    own, (config, choices) = method(preset), composed(f"model={preset}")
    lines = [f"{own.name}, {own.paper}" if own.paper != "-" else own.name,
             f"kind: {own.kind}; needs: {own.needs}; unseen users: {own.unseen}", ""]
    for group in ("model", "loss", "denoiser"):
        target = config[group].get("_target_", "")
        if choices[group] != "none":
            lines += [f"{group}={choices[group]}, {target}", *(f"  {line}".rstrip() for line in about(target)), ""]
    lines += ["settings:", *(f"  {line}" for line in settings(config)), "", "try:"]
    return "\n".join([*lines, *(f"  {command}" for command in commands(own))]) + "\n"


def about(target: str) -> list[str]:
    """The lines of a docstring that say what a class is and where it departs from its paper, from its source."""
    module, _, name = target.rpartition(".")
    found = definition(module, name)
    text = ast.get_docstring(found[1]) if found else None
    paragraphs = [part for part in (text or "").split("\n\n") if not part.startswith(SECTIONS)]
    return "\n\n".join(paragraphs).splitlines()


def settings(config: Mapping[str, Any]) -> list[str]:
    """What the parts of a method are set to, as it is typed."""
    parts = {name: config[name] for name in ("model", "loss", "denoiser", "stages", "domains", "trainer")}
    return [f"{key}={differences.text(value)}" for key, value in differences.flat(parts)
            if not key.endswith(("_target_", "_partial_"))]


def commands(own: Method) -> list[str]:
    """Commands that run a method: on planted data, and on a file of one's own."""
    words = [ASKED[need] for need in own.needs.split(", ") if need in ASKED]
    run = f"python -m recot.run model={own.preset}"
    return [" ".join([run, *(word for planted, _ in words for word in planted)]),
            " ".join([run, "data=csv", "data.path=my.csv", *(word for _, typed in words for word in typed)])]


def markdown(found: Iterable[Method] | None = None) -> str:
    """The table of README.md; of all methods where none are given."""
    header, *body = rows(methods() if found is None else found)
    return "\n".join(table([f"`{header[0]}`", *header[1:]], [
        [f"`{preset}`", *map(escape, rest)] for preset, *rest in body])).rstrip() + "\n"
