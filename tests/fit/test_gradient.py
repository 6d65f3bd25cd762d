"""The training loop: what it stops on, what it keeps, what it survives."""

import copy
import json
import math
import signal
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
from commands import TINY, command, execute
from commands import known as composed
from fitting import QUICK, gradient, small_split, weights
from small import asked, briefly, plain

from recot.denoise.base import Denoiser
from recot.evaluation.evaluate import Diverged, evaluate
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.fit.step import Step
from recot.networks.autoencoder import Autoencoder
from recot.networks.factorisation import Tables
from recot.objectives.pairs import BPR, InfoNCE
from recot.objectives.rows import Multinomial
from recot.record.build import ask_questions, build, descends, make
from recot.record.experiment import run
from recot.request.compose import CONF
from recot.request.errors import RequestError
from recot.system.files import read_sealed


def test_training_learns_the_communities():
    split = small_split()
    model = gradient(replace(QUICK, max_epochs=30)).fit(split)
    untrained = gradient(replace(QUICK, max_epochs=1, learning_rate=1e-9)).fit(split)
    found, chance = (evaluate(m, split.test[0], ["ndcg@10"])["ndcg@10"].mean() for m in (model, untrained))
    assert found > chance + 0.2


def continued(fitted, **given):
    """A fit that starts with the weights of another and says so."""
    class Continued(Tables):
        starts_fitted = True

        def __init__(self, **sizes):
            super().__init__(**sizes)
            self.load_state_dict(weights(fitted))

    return Gradient(partial(Continued, dim=8), InfoNCE(64), Denoiser(), **given)


def test_a_network_that_starts_fitted_is_kept_where_training_makes_it_no_better():
    split, harmful = small_split(), replace(QUICK, learning_rate=50.0, max_epochs=3)
    fitted = gradient(replace(QUICK, max_epochs=30)).fit(split)
    model = continued(fitted, training=harmful).fit(split)
    assert model.best_epoch == 0 and [row["epoch"] for row in model.history] == [0, 1, 2, 3]
    assert all(weights(fitted)[name].equal(tensor) for name, tensor in weights(model).items())
    assert model.history[0]["ndcg@20"] == max(row["ndcg@20"] for row in fitted.history)


def test_a_network_that_starts_fitted_is_graded_once_and_trains_as_any_other(tmp_path):
    """So a run that was interrupted goes on without another epoch 0."""
    class Stop(Exception):
        pass

    def observe(history):
        if len(history) == 3:
            raise Stop

    split = small_split()
    fitted = gradient(replace(QUICK, max_epochs=1)).fit(split)
    whole = continued(fitted, training=QUICK).fit(split)
    with pytest.raises(Stop):
        continued(fitted, training=QUICK, folder=tmp_path, observe=observe).fit(split)
    resumed = continued(fitted, training=QUICK, folder=tmp_path).fit(split)
    assert [{**row, "seconds": 0} for row in resumed.history] == [{**row, "seconds": 0} for row in whole.history]
    assert all(weights(whole)[name].equal(tensor) for name, tensor in weights(resumed).items())


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

    def after_epoch(self):
        self.epoch += 1


def test_a_loss_that_becomes_nan_stops_within_the_epoch_and_keeps_the_last_good_checkpoint(tmp_path):
    model = gradient(objective=BPR(64), denoiser=Poison(), folder=tmp_path)
    with pytest.raises(Diverged, match=r"epoch 2; the best weights of Tables are those of epoch 1 .*Lower trainer"):
        model.fit(small_split())
    kept = torch.load(read_sealed(tmp_path / "last.ckpt"), weights_only=True)
    assert kept["epoch"] == 0 and all(t.isfinite().all() for t in kept["state_dict"].values())


def test_weights_that_overflow_in_the_last_step_of_an_epoch_are_noticed_before_they_are_validated():
    model = gradient(replace(QUICK, learning_rate=1e39), BPR(10_000), Denoiser())
    with pytest.raises(Diverged, match="a weight became infinite in epoch 1; no epoch of Tables was good"):
        model.fit(small_split())


PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from fitting import QUICK, gradient, small_split, weights
from dataclasses import replace
from recot.objectives.pairs import InfoNCE
from recot.denoise.soft_matching import SoftMatching
import os, signal

def observe(history):
    if len(history) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

