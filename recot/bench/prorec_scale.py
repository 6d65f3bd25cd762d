"""ProRec's relabelling at the size of Yahoo! Music R1: seconds per million users, and memory.

The factors of 1,948,882 users and 46,110 items are drawn, and so are 25 items for each user, as many as there are in
the release. ``python -m recot.bench.prorec_scale --users 20000`` relabels that many
users; all of them take as much longer as there
are more.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from rich.console import Console

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.denoise.prorec import ProRec

N_USERS, N_ITEMS, PER_USER, RANK = 1_948_882, 46_110, 25, 50


class Drawn:
    """Scores by random factors, most of them in 0..1 as those of a model of the matrix itself."""

    def __init__(self, n_users: int, n_items: int = N_ITEMS):
        rng = torch.Generator().manual_seed(0)
        self.users = torch.rand(n_users, RANK, generator=rng) / RANK
        self.items = torch.rand(n_items, RANK, generator=rng) ** 8 * 8

    def score(self, query: Query) -> torch.Tensor:
        """(b, n_items)."""
        return self.users[query.users] @ self.items.T


def drawn_pairs(n_users: int) -> Interactions:
    """``PER_USER`` items for each user, few of them often."""
    rng = torch.Generator().manual_seed(1)
    items = (torch.rand(n_users, PER_USER, generator=rng) ** 2 * N_ITEMS).long()
    users = torch.arange(n_users)[:, None].expand(-1, PER_USER)
    keys = (users * N_ITEMS + items).flatten().unique()
    return Interactions.from_pairs(keys // N_ITEMS, keys % N_ITEMS, n_users, N_ITEMS)


def peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000, help="users to relabel")
    users = parser.parse_args().users
    train, model, denoiser = drawn_pairs(users), Drawn(users), ProRec()
    before, start = peak(), time.perf_counter()
    denoiser.relabel(train, train, model)
    seconds = time.perf_counter() - start
    told = denoiser.report()
    Console().print(
        f"{users:,} users x {N_ITEMS:,} items, {len(train):,} pairs, {torch.get_num_threads()} threads: "
        f"{seconds:.1f} s, "
        f"{1e6 * seconds / users:,.0f} s per million users, {1e9 * seconds / users / N_ITEMS:.1f} ns a cell; "
        f"{peak() - before:,.0f} MiB beside the factors and the pairs; flagged {told['flagged']:.0%}, median rank "
        f"{told['rank']:.0f}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
