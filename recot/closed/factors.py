"""Low-rank closed forms: vectors of users and items by linear algebra, no gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Self

import numpy as np
import torch
from scipy import linalg, sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.questions import Query, Split
from recot.evaluation.recommender import Recommender
from recot.nn.product import Products
from recot.request.limits import check

ENTRIES = 2**22  # of the gathered vectors of a batch of least-squares problems: 32 MB in float64


class Factors(Recommender):
    """Scores by the inner product of a user's and an item's vector.

    A user with training pairs is scored by the vector fitted to them with their weights, every other one (-1 too) by
    one computed in the same way from the history, every item in it counting one. So the user id matters only once pairs
    have weights.

    Attributes:
        fitted: (n_users,) bool, who has training pairs.
        user_vectors: (n_users, r) float32. item_vectors: (n_items, r) float32.
    """

    inductive = True
    weighted = True
    fitted: Tensor
    user_vectors: Tensor
    item_vectors: Tensor
    rested: Callable[[Tensor], Tensor] | None = None

    def __init__(self, rank: int):
        check("model", ("rank", rank, rank >= 1, "is the width of the vectors; give 1 or more, for example 50"))
        self.rank = rank

    def fold_in(self, rows: sparse.csr_array) -> np.ndarray:
        """(b, r) vectors of users with the rows ``rows``, (b, n_items)."""
        raise TypeError(f"{type(self).__name__} has to define fold_in(rows)")

    def keep(self, train: Interactions, users: np.ndarray, items: np.ndarray) -> None:
        """Take the vectors of users (n_users, r) and items (n_items, r) that were fitted to ``train``."""
        self.fitted = train.activity.cpu() > 0  # (n_users,)
        self.user_vectors, self.item_vectors = (torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
                                                for vectors in (users, items))

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, on the CPU."""
        users = query.users.cpu()
        vectors = self.user_vectors[users.clamp(min=0)]  # (b, r)
        unseen = (users < 0) | ~self.fitted[users]  # -1 is the last user there, and unseen in any case
        if bool(unseen.any()):
            history = query.history.to("cpu").take(unseen.nonzero().flatten())
            rows = sparse.csr_array((np.ones(len(history.values)), history.values.numpy(), history.offsets.numpy()),
                                    (len(history), len(self.item_vectors)))
            vectors[unseen] = torch.from_numpy(self.fold_in(rows)).float()
        return self.rested(vectors) if self.rested else vectors @ self.item_vectors.T  # (b, n_items)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """See :class:`Recommender`."""
        before, self.rested = self.rested, Products(self.item_vectors)
        try:
            yield
        finally:
            self.rested = before


class SVD(Factors):
    """PureSVD: every user's row projected on the best few directions of all rows, ``X V V^T``.

    Args:
        rank: directions. fold_in: project the rows with the weights they were decomposed with (``weighted``), or the
            rows of ones (``original``). They differ only where a denoiser has given weights.

    Raises:
        ValueError: ``rank`` is below 1, or not below the number of users and of items.

    Source: Cremonesi et al. (RecSys 2010), PureSVD.

    Departures: exact, by Lanczos iterations, where the code that ProRec takes its baselines from draws random ones.
    """

    def __init__(self, rank: int = 50, fold_in: Literal["weighted", "original"] = "weighted"):
        super().__init__(rank)
        self.projected = fold_in

    def fit(self, split: Split) -> Self:
        """Decompose the training matrix."""
        x = matrix(split.train)
        _, self.directions = decomposed(x, self.rank)
        rows = x if self.projected == "weighted" else matrix(split.train, ones=True)
        self.keep(split.train, self.fold_in(rows), self.directions)
        return self

    def fold_in(self, rows: sparse.csr_array) -> np.ndarray:
        """(b, r)."""
        return rows @ self.directions  # type: ignore[no-any-return]  # scipy is without types


