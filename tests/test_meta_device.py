"""One step of every preset on a device that is not the CPU, where nothing may wait for it."""

import copy
import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from card import Card, Mixed, held, lent
from commands import known as composed
from small import asked, briefly

from recot.data.domains import cut
from recot.denoise.base import Denoiser
from recot.fit.rmsprop import RMSProp
from recot.fit.rounds import Relabelled
from recot.fit.step import Step
from recot.record.build import ask_questions, build, descends, make
from recot.request.compose import CONF

PRESETS = [path.stem for path in sorted((CONF / "model").glob("*.yaml"))]
PLAIN = {name: (f"model={name}",) for name in PRESETS
         if "_target_: recot.networks." in (CONF / "model" / f"{name}.yaml").read_text()}
VARIANTS = PLAIN | {
    f"{model}-{name}": (f"model={model}", *words)
    for model, name, words in (
        ("clrec", "mask", ("loss.duplicates=mask",)), ("clrec", "multi_positive", ("loss.duplicates=multi_positive",)),
        ("clrec", "symmetric", ("loss.symmetric=true",)),
        ("clrec", "smoothing-mask", ("denoiser=smoothing", "loss.duplicates=mask")),
        ("sclrec", "mask", ("loss.duplicates=mask",)),
        ("sclrec", "multi_positive-symmetric", ("loss.duplicates=multi_positive", "loss.symmetric=true")),
        ("sclrec", "marginal-ramp", ("denoiser.popularity=marginal", "denoiser.ramp=true", "denoiser.lam=0.01")),
        ("bprmf", "noise", ("noise=add", "noise.ratio=0.2")),
        ("bprmf", "norm", ("loss.penalty=1e-4", "loss.penalty_form=norm")),
        ("cdae", "tce", ("loss=sampledrowbce", "denoiser=tce")), ("tce", "positives", ("denoiser.rate_of=positives",)),
        ("duorec", "sampled", ("loss.against=sampled", "loss.negatives=1", "loss.prefixes=one")),
        ("sasrec", "all", ("loss.against=all", "loss.negatives=0")),
        ("cl4rec", "mean", ("loss.contrast.pooling=mean", "loss.contrast.filled=false", "loss.contrast.alike=cosine",
                            "loss.contrast.augmentation.masked=item")),
        ("coserec", "hybrid", ("loss.contrast.comparison=hybrid", "loss.contrast.warm_up=0")),
        ("mstein", "group", ("loss.contrast.group=8",)),
        ("bprmf", "sinkhorn", ("loss=sinkhorn",)), ("bprmf", "sinkhorn-self", ("loss=sinkhorn", "loss.debias=self")),
        ("bprmf", "sinkhorn-log", ("loss=sinkhorn", "loss.debias=self", "loss.eps=0.01")),
        ("bprmf", "sinkhorncf", ("loss=sinkhorncf", "loss.anneal_steps=0.5")),
        ("bprmf", "sinkhorncf-log", ("loss=sinkhorncf", "loss.eps=0.01", "loss.gradient=unrolled")),
        ("bprmf", "sinkhorncf-scaled", ("loss=sinkhorncf", "loss.mass=renorm", "loss.scale=norm", "loss.cost.topn=9")),
        ("bprmf", "official", ("loss=sinkhorncf_official", "loss.every=1", "loss.start_epoch=0", "loss.max_rows=9")),
        ("bprmf", "implicit", ("loss=sinkhorncf", "loss.gradient=implicit", "loss.k=20")),
        ("herograph", "neighbours", ("data.n_domains=3", "model.neighbours=2")),
        ("vae_paper", "sinkhorn", ("loss=sinkhorn", "loss.beta=0.1")),
        ("vae_paper", "sinkhorncf", ("loss=sinkhorncf",)))}
SMALL = ("data.n_users=60", "data.mean_activity=6", "trainer=smoke")


def small(model, *words):
    """The words of a variant, in the sizes of a moment; three domains have enough items for candidates."""
    preset, own = model.removeprefix("model="), asked(model.removeprefix("model="), candidates=10)
    return (model, *SMALL, f"data.n_items={120 if own else 80}", *own,
            *briefly(preset, dim=32, max_epochs=1, per_node=1, passes=1, steps=1), *words)


VIEWS = {"drawing": 2}
"""Which operator each history is given is drawn on the device, and decides on sizes: one look for either view."""
FILLED = VIEWS | {"forward": 2}
"""Where padding keeps states, which places hold items and which see any are found among what was drawn."""
WAITS = {"bert4rec": {"forward": 1},  # how many items are masked is drawn on the device
         "mstein": VIEWS, "mstein-group": VIEWS, "cl4rec-mean": VIEWS, "mstein_released": FILLED, "cl4rec": FILLED,
         "coserec": FILLED, "coserec_wdm": FILLED, "coserec-hybrid": FILLED}


