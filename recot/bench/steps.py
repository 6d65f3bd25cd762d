"""``make bench``: our step and evaluation against their floors, measured in one process and printed as ratios.

The data are drawn, at the size of Gowalla: 29,858 users, 40,981 items, about 835,000 training pairs, d = 64. Each pair
of times is interleaved and the median ratio is printed, since seconds on a shared machine say little.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from recot.batches.augment import Augmentation
from recot.batches.negatives import uniform_negatives
from recot.bench import plain
from recot.bench.drawn import BATCH, DIM, N_ITEMS, N_USERS, synthetic, tastes
from recot.bench.measure import Row, Times, alone, interleaved, steps
from recot.bench.ranking import evaluation_rows, multvae, serving_row
from recot.data.domains import of
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.denoise.base import Denoiser
from recot.denoise.reweight import TCE
from recot.denoise.soft_matching import SoftMatching
from recot.fit import lazy
from recot.fit.gradient import Gradient
from recot.fit.settings import Training
from recot.networks import uclr
from recot.networks.base import TwoTower
from recot.networks.buir import BUIR
from recot.networks.factorisation import Tables
from recot.networks.herograph import HeroGRAPH
from recot.networks.lightgcn import LightGCN
from recot.networks.sasrec import SASRec
from recot.networks.stosa import Stosa
from recot.networks.uclr import ContrastiveAutoencoder
from recot.nn.contracts import Before, Objective
from recot.nn.dropout import Dropout
from recot.nn.graph import product
from recot.nn.table import clear_gradients, tables
from recot.objectives.contrast import Adapted, Contrastive
from recot.objectives.domains import DomainBPR
from recot.objectives.pairs import BCE, BPR, Bootstrap, DirectAU, InfoNCE
from recot.objectives.rows import Multinomial
from recot.objectives.sequences import NextGaussian, NextItem
from recot.objectives.transport import SinkhornCF
from recot.objectives.views import Contrast
from recot.system.memory import keep_freed


class Trainer:
    """Our parts in a bare loop: sampler, denoiser, objective, table gradients, Adam.

    Args:
        moved: entries that dense steps of lazy Adam count as moved before the first one.
    """

    def __init__(self, train: Interactions, objective: Objective[Any, Any], denoiser: Denoiser,
                 network: Callable[[int, int, int], TwoTower] = Tables, moved: float = lazy.WORTH):
        torch.manual_seed(0)
        self.train, self.objective, self.denoiser = train, objective, denoiser
        self.network = network(train.n_users, train.n_items, DIM)
        self.network.bind(train)
        denoiser.bind(self.network, train)
        self.optimizer = lazy.LazyAdam(self.network.parameters(), tables(self.network), 1e-3)
        self.optimizer.moved = moved
        self.batches = self.stream()

    def stream(self) -> Iterator[object]:
        """Batches without end."""
        rng = torch.Generator().manual_seed(0)
        while True:
            yield from self.objective.batches(self.train, rng, self.network, 0)

    def step(self) -> None:
        """One optimiser step."""
        batch = self.denoiser.before(next(self.batches), self.network)
        loss, batch = self.objective(self.network, batch)
        self.denoiser.after(loss, batch).mean().backward()
        self.optimizer.step()
        clear_gradients(self.network)
        self.network.after_step()
        self.denoiser.after_step(self.network)


class AdamOnly:
    """The floor of every step: dense fused Adam over both tables, 28 bytes a parameter, and nothing else."""

    def __init__(self) -> None:
        self.parameter = nn.Parameter(torch.randn(N_USERS + N_ITEMS, DIM))
        self.parameter.grad = torch.zeros_like(self.parameter)
        self.optimizer = torch.optim.Adam([self.parameter], 1e-3, fused=True)

    def step(self) -> None:
        """One pass over the parameters."""
        self.optimizer.step()


def products(n: int) -> Callable[[], None]:
    """The matrix products no SCLRec step can do without: logits, their two gradients, and the teacher's double one."""
    z, v, wide = torch.randn(n, DIM), torch.randn(n, DIM), torch.randn(n, 2 * DIM)

    def run() -> None:
        logits = z @ v.T
        logits @ v
        logits.T @ z
        wide @ wide.T

    return run


def through_lightning(train: Interactions, blocks: int) -> Callable[[], None]:
    """BPR steps through ``Gradient``: one epoch over as many pairs as fill the blocks, without validation."""
    part = train.select(torch.arange(blocks * 50 * BATCH))
    none = Ragged.from_lists([])
    empty = EvalSet(Query(part.users[:0], none), none, none, None, "valid")

    class Unvalidated(Gradient):
        def validation(self, split: Split) -> float:
            return 0.0

    model = Unvalidated(partial(Tables, dim=DIM), BPR(BATCH), Denoiser(), Training(max_epochs=1, device="cpu"))

    def run() -> None:
        model.fit(Split(part, empty, ()))

    return run


