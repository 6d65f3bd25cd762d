"""A run begun again: the same to the last digit, or said where it departs."""

from dataclasses import replace

import pytest
from commands import TINY, execute

from recot.artifacts.verify import departure
from recot.record.record import run_line
from recot.request.compose import composed


def asked(runs, *words):
    """The config of a tiny run, and what a list of runs keeps of it."""
    record = execute(runs, *words)
    config, _ = composed(*TINY, *words)
    return config | {"paths": {"runs": str(runs), "cache": str(runs)}}, run_line(record)


@pytest.mark.parametrize("words", [("model=clrec",), ("model=clrec", "trainer.eval_every=2"),
                                   ("model=popularity",), ("model=nce", "protocol=denoise", "denoiser=prorec")])
def test_the_same_code_repeats_a_run(runs, words):
    config, line = asked(runs, *words)
    assert departure(config, line) == ""


def test_another_loss_is_a_departure_of_the_first_epoch(runs):
    config, line = asked(runs, "model=clrec")
    other = config | {"loss": config["loss"] | {"tau": 0.3}}
    found = departure(other, line)
    assert found.startswith("loss is ") and " and was " in found


def test_another_answer_of_a_closed_form_is_a_departure(runs):
    config, line = asked(runs, "model=itemknn")
    other = config | {"model": config["model"] | {"k": 3}}
    assert departure(other, line) == "the answers are others"


def test_another_split_is_a_departure(runs):
    config, line = asked(runs, "model=popularity")
    assert departure(config, replace(line, split="0" * 16)).startswith("the split is ")


@pytest.mark.parametrize(("model", "lost"), [
    ("clrec", {"first_epoch": {}}), ("popularity", {"digest": ""}), ("clrec", {"threads": None})])
def test_a_line_that_does_not_tell_cannot_be_judged(runs, model, lost):
    config, line = asked(runs, f"model={model}")
    with pytest.raises(LookupError, match="was not kept"):
        departure(config, replace(line, **lost))


def test_what_is_compared_was_validated(runs):
    config, line = asked(runs, "model=clrec", "trainer.eval_every=2")
    assert line.cells()["first_epoch"].startswith("epoch=2 loss=") and "ndcg@20" in line.first_epoch
    other = replace(line, first_epoch={**line.first_epoch, "ndcg@20": "1.5"})
    assert departure(config, other).startswith("ndcg@20 is ")
    with pytest.raises(LookupError, match="was not validated"):
        departure(config, replace(line, first_epoch={"epoch": "1", "loss": "0.5"}))


@pytest.mark.parametrize("words", [("model=ir",), ("model=bprmf", "protocol=denoise")])
def test_of_a_fit_on_other_pairs_the_first_epoch_says_nothing(runs, words):
    config, line = asked(runs, *words)
    assert line.first_epoch
    with pytest.raises(LookupError, match="come from a later fit"):
        departure(config, line)


@pytest.mark.parametrize("words", [("model=ir",), ("model=bprmf", "protocol=denoise")])
def test_a_run_made_again_to_its_end_tells_by_every_answer(runs, words):
    config, line = asked(runs, *words)
    assert departure(config, line, whole=line.seconds) == ""
    assert departure(config, replace(line, digest="0" * 16), whole=line.seconds) == "the answers are others"
    with pytest.raises(LookupError, match="come from a later fit"):
        departure(config, line, whole=line.seconds / 2)
    with pytest.raises(LookupError, match="digest of its answers was not kept"):
        departure(config, replace(line, digest=""), whole=line.seconds)
