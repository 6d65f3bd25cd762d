"""A run keeps its name when a key comes, a parameter goes or a definition moves; its record is read as today's."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from commands import composed

from recot.request import former, keys
from recot.request.errors import RequestError
from recot.request.schema import check
from recot.request.signature import describe

GOLDEN = Path(__file__).parents[1] / "golden" / "keys.csv"


@pytest.mark.parametrize(("path", "value"), former.LATER.items())
def test_a_key_that_came_leaves_the_names_of_earlier_runs_alone_and_is_put_into_their_configs(path, value):
    group, _, name = path.rpartition(".")
    words = {"noise": ["noise=add"], "model.hidden_activation": ["model=vae"], "model.spread": ["model=vae"],
             "loss": ["loss=bpr", "model=bprmf"], "data": ["data=csv", "data.path=log.csv"],
             "data.n_domains": ["data=planted"]}
    word = f"{path}={'null' if value is None else value}"
    config = composed(*words.get(path, words.get(group, [])), *([] if value == {} else [word]))[0]
    inner = config[group] if group else config
    earlier = {key: kept for key, kept in inner.items() if key != name}
    assert len(earlier) < len(inner)
    earlier = config | {group: earlier} if group else earlier
    assert keys.key(earlier, "d") == keys.key(config, "d")
    assert former.current(earlier) == config == former.current(config)


def test_a_key_that_came_is_put_only_where_something_takes_it():
    config = composed("noise=none")[0]
    assert former.current(config) == config and "seen" not in config["noise"]


@pytest.mark.parametrize("target", former.GONE)
def test_a_parameter_that_went_still_stands_in_the_name_and_in_no_config(target):
    now = {"denoiser": {"_target_": target, "rounds": 2}, "seed": 0}
    made = {"denoiser": now["denoiser"] | former.GONE[target], "seed": 0}
    assert keys.key(now, "d") == keys.key(made, "d") != keys.key({**now, "denoiser": {"_target_": "x"}}, "d")
    text = json.dumps([made, "d"], sort_keys=True)
    assert keys.key(now, "d") == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert former.current(made) == former.current(now) == now
    other = {"denoiser": made["denoiser"] | {"restart": False}}
    assert former.current(other)["denoiser"]["restart"] is False  # which today's constructor refuses


def test_a_definition_that_moved_changes_no_name_and_is_found_under_its_old_one(monkeypatch):
    monkeypatch.setattr(former, "MOVED", {})
    config = composed("model=bprmf")[0]
    before, target = keys.key(config, "d"), config["loss"]["_target_"]
    moved = config | {"loss": config["loss"] | {"_target_": "recot.objectives.losses.bpr"}}
    assert keys.key(moved, "d") != before
    monkeypatch.setattr(former, "MOVED", {"recot.objectives.losses.bpr": target})
    assert keys.key(moved, "d") == before
    assert former.current(config)["loss"]["_target_"] == "recot.objectives.losses.bpr"
    monkeypatch.setattr(former, "MOVED", {target: "recot.gone.BPR"})
    with pytest.raises(RequestError, match=f"loss._target_: recot.gone.BPR is now {target}"):
        check(config | {"loss": config["loss"] | {"_target_": "recot.gone.BPR"}}, {})


def golden():
    with GOLDEN.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("data", ["planted", "gowalla", "office"])
def test_every_preset_has_the_name_it_always_had(data):
    """The file may grow and never change: another name hides all records and rows that were made under the old one.

    A preset that was corrected has a line for today's name, and one with the words that give the old one.
    """
    for row in golden():
        if row["data"] == data:
            typed = [f"data={data}", f"model={row['model']}", "~tuned", *row["words"].split()]
            assert keys.key(composed(*typed)[0], "d") == row["key"], row


def test_every_preset_has_a_golden_name():
    presets = {path.stem for path in (Path(__file__).parents[2] / "conf" / "model").glob("*.yaml")}
    assert {(row["model"], row["data"]) for row in golden()} == {
        (model, data) for model in presets for data in ("planted", "gowalla", "office")}


def test_what_is_said_to_have_moved_is_there_and_no_more_where_it_was():
    for now, before in former.MOVED.items():
        assert describe(now) is not None and describe(before) is None, now
    assert len(set(former.MOVED.values())) == len(former.MOVED)
