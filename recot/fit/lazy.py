"""Adam whose step costs what the rows of a batch cost, and not what all rows of the tables do."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recot.nn.table import Table, follow

LEAST = 1 << 18
"""Entries of a table below which a dense step costs less than the calls of a lazy one."""
WORTH = 1_000_000_000
"""Entries that dense steps have moved, half a second of them, before the kernels are loaded, which takes as long."""
ROWS = 4
"""Rows of a table to each that is looked up, below which a lazy step costs no less."""
THREADS = 4
"""More threads than these move all rows in less time than one thread brings those of a batch up to date."""
LANES = 16
"""What is left over from vectors of so many entries, or of half as many, ATen's kernel computes in float64."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Lag:
    """The rows of a table that no batch looks up stay behind, and make the steps they have missed when they are read.

    Such a row has a gradient of zero, so that its steps depend on nothing but itself. It keeps the contract
    :class:`recot.nn.table.Keeper`.

    Args:
        table: whose rows are all up to date. state, group: of its optimiser, :class:`torch.optim.Adam`.
    """

    def __init__(self, table: Table, state: dict[str, Any], group: dict[str, Any]):
        weight = table.stored
        self.table, self.state, self.settings, self.place = table, state, settings(group), weight.data_ptr()
        self.before, self.done, self.open = int(state["step"]), 0, False
        self.weight, self.slow = weight.detach().numpy(), np.empty((0, weight.shape[1]), np.float32)
        self.mean, self.square = (state[name].numpy() for name in MOMENTS)
        self.follower: Table | None = None
        self.clock, self.steps = np.zeros(len(weight), np.int32), np.empty((64, 3), np.float32)
        _, beta1, beta2, eps, decay = self.settings
        self.fixed = np.array([eps, 1 - beta1, beta2, 1 - beta2, decay], np.float32)
        table.watched.keeper = self

    def holds(self, group: dict[str, Any]) -> bool:
        """Whether the next step is lazy: all is as it was, and nobody has read the whole table since the last one."""
        whole = self.table.whole
        for table in (self.table, self.follower):
            if table is not None:
                whole, table.watched.read = whole or table.watched.read, False
        weight = self.table.stored
        return (not whole and self.settings == settings(group) and weight.data_ptr() == self.place
                and weight.grad is not None and fits(weight, weight.grad))

    def advance(self) -> None:
        """A step of the rows that were looked up, and of no other; their gradient is cleared."""
        from recot.fit import replay

        touched, self.table.touched = self.table.touched, []
        ids = torch.cat(touched) if touched else torch.empty(0, dtype=torch.int64)
        self.refresh(ids)  # some may have been added since
        if self.done == len(self.steps):
            self.steps = np.concatenate([self.steps, np.empty_like(self.steps)])
        rate, beta1, beta2 = self.settings[:3]
        number = self.before + self.done + 1
        self.steps[self.done] = -(rate / (1 - beta1**number)), math.sqrt(1 - beta2**number), math.nan
        gradient: Any = self.table.stored.grad
        replay.advance(ids.long().numpy(), self.done, self.weight, self.mean, self.square, gradient.numpy(), self.clock,
                       self.steps, self.fixed)
        self.state["step"] += 1
        self.done, self.open = self.done + 1, True
        torch.autograd.graph.increment_version(self.table.stored)

    def refresh(self, ids: Tensor) -> None:
        """Bring the rows at ``ids`` up to date."""
        self.open = False
        if self.done:
            from recot.fit import replay

            replay.refresh(ids.reshape(-1).long().contiguous().numpy(), self.done, self.weight, self.mean, self.square,
                           self.slow, self.clock, self.steps, self.fixed)

    def settle(self) -> None:
        """Bring all rows up to date."""
        if self.done:
            self.refresh(torch.arange(len(self.clock)))
            self.clock.fill(0)
            self.before, self.done = self.before + self.done, 0

    def follow(self, slow: Table, share: float) -> bool:
        """Let the rows of ``slow`` move towards those of the table when they are next read; False where they cannot."""
        if not self.open:  # some rows were brought up to date since the step
            return False
        if self.follower is None and slow.watched.keeper is None and fits(self.table.stored, slow.stored):
            self.follower, self.slow = slow, slow.stored.detach().numpy()
            slow.watched.keeper, slow.watched.read = self, False
        if self.follower is not slow:
            return False
        self.steps[self.done - 1, 2], self.open = share, False
        torch.autograd.graph.increment_version(slow.stored)
        return True

    def release(self) -> None:
        """Bring all rows up to date, and let none stay behind from now on."""
        self.settle()
        for table in (self.table, self.follower):
            if table is not None:
                table.watched.keeper = None


