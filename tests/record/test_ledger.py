"""The csv files of results: what is read is what was written, and what is damaged is named by its line."""

from pathlib import Path

import pytest

from recot.record.ledger import HEADER, RUN_HEADER, TEST_HEADER, TRIAL_HEADER, read, write

KEYS = "0123456789abcdef fedcba9876543210"
ROWS = {
    HEADER: [dict.fromkeys(HEADER, "") | {"table": "t", "row": row, "column": "c", "metric": "m", "seeds": "0 1",
                                          "mean": "0.25", "std": "0.5", "verdict": 'failed: "a", b | d’', "key": KEYS}
             for row in ("one", "two", "three")],
    RUN_HEADER: [dict.fromkeys(RUN_HEADER, "") | {"key": f"{n:016x}", "seed": "0", "epochs": "9", "seconds": "1.5",
                                                  "command": "python -m recot.run 'a, b'"} for n in range(3)],
    TEST_HEADER: [dict.fromkeys(TEST_HEADER, "") | {"table": "t", "column": "c", "metric": f"m{n}", "difference": "0.1",
                                                    "users": "9", "p": "0.5", "p_holm": "1", "keys": KEYS}
                  for n in range(3)],
    TRIAL_HEADER: [dict.fromkeys(TRIAL_HEADER, "") | {"trial": str(n), "key": f"{n:016x}", "value": "0.5"}
                   for n in range(3)]}
NAMES = {HEADER: "cells", RUN_HEADER: "runs", TEST_HEADER: "tests", TRIAL_HEADER: "trials"}
EVERY = pytest.mark.parametrize("header", ROWS, ids=NAMES.get)


@pytest.fixture
def file(tmp_path, header) -> Path:
    """A file of three rows."""
    write(tmp_path / "own" / "x.csv", header, ROWS[header])
    return tmp_path / "own" / "x.csv"


@EVERY
def test_a_csv_is_read_as_it_was_written_and_written_again_byte_for_byte(file, header):
    before = file.read_bytes()
    assert read(file, header) == ROWS[header] and b"\r" not in before
    write(file, header, read(file, header))
    assert file.read_bytes() == before and read(file.with_name("none.csv"), header) == []
    assert [path.name for path in file.parent.iterdir()] == ["x.csv"]


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
def test_a_damaged_file_is_named_with_its_line_and_the_remedy_and_stays(file, header, damage):
    change, line = DAMAGES[damage]
    content = b"".join(change(file.read_bytes().splitlines(keepends=True)))
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"own/x.csv, line {line}: .*; mend it, or move the file away, and"):
        read(file, header)
    assert file.read_bytes() == content


@pytest.mark.parametrize(("header", "column", "values"), [
    (HEADER, "mean", ("x", "nan", "0.1.2", "1e999")), (HEADER, "std", ("-",)), (HEADER, "paper", ("?",)),
    (HEADER, "delta", ("+",)), (HEADER, "seeds", ("0 x", "0", "0 1 2", "", "-1 0")),
    (HEADER, "key", ("0123", "none", "", KEYS[:16], KEYS.upper())),
    (RUN_HEADER, "key", ("", "k0", KEYS)), (RUN_HEADER, "seconds", ("", "long")), (RUN_HEADER, "epochs", ("", "1.5")),
    (RUN_HEADER, "seed", ("", "x")), (RUN_HEADER, "threads", ("two",)), (RUN_HEADER, "max_epochs", ("all",)),
    (RUN_HEADER, "best_epoch", ("last",)), (RUN_HEADER, "wall_seconds", ("x",)), (RUN_HEADER, "peak_memory_mb", ("x",)),
    (TEST_HEADER, "p", ("", "x")), (TEST_HEADER, "p_holm", ("",)), (TEST_HEADER, "users", ("",)),
    (TEST_HEADER, "difference", ("",)), (TEST_HEADER, "keys", ("", "k")),
    (TRIAL_HEADER, "trial", ("", "x")), (TRIAL_HEADER, "key", ("", "k")), (TRIAL_HEADER, "value", ("x", "inf")),
    (TRIAL_HEADER, "epochs", ("x",)), (TRIAL_HEADER, "best_epoch", ("x",)), (TRIAL_HEADER, "seconds", ("x",)),
    (TRIAL_HEADER, "max_epochs", ("x",))],
    ids=lambda value: NAMES.get(value, "") if isinstance(value, tuple) else value)
def test_a_cell_that_is_not_what_its_column_holds_is_named(file, header, column, values):
    for value in values:
        write(file, header, [*ROWS[header][:2], ROWS[header][2] | {column: value}])
        with pytest.raises(ValueError, match=r"own/x.csv, line 4: .*(seeds|keys?|number|whole)"):
            read(file, header)


def test_every_result_that_is_kept_is_whole():
    results = Path(__file__).parents[2] / "results"
    files = {file: RUN_HEADER if file.name == "runs.csv" else TEST_HEADER if file.stem.endswith("_tests") else HEADER
             for file in results.glob("*/*.csv")} | dict.fromkeys(results.glob("tuning/*/*.csv"), TRIAL_HEADER)
    assert len(files) > 70 and all(read(file, header) for file, header in files.items())
