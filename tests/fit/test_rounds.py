"""Rounds of fitting and relabelling."""

import signal
import textwrap
from dataclasses import replace
from functools import partial

import pytest
import torch
from commands import command, composed
from fitting import QUICK, small_split

from recot.data.interactions import Interactions
from recot.denoise.base import Denoiser
from recot.denoise.iterative import IterativeRelabelling
from recot.evaluation.evaluate import evaluate
from recot.evaluation.recommender import Recommender
from recot.fit.gradient import Gradient
from recot.fit.rounds import Relabelled
from recot.networks.factorisation import Tables
from recot.objectives.pairs import BPR
from recot.record.build import build


class Fixed(Recommender):
    """Ranks by given scores; remembers what it was fitted on."""

    def __init__(self, fits, quality):
        self.fits, self.quality = fits, quality

    def fit(self, split):
        self.fits.append(split)
        self.good = self.quality[len(self.fits) - 1]
        self.targets = split.valid.targets
        return self

    def score(self, query):
        scores = torch.zeros(len(query), 30)
        for row, items in enumerate(self.targets.slice(0, len(query)).values.tensor_split(len(query))):
            scores[row, items] = self.good
        return scores - torch.arange(30) * 1e-3


class Dropping:
    """Leaves out the first pair of what was trained on last."""

    rounds, marks = 3, {}

    def relabel(self, original, current, network):
        return current.select(torch.arange(len(current)) > 0)

    def report(self):
        return {"kept": 1.0}


def test_each_round_trains_on_what_the_one_before_it_left_and_validates_on_the_original():
    fits, split = [], small_split()
    Relabelled(lambda folder, observe: Fixed(fits, [0, 0, 0, 0]), Dropping(), "ndcg@20").fit(split.for_training())
    assert [len(fit.train) for fit in fits] == [len(split.train) - number for number in range(4)]
    assert all(fit.valid is fits[0].valid for fit in fits)


@pytest.mark.parametrize(("quality", "chosen"), [([9, 0, 0, 0], 1), ([0, 1, 0, 0], 1), ([0, 0, 1, 0], 2)])
def test_the_best_round_after_the_first_relabelling_is_kept(quality, chosen):
    split = small_split()
    model = Relabelled(lambda folder, observe: Fixed(fits, quality), Dropping(), "ndcg@20")
    fits = []
    assert model.fit(split.for_training()).best_round == chosen


def test_without_validation_questions_the_last_round_is_kept():
    split, fits = small_split(), []
    model = Relabelled(lambda folder, observe: Fixed(fits, [9, 9, 9, 0]), Dropping(), "ndcg@20")
    empty = replace(split.valid, query=split.valid.query.slice(0, 0), targets=split.valid.targets.slice(0, 0),
                    seen=split.valid.seen.slice(0, 0))
    assert model.fit(replace(split.for_training(), valid=empty)).best_round == 3
    assert [row["round"] for row in model.rounds] == [0, 1, 2, 3] and "ndcg@20" not in model.rounds[0]
    assert len(model.trained_on) == len(split.train) - 3


def test_ir_is_rounds_of_fresh_networks_written_out():
    split, denoiser = small_split(), IterativeRelabelling(rounds=2)
    training = replace(QUICK, max_epochs=3)

    def network(folder=None, observe=lambda history: None):
        return Gradient(partial(Tables, dim=8), BPR(64), Denoiser(), training, folder=folder, observe=observe)

    seen = []
    model = Relabelled(network, denoiser, "ndcg@20", observe=lambda history: seen.append(len(history)))
    model.fit(split.for_training())
    current, rounds = split.train, []
    for _ in range(3):
        rounds.append(network().fit(replace(split, train=current)))
        with torch.no_grad():
            current = denoiser.relabel(split.train, current, rounds[-1].network.eval())
    values = [evaluate(one, split.valid, ["ndcg@20"])["ndcg@20"].mean() for one in rounds[1:]]
    best = rounds[1 + values.index(max(values))]
    query = split.test[0].query
    torch.testing.assert_close(model.score(query), best.score(query), atol=0, rtol=0)
    assert seen == list(range(1, 10)) and [row["round"] for row in model.history] == [0] * 3 + [1] * 3 + [2] * 3
    assert "kept" in model.history[-1] and "kept" not in model.history[0]


def test_the_preset_is_staged():
    assert isinstance(build(composed("model=ir")[0]), Relabelled)


PROGRAM = """
    import os, signal, sys
    from recot.record import experiment, outputs
    from commands import composed
    if len(sys.argv) > 2:
        whole = outputs.write_whole
        def dying(file, content):
            whole(file, content)
            if file.name == "epochs.csv" and content.count(b"\\n") == int(sys.argv[2]) + 1:
                os.kill(os.getpid(), signal.SIGKILL)
        outputs.write_whole = dying
    config, choices = composed("model=ir", "trainer=smoke", "trainer.max_epochs=4", "trainer.checkpoint_seconds=0",
                               "data.n_users=60")
    config["paths"] = {"runs": sys.argv[1], "cache": sys.argv[1]}
    print(experiment.run(config, choices, "")["digest"])
"""


def test_row_18_killed_in_a_later_round_it_ends_as_if_it_had_never_been_killed(tmp_path):
    program = textwrap.dedent(PROGRAM)
    undisturbed = command(tmp_path, "-c", program, str(tmp_path / "a"))
    killed = command(tmp_path, "-c", program, str(tmp_path / "b"), "7")
    assert killed.returncode == -signal.SIGKILL
    resumed = command(tmp_path, "-c", program, str(tmp_path / "b"))
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == undisturbed.stdout
    histories = [next((tmp_path / name).glob("*/epochs.csv")).read_text().splitlines() for name in ("a", "b")]
    assert [[line.split(",")[:3] for line in history] for history in histories[:1]] == [
        [line.split(",")[:3] for line in history] for history in histories[1:]]
    assert not list((tmp_path / "b").glob("*/round*"))


def test_relabelling_by_interactions_keeps_the_id_spaces():
    split = small_split()
    found = Dropping().relabel(split.train, split.train, None)
    assert isinstance(found, Interactions) and (found.n_users, found.n_items) == (40, 30)
