"""GA-MTCDR: vectors of graphs, mixed over domains coordinate by coordinate, and two towers for each domain."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recot.data.interactions import Domain, Interactions
from recot.data.questions import Query
from recot.networks.domains import ByDomain
from recot.networks.stages import by_domain, filled
from recot.nn.contracts import Before
from recot.nn.similarity import direction
from recot.request.limits import check

CHUNK = 8192
"""Items that go through a tower together when all are asked for; its widest layer is 8 m."""


class GA_MTCDR(ByDomain):
    """Elementwise attention over a user's vectors of n domains, and the cosine of two towers (GA-MTCDR).

    The vectors N of nodes, as the stage before has fitted them, stay as they are. In domain y a user is
    ``u^y = N^y_u A^y``. Domain x sees ``sum_y w * u^y`` with weights w of m coordinates, a softmax over y of logits
    that each user has for each x. They start with one half on y = x. Two towers of x, one for users and one for items,
    have the widths ``m, 2 m, 4 m, ... up to width_factor m, ... 2 m, m`` and a ReLU behind every layer, the last as
    well. The score is the cosine of what leaves them, from 0 to 1; a tower that gives zeros scores 0.

    Args:
        n_users, n_items: sizes.
        domains: the ranges of items. With one, there is nothing to mix.
        before: a network for each domain, with vectors of one width m.
        width_factor: of the widest layer, a power of two. The paper has 8; a step with 2 costs a thirteenth.
        init: ``he`` draws weights from He's normal and leaves biases at 0; ``sd0.1`` and ``sd0.01`` draw both from a
            normal of that deviation.

    Raises:
        ValueError: ``width_factor`` is no power of two, or what comes from the stage before does not fit.

    Source: Zhu et al. (TKDE 2023), A Unified Framework for Cross-Domain and Cross-System Recommendations, and the
    authors' code for two domains (IJCAI 2020).

    Departures: the paper does not say how the weights are made to sum to one; the softmax is our choice, and so is
    where it starts: in the authors' code nearly all weight is on the other domain. The paper's N(0, 0.01) is read by
    that code as a deviation of 0.01, with which biases outweigh the input and the cosines of all pairs start alike, so
    that He normal is the default. Without documents the graphs have no edges by content.
    """

    objectives = ("AlternatingBCE",)

    def __init__(self, n_users: int, n_items: int, domains: Sequence[Domain], before: Before, width_factor: int = 8,
                 init: Literal["he", "sd0.1", "sd0.01"] = "he"):
        super().__init__(n_items, domains)
        check("model", ("width_factor", width_factor, width_factor >= 2 and width_factor & (width_factor - 1) == 0,
                        "is reached by doubling; give 2, 4, 8 or another power of two"))
        users, items = by_domain(before, n_users, "GA_MTCDR")
        _, n, m = users.shape
        self.node_users: Tensor
        self.node_items: Tensor
        self.register_buffer("node_users", users)  # (n_users, n, m)
        self.register_buffer("node_items", items)  # (n_items, m)
        self.maps = nn.Parameter(torch.empty(n, m, m))
        start = torch.eye(n) * log(max(n - 1, 1))  # (n, n), half of the weight on the own domain
        self.logits = nn.ModuleList([filled(row.repeat_interleave(m).expand(n_users, -1)) for row in start])
        self.user_towers = nn.ModuleList([tower(m, width_factor) for _ in domains])
        self.item_towers = nn.ModuleList([tower(m, width_factor) for _ in domains])
        self.initialise(init)
        self.cached: tuple[tuple[int, ...], Tensor] | None = None

    def initialise(self, init: str) -> None:
        """Draw the maps and the towers anew."""
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
        for weight in (*self.maps.unbind(), *(layer.weight for layer in layers)):
            if init == "he":
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
            else:
                nn.init.normal_(weight, std=float(init.removeprefix("sd")))
        for layer in layers:
            nn.init.normal_(layer.bias, std=0.0 if init == "he" else float(init.removeprefix("sd")))

    def bind(self, train: Interactions) -> None:
        """Forget vectors of other weights."""
        self.cached = None

    def after_step(self) -> None:
        """Forget vectors of the weights before the step; fused optimisers do not raise a tensor's version."""
        self.cached = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: everything but vectors that could be asked for anew."""
        return self.__dict__ | {"cached": None}

    def own(self, users: Tensor | None = None) -> Tensor:
        """(n, b, m): the vectors u^y of ``users``, (b,) int64, or of all, before they are mixed."""
        nodes = self.node_users if users is None else self.node_users[users]  # (b, n, m)
        return nodes.transpose(0, 1) @ self.maps

    def weights(self, users: Tensor, number: int) -> Tensor:
        """(n, b, m): how much of each domain domain ``number`` takes for ``users``, (b,) int64; sums to one over n."""
        logits = self.logits[number](users).unflatten(1, (len(self.domains), -1))  # (b, n, m)
        return logits.transpose(0, 1).softmax(0)

    def mixed(self, own: Tensor, users: Tensor, number: int) -> Tensor:
        """(b, m): what domain ``number`` sees of ``users``, (b,) int64, whose vectors are ``own``, (n, b, m)."""
        return (self.weights(users, number) * own).sum(0)

    def towers(self, users: Tensor, ids: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """What leaves the two towers of domain ``number``, not brought to length one.

        Args:
            users: (b,) int64. ids: (b, k) int64, items of that domain.

        Returns:
            (b, m) and (b, k, m).
        """
        mixed = self.mixed(self.own(users), users, number)
        return self.user_towers[number](mixed), self.item_towers[number](self.node_items[ids])

    def views(self, query: Query) -> Tensor:
        """(b, n, m), unit vectors."""
        own = self.own(query.users)
        return torch.stack([direction(tower(self.mixed(own, query.users, number)))
                            for number, tower in enumerate(self.user_towers)], 1)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, m), or (n_items, m), unit vectors; without gradients all are computed once, and then looked up.
        """
        if not torch.is_grad_enabled():
            state = tuple(weight._version for weight in self.item_towers.parameters())  # loading raises the versions
            if self.cached is None or self.cached[0] != state:
                self.cached = state, self.all_items()
            return self.cached[1] if ids is None else self.cached[1][ids]
        if ids is None:
            return self.all_items()
        nodes, own = self.node_items[ids], self.domain[ids][..., None]  # (*ids.shape, m), (*ids.shape, 1)
        return torch.stack([direction(tower(nodes)) * (own == number)
                            for number, tower in enumerate(self.item_towers)]).sum(0)

    def all_items(self) -> Tensor:
        """(n_items, m), unit vectors."""
        return torch.cat([direction(tower(part)) for domain, tower in zip(self.domains, self.item_towers, strict=True)
                          for part in self.node_items[domain.items].split(CHUNK)])


def tower(width: int, factor: int) -> nn.Sequential:
    """From ``width`` by doubling to ``factor`` times as much, and back; a ReLU behind every layer."""
    up = [width << step for step in range(factor.bit_length())]
    widths = [*up, *up[-2::-1]]
    layers = [(nn.Linear(inward, outward), nn.ReLU()) for inward, outward in zip(widths[:-1], widths[1:], strict=True)]
    return nn.Sequential(*(part for layer in layers for part in layer))