training = replace(QUICK, max_epochs=6)
model = gradient(training, InfoNCE(64), SoftMatching(ramp=True), folder=Path(sys.argv[1]), observe=observe)
model.fit(small_split())
torch.save([weights(model), [[r["epoch"], r["loss"], r["ndcg@20"]] for r in model.history]], sys.argv[1] + "/out.pt")
"""


def test_a_killed_run_ends_as_if_it_had_never_been_killed(tmp_path):
    """SIGKILL after epoch 3 and again after epoch 5; bit for bit the result of one undisturbed run."""
    results = []
    for name, kills in (("whole", [99]), ("killed", [3, 5, 99])):
        folder = tmp_path / name
        folder.mkdir()
        codes = [command(folder, "-c", PROGRAM, str(folder), str(kill)) for kill in kills]
        assert [c.returncode for c in codes] == [-signal.SIGKILL] * (len(kills) - 1) + [0], codes[-1].stderr[-2000:]
        results.append(torch.load(folder / "out.pt", weights_only=True))
    assert results[0][1] == results[1][1]
    assert all(tensor.equal(results[1][0][name]) for name, tensor in results[0][0].items())


def drawing(training=QUICK, **given):
    """A model with everything that has to survive: dropout, drawn codes, an annealed loss."""
    network, objective = partial(Autoencoder, dim=4, variational=True), Multinomial(16, anneal_steps=40)
    return Gradient(network, objective, Denoiser(), training, **given)


@pytest.mark.parametrize("optimizer", ["adam", "amsgrad", "rmsprop"])
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
    split = replace(split, train=split.train.reweighted(torch.linspace(0.5, 1, len(split.train))))
    model = drawing().fit(split)
    model.save(tmp_path / "weights.pt")
    loaded = drawing(seed=9).load(tmp_path / "weights.pt", split.train)
    torch.testing.assert_close(loaded.score(split.valid.query), model.score(split.valid.query), atol=0, rtol=0)


def test_amsgrad_divides_by_the_largest_second_moment():
    """Torch's own, named in the settings; the two part once a gradient falls."""
    def optimiser(name):
        return drawing(replace(QUICK, max_epochs=3, optimizer=name)).fit(small_split())

    adam, amsgrad = optimiser("adam"), optimiser("amsgrad")
    assert [row["loss"] for row in adam.history] != [row["loss"] for row in amsgrad.history]


def test_weight_decay_leaves_alone_what_the_network_spares():
    """A loss of nothing: what is decayed moves, what is spared stays."""
    class Nothing(Denoiser):
        def after(self, loss, batch):
            return loss * 0

    for optimizer in ("adam", "amsgrad", "rmsprop"):
        training = replace(QUICK, max_epochs=1, weight_decay=0.1, optimizer=optimizer)
        model = Gradient(partial(Autoencoder, dim=4), Multinomial(16), Nothing(), training).fit(small_split())
        start = model.build(40, 30).state_dict()
        trained = model.selection.best_weights
        assert {name for name in start if trained[name].equal(start[name])} == {"first_bias", "item_bias"}


def test_saved_weights_give_the_same_scores(tmp_path):
    split = small_split()
    model = gradient().fit(split)
    model.save(tmp_path / "weights.pt")
    loaded = gradient(seed=9).load(tmp_path / "weights.pt", split.train)
    torch.testing.assert_close(loaded.score(split.valid.query), model.score(split.valid.query), atol=0, rtol=0)


@pytest.mark.parametrize("settings", [{"max_epochs": 0}, {"patience": -1}, {"eval_every": 0}, {"block": 0},
                                      {"weight_decay": -1e-6}, {"weight_decay": math.nan}, {"patience_steps": -1},
                                      {"checkpoint_seconds": -1}])
def test_training_numbers_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="or more"):
        Training(**settings)


@pytest.mark.parametrize("rate", [0, -1e-3, math.nan])
def test_a_learning_rate_that_is_not_positive_is_refused(rate):
    with pytest.raises(ValueError, match="has to be positive"):
        Training(learning_rate=rate)


class Dull(Denoiser):
    """Makes every loss the same number of a short type."""

    def __init__(self, value, dtype):
        super().__init__()
        self.value, self.dtype = value, dtype

    def after(self, loss, batch):
        return (loss * 0 + self.value).to(self.dtype)


