"""Tuning: what is tried, that only validation answers decide, and that a killed study goes on."""

import copy
import csv
import os
import shutil
import threading
from dataclasses import replace

import pytest
import yaml
from commands import TINY, composed, edit, python

from recot import tune
from recot.record import build, experiment
from recot.record.lines import TrialLine, TrialRun
from recot.request import compose, keys, tuned
from recot.request.errors import RequestError
from recot.tuning import search, study

REQUEST = (*TINY, "model=clrec", "loss.batch_size=64", "loss.tau=0.05,0.1,0.2", "trainer.weight_decay=0,1e-6")
LOG = "trainer.learning_rate=tag(log,interval(1e-4,1e-1))"


COMPOSED = {}
"""Trials without tuned files, by their words and the files of conf: studies are begun, killed and begun again."""


def composed_once(*words, fresh=compose.composed):
    """What ``composed`` gives for a trial; it costs 0.06 s, and a stand-in for its run costs nothing."""
    if "~tuned" not in words:
        return fresh(*words)
    files = ((str(file.relative_to(compose.CONF)), file.stat().st_mtime_ns) for file in compose.CONF.rglob("*.yaml"))
    asked = (words, *sorted(files))
    if asked not in COMPOSED:
        COMPOSED[asked] = fresh(*words)
    config, choices = copy.deepcopy(COMPOSED[asked])
    return config | {"paths": {"runs": os.environ["RECOT_RUNS"], "cache": os.environ["RECOT_CACHE"]}}, choices


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Records and tuned files of each test in a folder of its own."""
    monkeypatch.setattr(compose, "composed", composed_once)
    shutil.copytree(compose.CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("planted"))
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """Configs of the trials that were run, by a stand-in that trains nothing and likes tau 0.1 and small decay.

    Its records have no test answers: whoever read them would fail.
    """
    seen = []

    def run(config, choices, command):
        seen.append({**config, "command": command})
        value = 1 - abs(config["loss"].get("tau", 0.1) - 0.1) - config["trainer"]["weight_decay"]
        return {"status": "done", "valid": {"ndcg@20": value}, "epochs": 3, "best_epoch": 2, "seconds": 1.5,
                "fresh": True}

    monkeypatch.setattr(experiment, "run", run)
    return seen


def exit_code(monkeypatch, *words):
    """What the shell would see; the command runs in this process."""
    monkeypatch.setattr("sys.argv", ["recot.tune", *words])
    with pytest.raises(SystemExit) as stop:
        tune.main()
    return stop.value.code


def table(name="clrec-infonce-none", data="planted"):
    return (compose.CONF.parent / "results" / "tuning" / data / f"{name}.csv").read_bytes()


def without_seconds(content):
    return [{**row, "seconds": None} for row in csv.DictReader(content.decode().splitlines())]


def test_trials_are_different_configurations_and_a_grid_ends(calls, caplog):
    caplog.set_level("INFO", "recot.tune")
    rows = search.tune(REQUEST, 50)
    tried = {(config["loss"]["tau"], config["trainer"]["weight_decay"]) for config in calls}
    assert len(rows) == len(calls) == 6 and tried == {(t, w) for t in (0.05, 0.1, 0.2) for w in (0.0, 1e-6)}
    assert "these are all the configurations there are: 6, and 50 were asked for" in caplog.text
    best = search.best(rows)
    assert (best.settings, best.run.value) == ({"loss.tau": "0.1", "trainer.weight_decay": "0"}, 1.0)


def test_one_config_written_in_two_ways_is_one_configuration(calls):
    rows = search.tune([*TINY, "model=clrec", "trainer.weight_decay=0,0.0,1e-6,0.000001"], 50)
    assert len(rows) == len(calls) == 2


def test_more_trials_go_on_from_fewer_and_another_seed_takes_another_order(calls):
    few, more, other = (search.tune([*TINY, "model=clrec", LOG], n, seed=seed) for n, seed in ((3, 0), (5, 0), (3, 1)))
    keys = [[line.run.key for line in lines] for lines in (few, more, other)]
    assert keys[1][:3] == keys[0] and len(set(keys[1])) == 5 and not set(keys[2]) & set(keys[1])
    assert all(1e-4 <= float(line.settings["trainer.learning_rate"]) <= 1e-1 for line in more)


def test_the_sampler_learns_from_the_answers(calls):
    """After its ten random trials it looks near 0.1, where the stand-in is best; uniform draws miss that by 0.41."""
    lines = search.tune([*TINY, "model=clrec", "loss.tau=interval(0.01,1)"], 25)
    misses = [abs(float(line.settings["loss.tau"]) - 0.1) for line in lines]
    assert sum(misses[10:]) / 15 < 0.5 * sum(misses[:10]) / 10


def test_the_preset_may_come_first_and_nothing_is_tried_that_it_is_no_part_of(calls):
    words = [*TINY, "model=sclrec", "loss.tau=0.05,0.1,0.2", "denoiser.n_iters=range(1,9)", "model.dim=8,64",
             "trainer.learning_rate=tag(log,interval(1e-4,1e-1))"]
    preset, _ = composed(*TINY, "model=sclrec", "~tuned")
    first, second = search.tune(words, 2, preset_first=True)
    assert calls[0] == {**preset, "command": calls[0]["command"]} != calls[1]
    assert first.settings == {"loss.tau": "0.2", "denoiser.n_iters": "6", "model.dim": "64",
                              "trainer.learning_rate": first.settings["trainer.learning_rate"]}
    with pytest.raises(RequestError, match=r"loss.tau=0.05,0.1: the preset has 0.2, which is not among these. Add"):
        search.tune([*TINY, "model=sclrec", "loss.tau=0.05,0.1"], 2, preset_first=True)
    with pytest.raises(RequestError, match="where model is chosen there is no single preset"):
        search.tune([*TINY, "model=sclrec,clrec"], 2, preset_first=True)
    assert len(calls) == 2


def test_the_cap_on_epochs_is_in_the_trial_its_command_the_output_and_the_table(calls, caplog):
    caplog.set_level("INFO", "recot.tune")
    rows = search.tune([*TINY, "model=clrec", "loss.tau=0.1,0.2"], 1, epochs=1)
    assert calls[0]["trainer"]["max_epochs"] == rows[0].max_epochs == 1
    assert calls[0]["command"].endswith("trainer.max_epochs=1") and "at most 1 epochs each" in caplog.text
    rows = search.tune([*TINY, "model=clrec", "loss.tau=0.1,0.2"], 1, epochs=9)
    assert rows[0].max_epochs == 2  # the trainer's own


def test_the_table_has_a_row_per_trial_and_says_what_its_numbers_are(calls):
    search.tune(REQUEST, 2)
    assert table().decode().splitlines()[0] == ("trial,loss.tau,trainer.weight_decay,value,epochs,best_epoch,seconds,"
                                                "status,key,metric,trials,max_epochs,study")
    row = next(csv.DictReader(table().decode().splitlines()))
    assert [row[name] for name in ("trial", "epochs", "best_epoch", "seconds", "status", "metric", "trials",
                                   "max_epochs")] == ["1", "3", "2", "1.5", "done", "ndcg@20", "2", "2"]


@pytest.fixture
def slow(monkeypatch):
    """What ran, by a stand-in in which the smaller tau is ahead early and behind at the end."""
    seen = []

    def run(config, choices, command):
        tau, early = config["loss"]["tau"], config["trainer"]["max_epochs"] == 1
        seen.append((tau, config["trainer"]["max_epochs"]))
        return {"status": "done", "valid": {"ndcg@20": 1 - tau if early else tau}, "epochs": 1 if early else 2,
                "best_epoch": 1, "seconds": 1.5, "fresh": True}

    monkeypatch.setattr(experiment, "run", run)
    return seen


def test_the_best_and_the_preset_are_run_to_the_end_and_that_decides(slow, monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "recot.tune")
    words = (*TINY, "model=clrec", "loss.tau=0.05,0.1,0.15,0.2,0.3", "--trials", "5", "--epochs", "1",
             "--preset-first", "--finals", "2", "--write")
    assert exit_code(monkeypatch, *words) == 0
    assert slow[:1] == [(0.2, 1)] and sorted(slow[5:]) == [(0.05, 2), (0.1, 2), (0.2, 2)]
    rows = {float(row["loss.tau"]): row for row in csv.DictReader(table().decode().splitlines())}
    assert {tau: (row["value"], row["final"], row["final_status"]) for tau, row in rows.items()} == {
        0.05: ("0.95", "0.05", "done"), 0.1: ("0.9", "0.1", "done"), 0.2: ("0.8", "0.2", "done"),
        0.15: ("0.85", "", ""), 0.3: ("0.7", "", "")}
    file = compose.CONF / "tuned" / "planted" / "clrec-infonce-none.yaml"
    assert yaml.safe_load(file.read_text()) == {"loss": {"tau": 0.2}}
    assert "at most 1 epochs each, then the first of them to the end" in file.read_text()
    assert "--preset-first --finals 2" in file.read_text().splitlines()[2]
    assert "best: python -m recot.run trainer=smoke" in (said := capsys.readouterr().out) and "loss.tau=0.2" in said
    assert "trial 1 to the end: ndcg@20 0.2000, 2 epochs" in caplog.text
    before = table()
    assert exit_code(monkeypatch, *words) == 0 and len(slow) == 8 and table() == before  # the table answers for all


def test_a_final_that_breaks_leaves_the_others(slow, monkeypatch):
    real = experiment.run

    def run(config, *rest):
        if config["trainer"]["max_epochs"] > 1 and config["loss"]["tau"] == 0.1:
            raise ArithmeticError("no luck")
        return real(config, *rest)

    monkeypatch.setattr(experiment, "run", run)
    lines = search.tune([*TINY, "model=clrec", "loss.tau=0.05,0.1,0.3"], 3, 1, finals=2)
    assert search.best(lines).settings["loss.tau"] == "0.05"
    assert {line.settings["loss.tau"]: line.final and line.final.status for line in lines} == {
        "0.05": "done", "0.1": "failed", "0.3": None}


def test_the_key_of_a_final_is_that_of_the_run_with_these_settings(slow, tmp_path):
    line = search.best(search.tune([*TINY, "model=clrec", "loss.tau=0.1,0.2"], 2, 1, finals=1))
    config, _ = composed(*TINY, "model=clrec", f"loss.tau={line.settings['loss.tau']}")
    assert line.final.key == keys.key(config, build.make(config["data"]).digest()) != line.run.key


def test_a_killed_study_goes_on_where_it_was_and_ends_with_the_same_table(tmp_path, monkeypatch, capsys, caplog):
    words = [*REQUEST, "--trials", "3"]
    assert exit_code(monkeypatch, *words) == 0
    whole = table()
    for gone in ("runs", "results"):
        shutil.rmtree(tmp_path / gone)
    real, started, kill = experiment.run, [], True

    def run(config, choices, command):
        started.append(command)
        if kill and len(started) == 2:
            raise KeyboardInterrupt
        record = real(config, choices, command)
        if not record["fresh"]:
            started.pop()
        return record

    monkeypatch.setattr(experiment, "run", run)
    capsys.readouterr()
    assert exit_code(monkeypatch, *words) == 130
    assert capsys.readouterr().err.endswith("stopped; the same command goes on where it was\n")
    assert without_seconds(table())[0] == without_seconds(whole)[0] and len(without_seconds(table())) == 1
    stopped_in, kill = started[1], False
    started.clear()
    assert exit_code(monkeypatch, *words) == 0
    assert len(started) == 2 and started[0] == stopped_in
    assert without_seconds(table()) == without_seconds(whole)
    again = table()
    started.clear()
    assert exit_code(monkeypatch, *words) == 0
    assert started == [] and table() == again
    printed = capsys.readouterr().out
    assert "best: python -m recot.run trainer=smoke" in printed and "test" not in printed + caplog.text
    assert caplog.text.count("s, found") == 4


def test_a_clone_without_records_goes_on_by_the_table_of_the_study(tmp_path, monkeypatch, calls):
    first = search.tune(REQUEST, 3)
    assert len(calls) == 3 and not (tmp_path / "runs").exists()
    before = table()
    assert search.tune(REQUEST, 3) == first and len(calls) == 3 and table() == before
    more = search.tune(REQUEST, 5)
    assert [replace(line, trials=3) for line in more[:3]] == first and len(calls) == 5
    search.tune([*REQUEST, "force=true"], 5)
    assert len(calls) == 10


def test_a_trial_that_breaks_costs_only_itself_and_diverging_is_not_repeated(tmp_path, monkeypatch, caplog):
    """The first learning rate diverges, and the request is answered by the other; both count."""
    caplog.set_level("INFO", "recot.tune")
    words = [*TINY, "model=bprmf", "loss.batch_size=64", "trainer.learning_rate=1e38,0.01"]
    runs = {line.settings["trainer.learning_rate"]: line.run for line in search.tune(words, 2)}
    broken = runs["1e+38"]
    assert (broken.status, broken.value, runs["0.01"].status) == ("diverged", None, "done")
    assert "diverged: Diverged: the training loss was nan" in caplog.text
    first, real = table("bprmf-bpr-none"), experiment.run
    monkeypatch.setattr(experiment, "run", lambda config, *rest: pytest.fail("repeated") if config["trainer"][
        "learning_rate"] > 1 else real(config, *rest))
    search.tune(words, 2)
    assert table("bprmf-bpr-none") == first
    edit(tmp_path / "runs", broken.key, status="failed")
    with pytest.raises(pytest.fail.Exception, match="repeated"):
        search.tune(words, 2)


def test_the_exit_code_is_1_where_no_trial_ended_well(monkeypatch, caplog):
    def run(*given):
        raise ArithmeticError("no luck")

    monkeypatch.setattr(experiment, "run", run)
    assert exit_code(monkeypatch, *REQUEST, "--trials", "2", "--write") == 1
    assert caplog.text.count("failed: ArithmeticError: no luck") == 2
    assert not (compose.CONF / "tuned" / "planted").exists() and table().count(b"failed") == 2


def test_what_is_written_beats_the_preset_and_is_beaten_by_the_command_line(calls, monkeypatch, capsys, caplog):
    assert exit_code(monkeypatch, *REQUEST, "paths.cache=mine", "--trials", "6", "--epochs", "1", "--write") == 0
    file = compose.CONF / "tuned" / "planted" / "clrec-infonce-none.yaml"
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1] == ("# Best of 6 configurations by validation ndcg@20, at most 1 epochs each; "
                        "see results/tuning/planted/clrec-infonce-none.csv.")
    assert lines[2] == f"# python -m recot.tune {' '.join(REQUEST)} --trials 6 --epochs 1 --sampler-seed 0"
    assert yaml.safe_load(file.read_text()) == {"loss": {"tau": 0.1, "batch_size": 64},
                                                "trainer": {"weight_decay": 0.0}}
    data = TINY[2:]
    config = composed("model=clrec", *data)[0]
    assert (config["loss"]["tau"], config["trainer"]["weight_decay"], config["trainer"]["max_epochs"]) == (0.1, 0, 300)
    assert composed("model=clrec", *data, "~tuned")[0]["loss"]["tau"] == 0.2
    assert composed("model=clrec", *data, "loss.tau=0.3")[0]["loss"]["tau"] == 0.3
    assert composed("model=sclrec", *data)[0]["loss"]["tau"] == composed("model=clrec")[0]["loss"]["tau"] == 0.2
    assert f"written to {file}" in caplog.text and "~tuned" not in capsys.readouterr().out


def test_an_earlier_tuned_file_stays_out_of_the_trials_and_of_the_command(calls, monkeypatch, capsys, caplog):
    file = compose.CONF / "tuned" / "planted" / "clrec-infonce-none.yaml"
    file.parent.mkdir(parents=True)
    [data] = tuned.digests(composed(*TINY)[0]["data"])
    file.write_text(f"# @package _global_\n# data: {data}\nloss: {{tau: 0.7}}\ntrainer: {{weight_decay: 0.5}}\n")
    assert composed(*TINY, "model=clrec")[0]["loss"]["tau"] == 0.7
    words = (*TINY, "model=clrec", "trainer.weight_decay=0,1e-6")
    assert exit_code(monkeypatch, *words, "--trials", "2") == 0
    assert {config["loss"]["tau"] for config in calls} == {0.2}
    assert f"left out of the trials: {file}" in caplog.text and "weight_decay=0 '~tuned'" in capsys.readouterr().out
    assert all(config["command"].endswith(" '~tuned'") for config in calls)
    assert exit_code(monkeypatch, *words, "--trials", "2", "--write") == 0
    assert f"replaced {file}" in caplog.text
    config = composed(*TINY, "model=clrec")[0]
    assert (config["loss"]["tau"], config["trainer"]["weight_decay"]) == (0.2, 0.0)


def test_models_can_be_compared_and_the_table_is_named_after_all_of_them(calls, monkeypatch, capsys):
    words = (*TINY, "model=clrec,bprmf", "trainer.weight_decay=0,1e-6", "--trials", "9")
    assert exit_code(monkeypatch, *words) == 0 and len(calls) == 4
    assert len(without_seconds(table("clrec+bprmf-infonce+bpr-none"))) == 4
    assert exit_code(monkeypatch, *words, "--write") == 2
    assert "a tuned file belongs to one model, loss and denoiser" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "reason"), [
    (["loss.tau=0.1"], "nothing is tuned; give a key several values, such as loss.tau=0.1,0.2"),
    (["loss.tao=0.1,0.2"], "Did you mean 'tau'?"),
    (["loss.tau=0.1,warm"], "loss.tau = 'warm' does not fit: InfoNCE takes float"),
    (["loss.tau=0.1,0"], "loss.tau = 0.0 is a temperature, which divides; give more than 0"),
    (["loss.tau=interval(0,1)"], "loss.tau = 0.0 is a temperature, which divides; give more than 0"),
    (["model.dim=interval(8,64)"], "model.dim = 8.0 does not fit: Tables takes int"),
    (["denoiser=none,soft_macthing"], "Did you mean 'soft_matching'?"),
    (["denoiser=none,null"], "must be a string or a list"),
    (["loss=bpr,infonce", "denoiser=none,soft_matching"], "needs loss=infonce"),
    (["seed=0,1"], "seed is no setting of a method"),
    (["data=planted,gowalla"], "data is no setting of a method"),
    (["trainer.device=cpu,auto"], "trainer.device changes no result"),
    (["loss.tau=0.1,0.2", "loss.tau=0.3"], "loss.tau is given more than once"),
    (["loss.tau=tag(log,choice(0.1,0.2))"], "the one tag there is, log, is for an interval"),
    (["loss.tau=tag(log,interval(0,1))"], "starts above 0"),
    (["loss.tau=interval(1,0.1)"], "an interval rises"),
    (["denoiser=glob(*)"], "name the choices, such as denoiser=this,that"),
    (["loss.tau=0.1,0.2", "metrics=[hr@5]"], "metrics leaves out ndcg@20"),
    (["loss.tau=0.1,0.2", "--trials", "0"], "--trials 0 leaves nothing to run; give 1 or more"),
    (["loss.tau=0.1,0.2", "--epochs", "0"], "--epochs 0 leaves nothing to run; give 1 or more"),
    (["loss.tau=0.1,0.2", "--finals", "1"], "--finals 1 repeats trials without their cap on epochs"),
    (["loss.tau=0.1,0.2", "--finals", "-1"], "--finals -1 is a number of trials; give 0 or more"),
    (["loss.tau=0.1,0.2", "--sampler-seed", "-1"], "--sampler-seed = -1 is out of range; give 0 or more, below 2**32"),
    (["loss.tau=0.1,0.2", "--sampler-seed", str(2**32)], "--sampler-seed = 4294967296 is out of range; give 0 or more"),
    (["loss.tau=0.1,(0.2"], "loss.tau=0.1,(0.2"),
    (["loss.tau=0.1,0.2", "--slurm", "partition=gpu"], "--slurm is for --launcher slurm; name the launcher"),
])
def test_a_wrong_request_is_refused_with_what_would_work_and_nothing_is_run(calls, monkeypatch, capsys, words, reason):
    assert exit_code(monkeypatch, "model=clrec", "--trials", "2", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("refused: ") and reason in said and said.count("\n") == 1 and calls == []


def test_a_launcher_that_is_not_there_is_refused_before_anything_is_read(calls, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert exit_code(monkeypatch, *REQUEST, "--trials", "2", "--launcher", "slurm") == 2 and calls == []
    assert "the launcher slurm gives jobs to Slurm, and there is no sbatch here" in capsys.readouterr().err


def test_trials_are_made_where_the_caller_says_and_one_that_fails_there_costs_only_itself(calls):
    asked = []

    def run(config, choices, command, key):
        asked.append(key)
        if len(asked) == 1:
            raise RuntimeError("job 7 left the queue without a record")
        return experiment.run(config, choices, command)

    lines = search.tune(REQUEST, 2, run=run)
    assert [line.run.status for line in lines] == ["failed", "done"] and len(calls) == 1
    assert [line.run.key for line in lines] == asked


def test_models_that_are_asked_different_questions_are_not_compared(calls):
    preset = compose.CONF / "model" / "clrec.yaml"
    other = preset.read_text() + "protocol: {split: {train: 0.6, valid: 0.2, test: 0.2}}\n"
    preset.with_name("other.yaml").write_text(other)
    with pytest.raises(RequestError, match="tune each model by itself"):
        search.tune([*TINY, "model=clrec,other"], 2)


def test_the_command_is_typed_in_any_order_and_help_loads_neither_torch_nor_optuna(tmp_path):
    done = python(tmp_path, "-m", "recot.tune", *TINY, "--trials", "1", "model=clrec", "loss.tau=0.1,0.2",
                  "--results", "out")
    assert done.returncode == 0, done.stderr
    assert "trial 1/1  loss.tau=" in done.stderr and "best: python -m recot.run trainer=smoke" in done.stdout
    assert [path.name for path in tmp_path.glob("out/tuning/planted/*")] == ["clrec-infonce-none.csv"]
    code = ("import sys; from recot import tune; sys.argv = ['tune', '--help']\ntry: tune.main()\n"
            "finally: print({'torch', 'optuna'} & set(sys.modules))")
    assert python(tmp_path, "-c", code).stdout.endswith("set()\n")


def rows_of(name="clrec-infonce-none"):
    return list(csv.DictReader(table(name).decode().splitlines()))


def write_rows(file, rows):
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


LONG = [*TINY, "model=clrec", LOG]


@pytest.mark.parametrize("others", [
    [(LONG, {"seed": 1}), (LONG, {"seed": 2}), (LONG, {"epochs": 1})],
    [(REQUEST, {}), (LONG, {"preset_first": True}), (LONG, {"preset_first": True, "seed": 1})]])
def test_studies_of_other_requests_stand_beside_each_other(calls, others):
    requests = [(LONG, {}), *others]
    told = [search.tune(words, 2, **options) for words, options in requests]
    found = rows_of()
    assert len({row["study"] for row in found}) == len(requests) and len(found) == 2 * len(requests)
    before, trained = table(), len(calls)
    again = [search.tune(words, 2, **options) for words, options in requests]
    assert again == told  # none trains anew, none loses a row
    assert table() == before and len(calls) == trained
    assert [row["trial"] for row in found] == ["1", "2"] * len(requests)


def test_a_study_that_starts_with_the_preset_keeps_the_rows_of_one_that_did_so_too(calls):
    search.tune(LONG, 4, preset_first=True)
    four = [{**row, "trials": "", "study": ""} for row in rows_of()]
    search.tune(LONG, 2, preset_first=True, seed=1)
    assert [{**row, "trials": "", "study": ""} for row in rows_of()][:4] == four and len(rows_of()) == 6


@pytest.mark.parametrize(("after", "unnamed"), [(1, False), (0, True), (1, True), (5, True)])
def test_a_study_that_is_killed_at_any_row_keeps_all_that_were_told(slow, monkeypatch, tmp_path, after, unnamed):
    words = [*TINY, "model=clrec", "loss.tau=0.05,0.1,0.15,0.2"]
    whole = search.tune(words, 4, 1, finals=2)
    if unnamed:  # as written before requests had names
        before = [{name: cell for name, cell in row.items() if name != "study"} for row in rows_of()]
        write_rows(tmp_path / "results" / "tuning" / "planted" / "clrec-infonce-none.csv", before)
    kept, trained, written = table(), len(slow), []
    real = study.Study.write

    def write(self, rows):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(rows)
        real(self, rows)

    monkeypatch.setattr(study.Study, "write", write)
    with pytest.raises(KeyboardInterrupt):
        search.tune(words, 4, 1, finals=2)
    assert table() == kept
    monkeypatch.setattr(study.Study, "write", real)
    assert search.tune(words, 4, 1, finals=2) == whole and len(slow) == trained and table() == kept
    search.tune([*words, "trainer.weight_decay=0,1e-6"], 2, 1)  # another request
    assert [row for row in rows_of() if row["trainer.weight_decay"] == ""] == [
        {**row, "trainer.weight_decay": "", "study": row.get("study", "")}
        for row in csv.DictReader(kept.decode().splitlines())]


def test_the_table_of_before_answers_too(calls, tmp_path):
    first = search.tune(REQUEST, 3)
    file = tmp_path / "results" / "tuning" / "planted" / "clrec-infonce-none.csv"
    aside = file.rename(file.with_suffix(".before.csv")).read_bytes()
    assert search.tune(REQUEST, 3) == first and len(calls) == 3
    assert file.with_suffix(".before.csv").read_bytes() == aside


def test_a_trial_that_diverged_is_not_tried_again_in_a_clone(calls, tmp_path):
    search.tune(REQUEST, 2)
    file = tmp_path / "results" / "tuning" / "planted" / "clrec-infonce-none.csv"
    rows = [{**row, "status": "diverged", "value": ""} for row in rows_of()]
    write_rows(file, rows)
    told = table()
    assert [line.run.status for line in search.tune(REQUEST, 2)] == ["diverged"] * 2
    assert len(calls) == 2 and table() == told


def test_two_studies_of_one_table_at_once_lose_no_row(tmp_path):
    file = tmp_path / "tuning" / "planted" / "x.csv"
    def work(name):
        mine = [TrialLine(n + 1, TrialRun(0.5, 1, 1, 1.0, "done", f"{name}{n:015x}"), "m", 20, 2, {"loss.tau": str(n)})
                for n in range(20)]
        for n in range(20):
            study.Study(file, name).write(mine[: n + 1])

    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = study.read(file, TrialLine)
    assert len(found) == 80 and len({line.run.key for line in found}) == 80
    assert [path.name for path in file.parent.iterdir()] == ["x.csv"]


def test_what_a_killed_study_left_beside_its_table_is_swept(calls, tmp_path):
    part = tmp_path / "results" / "tuning" / "planted" / "clrec-infonce-none.csv.12345678.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    search.tune(REQUEST, 1)
    assert not part.exists()


def test_a_damaged_table_is_named_before_anything_is_run_and_stays(calls, monkeypatch, capsys, tmp_path):
    search.tune(REQUEST, 2)
    file = tmp_path / "results" / "tuning" / "planted" / "clrec-infonce-none.csv"
    file.write_bytes(damaged := file.read_bytes() + b"=======\n")
    assert exit_code(monkeypatch, *REQUEST, "--trials", "4") == 1 and len(calls) == 2
    assert f"tuning/planted/{file.name}, line 4: git left a conflict here" in capsys.readouterr().err
    assert file.read_bytes() == damaged