class LazyAdam(torch.optim.Adam):
    """torch's fused Adam, to the last bit, that leaves rows of large tables alone until they are read.

    A table whose rows were all read since the last step makes a dense step, since it will probably be read so again;
    and so does everything that is no table, is small, or is not on a CPU.

    Args:
        groups: of parameters. tables: among them.
        learning_rate, weight_decay: of :class:`torch.optim.Adam`.
    """

    def __init__(self, groups: Iterable[Any], tables: Iterable[Table], learning_rate: float, weight_decay: float = 0.0):
        super().__init__(groups, learning_rate, weight_decay=weight_decay, fused=True)
        groups_of = {parameter: group for group in self.param_groups for parameter in group["params"]}
        self.tables = [(table, groups_of[table.stored]) for table in tables if table.stored in groups_of]
        self.moved = 0
        self.release()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; the value of ``closure``, which is called with gradients."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        gradients = {}
        for table, group in self.tables:
            if (lag := self.lag(table, group)) is not None:
                lag.advance()
                gradients[table.stored], table.stored.grad = table.stored.grad, None  # the dense step passes it by
        super().step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        return value

    def lag(self, table: Table, group: dict[str, Any]) -> Lag | None:
        """Of a table that makes a lazy step now; None where it makes a dense one."""
        keeper, weight = table.watched.keeper, table.stored
        if isinstance(keeper, Lag):
            if keeper.holds(group):
                return keeper
            keeper.release()
            return None
        read, table.watched.read = table.watched.read or table.whole, False
        self.moved += weight.numel()
        if read or self.moved < WORTH or weight not in self.state or not suits(table, group) or not kernels():
            return None
        return Lag(table, self.state[weight], group)

    def release(self) -> None:
        """Bring all rows up to date, and let none stay behind until the next step."""
        for table, _ in self.tables:
            if table.watched.keeper is not None:
                table.watched.keeper.release()

    def state_dict(self) -> dict[str, Any]:
        """As of torch's, of rows that are up to date."""
        self.release()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of torch's."""
        self.release()
        super().load_state_dict(state_dict)


def settings(group: dict[str, Any]) -> tuple[float, ...]:
    """What a group of parameters says of its steps: learning rate, both betas, epsilon and decay."""
    return (group["lr"], *group["betas"], group["eps"], group["weight_decay"])


def fits(*tensors: Tensor) -> bool:
    """Whether a kernel can walk through all of them at once."""
    return len({tensor.shape for tensor in tensors}) == 1 and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors)


def suits(table: Table, group: dict[str, Any]) -> bool:
    """Whether a table has so many more rows than were looked up for this step that a lazy one costs less."""
    weight, (_, beta1, beta2, *_) = table.stored, settings(group)
    if weight.grad is None or not fits(weight, weight.grad) or weight.numel() < LEAST or weight.numel() % LANES:
        return False
    looked_up = sum(len(ids) for ids in table.touched)
    return beta1 > 0.5 and beta2 >= 0.999 and ROWS * looked_up <= len(weight) and torch.get_num_threads() <= THREADS


@cache
def kernels() -> bool:
    """Whether numba is there, and compiles what torch on this machine agrees with to the last bit."""
    if importlib.util.find_spec("numba") is None:
        return False
    with torch.random.fork_rng(devices=[]):
        return agrees(0.0, 0.1) and agrees(0.01, 0.9)


def agrees(decay: float, share: float) -> bool:
    """Whether lazy steps of a table, and of what follows it, are those of torch."""
    dense, lazy = ((Table(64, 6), Table(64, 6)) for _ in range(2))
    for table in (*dense, *lazy):
        table.load_state_dict(dense[0].state_dict())
    adams = [torch.optim.Adam(pair[0].parameters(), weight_decay=decay, fused=True) for pair in (dense, lazy)]
    rng = torch.Generator().manual_seed(0)
    for step in range(40):
        ids, slopes = torch.randint(64, (8,), generator=rng), 1e-4 * torch.randn(8, 6, generator=rng)
        for (table, slow), adam in zip((dense, lazy), adams, strict=True):
            with torch.enable_grad():
                (table(ids) * slopes).sum().backward()
            keeper = table.watched.keeper
            keeper.advance() if isinstance(keeper, Lag) else adam.step()
            table.clear_gradient()
            with torch.no_grad():
                follow(slow, table, share)
        if not step:
            Lag(lazy[0], adams[1].state[lazy[0].stored], adams[1].param_groups[0])
    found = [(table.weight, slow.weight, *(adam.state[table.stored][name] for name in MOMENTS))
             for (table, slow), adam in zip((dense, lazy), adams, strict=True)]
    return all(torch.equal(a, b) for a, b in zip(*found, strict=True))