@pytest.mark.parametrize(("value", "dtype"), [(0.5, torch.bfloat16), (60_000.0, torch.float16), (0.5, torch.float32)])
def test_the_mean_loss_of_an_epoch_is_right_whatever_the_type_of_a_loss(value, dtype):
    """A sum of 0.5 in bfloat16 stops at 128, and one of 60,000 in float16 is infinite in the second step."""
    model = gradient(replace(QUICK, max_epochs=1, block=50), BPR(1), Dull(value, dtype)).fit(small_split())
    assert model.history[0]["loss"] == pytest.approx(value, rel=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("large", [False, True])
def test_a_mean_over_a_batch_is_taken_in_float32(large):
    """Of 400 losses of 1,000 the sum is no float16."""
    model = gradient(replace(QUICK, max_epochs=1), BPR(400 if large else 4), Dull(1000.0, torch.float16))
    assert model.fit(small_split()).history[0]["loss"] == 1000


def moving_away(monkeypatch):
    """Let training end as it does on a card, where Lightning leaves all it had on another device."""
    train = Gradient.train

    def train_and_move(self, step, resume):
        train(self, step, resume)
        step.to("meta")

    monkeypatch.setattr(Gradient, "train", train_and_move)


@pytest.mark.parametrize("words", [
    ("model=bprmf",), ("model=lightgcn",), ("model=sclrec",), ("model=buir_nb", "noise=add", "noise.ratio=0.2"),
    ("model=ir",), ("model=vae", "protocol=denoise", "denoiser=prorec"), ("model=sasrec", "model.dim=8")],
    ids=lambda words: " ".join(words))
def test_a_network_that_training_left_elsewhere_is_asked_on_its_device(tmp_path, monkeypatch, words):
    stayed = execute(tmp_path / "stayed", *words, "trainer.max_epochs=1")
    moving_away(monkeypatch)
    moved = execute(tmp_path / "moved", *words, "trainer.max_epochs=1")
    assert moved["digest"] == stayed["digest"] and moved.get("noise_auc") == stayed.get("noise_auc")
    for kept in ("weights.pt", "test.parquet"):
        assert len({(tmp_path / name / moved["key"] / kept).read_bytes() for name in ("stayed", "moved")}) == 1


TRAINED = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if descends(composed(f"model={path.stem}")[0]))


def small_config(preset, *words):
    """The config of a preset that is trained in a moment."""
    narrow = [f"model.{name}={size}" for name, size in (("dim", 8), ("rank", 4), ("width_factor", 2), (
        "max_length", 10)) if plain(preset)["model"].get(name)]
    short = [f"loss.{name}={count}" for name, count in (("per_node", 1), ("passes", 2), ("steps", 2))
             if name in plain(preset)["loss"]]
    return composed(f"model={preset}", *TINY, "trainer.max_epochs=1", "loss.batch_size=64", *narrow, *short,
                    *asked(preset), *briefly(preset, dim=8, batch_size=64, max_epochs=1, per_node=1, passes=2, steps=2),
                    *words)[0]


@pytest.mark.parametrize("preset", TRAINED)
def test_in_mixed_precision_every_step_has_a_finite_loss_in_float32(preset, monkeypatch):
    config, losses = small_config(preset, "trainer.precision=bf16-mixed"), []
    back = Step.manual_backward

    def noted(self, loss):
        assert not torch.is_autocast_enabled("cpu"), "gradients are computed in float32"
        losses.append(loss.detach())
        back(self, loss)

    monkeypatch.setattr(Step, "manual_backward", noted)
    split = ask_questions(config, make(config["data"]).load())
    model = build(config).fit(split.for_training())
    assert evaluate(model, split.test[0], ["ndcg@20"])["ndcg@20"].isfinite().all()
    assert losses and all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses)


@pytest.mark.parametrize(("preset", "word"), [
    *((preset, "trainer.learning_rate=1e30") for preset in TRAINED), ("vae", "trainer.learning_rate=1e39"),
    ("cdae", "trainer.weight_decay=1e39"), ("bprmf", "trainer.weight_decay=1e39")])
def test_whatever_overflows_is_a_divergence_that_names_network_and_epoch(preset, word, tmp_path):
    calm = [f"++stages.{name}.trainer.learning_rate=1e-3" for name in plain(preset)["stages"]]
    config = small_config(preset, *calm, word, "trainer.max_epochs=3")
    config["paths"] = {"runs": str(tmp_path), "cache": str(tmp_path)}
    with pytest.raises(Diverged, match=r"in epoch \d; .+ Lower trainer\.learning_rate") as told:
        run(config, {}, "")
    [file] = tmp_path.glob("*/record.json")
    assert json.loads(file.read_text())["status"] == "diverged"
    assert config["model"]["_target_"].split(".")[-1] in str(told.value)


