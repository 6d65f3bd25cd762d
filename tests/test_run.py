"""One command, one record: what is in it, what is printed, and when nothing is run again."""

import csv
import io
import json
import logging
import re
import sys

import pandas as pd
import pytest
from commands import TINY, composed, edit, execute, typed
from rich.console import Console

from recot import run
from recot.record import attempt, build, code, console, experiment, outputs, provenance
from recot.record.store import Runs
from recot.request.errors import RequestError
from recot.request.keys import key
from recot.request.launchers import check_hydra_launcher
from recot.system import memory

FILES = {".lock", "epochs.csv", "record.json", "test.parquet", "valid.parquet", "weights.pt"}


@pytest.fixture(scope="module")
def record(runs):
    return execute(runs, "noise=add", "noise.ratio=0.2")


def test_a_record_says_what_was_run_what_came_out_and_on_what(runs, record):
    stored = Runs(runs).get(record["key"])
    assert {**stored, "fresh": True} == record
    assert [stored[name] for name in ("model", "loss", "denoiser", "data", "protocol", "noise", "seed", "status")] == [
        "sclrec", "infonce", "soft_matching", "planted", "topk", "add", 0, "done"]
    assert stored["config"]["noise"]["ratio"] == 0.2 and "paths" not in stored["config"]
    assert set(stored["test"]) == set(stored["valid"]) == set(stored["floor"]["test"]) == {
        f"{name}@{k}" for name in ("recall", "ndcg") for k in (10, 20, 50)}
    assert stored["epochs"] == 2 and 1 <= stored["best_epoch"] <= 2
    assert 0 < stored["seconds"] <= stored["wall_seconds"] and stored["peak_memory_mb"] > 50
    assert re.fullmatch("[0-9a-f]{16}", stored["split"]) and re.fullmatch("[0-9a-f]{16}", stored["digest"])
    assert set(stored["versions"]) >= {"python", "recot", "torch", "lightning"} and "commit" in stored


