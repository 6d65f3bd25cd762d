"""What goes wrong around a run, and what its user sees; rows are those of FAULTS.md."""

import contextlib
import csv
import errno
import json
import logging
import os
import re
import signal
import textwrap
from pathlib import Path

import pytest
import torch
from commands import TINY, Started, composed, execute, python, typed
from processes import wait_for

from recot.data.split import ratio
from recot.evaluation.evaluate import Diverged
from recot.record import experiment, outputs, store, trackers
from recot.request.compose import CONF
from recot.request.errors import RequestError
from recot.system.files import read_sealed

STATED = textwrap.dedent("""
    import sys
    from recot import run
    try:
        run.main()
    finally:
        sys.stdout.write(f"{'torch' in sys.modules} {'pandas' in sys.modules}")
""")


def stored(folder):
    """The only record below a folder."""
    [file] = folder.rglob("record.json")
    return json.loads(file.read_text())


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a module that a config may name; returns its name, a new one each time, since sources are read once."""
    def write(source):
        name = f"plugin_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))

WRONG = {
    "a key": (["loss.tua=0.3"], "refused: loss.tua: Key 'tua' is not in struct. Did you mean 'tau'?"),
    "a group": (["modle=sclrec"], "refused: modle: Key 'modle' is not in struct. Did you mean 'model'?"),
    "an added key": (["+sed=1"], "refused: sed: nothing reads this key. Did you mean 'seed'?"),
    "a choice": (["model=sclreck"], "refused: model=sclreck: there is no such choice. Did you mean 'sclrec'?"),
    "no choice": (["model="], f"refused: model=: there is no such choice. Known: {', '.join(MODELS)}."),
    "a type": (["trainer.max_epochs=many"], "refused: trainer.max_epochs = 'many' does not fit: Training takes int"),
    "an interpolation": (["loss.tau=${los.tau}"], "refused: loss.tau: Interpolation key 'los.tau' not found."),
    "a variable": (["data.n_users=${oc.env:NOT_SET}"], "refused: data.n_users = '${oc.env:NOT_SET}' would differ with "
                                                       "the environment, but a record has to say what was run; type "
                                                       "the value"),
    "a missing value": (["data=csv"], "refused: data.path has no value: give it as data.path=..."),
    "a group left out": (["~loss"], "refused: the config has no loss, and each run needs one; see the choices in "
                                    "conf/loss"),
    "null for none": (["denoiser=null"], "refused: a group takes the name of a choice, not null; write denoiser=none"),
    "no sentence": (["loss.tau"], "refused: Error parsing override 'loss.tau' missing EQUAL at '<EOF>'"),
    "a sweep without -m": (["seed=0,1"], "refused: Ambiguous value for argument 'seed=0,1' 1. To use it as a list, use "
                                         "key=[value1,value2] 2. To use it as string, quote the value: "
                                         "key=\\'value1,value2\\' 3. To sweep over it, add --multirun to your command "
                                         "line"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_row_1_a_wrong_request_is_refused_early_with_the_nearest_name(words, message, tmp_path):
    done = python(tmp_path, "-c", STATED, *words)
    torch_imported, pandas_imported = done.stdout.split()
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == message
    assert torch_imported == pandas_imported == "False"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "shown"), [
    (["--help"], ", ".join(MODELS)), (["--cfg", "job", "--resolve"], "seed: 0"),
    (["--info", "defaults"], "topk")])
def test_row_1_listing_does_not_pay_for_torch(words, shown, tmp_path):
    done = python(tmp_path, "-c", STATED, *words)
    assert done.returncode == 0 and done.stdout.split()[-2] == "False" and shown in done.stdout


HARMFUL = [
    ["loss._target_=os.system", "+loss.command=touch harm"],
    ["loss._target_=recot.run.os.system", "+loss.command=touch harm"],
    ["loss._target_=recot.record.code.subprocess.run", "+loss.args=[touch,harm]"],
    ["loss._target_=builtins.eval", "+loss._args_=[\"open('harm','w')\"]"],
    ["+model.layers=[{_target_:os.system,command:touch harm}]"],
    ["+protocol.split.extra={_target_:os.system,command:touch harm}"],
    ["trainer.max_epochs={_target_:os.system,command:touch harm}"],
]


@pytest.mark.parametrize("words", HARMFUL, ids=[" ".join(words)[:40] for words in HARMFUL])
def test_row_2_a_target_outside_recot_is_refused_and_not_executed(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="is not run. If you trust it|names nothing that is defined|not a parameter"):
        execute(tmp_path / "runs", *words)
    assert list(tmp_path.iterdir()) == []


def test_row_2_a_plugin_runs_when_it_is_named_and_not_before(tmp_path, plugin):
    name = plugin("""
        from pathlib import Path
        from recot.denoise.base import Denoiser

        Path(__file__).with_name("imported").touch()

        class Half(Denoiser):
            def after(self, loss, batch):
                return loss / 2
    """)
    words = ("model=bprmf", f"denoiser._target_={name}.Half")
    with pytest.raises(RequestError, match=rf"name its package: plugins=\[{name}\]"):
        execute(tmp_path / "runs", *words)
    assert not (tmp_path / "imported").exists()
    record = execute(tmp_path / "runs", *words, f"plugins=[{name}]")
    assert record["status"] == "done" and (tmp_path / "imported").exists()


@pytest.mark.parametrize(("words", "remedy"), [
    (["model=bprmf", "denoiser=soft_matching"], "denoiser=soft_matching needs loss=infonce, and loss=bpr gives it "
                                                "nothing to work on; use loss=infonce, or denoiser=none"),
    (["model=popularity", "loss=bpr"], "model=popularity is fitted in closed form and takes no loss and no denoiser; "
                                       "use loss=none denoiser=none, or a network such as model=bprmf"),
    (["model=popularity", "denoiser=soft_matching"], "use loss=none denoiser=none, or a network such as model=bprmf"),
    (["model=itemknn", "denoiser=tce"], "of the denoisers only prorec; use loss=none denoiser=prorec, or a network"),
    (["model=sclrec", "loss=none"], "model=sclrec is a network and needs a loss; use loss=bpr or loss=infonce"),
])
def test_row_3_what_cannot_go_together_is_refused_with_what_would_work(words, remedy):
    with pytest.raises(RequestError, match=remedy):
        composed(*words)


@pytest.mark.parametrize("name", ["with spaces", "ünï 数据", "a [b] 'c'"])
def test_row_9_records_and_cache_may_lie_under_any_name(name, tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(u, u + 6)))
    os.rename(tmp_path / "log.csv", tmp_path / f"{name}.csv")
    config, choices = composed(*TINY[:2], "data=csv", "data.path=x.csv", "model=popularity", "metrics=[hr@3]")
    config["data"] |= {"path": str(tmp_path / f"{name}.csv"), "cache": str(tmp_path / name / "cache")}
    config["paths"] = {"runs": str(tmp_path / name / "runs"), "cache": config["data"]["cache"]}
    record = experiment.run(config, choices, "command")
    assert (tmp_path / name / "runs" / record["key"] / "record.json").is_file()
    assert list((tmp_path / name / "cache").iterdir())


def test_row_9_a_place_for_records_that_cannot_be_written_is_named_with_what_moves_it(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match="runs/.* cannot be written .*; name another place .* RECOT_RUNS or paths.runs"):
        execute(tmp_path / "runs")
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "Read-only file system", "runs/.lock"),
                                   PermissionError(errno.EACCES, "Permission denied", "runs/.lock")], ids=repr)
def test_row_9_a_finished_record_is_shown_where_nothing_can_be_written(error, tmp_path, monkeypatch, caplog):
    first = execute(tmp_path, "model=popularity")

    def refuse(*given, **more):
        raise type(error)(error.errno, error.strerror, str(tmp_path / first["key"] / ".lock"))

    monkeypatch.setattr(store.FileLock, "acquire", refuse)
    monkeypatch.setattr(store.files, "write_whole", refuse)
    assert execute(tmp_path, "model=popularity") == {**first, "fresh": False} and caplog.text == ""
    (tmp_path / first["key"] / "last.ckpt").touch()  # of a process that was killed, and cannot be removed here
    assert execute(tmp_path, "model=popularity") == {**first, "fresh": False}
    assert caplog.text.count("RECOT_RUNS or paths.runs") == 1
    with pytest.raises(OSError, match="cannot be written .*; name another place .* RECOT_RUNS or paths.runs"):
        execute(tmp_path, "model=popularity", "force=true")


@pytest.mark.parametrize("words", [("model=popularity",), ("model=bprmf",), ("model=popularity", "noise=flip",
                                                                              "noise.ratio=2")])
def test_bytes_that_are_no_text_in_a_command_and_a_folder_cost_no_record(words, tmp_path):
    config, choices = composed(*TINY, *words)
    place = tmp_path / "r\udce9"
    config["paths"] = {"runs": str(place), "cache": str(tmp_path)}
    command = f"python -m recot.run paths.runs={place}"
    with contextlib.nullcontext() if words[-1] != "noise.ratio=2" else pytest.raises(ValueError, match="below 1"):
        experiment.run(config, choices, command)
    [folder] = (file.parent for file in place.glob("*/record.json"))
    record = store.Runs(place).get(folder.name)
    assert record["command"].endswith(r"r\udce9") and record["command"].encode()
    again = experiment.run(config, choices, command) if record["status"] == "done" else record
    assert {**record, "fresh": False} == {**again, "fresh": False}


def test_row_12_a_split_with_an_overlap_fails_the_run(tmp_path, monkeypatch):
    def leaky(interactions, **shares):
        split = ratio(interactions, **shares)
        return type(split)(interactions, split.valid, split.test)

    monkeypatch.setattr("recot.data.split.ratio", leaky)
    with pytest.raises(ValueError, match="are training pairs of the same user"):
        execute(tmp_path)
    record = stored(tmp_path)
    assert record["status"] == "failed" and "test" not in record and "take them out of train" in record["error"]


def test_row_12_a_model_that_looks_for_the_test_answers_finds_none(tmp_path, plugin):
    name = plugin("""
        from recot.evaluation.recommender import Recommender

        class Peeks(Recommender):
            def fit(self, split):
                self.answers = split.test[0].targets
                return self
    """)
    with pytest.raises(IndexError):
        execute(tmp_path / "runs", "model=popularity", f"model._target_={name}.Peeks", f"plugins=[{name}]")
    assert stored(tmp_path / "runs")["status"] == "failed"


@pytest.mark.parametrize("words", [["protocol.monitor=test/ndcg@20"], ["metrics=[test/ndcg@20]"]])
def test_row_13_selecting_on_test_answers_is_refused(words):
    with pytest.raises(RequestError, match="runs are selected on validation answers only.* Use .*=ndcg@20"):
        composed(*words)


LATE = """
    import torch
    from recot.denoise.base import Denoiser

    class Late(Denoiser):
        '''Poisons the loss after two epochs.'''
        epochs = 0

        def after(self, loss, batch):
            return loss * torch.nan if self.epochs == 2 else loss

        def after_epoch(self):
            self.epochs += 1
