"""The examples in docstrings show what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import recot

ROOM = Path(recot.__file__).parent
SHOWN = ["recot.evaluation.metrics", "recot.evaluation.lists", "recot.evaluation.suspicion", "recot.data.interactions",
         *(f"recot.ot.{file.stem}" for file in sorted((ROOM / "ot").glob("[!_]*.py")))]


@pytest.mark.parametrize("module", SHOWN)
def test_each_example_of_a_docstring_gives_what_stands_below_it(module):
    failed, tried = doctest.testmod(import_module(module))
    assert tried and not failed
