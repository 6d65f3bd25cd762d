"""What a table shows is what its files and records say at that moment, and a damaged one costs only its own cell."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from papers import OTHER, PAPER, ROWS, TABLE, cells, publisher, run, stale

from recot.record.ledger import read
from recot.record.lines import RunLine


@pytest.fixture
def three(tmp_path):
    """Three artifacts, two of them of one paper, all written; their folder."""
    for row in ROWS:
        run(tmp_path, row)
    program = publisher(tmp_path, TABLE, OTHER, PAPER)
    program.write_all()
    assert not program.state.refused and not any(program.state.faults.values())
    return tmp_path


@pytest.mark.parametrize(("name", "left"), [
    ("table1.csv", ["toy/table1"]), ("table1_tests.csv", ["toy/table1"]), ("runs.csv", ["toy/table1", "toy/table2"])])
def test_a_damaged_csv_costs_its_own_artifacts_and_is_left_as_it_is(three, name, left):
    file = three / "results" / "toy" / name
    file.write_bytes(file.read_bytes() + b"<<<<<<< HEAD\n")
    kept = {path: path.read_bytes() for path in file.parent.glob("*.*") if path.name.startswith("table1")} | {
        file: file.read_bytes()}
    run(three, ROWS[0], value=0.75)
    program = publisher(three, TABLE, OTHER, PAPER)
    names = {artifact.label for artifact, _, _ in program.state.reports()}
    program.write_all()
    assert sorted(program.state.refused) == left
    for reason in program.state.refused.values():
        assert f"toy/{name}, line " in reason and "mend it, or move the file away" in reason
    assert names | set(left) - (set(left) if "_tests" in name else set()) == {"toy/table1", "toy/table2", "else/table1"}
    assert {path: path.read_bytes() for path in kept} == kept
    assert cells(three, PAPER)["popularity"].mean == 0.75
    assert ("toy/table2" in left) or cells(three, OTHER)["popularity"].mean == 0.75
    assert (name == "runs.csv") or len(read(file.parent / "runs.csv", RunLine)) == 2
    file.unlink()
    program.write_all()
    assert not program.state.refused and cells(three)["popularity"].mean == 0.75


def test_the_runs_behind_a_damaged_csv_stay_in_the_list(three):
    file = three / "results" / "toy" / "table2.csv"
    file.write_bytes(file.read_bytes()[:-1])
    for record in (three / "runs").glob("*/record.json"):
        record.unlink()
    one = replace(TABLE, rows=ROWS[:1])
    publisher(three, one).write(one)
    assert len(read(file.parent / "runs.csv", RunLine)) == 2


WITHOUT = ("key", "status", "config", "test", "valid", "epochs", "split", "seconds", "model", "seed")


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"{}", b"null", b"7", b"\xff\xfe", b'{"status": "done"}', *WITHOUT, "numbers", "another key"],
    ids=str)
def test_a_damaged_record_costs_its_own_cell_and_the_number_stays(three, content):
    file = run(three, ROWS[0], value=0.75)
    before = cells(three)["popularity"]
    if isinstance(content, str):
        record = json.loads(file.read_text())
        changed = {"numbers": {"test": {"recall@20": [1]}}, "another key": {"key": "0" * 16}}.get(content)
        content = json.dumps(record | changed if changed else {
            name: value for name, value in record.items() if name != content}).encode()
    file.write_bytes(content)
    run(three, ROWS[1], value=0.875)
    program = publisher(three, TABLE, OTHER)
    assert program.state.jobs(False) == [] and len(stale(program)) == 2
    program.write_all()
    assert not program.state.refused and set(program.state.faults) == {"toy/table1", "toy/table2"}
    for [fault] in program.state.faults.values():
        assert str(file) in fault and "delete it and run the same command again" in fault
    assert cells(three)["popularity"] == before and cells(three)["bprmf"].mean == 0.875
    assert file.read_bytes() == content


def test_what_a_killed_program_left_in_the_folder_is_swept(tmp_path):
    (tmp_path / "results" / "toy").mkdir(parents=True)
    part = tmp_path / "results" / "toy" / "table1.csv.1234abcd.part"
    part.write_bytes(b"half")
    publisher(tmp_path).write(TABLE)
    assert not part.exists() and not list((tmp_path / "results").glob("**/*.part"))


def test_a_folder_that_cannot_be_written_is_named_with_the_option(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(OSError, match=r"results/toy cannot be written .*--results"):
        publisher(tmp_path).write(TABLE)