"""


def test_row_16_a_loss_that_becomes_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, plugin):
    name = plugin(LATE)
    with pytest.raises(Diverged, match="in epoch 3; .* Lower trainer.learning_rate"):
        execute(tmp_path / "runs", "model=bprmf", f"denoiser._target_={name}.Late", f"plugins=[{name}]",
                "trainer.max_epochs=9", "trainer.checkpoint_seconds=0")
    record = stored(tmp_path / "runs")
    folder = tmp_path / "runs" / record["key"]
    assert record["status"] == "diverged" and "Traceback" in record["traceback"]
    assert len((folder / "epochs.csv").read_text().splitlines()) == 3
    weights = torch.load(read_sealed(folder / "last.ckpt"), weights_only=True)
    assert weights["epoch"] == 1 and all(tensor.isfinite().all() for tensor in weights["state_dict"].values())


LONG = ("trainer=smoke", "data.n_users=100", "data.mean_activity=10", "loss.batch_size=16", "trainer.max_epochs=20",
        "trainer.patience=20", "trainer.checkpoint_seconds=0", "model=sclrec", "metrics=[recall@20,ndcg@20]")


def test_row_18_a_killed_run_goes_on_to_the_numbers_of_an_undisturbed_one(tmp_path):
    undisturbed = execute(tmp_path / "undisturbed", *LONG)
    epochs = tmp_path / "runs" / undisturbed["key"] / "epochs.csv"
    process = Started(tmp_path, "recot.run", *LONG)
    wait_for(lambda: epochs.exists() and len(epochs.read_text().splitlines()) > 3)
    os.kill(process.pid, signal.SIGKILL)
    assert process.finished().returncode == -signal.SIGKILL
    assert (epochs.parent / "last.ckpt").exists() and not (epochs.parent / "record.json").exists()
    again = typed(tmp_path, *LONG)
    record = stored(tmp_path / "runs")
    assert again.returncode == 0 and "going on from" in again.stderr
    assert (record["key"], record["epochs"]) == (undisturbed["key"], 20)
    assert (record["digest"], record["best_epoch"]) == (undisturbed["digest"], undisturbed["best_epoch"])
    with epochs.open() as file:
        assert record["fit_seconds"] >= round(sum(float(line["seconds"]) for line in csv.DictReader(file)), 3)
    assert not (epochs.parent / "last.ckpt").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a checkpoint", b"cos\nsystem\n(S'touch harm'\ntR."])
def test_row_22_a_checkpoint_that_cannot_be_trusted_is_refused_with_its_remedy(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / execute(tmp_path / "runs")["key"]
    (folder / "record.json").unlink()
    (folder / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match="nothing in it was run. Delete it, and the same command starts"):
        execute(tmp_path / "runs")
    assert stored(tmp_path / "runs")["status"] == "failed" and not (tmp_path / "harm").exists()
    (folder / "last.ckpt").unlink()
    assert execute(tmp_path / "runs")["status"] == "done"


def test_row_23_the_same_command_elsewhere_under_another_hash_seed_gives_the_same_digest_and_key(tmp_path):
    here = execute(tmp_path / "here", "noise=add")
    (tmp_path / "other folder").mkdir()
    done = python(tmp_path, "-m", "recot.run", *TINY, "noise=add", cwd=tmp_path / "other folder",
                  PYTHONHASHSEED="12345")
    there = stored(tmp_path / "runs")
    assert done.returncode == 0 and {name: there[name] for name in ("key", "digest", "split", "test")} == {
        name: here[name] for name in ("key", "digest", "split", "test")}
    assert execute(tmp_path / "here", "noise=add", "seed=1")["digest"] != here["digest"]


@pytest.mark.parametrize("body", ["raise RuntimeError('no network')", "time.sleep(30)"], ids=["raises", "hangs"])
@pytest.mark.parametrize("moment", ["start", "log", "finish"])
def test_row_24_a_failing_tracker_costs_one_warning_and_the_record_is_complete(moment, body, tmp_path, plugin, caplog,
                                                                               monkeypatch):
    monkeypatch.setattr(trackers, "PATIENCE", 0.2)
    name = plugin(f"""
        import time
        from recot.record.trackers import Csv

        class Broken:
            start = log = finish = lambda self, *given: None
            def {moment}(self, *given):
                {body}
    """)
    record = execute(tmp_path / "runs", "model=bprmf", f"logger._target_={name}.Broken", f"plugins=[{name}]")
    plain = execute(tmp_path / "plain", "model=bprmf")
    warnings = [entry.message for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert len(warnings) == 1 and warnings[0].startswith("logger=broken does not work")
    assert stored(tmp_path / "runs")["status"] == "done" and set(record) == set(plain)
    assert (record["key"], record["digest"]) == (plain["key"], plain["digest"])


def test_row_24_wandb_without_a_key_and_a_terminal_leaves_a_complete_record(tmp_path):
    done = typed(tmp_path, *TINY, "logger=wandb")
    assert done.returncode == 0 and stored(tmp_path / "runs")["status"] == "done"
    assert done.stderr.count("logger=wandb does not work") == 1 and "wandb: " not in done.stderr


def test_a_secret_of_the_environment_is_in_no_file_of_the_run(tmp_path, monkeypatch):
    secret = "s3cr3t" * 7
    for name in ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, secret)
    execute(tmp_path)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 4 and not any(secret.encode() in file.read_bytes() for file in files)


def test_row_8_a_full_disk_fails_the_run_and_spares_what_was_there(tmp_path, monkeypatch):
    """Row 8 at the level of the run."""
    first = execute(tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="cannot be written .*No space left.*code.*; name another .* RECOT_RUNS or"):
            execute(tmp_path, "force=true")
    assert store.Runs(tmp_path).get(first["key"])["digest"] == first["digest"]


def test_a_forced_run_that_is_stopped_leaves_the_epochs_of_the_good_one(tmp_path, monkeypatch):
    words = ("model=bprmf", "trainer.max_epochs=3", "trainer.patience=3", "trainer.checkpoint_seconds=0")
    first = execute(tmp_path, *words)
    epochs = tmp_path / first["key"] / "epochs.csv"
    good = epochs.read_text()

    def stop(file, history):
        assert file != epochs
        save(file, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        save = outputs.save_history
        patch.setattr(outputs, "save_history", stop)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path, *words, "force=true")
    assert epochs.read_text() == good and store.Runs(tmp_path).get(first["key"])["seconds"] == first["seconds"]
    again = execute(tmp_path, *words, "force=true")
    assert epochs.read_text() != good and again["digest"] == first["digest"]  # seconds differ
    assert {file.name for file in epochs.parent.iterdir()} == {
        ".lock", "epochs.csv", "record.json", "test.parquet", "valid.parquet", "weights.pt"}


def test_every_fault_of_the_list_has_a_test_that_names_it_and_every_such_test_a_line():
    here = Path(__file__).parent
    listed = re.findall(r"^\| (\d+) \|", (here / "FAULTS.md").read_text(encoding="utf-8"), re.MULTILINE)
    shown = {number for file in here.rglob("test_*.py")
             for number in re.findall(r"^def test_row_(\d+)_", file.read_text(encoding="utf-8"), re.MULTILINE)}
    assert set(listed) == shown and listed == sorted(listed, key=int)
