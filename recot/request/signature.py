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
        bases: names of all classes it inherits from within the package, itself included, and Protocol; empty for a
            function.
        constants: class attributes with a literal value.
        module: that defines it.
        methods: names that the class or a base of it defines in its body.
        returns: what a function is annotated to return, as text; empty where nothing is said, and for a class.
        opaque: whether a base lies where it is not read.
    """

    name: str
    parameters: dict[str, ast.expr | None]
    required: set[str]
    bases: frozenset[str]
    constants: dict[str, Any]
    module: str
    methods: frozenset[str] = frozenset()
    returns: str = ""
    opaque: bool = False


PLAIN_BASES = {"object", "ABC", "Generic", "Module"}
"""Bases from elsewhere that say nothing of what a class is here."""


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


def origin(module: str, dotted: str) -> str:
    """The full path of what ``module`` calls ``dotted``: a name of its own, or what one of its imports stands for."""
    head, _, rest = dotted.partition(".")
    tree, spec = parse(module), locate(module)
    above = module.split(".") if spec and spec.submodule_search_locations else module.split(".")[:-1]
    for node in tree.body if tree else []:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in (alias for alias in node.names if (alias.asname or alias.name).split(".")[0] == head):
            if isinstance(node, ast.Import):
                return ".".join(filter(None, (name.name if name.asname else head, rest)))
            parent = above[: len(above) + 1 - node.level] if node.level else []
            return ".".join(filter(None, (*parent, node.module, name.name, rest)))
    return f"{module}.{dotted}"


def definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """The class or function ``name`` of ``module`` with its own module; ``from ... import`` is followed into recot and
    within the package.
    """
    tree = parse(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
    above, _, found = origin(module, name).rpartition(".")
    followed = above.split(".")[0] in ("recot", module.split(".")[0])
    return definition(above, found) if followed and above != module else None


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
        return Target(name, *signature(node, 0), frozenset(), {}, module,
                      returns=ast.unparse(node.returns) if node.returns else "")
    parameters: dict[str, ast.expr | None] = {}
    required: set[str] = set()
    bases: set[str] = {node.name}
    constants: dict[str, Any] = {}
    methods: set[str] = set()
    opaque = False
    for base in node.bases:
        called = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        inside = origin(module, called).split(".")[0] in ("recot", module.split(".")[0])
        parent = describe(origin(module, called)) if inside else None
        if parent:
            parameters, required = parent.parameters, parent.required
            bases |= parent.bases
            constants |= parent.constants
            methods |= parent.methods
            opaque |= parent.opaque
        elif called.rpartition(".")[2] == "Protocol":
            bases.add("Protocol")
        elif called.rpartition(".")[2] not in PLAIN_BASES:
            opaque = True
    is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    fields = [(item.target.id, item) for item in node.body
              if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    if is_dataclass:
        own: dict[str, ast.expr | None] = {field: item.annotation for field, item in fields}
        required = (required - set(own)) | {field for field, item in fields if item.value is None}
        parameters = parameters | own
    for item in node.body:
        methods |= {item.name} if isinstance(item, ast.FunctionDef) else {
            target.id for target in getattr(item, "targets", ()) if isinstance(target, ast.Name)}
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            parameters, required = signature(item, 1)
        elif isinstance(item, ast.Assign | ast.AnnAssign) and not is_dataclass and item.value is not None:
            target = item.targets[0] if isinstance(item, ast.Assign) else item.target
            try:
                constants[ast.unparse(target)] = ast.literal_eval(item.value)
            except ValueError:
                continue
    return Target(name, parameters, required, frozenset(bases), constants, module, frozenset(methods), opaque=opaque)


def fits(value: Any, annotation: ast.expr | None, module: str) -> bool:
    """Whether a plain ``value`` has the annotated type. Where nothing is annotated any plain value has; where the
    annotation is none of plain values, none has.
    """
    match annotation:
        case None:
            return is_plain(value)
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(text)):
            return fits(value, ast.parse(text, mode="eval").body, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return fits(value, left, module) or fits(value, right, module)
        case ast.Subscript(value=container, slice=inner):
            return fits_container(value, ast.unparse(container).rpartition(".")[2], inner, module)
        case ast.Name() | ast.Attribute():
            return fits_name(value, ast.unparse(annotation), module)
    return False


def is_plain(value: Any) -> bool:
    """Whether a value consists of texts, numbers, truth values, null, lists and mappings with texts as keys."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(item) for name, item in value.items())
    return all(is_plain(item) for item in value) if isinstance(value, list) else (
        value is None or isinstance(value, str | int | float))


def fits_container(value: Any, container: str, inner: ast.expr, module: str) -> bool:
    """:func:`fits` for an annotation with brackets, of which ``inner`` is between them."""
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    match container.lower():
        case "literal":
            return any(type(value) is type(choice) and value == choice for choice in map(ast.literal_eval, parts))
        case "optional" | "union":
            return (container == "Optional" and value is None) or any(fits(value, part, module) for part in parts)
        case "annotated" | "final":
            return fits(value, parts[0], module)
        case "tuple" if not isinstance(parts[-1], ast.Constant) or parts[-1].value is not ...:
            return isinstance(value, list) and len(value) == len(parts) and all(
                fits(item, part, module) for item, part in zip(value, parts, strict=True))
        case "list" | "sequence" | "tuple" | "iterable" | "collection":
            return isinstance(value, list) and all(fits(item, parts[0], module) for item in value)
        case "dict" | "mapping":
            return isinstance(value, dict) and all(
                fits(name, parts[0], module) and fits(item, parts[-1], module) for name, item in value.items())
    return False


def fits_name(value: Any, name: str, module: str) -> bool:
    """:func:`fits` for a plain type or an alias."""
    match name.rpartition(".")[2]:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str" | "Path" | "PathLike":
            return isinstance(value, str)
        case "list" | "List" | "Sequence" | "tuple" | "Tuple":
            return isinstance(value, list) and is_plain(value)
        case "dict" | "Dict" | "Mapping":
            return isinstance(value, dict) and is_plain(value)
        case "Any" | "object":
            return is_plain(value)
    stands_for = alias(name, module)
    return stands_for is not None and fits(value, *stands_for)


def alias(name: str, module: str) -> tuple[ast.expr, str] | None:
    """What the name of a type stands for where a module assigns it, with that module; None where none does."""
    above, _, found = origin(module, name).rpartition(".")
    tree = parse(above) if above.split(".")[0] in ("recot", module.split(".")[0]) else None
    for node in tree.body if tree else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == found:
            return node.value, above
    return None


def resolved(annotation: ast.expr, module: str) -> ast.expr:
    """The annotation itself, or what its alias stands for."""
    stands_for = alias(ast.unparse(annotation), module) if isinstance(annotation, ast.Name) else None
    return stands_for[0] if stands_for else annotation


def classes(annotation: ast.expr | None, module: str) -> list[str]:
    """Full paths of the classes within recot or the package of ``module`` that an annotation names outside brackets."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*classes(left, module), *classes(right, module)]
        case ast.Constant(value=str(text)):
            return classes(ast.parse(text, mode="eval").body, module)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return classes(inner, module)
        case ast.Name() | ast.Attribute():
            path = origin(module, ast.unparse(annotation))
            inside = path.split(".")[0] in ("recot", module.split(".")[0])
            found = describe(path) if inside else None
            return [f"{found.module}.{found.name}"] if found and found.bases else []
    return []
