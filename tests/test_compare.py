"""The command that puts finished runs side by side, and the end of a sweep."""

import json
import shutil

import pytest
from commands import TINY, command, execute, python, typed
from compared import leave

from recot import compare
from recot.record.store import Runs


@pytest.fixture
def place(tmp_path):
    """A folder of records with two runs on one split and one on another."""
    root = tmp_path / "runs"
    keys = [leave(root, 1, [0.9, 0.8, 0.4]), leave(root, 2, [0.5, 0.6, 0.1], model="ease"),
            leave(root, 3, [0.2, 0.3, 0.1], model="ease", data="csv", split="6" * 16)]
    return tmp_path, keys


def asked(place, *words, **changes):
    return command(place[0], "recot.compare", *words, **changes)


def rows(done):
    """The first column of the tables that a command has printed."""
    return rows_of(done.stdout)


def rows_of(text):
    return [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]


def test_runs_are_named_by_folder_by_record_by_key_or_by_data(place):
    folder, (first, second, other) = place
    for words in ([f"runs/{first}", f"runs/{second}/record.json"], [first, second], ["--data", "planted"],
                  [str(folder / "runs" / second), f"runs/{first}/"]):
        done = asked(place, *words)
        assert done.returncode == 0, done.stderr
        assert rows(done) == ["clrec", "ease"]
    assert rows(asked(place, "--data", "csv", "--runs", "../runs", cwd=folder / "runs")) == ["ease"]
    assert rows(asked(place, "--data", "csv", RECOT_RUNS=str(folder / "nowhere"))) == []


@pytest.mark.parametrize(("words", "message"), [
    ([], "give folders of runs, --data NAME or --last, one of them"),
    (["--data", "planted", "--last"], "not allowed with argument"),
    (["KEY0", "--last"], "one of them; folders and --last were given"),
    (["KEY0", "KEY2"], "these 2 runs did not answer the same questions: split 5555555555555555 (data=planted)"),
    (["KEY0", "0" * 15 + "9"], "there is no folder"),
    (["--data", "gowalla"], "holds no finished run of those that were asked for; python -m recot.run data=gowalla"),
    (["--data", "plantd"], "holds no run on it. Did you mean 'planted'?"),
    (["--data", "planted", "--split", "9"], "holds no finished run of the split 9"),
    (["--data", "planted", "--runs", "nowhere"], "there is no folder nowhere of records"),
    (["KEY0", "--out", "page.pdf"], "--out page.pdf is neither .md nor .csv nor .html"),
    (["KEY0", "--out", "not/there.md"], "there is no folder"),
    (["KEY0", "--metric", "recal@20"], "Did you mean 'recall@20'?")])
def test_a_wrong_request_is_refused_with_a_remedy(place, words, message):
    done = asked(place, *(word.replace("KEY0", place[1][0]).replace("KEY2", place[1][2]) for word in words))
    assert done.returncode == 2 and done.stdout.strip() == "" and message in done.stderr


def test_a_damaged_run_is_named_and_skipped_and_where_none_is_left_that_is_refused(place):
    folder, (first, second, _) = place
    file = folder / "runs" / second / "record.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 7'))
    done = asked(place, first, second)
    assert done.returncode == 0 and rows(done) == ["clrec"]
    assert f"runs/{second}/record.json is not a record" in done.stderr
    none = asked(place, second)
    assert none.returncode == 2 and "holds no finished run" in none.stderr


def test_a_split_is_chosen_by_its_first_letters_and_files_are_written_whole(place):
    folder, keys = place
    leave(folder / "runs", 4, [0.3, 0.3, 0.3], model="popularity", split="7" * 16)
    assert rows(asked(place, "--data", "planted", "--split", "7")) == ["popularity"]
    for name, begin in (("a.md", "# 2 methods"), ("a.CSV", "method,metric,"), ("a.html", "<!DOCTYPE html>")):
        done = asked(place, *keys[:2], "--out", name, "--metric", "recall@20,ndcg@20")
        assert done.returncode == 0 and done.stdout == "" and f"written to {name}" in done.stderr
        assert (folder / name).read_text(encoding="utf-8").startswith(begin)


