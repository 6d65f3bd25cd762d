"""Records: what names them, and that they appear whole or not at all."""

import errno
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from commands import composed, environment
from hypothesis import given
from hypothesis import strategies as st

from recot import cache


@pytest.mark.parametrize("change", ["seed=1", "loss.tau=0.3", "denoiser.alpha=0.5", "trainer.max_epochs=3", "noise=add",
                                    "data.noise=0", "metrics=[hr@5]", "trainer.precision=bf16-mixed", "model.dim=8",
                                    "trainer.optimizer=rmsprop"])
def test_whatever_changes_a_result_changes_the_key(change):
    assert cache.key(composed(change)[0], "d") != cache.key(composed()[0], "d")


@pytest.mark.parametrize("change", ["logger=tensorboard", "paths.runs=x", "paths.cache=x", "force=true",
                                    "plugins=[mine]", "trainer.progress=false", "trainer.checkpoint_seconds=0",
                                    "trainer.device=cpu", "trainer.deterministic=false",
                                    "trainer.weight_decay=0.000001"])
def test_where_and_how_it_runs_does_not_change_the_key(change):
    assert cache.key(composed(change)[0], "d") == cache.key(composed()[0], "d")


@pytest.mark.parametrize(("path", "value"), cache.LATER.items())
def test_a_key_that_came_later_leaves_the_names_of_earlier_runs_alone(path, value):
    group, name = path.split(".")
    config = composed(*["noise=add"] * (group == "noise"), f"{path}={'null' if value is None else value}")[0]
    earlier = config | {group: {key: kept for key, kept in config[group].items() if key != name}}
    assert cache.key(earlier, "d") == cache.key(config, "d")


@pytest.mark.parametrize("target", cache.FORMER)
def test_a_parameter_that_went_still_stands_in_the_name_and_in_no_config(target):
    """Names and configs of records that were made with it, and of those made today, are the same."""
    now = {"denoiser": {"_target_": target, "rounds": 2}, "seed": 0}
    made = {"denoiser": now["denoiser"] | cache.FORMER[target], "seed": 0}
    assert cache.key(now, "d") == cache.key(made, "d") != cache.key({**now, "denoiser": {"_target_": "x"}}, "d")
    text = json.dumps([made, "d"], sort_keys=True)
    assert cache.key(now, "d") == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert cache.current(made) == cache.current(now) == now
    other = {"denoiser": made["denoiser"] | {"restart": False}}
    assert cache.current(other)["denoiser"]["restart"] is False  # which today's constructor refuses


def test_the_data_are_part_of_the_key_and_their_place_is_not():
    first, second = (composed("data=csv", f"data.path={path}")[0] for path in ("a.csv", "b.csv"))
    assert cache.key(first, "d") == cache.key(second, "d") != cache.key(second, "e")


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.dictionaries(st.text(), st.booleans())))
def test_the_key_does_not_depend_on_the_order_of_the_config(config):
    turned = dict(reversed(config.items()))
    assert cache.key(config, "d") == cache.key(turned, "d") and len(cache.key(config, "d")) == 16


def test_a_record_with_nan_is_read_back_as_strict_json(tmp_path):
    runs = cache.Runs(tmp_path)
    file = runs.put("k", {"status": "failed", "a": math.nan, "b": [math.inf, 1.5], "c": {"ü": None}})
    json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert runs.get("k") == {"status": "failed", "a": "nan", "b": ["inf", 1.5], "c": {"ü": None}}


def test_row_8_a_full_disk_leaves_the_old_record_and_no_rest(tmp_path, monkeypatch):
    runs = cache.Runs(tmp_path)
    runs.put("k", {"status": "interrupted"})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"k cannot be written \(.*No space left.*record.json.*RECOT_RUNS or paths.runs"):
        runs.put("k", {"status": "failed"})
    assert runs.get("k") == {"status": "interrupted"} and os.listdir(tmp_path / "k") == ["record.json"]


def test_no_record_is_none_and_a_broken_one_is_an_error_with_a_remedy(tmp_path):
    runs = cache.Runs(tmp_path)
    assert runs.get("k") is None
    runs.put("k", {"status": "failed"}).write_text('{"status": "do')
    with pytest.raises(ValueError, match="is not a record .*; delete it and run the same command again"):
        runs.get("k")


def test_a_place_that_cannot_be_written_is_named_with_what_moves_it(tmp_path):
    (tmp_path / "file").touch()
    remedy = "cannot be written .*; name another place for records with RECOT_RUNS or paths.runs"
    with pytest.raises(OSError, match=remedy), cache.Runs(tmp_path / "file").lock("k"):
        pass


HOLD = textwrap.dedent("""
    import sys, time
    from recot.cache import Runs
    with Runs(sys.argv[1]).lock("k"):
        print("held", flush=True)
        time.sleep(60)
""")


def test_a_run_waits_for_the_process_that_holds_it_and_a_killed_one_frees_it(tmp_path, caplog):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                              env=environment(tmp_path))
    try:
        assert holder.stdout.readline() == "held\n"
        got = threading.Event()

        def take():
            with cache.Runs(tmp_path).lock("k"):
                got.set()

        waiting = threading.Thread(target=take)
        waiting.start()
        assert not got.wait(0.3)
        assert "another process is working on" in caplog.text
        holder.send_signal(signal.SIGKILL)
        assert got.wait(10)
        waiting.join()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_two_different_runs_do_not_wait_for_each_other(tmp_path):
    runs = cache.Runs(tmp_path)
    with runs.lock("a"), runs.lock("b"):
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]
