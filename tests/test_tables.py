"""The command that regenerates tables: what it starts, what it survives, what it writes."""

import csv
import json
import os
import re
import shutil
import signal
import textwrap
from dataclasses import replace

import pytest
from commands import Started, command, edit, python
from processes import alive, child_processes, wait_for

from recot.record.ledger import read, write
from recot.record.lines import RunLine

SPEC = """
    title: A toy paper
    seeds: [0]
    data: {planted: Planted}
    artifacts:
      table1:
        kind: statistics
        title: Statistics
        data: [planted]
        metrics: [users, items, interactions, avg_interactions_per_user, density]
      table2:
        kind: results
        title: Methods & more
        data: [planted]
        metrics: [recall@20, ndcg@20]
        base: >-
          data.n_users=60 data.mean_activity=8 trainer=smoke trainer.max_epochs=EPOCHS trainer.patience=100
          trainer.checkpoint_seconds=0
        printed: model
        tests: true
        rows:
          popularity: {name: Popularity, run: model=popularity}
          bprmf: {name: BPRMF, run: model=bprmf}
          clrec: {name: CLRec, run: model=clrec}
"""
PRINTED = """
    paper,artifact,kind,dataset,model,variant,metric,k,value,std,note
    toy,table2,result,planted,bprmf,,recall,20,0.5,,
    toy,table2,result,planted,clrec,,recall,20,0.5,,
"""


def spec(folder, epochs=2, **changes):
    """Writes the toy paper; returns the variable that makes it the only one."""
    text = textwrap.dedent(SPEC).replace("EPOCHS", str(epochs))
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "experiments" / "papers").mkdir(parents=True, exist_ok=True)
    (folder / "experiments" / "toy.yaml").write_text(text)
    (folder / "experiments" / "papers" / "toy.csv").write_text(textwrap.dedent(PRINTED).lstrip())
    return {"RECOT_EXPERIMENTS": str(folder / "experiments")}


def tables(folder, *words, **variables):
    return command(folder, "recot.tables", *words, **variables)