def test_a_record_names_the_device_its_network_was_trained_on_and_not_the_one_at_hand(monkeypatch):
    monkeypatch.setattr(provenance.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(provenance.torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(provenance.torch.cuda, "max_memory_allocated", lambda: 3 << 20)

    def named(*words):
        found = provenance.provenance(composed(*words)[0], memory.Peak())
        return found["device"], found["peak_cuda_memory_mb"]

    assert named("model=bprmf") == ("a card", 3)
    assert named("model=bprmf", "trainer.device=cpu") == named("model=svd") == (provenance.platform.machine(), 0)


def test_the_folder_of_a_run_holds_these_files_and_no_rest(runs, record):
    assert {file.name for file in (runs / record["key"]).iterdir()} == FILES


def test_the_values_of_each_user_average_to_the_numbers_of_the_record(runs, record):
    for name in ("valid", "test"):
        frame = pd.read_parquet(runs / record["key"] / f"{name}.parquet")
        assert len(frame) == record["sizes"][f"{name}_users"] and frame["user"].is_unique
        for metric, mean in record[name].items():
            assert frame[metric].mean() == pytest.approx(mean, abs=1e-12)


def test_users_can_be_grouped_by_their_training_pairs_and_by_those_of_their_one_target(runs):
    shares = ("protocol.split.train=0.6", "protocol.split.test=0.3")
    many = execute(runs, "model=popularity", *shares, "metrics=[recall@5]")
    assert list(pd.read_parquet(runs / many["key"] / "test.parquet").columns) == ["user", "activity", "recall@5"]
    one = execute(runs, "protocol=sequence", "model=markov", "metrics=[recall@5]")
    answers = pd.read_parquet(runs / one["key"] / "test.parquet")
    assert list(answers.columns) == ["user", "activity", "popularity", "recall@5"]
    assert answers["activity"].sum() == one["sizes"]["train"]
    assert 0 < answers["popularity"].mean() < answers["activity"].sum() / one["sizes"]["items"] * 5


def test_epochs_csv_holds_a_line_per_epoch(runs, record):
    with (runs / record["key"] / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert max(float(row["ndcg@20"]) for row in rows) == pytest.approx(record["valid"]["ndcg@20"])


def test_noise_is_counted_in_the_sizes(runs, record):
    clean = execute(runs)
    added = record["sizes"]["train"] - clean["sizes"]["train"]
    assert added == round(0.2 * clean["sizes"]["train"])
    assert record["sizes"]["train_noisy"] == clean["sizes"]["train_noisy"] + added
    assert record["sizes"]["test_targets"] == clean["sizes"]["test_targets"] and record["split"] != clean["split"]


def test_a_closed_form_has_a_record_without_epochs(runs):
    record = execute(runs, "model=popularity")
    assert record["status"] == "done" and record["epochs"] == 0 and record["test"] == record["floor"]["test"]
    assert {file.name for file in (runs / record["key"]).iterdir()} == FILES - {"epochs.csv", "weights.pt"}


def test_the_second_time_nothing_is_trained_and_force_trains_again(tmp_path):
    first = execute(tmp_path)
    edit(tmp_path, first["key"], seconds=-1.0)
    second = execute(tmp_path)
    assert first["fresh"] and not second["fresh"] and second["seconds"] == -1.0
    third = execute(tmp_path, "force=true")
    assert third["fresh"] and third["seconds"] > 0
    assert (third["key"], third["digest"]) == (first["key"], first["digest"])


def test_a_forced_run_leaves_nothing_of_the_one_before(tmp_path):
    first = execute(tmp_path, "model=bprmf")
    left = tmp_path / first["key"] / "pairs.parquet"
    left.write_bytes(b"of an older version, whose pairs changed")
    execute(tmp_path, "model=bprmf", "force=true")
    assert not left.exists()


def test_a_run_that_goes_on_by_other_code_names_both(tmp_path, monkeypatch):
    words, steps = ("model=bprmf", "trainer.checkpoint_seconds=0", "trainer.max_epochs=4"), []

    class Stopped(Exception):
        pass

    def stop(file, history):
        steps.append(len(history))
        if len(steps) == 3:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "save_history", stop)
        patch.setattr(experiment, "source_digest", lambda config: "old")
        with pytest.raises(Stopped):
            execute(tmp_path, *words)
    today = execute(tmp_path / "other", *words)["sources"]
    assert execute(tmp_path, *words)["sources"] == f"old+{today}"
    assert execute(tmp_path, *words, "force=true")["sources"] == today


def test_a_finished_run_says_that_its_code_has_changed(tmp_path, monkeypatch, caplog):
    record = execute(tmp_path, "model=popularity")
    assert not execute(tmp_path, "model=popularity")["fresh"] and "has changed since" not in caplog.text
    monkeypatch.setattr(experiment, "source_digest", lambda config: "edited")
    assert execute(tmp_path, "model=popularity")["digest"] == record["digest"]
    assert "was made by code that has changed since; force=true makes it again" in caplog.text


def test_a_command_with_a_folder_of_its_own_presets_can_be_typed_again(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "floor.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: none\n  - override /denoiser: none\n"
        "model:\n  _target_: recot.closed.popularity.Popularity\n")
    (tmp_path / "mine" / "model" / "warm.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: infonce\n  - override /denoiser: none\n"
        "model:\n  _target_: recot.networks.factorisation.Tables\n")
    (tmp_path / "mine" / "recipe").mkdir()
    (tmp_path / "mine" / "recipe" / "warm-infonce.yaml").write_text("# @package loss\ntau: 0.3\n")
    done = typed(tmp_path, "--config-dir", "mine", *TINY, "model=floor")
    assert done.returncode == 0, done.stderr
    record = json.loads(next(tmp_path.glob("runs/*/record.json")).read_text())
    assert f"--config-dir={tmp_path / 'mine'}" in record["command"]
    again = typed(tmp_path, *record["command"].split()[3:], cwd=tmp_path / "runs")
    assert again.returncode == 0 and "finished before" in again.stdout, again.stderr
    swapped = typed(tmp_path, "--config-dir", "mine", *TINY, "model=warm", "loss=bpr", "trainer.max_epochs=1")
    assert swapped.returncode == 0, swapped.stderr  # its recipe is that of another loss


def test_the_commit_of_a_record_is_the_one_it_was_begun_with(tmp_path, monkeypatch):
    commits = iter(["begun", "later", "later still"])
    monkeypatch.setattr(code, "commit", lambda: next(commits))
    assert execute(tmp_path, "model=popularity")["commit"] == "begun"


@pytest.mark.parametrize("model", ["sasrec", "caser", "markov"])
def test_what_reads_histories_in_order_refuses_data_without_times(tmp_path, model):
    table = tmp_path / "pairs.csv"
    table.write_text("user,item,at\n" + "".join(f"u{n % 40},i{n * 7 % 29},{n}\n" for n in range(400)))
    words = ("data=csv", f"data.path={table}", f"model={model}", "trainer=smoke", "trainer.max_epochs=1")

    def attempted(*more):
        config, choices = composed(*words, *more)
        config["paths"] = {"runs": str(tmp_path), "cache": str(tmp_path)}
        return experiment.run(config, choices, "python -m recot.run")

    with pytest.raises(ValueError, match="reads histories in order, and these data have no times.*data.time="):
        attempted()
    assert attempted("data.time=at")["status"] == "done"


REFIT = ("protocol=denoise", "noise=flip", "noise.ratio=0.2")


def counted(folder, name, key):
    return len(pd.read_parquet(folder / key / f"{name}.parquet"))


def test_a_closed_form_that_is_relabelled_says_what_the_rounds_did_and_is_refitted_on_all_but_the_test(runs):
    record = execute(runs, "model=svd", "model.rank=5", "denoiser=prorec", "denoiser.gap_scale=n", *REFIT)
    base = execute(runs, "model=svd", "model.rank=5", *REFIT)
    assert [row["round"] for row in record["rounds"]] == [0, 1] and "rounds" not in base
    last = record["rounds"][-1]
    assert 0 < last["flagged"] < 1 and 0 < last["precision"] <= 1 and set(last) >= {"hit_ratio", "false_alarms"}
    clean = record["sizes"]["train"] - record["sizes"]["train_noisy"] + record["sizes"]["valid_targets"]
    pairs = pd.read_parquet(runs / record["key"] / "pairs.parquet")
    assert len(pairs) == last["pairs"] and set(pairs.columns) == {"user", "item", "weight", "rho", "noise", "noisy"}
    assert len(pairs) == pytest.approx(1.2 * clean, rel=0.2)
    assert pairs["noise"].mean() == pytest.approx(last["flagged"])
    assert record["weight_auc"]["auc"] > 0.5 and "weight_auc" not in base
    assert record["valid"] != base["valid"] and record["test"] != base["test"]
    assert 0 < record["fit_seconds"] < record["wall_seconds"]


def test_a_network_is_refitted_for_as_many_epochs_as_were_best(runs, monkeypatch):
    fits, original = [], build.build

    def noted(config, folder=None, *rest):
        if folder:
            fits.append((config["trainer"]["max_epochs"], folder.name))
        return original(config, folder, *rest)

    for module in (attempt, build):  # the first fit is asked for in one, the second in the other
        monkeypatch.setattr(module, "build", noted)
    record = execute(runs, "model=bprmf", "trainer.max_epochs=4", "protocol=denoise")
    assert fits == [(4, record["key"]), (record["best_epoch"], "refit")]
    assert {path.name for path in (runs / record["key"]).iterdir()} == FILES  # and nothing of the refit is left


def test_another_data_seed_is_another_key(runs):
    def named(*words):
        return key(composed(*TINY, *words)[0], "same digest")

    assert named("data.data_seed=1") != named()


def test_each_epoch_is_a_logged_line_where_there_is_no_terminal(tmp_path, caplog):
    caplog.set_level(logging.INFO, "recot")
    execute(tmp_path)
    lines = [record.message for record in caplog.records if record.message.startswith("epoch")]
    assert len(lines) == 2
    assert re.fullmatch(r"epoch 2/2  loss \d+\.\d{4}  ndcg@20 0\.\d{4} \(best 0\.\d{4}\)  "
                        r"\d+\.\d s, at most 00:00:00 to go", lines[1])


def test_the_summary_shows_metrics_the_floor_the_record_and_what_to_try_next(runs, record, capsys):
    console.show(record, str(runs))
    printed = capsys.readouterr().out
    for metric, value in record["test"].items():
        line = next(line for line in printed.splitlines() if metric in line)
        assert f"{value:.4f}" in line and f"{record['floor']['test'][metric]:.4f}" in line
    assert "popularity" in printed and f"record: {runs / record['key'] / 'record.json'}" in printed
    assert "2 epochs (best" in printed and "python -m recot.run" in printed.split("next:")[1]
    console.show({**record, "fresh": False}, str(runs))
    assert "finished before, not run again (force=true runs it again)" in capsys.readouterr().out


def test_a_path_with_brackets_is_printed_as_it_is(record, capsys):
    console.show(record, "/a [b]/ü")
    assert f"record: /a [b]/ü/{record['key']}/record.json" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "left"), [(0.4, "00:01:59"), (305.0, "25:19:55"), (12000.0, "996:40:00")])
