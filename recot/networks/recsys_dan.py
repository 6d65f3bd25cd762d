"""RecSys-DAN: what source domains taught, carried to a target domain that a discriminator cannot tell from them."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.domains import of_domain
from recot.data.interactions import Domain, Interactions
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn import similarity
from recot.nn.contracts import Before
from recot.nn.table import Table
from recot.request.limits import check


def mapping(dim: int) -> nn.Sequential:
    """A linear map, ReLU and another one; He weights and zero biases."""
    layers = nn.Linear(dim, dim), nn.Linear(dim, dim)
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


class Source(TwoTower):
    """Mapped vectors of users and items whose weighted product is the score: the stage before :class:`RecSys_DAN`.

    With tables E and Q, maps f and g (linear, ReLU, linear) and weights w: the code of a pair is ``f(E_u) * g(Q_i)``,
    and w times the code is the score.

    Args:
        n_users, n_items: sizes. dim: width of all vectors. std: deviation of the normal that the tables start from.

    Attributes:
        train_pairs: the pairs that it was bound to; a target domain compares its own with them.

    Raises:
        ValueError: a parameter is out of its range.

    Departures: see :class:`RecSys_DAN`.
    """

    def __init__(self, n_users: int, n_items: int, dim: int = 128, std: float = 0.01):
        super().__init__()
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("std", std, std > 0, "lets no gradient through; give more than 0, for example 0.01"))
        self.similarity = similarity.dot
        self.user_table, self.item_table = Table(n_users, dim), Table(n_items, dim)
        for table in (self.user_table, self.item_table):
            nn.init.normal_(table.weight, std=std)
        self.user_map, self.item_map = mapping(dim), mapping(dim)
        self.weights = nn.Parameter(torch.randn(dim) * dim ** -0.5)
        self.train_pairs: Interactions | None = None

    def bind(self, train: Interactions) -> None:
        """Keep the pairs for the stage after."""
        self.train_pairs = train

    def users(self, query: Query) -> Tensor:
        """(b, dim)."""
        return self.user_map(self.user_table(query.users)) * self.weights

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, dim), or (n_items, dim)."""
        return self.item_map(self.item_table(ids))

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the tables."""
        return self.user_table(query.users), self.item_table(ids)


class Discriminator(nn.Module):
    """How much a code looks like one of a source domain: a logit. Linear, ReLU, linear.

    Args:
        dim: width of codes. hidden: units between.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.hidden, self.output = nn.Linear(dim, hidden), nn.Linear(hidden, 1)

    def forward(self, codes: Tensor, constant: bool = False) -> Tensor:
        """(n,) of (n, dim); ``constant`` lets no gradient reach the weights."""
        parameters = [*self.hidden.parameters(), *self.output.parameters()]
        weight, bias, last, offset = (p.detach() for p in parameters) if constant else parameters
        return F.linear(F.linear(codes, weight, bias).relu(), last, offset).squeeze(1)  # (n,)


