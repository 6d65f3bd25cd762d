"""Which runs are there, which are wanted, and what other programs do meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace

from papers import COLUMN, OTHER, ROWS, TABLE, cells, publisher, run, stale

from recot.artifacts.state import named, reported
from recot.record.ledger import read
from recot.record.lines import CellLine, RunLine


def test_programs_with_different_seeds_that_write_in_turn_lose_none(tmp_path):
    programs = [publisher(tmp_path, seeds=(seed,)) for seed in range(3)]  # all started before anything was there
    for seed, program in enumerate(programs):
        run(tmp_path, seed=seed, value=0.25 * (seed + 1))
        program.write(TABLE)
    for program in (*programs, publisher(tmp_path)):
        program.write(TABLE)
        assert (cells(tmp_path)["popularity"].seeds, cells(tmp_path)["popularity"].mean) == ((0, 1, 2), 0.5)
        assert len(stale(program)) == 3


def test_what_another_program_reported_meanwhile_is_not_run_again(tmp_path):
    early = publisher(tmp_path)
    record = run(tmp_path)
    publisher(tmp_path).write(TABLE)
    record.unlink()  # as in a clone
    assert [job.config["model"]["_target_"].rpartition(".")[2] for job in early.state.jobs(False)] == ["Tables"]
    early.state.planner.missing["planted"] = {}
    assert early.state.silent() == {"planted": (1, 2)}


def test_a_run_that_was_made_again_meanwhile_is_not_said_to_be_repeated(tmp_path):
    record = run(tmp_path)
    program = publisher(tmp_path)
    program.write(TABLE)
    [line] = stale(program)
    run(tmp_path, sources="1" * 16)
    publisher(tmp_path).write(TABLE)
    program.state.confirm(line)
    [line] = read(tmp_path / "results" / "toy" / "runs.csv", RunLine)
    assert "repeated" not in json.loads(record.read_text()) and (line.sources, line.repeated) == ("1" * 16, "")
    [line] = stale(program)
    program.state.confirm(line)
    [line] = read(tmp_path / "results" / "toy" / "runs.csv", RunLine)
    assert json.loads(record.read_text())["repeated"] == line.repeated != ""


def test_a_run_is_reported_only_where_every_metric_of_its_cell_was_read_off_it():
    artifact, row, key = replace(TABLE, metrics=("recall@20", "ndcg@20")), ROWS[0], "0" * 16
    both = [CellLine("table1", row.id, COLUMN.id, metric, (0,), 0.5, keys=(key,)) for metric in artifact.metrics]
    line = RunLine(key)
    assert reported(artifact, COLUMN, row, key, both, {key: line}) is line
    assert reported(artifact, COLUMN, row, key, both[:1], {key: line}) is None
    assert reported(artifact, COLUMN, ROWS[1], key, both, {key: line}) is None


def test_a_key_is_named_by_any_csv_of_the_paper_until_one_cannot_be_read(tmp_path):
    for row in ROWS:
        run(tmp_path, row)
    publisher(tmp_path, TABLE, OTHER).write_all()
    folder = tmp_path / "results" / "toy"
    keys = {key for line in cells(tmp_path, OTHER).values() for key in line.keys}
    assert named(folder, TABLE, []) == keys and len(keys) == 2
    (folder / "table2.csv").write_text("x")
    assert named(folder, TABLE, []) is None
