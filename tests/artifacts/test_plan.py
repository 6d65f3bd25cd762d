"""A cell is a command: what the planner makes of it is what the command makes of it."""

import pytest

from recot.artifacts.load import load
from recot.artifacts.plan import Planner, Request
from recot.request.compose import composed
from recot.request.keys import key


def cell(paper, name, data, row):
    artifact = next(artifact for artifact in load(paper) if artifact.name == name)
    column = next(column for column in artifact.columns if column.data == data)
    return artifact, column, next(found for found in artifact.rows if found.id == row)


@pytest.mark.parametrize(("paper", "table", "data", "row"), [
    ("prorec", "table2", "amusic", "nce_prorec"), ("prorec", "table2", "amusic", "wrmf"),
    ("sclrec", "table2", "ml1m", "sclrec")])
@pytest.mark.parametrize("order", [(0, 3, 1), (3, 1, 0)])
def test_a_run_of_any_seed_has_the_key_of_its_command(tmp_path, paper, table, data, row, order):
    artifact, column, wanted = cell(paper, table, data, row)
    planner = Planner(Request([artifact], results=tmp_path))
    planner.digest = lambda name, data: "d"
    keys = planner.keys(artifact, column, wanted, order)
    for seed in order:
        job = planner.job(column, wanted, seed, keys[seed])
        typed, _ = composed(*job.command.split()[3:])
        assert keys[seed] == key(typed, "d") and job.config == typed
    assert len(set(keys.values())) == 3


def test_the_split_of_prorec_follows_the_seed():
    artifact, column, row = cell("prorec", "table2", "amusic", "nce")
    planner = Planner(Request([artifact]))
    splits = [planner.config((*column.overrides, *row.overrides), seed)[0]["protocol"]["split"] for seed in (0, 1, 2)]
    assert [split["split_seed"] for split in splits] == [0, 1, 2]
