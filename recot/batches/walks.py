"""Random walks on the graph of users and items. Node u is user u, and node ``n_users + i`` is item i."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged


@dataclass(frozen=True)
class Walks:
    """A batch of walks.

    Attributes:
        nodes: (w, length) int64, the nodes in the order of the walk.
        negatives: (w, k) int64, nodes drawn for each walk, not all of them outside it.
    """

    nodes: Tensor
    negatives: Tensor


def adjacency(train: Interactions) -> Ragged:
    """(n_users + n_items) rows: the neighbours of each node, once for each training pair."""
    users, items = train.users, train.items + train.n_users  # (n,) each
    ends, others = torch.cat([users, items]), torch.cat([items, users])  # (2 n,) each
    order = ends.argsort(stable=True)
    return Ragged.from_pairs(ends[order], others[order], train.n_users + train.n_items)


def walk(graph: Ragged, starts: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """(w, length) int64: walks from ``starts`` (w,), each step to a neighbour drawn uniformly.

    Every start has a neighbour, and then so has every node on the way.
    """
    steps = [starts]
    drawn = torch.rand(length - 1, len(starts), generator=rng, device=starts.device)
    for share in drawn:
        degree = graph.lengths[steps[-1]]
        place = (share * degree).long().minimum(degree - 1)  # rounding may give the degree itself
        steps.append(graph.values[graph.offsets[steps[-1]] + place])
    return torch.stack(steps, 1)


def visits(graph: Ragged, length: int) -> Tensor:
    """(nodes,) float64: how often walks, one from every node with a neighbour, are expected to see each node."""
    degree = graph.lengths.double()
    now = (degree > 0).double()
    total = now.clone()
    for _ in range(length - 1):
        passed = (now / degree.clamp(min=1))[graph.rows]  # (2 n,)
        now = torch.zeros_like(now).index_add_(0, graph.values, passed)
        total += now
    return total


def walks(train: Interactions, batch_size: int, rng: torch.Generator, *, per_node: int, length: int, negatives: int,
          power: float) -> Iterator[Walks]:
    """An epoch: ``per_node`` walks from every node with a training pair, shuffled; the last batch may be smaller.

    Walks are drawn batch by batch, so that no more than a batch of them is held.

    Args:
        train: on the device where training happens, like ``rng``.
        per_node: walks that start at each node. length: nodes of a walk.
        negatives: nodes drawn for each walk, a node with a probability in proportion to how often it is expected in
            walks, to the ``power``.
    """
    graph = adjacency(train)
    linked = graph.lengths.nonzero().squeeze(1)  # (linked,)
    starts = linked.repeat(per_node)  # (linked * per_node,)
    starts = starts[torch.randperm(len(starts), generator=rng, device=starts.device)]
    # On the host, since torch refuses running sums of floats on a card where algorithms have to be deterministic.
    upto = visits(graph, length)[linked].pow(power).cpu().cumsum(0).to(linked.device)  # (linked,)
    for start in range(0, len(starts), batch_size):
        some = starts[start : start + batch_size]
        where = torch.rand(len(some), negatives, generator=rng, device=some.device, dtype=torch.float64) * upto[-1]
        drawn = torch.searchsorted(upto, where, right=True).clamp(max=len(linked) - 1)
        yield Walks(walk(graph, some, length, rng), linked[drawn])