def test_what_is_left_is_told_in_hours_beyond_a_day(seconds, left, caplog):
    caplog.set_level(logging.INFO, "recot")
    bar = console.Bar({"max_epochs": 300, "progress": False}, "ndcg@20")
    bar.show([{"epoch": 1, "loss": 0.5, "seconds": seconds}])
    assert caplog.messages[-1].endswith(f" s, at most {left} to go")


def test_stages_and_domains_are_told_apart_each_with_its_own_best(caplog):
    caplog.set_level(logging.INFO, "recot")
    bar, row = console.Bar({"max_epochs": 3, "progress": False}, "ndcg@20"), {"loss": 0.5, "seconds": 2.0}
    bar.show([{**row, "domain": 0, "epoch": 1, "ndcg@20": 0.9}, {**row, "domain": 1, "epoch": 2, "ndcg@20": 0.2}])
    assert caplog.messages[-1] == ("domain 1  epoch 2/3  loss 0.5000  ndcg@20 0.2000 (best 0.2000)  2.0 s, at most "
                                   "00:00:02 to go")
    bar.show([{**row, "stage": 0, "domain": 1, "epoch": 9, "ndcg@20": 0.9}, {**row, "stage": 1, "epoch": 7}])
    assert caplog.messages[-1] == "stage 1  epoch 7  loss 0.5000  2.0 s"


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_shows_a_stage(terminal, monkeypatch, capsys):
    monkeypatch.setattr(console, "Console", lambda **given: Console(**given, force_terminal=terminal, width=100))
    row = {"loss": 0.5, "seconds": 2.0, "epoch": 2}
    with console.Bar({"max_epochs": 3, "progress": True}, "ndcg@20") as bar:
        bar.show([row])
        bar.progress.refresh()
        bar.show([row, {**row, "stage": 1, "domain": 2}])
        bar.progress.refresh()
    shown = capsys.readouterr().err
    assert ("epoch 2/3" in shown and "stage 1  domain 2  epoch 2" in shown) == terminal


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_the_summary_is_readable_in_any_terminal(encoding, width, record, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))  # which raises at a letter it lacks
    console.show(record, "runs")
    sys.stdout.flush()
    shown = raw.getvalue().decode(encoding)
    for metric, value in record["test"].items():
        line = next(line for line in shown.splitlines() if metric in line)
        assert f"{record['valid'][metric]:.4f}" in line and f"{value:.4f}" in line