def cells(folder, name="table2"):
    with (folder / "results" / "toy" / f"{name}.csv").open(newline="") as stream:
        return {(line["row"], line["metric"]): line for line in csv.DictReader(stream)}


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "results" / "toy").iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the toy paper was run once, and the process that did."""
    folder = tmp_path_factory.mktemp("finished")
    variables = spec(folder)
    return folder, variables, python(folder, "-m", "recot.tables", **variables)


def test_every_artifact_is_run_and_written_beside_the_printed_numbers(finished):
    folder, _, done = finished
    assert done.returncode == 0, done.stderr
    assert set(files(folder)) == {"runs.csv", "table1.csv", "table1.md", "table1.tex", "table2.csv", "table2.md",
                                  "table2.tex", "table2_tests.csv"}
    found = cells(folder)
    for (row, metric), line in found.items():
        record = json.loads((folder / "runs" / line["key"] / "record.json").read_text())
        assert float(line["mean"]) == pytest.approx(record["test"][metric], rel=1e-5) and record["model"] == row
    assert found["bprmf", "recall@20"]["paper"] == "0.5" and found["bprmf", "ndcg@20"]["paper"] == ""
    assert float(cells(folder, "table1")["statistics", "users"]["mean"]) == 400
    page = (folder / "results" / "toy" / "table2.md").read_text()
    assert "PAPER=toy TABLE=table2" in page and "3 runs" in page and "Seeds: 0" in page


def test_row_25_a_second_time_nothing_is_run_and_every_byte_is_the_same(finished):
    folder, variables, _ = finished
    before = files(folder)
    again = tables(folder, **variables)
    assert again.returncode == 0 and "[1/" not in again.stderr and files(folder) == before


def test_list_and_dry_run_start_nothing(finished, tmp_path):
    folder, variables, _ = finished
    assert "done" in tables(folder, "--list", **variables).stdout
    assert "0 runs" in tables(folder, "--dry-run", **variables).stdout
    variables = spec(tmp_path)
    listed, planned = tables(tmp_path, "--list", **variables), tables(tmp_path, "--dry-run", **variables)
    assert [line.split()[:4] for line in listed.stdout.splitlines()] == [["toy", name, "not", "run"]
                                                                          for name in ("table1", "table2")]
    assert planned.stdout.count("python -m recot.run") == 3 and "3 unknown" not in planned.stdout
    assert "3 of unknown length" in planned.stdout
    assert not (tmp_path / "runs").exists() and not (tmp_path / "results").exists()


def test_what_cannot_be_listed_or_verified_without_its_data_is_said(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("user,item\n" + "".join(f"{user},{item}\n" for user in range(9) for item in range(user, user + 6)))
    variables = spec(tmp_path, epochs=1, planted="csv", **{"data.n_users=60 data.mean_activity=8": f"data.path={file}"})

    def table2(*words):
        return tables(tmp_path, "--table", "table2", *words, **variables)

    assert table2("--row", "bprmf,popularity").returncode == 0
    assert "1 runs" in table2("--dry-run").stdout
    file.unlink()
    planned = table2("--dry-run")
    assert planned.returncode == 0 and planned.stdout.startswith("0 runs")
    assert "not listed: csv, 1 of 3 cells without a number; its files are not here" in planned.stdout
    assert "where to get them" in planned.stdout
    asked = table2("--verify")
    assert asked.returncode == 1 and "nothing to verify" not in asked.stderr
    assert "cannot be told: 2 cells of csv, whose files were not read" in asked.stderr
    assert "not listed: csv, 1 of 3" in table2("--verify", "--dry-run").stdout


def test_what_a_run_would_download_is_no_data_that_cannot_be_had(tmp_path):
    variables = spec(tmp_path, planted="ml1m", **{"data.n_users=60 data.mean_activity=8 ": ""})
    listed = tables(tmp_path, "--list", **variables).stdout.splitlines()
    assert "not run" in listed[1] and "3 to download" in listed[1] and "without data" not in listed[1]
    planned = tables(tmp_path, "--dry-run", **variables).stdout
    assert "not listed: ml1m, 3 of 3 cells without a number" in planned and "a run downloads them first" in planned
    variables = spec(tmp_path, planted="tmallbuy", **{"data.n_users=60 data.mean_activity=8 ": ""})
    assert "3 without data" in tables(tmp_path, "--list", **variables).stdout.splitlines()[1]
    assert "recot.run data=tmallbuy` says where" in tables(tmp_path, "--dry-run", **variables).stdout


@pytest.mark.parametrize("flags", [("--list",), ("--dry-run",), ("--verify", "--dry-run"),
                                   ("--tune", "--dry-run", "--paper", "toy", "--data", "planted")])
def test_a_sub_command_is_a_word_or_a_flag(tmp_path, flags):
    variables = spec(tmp_path, **{"artifacts:": "tuning:\n  trials: 2\n  epochs: 1\n  rows:\n"
                                  "    clrec: model=clrec loss.tau=0.1,0.2\nartifacts:"})
    by_flag, by_word = (tables(tmp_path, *words, **variables) for words in (flags, (flags[0][2:], *flags[1:])))
    assert by_flag.returncode == 0 and by_flag.stdout and by_flag.stdout == by_word.stdout


def test_list_does_not_pay_for_torch(tmp_path):
    program = "import sys; from recot import tables\ntry:\n tables.main()\nfinally:\n print('torch' in sys.modules)"
    assert python(tmp_path, "-c", program, "--list").stdout.splitlines()[-1] == "False"


def test_more_seeds_join_the_cell_and_stay_in_it(tmp_path):
    variables = spec(tmp_path)
    assert tables(tmp_path, "--row", "bprmf", "--seeds", "0,3", **variables).returncode == 0
    assert cells(tmp_path)["bprmf", "recall@20"]["seeds"] == "0 3" and cells(tmp_path)["bprmf", "recall@20"]["std"]
    assert cells(tmp_path)["clrec", "recall@20"]["verdict"] == "not run yet"
    assert tables(tmp_path, **variables).returncode == 0
    assert [cells(tmp_path)[row, "recall@20"]["seeds"] for row in ("bprmf", "clrec")] == ["0 3", "0"]


def test_what_older_code_made_is_verified_by_its_first_epoch_and_loses_its_dagger(tmp_path):
    variables = spec(tmp_path)
    assert tables(tmp_path, **variables).returncode == 0

    def change(row, **values):
        edit(tmp_path / "runs", cells(tmp_path)[row, "recall@20"]["key"], **values)

    def page():
        return (tmp_path / "results" / "toy" / "table2.md").read_text()

    for row in ("popularity", "bprmf", "clrec"):
        change(row, sources="0" * 16)
    change("popularity", digest="1" * 16)
    assert tables(tmp_path, "--render", **variables).returncode == 0
    assert page().count("†") == 2 * 3 + 1 and "VERIFY=1" in page()
    planned = tables(tmp_path, "--verify", "--dry-run", **variables)
    assert planned.returncode == 0 and planned.stdout.count("python -m recot.run data=planted") == 3
    assert "3 runs of which the first epoch would be repeated" in planned.stdout and page().count("†") == 2 * 3 + 1
    verified = tables(tmp_path, "--verify", **variables)
    assert verified.returncode == 1 and verified.stderr.count("the same: ") == 2
    assert "departs: python -m recot.run data=planted" in verified.stderr
    assert "the answers are others" in verified.stderr
    assert [line.split() for line in verified.stdout.splitlines()[1:]] == [
        ["toy/table2", "0", "2", "1", "0"], ["in", "all", "0", "2", "1", "0"]]
    assert page().count("†") == 2 + 1 and "2 runs were made by code that has changed since" in page()
    again = tables(tmp_path, "--verify", **variables)
    assert "the same" not in again.stderr and again.stdout.splitlines()[-1].split()[2:] == ["2", "0", "1", "0"]


def test_a_clone_without_records_repeats_nothing_that_it_reports(tmp_path):
    variables = spec(tmp_path)
    assert tables(tmp_path, "--row", "bprmf,clrec", **variables).returncode == 0
    shutil.rmtree(tmp_path / "runs")

    def planned(*words):
        return [line.split("model=")[1] for line in tables(
            tmp_path, "--dry-run", *words, **variables).stdout.splitlines() if "model=" in line]

    assert planned() == ["popularity"]
    assert sorted(planned("--results", "mine")) == ["bprmf", "clrec", "popularity"]
    file = tmp_path / "results" / "toy" / "runs.csv"
    write(file, RunLine, [replace(line, sources="0" * 16) if line.model == "bprmf" else line
                          for line in read(file, RunLine)])
    assert sorted(planned("--fresh")) == ["bprmf", "popularity"]
    before = (tmp_path / "results" / "toy" / "table2.csv").read_text()
    assert tables(tmp_path, "--row", "popularity", **variables).returncode == 0
    after = (tmp_path / "results" / "toy" / "table2.csv").read_text()
    assert [line for line in after.splitlines() if ",popularity," not in line] == [
        line for line in before.splitlines() if ",popularity," not in line]


def test_a_clone_without_records_is_verified_by_its_list_of_runs(tmp_path):
    variables = spec(tmp_path)
    assert tables(tmp_path, **variables).returncode == 0
    shutil.rmtree(tmp_path / "runs")
    file = tmp_path / "results" / "toy" / "runs.csv"

    def change(**values):
        write(file, RunLine, [replace(line, sources="0" * 16, **values) for line in read(file, RunLine)])

    change()
    verified = tables(tmp_path, "--verify", "--jobs", "2", "--row", "bprmf,popularity", **variables)
    assert verified.returncode == 0 and verified.stderr.count("the same: ") == 2
    assert [bool(line.repeated) for line in read(file, RunLine)] == [True, False, True]
    assert (tmp_path / "results" / "toy" / "table2.md").read_text().count("†") == 2 + 1  # CLRec's cells, and the note
    change(first_epoch={}, digest="", repeated="")
    untold = tables(tmp_path, "--verify", **variables)
    assert untold.returncode == 1 and untold.stderr.count("cannot be told: ") == 3
    assert untold.stdout.endswith("cannot be told of 2: its first epoch was not kept\n"
                                  "cannot be told of 1: the digest of its answers was not kept\n")
    page = (tmp_path / "results" / "toy" / "table2.md").read_text()
    assert "FRESH=1 runs them again." in page.replace("`", "") and "VERIFY" not in page


def test_row_19_killed_in_the_middle_it_goes_on_and_repeats_nothing(tmp_path):
    """SIGKILL while the second of three runs trains; the numbers are those of an undisturbed run."""
    variables = spec(tmp_path, 60)
    process = Started(tmp_path, "recot.tables", **variables)

    def second_under_way():
        begun = [path.parent for path in (tmp_path / "runs").glob("*/epochs.csv") if path.read_text().count("\n") > 5]
        return [folder / "last.ckpt" for folder in begun if not (folder / "record.json").exists()]

    [checkpoint] = wait_for(second_under_way)
    children = child_processes(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.finished()
    wait_for(lambda: not any(alive(child) for child in children))
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/record.json")}
    assert len(records) == 1 and checkpoint.exists()
    interrupted = (checkpoint.parent / "epochs.csv").read_text().splitlines()

    again = tables(tmp_path, **variables)
    assert again.returncode == 0 and "[2/2]" in again.stderr and "[3/" not in again.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in records.items())
    history = (checkpoint.parent / "epochs.csv").read_text().splitlines()
    assert len(history) == 61 and history[: len(interrupted) - 1] == interrupted[:-1]

    other = tmp_path / "undisturbed"
    other.mkdir()
    assert tables(other, **spec(other, 60)).returncode == 0
    assert cells(tmp_path) == cells(other)


def test_row_20_a_failing_row_says_so_and_only_it_is_tried_again(tmp_path):
    variables = spec(tmp_path, **{"run: model=bprmf": "run: model=bprmf trainer.learning_rate=1e39"})
    first = tables(tmp_path, **variables)
    assert first.returncode == 1 and "failed: python -m recot.run" in first.stderr and "Diverged" in first.stderr
    assert cells(tmp_path)["bprmf", "recall@20"]["verdict"].startswith("diverged: Diverged: ")
    assert cells(tmp_path)["clrec", "recall@20"]["mean"]
    assert "diverged" in (tmp_path / "results" / "toy" / "table2.md").read_text()
    [failed] = [path for path in (tmp_path / "runs").glob("*/record.json")
                if json.loads(path.read_text())["status"] == "diverged"]
    edit(tmp_path / "runs", failed.parent.name, status="failed")
    second = tables(tmp_path, **variables)
    assert second.returncode == 1 and "[1/1]" in second.stderr and "trainer.learning_rate=1e39" in second.stderr


def test_row_21_two_runners_of_one_list_share_the_work(tmp_path):
    variables = spec(tmp_path, 20)
    runners = [Started(tmp_path, "recot.tables", **variables) for _ in range(2)]
    ended = [runner.finished() for runner in runners]
    assert [runner.returncode for runner in ended] == [0, 0], ended
    started = [line for runner in ended for line in runner.stderr.splitlines()
               if "python -m recot.run" in line and "[" in line]
    assert len(set(line.split("] ")[1] for line in started)) == 3
    assert len(list((tmp_path / "runs").glob("*/record.json"))) == 3
    assert all(line["mean"] for line in cells(tmp_path).values())


def test_a_clone_without_the_runs_keeps_the_numbers_it_was_given(finished, tmp_path):
    folder, _, _ = finished
    variables = spec(tmp_path)
    (tmp_path / "results" / "toy").mkdir(parents=True)
    for name, content in files(folder).items():
        (tmp_path / "results" / "toy" / name).write_bytes(content)
    assert tables(tmp_path, "--render", **variables).returncode == 0
    assert files(tmp_path) == files(folder)
    spec(tmp_path, 3)  # other questions: the old answers do not fit
    assert tables(tmp_path, "--render", **variables).returncode == 0
    assert cells(tmp_path)["bprmf", "recall@20"]["mean"] == ""


def test_row_25_runs_by_other_code_are_marked_and_fresh_runs_them_again(finished, tmp_path):
    folder, _, _ = finished
    variables = spec(tmp_path)
    assert tables(tmp_path, **variables).returncode == 0
    edit(tmp_path / "runs", cells(tmp_path)["bprmf", "recall@20"]["key"], sources="other", commit="0123456789ab")
    assert tables(tmp_path, "--render", **variables).returncode == 0
    page = (tmp_path / "results" / "toy" / "table2.md").read_text()
    assert page.count("†") == 3 and "commits 0123456789ab" in page  # two metrics and the note
    assert "0 runs" in tables(tmp_path, "--dry-run", **variables).stdout
    fresh = tables(tmp_path, "--fresh", **variables)
    assert fresh.returncode == 0 and "[1/1]" in fresh.stderr and "model=bprmf" in fresh.stderr
    assert "†" not in (tmp_path / "results" / "toy" / "table2.md").read_text()


def test_runs_of_different_splits_leave_their_table_as_it_was_until_they_are_made_again(tmp_path):
    variables = spec(tmp_path)
    assert tables(tmp_path, **variables).returncode == 0
    before = files(tmp_path)
    edit(tmp_path / "runs", cells(tmp_path)["bprmf", "recall@20"]["key"], sources="other", split="0" * 16)
    refused = tables(tmp_path, "--render", **variables)
    assert refused.returncode == 1 and "toy/table2 is left as it was: " in refused.stderr
    assert "were run on different splits" in refused.stderr and "Traceback" not in refused.stderr
    assert files(tmp_path) == before
    assert tables(tmp_path, "--fresh", **variables).returncode == 0
    assert tables(tmp_path, "--render", **variables).returncode == 0


@pytest.mark.parametrize(("words", "message"), [
    (["--paper", "tow"], "refused: no paper is called 'tow'. Did you mean 'toy'?"),
    (["--table", "table9"], "refused: 'table9' is in none of these artifacts. Did you mean 'table2'?"),
    (["--row", "clrek"], "refused: 'clrek' is in none of these artifacts. Did you mean 'clrec'?"),
    (["--seeds", "one"], "refused: seeds are whole numbers, got one; give them like 0,1,2"),
    (["--profile", "smok"], "refused: no profile is called 'smok'. Known: ."),
    (["--tune", "--paper", "toy"], "refused: tune needs the data sets to tune on; give them like --data gowalla,ml1m"),
    (["--tune", "--data", "planted"], "refused: tune takes one paper, got 0; give it like --paper sclrec"),
    (["tune", "--paper", "toy", "--data", "planted", "--budget", "1h"],
     "refused: tune takes no --budget; it takes --paper, --data, --row, --dry-run, --launcher, --slurm, --results"),
    (["--slurm", "partition=gpu"],
     "refused: --slurm partition=gpu is for --launcher slurm; name the launcher, or leave this out"),
    (["--launcher", "slurm", "--budget", "1h"], "refused: --budget is about this machine, and a cluster has its own; "
     "leave --budget out, or give --limit, the time limit of a job"),
    (["list", "--verify"], "refused: list takes no --verify; it takes --paper, --table, --profile, --results"),
    (["runn"], "refused: there is no sub-command 'runn'. Did you mean 'run'?"),
    (["--paper", "toy", "model=ease"], "refused: model=ease: only what says what your data are can be typed here, such "
     "as data.path=my.csv; the spec says the rest"),
    (["data.path=a.csv", "--results", "mine"],
     "refused: data.path=a.csv is about the data of one paper; name it, as in --paper own"),
    (["--paper", "toy", "data.path=a.csv"], "refused: data.path=a.csv: numbers of your own data do not go into "
     "results, which holds those of the papers; name a folder, as in --results mine"),
    (["--paper", "toy", "list", "--fresh"],
     "refused: list takes no --fresh; it takes --paper, --table, --profile, --results"),
])
def test_a_wrong_name_is_refused_with_the_nearest_one(tmp_path, words, message):
    done = tables(tmp_path, *words, **spec(tmp_path))
    assert done.returncode == 2 and done.stderr.strip() == message


def test_a_launcher_that_is_not_there_is_refused_before_anything_is_read(tmp_path):
    done = tables(tmp_path, "--launcher", "slurm", **spec(tmp_path), PATH="")
    assert done.returncode == 2 and done.stderr.startswith("refused: the launcher slurm gives jobs to Slurm, and the")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "results").exists()


def test_tuning_has_a_dry_run_that_runs_nothing(tmp_path):
    done = tables(tmp_path, "--tune", "--paper", "sclrec", "--data", "gowalla,ml1m", "--row", "directau", "--dry-run")
    assert [line.split()[:4] for line in done.stdout.splitlines()] == [
        ["python", "-m", "recot.tune", f"data={data}"] for data in ("gowalla", "ml1m")]
    assert "loss.gamma=0.2,0.5" in done.stdout and "--trials 6 --epochs 20 --write" in done.stdout
    assert "trainer.learning_rate=4e-3" in done.stdout  # of the base
    done = tables(tmp_path, "--tune", "--paper", "mstein", "--data", "office", "--row", "stosa", "--dry-run")
    assert done.stdout.rstrip().endswith("--trials 8 --epochs 40 --write --preset-first --finals 2")
    assert not list(tmp_path.iterdir())


def test_a_spec_that_asks_for_what_its_runs_do_not_answer_is_refused_before_anything_runs(tmp_path):
    done = tables(tmp_path, **spec(tmp_path, **{"metrics: [recall@20": "metrics: [recal@20"}))
    assert done.returncode == 2 and " asks for recal@20, and its runs answer " in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_spec_with_a_row_that_cannot_run_is_refused_before_anything_runs(tmp_path):
    done = tables(tmp_path, **spec(tmp_path, **{"run: model=clrec": "run: model=clreck"}))
    assert done.returncode == 2 and "model=clreck: there is no such choice. Did you mean 'clrec'?" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with a file of 40 users of two communities, who take their items in order of time."""
    folder = tmp_path_factory.mktemp("own")
    lines = [f"u{user},i{(user % 2) * 20 + (3 * user + 7 * place) % 20},{1000 + place}"
             for user in range(40) for place in range(12)]
    (folder / "log.csv").write_text("\n".join(["uid,sku,at", *lines, ""]))
    return folder