def test_the_last_runs_are_those_of_the_last_sweep_or_else_those_beside_the_run_that_was_finished_last(place):
    folder, keys = place
    assert rows(asked(place, "--last")) == ["ease"]  # the other split was finished last
    leave(folder / "runs", 5, [0.3, 0.3, 0.3], model="popularity")
    assert rows(asked(place, "--last")) == ["clrec", "ease", "popularity"]
    file = folder / "runs" / compare.SWEEP
    file.parent.mkdir()
    file.write_text(json.dumps(keys[1:2]))
    assert rows(asked(place, "--last")) == ["ease"]
    file.write_text("[")
    done = asked(place, "--last")
    assert done.returncode == 2 and "is damaged" in done.stderr and "delete it, and name the runs" in done.stderr


def test_a_sweep_ends_with_its_finished_runs_side_by_side_for_each_split(tmp_path):
    done = typed(tmp_path, *TINY, "-m", "model=popularity,itemknn", "protocol=topk,sequence", "seed=0,1")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split(" methods on planted (split ")[1:]
    assert "ndcg@20" in first and "mrr@40" in second and "over 60 users" in first
    for part in (first, second):
        assert set(rows_of(part)) == {"popularity", "itemknn"}
        assert part.count(" -m\n") == 2 and "seed=0,1" in part
    again = command(tmp_path, "recot.compare", "--last")
    assert again.returncode == 2 and "take one split with --split" in again.stderr
    assert rows(command(tmp_path, "recot.compare", "--last", "--split", first[:8])) == rows_of(first)


def test_a_failed_job_does_not_hide_the_others_and_keeps_its_exit_code(tmp_path):
    done = typed(tmp_path, *TINY, "model=bprmf", "loss.batch_size=64", "-m", "trainer.learning_rate=1e38,0.01,0.02")
    assert done.returncode == 1
    table = done.stdout[done.stdout.index("2 methods on planted"):]
    assert set(rows_of(table)) == {"bprmf trainer.learning_rate=0.01", "bprmf trainer.learning_rate=0.02"}


def test_a_single_run_ends_without_a_comparison(tmp_path):
    done = typed(tmp_path, *TINY, "model=popularity")
    assert done.returncode == 0 and "method on" not in done.stdout and not (tmp_path / "runs" / ".sweep").exists()


def test_what_cannot_be_compared_is_no_failure_of_a_sweep(tmp_path, monkeypatch, caplog):
    from recot import run

    key = execute(tmp_path, "model=popularity")["key"]
    shutil.rmtree(tmp_path / key)
    run.side_by_side([(str(tmp_path), key)])
    monkeypatch.setattr(compare, "conclude", lambda swept: (_ for _ in ()).throw(ValueError("no luck")))
    run.side_by_side([(str(tmp_path), key)])
    assert "the jobs are done, but not compared: no luck" in caplog.text


def test_no_torch_is_imported_to_compare(place):
    program = "import sys; from recot import compare; compare.table(); print(*sys.modules, sep='\\n', file=sys.stderr)"
    done = python(place[0], "-c", program, *place[1][:2])
    assert done.returncode == 0 and rows(done) == ["clrec", "ease"]
    assert "recot.compare" in done.stderr and not {"torch", "pandas", "lightning"} & {*done.stderr.split()}


def test_values_of_real_runs_average_to_what_their_records_say(tmp_path):
    keys = [execute(tmp_path, f"model={model}")["key"] for model in ("popularity", "itemknn")]
    from recot.artifacts.comparison import compare as side_by_side
    from recot.artifacts.comparison import finished

    found = side_by_side(finished(Runs(tmp_path), keys), Runs(tmp_path))
    for method in found.methods:
        for value in method.values.values():
            assert (value.low + value.high) / 2 == pytest.approx(value.mean)