def test_scores_that_overflow_in_a_later_epoch_leave_the_best_one_and_the_checkpoint(tmp_path, monkeypatch):
    score, seen = Tables.score, []

    def overflowing(self, query):
        seen.append(query)
        return score(self, query) * (math.inf if len(seen) > 2 else 1)

    monkeypatch.setattr(Tables, "score", overflowing)
    with pytest.raises(Diverged, match=r"scores became infinite in epoch 3; the best weights of Tables are those of "
                                       r"epoch [12] \(ndcg@20 0\.\d+\)"):
        gradient(folder=tmp_path).fit(small_split())
    assert torch.load(read_sealed(tmp_path / "last.ckpt"), weights_only=True)["epoch"] == 1


def test_scores_that_overflow_after_training_are_a_divergence_too(tmp_path, monkeypatch):
    """The network and the epoch of its weights are named, in a record that is not tried again."""
    monkeypatch.setattr(Gradient, "score", lambda self, query: torch.full(
        (len(query), self.network.item_table.weight.shape[0]), math.inf if self.history else 0.0))
    with pytest.raises(Diverged, match=r"Tables of epoch 1\.score returned \d+ non-finite scores"):
        execute(tmp_path, "model=bprmf")
    [file] = tmp_path.glob("*/record.json")
    assert json.loads(file.read_text())["status"] == "diverged"


@pytest.mark.parametrize("patience_steps", [0, 25, 40])
def test_patience_may_count_steps_as_well(patience_steps, monkeypatch):
    """Eight steps an epoch; the best is the second, and the second evaluation that does not beat it is one too many."""
    split = small_split()
    steps = -(-len(split.train) // 64)
    values = iter([0.1, 0.3, *[0.2] * 20])
    monkeypatch.setattr(Gradient, "validation", lambda self, split: next(values))
    training = replace(QUICK, max_epochs=20, patience=1, patience_steps=patience_steps)
    model = gradient(training, BPR(64), Denoiser()).fit(split)
    assert len(model.history) == 2 + max(2, -(-patience_steps // steps))


def test_steps_since_the_best_are_counted_across_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(Gradient, "validation", lambda self, split: 0.5)
    training = replace(QUICK, max_epochs=20, patience=0, patience_steps=40)

    def stop(history):
        if len(history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradient(training, folder=tmp_path, observe=stop).fit(small_split())
    resumed, whole = gradient(training, folder=tmp_path).fit(small_split()), gradient(training).fit(small_split())
    assert len(resumed.history) == len(whole.history) < 20


@pytest.mark.parametrize(("card", "device", "precision", "refusal"), [
    (None, "cuda", "32-true", "trainer.device=cuda, and torch sees no CUDA device; use trainer.device=cpu or auto"),
    (None, "auto", "16-mixed", "trainer.precision=16-mixed needs CUDA; use bf16-mixed or 32-true"),
    ("new", "cpu", "16-mixed", "trainer.precision=16-mixed needs CUDA; use bf16-mixed or 32-true"),
    ("old", "auto", "bf16-mixed", "bf16-mixed is nothing that an old card computes; use 16-mixed or 32-true"),
    ("old", "auto", "16-mixed", None), ("new", "cuda", "bf16-mixed", None), (None, "auto", "bf16-mixed", None),
    ("old", "cpu", "bf16-mixed", None), (None, "cpu", "32-true", None)])
def test_a_device_that_is_not_there_and_a_precision_that_it_lacks_are_refused(monkeypatch, card, device, precision,
                                                                              refusal):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: card == "new")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: f"an {card} card")
    training = Training(device=device, precision=precision)
    if refusal is None:
        assert training.pick_device().type == ("cuda" if card and device != "cpu" else "cpu")
    else:
        with pytest.raises(RequestError, match=refusal):
            training.pick_device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("model", ["bprmf", "ir"])
def test_a_precision_that_the_device_found_lacks_is_refused_before_anything_is_read_or_recorded(tmp_path, model,
                                                                                                monkeypatch):
    monkeypatch.setattr("recot.data.planted.Planted.digest", lambda self: pytest.fail("the data were looked at"))
    with pytest.raises(RequestError, match="trainer.precision=16-mixed needs CUDA"):
        execute(tmp_path, f"model={model}", "trainer.device=auto", "trainer.precision=16-mixed")
    assert not list(tmp_path.iterdir())


def test_bfloat16_training_stays_close_to_float32():
    full, mixed = (gradient(replace(QUICK, precision=precision)).fit(small_split()) for precision in (
        "32-true", "bf16-mixed"))
    assert mixed.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=0.05)
    assert weights(mixed)["user_table.weight"].dtype == torch.float32