COLUMNS = ("data.path=log.csv", "data.user=uid", "data.item=sku")


def test_data_of_one_s_own_are_tuned_and_tabled_by_one_command_that_goes_on_where_it_was(own):
    words = ("--paper", "own", "--row", "statistics,popularity,ease", "--seeds", "0", *COLUMNS, "--results", "mine")
    done = tables(own, *words)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^trial \d/4", done.stderr, re.MULTILINE)) == 4 and "[2/2]" in done.stderr
    with (own / "mine" / "tuning" / "csv" / "ease-none-none.csv").open(newline="") as stream:
        best = max(csv.DictReader(stream), key=lambda trial: float(trial["value"]))
    with (own / "mine" / "own" / "runs.csv").open(newline="") as stream:
        commands = {line["model"]: line["command"] for line in csv.DictReader(stream)}
    assert commands == {
        "popularity": f"python -m recot.run data=csv {' '.join(COLUMNS)} model=popularity",
        "ease": f"python -m recot.run data=csv {' '.join(COLUMNS)} model=ease model.ridge={best['model.ridge']}"}
    page = (own / "mine" / "own" / "table2.md").read_text()
    assert "| EASE | ours | **" in page and "| SCLRec | ours | not run yet |" in page and "SASRec" not in page
    assert "| your data | ours | 40 |" in (own / "mine" / "own" / "table1.md").read_text()
    assert not (own / "results").exists()
    again = tables(own, *words)
    assert again.returncode == 0 and "[1/" not in again.stderr and again.stderr.count(", found") == 4
    assert (own / "mine" / "own" / "table2.md").read_text() == page
    assert "0 runs" in tables(own, "dry-run", *words).stdout
    tuned = next(line for line in page.splitlines() if line.startswith("| EASE"))
    other = tables(own, "render", "--paper", "own", "--row", "popularity", "--seeds", "0", *COLUMNS, *words[-2:])
    assert other.returncode == 0, other.stderr
    assert tuned in (own / "mine" / "own" / "table2.md").read_text()  # with its settings, though only another was asked


