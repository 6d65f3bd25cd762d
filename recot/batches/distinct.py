"""Batches of users without their items, and which users the batches of an epoch hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recot.batches.pairs import Pairs
from recot.data.interactions import Interactions


@dataclass(frozen=True)
class Users:
    """A batch of users, none of them twice.

    Attributes:
        ids: (b,) int64.
        kept: (b, 1) or (b, m) bool, true where the vector of a user, or an entry of it, is not hidden; None hides none.
    """

    ids: Tensor
    kept: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class UserPairs:
    """A batch of pairs, and the users in it.

    Attributes:
        pairs: n of them.
        users: those who occur in the pairs, each once.
        place: (n,) int64, where the user of each pair stands in ``users``.
    """

    pairs: Pairs
    users: Users
    place: Tensor


def shuffled(train: Interactions, batch_size: int, steps: int | None, rng: torch.Generator) -> Iterator[Tensor]:
    """Ids of users with a training pair, (b,) int64, in ``steps`` batches of ``batch_size``.

    Every pass over the users is in another order, and its last batch may be smaller. After the last pass comes another,
    as long as steps are left; None is one pass.
    """
    users = train.activity.nonzero().flatten()
    left = -(-len(users) // batch_size) if steps is None else steps
    while left > 0:
        order = users[torch.randperm(len(users), generator=rng, device=users.device)]
        for start in range(0, min(len(order), left * batch_size), batch_size):
            yield order[start : start + batch_size]
            left -= 1


def distinct(batches: Sequence[Pairs], n_users: int) -> Iterator[tuple[Pairs, Tensor, Tensor]]:
    """Each of ``batches`` with its users, each once in rising order (u,), and the place of each pair's user there (n,).

    The host looks at the users of all batches together, once, so that no step waits for the device.
    """
    asked = torch.cat([batch.query.users for batch in batches])
    sizes = np.array([len(batch.items) for batch in batches])
    number = np.arange(len(batches)).repeat(sizes)
    keys, place = np.unique(number * n_users + asked.cpu().numpy(), return_inverse=True)
    cuts = np.searchsorted(keys, np.arange(len(batches) + 1) * n_users)  # (batches + 1,) where each batch's users begin
    ids = torch.from_numpy(keys % n_users).to(asked.device)
    places = torch.from_numpy(place - cuts[number]).to(asked.device)
    for batch, here, start, stop in zip(batches, places.split(sizes.tolist()), cuts, cuts[1:], strict=False):
        yield batch, ids[int(start) : int(stop)], here
