"""Evaluation and lists against the products that make their scores, and against implicit where that is installed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.bench.drawn import DIM, tastes
from recot.bench.measure import Row, alone, interleaved, seconds
from recot.closed.popularity import Popularity
from recot.data.interactions import Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.evaluate import CACHED, evaluate, recommended
from recot.evaluation.recommender import Recommender
from recot.networks.autoencoder import Autoencoder
from recot.networks.base import TwoTower
from recot.networks.factorisation import Tables
from recot.nn.product import Products

METRICS = [f"{name}@{k}" for name, k in itertools.product(("recall", "ndcg"), (10, 20, 50))]
SHAPES = [(64, None), (256, None), (64, 4096), (256, 4096)]
"""Users and items of a block of scores; None for all items."""


class Served(Recommender):
    """A network as the evaluator gets it, without training."""

    def __init__(self, network: TwoTower) -> None:
        self.network = network.eval()

    @property
    def scorer(self) -> TwoTower:
        """The network."""
        return self.network

    @torch.no_grad()
    def score(self, query: Query) -> Tensor:
        """(b, n_items)."""
        return self.network.score(query)


class Compared(Popularity):
    """Popularity by its scores, as any other method is ranked."""

    def ranked(self, questions: EvalSet) -> None:
        """Not without scores."""


def multvae(n_users: int, n_items: int, dim: int) -> Autoencoder:
    """As wide as its paper has it, whatever ``dim``."""
    return Autoencoder(n_users, n_items, 200, 600, "identity", variational=True, normalize=True)


def products(users: Tensor, items: Tensor, many: int, wide: int | None) -> None:
    """All scores in blocks of ``many`` users and ``wide`` items, thrown away."""
    for some in users.split(many):
        for part in items.split(wide or len(items)):
            some @ part.mT


@torch.no_grad()
def packed(users: Tensor, items: Tensor) -> None:
    """The same by :class:`Products`."""
    score = Products(items)
    for some in users.split(CACHED):
        score(some)


def floor(users: Tensor, items: Tensor) -> Callable[[], None]:
    """The quickest way to make all scores, as a tenth of the users have it."""
    ways = [partial(products, many=many, wide=wide) for many, wide in SHAPES]
    some = users[:max(CACHED, len(users) // 10)]
    best = min([*ways, packed], key=lambda way: min(seconds(lambda: way(some, items))[1] for _ in range(3)))
    return lambda: best(users, items)


def evaluation_rows(split: Split, users: int, rounds: int) -> Iterator[Row]:
    """Full ranking against the products that make the scores, against implicit, and without scores."""
    torch.manual_seed(0)
    test, network = split.test[0], Tables(split.train.n_users, split.train.n_items, DIM)
    part = EvalSet(test.query.slice(0, users), test.targets.slice(0, users), test.seen.slice(0, users), None, "test")
    ours = partial(evaluate, Served(network), part, METRICS)
    z, v = network.user_table.weight.detach()[part.query.users], network.item_table.weight.detach()
    yield Row(f"full ranking of {users:,} users, 6 metrics / products of the best of {len(SHAPES) + 1} shapes",
              interleaved(ours, floor(z, v), rounds), "<= 2.5")
    if importlib.util.find_spec("implicit"):
        yield Row("the same / implicit, 1 cut and 4 metrics", interleaved(ours, of_implicit(z, v, part), rounds),
                  "<= 0.60")
    else:
        yield Row("the same; implicit is not installed", alone(*seconds(ours)))
    counted, compared = (partial(evaluate, made().fit(split), part, METRICS) for made in (Popularity, Compared))
    yield Row("popularity by counting / by scores", interleaved(counted, compared, rounds), "<= 0.20")


def of_implicit(users: Tensor, items: Tensor, questions: EvalSet) -> Callable[[], object]:
    """Its ranking of the same vectors (b, d) and (n_items, d), with as many threads as torch has."""
    from implicit.als import AlternatingLeastSquares
    from implicit.evaluation import ranking_metrics_at_k

    model = AlternatingLeastSquares(users.shape[1], use_gpu=False)
    model.user_factors, model.item_factors = users.numpy(), items.numpy()
    seen, targets = (matrix(rows, len(items)) for rows in (questions.seen, questions.targets))
    return partial(ranking_metrics_at_k, model, seen, targets, K=20, show_progress=False,
                   num_threads=torch.get_num_threads())


def matrix(rows: Ragged, width: int) -> sparse.csr_matrix:
    """(b, width) float32, one where a row has a value."""
    ones = np.ones(len(rows.values), dtype=np.float32)
    return sparse.csr_matrix((ones, rows.values.numpy(), rows.offsets.numpy()), (len(rows), width))


def serving_row(rounds: int) -> Row:
    """Lists of 20 for 10,000 users who did not train, against the product with the 10,000 items that scores them."""
    rng = torch.Generator().manual_seed(0)
    rows = tastes(10_000, torch.arange(1, 10_001, dtype=torch.float64).pow(-0.7), rng).by_user
    model, query = Served(multvae(1, 10_000, DIM)), Query(torch.full((10_000,), -1), rows)
    bare = floor(torch.randn(10_000, 600), torch.randn(10_000, 600))
    return Row("lists of 20 for 10,000 unseen users / bare products", interleaved(
        lambda: recommended(model, query, rows, 20), bare, rounds), "<= 1.50")
