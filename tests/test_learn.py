"""The training loop: what it stops on, what it keeps, what it survives."""

import copy
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch

from recot.data.interactions import Interactions
from recot.data.split import ratio
from recot.denoise.base import Denoiser
from recot.denoise.soft_matching import SoftMatching
from recot.evaluate import evaluate
from recot.learn import Diverged, Gradient
from recot.networks.autoencoder import Autoencoder
from recot.networks.tables import Tables
from recot.objectives import BPR, InfoNCE, Multinomial
from recot.training import Training

QUICK = Training(max_epochs=4, patience=10, learning_rate=0.05, device="cpu", block=3, checkpoint_seconds=0)


def small_split(rng=None):
    """Two communities of 20 users who take items of their own half."""
    rng = rng or torch.Generator().manual_seed(1)
    own = torch.arange(40)[:, None] % 2 == torch.arange(30) % 2
    users, items = ((torch.rand(40, 30, generator=rng) < 0.7) & own).nonzero(as_tuple=True)
    return ratio(Interactions.from_pairs(users, items, 40, 30))


def gradient(training=QUICK, objective=None, denoiser=None, **given):
    return Gradient(partial(Tables, dim=8), objective or InfoNCE(64), denoiser or SoftMatching(), training, **given)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def test_training_learns_the_communities():
    split = small_split()
    model = gradient(replace(QUICK, max_epochs=30)).fit(split)
    untrained = gradient(replace(QUICK, max_epochs=1, learning_rate=1e-9)).fit(split)
    found, chance = (evaluate(m, split.test[0], ["ndcg@10"])["ndcg@10"].mean() for m in (model, untrained))
    assert found > chance + 0.2


def test_the_loop_equals_a_loop_written_out():
    """Same seeds, a plain torch loop: bit for bit the same weights."""
    split, objective = small_split(), BPR(64)
    model = gradient(replace(QUICK, max_epochs=2, weight_decay=0.01), BPR(64), Denoiser()).fit(split)
    torch.manual_seed(0)
    network, rng = Tables(40, 30, dim=8), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 0.05, weight_decay=0.01, fused=True)
    epochs = []
    for _ in range(2):
        for batch in objective.batches(split.train, rng, network, 0):
            loss, _ = objective(network, batch)
            for table in (network.user_table, network.item_table):
                table.weight.grad = torch.zeros_like(table.weight)
            loss.mean().backward()
            optimizer.step()
        epochs.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    best = epochs[model.selection.best_epoch - 1]
    assert all(best[name].equal(tensor) for name, tensor in weights(model).items())


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_a_batch_is_drawn_when_the_step_before_is_done(block):
    """So that what is (n, n) lives as long as a step; every batch is stepped on once, whatever the size of a block."""
    drawn, alive, stepped = [], [], []

    class Watched(InfoNCE):
        def batches(self, *given):
            for batch in super().batches(*given):
                alive.append(sum(one() is not None for one in drawn))
                drawn.append(weakref.ref(batch.observed))
                yield batch
                del batch

        def __call__(self, network, batch):
            stepped.append(batch.items.tolist())
            return super().__call__(network, batch)

    split = small_split()
    training = replace(QUICK, max_epochs=2, block=block)
    model = gradient(training, Watched(32, duplicates="mask"), Denoiser()).fit(split)
    per_epoch = -(-len(split.train) // 32)
    assert len(drawn) == len(stepped) == 2 * per_epoch > 8
    assert max(alive) <= 1
    assert len(model.history) == 2 and all(math.isfinite(row["loss"]) for row in model.history)


def test_same_seed_same_weights_and_another_seed_others():
    first, second, other = (gradient(seed=seed).fit(small_split()) for seed in (3, 3, 4))
    assert all(tensor.equal(weights(second)[name]) for name, tensor in weights(first).items())
    assert not weights(first)["user_table.weight"].equal(weights(other)["user_table.weight"])


def test_a_second_fit_forgets_the_first():
    model = gradient()
    once = weights(model.fit(small_split()))
    again = weights(model.fit(small_split()))
    assert all(tensor.equal(again[name]) for name, tensor in once.items())


def test_the_block_size_changes_nothing():
    one, many = (weights(gradient(replace(QUICK, block=block)).fit(small_split())) for block in (1, 50))
    assert all(tensor.equal(many[name]) for name, tensor in one.items())


@pytest.mark.parametrize("patience", [0, 2])
def test_it_stops_when_the_best_is_not_beaten_and_keeps_the_best(patience, monkeypatch):
    values = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1])
    kept = {}

    def validation(self, split):
        kept[len(kept) + 1] = weights(self)
        return next(values)

    monkeypatch.setattr(Gradient, "validation", validation)
    model = gradient(replace(QUICK, max_epochs=50, patience=patience)).fit(small_split())
    assert [row["ndcg@20"] for row in model.history] == [0.1, 0.3, 0.2, 0.3, 0.1][: 3 + patience]
    assert model.selection.best_epoch == 2
    assert all(tensor.equal(kept[2][name]) for name, tensor in weights(model).items())