class RecSys_DAN(TwoTower):
    """A target domain on the vectors of users that its source domains have learnt (RecSys-DAN; UCLR Table 8).

    The table of users and the weights w of :class:`Source` stay as they are. The maps of the target start as those of
    the source, its items are new. The objective trains them, and a discriminator of codes from source and target.

    Args:
        n_users, n_items: sizes. before: a :class:`Source` fitted to the other domains.
        std: deviation of the normal that the items start from. hidden: units of the discriminator.

    Raises:
        ValueError: a parameter is out of its range, or there are sources and no domain that is fitted.
        TypeError: the stage before is no :class:`Source`.

    Source: Wang, Niepert and Li (IEEE TNNLS 2020), of whose text only the abstract is known here.

    Departures: the abstract says that mappings of the target domain are learnt by a min-max game with a discriminator,
    on text and without labels of the target. Here are no texts, the target has labels and a ranking loss, and what is
    aligned is the code of a pair; the networks and the two stages are our reading.
    """

    objectives = ("Adversarial",)

    def __init__(self, n_users: int, n_items: int, before: Before, std: float = 0.01, hidden: int = 64):
        super().__init__()
        check("model", ("std", std, std > 0, "lets no gradient through; give more than 0, for example 0.01"),
              ("hidden", hidden, hidden >= 1, "is a number of units; give 1 or more"))
        source = before.network
        if before.number is None and len(before.networks) > 1:
            raise ValueError(f"model fits one domain and was given {len(before.networks)} sources and no domain; use "
                             "domains=each")
        if not isinstance(source, Source):
            raise TypeError(f"model goes on from {type(source).__name__}; its stage before has to be recsys_source")
        self.similarity = similarity.dot
        dim = len(source.weights)
        self.register_buffer("user_vectors", source.user_table.weight.detach().clone())
        self.register_buffer("weights", source.weights.detach().clone())
        self.user_map, self.item_map = mapping(dim), mapping(dim)
        self.user_map.load_state_dict(source.user_map.state_dict())
        self.item_map.load_state_dict(source.item_map.state_dict())
        self.item_table = Table(n_items, dim)
        nn.init.normal_(self.item_table.weight, std=std)
        self.discriminator = Discriminator(dim, hidden)
        self.user_vectors: Tensor  # (n_users, dim)
        self.weights: Tensor  # (dim,)
        self.sources: Tensor  # (2, n_pairs) users and items, domain by domain
        self.source_users: Tensor  # (n_users, dim) factors of the codes of the source
        self.source_items: Tensor  # (n_items of the source, dim)
        self.bounds: list[int] = []  # where the pairs of each domain of the source begin, and the end
        self.keep(source)

    @torch.no_grad()
    def keep(self, source: Source) -> None:
        """Remember the pairs of the source, domain by domain, and both factors of their codes.

        The state goes without them: only training asks for them.
        """
        pairs = source.train_pairs
        if pairs is None:
            return
        parts = [of_domain(pairs, domain) for domain in pairs.domains or (Domain("all", 0, pairs.n_items),)]
        sources = torch.cat([torch.stack([part.users, part.items]) for part in parts], 1)  # (2, n_pairs)
        self.register_buffer("sources", sources.to(source.weights.device), persistent=False)
        self.register_buffer("source_users", source.user_map(source.user_table()).clone(), persistent=False)
        self.register_buffer("source_items", source.item_map(source.item_table()).clone(), persistent=False)
        self.bounds = [0, *itertools.accumulate(map(len, parts))]

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """(2, count) users and items of pairs of the source, as many from each of its domains, give or take one."""
        shares = [count * (number + 1) // (len(self.bounds) - 1) - count * number // (len(self.bounds) - 1)
                  for number in range(len(self.bounds) - 1)]
        places = torch.cat([torch.randint(start, stop, (share,), generator=rng, device=self.sources.device)
                            for (start, stop), share in zip(itertools.pairwise(self.bounds), shares, strict=True)])
        return self.sources[:, places]  # (2, count)

    def source_codes(self, pairs: Tensor) -> Tensor:
        """(n, dim) of pairs of the source, (2, n) users and items."""
        users, items = pairs
        return self.source_users[users] * self.source_items[items]

    def codes(self, query: Query, ids: Tensor) -> Tensor:
        """(b, k, dim) of b users with k items of the target each."""
        # The type of a module's call is unknown.
        found: Tensor = self.user_map(self.user_vectors[query.users])[:, None] * self.item_map(self.item_table(ids))
        return found

    def users(self, query: Query) -> Tensor:
        """(b, dim)."""
        return self.user_map(self.user_vectors[query.users]) * self.weights

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, dim), or (n_items, dim)."""
        return self.item_map(self.item_table(ids))

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the items; those of users are not free, (b, 0)."""
        return self.user_vectors[query.users, :0], self.item_table(ids)
