"""Does a part of a config fit the class or function that it names?

The constructor is the schema: names, types and defaults of parameters are read from the source of the class or function
that a ``_target_`` names, see ``signature.py``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from recot.request import former
from recot.request.errors import RequestError, nearest
from recot.request.kinds import KINDS, outside
from recot.request.signature import Target, classes, defined_in, describe, fits, resolved

SUPPLIED = {"model": {"n_users", "n_items", "domains", "before"}, "protocol.split": {"interactions"},
            "noise": {"split"}}
"""Parameters that the run itself gives to a target."""

SIZES = {"batch_size", "dim", "n_heads", "max_length", "max_epochs", "eval_every"}
"""Parameters that are 1 or more wherever they occur; others are refused by their constructors."""


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


def canonical(config: dict[str, Any]) -> dict[str, Any]:
    """The config with whole numbers as floats where the constructor takes a float, so that 0 and 0.0 are one run."""
    for _, node in targets(config):
        found = describe(node["_target_"])
        for name, annotation in found.parameters.items() if found else ():
            types = {part.id for part in ast.walk(annotation) if isinstance(part, ast.Name)} if annotation else set()
            if "float" in types and "int" not in types and isinstance(node.get(name), int):
                node[name] = float(node[name])
    return config
