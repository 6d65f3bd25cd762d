"""Which code a result depends on: a digest that changes with the classes and functions it uses, and with nothing else.

Comments, docstrings and whatever the result does not reach do not count, so that a method added to a module, or one
more way to look at a container, leaves the results of the others as they are. Four more things do not count, since no
number depends on them: which Python reads the code, where a definition stands, what a module is called where it is
imported, and the types that a function declares. The annotated fields of a class count, since a dataclass is made of
them.

Two definitions of one name both count, once where they are the same text, but the digest does not see them change
places.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from recot.request.signature import parse

PACKAGE = "recot"

Name = tuple[str, str]
"""A module and what is defined in it; an empty name stands for all of the module."""

UNSTABLE = ("type_params", "type_comment", "kind")
"""Fields of syntax trees that some of Python 3.11 to 3.13 have and others have not."""


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
    """What a module calls the things it imports from recot and from its own package; a module has an empty name."""
    found = {}
    for node in ast.walk(parse(module) or ast.Module([], [])):
        if isinstance(node, ast.ImportFrom) and (source := absolute(module, node)).split(".")[0] in (
                PACKAGE, module.split(".")[0]):
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                found[alias.asname or alias.name] = (whole, "") if parse(whole) else (source, alias.name)
    return found


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that ``from ... import`` in ``module`` names."""
    above = ".".join(module.split(".")[:-node.level]) if node.level else ""
    return ".".join(part for part in (above, node.module) if part)


@cache
def used(module: str, part: ast.AST) -> tuple[frozenset[Name], frozenset[str]]:
    """What the code in ``part`` of ``module`` refers to within the package, and the attributes it mentions.

    A type that a function declares is referred to where it is a class: its methods are what the function calls.
    """
    found, attributes = set(), set()
    declared = {node for annotation in declarations(part) for node in ast.walk(annotation)}
    local = local_names(part)
    for node in ast.walk(part):
        if node in local:
            continue
        if node in declared:
            name = refers(module, node.id) if isinstance(node, ast.Name) else None
            if name and isinstance(definitions(name[0]).get(name[1]), ast.ClassDef):
                found.add(name)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
            called = node.value.id if isinstance(node.value, ast.Name) and node.value not in local else ""
            owner, inside = imports(module).get(called, ("", ""))
            if owner and not inside:
                found.add((owner, node.attr))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            attributes |= {str(name.value) for name in node.args[1:2] if isinstance(name, ast.Constant)}
        elif isinstance(node, ast.Name) and (name := refers(module, node.id)):
            found.add(name)
    return frozenset(found), frozenset(attributes)


def refers(module: str, name: str) -> Name | None:
    """The definition that a name in ``module`` stands for, or None where it is none of the package."""
    if name in definitions(module):
        return module, name
    return imports(module)[name] if imports(module).get(name, ("", ""))[1] else None


@cache
def declarations(part: ast.AST) -> frozenset[ast.expr]:
    """The types that functions in a piece of code declare: of arguments, of what is returned, and of local names."""
    found: set[ast.expr] = set()
    waiting = [(part, False)]
    while waiting:
        node, inside = waiting.pop()
        inside = inside or isinstance(node, ast.FunctionDef)
        types = (node.annotation if isinstance(node, ast.arg) or (inside and isinstance(node, ast.AnnAssign)) else None,
                 node.returns if isinstance(node, ast.FunctionDef) else None)
        found.update(filter(None, types))
        waiting += [(below, inside) for below in ast.iter_child_nodes(node)]
    return frozenset(found)


@cache
def local_names(part: ast.AST) -> frozenset[ast.AST]:
    """Where code names an argument or a variable of a function, which may be called as a definition of the module is.
    """
    found = set()
    waiting = [(part, frozenset[str]())]
    while waiting:
        node, around = waiting.pop()
        if isinstance(node, ast.Name):
            if node.id in around:
                found.add(node)
        elif isinstance(node, ast.FunctionDef | ast.Lambda):
            body = node.body if isinstance(node, ast.FunctionDef) else [node.body]
            outside = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            waiting += [(value, around) for value in outside]
            around = (around | set(stored(node.args, *body))) - set(of_module(*body))
            waiting += [(below, around) for below in body]
        else:
            waiting += [(below, around) for below in ast.iter_child_nodes(node)]
    return frozenset(found)


def stored(*parts: ast.AST) -> Iterator[str]:
    """The names that a function gives to its arguments and to what it assigns."""
    for node in parts:
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield from stored(*ast.iter_child_nodes(node))


def of_module(*parts: ast.AST) -> Iterator[str]:
    """The names that a function declares ``global``: those of the module, although it assigns to them."""
    return (name for part in parts for node in ast.walk(part) if isinstance(node, ast.Global) for name in node.names)


