"""Lazy steps of Adam are those of torch's fused Adam, to the last bit, whoever reads what and when."""

import copy
import importlib.util
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from commands import known as composed
from fitting import QUICK, gradient, interrupted, small_split, weights
from small import asked, briefly, plain
from torch import nn

from recot.data.domains import cut
from recot.denoise.base import Denoiser
from recot.fit import lazy
from recot.fit.lazy import Lag, LazyAdam
from recot.fit.rounds import Relabelled
from recot.fit.step import Step
from recot.nn.table import Table, follow, settle, tables
from recot.record.build import ask_questions, build, descends, make
from recot.request.compose import CONF

pytest.importorskip("numba")

PRESETS = [path.stem for path in sorted((CONF / "model").glob("*.yaml"))
           if "_target_: recot.networks." in path.read_text()]


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Tables of any size make lazy steps, from the second one on."""
    lazy.kernels()
    for name in ("LEAST", "WORTH", "ROWS"):
        monkeypatch.setattr(lazy, name, 0)
    monkeypatch.setattr(lazy, "THREADS", 10**6)


@pytest.fixture
def counted(monkeypatch):
    """How many steps of tables were lazy."""
    steps, advance = [], Lag.advance

    def counting(self):
        steps.append(self.table)
        advance(self)

    monkeypatch.setattr(Lag, "advance", counting)
    return steps


class Pair:
    """The same table twice, with a lazy optimiser and a dense one, and what follows each."""

    def __init__(self, rows=64, dim=16, decay=0.0, rate=1e-3):
        torch.manual_seed(0)
        self.lazy, self.dense = Table(rows, dim), Table(rows, dim)
        self.dense.load_state_dict(self.lazy.state_dict())
        self.both = (self.lazy, self.dense)
        self.slow = [copy.deepcopy(table).requires_grad_(False) for table in self.both]
        self.adams = [LazyAdam(self.lazy.parameters(), [self.lazy], rate, decay),
                      torch.optim.Adam(self.dense.parameters(), rate, weight_decay=decay, fused=True)]
        self.rng = torch.Generator().manual_seed(1)

    def step(self, ids=None, share=None):
        """One of both; of a few rows where ``ids`` does not say of which."""
        rows, dim = self.dense.stored.shape
        ids = torch.randint(rows // 2, (3,), generator=self.rng) if ids is None else torch.tensor(ids)
        slopes = torch.randn(len(ids), dim, generator=self.rng) * 10.0 ** -torch.randint(3, 9, (len(ids), 1),
                                                                                         generator=self.rng)
        for table, adam, slow in zip(self.both, self.adams, self.slow, strict=True):
            (table(ids) * slopes).sum().backward()
            adam.step()
            table.clear_gradient()
            if share is not None:
                with torch.no_grad():
                    follow(slow, table, share)

    def state(self, index):
        """All that a step may change, of one of the two."""
        state = self.adams[index].state_dict()["state"][0]
        return [self.both[index].weight.detach(), *state.values(), self.slow[index].weight.detach()]

    def same(self):
        return all(a.equal(b) for a, b in zip(self.state(0), self.state(1), strict=True))


@pytest.mark.parametrize("decay", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize(("rows", "dim"), [(64, 16), (64, 64), (48, 50), (32, 9), (80, 3)])
def test_hundreds_of_steps_are_those_of_torch(rows, dim, decay, counted):
    pair = Pair(rows, dim, decay)
    for _ in range(300):
        pair.step()
    assert pair.same() and len(counted) == 299


@pytest.mark.parametrize(("rows", "dim"), [(21, 5), (33, 50), (7, 1)])
def test_a_table_whose_last_numbers_torch_computes_otherwise_makes_dense_steps(rows, dim, counted):
    pair = Pair(rows, dim, 1e-6)
    for _ in range(20):
        pair.step()
    assert pair.same() and not counted


@pytest.mark.parametrize("decay", [0.0, 1e-6])
@pytest.mark.parametrize("share", [lambda step: 0.1, lambda step: 0.5, lambda step: 9 / (10 + step),
                                   lambda step: None if step % 3 else 0.1])
def test_what_follows_a_table_moves_as_if_it_had_moved_in_every_step(share, decay, counted):
    pair = Pair(decay=decay)
    for step in range(120):
        pair.step(share=share(step))
    assert pair.same() and len(counted) == 119


@pytest.mark.parametrize("start", [1.0, 1e-20, 1e-29, 1e-31, 0.0, 1e31, float("inf")])
def test_a_row_that_has_come_to_rest_stays_as_torch_leaves_it(start):
    pair = Pair(8, 16)
    for table in pair.both:
        with torch.no_grad():
            table.weight.mul_(start).nan_to_num_(nan=start)
    pair.step([0, 1, 2, 3])
    for step in range(1, 1100):  # longer than the first moment needs to become subnormal
        pair.step([3] if step % 450 else [2, 3])
    assert pair.same()


READERS = {
    "attribute": lambda pair, i: pair.both[i].weight,
    "parameters": lambda pair, i: next(pair.both[i].parameters()),
    "named": lambda pair, i: dict(nn.ModuleDict({"a": pair.both[i]}).named_parameters())["a.weight"],
    "state": lambda pair, i: nn.ModuleList([pair.both[i]]).state_dict()["0.weight"],
    "copy": lambda pair, i: copy.deepcopy(pair.both[i]).stored,
    "pickle": lambda pair, i: pickle.loads(pickle.dumps(pair.both[i])).stored,
    "whole": lambda pair, i: pair.both[i](),
    "rows": lambda pair, i: pair.both[i](torch.arange(64)),
    "moved": lambda pair, i: pair.both[i].double().float().stored,
    "held": lambda pair, i: (settle(pair.both[i]), pair.both[i].stored)[1],
    "moment": lambda pair, i: pair.adams[i].state_dict()["state"][0]["exp_avg_sq"],
    "follower": lambda pair, i: pair.slow[i].weight,
    "rows of the follower": lambda pair, i: pair.slow[i](torch.arange(64)),
    "state of the follower": lambda pair, i: pair.slow[i].state_dict()["weight"],
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_finds_all_rows_up_to_date(reader, training, counted):
    pair = Pair(decay=1e-3)
    for _ in range(30):
        pair.step(share=0.1)
    keeper = pair.lazy.watched.keeper
    assert isinstance(keeper, Lag) and not pair.lazy.stored.equal(pair.dense.stored)  # there is something to bring up
    with torch.set_grad_enabled(training):
        found = [READERS[reader](pair, index).detach().clone() for index in range(2)]
    assert found[0].equal(found[1])
    for table in pair.both:
        table.clear_gradient()
    if reader != "moved":  # which makes other parameters
        for _ in range(30):
            pair.step(share=0.1)
        assert pair.same()


def test_a_row_that_does_not_exist_is_refused_as_ever():
    pair = Pair()
    for _ in range(3):
        pair.step()
    for ids in ([64], [-1]):
        with pytest.raises(IndexError):
            pair.lazy(torch.tensor(ids))


def test_a_table_that_is_read_whole_in_every_step_makes_dense_steps_and_one_that_is_no_more_makes_lazy_ones(counted):
    pair = Pair()

    def whole():
        for table, adam in zip(pair.both, pair.adams, strict=True):
            (table() * 1e-3).sum().backward()
            adam.step()
            table.clear_gradient()

    for _ in range(5):
        whole()
    assert not counted
    for _ in range(5):
        pair.step()
    assert len(counted) == 5
    for _ in range(2):
        pair.step()
        whole()
    assert len(counted) == 7 and pair.same()
    for _ in range(5):
        pair.step()
        pair.lazy.weight.sum()  # by whoever looks on
    assert len(counted) == 7 and pair.same()


@pytest.mark.parametrize("setting", ["lr", "weight_decay", "eps"])
def test_settings_may_change_between_steps(setting):
    pair = Pair()
    for _ in range(3):
        for adam in pair.adams:
            adam.param_groups[0][setting] += 1e-3
        for _ in range(20):
            pair.step()
    assert pair.same()


def test_rows_that_others_looked_up_move_as_well():
    pair = Pair()
    for _ in range(50):
        ids, slopes = torch.randint(64, (4,), generator=pair.rng), torch.randn(4, 16, generator=pair.rng)
        for table, adam in zip(pair.both, pair.adams, strict=True):
            (table(ids[:2]) * slopes[:2]).sum().backward()
            table.touched.append(ids[2:])
            table.stored.grad.index_add_(0, ids[2:], slopes[2:])
            adam.step()
            table.clear_gradient()
    assert pair.same() and not pair.lazy.stored.grad.any()


@pytest.mark.parametrize("name, value", [("ROWS", 100), ("LEAST", 10**6), ("WORTH", 10**6), ("THREADS", 0)])
def test_where_a_lazy_step_costs_no_less_it_is_dense(name, value, counted, monkeypatch):
    monkeypatch.setattr(lazy, name, value)
    pair = Pair()
    for _ in range(10):
        pair.step()
    assert not counted


def test_without_numba_or_where_its_code_disagrees_with_torchs_steps_are_dense(counted, monkeypatch):
    find = importlib.util.find_spec
    for name, replaced in (("find_spec", lambda name: None if name == "numba" else find(name)),
                           ("agrees", lambda decay, share: decay == 0)):
        lazy.kernels.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(importlib.util if name == "find_spec" else lazy, name, replaced)
            pair = Pair()
            for _ in range(10):
                pair.step()
            assert pair.same() and not counted
    lazy.kernels.cache_clear()


def test_kernels_are_compiled_where_nothing_can_be_written(monkeypatch):
    from recot.fit import replay

    def refusing(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function, options

    monkeypatch.setattr(replay, "njit", refusing)
    function, options = replay.compiled(len)
    assert function is len and options["nogil"]


def test_the_check_of_the_kernels_draws_no_random_numbers():
    before = torch.get_rng_state()
    lazy.kernels.cache_clear()
    assert lazy.kernels() and torch.get_rng_state().equal(before)


def untrained(preset):
    """The config of a preset, a network and what it is trained on."""
    own = asked(preset, candidates=10)
    config = composed(f"model={preset}", "data.n_users=48", "data.mean_activity=6", "trainer=smoke",
                      f"data.n_items={96 if own else 80}", *own,
                      *briefly(preset, dim=32, max_epochs=1, per_node=1, passes=1, steps=1))[0]
    config["loss"]["batch_size"] = 8
    split = ask_questions(config, make(config["data"]).load())
    model = build(config)
    model = (model.make(None, print) if isinstance(model, Relabelled) else model).untrained(split.train)
    return config, model.networks[0].train(), (cut(split, [0]) if config["domains"] != "joint" else split).train


def trained(config, network, train):
    """Losses, weights, teacher and optimiser after two blocks of steps of a copy of ``network``."""
    network = copy.deepcopy(network)
    network.bind(train)
    objective, denoiser = make(config["loss"]), make(config["denoiser"])
    denoiser = Denoiser() if hasattr(denoiser, "relabel") else denoiser
    denoiser.bind(network, train)

    class Bare(Step):
        def optimizers(self):
            return SimpleNamespace(step=self.made.step)

        def manual_backward(self, loss):
            self.losses.append(float(loss.detach()))
            loss.backward()

    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    step = Bare(network, objective, denoiser, make(config["trainer"]), train, rng)
    step.made, step.losses = step.configure_optimizers(), []
    batches = [batch for batch, _ in zip(objective.batches(train, rng, network, 0), range(9), strict=False)]
    for block in (batches[:5], batches[5:]):
        step.training_step(block, 0)
    state = {f"{index} {name}": value for index, found in step.made.state_dict()["state"].items()
             for name, value in found.items()}
    return step.losses, {**step.state_dict(), **state}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_as_with_dense_steps(preset, counted, monkeypatch):
    config = plain(preset)
    if not descends(config) or config["trainer"]["optimizer"] != "adam":
        pytest.skip("no Adam")
    start = untrained(preset)
    losses, state = trained(*start)
    was_lazy = bool(counted)
    monkeypatch.setattr(lazy, "kernels", lambda: False)
    dense_losses, dense_state = trained(*start)
    assert losses == dense_losses and {*state} == {*dense_state}
    for name, value in dense_state.items():
        assert not isinstance(value, torch.Tensor) or torch.equal(state[name], value), name
    if preset in ("bprmf", "clrec", "sclrec", "buir", "directau", "neumf", "tce"):
        assert was_lazy


def test_a_fit_and_one_that_is_interrupted_and_goes_on_are_those_of_dense_steps(tmp_path, counted, monkeypatch):
    longer = replace(QUICK, max_epochs=6, weight_decay=1e-4)
    whole = gradient(longer).fit(small_split())
    interrupted(tmp_path)
    resumed = gradient(folder=tmp_path).fit(small_split())
    assert len(counted) > 20
    monkeypatch.setattr(lazy, "kernels", lambda: False)
    for found, dense in ((whole, gradient(longer)), (resumed, gradient())):
        dense.fit(small_split())
        assert [row["loss"] for row in found.history] == [row["loss"] for row in dense.history]
        assert all(tensor.equal(weights(dense)[name]) for name, tensor in weights(found).items())


def test_rows_are_up_to_date_between_blocks(counted):
    model = gradient()
    seen = []

    def look(history):
        step_tables = tables(model.network)
        seen.append(all(table.watched.keeper is None or not table.watched.keeper.done for table in step_tables))

    model.observe = look
    model.fit(small_split())
    assert counted and all(seen)
