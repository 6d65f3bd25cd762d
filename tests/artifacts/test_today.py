"""Which runs older code made, told without their data: the same answer as a planner gives that has them."""

from dataclasses import replace

from papers import COLUMN, ROWS, TABLE, publisher

from recot.artifacts import today
from recot.artifacts.report import Report, report
from recot.record.ledger import write
from recot.record.lines import CellLine, RunLine


def shown(*keys, sources=("s", "s")):
    """A report of the rows of the table, each of which shows a run."""
    lines = [CellLine("table1", row.id, "planted", "recall@20", (0,), 0.5, keys=(key,))
             for row, key in zip(TABLE.rows, keys, strict=True)]
    runs = {key: RunLine(key, "planted", sources=each) for key, each in zip(keys, sources, strict=True)}
    return Report(TABLE, lines, runs=runs)


def test_the_digest_is_that_of_a_planner_which_has_the_data(tmp_path):
    planner = publisher(tmp_path).state.planner
    keys = [planner.keys(TABLE, COLUMN, row, [0])[0] for row in ROWS]
    assert today.digests([shown(*keys, sources=("one", "other"))]) == {key: planner.code[key] for key in keys}


def test_of_runs_that_the_same_code_made_one_is_composed(monkeypatch):
    asked, config = [], today.Planner.config
    monkeypatch.setattr(today.Planner, "config", lambda self, words, seed: asked.append(words) or config(
        self, words, seed))
    found = today.digests([shown("0" * 16, "1" * 16)])
    assert len(asked) == 1 and len(set(found.values())) == 1 and len(found) == 2


def test_what_cannot_run_has_no_digest_and_stops_nothing(caplog):
    broken = replace(TABLE, rows=(replace(ROWS[0], overrides=("model=nothing",)), ROWS[1]))
    found = today.digests([replace(shown("0" * 16, "1" * 16, sources=("a", "b")), artifact=broken)])
    assert set(found) == {"1" * 16} and "model=nothing" in caplog.text


def test_a_report_has_the_lines_that_the_spec_still_has(tmp_path):
    lines = [CellLine("table1", row, "planted", metric) for row in ("bprmf", "gone") for metric in ("recall@20", "mrr")]
    write(tmp_path / "toy" / "table1.csv", CellLine, lines)
    assert list(report(TABLE, tmp_path).cells) == [("bprmf", "planted", "recall@20")]


def test_a_damaged_file_is_named_and_has_no_lines(tmp_path):
    write(tmp_path / "toy" / "table1.csv", CellLine, [CellLine("table1", "bprmf", "planted", "recall@20")])
    file = tmp_path / "toy" / "table1.csv"
    file.write_text(file.read_text()[:-1])
    found = report(TABLE, tmp_path)
    assert "table1.csv, line 2: the file ends in the middle of a line" in found.fault and not found.cells