def is_protocol(node: ast.stmt) -> bool:
    """Whether a definition is a ``Protocol`` that only says what others have; one with code in its methods counts."""
    if not isinstance(node, ast.ClassDef):
        return False
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return any(getattr(base, "id", "") == "Protocol" for base in bases) and all(
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
        for method in node.body if isinstance(method, ast.FunctionDef) for line in method.body)


def reached(roots: Iterable[Name], without: frozenset[Name] = frozenset()) -> dict[Name, list[ast.AST]]:
    """The definitions that ``roots`` need, directly or not, themselves included: name -> the parts of it that count.

    All of a definition counts, but of a class without bases that is none of the ``roots`` nor the base of another only
    the methods whose names are mentioned in what is reached: nothing there calls others.

    Args:
        without: definitions and modules that are not looked at, whatever refers to them.

    Raises:
        LookupError: a root is not defined where it is said to be.
    """
    roots = set(roots)
    for module, defined in roots:
        if defined not in definitions(module):
            raise LookupError(f"a result depends on {module}.{defined}, which is not defined there; correct the name")
    whole, mentioned, known = set(roots), set[str](), 0
    while True:
        found: dict[Name, list[ast.AST]] = {}
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            node = definitions(name[0]).get(name[1])
            if node is None or is_protocol(node):
                continue
            if name not in found and not {name, (name[0], "")} & without:
                found[name] = parts(node, name in whole, mentioned)
                for part in found[name]:
                    names, attributes = used(name[0], part)
                    waiting += names
                    mentioned |= attributes
                for base in node.bases if isinstance(node, ast.ClassDef) else ():
                    whole |= used(name[0], base)[0]
        if known == (known := len(mentioned) + len(whole)):
            return dict(sorted(found.items()))


def parts(node: ast.stmt, whole: bool, mentioned: set[str]) -> list[ast.AST]:
    """The parts of a definition that count, see :func:`reached`."""
    if whole or not isinstance(node, ast.ClassDef) or node.bases:
        return [node]
    return [*node.decorator_list, *(part for part in node.body if not isinstance(part, ast.FunctionDef)
                                    or part.name in mentioned or part.name.startswith("__"))]


@cache
def code(module: str, part: ast.AST) -> str:
    """A piece of code of ``module`` without what does not count, the same text from every Python that recot runs on."""
    modules = frozenset(name for name, (_, defined) in imports(module).items() if not defined)
    local = local_names(part)
    named = (node for node in ast.walk(part) if isinstance(node, ast.Name) and node.id in modules and node not in local)
    return shape(part, declarations(part), frozenset(named) if modules else frozenset())


def shape(node: object, declared: frozenset[ast.expr] = frozenset(), modules: frozenset[ast.expr] = frozenset()) -> str:
    """The syntax of a piece of code. ``ast.dump`` prints another text in each of Python 3.11 to 3.13.

    Args:
        declared: types, which are left out. modules: names of modules of the package, which are left out.
    """
    if isinstance(node, list):
        return f"[{', '.join(shape(part, declared, modules) for part in node if not imports_package(part))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    given = {name: value for name, value in ast.iter_fields(node)
             if name not in UNSTABLE and value is not None and value != [] and not (
                 isinstance(value, ast.expr) and value in declared)}
    if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
        given["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):  # 3.12 and 3.13 end some format specifications with an empty constant
        given["values"] = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    if node in modules:
        return "module"
    fields = (f"{name}={shape(value, declared, modules)}" for name, value in given.items())
    return f"{type(node).__name__}({', '.join(fields)})"


def imports_package(node: object) -> bool:
    """Whether a statement within a function imports from recot; what it imports is followed where it is used."""
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE


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


def digest(config: dict[str, object], also: Iterable[Name] = (), without: Iterable[Name] = ()) -> str:
    """16 hexadecimal digits of the code behind what a config names and behind the definitions ``also``.

    Args:
        without: see :func:`reached`.

    Raises:
        LookupError: something that is named is not defined.
    """
    return _digest(frozenset([*targets(config), *also]), frozenset(without))


@cache
def _digest(roots: frozenset[Name], without: frozenset[Name]) -> str:
    found = reached(roots, without)
    texts = {f"{name}{[code(module, part) for part in parts]}" for (module, name), parts in found.items()}
    text = "\n".join(sorted(texts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """The commit that holds a folder of code, with ``-dirty`` where the code differs from it; None where none does.

    Results that lie in the same repository change with every run and do not count; nor does a repository around a
    package that was installed.
    """
    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(package), *words], capture_output=True, text=True, check=False)

    try:
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
        changed = git("status", "--porcelain", "--", ".").stdout.strip()
        return git("rev-parse", "--short=12", "HEAD").stdout.strip() + "-dirty" * bool(changed)
    except FileNotFoundError:  # no git
        return None
