"""What a network takes over from the stage before it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recot.nn.contracts import Before
from recot.nn.table import Table


def by_domain(before: Before, n_users: int, name: str) -> tuple[Tensor, Tensor]:
    """The vectors of all users in each domain, (n_users, n, m), and of the items of all domains, (n_items, m).

    Args:
        before: a network for each domain. n_users: size. name: of who asks, for messages.

    Raises:
        ValueError: there is not one network for each domain, or their widths differ.
    """
    if len(before.networks) != len(before.domains):
        raise ValueError(f"{name} goes on from a network for each of {len(before.domains)} domains and was given "
                         f"{len(before.networks)}; give the stage before it domains: each")
    found = [replace(before, networks=(network,), number=None).vectors(n_users) for network in before.networks]
    if len(widths := sorted({users.shape[1] for users, _ in found})) > 1:
        names = ", ".join(domain.name for domain in before.domains)
        raise ValueError(f"the vectors of the domains {names} have the widths {widths}, and {name} wants one; "
                         "give the stage before it one model.dim")
    return torch.stack([users for users, _ in found], 1), torch.cat([items for _, items in found])  # (n_users, n, m)


def filled(vectors: Tensor) -> Table:
    """A table that starts from ``vectors``, (rows, d), and is trained."""
    table = Table(*vectors.shape)
    with torch.no_grad():
        table.weight.copy_(vectors)
    return table
