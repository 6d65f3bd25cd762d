"""The contracts: what a part has to offer so that the others can use it. Classes keep these by shape alone.

=============  ==================================================  ==============================
contract       kept by                                             relied on by
=============  ==================================================  ==============================
Encoder        ``networks.base.TwoTower``                          objectives, denoisers
Network        ``networks.base.TwoTower``                          ``fit``, denoisers
Objective      the classes of ``objectives`` that draw batches     ``fit``
Supervision    ``denoise.base.Denoiser``                           ``fit``
Relabeller     ``denoise.base.Relabelling``                        ``fit.rounds``
=============  ==================================================  ==============================

What is fitted and asked inherits from :class:`recot.evaluation.recommender.Recommender`: closed forms, and in ``fit``
what trains a network and what relabels. It has neutral values for all that only some of them say.

A class also makes claims about itself, as class constants with literal values. ``recot.request.claims`` reads them from
the source, before torch is imported, and refuses what cannot work together. A class that does not define a constant
claims the value in the third column.

=============  ==============================  =======  ==========================================================
constant       of                              without  claim
=============  ==============================  =======  ==========================================================
inductive      networks, closed forms          False    the score depends on the history and not on the user id,
                                                        so that unseen users can be served
inductive_if   networks                        {}       parameter -> values of it that make the network inductive
ordered        networks, closed forms          False    the order of a history counts; data without times are
                                                        refused, and so is a refit
weighted       closed forms                    False    pairs are fitted by their weights, so that a denoiser
                                                        with ``weighs`` has something to act on
objectives     networks, denoisers             ()       class names of the objectives that it works with; all
                                                        where it is empty
networks       objectives                      ()       class names of the networks that it can train, or of bases
                                                        of them; all where it is empty
relabels       denoisers                       False    it says between two fits what is trained on next, and acts at no
                                                        other time; ``denoise.base.Relabelling`` claims it
weighs         relabelling denoisers           False    it changes the weights of the pairs and never the pairs
undecayed      networks                        ()       names of the parameters that ``trainer.weight_decay``
                                                        leaves alone; read by ``fit``, not by that module
by_domain      networks                        False    its constructor takes ``domains``, the ranges of items;
                                                        read by ``record``, not by that module
starts_fitted  networks                        False    its untrained weights are those of an earlier fit, and graded as
                                                        epoch 0; read by ``fit``, not by that module
alike          networks                        False    what it draws in training has to be the same in all processes
                                                        that share a batch; read by ``fit``, not by that module
shared         objectives, denoisers           False    processes that have some rows of a batch each compute together
                                                        what one does that has all, see :mod:`recot.nn.ranks`
=============  ==============================  =======  ==========================================================

A network or closed form whose constructor takes ``before`` is a later stage: it goes on from what the stage before has
fitted, see :class:`Before`.

A network that decides on ``inductive`` in its constructor claims ``inductive_if``.

The vectors of a question, and of an item, depend on no other question or item of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from recot.batches.layout import Layout
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query
from recot.nn.similarity import Similarity

Batch = TypeVar("Batch")
Trains = TypeVar("Trains", contravariant=True)
"""The networks that an objective can train."""


@dataclass(frozen=True)
class Code:
    """Vectors of b users, and what a loss may have to know about how they came about.

    Attributes:
        vectors: (b, d).
        corruption: probability that an item of a history was hidden from the network.
        kept: (nnz,) what each item of the histories was multiplied by, 0 or ``1 / (1 - corruption)``; None for ones.
        mean, log_std: (b, r) of the Gaussians that the vectors are drawn from; None where nothing is drawn.
        log_ratio: (b,) log of the density that the codes were drawn with over that of a unit Gaussian, at the codes
            drawn; None where the divergence follows from ``mean`` and ``log_std``.
    """

    vectors: Tensor
    corruption: float = 0.0
    kept: Tensor | None = None
    mean: Tensor | None = None
    log_std: Tensor | None = None
    log_ratio: Tensor | None = None


class Scorer(Protocol):
    """What ranks items."""

    def score(self, query: Query) -> Tensor:
        """(b, n_items) scores, higher first."""


class Encoder(Protocol):
    """What an objective or a denoiser may ask of a network: vectors of questions and of items, and their comparison.

    Attributes:
        inductive: see the table of the module.
        similarity: (..., m, d), (..., n, d) -> (..., m, n); ranks the items.
    """

    inductive: bool
    similarity: Similarity

    def users(self, query: Query) -> Tensor:
        """(b, d) vectors of ``b`` questions."""

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d) vectors of items, or (n_items, d) of all of them."""

    def encode(self, query: Query) -> Code:
        """The vectors of :meth:`users` with what their making leaves behind (corruption, a posterior)."""

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What an L2 penalty shrinks: the free vectors behind b questions and items (b, k), as (b, d) and (b, k, d)."""


class SequenceEncoder(Encoder, Protocol):
    """An encoder that has a state after each item of a history, kept by ``networks.sequential.Sequential``.

    Attributes:
        max_length: items of a history that are read, its latest.
    """

    max_length: int

    def states(self, layout: Layout) -> Tensor:
        """(nnz, d): what is known after each item of the histories; they are at most ``max_length`` long."""

    def layout(self, history: Ragged, filled: bool = False) -> Layout:
        """Of histories that are at most ``max_length`` long; ``filled`` with padding up to that."""


class ClozeEncoder(SequenceEncoder, Protocol):
    """A sequence encoder that guesses the item at a mask, kept by ``networks.bert4rec.BERT4Rec``.

    Attributes:
        mask: the id that stands for a masked item.
    """

    mask: int

    def guesses(self, states: Tensor) -> Tensor:
        """(n, d'), comparable with items, of states (n, d) at masks."""


class BootstrapEncoder(Encoder, Protocol):
    """An encoder that predicts the vectors of a slowly moving copy, kept by ``networks.buir.BUIR``."""

    def predictions(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the online side predicts for b users and b items; (b, d) each."""

    def targets(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The slow vectors of b users and b items; (b, d) each, without gradients."""


class Network(Encoder, Scorer, Protocol):
    """What training asks of a network: an :class:`Encoder` that is an ``nn.Module``.

    One with ``resting()``, as ``networks.base.TwoTower`` has it, need not make the vectors of all items for each block
    of users that an evaluation asks about.
    """

    def score_of(self, query: Query, ids: Tensor) -> Tensor:
        """Scores of the items (n,) for all questions (b, n), or of the items (b, c) of each question (b, c)."""

    def pretrained(self, query: Query) -> tuple[Tensor, Tensor]:
        """What a later stage goes on from: vectors of b users and of all items, (b, d) and (n_items, d)."""

    @property
    def undecayed(self) -> tuple[str, ...]:
        """See the table of the module."""

    @property
    def starts_fitted(self) -> bool:
        """Whether the weights that it starts with are graded too, for they may be better than trained ones."""

    @property
    def alike(self) -> bool:
        """See the table of the module."""

    def about_users(self) -> Mapping[str, Tensor]:
        """What it has learnt of each user besides vectors, (n_users,) each, by name."""

    def bind(self, train: Interactions) -> None:
        """Meet the training set: before the first step, and again with weights that are put back (a graph)."""

    def after_step(self) -> None:
        """Called when the optimiser has moved the parameters (a slowly moving target)."""

    # What follows is nn.Module's: a type cannot be a class and a protocol at once.

    def modules(self) -> Iterator[nn.Module]:
        """See ``nn.Module``."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """See ``nn.Module``."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """See ``nn.Module``."""

    def state_dict(self) -> dict[str, Any]:
        """See ``nn.Module``."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> object:
        """See ``nn.Module``."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """See ``nn.Module``."""

    def train(self) -> Self:
        """See ``nn.Module``."""

    def eval(self) -> Self:
        """See ``nn.Module``."""

    def to(self, device: torch.device) -> Self:
        """See ``nn.Module``."""


@dataclass(frozen=True)
class Before:
    """What the stage before has fitted, for the constructor of a network that goes on from it.

    Attributes:
        networks: the fitted network, or one for each domain; in evaluation mode, on the device of the fit, and not to
            be changed.
        domains: the ranges of items of all domains.
        number: which domain is fitted now, or None where all are.
    """

    networks: tuple[Any, ...]
    domains: tuple[Domain, ...]
    number: int | None = None

    @property
    def network(self) -> Any:
        """The network to go on from: the only one, or that of the domain that is fitted now."""
        return self.networks[0] if len(self.networks) == 1 else self.networks[self.number or 0]

    @torch.no_grad()
    def vectors(self, n_users: int) -> tuple[Tensor, Tensor]:
        """Copies of the vectors of all users (n_users, d) and of the items that are fitted now (n, d)."""
        ids = torch.arange(n_users, device=next(iter(self.network.parameters())).device)
        nothing = Ragged(ids.new_zeros(n_users + 1), ids[:0])
        users, items = self.network.pretrained(Query(ids, nothing))
        if self.number is not None and len(self.networks) == 1:  # all items before, those of a domain now
            items = items[self.domains[self.number].items]
        return users.detach().clone(), items.detach().clone()


class Objective(Protocol, Generic[Trains, Batch]):
    """Draws the batches of an epoch and turns one into a loss. Knows no optimiser and no model family.

    One with a state is an ``nn.Module``, so that checkpoints hold it. One that has scalars worth a line in the history
    of the run has ``report(network)``, which gives them by name and is read once an epoch.
    """

    def batches(self, train: Interactions, rng: torch.Generator, network: Trains, epoch: int) -> Iterator[Batch]:
        """The batches of ``epoch``, from 0, on the device of ``train``; what ``network`` cannot use may be missing."""

    def __call__(self, network: Trains, batch: Batch) -> tuple[Tensor, Batch]:
        """Unreduced loss, and the batch (with labels, where the loss made some)."""


class Supervision(Protocol, Generic[Batch]):
    """The moments of training at which a denoiser may step in, in the order of a step and of an epoch."""

    def bind(self, network: Network, train: Interactions) -> None:
        """Meet the network and the training set, once, before the first step."""

    def before(self, batch: Batch, network: Network) -> Batch:
        """The batch to compute the loss of: other targets, for example."""

    def after(self, loss: Tensor, batch: Batch) -> Tensor:
        """The unreduced loss with other weights, same shape."""

    def after_step(self, network: Network) -> None:
        """Called when the optimiser has moved the network."""

    def after_epoch(self) -> None:
        """Called at the end of an epoch, before :meth:`report`."""

    def report(self) -> dict[str, float]:
        """Scalars worth a line in the history of the run, read once an epoch."""

    def to(self, device: torch.device) -> Self:
        """See ``nn.Module``."""


class Relabeller(Protocol):
    """A denoiser that says, between two fits, what to train on next.

    Attributes:
        rounds: how often to relabel, 1 or more.
        marks: what the last relabelling says of each pair that it left, (n,) each, by name.
    """

    rounds: int
    marks: Mapping[str, Tensor]

    def relabel(self, original: Interactions, current: Interactions, network: Scorer) -> Interactions:
        """The training set of the next fit.

        Args:
            original: what was observed. current: what was trained on last.
            network: what was fitted to it, a :class:`Network` or a closed form.
        """

    def report(self) -> dict[str, float]:
        """Scalars about the last relabelling."""