def test_names_of_others_neither_steer_the_terminal_nor_are_taken_for_markup(record, capsys):
    strange = "[bold]x[/bold]\x1b]0;title\x07\u202e"
    console.show({**record, "model": strange, "command": f"python -m recot.run data.path={strange}"}, strange)
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable() and "\x1b" not in printed
    assert printed.count("[bold]x[/bold]\\x1b]0;title\\x07\\u202e") >= 3


def test_a_logger_for_a_finished_run_is_said_to_be_sent_nothing(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path))
    words = (*TINY, "model=popularity", "logger=tensorboard")
    said = "this run was finished before, so logger=tensorboard gets nothing; force=true repeats the run and sends it"
    assert exit_code(monkeypatch, *words) == 0 and said not in caplog.text
    assert exit_code(monkeypatch, *TINY, "model=popularity") == 0 and said not in caplog.text
    assert exit_code(monkeypatch, *words) == 0 and said in caplog.text


def test_the_next_commands_keep_what_was_typed_and_can_be_typed(record):
    command = "python -m recot.run data=planted 'metrics=[hr@5]' denoiser.alpha=0.5 force=true seed=3"
    ideas = console.next_commands({**record, "command": command, "noise": "none"})
    assert ideas == [
        "python -m recot.run data=planted 'metrics=[hr@5]' denoiser.alpha=0.5 -m seed=0,1,2",
        "python -m recot.run data=planted 'metrics=[hr@5]' seed=3 denoiser=none",
        "python -m recot.run data=planted 'metrics=[hr@5]' denoiser.alpha=0.5 seed=3 noise=add noise.ratio=0.2",
        "python -m recot.run 'metrics=[hr@5]' denoiser.alpha=0.5 seed=3 data=gowalla"]
    assert console.next_commands({**record, "command": command, "denoiser": "none", "data": "csv"}) == [
        "python -m recot.run data=planted 'metrics=[hr@5]' denoiser.alpha=0.5 -m seed=0,1,2",
        "python -m recot.run data=planted 'metrics=[hr@5]' denoiser.alpha=0.5 seed=3 noise=none"]


