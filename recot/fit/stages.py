"""Recommenders made of recommenders that share the work: one for each domain, and one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from recot.data.domains import cut, number_of, of
from recot.data.interactions import Domain, Interactions
from recot.data.questions import Query, Split
from recot.evaluation.recommender import Deputy, History, Recommender
from recot.fit import stored
from recot.nn.contracts import Before
from recot.request.errors import RequestError
from recot.system.files import write_whole

log = logging.getLogger(__name__)

Observe = Callable[[History], None]


class Make(Protocol):
    """Gives an unfitted recommender that goes on from ``before``, keeps its checkpoints in ``folder`` and tells its
    history; None where there is no such thing.
    """

    def __call__(self, before: Before | None, folder: Path | None, observe: Observe) -> Recommender:
        """See the class."""


class Apart(Recommender):
    """One recommender for each domain, each of which learns from its domain alone, or from all but its domain.

    Args:
        make: called once for each domain. before: of the stage before, or None.
        others: whether each learns from the other domains, so that a later stage may carry over what it learnt. Such a
            recommender cannot be asked, since it knows no item of its domain.
        folder: where they keep what they need to resume, or None. observe: called after each epoch with the history so
            far of all of them, by domain.

    Attributes:
        models: fitted, in the order of the domains.
    """

    def __init__(self, make: Make, before: Before | None = None, others: bool = False, folder: Path | None = None,
                 observe: Observe = lambda history: None):
        self.make, self.before_all, self.others, self.folder, self.observe = make, before, others, folder, observe
        self.models: list[Recommender] = []
        self.domains: tuple[Domain, ...] = ()
        self.history: History = []

    def fit(self, split: Split) -> Self:
        """One domain after the other; goes on in the one that was interrupted.

        Raises:
            RequestError: the data have no domains, or fewer than two where each learns from the others.
            Exception: what a fit raises.
        """
        self.domains, self.models, self.history = split.train.domains, [], []
        if len(self.domains) < 1 + self.others:
            raise RequestError(f"domains={'others' if self.others else 'each'} wants data with "
                               f"{'two domains or more' if self.others else 'domains'}; use domains=joint, or data "
                               "such as data=amazon_kbe")
        for number in range(len(self.domains)):
            kept = [other for other in range(len(self.domains)) if (other == number) != self.others]
            model = self.made(number, lambda history, number=number: self.observe(  # type: ignore[misc]
                self.history + told(history, domain=number)))
            model.fit(cut(split, kept))
            self.models.append(model)
            self.history += told(model.history, domain=number)
        return self

    def untrained(self, train: Interactions) -> Self:
        """As after a fit, with networks that have learnt nothing."""
        self.domains, self.models = train.domains, []
        for number in range(len(self.domains)):
            kept = [other for other in range(len(self.domains)) if (other == number) != self.others]
            self.models.append(self.made(number).untrained(of(train, [self.domains[other] for other in kept])))
        return self

    def load(self, file: Path, train: Interactions) -> Self:
        """Read weights written by :meth:`save`; errors as in :meth:`recot.fit.gradient.Gradient.load`."""
        found = stored.named(file, self.untrained(train).state())
        for number, model in enumerate(self.models):
            begin = f"{number}."
            model.scorer.load_state_dict({name.removeprefix(begin): value for name, value in found.items()
                                          if name.startswith(begin)})
            model.scorer.bind(of(train, [self.domains[number]]).to(model.device))
        return self

    def state(self) -> dict[str, Any]:
        """The states of all networks, each name with the number of its domain before it."""
        return {f"{number}.{name}": value for number, network in enumerate(self.networks)
                if isinstance(network, torch.nn.Module) for name, value in network.state_dict().items()}

    def made(self, number: int, observe: Observe = lambda history: None) -> Recommender:
        """The unfitted recommender of a domain."""
        folder = self.folder / f"domain{number}" if self.folder else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        return self.make(self.before_all and replace(self.before_all, number=number), folder, observe)

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # of the recommenders
        """Where its recommenders score."""
        return self.models[0].device

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.models[0].name} and others" if self.models else type(self).__name__

    @property
    def best_epoch(self) -> int:
        """The largest of its recommenders."""
        return max(model.best_epoch for model in self.models)

    @property
    def networks(self) -> Sequence[Any]:
        """One for each domain."""
        return [model.scorer for model in self.models]

    @property
    def stages(self) -> Mapping[str, Mapping[str, float]]:  # type: ignore[override]  # it says something
        """Numbers about the fit of each domain."""
        return {domain.name: about(model) for domain, model in zip(self.domains, self.models, strict=True)}

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32; items of different domains are scored by different recommenders."""
        self.refuse_others()
        return torch.cat([model.score(known(query, domain)) for domain, model in zip(
            self.domains, self.models, strict=True)], 1)

    def score_of(self, query: Query, items: slice | Tensor) -> Tensor:
        """(b, n) of a range within a domain, or (b, c) of items of one domain in each row."""
        self.refuse_others()
        if isinstance(items, slice):
            for domain, model in zip(self.domains, self.models, strict=True):
                if domain.start <= items.start and items.stop <= domain.stop:
                    return model.score_of(known(query, domain), slice(items.start - domain.start,
                                                                      items.stop - domain.start))
            return super().score_of(query, items)
        numbers = number_of(items, self.domains)  # (b, c)
        if bool((numbers != numbers[:, :1]).any()):
            return super().score_of(query, items)
        found = torch.empty(items.shape, device=self.device)
        for number in numbers[:, 0].unique().tolist():
            rows, domain = (numbers[:, 0] == number).nonzero().squeeze(1), self.domains[number]
            part = known(Query(query.users[rows], query.history.take(rows)), domain)
            found[rows.to(self.device)] = self.models[number].score_of(part, items[rows] - domain.start)
        return found

    def refuse_others(self) -> None:
        """Raise where the recommenders know no item of their domain."""
        if self.others:
            raise RequestError("domains=others learns from all but the domain that is asked about, which only a later "
                               "stage can use; use domains=each, or a model with stages such as model=recsys_dan")

    def save(self, file: Path) -> None:
        """Write the weights of all, where they are networks, whole or not at all."""
        if states := self.state():
            write_whole(file, partial(torch.save, states))


