"""The csv files of results: what is read is what was written, and what is damaged is named by its line."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recot.record.ledger import read, write
from recot.record.lines import CellLine, PairedLine, RunLine, TrialLine, TrialRun

KEYS = "0123456789abcdef", "fedcba9876543210"
LINES = {
    CellLine: [CellLine("t", row, "c", "m", (0, 1), 0.25, 0.5, verdict='failed: "a", b | d’', keys=KEYS)
               for row in ("one", "two", "three")],
    RunLine: [RunLine(f"{n:016x}", seed=0, epochs=9, seconds=1.5, command="python -m recot.run 'a, b'",
                      first_epoch={"epoch": "1", "loss": "0.30000000000000004"}) for n in range(3)],
    PairedLine: [PairedLine("t", "c", f"m{n}", "one", "two", 0.1, 9, 0.5, 1, KEYS) for n in range(3)],
    TrialLine: [TrialLine(n, TrialRun(0.5, key=f"{n:016x}"), settings={"loss.tau": "0.10"}) for n in range(3)]}
EVERY = pytest.mark.parametrize("kind", LINES, ids=lambda kind: kind.__name__)


@pytest.fixture
def file(tmp_path, kind) -> Path:
    """A file of three lines."""
    write(tmp_path / "own" / "x.csv", kind, LINES[kind])
    return tmp_path / "own" / "x.csv"


@EVERY
def test_a_csv_is_read_as_it_was_written_and_written_again_byte_for_byte(file, kind):
    before = file.read_bytes()
    assert read(file, kind) == LINES[kind] and b"\r" not in before
    write(file, kind, read(file, kind))
    assert file.read_bytes() == before and read(file.with_name("none.csv"), kind) == []
    assert [path.name for path in file.parent.iterdir()] == ["x.csv"]


NUMBERS = st.integers(-10**9, 10**9) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]))  # of one line, as the names and reasons in results are


@given(st.builds(CellLine, TEXTS, TEXTS, TEXTS, TEXTS, st.just((0, 12)), st.none() | NUMBERS, st.none() | NUMBERS,
                 st.none() | NUMBERS, st.none() | NUMBERS, TEXTS, st.just(KEYS)))
def test_a_line_of_any_values_is_the_same_line_and_the_same_text_after_reading(line):
    read_again = CellLine.parsed(line.cells())
    assert read_again == line and read_again.cells() == line.cells()


def test_a_whole_number_is_written_as_it_was_read():
    texts = {"mean": "29858", "std": "0.5", "paper": "1e-09", "delta": ""}
    line = CellLine.parsed(texts)
    assert (line.mean, line.std, line.paper, line.delta) == (29858, 0.5, 1e-9, None)
    assert {name: line.cells()[name] for name in texts} == texts


def test_a_study_has_the_columns_that_its_lines_need():
    plain, final = LINES[TrialLine][0], TrialLine(7, TrialRun(0.5, key=KEYS[0]), settings={"model.dim": "8"},
                                                  final=TrialRun(0.75, 9, 8, 1.5, "done", KEYS[1]), study="a1")
    assert TrialLine.columns([plain])[:3] == ["trial", "loss.tau", "value"]
    assert "final" not in TrialLine.columns([plain]) and "study" not in TrialLine.columns([plain])
    assert TrialLine.columns([plain, final]) == [
        "trial", "loss.tau", "model.dim", "value", "epochs", "best_epoch", "seconds", "status", "key", "metric",
        "trials", "max_epochs", "final", "final_epochs", "final_best_epoch", "final_seconds", "final_status",
        "final_key", "study"]
    assert TrialLine.parsed(final.cells()) == final


CONFLICT = [b"<<<<<<< HEAD\n", b"=======\n", b">>>>>>> other\n", b"||||||| base\n"]
DAMAGES = {
    **{f"conflict {mark[:3]!r}": (lambda lines, mark=mark: [*lines[:2], mark, *lines[2:]], 3) for mark in CONFLICT},
    "half a last line": (lambda lines: [*lines[:3], lines[3][:len(lines[3]) // 2]], 4),
    "no last line end": (lambda lines: [*lines[:3], lines[3][:-1]], 4),
    "the header twice": (lambda lines: [*lines[:2], lines[0], *lines[2:]], 3),
    "a row twice": (lambda lines: [*lines, lines[1]], 5),
    "latin-1": (lambda lines: [*lines[:2], b"\xe9" + lines[2], lines[3]], 3),
    "zeros": (lambda lines: [*lines[:3], b"\0" * 40 + b"\n"], 4),
    "a column less": (lambda lines: [*lines[:2], lines[2].partition(b",")[2], lines[3]], 3),
    "a column more": (lambda lines: [*lines[:2], lines[2][:-1] + b",1\n", lines[3]], 3),
    "an open quote": (lambda lines: [*lines[:3], b'"' + lines[3]], 4),
    "other columns": (lambda lines: [b"a,b\n", *lines[1:]], 1),
    "a column named twice": (lambda lines: [lines[0][:-1] + b",key,key\n"], 1),
    "nothing": (lambda lines: [], 1)}


@EVERY
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_its_line_and_the_remedy_and_stays(file, kind, damage):
    change, line = DAMAGES[damage]
    content = b"".join(change(file.read_bytes().splitlines(keepends=True)))
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"own/x.csv, line {line}: .*; mend it, or move the file away, and"):
        read(file, kind)
    assert file.read_bytes() == content


@pytest.mark.parametrize(("kind", "column", "values"), [
    (CellLine, "mean", ("x", "nan", "0.1.2", "1e999")), (CellLine, "std", ("-",)), (CellLine, "paper", ("?",)),
    (CellLine, "delta", ("+",)), (CellLine, "seeds", ("0 x", "0", "0 1 2", "", "-1 0")),
    (CellLine, "key", ("0123", "none", "", KEYS[0], KEYS[0].upper())),
    (RunLine, "key", ("", "k0", " ".join(KEYS))), (RunLine, "seconds", ("", "long")), (RunLine, "epochs", ("", "1.5")),
    (RunLine, "seed", ("", "x")), (RunLine, "threads", ("two",)), (RunLine, "max_epochs", ("all",)),
    (RunLine, "first_epoch", ("x", "loss", "loss=1 x", "=1", "a=1=2")), (RunLine, "best_epoch", ("last",)),
    (RunLine, "wall_seconds", ("x",)), (RunLine, "peak_memory_mb", ("x",)),
    (PairedLine, "p", ("", "x")), (PairedLine, "p_holm", ("",)), (PairedLine, "users", ("",)),
    (PairedLine, "difference", ("",)), (PairedLine, "keys", ("", "k")),
    (TrialLine, "trial", ("", "x")), (TrialLine, "key", ("", "k")), (TrialLine, "value", ("x", "inf")),
    (TrialLine, "epochs", ("x",)), (TrialLine, "best_epoch", ("x",)), (TrialLine, "seconds", ("x",)),
    (TrialLine, "max_epochs", ("x",))],
    ids=lambda value: getattr(value, "__name__", None))
def test_a_cell_that_is_not_what_its_column_holds_is_named(file, kind, column, values):
    *before, last = list(csv.DictReader(file.read_text().splitlines()))
    for value in values:
        with file.open("w") as stream:
            writer = csv.DictWriter(stream, last, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*before, last | {column: value}])
        with pytest.raises(ValueError, match=r"own/x.csv, line 4: .*(seeds|keys?|number|whole|name=value)"):
            read(file, kind)


def test_every_result_that_is_kept_is_whole_and_written_again_byte_for_byte(tmp_path):
    results = Path(__file__).parents[2] / "results"
    files = {file: RunLine if file.name == "runs.csv" else PairedLine if file.stem.endswith("_tests") else CellLine
             for file in results.glob("*/*.csv")} | dict.fromkeys(results.glob("tuning/*/*.csv"), TrialLine)
    assert len(files) > 70
    for file, kind in files.items():
        write(tmp_path / "x.csv", kind, read(file, kind))
        assert (tmp_path / "x.csv").read_bytes() == file.read_bytes(), file
        assert read(file, kind) or kind is PairedLine, file  # a table with one method so far tests nothing
