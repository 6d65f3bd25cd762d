"""Records: what names them, and that they appear whole or not at all."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from commands import PATIENCE, composed, environment
from hypothesis import given
from hypothesis import strategies as st
from processes import wait_for

from recot.record import store
from recot.request import keys


@pytest.mark.parametrize("change", ["seed=1", "loss.tau=0.3", "denoiser.alpha=0.5", "trainer.max_epochs=3", "noise=add",
                                    "data.noise=0", "metrics=[hr@5]", "trainer.precision=bf16-mixed", "model.dim=8",
                                    "trainer.optimizer=rmsprop"])
def test_whatever_changes_a_result_changes_the_key(change):
    assert keys.key(composed(change)[0], "d") != keys.key(composed()[0], "d")


@pytest.mark.parametrize("change", ["logger=tensorboard", "paths.runs=x", "paths.cache=x", "force=true",
                                    "plugins=[mine]", "trainer.progress=false", "trainer.checkpoint_seconds=0",
                                    "trainer.device=cpu", "trainer.deterministic=false",
                                    "trainer.weight_decay=0.000001"])
def test_where_and_how_it_runs_does_not_change_the_key(change):
    assert keys.key(composed(change)[0], "d") == keys.key(composed()[0], "d")


def test_the_data_are_part_of_the_key_and_their_place_is_not():
    first, second = (composed("data=csv", f"data.path={path}")[0] for path in ("a.csv", "b.csv"))
    assert keys.key(first, "d") == keys.key(second, "d") != keys.key(second, "e")


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.dictionaries(st.text(), st.booleans())))
def test_the_key_does_not_depend_on_the_order_of_the_config(config):
    turned = dict(reversed(config.items()))
    assert keys.key(config, "d") == keys.key(turned, "d") and len(keys.key(config, "d")) == 16


def test_a_record_with_nan_is_read_back_as_strict_json(tmp_path):
    runs = store.Runs(tmp_path)
    file = runs.put("k", {"status": "failed", "a": math.nan, "b": [math.inf, 1.5], "c": {"ü": None}})
    json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert runs.get("k") == {"status": "failed", "a": "nan", "b": ["inf", 1.5], "c": {"ü": None}}


def test_row_8_a_full_disk_leaves_the_old_record_and_no_rest(tmp_path, monkeypatch):
    runs = store.Runs(tmp_path)
    runs.put("k", {"status": "interrupted"})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"k cannot be written \(.*No space left.*record.json.*RECOT_RUNS or paths.runs"):
        runs.put("k", {"status": "failed"})
    assert runs.get("k") == {"status": "interrupted"} and os.listdir(tmp_path / "k") == ["record.json"]


DONE = {"status": "done", "key": "k", "command": "python -m recot.run model=bprmf", "config": {"seed": 0},
        "model": "bprmf", "split": "s"}
DAMAGED = {
    "empty": b"", "half": b'{"status": "do', "no fields": b"{}", "a list": b"[]", "a word": b'"done"', "null": b"null",
    "no UTF-8": b'{"status": "failed", "error": "\xff"}', "UTF-16": '{"status": "failed"}'.encode("utf-16"),
    "deep": b"[" * 100_000, "a long number": b'{"status": "failed", "epochs": ' + b"9" * 5000 + b"}",
    "a field twice": b'{"status": "failed", "status": "failed"}', "NaN": b'{"status": "failed", "a": NaN}',
    "two records": b'{"status": "failed"}{"status": "failed"}', "NUL": b"\0" * 64,
    **{f"no {name}": json.dumps({kept: DONE[kept] for kept in DONE if kept != name}).encode() for name in DONE},
    **{f"{name} of another type": json.dumps(DONE | {name: value}).encode() for name, value in {
        "status": 1, "key": 1, "command": ["a"], "config": "a", "seed": "0", "epochs": True, "split": None,
        "files": [], "digest": 1, "model": None, "rounds": {}}.items()},
    "rounds without numbers": json.dumps(DONE | {"rounds": [{"round": 0}, {}]}).encode(),
    "rounds that are none": json.dumps(DONE | {"rounds": [1]}).encode(),
    "a file without a sum": json.dumps(DONE | {"seal": "", "files": {"weights.pt": {"bytes": 1}}}).encode(),
    "files without a seal": json.dumps(DONE | {"files": {}}).encode(),
    "another seal": json.dumps(DONE | {"seal": "0" * 64}).encode()}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_record_is_an_error_with_a_remedy(content, tmp_path):
    runs = store.Runs(tmp_path)
    assert runs.get("k") is None
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "record.json").write_bytes(content)
    with pytest.raises(ValueError, match="k/record.json is not a record .*; delete it and run the same command again$"):
        runs.get("k")


def test_a_record_is_no_link_and_no_pipe(tmp_path):
    runs = store.Runs(tmp_path)
    file = runs.put("k", DONE)
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match="is not a record .a link or no plain file"):
        runs.get("k")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ValueError, match="is not a record .a link or no plain file"):
        runs.get("k")


def test_any_flipped_bit_of_a_record_is_found_or_harmless(tmp_path):
    runs, record = published(tmp_path, a=b"one")
    file, found = tmp_path / "k" / "record.json", 0
    whole = file.read_bytes()
    for place in range(8 * len(whole)):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        file.write_bytes(broken)
        try:
            assert runs.get("k") == record
        except ValueError as error:
            found += "is not a record" in str(error)
    assert found > 0.8 * 8 * len(whole)  # blanks between fields say nothing


def test_bytes_that_are_no_text_are_kept_as_escapes(tmp_path):
    runs = store.Runs(tmp_path)
    runs.put("k", {"status": "failed", "command": "runs/r\udce9 \ud800", "\udc80": ["\udcff"]})
    assert runs.get("k") == {"status": "failed", "command": r"runs/r\udce9 \ud800", r"\udc80": [r"\udcff"]}
    assert len(keys.key({"data": {"user": "\udce9"}}, "d")) == 16


def published(root, key="k", **contents):
    """A finished run of these files."""
    runs = store.Runs(root)
    with runs.lock(key):
        with runs.draft(key) as left:
            for name, content in contents.items():
                (left / name).write_bytes(content)
            record = runs.publish(key, DONE | {"key": key})
        runs.settle(key)
    return runs, record


def test_files_are_published_with_their_record(tmp_path):
    runs, record = published(tmp_path, a=b"one", b=b"two")
    assert runs.get("k") == record and set(os.listdir(tmp_path / "k")) == {".lock", "record.json", "a", "b"}
    assert runs.file("k", "a") == tmp_path / "k" / "a" and runs.file("k", "c") is None
    assert runs.file("another", "a") is None


def test_what_was_published_is_read_before_it_is_moved(tmp_path):
    runs, _ = published(tmp_path, **{"a": b"one", "weights.pt": b"old"})
    with runs.lock("k"):
        with runs.draft("k") as left:
            (left / "a").write_bytes(b"another")
            record = runs.publish("k", DONE)
        assert runs.get("k") == record and runs.file("k", "a").read_bytes() == b"another"
        assert runs.file("k", "weights.pt") is None
    with runs.lock("k"):
        assert runs.file("k", "a") == tmp_path / "k" / "a"
    assert set(os.listdir(tmp_path / "k")) == {".lock", "record.json", "a"}
    assert not runs.unsettled("k")


@pytest.mark.parametrize("damage", ["flip", "shorter", "longer", "of another run", "a link", "a folder", "gone"])
def test_a_file_that_is_not_what_its_run_wrote_is_refused_with_the_command_that_makes_it_again(damage, tmp_path):
    runs, _ = published(tmp_path, a=bytes(64))
    published(tmp_path, "other", a=bytes([1] * 64))
    file = tmp_path / "k" / "a"
    if damage in ("a link", "a folder", "gone"):
        file.rename(tmp_path / "moved")
    if damage == "a link":
        file.symlink_to(tmp_path / "moved")
    elif damage == "a folder":
        file.mkdir()
    elif damage != "gone":
        file.write_bytes({"flip": bytes(63) + b"\x40", "shorter": bytes(63), "longer": bytes(65),
                          "of another run": (tmp_path / "other" / "a").read_bytes()}[damage])
    error = FileNotFoundError if damage == "gone" else ValueError
    with pytest.raises(error, match="k/a is .*: python -m recot.run model=bprmf force=true$"):
        runs.file("k", "a")


def test_a_record_that_names_no_files_is_believed_with_one_warning(tmp_path, caplog):
    runs = store.Runs(tmp_path)
    runs.put("k", DONE)
    (tmp_path / "k" / "a").write_bytes(b"one")
    assert runs.file("k", "a") == runs.file("k", "a") == tmp_path / "k" / "a" and runs.file("k", "b") is None
    assert caplog.text.count("cannot be checked") == 1
    (tmp_path / "k" / "b").symlink_to(tmp_path / "k" / "a")
    with pytest.raises(ValueError, match="b is a link or no plain file"):
        runs.file("k", "b")


def test_a_command_in_a_record_cannot_steer_a_terminal():
    assert store.again({"command": "a \x1b[2J\u202e"}) == r"a \x1b[2J\u202e force=true"
    assert store.again({"command": "a force=true"}) == "a force=true"


def test_what_killed_processes_left_is_removed_when_the_run_is_taken(tmp_path):
    runs, record = published(tmp_path, a=b"one")
    folder = tmp_path / "k"
    for place in (".new", "round0", "refit/round1", "wandb"):
        (folder / place).mkdir(parents=True)
        (folder / place / "x.0.part").touch()
    (folder / "epochs.csv.1.part").touch()
    assert runs.unsettled("k")
    with runs.lock("k"):
        pass
    assert [str(part.relative_to(folder)) for part in folder.glob("**/*.part")] == ["wandb/x.0.part"]
    assert not runs.unsettled("k") and runs.get("k") == record


def test_a_place_that_cannot_be_written_is_named_with_what_moves_it(tmp_path):
    (tmp_path / "file").touch()
    remedy = "cannot be written .*; name another place for records with RECOT_RUNS or paths.runs"
    runs = store.Runs(tmp_path / "file")
    for use in (lambda: runs.lock("k").__enter__(), lambda: runs.claim("k"), lambda: runs.put("k", DONE)):
        with pytest.raises(OSError, match=remedy):
            use()
    assert not runs.busy("k")


@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_that_became_read_only_is_named_with_what_moves_it(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    runs, _ = published("runs" if relative else tmp_path)

    def refuse(lock, timeout=-1):
        raise OSError(errno.EROFS, "Read-only file system", os.path.abspath(lock.lock_file))

    monkeypatch.setattr(store.FileLock, "acquire", refuse)
    for use in (lambda: runs.lock("k").__enter__(), lambda: runs.claim("k"), lambda: runs.busy("k")):
        with pytest.raises(OSError, match="k cannot be written .*Read-only.*RECOT_RUNS or paths.runs"):
            use()


def test_a_working_directory_that_was_deleted_is_named(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(OSError, match="runs/k cannot be written: the working directory was deleted; change into"):
        store.Runs("runs").lock("k").__enter__()


HOLD = textwrap.dedent("""
    import sys, time
    from recot.record.store import Runs
    with Runs(sys.argv[1]).lock("k"):
        print("held", flush=True)
        time.sleep(86400)
""")


def test_a_run_waits_for_the_process_that_holds_it_and_a_killed_one_frees_it(tmp_path, caplog):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                              env=environment(tmp_path))
    try:
        assert holder.stdout.readline() == "held\n"
        got = threading.Event()

        def take():
            with store.Runs(tmp_path).lock("k"):
                got.set()

        waiting = threading.Thread(target=take)
        waiting.start()
        wait_for(lambda: "another process is working on" in caplog.text)
        assert not got.wait(0.3)
        holder.send_signal(signal.SIGKILL)
        assert got.wait(PATIENCE)
        waiting.join()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_two_different_runs_do_not_wait_for_each_other(tmp_path):
    runs = store.Runs(tmp_path)
    with runs.lock("a"), runs.lock("b"):
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]