def step_of(words, card, weighted=False):
    """Mean loss of two steps; what waits in the second one's drawing, forward and backward pass is in ``card.waits``.

    Args:
        weighted: the pairs have weights, as a denoiser leaves them between two fits.
    """
    config = composed(*small(*words))[0]
    config["loss"]["batch_size"] = 16
    split = ask_questions(config, make(config["data"]).load())
    model = build(config)
    model = (model.make(None, print) if isinstance(model, Relabelled) else model).untrained(split.train)
    network = copy.deepcopy(model.networks[0]).train()  # of the first domain, where there is one for each
    if config["domains"] != "joint":
        split = cut(split, [0])
    objective, denoiser = make(config["loss"]), make(config["denoiser"])
    denoiser = Denoiser() if hasattr(denoiser, "relabel") else denoiser
    training = make(config["trainer"])
    with card, lent():
        weights = torch.linspace(0, 1, len(split.train)) if weighted else split.train.weights
        network, train = held(network), held(split.train.reweighted(weights))
        network.bind(train)
        denoiser.bind(network, train)
        batches = objective.batches(train, torch.Generator().manual_seed(0), network, 0)
        first = next(batches)
        card.stage = "drawing"
        second = next(batches)
        optimizer = RMSProp(network.parameters(), 1e-3) if training.optimizer == "rmsprop" else (
            torch.optim.Adam(network.parameters(), 1e-3, foreach=False))

        class Bare(Step):
            def optimizers(self):
                return SimpleNamespace(step=optimizer.step)

            def manual_backward(self, loss):
                card.stage = "backward"
                loss.backward()

        step = Bare(network, objective, denoiser, training, train, torch.Generator())
        card.stage = None
        step.training_step([first], 0)  # the optimiser's state, and what a report remembers of the first batch
        card.stage = "forward"
        step.training_step([second], 0)
        card.stage = None
        return float(step.loss_sum)


@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "weighted"])
@pytest.mark.parametrize("name", VARIANTS)
def test_no_step_waits_for_the_device(name, weighted):
    card = Card()
    assert math.isfinite(step_of(VARIANTS[name], card, weighted))
    assert Counter(stage for stage, _, _ in card.waits) == WAITS.get(name, {}), card.waits


@pytest.mark.parametrize(("waiting", "of"), [
    (lambda x: x.sum().item(), "_local_scalar_dense"), (lambda x: bool(x.any()), "_local_scalar_dense"),
    (lambda x: int(x.max()), "_local_scalar_dense"), (lambda x: x.cpu(), "copy"),
    (lambda x: x.nonzero(), "nonzero"), (lambda x: x[x > 1], "index"),
    (lambda x: x.masked_select(x > 1), "masked_select"),
    (lambda x: x.index_put_((x >= 0,), x[x.argsort()]), "index_put_"), (lambda x: x.unique(), "_unique2"),
    (lambda x: x.bincount(), "bincount"), (lambda x: x.repeat_interleave(x), "repeat_interleave"),
    (lambda x: torch.arange(3).to(x.device), "copy"), (lambda x: x.equal(x), "equal")])
def test_what_waits_is_noticed(waiting, of):
    with Card() as card:
        x = held(torch.tensor([0, 1, 1]))
        waiting(x)
        assert not card.waits
        card.stage = "here"
        waiting(x)
    assert [(stage, operation) for stage, operation, _ in card.waits] == [("here", of)]


@pytest.mark.parametrize("fine", [
    lambda x: x.masked_fill(x > 1, 0), lambda x: x[x.argsort()], lambda x: torch.where(x > 1, x, 0), lambda x: len(x),
    lambda x: x.repeat_interleave(x, output_size=2), lambda x: torch.searchsorted(x, x), lambda x: x + torch.tensor(2)])
def test_what_does_not_wait_is_let_through_with_its_values(fine):
    values = torch.tensor([0, 1, 1])
    with Card() as card:
        card.stage = "here"
        found = fine(held(values))
        card.stage = None
        found = found.cpu() if isinstance(found, torch.Tensor) else found
    assert not card.waits and (found == fine(values) if isinstance(found, int) else found.equal(fine(values)))


@pytest.mark.parametrize("mixed", [lambda x: x + torch.arange(3), lambda x: x[torch.arange(2)],
                                   lambda x: torch.cat([x, torch.zeros(1, dtype=torch.int64)]),
                                   lambda x: x + torch.tensor([1, 2, 3], device=x.device)])
def test_tensors_of_two_devices_in_one_operation_are_noticed(mixed):
    with Card(), pytest.raises(Mixed):
        mixed(held(torch.tensor([0, 1, 1])))


@pytest.fixture
def check(monkeypatch):
    """The script that is run where there is a card, as it rehearses on a CPU."""
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.delenv("PRESETS", raising=False)
    place = Path(__file__).parent / "device" / "check.py"
    spec = importlib.util.spec_from_file_location("check", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_of_a_card_knows_every_preset_and_every_step(check):
    trained = {name for name in PRESETS if descends(composed(f"model={name}")[0])}
    assert set(check.presets()) == set(PLAIN) == trained
    assert all(callable(getattr(check, step)) for step in check.LIMITS) and set(check.LIMITS) > check.SHARED


@pytest.mark.parametrize("step", ["train", "precision", "resume", "deterministic"])
def test_the_check_of_a_card_can_be_rehearsed(check, step, capsys):
    check.work(step, ["bprmf", "uclr", "nosuch"])
    seen = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"step"')]
    assert [(line["name"], line["fine"]) for line in seen] == [("bprmf", True), ("uclr", True), ("nosuch", False)]
    assert "nosuch" in seen[2]["detail"]
