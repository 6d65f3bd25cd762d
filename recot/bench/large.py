"""``python -m recot.bench.large``: what a method costs on a large catalogue, in CPU seconds and memory.

The pairs are drawn, few items often. Each method is measured in a process of its own: what comes before the second
step, some steps after others, of which an epoch has so many, and the ranking of all items for some users. A method that
solves is fitted whole. Memory is the most that is held from when the pairs are there, and the pairs with it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console

from recot.batches.augment import similar_by_users
from recot.bench.prorec_scale import Drawn
from recot.closed.linear import EASE
from recot.closed.neighbours import ItemKNN
from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.denoise.base import Denoiser
from recot.denoise.prorec import ProRec
from recot.denoise.soft_matching import SoftMatching
from recot.evaluation.evaluate import evaluate
from recot.evaluation.recommender import Recommender
from recot.fit import lazy
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks.autoencoder import Autoencoder
from recot.networks.factorisation import Tables
from recot.networks.lightgcn import LightGCN
from recot.nn.table import clear_gradients, settle
from recot.objectives.pairs import BPR, InfoNCE
from recot.objectives.rows import Multinomial
from recot.system.memory import Peak, keep_freed

METRICS = ["recall@20", "ndcg@20"]
LIMIT = 60.0
"""CPU seconds after which no further step is made, before the steps that are timed and among them."""


@dataclass(frozen=True)
class Size:
    """Of a problem. ``asked``: users whose items are ranked. ``steps``: that are timed, after four times as many."""

    users: int
    items: int
    pairs: int
    width: int = 64
    asked: int = 1_000
    steps: int = 100


@dataclass(frozen=True)
class Cost:
    """CPU seconds before the first step, or of the whole fit; of a step, and of an epoch of such steps; of the ranking;
    and the most memory, in GiB.
    """

    start: float
    step: float = 0.0
    epoch: float = 0.0
    ranking: float = 0.0
    memory: float = 0.0


def drawn(size: Size) -> Interactions:
    """Different pairs, some fewer than asked for: users alike, items by a power law."""
    rng = np.random.default_rng(0)
    keys = (rng.random(size.pairs) ** 3 * size.items).astype(np.int64)
    keys += rng.integers(0, size.users, size.pairs) * size.items
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) > 0]
    users, items = (torch.from_numpy(column) for column in np.divmod(keys, size.items))
    return Interactions(users, items, torch.ones(len(keys)), size.users, size.items)  # in order, as they should be


def questions(train: Interactions, count: int) -> EvalSet:
    """The last item of each of ``count`` users, among all that are not others of theirs; they stay in training."""
    users = (train.activity > 0).nonzero().flatten()[:count]  # (b,)
    history = train.by_user.take(users)
    last = history.place == history.lengths[history.rows] - 1  # (nnz,)
    targets, seen = (Ragged.from_pairs(history.rows[part], history.values[part], len(users)) for part in (last, ~last))
    return EvalSet(Query(users, history), targets, seen, None, "test")


def ranked(model: Recommender, train: Interactions, size: Size) -> float:
    """CPU seconds of full rankings."""
    part, start = questions(train, size.asked), time.process_time()
    evaluate(model, part, METRICS)
    return time.process_time() - start


def solved(model: Callable[[], Recommender], train: Interactions, size: Size) -> Cost:
    """Of a method that is fitted at once."""
    start, part = time.process_time(), questions(train, 1)
    fitted = model().fit(Split(train, replace(part, name="valid"), (part,)))
    return Cost(time.process_time() - start, ranking=ranked(fitted, train, size))


def trained(network: Callable[..., Any], objective: Callable[[], Any], denoiser: Callable[[], Denoiser], per_step: int,
            rows: bool, train: Interactions, size: Size) -> Cost:
    """Of a network.

    Args:
        per_step: pairs, or users with ``rows``, of a step.
    """
    from recot.fit.step import Step

    start = time.process_time()
    model = Gradient(network, objective(), denoiser(), Training(device="cpu")).untrained(train)
    rng = torch.Generator().manual_seed(0)
    step = Step(model.network, objective(), denoiser(), model.training, train, rng)
    step.denoiser.bind(step.network, train)
    optimizer, batches = step.configure_optimizers(), batches_of(step)
    if isinstance(optimizer, lazy.LazyAdam):
        optimizer.moved = lazy.WORTH  # an epoch is long enough for the kernels

    def one() -> None:
        batch = step.denoiser.before(next(batches), step.network)
        loss, batch = step.objective(step.network, batch)
        step.denoiser.after(loss, batch).mean().backward()
        optimizer.step()
        clear_gradients(step.network)
        step.network.after_step()
        step.denoiser.after_step(step.network)

    def each(most: int) -> float:
        """CPU seconds of a step, the mean of ``most`` or of as many as the limit allows; blocks end as in training."""
        begun, made = time.process_time(), 0
        while made < most and time.process_time() - begun < LIMIT:
            one()
            made += 1
            if made % model.training.block == 0 or made == most:
                settle(step.network)
        return (time.process_time() - begun) / made

    one()
    before = time.process_time()
    each(4 * size.steps)
    took = each(size.steps)
    epoch = took * (train.n_users if rows else len(train)) / per_step
    return Cost(before - start, took, epoch, ranked(model, train, size))


def batches_of(step: Any) -> Iterator[Any]:
    """The batches of a step's objective without end."""
    while True:
        yield from step.objective.batches(step.train_set, step.rng, step.network, 0)


