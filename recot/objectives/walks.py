"""Losses of walks on a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from recot.batches.walks import Walks, walks
from recot.data.interactions import Interactions
from recot.nn.contracts import Encoder
from recot.nn.precision import in_float32, single
from recot.objectives import losses
from recot.request.limits import check


class NodeEncoder(Encoder, Protocol):
    """A network with two vectors for each node, kept by ``networks.node2vec.Node2Vec``."""

    def centres(self, ids: Tensor) -> Tensor:
        """(*ids.shape, m), what nodes are."""

    def contexts(self, ids: Tensor) -> Tensor:
        """(*ids.shape, m), how nodes look to those near them."""


class SkipGram:
    """Nodes that are near on a walk score high, and drawn ones low (node2vec; skip-gram with negative sampling).

    ``-log sigmoid(z_a . c_b)`` for nodes a and b at a distance r of at most ``window`` on a walk, with the weight
    ``(window + 1 - r) / window``, and ``negatives`` times the mean of ``-log sigmoid(-z_a . c_k)`` over nodes k drawn.
    The loss of a walk is the weighted mean over its pairs; it starts at ``(1 + negatives) log 2``.

    Args:
        batch_size: walks per step.
        per_node: walks from each node in an epoch; epochs times it are the walks of a node.
        length: nodes of a walk. window: see above. negatives: for each pair.
        drawn: how many nodes stand for the negatives of a walk. power: of a node's frequency, with which it is drawn.

    Raises:
        ValueError: a number is out of its range.

    Source: Grover and Leskovec (KDD 2016); Mikolov et al. (NIPS 2013), Distributed Representations.

    Departures: all pairs of a walk share its drawn nodes, with the weight of ``negatives`` for each pair, so that the
    gradient is the same in expectation and the step is a product of matrices (Ji et al., 2016). A drawn node may be one
    of the walk. word2vec shrinks the window of each node at random; the weight is what that comes to in expectation.
    Walks are new in every epoch and none is kept, and frequencies are those expected of walks. The optimiser is the
    trainer's and not gradient descent with a falling rate.
    """

    networks = ("Node2Vec",)
    shared = True

    def __init__(self, batch_size: int = 512, per_node: int = 10, length: int = 30, window: int = 10,
                 negatives: int = 5, drawn: int = 20, power: float = 0.75):
        check("loss", ("per_node", per_node, per_node >= 1, "leaves an epoch without a walk; give 1 or more"),
              ("length", length, length >= 2, "is a number of nodes on a walk; give 2 or more"),
              ("window", window, window >= 1, "leaves no two nodes near; give 1 or more"),
              ("negatives", negatives, negatives >= 1, "leaves nothing to tell apart; give 1 or more"),
              ("drawn", drawn, drawn >= 1, "leaves nothing to tell apart; give 1 or more"))
        self.batch_size, self.per_node, self.length, self.window = batch_size, per_node, length, window
        self.negatives, self.drawn, self.power = negatives, drawn, power

    def batches(self, train: Interactions, rng: torch.Generator, network: NodeEncoder, epoch: int) -> Iterator[Walks]:
        """Walks with drawn nodes."""
        return walks(train, self.batch_size, rng, per_node=self.per_node, length=self.length, negatives=self.drawn,
                     power=self.power)

    def weights(self, length: int, device: torch.device) -> Tensor:
        """(length, length + drawn): of pairs on the walk, and of those with drawn nodes; the former sum to one."""
        place = torch.arange(length, device=device)
        distance = (place[:, None] - place).abs()  # (length, length)
        near = (self.window + 1 - distance).clamp(min=0) / self.window * (distance > 0)  # (length, length)
        far = near.sum(1, keepdim=True) * self.negatives / self.drawn  # (length, 1)
        return torch.cat([near, far.expand(-1, self.drawn)], 1) / near.sum()  # (length, length + drawn)

    def __call__(self, network: NodeEncoder, batch: Walks) -> tuple[Tensor, Walks]:
        """(w,) loss."""
        length = batch.nodes.shape[1]
        contexts = network.contexts(torch.cat([batch.nodes, batch.negatives], 1))  # (w, length + drawn, m)
        logits = single(network.centres(batch.nodes) @ contexts.mT)  # (w, length, length + drawn)
        labels = torch.zeros_like(logits[0])  # (length, length + drawn)
        labels[:, :length] = 1.0
        return summed(losses.bce(logits, labels.expand_as(logits)), self.weights(length, logits.device)), batch


@in_float32
def summed(loss: Tensor, weights: Tensor) -> Tensor:
    """(w,) sums of ``loss``, (w, length, length + drawn), times ``weights``, (length, length + drawn)."""
    found: Tensor = torch.linalg.vecdot(loss.flatten(1), weights.flatten())
    return found