class Staged(Deputy):
    """Recommenders that are fitted one after the other, each on what the one before has left; the last one is asked.

    Args:
        makes: the name of each stage and how its recommender is made.
        blind: names of stages that select nothing by validation and are trained to their last epoch.
        folder: where the stages keep what they need to resume, or None. observe: called after each epoch with the
            history of all stages so far.

    Attributes:
        model: of the last stage.
    """

    def __init__(self, makes: Mapping[str, Make], blind: Collection[str] = (), folder: Path | None = None,
                 observe: Observe = lambda history: None):
        self.blind = blind
        self.makes, self.folder, self.observe = makes, folder, observe
        self.model = Recommender()
        self.history: History = []
        self.stages: dict[str, dict[str, float]] = {}

    def fit(self, split: Split) -> Self:
        """One stage after the other; goes on in the one that was interrupted.

        Raises:
            Exception: what a stage raises.
        """
        self.history, self.stages, before = [], {}, None
        for number, (name, make) in enumerate(self.makes.items()):
            start = time.monotonic()
            folder = self.folder / f"stage{number}" if self.folder else None
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
            self.model = make(before, folder, lambda history, number=number: self.observe(  # type: ignore[misc]
                self.history + told(history, stage=number)))
            self.model.fit(unasked(split) if name in self.blind else split)
            self.history += told(self.model.history, stage=number)
            took = max(time.monotonic() - start, sum(row["seconds"] for row in self.model.history))
            self.stages[name] = about(self.model) | {"seconds": round(took, 3)}
            self.stages |= {f"{name}/{domain}": dict(found) for domain, found in self.model.stages.items()}
            log.info("stage %s: %s", name, ", ".join(f"{key} {value:g}" for key, value in self.stages[name].items()))
            before = Before(tuple(self.model.networks), split.train.domains)
        return self

    def untrained(self, train: Interactions) -> Self:
        """As after a fit, with networks that have learnt nothing."""
        before = None
        for make in self.makes.values():
            self.model = make(before, None, lambda history: None).untrained(train)
            before = Before(tuple(self.model.networks), train.domains)
        return self

    def load(self, file: Path, train: Interactions) -> Self:
        """Read weights written by :meth:`save`; errors as in :meth:`recot.fit.gradient.Gradient.load`."""
        self.untrained(train).model.load(file, train)
        return self


def about(model: Recommender) -> dict[str, float]:
    """How long a fit took, and how many epochs."""
    return {"seconds": round(sum(row["seconds"] for row in model.history), 3), "epochs": len(model.history),
            "best_epoch": model.best_epoch}


def told(history: Sequence[dict[str, float]], **where: float) -> History:
    """A history that says of which stage and domain it is."""
    return [{**where, **row} for row in history]


def unasked(split: Split) -> Split:
    """The same split without validation questions."""
    valid = split.valid
    none = valid.candidates[:0] if valid.candidates is not None else None
    return replace(split, valid=replace(valid, query=valid.query.slice(0, 0), targets=valid.targets.slice(0, 0),
                                        seen=valid.seen.slice(0, 0), candidates=none))


def known(query: Query, domain: Domain) -> Query:
    """The questions with what a recommender of a domain may know: its items, numbered from 0."""
    history = query.history
    inside = (history.values >= domain.start) & (history.values < domain.stop)
    rows = history.rows[inside]
    return Query(query.users, type(history).from_pairs(rows, history.values[inside] - domain.start, len(history)))