def test_the_last_epoch_is_validated_whatever_the_rhythm():
    model = gradient(replace(QUICK, max_epochs=5, eval_every=2)).fit(small_split())
    assert ["ndcg@20" in row for row in model.history] == [False, True, False, True, True]


def test_the_history_holds_loss_metric_time_and_the_denoisers_report():
    seen = []
    model = gradient(observe=lambda history: seen.append(copy.deepcopy(history))).fit(small_split())
    assert [len(history) for history in seen] == [1, 2, 3, 4] and seen[-1] == model.history
    assert set(model.history[0]) == {"epoch", "loss", "ndcg@20", "seconds", "popularity_effect"}
    assert all(math.isfinite(value) for row in model.history for value in row.values())


class Poison(Denoiser):
    """Turns the loss into NaN from the second epoch on."""

    epoch = 0

    def after(self, loss, batch):
        return loss * (math.nan if self.epoch else 1)

    def after_epoch(self, train, network):
        self.epoch += 1
        return train


def test_a_loss_that_becomes_nan_stops_within_the_epoch_and_keeps_the_last_good_checkpoint(tmp_path):
    model = gradient(objective=BPR(64), denoiser=Poison(), folder=tmp_path)
    with pytest.raises(Diverged, match="epoch 2.*Lower trainer.learning_rate"):
        model.fit(small_split())
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0 and all(t.isfinite().all() for t in kept["state_dict"].values())


def test_weights_that_overflow_in_the_last_step_of_an_epoch_are_noticed_before_they_are_validated():
    model = gradient(replace(QUICK, learning_rate=1e39), BPR(10_000), Denoiser())
    with pytest.raises(Diverged, match="a weight became infinite in epoch 1"):
        model.fit(small_split())


PROGRAM = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_learn import QUICK, gradient, small_split, weights, Halving
from dataclasses import replace
from recot.objectives import BPR, InfoNCE
from recot.denoise.soft_matching import SoftMatching
import os, signal

def observe(history):
    if len(history) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.{signal})

kind = sys.argv[3]
objective, denoiser = (InfoNCE(64), SoftMatching(ramp=True)) if kind == "soft" else (BPR(64), Halving())
model = gradient(replace(QUICK, max_epochs=6), objective, denoiser, folder=Path(sys.argv[1]), observe=observe)
model.fit(small_split())
torch.save([weights(model), [[r["epoch"], r["loss"], r["ndcg@20"]] for r in model.history]], sys.argv[1] + "/out.pt")
"""


class Halving(Denoiser):
    """Relabels: halves the weight of the first pairs after every epoch, so the training set itself is state."""

    def after_epoch(self, train, network):
        weights = train.weights.clone()
        weights[: len(train) // 3] /= 2
        return train.reweighted(weights)


@pytest.mark.parametrize("kind", ["soft", "relabel"])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(tmp_path, kind):
    """SIGKILL after epoch 3 and again after epoch 5; bit for bit the result of one undisturbed run."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(PROGRAM.format(tests=os.path.dirname(__file__), signal="SIGKILL")))
    results = []
    for name, kills in (("whole", [99]), ("killed", [3, 5, 99])):
        folder = tmp_path / name
        folder.mkdir()
        codes = [subprocess.run([sys.executable, script, folder, str(kill), kind], cwd=os.getcwd(), check=False,
                                capture_output=True, text=True) for kill in kills]
        assert [c.returncode for c in codes] == [-signal.SIGKILL] * (len(kills) - 1) + [0], codes[-1].stderr[-2000:]
        results.append(torch.load(folder / "out.pt", weights_only=True))
    assert results[0][1] == results[1][1]
    assert all(tensor.equal(results[1][0][name]) for name, tensor in results[0][0].items())