class NCE(Factors):
    """NCE-PLRec: directions of a matrix without its popularity, then one ridge regression from them to all items.

    With c the column sums, m users and weights x, ``D = max(0, log m + log x - beta log c)`` on the pairs and 0
    elsewhere, ``D ~ P S V^T``, ``Q = X V S^{1/2}`` and ``W = (Q^T Q + ridge)^{-1} Q^T X``. The score is ``Q W``.

    Args:
        rank: directions. beta: how much of the popularity is taken out. ridge: of the regression.
        weight: ``log`` has the term log x, which is where the optimum of the weighted noise-contrastive objective lies;
            ``regression_only`` leaves it out.

    Raises:
        ValueError: a parameter is out of its range, ``rank`` is not below the number of users and of items, or ``beta``
            leaves nothing of the matrix.

    Source: Wu et al. (SIGIR 2019), Noise Contrastive Estimation for One-Class Collaborative Filtering.

    Departures: the optimum in the paper has a factor of the users' degrees that the released code leaves out; so do we.
    The weights are ours; the paper has none.
    """

    def __init__(self, rank: int = 50, beta: float = 1.0, ridge: float = 1000.0,
                 weight: Literal["log", "regression_only"] = "log"):
        super().__init__(rank)
        check("model", ("ridge", ridge, ridge > 0, "would divide by zero; give more than 0, for example 1000"))
        self.beta, self.ridge, self.weight = beta, ridge, weight

    def fit(self, split: Split) -> Self:
        """Decompose, project and regress."""
        x = matrix(split.train)
        total = x.sum(0)  # (n_items,)
        plain = np.log(x.shape[0]) - self.beta * np.log(np.where(total > 0, total, 1.0))[x.indices]
        shift = np.log(x.data) if self.weight == "log" else 0.0
        positive = sparse.csr_array((np.maximum(plain + shift, 0.0), x.indices, x.indptr), x.shape)
        strength, directions = decomposed(positive, self.rank)
        self.directions = directions * np.sqrt(strength)  # (n_items, r)
        q = self.fold_in(x)  # (n_users, r)
        gram = q.T @ q + self.ridge * np.eye(q.shape[1])
        self.keep(split.train, q, linalg.cho_solve(linalg.cho_factor(gram), (x.T @ q).T).T)
        return self

    def fold_in(self, rows: sparse.csr_array) -> np.ndarray:
        """(b, r)."""
        return rows @ self.directions  # type: ignore[no-any-return]  # scipy is without types