def test_a_sweep_goes_on_after_a_job_that_diverges_and_says_so_in_its_exit_code(tmp_path):
    """Row 16 as well: the record of the broken job says diverged and holds the traceback."""
    words = (*TINY, "model=bprmf", "loss.batch_size=64")
    done = typed(tmp_path, *words, "-m", "trainer.learning_rate=1e38,0.01", "seed=0,1")
    records = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/record.json")]
    assert done.returncode == 1 and done.stdout.count("next:") == 2
    assert sorted((r["status"], r["seed"]) for r in records) == [
        ("diverged", 0), ("diverged", 1), ("done", 0), ("done", 1)]
    for broken in (r for r in records if r["status"] == "diverged"):
        assert broken["error"].startswith("Diverged: the training loss was nan in epoch 1")
        assert "Traceback" in broken["traceback"] and "sources" in broken
        assert f"{broken['command']}: Diverged: the training loss was nan" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "cache"}


def test_a_sweep_by_a_launcher_ends_as_one_in_this_process_does(tmp_path):
    """The launcher's jobs are processes of their own, which may be on other machines."""
    words = (*TINY, "model=popularity", "seed=0,-1")
    done = typed(tmp_path, "-m", *words, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60")
    assert done.returncode == 2 and " on planted (split " in done.stdout, done
    line = "python -m recot.run " + " ".join((*TINY, "model=popularity", "seed=-1"))
    assert f"{line}: RequestError: seed = -1 is out of range; give 0 or more" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("refused: seed = -1 is out of range")
    [log] = [file for file in tmp_path.glob("runs/.sweep/.submitit/*/*.out") if "next:" in file.read_text()]
    assert "ndcg@20" in log.read_text(), "what a run prints is in the log of its job"
    assert {path.name for path in tmp_path.glob("runs/.sweep/*")} == {".submitit", "keys.json", "multirun.yaml"}


@pytest.mark.parametrize(("words", "told"), [
    (["hydra/launcher=submitit_slurm"], "the launcher submitit_slurm gives jobs to Slurm, and there is no sbatch here"),
    (["hydra/launcher=submitit_lokal"], "hydra/launcher=submitit_lokal: there is no such choice")])
def test_a_launcher_of_a_sweep_that_is_not_there_is_refused(tmp_path, words, told):
    done = typed(tmp_path, "-m", "seed=0,1", *words, PATH="")
    assert done.returncode == 2 and done.stderr.startswith(f"refused: {told}") and not (tmp_path / "runs").exists()


def test_a_launcher_whose_package_is_not_installed_is_refused_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"submitit_local needs a package .* pip install 'recot\[slurm\]'"):
        check_hydra_launcher(["-m", "seed=0,1", "+hydra/launcher=submitit_local"])


