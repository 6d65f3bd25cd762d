"""Imports point down, and the heavy ones stay where they belong."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "recot"
BELOW = {  # unit -> units it may import besides itself; the order is that of the layers, lowest first
    "ot": set(), "nn": set(), "losses": {"nn"}, "files": set(), "environment": set(), "limits": set(),
    "signature": set(), "ledger": {"files"},
    "kinds": {"signature"}, "former": {"signature"}, "schema": {"kinds", "signature", "former"},
    "data": {"files", "environment"},
    "metrics": {"data"}, "training": {"schema"}, "allocator": set(),
    "networks": {"nn", "data", "limits"},
    "closed": {"data", "limits"},
    "denoise": {"ot", "nn", "data", "limits"},
    "objectives": {"losses", "nn", "ot", "data", "limits"},
    "contrast": {"nn", "data", "limits"},
    "sequential": {"objectives", "contrast", "losses", "nn", "data", "limits"},
    "evaluate": {"metrics", "data"},
    "stored": {"files"}, "learn": {"stored", "training", "evaluate", "nn", "data", "files", "schema"},
    "staged": {"evaluate", "data"}, "truth": {"evaluate", "data"},
    "cache": {"files", "former"}, "track": {"environment"}, "sources": {"signature"},
    "tuned": {"cache", "data"}, "compose": {"environment", "kinds", "schema", "signature", "tuned"},
    "command": {"compose", "schema"}, "report": {"command"},
    "outputs": {"files", "cache", "evaluate", "learn", "staged", "data"},
    "experiment": {"environment", "files", "cache", "sources", "report", "track", "outputs", "learn", "staged",
                   "evaluate", "truth", "closed", "allocator", "networks", "denoise", "data"},
    "compare": set(),
    "restore": {"environment", "kinds", "files", "former", "cache", "compose", "experiment", "learn", "staged",
                "evaluate", "schema", "signature", "data"},
    "spec": {"schema"}, "runner": {"cache", "command", "experiment"},
    "collect": {"cache", "compare", "ledger", "spec"}, "repeat": {"collect", "experiment", "ledger"},
    "estimates": {"cache", "collect", "ledger", "runner"}, "render": {"collect", "ledger", "spec"},
    "pictures": {"files", "ledger", "render", "spec"},
    "study": {"files", "ledger"}, "notes": {"ledger", "render", "spec", "study"},
    "plan": {"cache", "compose", "experiment", "ledger", "runner", "schema", "spec", "data"},
    "board": {"files", "cache", "collect", "experiment", "ledger", "notes", "pictures", "plan", "render", "runner",
              "spec"},
    "run": {"command", "schema", "compose", "experiment", "report"},
    "recommend": {"command", "files", "restore", "compose", "schema"},
    "space": {"schema", "cache"},
    "tune": {"command", "report", "files", "space", "compose", "schema", "cache", "study", "tuned",
             "experiment"},
    "tables": {"board", "cache", "command", "compose", "estimates", "ledger", "plan", "repeat", "runner", "schema",
               "spec", "tune"},
    "straight": {"data"}, "scale": {"data", "denoise"},
    "bench": {"straight", "learn", "training", "evaluate", "networks", "sequential", "objectives", "contrast",
              "denoise", "nn", "ot", "losses", "data", "allocator"},
}
ONLY_IN = {"lightning": {"learn"}, "hydra": {"command", "compose", "run", "experiment", "space", "tune"},
           "omegaconf": {"command", "compose", "run", "tune"},
           "optuna": {"space", "tune"}, "wandb": {"track"}, "ot": {"ot"},
           "pandas": {"data", "outputs", "recommend", "restore", "collect"}}


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
    assert below <= BELOW[unit(path)] | {unit(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_stay_where_they_belong(path):
    for name in imported(path):
        assert unit(path) in ONLY_IN.get(name.split(".")[0], {unit(path)}), f"{name} is imported in {unit(path)}"


def test_the_layers_have_no_cycle():
    order = list(BELOW)
    assert all(order.index(lower) < order.index(upper) for upper, lowers in BELOW.items() for lower in lowers)


def test_every_unit_has_its_place():
    assert {unit(path) for path in FILES} == set(BELOW)


def test_packages_re_export_nothing():
    assert all(path.read_text() == "" for path in ROOT.rglob("__init__.py") if path.parent != ROOT)
