"""What a class or function takes, read from its source: importing torch to refuse a typing error would take seconds."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """What a ``_target_`` names.

    Attributes:
        name: of the class or function.
        parameters: name -> annotation, or None where there is none.
        required: parameters without a default.
        bases: names of all classes it inherits from within the package, itself included.
        constants: class attributes with a literal value.
    """

    name: str
    parameters: dict[str, ast.expr | None]
    required: set[str]
    bases: frozenset[str]
    constants: dict[str, Any]
    module: str


def locate(module: str) -> ModuleSpec | None:
    """Where a module is, or None; imports the packages above it and never a module that only looks like one."""
    parent, _, _ = module.rpartition(".")
    if parent:
        above = locate(parent)
        if above is None or above.submodule_search_locations is None:
            return None
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


@cache
def parse(module: str) -> ast.Module | None:
    """Syntax tree of a module, or None where there is no such module."""
    spec = locate(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)


def definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """The class or function ``name`` of ``module`` with its own module; ``from ... import`` is followed into recot and
    within the package.
    """
    tree = parse(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            followed = node.module.split(".")[0] in ("recot", module.split(".")[0])
            for alias in node.names:
                if followed and (alias.asname or alias.name) == name:
                    return definition(node.module, alias.name)
    return None


def defined_in(module: str) -> list[str]:
    """Names of the classes and functions a module defines."""
    tree = parse(module)
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)] if tree else []


def signature(function: ast.FunctionDef, skip: int) -> tuple[dict[str, ast.expr | None], set[str]]:
    """Parameters with annotations, and those without a default; the first ``skip`` are left out."""
    positional = [*function.args.posonlyargs, *function.args.args]
    required = {a.arg for a in positional[skip : len(positional) - len(function.args.defaults)]}
    required |= {a.arg for a, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
                 if default is None}
    return {a.arg: a.annotation for a in [*positional[skip:], *function.args.kwonlyargs]}, required


@cache
def describe(path: str) -> Target | None:
    """What the dotted ``path`` names, read from source; None where it names nothing defined there."""
    module, _, name = path.rpartition(".")
    found = definition(module, name) if module else None
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.FunctionDef):
        return Target(name, *signature(node, 0), frozenset(), {}, module)
    parameters: dict[str, ast.expr | None] = {}
    required: set[str] = set()
    bases: set[str] = {node.name}
    constants: dict[str, Any] = {}
    for base in node.bases:
        parent = describe(f"{module}.{base.id}") if isinstance(base, ast.Name) else None
        if parent:
            parameters, required = parent.parameters, parent.required
            bases |= parent.bases
            constants |= parent.constants
    is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    fields = [(item.target.id, item) for item in node.body
              if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    if is_dataclass:
        own: dict[str, ast.expr | None] = {field: item.annotation for field, item in fields}
        required = (required - set(own)) | {field for field, item in fields if item.value is None}
        parameters = parameters | own
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            parameters, required = signature(item, 1)
        elif isinstance(item, ast.Assign | ast.AnnAssign) and not is_dataclass and item.value is not None:
            target = item.targets[0] if isinstance(item, ast.Assign) else item.target
            try:
                constants[ast.unparse(target)] = ast.literal_eval(item.value)
            except ValueError:
                continue
    return Target(name, parameters, required, frozenset(bases), constants, module)


def fits(value: Any, annotation: ast.expr | None, module: str) -> bool:
    """Whether a plain ``value`` has the annotated type; an annotation that says nothing of plain values fits all."""
    match annotation:
        case None:
            return True
        case ast.Constant(value=None):
            return value is None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return fits(value, left, module) or fits(value, right, module)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            allowed = ast.literal_eval(choices)
            return value in (allowed if isinstance(allowed, tuple) else (allowed,))
        case ast.Subscript(value=ast.Name(id=container), slice=inner):
            return fits_container(value, container, inner, module)
        case ast.Name(id=name):
            return fits_name(value, name, module)
    return True


def fits_container(value: Any, container: str, inner: ast.expr, module: str) -> bool:
    """:func:`fits` for ``list[...]`` and ``dict[..., ...]``."""
    if container in ("list", "Sequence", "tuple"):
        return isinstance(value, list) and all(fits(item, inner, module) for item in value)
    if container in ("dict", "Mapping"):
        of_value = inner.elts[1] if isinstance(inner, ast.Tuple) else None
        return isinstance(value, dict) and all(fits(item, of_value, module) for item in value.values())
    return True


def fits_name(value: Any, name: str, module: str) -> bool:
    """:func:`fits` for a plain type or an alias defined in the same module."""
    match name:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "list" | "dict":
            return isinstance(value, {"list": list, "dict": dict}[name])
    tree = parse(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return fits(value, node.value, module)
    return True


def resolved(annotation: ast.expr, module: str) -> ast.expr:
    """The annotation itself, or what its alias stands for."""
    tree = parse(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(annotation):
            return node.value
    return annotation