def test_a_command_writes_nothing_where_it_is_called_and_its_record_repeats_it(tmp_path):
    (tmp_path / "here").mkdir()
    done = typed(tmp_path, *TINY, "metrics=[hr@5]", cwd=tmp_path / "here")
    record = json.loads(next(tmp_path.glob("runs/*/record.json")).read_text())
    assert done.returncode == 0 and list((tmp_path / "here").iterdir()) == []
    assert record["command"] == "python -m recot.run " + " ".join(TINY) + " 'metrics=[hr@5]'"
    assert {path.name for path in tmp_path.iterdir()} <= {"here", "runs", "cache"}
    assert "Warning" not in done.stderr


def exit_code(monkeypatch, *words):
    """What the shell would see; the command runs in this process."""
    monkeypatch.setattr(sys, "argv", ["recot", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    try:
        run.main()
    except SystemExit as stop:
        return stop.code
    return 0


def test_a_constructor_that_refuses_a_number_makes_it_a_wrong_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path))
    assert exit_code(monkeypatch, *TINY, "loss.tau=0") == 2
    assert "refused: loss.tau = 0.0 is a temperature, which divides; give more than 0" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "reason"), [
    (["model=sasrec", "model.n_heads=3"], "model.n_heads = 3 does not divide model.dim = 64"),
    (["model=stosa", "model.dropout=1.0"], "model.dropout = 1.0 is a probability; give 0 or more and less than 1")])
def test_a_network_refuses_its_sizes_before_data_are_read(tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path))
    assert exit_code(monkeypatch, *words, "data=csv", "data.path=/nowhere.csv") == 2
    assert f"refused: {reason}" in capsys.readouterr().err
    assert not list(tmp_path.glob("*/record.json"))


def test_tuned_settings_that_are_asked_for_and_are_not_there_are_missed(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path))
    assert exit_code(monkeypatch, *TINY, "model=popularity") == 0 and "conf/tuned" not in caplog.text
    assert exit_code(monkeypatch, *TINY, "model=popularity", "tuned=${data}/nothing") == 0
    assert "conf/tuned has no planted/nothing, so the settings of the preset apply" in caplog.text


def test_a_variable_named_on_the_command_line_is_kept_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_PLACE", str(tmp_path))
    word = "paths.runs=${oc.env:MY_PLACE}"
    assert exit_code(monkeypatch, *TINY, "model=popularity", word) == 0
    record = json.loads(next(tmp_path.glob("*/record.json")).read_text())
    assert f"'{word}'" in record["command"] and str(tmp_path) not in json.dumps(record)
    assert f"record: {tmp_path}" in capsys.readouterr().out
    monkeypatch.setenv("MY_WAY", "pair")
    assert exit_code(monkeypatch, *TINY, "model=popularity", "noise=add", "noise.per=${oc.env:MY_WAY}") == 2


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setenv("RECOT_RUNS", str(tmp_path))
    monkeypatch.setattr("recot.fit.gradient.Gradient.fit", stop)
    assert exit_code(monkeypatch, *TINY) == 130
    assert capsys.readouterr().err.endswith("stopped; the same command goes on from the last checkpoint, where there "
                                            "is one yet (one is written every trainer.checkpoint_seconds)\n")
    assert json.loads(next(tmp_path.glob("*/record.json")).read_text())["status"] == "interrupted"


def test_a_failure_is_one_line_and_the_traceback_is_there_for_the_asking(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path))
    monkeypatch.delenv("RECOT_TRACEBACK", raising=False)
    words = (*TINY, "noise=flip", "noise.ratio=2")
    assert exit_code(monkeypatch, *words) == 1
    assert "pairs to flip, got 2.0; use a number below 1\n(RECOT_TRACEBACK=1 shows where" in capsys.readouterr().err
    monkeypatch.setenv("RECOT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="use a number below 1"):
        exit_code(monkeypatch, *words)
    failed = json.loads(next(tmp_path.glob("*/record.json")).read_text())
    assert failed["status"] == "failed" and "recot/data/noise.py" in failed["traceback"]
