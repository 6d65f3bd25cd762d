"""Two views of each user, closer to each other than to those of other users."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from recot.batches.augment import Augmentation, similar_by_users, similar_by_vectors
from recot.batches.layout import Filled, Layout
from recot.data.interactions import Interactions, Ragged
from recot.nn import ranks
from recot.nn.contracts import SequenceEncoder
from recot.nn.gaussian import deviation
from recot.nn.precision import in_float32, single
from recot.nn.similarity import minus_distance, nearest, unit
from recot.request.limits import check

Alike = Literal["dot", "cosine", "neg_w2", "inv_w2"]
PANELS = 8
"""Of the products of vectors with themselves: what is computed of them is half, and this many small squares more."""


class Gram(torch.autograd.Function):
    """Inner products of vectors with each other; the half above the diagonal is computed, the other copied.

    Flattened histories make this the largest product of a step. Its gradient is one more product in place of two.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        """(n, n) of (n, d)."""
        ctx.save_for_backward(vectors)
        n = len(vectors)
        found, size = vectors.new_empty(n, n), max(1, -(-n // PANELS))
        for start in range(0, n, size):
            panel = found[start:start + size, start:]
            torch.mm(vectors[start:start + size], vectors[start:].T, out=panel)
            found[start + size:, start:start + size] = panel[:, size:].T
        return found

    @staticmethod
    @in_float32
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """(n, d)."""
        (vectors,) = ctx.saved_tensors
        found: Tensor = (grad + grad.T) @ vectors
        return found


def gram(vectors: Tensor) -> Tensor:
    """Inner products (n, n) of vectors (n, d) with each other, see :class:`Gram`; of narrow ones as a plain product."""
    if vectors.shape[1] < len(vectors):
        return vectors @ vectors.T
    found: Tensor = Gram.apply(vectors)  # type: ignore[no-untyped-call]  # torch leaves it so
    return found


@in_float32
def two_views(vectors: Tensor, alike: Alike, tau: float) -> Tensor:
    """Cross entropy of each view against its partner among all other views, of both kinds.

    Args:
        vectors: (2n, d), one view of each of n users and then the other of each.
        alike: ``dot``; ``cosine``; ``neg_w2``, minus the squared Wasserstein distance of Gaussians given as means and
            deviations; ``inv_w2``, one over one plus this distance.
        tau: temperature.

    Returns:
        (2n,); ``log(2n - 1)`` as tau grows, 0 for one user.

    Source: SimCLR's loss (Chen et al., ICML 2020) as in CL4SRec, Eq. 5; MStein, Eq. 12.
    """
    if alike == "cosine":
        vectors = unit(vectors)
    found = gram(vectors)  # (2n, 2n)
    if alike in ("neg_w2", "inv_w2"):
        norm = vectors.square().sum(1)
        distance = (norm[:, None] + norm - 2 * found).clamp(min=0)  # rounding makes near points negative
        found = -distance if alike == "neg_w2" else 1 / (1 + distance)
    n = len(vectors) // 2
    partner = torch.arange(2 * n, device=found.device).roll(n)
    own = torch.eye(2 * n, dtype=torch.bool, device=found.device)
    loss: Tensor = F.cross_entropy((found / tau).masked_fill(own, -torch.inf), partner, reduction="none")
    return loss


class Contrast:
    """A second term of a loss on sequences: two augmented views of every history recognise each other.

    Args:
        augmentation: how views are drawn. weight: beta, of the term.
        tau: temperature. alike: see :func:`two_views`.
        pooling: what stands for a view: its ``last`` state, the ``mean`` of its states, or all of them side by side,
            ``flatten``, (L d) wide with zeros where it is shorter.
        filled: with ``flatten``, the states of padding instead of these zeros.
        group: compare the views of this many users at a time, instead of all of the batch, or None.
        halves: take a vector as a mean and what a deviation is made of (the Wasserstein term of CoSeRec, "WDM").
        variance_twice: take variances through ELU + 1 once more, which adds one to them.
        comparison: what makes items similar: the ``users`` they share, the network's ``vectors`` in each epoch, or the
            more alike of both (``hybrid``). warm_up: epochs in which it is the users in any case.

    Raises:
        ValueError: ``tau`` or ``group`` is not positive, or ``weight`` or ``warm_up`` is negative; states of padding
            are to be kept where none is looked at, or items masked by padding where it has none.

    Source: CL4SRec (Xie et al., ICDE 2022), Sec. 3.1; MStein (Fan et al., WWW 2023), Sec. 4.2.

    Departures: the released program of MStein flattens the states at padding too, where a position sees everything, the
    future included; without ``filled`` these are zero here, and with it the vector of padding is, which is random there
    and never learnt, whether it stands before a history or for a masked item. After its warm-up it compares Gaussian
    items by the network's vectors, scaled by bounds taken before there were any, so that arbitrary items replace
    others; MStein's presets stay with users instead. For inner products the same bounds keep the order, and make any
    vectors more alike than users: it compares by vectors alone then, where CoSeRec's presets take the more alike of
    both. CoSeRec's program scales a likeness of vectors by the largest product, an item's with itself included; here it
    is the largest with another item. The warm-up ends after ``warm_up`` epochs; after one more in both programs, which
    ask for ``epoch > 160`` from 0 on. What is alike to an item that shares no user with another is drawn once a run,
    and of equally alike items the one of the lowest number is taken, where the programs take the first seen.
    """

    def __init__(self, augmentation: Augmentation, weight: float = 0.1, tau: float = 1.0, alike: Alike = "dot",
                 pooling: Literal["last", "mean", "flatten"] = "flatten", filled: bool = False,
                 group: int | None = None, halves: bool = False, variance_twice: bool = False,
                 comparison: Literal["users", "vectors", "hybrid"] = "users", warm_up: int = 160):
        check("loss.contrast", ("weight", weight, weight >= 0, "would drive views apart; give 0 or more"),
              ("tau", tau, tau > 0, "is a temperature, which divides; give more than 0, for example 1"),
              ("group", group, group is None or group >= 1, "is a number of users; give 1 or more, or null for all"),
              ("warm_up", warm_up, warm_up >= 0, "is a number of epochs; give 0 or more"))
        self.augmentation, self.weight, self.tau = augmentation, weight, tau
        if filled and pooling != "flatten":
            raise ValueError(f"loss.contrast.filled=true keeps states of padding, and pooling={pooling} looks at none; "
                             "use loss.contrast.pooling=flatten, or filled=false")
        if augmentation.masked == "padding" and not filled:
            raise ValueError("loss.contrast.augmentation.masked=padding wants places that keep a state, and "
                             "filled=false has none; use loss.contrast.filled=true, or masked=item")
        self.alike, self.pooling, self.filled, self.group = alike, pooling, filled, group
        self.halves, self.variance_twice = halves, variance_twice
        self.comparison, self.warm_up = comparison, warm_up
        self.compared: tuple[Interactions, Tensor, Tensor] | None = None

    @torch.no_grad()
    def similar(self, train: Interactions, network: SequenceEncoder, epoch: int) -> Tensor:
        """(n_items,), what takes the place of an item, or stands before it, in the views of ``epoch``."""
        if not self.augmentation.compares:
            return train.items[:0]
        if self.compared is None or self.compared[0] is not train:
            rng = torch.Generator(train.users.device).manual_seed(0)
            self.compared = train, *similar_by_users(train, rng)
        _, by_users, alike = self.compared
        if self.comparison == "users" or epoch < self.warm_up:
            return by_users
        compare = minus_distance if network.similarity is nearest else network.similarity
        by_vectors, near = similar_by_vectors(network.items(), compare)
        return by_vectors if self.comparison == "vectors" else torch.where(near > alike, by_vectors, by_users)

    def views(self, history: Ragged, similar: Tensor, n_items: int, rng: torch.Generator) -> tuple[Ragged, Ragged]:
        """Two views of each of b histories; ``similar`` is that of :meth:`similar`."""
        first, second = (self.augmentation(history, rng, n_items, similar) for _ in range(2))
        return first, second

    def __call__(self, network: SequenceEncoder, views: tuple[Ragged, Ragged]) -> Tensor:
        """Scalar."""
        first, second = (view.latest(network.max_length) for view in views)
        layout = network.layout(Ragged.from_lengths(torch.cat([first.lengths, second.lengths]),
                                                    torch.cat([first.values, second.values])), self.filled)
        states = single(network.states(layout))  # (nnz, d)
        if self.halves or self.variance_twice:
            if states.shape[1] % 2:
                raise ValueError(f"loss.contrast.halves=true splits states of width {states.shape[1]} in two; give an "
                                 "even model.dim")
            mean, spread = states.chunk(2, 1)
            spread = deviation(spread) if self.halves else spread
            states = torch.cat([mean, (1 + spread.square()).sqrt() if self.variance_twice else spread], 1)
        vectors = self.pooled(states, layout, network.max_length)
        rows = ranks.rows(len(first))
        sides = (rows.gathered(side) for side in vectors.tensor_split(2))
        groups = zip(*(side.split(self.group or rows.all) for side in sides), strict=True)
        return self.weight * torch.cat([two_views(torch.cat(pair), self.alike, self.tau) for pair in groups]).mean()

    def pooled(self, states: Tensor, layout: Layout, width: int) -> Tensor:
        """(2n, d), or (2n, width d) where states are flattened."""
        history = layout.history
        if self.pooling == "last":
            return layout.last(states)
        if self.pooling == "mean":
            sums = states.new_zeros(len(history), states.shape[1]).index_add(0, history.rows, states)  # (2n, d)
            return sums / history.lengths.clamp(min=1)[:, None]
        if not isinstance(layout, Filled):
            empty = states.new_zeros(len(history) * width, states.shape[1])
            states = empty.index_copy(0, history.slots(width), states)  # (2n width, d)
        return states.view(len(history), -1)  # (2n, width d)