def drawing(training=QUICK, **given):
    """A model with everything that has to survive: dropout, drawn codes, an annealed loss, weighted training pairs."""
    network, objective = partial(Autoencoder, dim=4, variational=True), Multinomial(16, anneal_steps=40)
    return Gradient(network, objective, Halving(), training, **given)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_what_is_drawn_and_what_an_objective_counts_survive_an_interruption(tmp_path, optimizer):
    class Stop(Exception):
        pass

    def observe(history):
        if len(history) == 3:
            raise Stop

    training = replace(QUICK, max_epochs=6, optimizer=optimizer)
    with pytest.raises(Stop):
        drawing(training, folder=tmp_path, observe=observe).fit(small_split())
    resumed, whole = drawing(training, folder=tmp_path).fit(small_split()), drawing(training).fit(small_split())
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    assert all(tensor.equal(weights(whole)[name]) for name, tensor in weights(resumed).items())


def test_a_second_fit_forgets_what_an_objective_counted():
    model = drawing()
    once = weights(model.fit(small_split()))
    again = weights(model.fit(small_split()))
    assert model.objective.step == 0 and all(tensor.equal(again[name]) for name, tensor in once.items())


def test_saved_weights_and_the_pairs_they_were_trained_on_give_the_same_scores(tmp_path):
    split = small_split()
    model = drawing().fit(split)
    model.save(tmp_path / "weights.pt")
    loaded = drawing(seed=9).load(tmp_path / "weights.pt", model.trained_on)
    torch.testing.assert_close(loaded.score(split.valid.query), model.score(split.valid.query), atol=0, rtol=0)


def test_weight_decay_leaves_alone_what_the_network_spares():
    """A loss of nothing: what is decayed moves, what is spared stays."""
    class Nothing(Denoiser):
        def after(self, loss, batch):
            return loss * 0

    for optimizer in ("adam", "rmsprop"):
        training = replace(QUICK, max_epochs=1, weight_decay=0.1, optimizer=optimizer)
        model = Gradient(partial(Autoencoder, dim=4), Multinomial(16), Nothing(), training).fit(small_split())
        start = model.build(40, 30).state_dict()
        trained = model.selection.best_weights
        assert {name for name in start if trained[name].equal(start[name])} == {"first_bias", "item_bias"}


def interrupted(folder):
    """A folder with the checkpoint of a run that stopped after two epochs."""
    class Stop(Exception):
        pass

    def observe(history):
        if len(history) == 3:
            raise Stop

    with pytest.raises(Stop):
        gradient(folder=folder, observe=observe).fit(small_split())
    return folder / "last.ckpt"


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "foreign"])
def test_a_damaged_or_foreign_checkpoint_is_refused_in_a_sentence(tmp_path, damage):
    file = interrupted(tmp_path)
    whole = file.read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, file)
    else:
        file.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"\x00garbage" * 99, "empty": b""}[damage])
    with pytest.raises(ValueError, match="Delete it, and the same command starts this run from the beginning"):
        gradient(folder=tmp_path).fit(small_split())


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_nothing_in_a_malicious_checkpoint_is_run(tmp_path):
    file = interrupted(tmp_path)
    for write in (lambda: torch.save({"state_dict": Bomb(tmp_path / "ran")}, file),
                  lambda: file.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))):
        write()
        with pytest.raises(ValueError, match="nothing in it was run"):
            gradient(folder=tmp_path).fit(small_split())
    assert not (tmp_path / "ran").exists()


def test_saved_weights_give_the_same_scores(tmp_path):
    split = small_split()
    model = gradient().fit(split)
    model.save(tmp_path / "weights.pt")
    loaded = gradient(seed=9).load(tmp_path / "weights.pt", model.trained_on)
    torch.testing.assert_close(loaded.score(split.valid.query), model.score(split.valid.query), atol=0, rtol=0)


@pytest.mark.parametrize("settings", [{"max_epochs": 0}, {"patience": -1}, {"eval_every": 0}, {"block": 0},
                                      {"weight_decay": -1e-6}])
def test_training_numbers_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="or more"):
        Training(**settings)


def test_a_learning_rate_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="has to be positive"):
        Training(learning_rate=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_said():
    with pytest.raises(RuntimeError, match="use trainer.device=cpu"):
        Training(device="cuda").pick_device()


def test_bfloat16_training_stays_close_to_float32():
    full, mixed = (gradient(replace(QUICK, precision=precision)).fit(small_split()) for precision in (
        "32-true", "bf16-mixed"))
    assert mixed.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=0.05)
    assert weights(mixed)["user_table.weight"].dtype == torch.float32