class WRMF(Factors):
    """Weighted matrix factorisation by alternating least squares, each half solved exactly.

    Minimises ``sum_ij (1 + alpha x_ij) (x_ij - u_i.v_j)^2 + ridge (|U|^2 + |V|^2)`` over all users and items. A weight
    acts on the confidence and on the target. A user or item without pairs has the vector zero.

    Args:
        rank: width of the vectors. alpha: extra confidence in a pair. ridge: not multiplied by a degree.
        sweeps: over users and items.
        seed: of the first item vectors, normal with deviation 0.01.

    Raises:
        ValueError: a parameter is out of its range.

    Source: Hu, Koren and Volinsky (ICDM 2008), Collaborative Filtering for Implicit Feedback Datasets.

    Departures: the target of a pair is its weight, not one; so it is in the code that ProRec takes its baselines from.
    For weights of one both are the same.
    """

    def __init__(self, rank: int = 100, alpha: float = 10.0, ridge: float = 10.0, sweeps: int = 10, seed: int = 0):
        super().__init__(rank)
        check("model", ("alpha", alpha, alpha >= 0, "would trust a pair less than none; give 0 or more"),
              ("ridge", ridge, ridge >= 1e-12, "would divide by zero; give 1e-12 or more, for example 10"),
              ("sweeps", sweeps, sweeps >= 1, "leaves the vectors of the start; give 1 or more"))
        self.alpha, self.ridge, self.sweeps, self.seed = alpha, ridge, sweeps, seed

    def fit(self, split: Split) -> Self:
        """Alternate."""
        x = matrix(split.train)
        columns = x.T.tocsr()
        items = 0.01 * np.random.default_rng(self.seed).standard_normal((x.shape[1], self.rank))
        users = np.zeros((x.shape[0], self.rank))
        for _ in range(self.sweeps):
            self.fixed = items
            users = self.solved(x, items)
            items = self.solved(columns, users)
        self.keep(split.train, users, items)
        return self

    def fold_in(self, rows: sparse.csr_array) -> np.ndarray:
        """(b, r), by the half-step that the users were fitted in last."""
        return self.solved(rows, self.fixed)

    def solved(self, rows: sparse.csr_array, fixed: np.ndarray) -> np.ndarray:
        """(b, r): for each of ``rows``, (b, n), the best vector against ``fixed``, (n, r).

        With B the r x r matrix that all rows share, C the (k, r) vectors of a row's k entries x and D = alpha x, the
        best vector is ``(B + C^T D C)^-1 C^T y``, y = (1 + alpha x) x. Where k < r it is ``B^-1 C^T (1 + D G)^-1 y``
        with ``G = C B^-1 C^T``, (k, k), which spares most rows an r x r system. Rows of equal degree are solved
        together, as many at a time as keep ``ENTRIES`` numbers; a row that alone has more is summed by pieces.
        """
        other = torch.from_numpy(fixed)
        base = other.T @ other + self.ridge * torch.eye(self.rank, dtype=torch.float64)  # (r, r)
        shared = torch.cholesky_solve(other.T, torch.linalg.cholesky(base)).T  # (n, r) rows of B^-1 C^T
        out = torch.zeros(rows.shape[0], self.rank, dtype=torch.float64)
        indices, data = torch.from_numpy(rows.indices.astype(np.int64)), torch.from_numpy(rows.data)
        for place, entries in same_degree(torch.from_numpy(rows.indptr.astype(np.int64)), self.rank):
            if entries.shape[1] < self.rank:
                taken, x = indices[entries], data[entries]  # (b, k) each
                weight, y = self.alpha * x[..., None], ((1 + self.alpha * x) * x)[..., None]  # (b, k, 1) each
                inside = torch.eye(entries.shape[1], dtype=torch.float64) + weight * (shared[taken] @ other[taken].mT)
                found = shared[taken].mT @ torch.linalg.solve(inside, y)  # (b, r, 1)
            else:
                normal, right = base, torch.zeros(len(entries), self.rank, 1, dtype=torch.float64)
                for piece in entries.split(max(1, ENTRIES // (len(entries) * self.rank)), 1):
                    x, vectors = data[piece][..., None], other[indices[piece]]  # (b, p, 1), (b, p, r)
                    normal = normal + vectors.mT @ (self.alpha * x * vectors)  # (b, r, r)
                    right = right + vectors.mT @ ((1 + self.alpha * x) * x)  # (b, r, 1)
                found = torch.cholesky_solve(right, torch.linalg.cholesky(normal))  # (b, r, 1)
            out[place] = found.squeeze(2)  # (b, r)
        return out.numpy()


def same_degree(pointer: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of a CSR matrix in batches of equal degree k > 0: their numbers (b,), the places of their entries (b, k).

    Args:
        pointer: (rows + 1,) int64. width: numbers that are gathered for each entry, and held squared for each row.
    """
    degree = pointer.diff()
    for k in degree[degree > 0].unique().tolist():
        for place in (degree == k).nonzero().flatten().split(max(1, ENTRIES // (width * max(k, width)))):
            yield place, pointer[place][:, None] + torch.arange(k)


def matrix(train: Interactions, ones: bool = False) -> sparse.csr_array:
    """(n_users, n_items) float64 of the weights, or of ones; a pair of weight zero is none."""
    train = train.to("cpu").select(train.weights.cpu() > 0)
    values = np.ones(len(train)) if ones else train.weights.double().numpy()
    found = sparse.csr_array((values, (train.users.numpy(), train.items.numpy())), (train.n_users, train.n_items))
    found.sort_indices()
    return found


def decomposed(x: sparse.csr_array, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``rank`` largest singular values of ``x``, (m, n), falling, and their right directions: (r,), (n, r).

    Raises:
        ValueError: ``rank`` is not below m and n, or ``x`` is zero.
    """
    if rank >= min(x.shape):
        raise ValueError(f"model.rank = {rank} has to be below the number of users and of items, here "
                         f"{x.shape[0]:,} and {x.shape[1]:,}")
    if not x.data.any():
        raise ValueError(f"a matrix of {x.shape[0]:,} x {x.shape[1]:,} zeros has no directions; every pair has the "
                         "weight zero, or model.beta takes all popularity and more out of it: lower model.beta")
    # Without a start ARPACK draws another one every time; one of ones would miss directions that are at right angles.
    start = np.random.default_rng(0).standard_normal(min(x.shape))
    _, strength, right = svds(x, k=rank, v0=start, return_singular_vectors="vh")
    order = np.argsort(-strength)
    return strength[order], right[order].T
