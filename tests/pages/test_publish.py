"""What a table shows is what its files and records say at that moment, and a damaged one costs only its own cell."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from recot.artifacts.plan import Request
from recot.artifacts.spec import Artifact, Column, Row
from recot.pages.publish import Board
from recot.record import ledger
from recot.record.store import Runs

COLUMN = Column("planted", "planted", "Planted", ("data=planted",))
ROWS = tuple(Row(id_, id_, (f"model={id_}",), False) for id_ in ("popularity", "bprmf"))
TABLE = Artifact("toy", "table1", "results", "One", "", ROWS, (COLUMN,), ("recall@20",), (0,), tests=True)
OTHER = replace(TABLE, name="table2", title="Two")
COMPOSED = {}, {}, {}  # what the planners of all programs have composed: always the same
PAPER = replace(TABLE, paper="else", title="Of another paper")


def board(folder, *artifacts, seeds=()):
    """What a program that has just started knows of the artifacts."""
    found = Board(Request(list(artifacts or (TABLE,)), seeds=seeds, results=folder / "results"), Runs(folder / "runs"))
    found.planner.layers, found.planner.configs, found.planner.code = COMPOSED
    return found


def run(folder, row=ROWS[0], seed=0, value=0.5, **changes):
    """Leaves the record of a run as if it had been made; returns its file."""
    key = board(folder).planner.keys(TABLE, COLUMN, row, [seed])[seed]
    return Runs(folder / "runs").put(key, {
        "key": key, "status": "done", "data": "planted", "model": row.id, "loss": "none", "denoiser": "none",
        "noise": "none", "seed": seed, "command": "c", "config": {}, "valid": {}, "test": {"recall@20": value},
        "split": "s", "epochs": 0, "seconds": 1.0, "device": "cpu", "threads": 1, "sources": "0" * 16, "commit": "c",
        **changes})


def stale(program):
    """What the list of runs says of those behind a number that other code than today's made."""
    return [run.line for run in program.behind() if run.outdated]


def cells(folder, artifact=TABLE):
    file = folder / "results" / artifact.paper / f"{artifact.name}.csv"
    return {line["row"]: line for line in ledger.read(file, ledger.HEADER)}


def test_programs_with_different_seeds_that_write_in_turn_lose_none(tmp_path):
    programs = [board(tmp_path, seeds=(seed,)) for seed in range(3)]  # all started before anything was there
    for seed, program in enumerate(programs):
        run(tmp_path, seed=seed, value=0.25 * (seed + 1))
        program.write(TABLE)
    for program in (*programs, board(tmp_path)):
        program.write(TABLE)
        assert (cells(tmp_path)["popularity"]["seeds"], cells(tmp_path)["popularity"]["mean"]) == ("0 1 2", "0.5")
        assert len(stale(program)) == 3


def test_what_another_program_reported_meanwhile_is_not_run_again(tmp_path):
    early = board(tmp_path)
    record = run(tmp_path)
    board(tmp_path).write(TABLE)
    record.unlink()  # as in a clone
    assert [job.config["model"]["_target_"].rpartition(".")[2] for job in early.jobs(False)] == ["Tables"]
    early.planner.missing["planted"] = {}
    assert early.silent() == {"planted": (1, 2)}


def test_a_run_that_was_made_again_meanwhile_is_not_said_to_be_repeated(tmp_path):
    record = run(tmp_path)
    program = board(tmp_path)
    program.write(TABLE)
    [line] = stale(program)
    run(tmp_path, sources="1" * 16)
    board(tmp_path).write(TABLE)
    program.confirm(line)
    [told] = ledger.read(tmp_path / "results" / "toy" / "runs.csv", ledger.RUN_HEADER)
    assert "repeated" not in json.loads(record.read_text()) and (told["sources"], told["repeated"]) == ("1" * 16, "")
    [line] = stale(program)
    program.confirm(line)
    [told] = ledger.read(tmp_path / "results" / "toy" / "runs.csv", ledger.RUN_HEADER)
    assert json.loads(record.read_text())["repeated"] == told["repeated"] != ""


@pytest.fixture
def three(tmp_path):
    """Three artifacts, two of them of one paper, all written; their folder."""
    for row in ROWS:
        run(tmp_path, row)
    program = board(tmp_path, TABLE, OTHER, PAPER)
    program.write_all()
    assert not program.refused and not any(program.faults.values())
    return tmp_path


@pytest.mark.parametrize(("name", "left"), [
    ("table1.csv", ["toy/table1"]), ("table1_tests.csv", ["toy/table1"]), ("runs.csv", ["toy/table1", "toy/table2"])])
def test_a_damaged_csv_costs_its_own_artifacts_and_is_left_as_it_is(three, name, left):
    file = three / "results" / "toy" / name
    file.write_bytes(file.read_bytes() + b"<<<<<<< HEAD\n")
    kept = {path: path.read_bytes() for path in file.parent.glob("*.*") if path.name.startswith("table1")} | {
        file: file.read_bytes()}
    run(three, ROWS[0], value=0.75)
    program = board(three, TABLE, OTHER, PAPER)
    names = {artifact.label for artifact, _, _ in program.told()}
    program.write_all()
    assert sorted(program.refused) == left and all(f"toy/{name}, line " in reason and "mend it, or move the file away"
                                                   in reason for reason in program.refused.values())
    assert names | set(left) - (set(left) if "_tests" in name else set()) == {"toy/table1", "toy/table2", "else/table1"}
    assert {path: path.read_bytes() for path in kept} == kept
    assert cells(three, PAPER)["popularity"]["mean"] == "0.75"
    assert ("toy/table2" in left) or cells(three, OTHER)["popularity"]["mean"] == "0.75"
    assert (name == "runs.csv") or len(ledger.read(file.parent / "runs.csv", ledger.RUN_HEADER)) == 2
    file.unlink()
    program.write_all()
    assert not program.refused and cells(three)["popularity"]["mean"] == "0.75"


def test_the_runs_behind_a_damaged_csv_stay_in_the_list(three):
    file = three / "results" / "toy" / "table2.csv"
    file.write_bytes(file.read_bytes()[:-1])
    for record in (three / "runs").glob("*/record.json"):
        record.unlink()
    one = replace(TABLE, rows=ROWS[:1])
    board(three, one).write(one)
    assert len(ledger.read(file.parent / "runs.csv", ledger.RUN_HEADER)) == 2


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
    program = board(three, TABLE, OTHER)
    assert program.jobs(False) == [] and len(stale(program)) == 2
    program.write_all()
    assert not program.refused and set(program.faults) == {"toy/table1", "toy/table2"}
    for [fault] in program.faults.values():
        assert str(file) in fault and "delete it and run the same command again" in fault
    assert cells(three)["popularity"] == before and cells(three)["bprmf"]["mean"] == "0.875"
    assert file.read_bytes() == content


def test_what_a_killed_program_left_in_the_folder_is_swept(tmp_path):
    (tmp_path / "results" / "toy").mkdir(parents=True)
    part = tmp_path / "results" / "toy" / "table1.csv.1234abcd.part"
    part.write_bytes(b"half")
    board(tmp_path).write(TABLE)
    assert not part.exists() and not list((tmp_path / "results").glob("**/*.part"))


def test_a_folder_that_cannot_be_written_is_named_with_the_option(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(OSError, match=r"results/toy cannot be written .*--results"):
        board(tmp_path).write(TABLE)