def relabelled(train: Interactions, size: Size) -> Cost:
    """Of ProRec's relabelling of ``asked`` users; ``epoch`` is of all users."""
    some = train.select(train.users < size.asked)
    some = Interactions(some.users, some.items, some.weights, size.asked, size.items)
    start = time.process_time()
    ProRec().relabel(some, some, Drawn(size.asked, size.items))
    took = time.process_time() - start
    return Cost(0.0, took, took * size.users / size.asked)


def compared(train: Interactions, size: Size) -> Cost:
    """Of the similarities between items that substitute and insert draw from."""
    start = time.process_time()
    similar_by_users(train, torch.Generator().manual_seed(0))
    return Cost(time.process_time() - start)


def methods(size: Size) -> Mapping[str, Callable[[Interactions, Size], Cost]]:
    """How each method is measured, as its preset has it."""
    tables, wide = partial(Tables, dim=size.width), partial(LightGCN, dim=size.width, n_layers=3)
    vae = partial(Autoencoder, dim=200, hidden=600, activation="identity", variational=True, normalize=True)
    return {
        "popularity": partial(solved, Popularity), "itemknn": partial(solved, ItemKNN), "ease": partial(solved, EASE),
        "similarity": compared,
        "bprmf": partial(trained, tables, BPR, Denoiser, 1024, False),
        "clrec": partial(trained, tables, InfoNCE, Denoiser, 1024, False),
        "sclrec": partial(trained, tables, InfoNCE, SoftMatching, 1024, False),
        "lightgcn": partial(trained, wide, partial(BPR, 2048), Denoiser, 2048, False),
        "multvae": partial(trained, vae, partial(Multinomial, 500), Denoiser, 500, True),
        "prorec": relabelled}


def measured(size: Size, name: str) -> Cost:
    """The costs of one method, in a process that does nothing else."""
    torch.set_num_threads(1)
    train = drawn(size)
    keep_freed()  # as every run does, but not what drawing the pairs has freed
    peak = Peak()
    cost = methods(size)[name](train, size)
    return replace(cost, memory=peak.host() / 2**20)


def line(name: str, size: Size, cost: Cost) -> str:
    """A row of a table in markdown."""
    def written(value: float) -> str:
        return "" if not value else f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"

    sizes = (f"{number:,}" for number in astuple(size)[:4])
    return f"| {' | '.join([name, *sizes, *(written(value) for value in astuple(cost))])} |"


def main() -> None:
    """Print a table in markdown."""
    known = [*methods(Size(1, 1, 1))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"some of {', '.join(known)}; all without")
    for name, number, what in (
            ("users", 1_000_000, "users"), ("items", 100_000, "items"), ("pairs", 50_000_000, "pairs that are drawn"),
            ("width", 64, "width of vectors"), ("asked", 1_000, "users whose items are ranked"),
            ("steps", 100, "steps that are timed, after four times as many")):
        parser.add_argument(f"--{name}", type=int, default=number, help=f"{what} (default {number:,})")
    options = vars(parser.parse_args())
    names = options.pop("methods") or known
    if unknown := {*names} - {*known}:
        parser.error(f"no method is called {sorted(unknown)[0]}; name some of {', '.join(known)}")
    size, console = Size(**options), Console(soft_wrap=True, highlight=False)
    console.print("| method | users | items | pairs | width | start or fit, s | step, s | epoch, s | "
                  f"ranking of {size.asked:,} users, s | memory, GiB |\n|---|{'---:|' * 9}")
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            console.print(line(name, size, pool.apply(measured, (size, name))))


if __name__ == "__main__":
    main()
