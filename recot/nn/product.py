"""Inner products of many users with the same items, on a CPU: what ``@`` gives, to the last bit, in less time."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

USERS = 64  # rows from which packing is worth it, and as many as an evaluation scores together
ITEMS = 1024  # below, the plain product takes no time either
DEPTH = 192  # terms that MKL adds before it begins a new sum


class Products:
    """``users @ items.mT``, (b, n) of (b, d), for one block of users after another.

    Where torch is built with oneDNN, items are packed once and multiplied by it. On AMD's processors that takes a third
    of the time of MKL, which is behind ``@``. See :func:`part` for why not one bit differs.

    Args:
        items: (n, d). They must not change as long as this is used.
    """

    def __init__(self, items: Tensor):
        self.items = items
        self.packed: Packed | None = None

    def __call__(self, users: Tensor) -> Tensor:
        """(b, n), a fresh tensor."""
        if not packable(users, self.items):
            return users @ self.items.mT
        if self.packed is None or self.packed.users != len(users):
            width = part(len(users), *self.items.shape, torch.get_num_threads())
            self.packed = Packed(self.items, len(users), width)
        return self.packed(users) if self.packed.width else users @ self.items.mT


class Packed:
    """Items in the order in which oneDNN reads them.

    Args:
        items: (n, d). users: for as many rows at a time. width: columns whose products are added before they are added
            to those of the columns before; 0 packs nothing.
    """

    def __init__(self, items: Tensor, users: int, width: int):
        self.users, self.width = users, width
        # What torch.compile makes of a layer with frozen weights. torch has no other name for it:
        # https://github.com/pytorch/pytorch/blob/v2.6.0/torch/_inductor/fx_passes/mkldnn_fusion.py
        self.parts = [torch.ops.mkldnn._reorder_linear_weight(columns.contiguous(), users)
                      for columns in (items.split(width, 1) if width else ())]

    def __call__(self, users: Tensor) -> Tensor:
        """(b, n) of (b, d)."""
        columns = zip(users.split(self.width, 1), self.parts, strict=True)
        found: list[Tensor] = [torch.ops.mkldnn._linear_pointwise(some.contiguous(), weight, None, "none", [], "")
                               for some, weight in columns]
        for other in found[1:]:
            found[0] += other
        return found[0]


def packable(users: Tensor, items: Tensor) -> bool:
    """Whether packing is possible and worth it: many numbers of float32 on a CPU, and no gradient."""
    return (users.dim() == items.dim() == 2 and len(users) >= USERS and len(items) >= ITEMS
            and users.dtype == items.dtype == torch.float32 and users.device.type == items.device.type == "cpu"
            and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"))


@cache
def part(n_users: int, n_items: int, d: int, threads: int) -> int:
    """The width with which :class:`Packed` gives the bits of ``@``; 0 where none does.

    A product of floats depends on the order in which its terms are added, and on nothing else. MKL and oneDNN add them
    one after the other, in the order of the columns, MKL in two sums or more where there are more than ``DEPTH``. Other
    builds of torch and other processors may add otherwise. So every size is tried once in a process, on vectors that
    are drawn: a kernel chooses its order by the sizes, not by the numbers.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return 0
    drawn = torch.randn(1009, d, generator=torch.Generator().manual_seed(0))
    users, items = (drawn[torch.arange(size) % len(drawn)] for size in (n_users, n_items))
    plain, widths = users @ items.mT, (d, min(d, DEPTH), -(-d // 2))
    return next((width for width in widths if Packed(items, n_users, width)(users).equal(plain)), 0)
