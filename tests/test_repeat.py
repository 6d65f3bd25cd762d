"""A run begun again: the same to the last digit, or said where it departs."""

import pytest
from commands import TINY, execute

from recot.compose import composed
from recot.repeat import departure


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def asked(runs, *words):
    """The config of a tiny run, and the record it left."""
    record = execute(runs, *words)
    config, _ = composed(*TINY, *words)
    return config | {"paths": {"runs": str(runs), "cache": str(runs)}}, record


@pytest.mark.parametrize("words", [("model=clrec",), ("model=ir",), ("model=popularity",),
                                   ("model=nce", "protocol=denoise", "denoiser=prorec")])
def test_the_same_code_repeats_a_run(runs, words):
    config, record = asked(runs, *words)
    assert departure(config, record, runs / record["key"]) == ""


def test_another_loss_is_a_departure_of_the_first_epoch(runs):
    config, record = asked(runs, "model=clrec")
    other = config | {"loss": config["loss"] | {"tau": 0.3}}
    found = departure(other, record, runs / record["key"])
    assert found.startswith("loss is ") and " and was " in found


def test_another_answer_of_a_closed_form_is_a_departure(runs):
    config, record = asked(runs, "model=itemknn")
    other = config | {"model": config["model"] | {"k": 3}}
    assert departure(other, record, runs / record["key"]) == "the answers are others"


def test_another_split_is_a_departure(runs):
    config, record = asked(runs, "model=popularity")
    assert departure(config, record | {"split": "0" * 16}, runs / record["key"]).startswith("the split is ")


def test_without_its_epochs_a_run_cannot_be_judged(runs, tmp_path):
    config, record = asked(runs, "model=clrec")
    with pytest.raises(FileNotFoundError):
        departure(config, record, tmp_path)
