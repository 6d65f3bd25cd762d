"""Which code a result depends on: a digest that changes with the classes and functions it uses, and with nothing else.

Comments, docstrings and whatever the result does not reach do not count, so that a method added to a module leaves the
results of the others as they are.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache

from recot.signature import parse

PACKAGE = "recot"

Name = tuple[str, str]
"""A module and what is defined in it."""


@cache
def definitions(module: str) -> dict[str, ast.stmt]:
    """What a module defines at its top level."""
    found: dict[str, ast.stmt] = {}
    for node in getattr(parse(module), "body", ()):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found |= {part.id: node for part in ast.walk(target)
                          if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return found


@cache
def imports(module: str) -> dict[str, Name]:
    """What a module calls the things it imports from the package; a module has an empty name."""
    found = {}
    for node in ast.walk(parse(module) or ast.Module([], [])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (whole, "") if parse(whole) else (str(node.module), alias.name)
    return found


def used(module: str, node: ast.AST) -> Iterator[Name]:
    """What the code in ``node`` of ``module`` refers to within the package."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            owner, inside = imports(module).get(part.value.id, ("", ""))
            if owner and not inside:
                yield owner, part.attr
        elif isinstance(part, ast.Name):
            if part.id in definitions(module):
                yield module, part.id
            elif part.id in imports(module) and imports(module)[part.id][1]:
                yield imports(module)[part.id]


def reached(roots: Iterable[Name]) -> list[Name]:
    """The definitions that ``roots`` need, directly or not, themselves included; sorted."""
    found: set[Name] = set()
    waiting = list(roots)
    while waiting:
        module, name = waiting.pop()
        node = definitions(module).get(name)
        if node is not None and (module, name) not in found:
            found.add((module, name))
            waiting += used(module, node)
    return sorted(found)


@cache
def code(name: Name) -> str:
    """A definition without comments and docstrings."""
    tree = ast.parse(ast.unparse(definitions(name[0])[name[1]]))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.dump(tree)


def targets(config: object) -> Iterator[Name]:
    """The classes and functions that a plain config names."""
    if isinstance(config, dict):
        if "_target_" in config:
            module, _, name = str(config["_target_"]).rpartition(".")
            yield module, name
        for value in config.values():
            yield from targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from targets(value)


def digest(config: dict[str, object], also: Iterable[Name] = ()) -> str:
    """16 hexadecimal digits of the code behind what a config names and behind the definitions ``also``."""
    names = reached([*targets(config), *also])
    return hashlib.sha256("".join(f"{name}{code(name)}" for name in names).encode()).hexdigest()[:16]