def test_a_sequential_method_is_a_row_where_the_column_of_times_is_typed(own):
    planned = tables(own, "dry-run", "--paper", "own", *COLUMNS, "data.time=at", "--results", "other", "--seeds", "0")
    assert "data.time=at model=sasrec" in planned.stdout and "9 runs" in planned.stdout
    planned = tables(own, "dry-run", "--paper", "own", *COLUMNS, "--results", "other", "--seeds", "0")
    assert "model=sclrec" in planned.stdout and "sasrec" not in planned.stdout


def test_the_study_of_one_s_own_data_runs_on_planted_data(tmp_path):
    done = tables(tmp_path, "--paper", "own", "--profile", "smoke", "--row", "ease,bprmf", "--seeds", "0")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "results" / "smoke" / "own" / "table2.md").read_text()
    assert page.count("not run yet") == 7 and "Planted data, tiny settings" in page
    assert {file.name for file in (tmp_path / "results" / "smoke" / "tuning" / "planted").iterdir()} == {
        "ease-none-none.csv", "bprmf-bpr-none.csv"}


def test_without_a_file_the_data_of_one_s_own_are_not_available(tmp_path):
    listed = tables(tmp_path, "--list", "--paper", "own")
    assert listed.returncode == 0 and listed.stdout.count("data not available") == 2