def bare_loop(train: Interactions, blocks: int) -> Callable[[], None]:
    """The same steps and the same set-up, without Lightning."""
    part = train.select(torch.arange(blocks * 50 * BATCH))

    def run() -> None:
        trainer = Trainer(part, BPR(BATCH), Denoiser(), moved=0)
        for _ in range(blocks * 50):
            trainer.step()

    return run


def training_rows(train: Interactions, rounds: int) -> Iterator[Row]:
    """Steps against their floors."""
    adam = AdamOnly()
    bprmf = Trainer(train, BPR(BATCH), Denoiser())
    sclrec = Trainer(train, InfoNCE(BATCH), SoftMatching())
    straight_bpr, gemm = plain.BPRMF(train, DIM, BATCH), products(BATCH)

    def floor() -> None:
        adam.step()
        gemm()

    straight_sclrec = plain.SCLRec(train, DIM, BATCH)
    yield Row("BPR step / bare fused Adam", interleaved(steps(bprmf.step, 20), steps(adam.step, 20), rounds), "")
    yield Row("BPR step / BPR by nn.Embedding and default Adam", interleaved(
        steps(bprmf.step, 20), steps(straight_bpr.step, 20), rounds), "<= 0.25")
    yield Row("SCLRec step / bare Adam + matrix products", interleaved(
        steps(sclrec.step, 10), steps(floor, 10), rounds), "")
    yield Row("SCLRec step / straight from the equations", interleaved(
        steps(sclrec.step, 10), steps(straight_sclrec.step, 10), rounds), "<= 0.40")
    yield Row("SCLRec step / BPR by nn.Embedding and default Adam", interleaved(
        steps(sclrec.step, 10), steps(straight_bpr.step, 10), rounds), "<= 1.00")
    n_steps = -(-len(train) // BATCH)
    rng = torch.Generator().manual_seed(0)
    yield Row("drawing an epoch of negatives / BPR epoch", interleaved(
        lambda: uniform_negatives(train, 1, rng), steps(bprmf.step, n_steps), 3), "<= 0.03")
    yield Row("BPR through Lightning / bare loop", interleaved(
        through_lightning(train, 16), bare_loop(train, 16), rounds), "<= 1.05")


def large_row(rounds: int, n: int = 100_000) -> Row:
    """BPR with ``n`` users and as many items, lazily and densely; a step reads 3 rows of a pair."""
    keys = torch.randint(n * n, (20 * n,), generator=torch.Generator().manual_seed(0)).unique()
    train = Interactions.from_pairs(keys // n, keys % n, n, n)
    ours, dense = (Trainer(train, BPR(BATCH), Denoiser(), moved=moved) for moved in (lazy.WORTH, -math.inf))
    steps(ours.step, 100)()  # until most rows lag behind as far as they will
    return Row(f"BPR step, {2 * n:,} rows of tables / the same with dense Adam", interleaved(
        steps(ours.step, 20), steps(dense.step, 20), rounds), "<= 0.52")


def baseline_rows(train: Interactions, rounds: int) -> Iterator[Row]:
    """The baselines against their straight versions; an epoch is as many steps for both."""
    directau, straight_directau = Trainer(train, DirectAU(BATCH), Denoiser()), plain.DirectAU(train, DIM, BATCH)
    yield Row("DirectAU step / by pdist, nn.Embedding and default Adam", interleaved(
        steps(directau.step, 10), steps(straight_directau.step, 10), rounds), "<= 0.50")
    lightgcn = Trainer(train, BPR(2048, penalty=1e-4), Denoiser(), LightGCN)
    straight_lightgcn = plain.LightGCN(train, DIM, 2048, 3)
    propagation = six_products(lightgcn.network)
    yield Row("LightGCN step, 3 layers / its 6 sparse products", interleaved(
        steps(lightgcn.step, 2), steps(propagation, 2), rounds), "")
    yield Row("LightGCN step, 3 layers / by one COO matrix and default Adam", interleaved(
        steps(lightgcn.step, 1), steps(straight_lightgcn.step, 1), rounds), "<= 0.25")
    bpr = Trainer(train, BPR(BATCH), Denoiser())
    for name, other in (("BUIR", Trainer(train, Bootstrap(BATCH), Denoiser(), BUIR)),
                        ("T-CE", Trainer(train, BCE(BATCH), TCE()))):
        yield Row(f"{name} step / our BPR step", interleaved(steps(other.step, 10), steps(bpr.step, 10), rounds), "")


def domain_rows(train: Interactions, rounds: int) -> Iterator[Row]:
    """HeroGRAPH with a third of the items in each domain; its step has a batch of every domain."""
    bounds = [0, train.n_items // 3, 2 * train.n_items // 3, train.n_items]
    train = replace(train, domains=tuple(Domain(str(start), start, stop) for start, stop in itertools.pairwise(bounds)))

    def herograph(n_users: int, n_items: int, dim: int) -> HeroGRAPH:
        return HeroGRAPH(n_users, n_items, train.domains, dim, [dim, dim])

    ours = Trainer(train, DomainBPR(2048), Denoiser(), herograph)
    lightgcn = Trainer(train, BPR(2048, penalty=1e-4), Denoiser(), LightGCN)
    yield Row("HeroGRAPH step, 2 layers / LightGCN step, 3 layers", interleaved(
        steps(ours.step, 2), steps(lightgcn.step, 2), rounds), "<= 4.00")


def histories(lengths: Tensor, n_items: int) -> Interactions:
    """Users who take ``lengths`` (n_users,) items each, one after the other."""
    users = torch.arange(len(lengths)).repeat_interleave(lengths)
    times = torch.arange(len(users))
    first = torch.randint(n_items, (len(lengths),), generator=torch.Generator().manual_seed(0))
    items = (first[users] + 97 * (times - (lengths.cumsum(0) - lengths)[users])) % n_items  # no user has one twice
    return Interactions.from_pairs(users, items, len(lengths), n_items, times=times)


def sequence_rows(rounds: int) -> Iterator[Row]:
    """Steps on histories as long as Beauty's against the same on histories that fill all 50 places.

    The latter is the least that programs do which fill every history up with padding.
    """
    rng = torch.Generator().manual_seed(0)
    short = 3 - (torch.rand(22_363, generator=rng).log() * 4.35).long()  # 6.9 on average, and 6.9 in Beauty
    sets = [histories(lengths, 12_101) for lengths in (short, torch.full((4_096,), 60))]
    views = Augmentation(["substitute", "insert", "mask", "crop", "reorder"], ["substitute", "insert", "mask"], 16, {
        "crop": 0.2, "mask": 0.7, "reorder": 0.2, "substitute": 0.5, "insert": 0.3})
    compared = partial(NextGaussian, contrast=Contrast(views, 0.005, 64, "neg_w2", "last"))
    for name, objective, network in (("SASRec", NextItem, SASRec), ("STOSA", NextGaussian, Stosa),
                                     ("MStein", compared, Stosa)):
        ours, filled = (Trainer(train, objective(), Denoiser(), network) for train in sets)
        yield Row(f"{name} step, histories of Beauty's lengths / of 50 places", interleaved(
            steps(ours.step, 2), steps(filled.step, 2), rounds), "<= 0.25")
    x = torch.randn(25_600, 64)
    yield Row("Dropout / torch's", interleaved(partial(Dropout(0.5), x), partial(nn.Dropout(0.5), x), rounds),
              "<= 0.5")


def transport_rows(rounds: int) -> Iterator[Row]:
    """SinkhornCF's transport and its step: 200 users of 74 items on average, 10,000 items, k 200, 5 rounds."""
    rng = torch.Generator().manual_seed(0)
    popularity = torch.arange(1, 10_001, dtype=torch.float64).pow(-0.7)
    train = tastes(1_000, popularity, rng)
    k, n_iters = 200, 5
    ours = Trainer(train, SinkhornCF(200, k=k, n_iters=n_iters), Denoiser(), multvae)
    other = Trainer(train, Multinomial(200, anneal_steps=200_000), Denoiser(), multvae)
    batch = next(ours.objective.batches(train, rng, ours.network, 0))
    scores = torch.randn(200, 10_000, generator=rng) + popularity.log().float()  # of trained networks popular ones lead
    log_p = scores.log_softmax(1).requires_grad_()
    whole, own = ours.objective.cost.whole().half(), batch.query.history.values.split(
        batch.query.history.sizes.tolist())
    yield Row("transport to 200 items, with gradient / user by user by autograd", interleaved(
        lambda: ours.objective.to_top(batch, log_p)[0].sum().backward(),
        lambda: plain.transported(whole, own, log_p, k, n_iters).sum().backward(), rounds), "<= 0.20")
    yield Row("SinkhornCF step / Mult-VAE step", interleaved(steps(ours.step, 2), steps(other.step, 2), rounds),
              "<= 2.00")


def uclr_rows(rounds: int) -> Iterator[Row]:
    """UCLR's later stages against a step of its first: 1,994 users, three domains of 8,552 items, 89,594 pairs, d 128.
    """
    n_users, n_items, d, rng = 1_994, 25_656, 128, torch.Generator().manual_seed(0)
    keys = torch.randint(n_users * n_items, (89_594,), generator=rng).unique()
    train = Interactions.from_pairs(keys // n_items, keys % n_items, n_users, n_items)
    bpr = Trainer(train, BPR(2048, penalty=1e-5), Denoiser(), lambda users, items, _: Tables(users, items, d))
    bpr.step()
    domains = tuple(Domain(str(number), n_items // 3 * number, n_items // 3 * (number + 1)) for number in range(3))
    first = Before((bpr.network,), domains)
    second = Before((ContrastiveAutoencoder(n_users, n_items, first),), domains, 0)
    for users, goal in ((512, "<= 1.00"), (2048, "<= 8.00")):
        ours = Trainer(train, Contrastive(users), Denoiser(), lambda n, m, _: ContrastiveAutoencoder(n, m, first))
        yield Row(f"UCLR step of stage 2, {users:,} users / BPR step, d 128", interleaved(
            steps(ours.step, 4), steps(bpr.step, 4), rounds), goal)
    ours = Trainer(of(train, domains[:1]), Adapted(2048), Denoiser(), lambda n, m, _: uclr.Adapted(n, m, second))
    yield Row("UCLR step of stage 3 / BPR step, d 128", interleaved(
        steps(ours.step, 4), steps(bpr.step, 4), rounds), "<= 3.00")


def six_products(network: LightGCN) -> Callable[[], None]:
    """Three layers forward and backward, each in both directions, and nothing else."""
    users, items = torch.randn(N_USERS, DIM), torch.randn(N_ITEMS, DIM)
    to_users, to_items = network.graph.whole

    def run() -> None:
        for _ in range(6):
            product(to_users, items)
            product(to_items, users)

    return run


def start_rows() -> Iterator[Row]:
    """CPU seconds of commands that should not need torch, and seconds until a run has its first epoch behind it."""
    for job, arguments in (("--help", ["--help"]), ("--cfg job", ["--cfg", "job"]),
                           ("a refused config", ["model.dimm=3"])):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "recot.run", *arguments], capture_output=True, check=False)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        yield Row(job, alone(wall, cpu), "<= 1 s of CPU")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = subprocess.Popen([sys.executable, "-m", "recot.run", "trainer.max_epochs=1", f"paths.runs={folder}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while run.poll() is None and not list(Path(folder).glob("*/epochs.csv")):
            time.sleep(0.01)
        yield Row("first epoch of planted data done after", alone(time.perf_counter() - start), "<= 4.5 s")
        run.wait()


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved measurements of each pair")
    parser.add_argument("--users", type=int, default=8_000, help="users to rank for")
    parser.add_argument("--threads", type=int, default=1, help="of torch; ratios of CPU say most with one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed()  # as every run does
    split = synthetic()
    table = Table(title=f"{torch.get_num_threads()} threads, {len(split.train):,} training pairs, medians of "
                        f"{arguments.rounds} interleaved rounds", title_justify="left")
    for column in ("job", "ours (ms)", "other (ms)", "ratio", "CPU of ours", "of other", "ratio of CPU", "goal"):
        table.add_column(column, justify="left" if column == "job" else "right")
    rows = itertools.chain(training_rows(split.train, arguments.rounds), baseline_rows(split.train, arguments.rounds),
                           domain_rows(split.train, arguments.rounds), sequence_rows(arguments.rounds),
                           transport_rows(arguments.rounds), uclr_rows(arguments.rounds),
                           [large_row(arguments.rounds), serving_row(arguments.rounds)],
                           evaluation_rows(split, arguments.users, arguments.rounds), start_rows())
    for row in rows:
        table.add_row(row.job, *cells(row.times), row.goal)
    console = Console()
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of this process {peak:.0f} MB")


def cells(times: Times) -> list[str]:
    """Milliseconds and ratios as a table has them; nothing where nothing was measured."""
    formats = ("{:.1f}", "{:.1f}", "{:.2f}") * 2
    scales = (1e3, 1e3, 1) * 2
    return ["" if value != value else text.format(scale * value)
            for value, text, scale in zip(times, formats, scales, strict=True)]


if __name__ == "__main__":
    main()
