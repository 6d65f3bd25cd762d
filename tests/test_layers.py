"""Imports point down, and the heavy ones stay where they belong."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "recot"
DOORS = {"__main__", "run", "tables", "compare", "methods", "tune", "recommend", "restore", "suspects", "page"}
"""What can be typed; these may import anything."""

BELOW = {  # room -> rooms it may import besides itself; the order is that of the layers, lowest first
    "system": set(), "ot": set(),
    "data": {"system"},
    "request": {"system", "data"},
    "batches": {"data"},
    "nn": {"data", "batches"},
    "networks": {"nn", "data", "batches", "request"},
    "denoise": {"nn", "ot", "data", "batches", "request"},
    "objectives": {"nn", "ot", "data", "batches", "request"},
    "evaluation": {"data"},
    "closed": {"data", "nn", "request", "evaluation"},
    "fit": {"system", "request", "data", "nn", "evaluation"},
    "record": {"system", "request", "data", "nn", "networks", "closed", "denoise", "evaluation", "fit"},
    "tuning": {"system", "request", "record"},
    "artifacts": {"system", "request", "data", "evaluation", "record"},
    "pages": {"system", "request", "data", "ot", "record", "tuning", "artifacts"},
    "bench": {"system", "data", "batches", "nn", "ot", "networks", "closed", "denoise", "objectives", "evaluation",
              "fit"},
}
ONLY_IN = {"lightning": {"fit"}, "hydra": {"request", "run", "record", "tuning"},
           "omegaconf": {"request", "run", "tuning"}, "numba": {"fit"}, "llvmlite": {"fit"},
           "optuna": {"tuning"}, "submitit": {"artifacts"}, "wandb": {"record"}, "ot": {"ot"}, "matplotlib": {"pages"},
           "jinja2": {"pages"},
           "pandas": {"data", "record", "artifacts", "recommend", "restore", "suspects"}}


def unit(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "recot" else [node.module]
            yield from names


FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    below = {name.split(".")[1] for name in imported(path) if name.startswith("recot.")}
    assert unit(path) in DOORS or below <= BELOW[unit(path)] | {unit(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_stay_where_they_belong(path):
    for name in imported(path):
        assert unit(path) in ONLY_IN.get(name.split(".")[0], {unit(path)}), f"{name} is imported in {unit(path)}"


def test_the_layers_have_no_cycle():
    order = list(BELOW)
    assert all(order.index(lower) < order.index(upper) for upper, lowers in BELOW.items() for lower in lowers)


def test_every_unit_has_its_place():
    assert {unit(path) for path in FILES} == {*BELOW, *DOORS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_methods_know_nothing_of_a_request_but_its_limits(path):
    if unit(path) in ("networks", "closed", "denoise", "objectives"):
        asked = {name for name in imported(path) if name.startswith("recot.request")}
        assert asked <= {"recot.request.limits"}


def test_the_top_level_is_what_can_be_typed():
    assert {path.stem for path in ROOT.glob("*.py")} == {"__init__", *DOORS}


def test_packages_re_export_nothing():
    assert all(path.read_text() == "" for path in ROOT.rglob("__init__.py") if path.parent != ROOT)
