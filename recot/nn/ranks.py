"""The processes that share each batch, called ranks: every one has a part of the rows, and together they are the batch.

With one process every function here gives back what it was given. With several, all of them have to call the same
functions in the same order, and a process that has gone makes the others fail.

Sizes are told by the host to the host, so that no step waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recot.batches.parts import length, part
from recot.nn.contracts import Network
from recot.nn.table import Table

Found = TypeVar("Found")
Batch = TypeVar("Batch")


whole = False
"""Whether each process has the whole batch for now, see :func:`share`."""


def processes() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def world() -> int:
    """How many processes share what is computed now."""
    return 1 if whole else processes()


def rank() -> int:
    """The number of this process, from 0; the first one writes and talks."""
    return dist.get_rank() if processes() > 1 else 0


def span(count: int, block: int = 1) -> tuple[int, int]:
    """From where to where ``count`` rows are those of this process, in whole blocks but for the last one.

    The spans of all processes follow each other, and differ by a block at most. Some are empty where there are fewer
    blocks than processes.
    """
    blocks, number = -(-count // block), rank()
    start, stop = (min(count, block * (blocks * place // processes())) for place in (number, number + 1))
    return start, stop


@contextmanager
def share(batch: Batch) -> Iterator[Batch]:
    """The rows of a batch that are those of this process, for a step.

    A batch with fewer rows than processes is computed by each of them as a whole, since networks and formulas may not
    know what to make of no rows at all; :func:`mean` then counts it once.
    """
    global whole
    if processes() == 1:
        yield batch
        return
    whole = length(batch) < processes()
    try:
        yield batch if whole else part(batch, *span(length(batch)))
    finally:
        whole = False


def sizes(count: int) -> list[int]:
    """``count`` of every process."""
    if processes() == 1:
        return [count]
    own = torch.tensor([count])
    found = [torch.empty_like(own) for _ in range(processes())]
    dist.all_gather(found, own)
    return [int(other) for other in found]


class Rows:
    """The rows of a batch in all processes, of which this one has some.

    Args:
        own: how many this one has.

    Attributes:
        first: the place of the first of them. all: how many there are.
    """

    def __init__(self, own: int):
        counts = [own] if world() == 1 else sizes(own)
        self.counts, self.first, self.all = counts, sum(counts[: rank() if world() > 1 else 0]), sum(counts)
        self.last = self.first + own

    def gathered(self, own: Tensor) -> Tensor:
        """(all, ...): the rows of all processes, of (own, ...); gradients go back to where the rows are from."""
        if world() == 1:
            return own
        found: Tensor = Gathered.apply(own, self.counts)  # type: ignore[no-untyped-call]  # torch leaves it so
        return found

    def own(self, whole: Tensor) -> Tensor:
        """(own, ...): those of this process, of (all, ...)."""
        return whole if world() == 1 else whole[self.first : self.last]

    def diagonal(self, device: torch.device) -> Tensor:
        """(own, all) bool, true where a column is the row itself."""
        if world() == 1:
            return torch.eye(self.all, dtype=torch.bool, device=device)
        own = torch.zeros(self.last - self.first, self.all, dtype=torch.bool, device=device)
        own.diagonal(self.first).fill_(True)
        return own


class Gathered(torch.autograd.Function):
    """See :meth:`Rows.gathered`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: list[int]) -> Tensor:
        """(all, ...)."""
        ctx.counts = counts
        return joined(own, counts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """(own, ...): what all processes ask of these rows."""
        total = dist_sum(grad.clone(memory_format=torch.contiguous_format))
        first = sum(ctx.counts[: rank()])
        return total[first : first + ctx.counts[rank()]], None


class Summed(torch.autograd.Function):
    """See :func:`summed`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Of the shape of ``own``."""
        return dist_sum(own.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """What all processes ask of the sum, which each of them is a term of."""
        return dist_sum(grad.clone(memory_format=torch.contiguous_format))


def dist_sum(values: Tensor) -> Tensor:
    """``values`` with those of all processes added, in place."""
    dist.all_reduce(values)
    return values


def joined(own: Tensor, counts: list[int]) -> Tensor:
    """(all, ...): the rows of all processes in their order, of (own, ...)."""
    most = max(counts)
    padded = own.new_zeros(most, *own.shape[1:])
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])


def summed(own: Tensor) -> Tensor:
    """The sum over all processes, of the shape of ``own``; with gradients."""
    if world() == 1:
        return own
    found: Tensor = Summed.apply(own)  # type: ignore[no-untyped-call]  # torch leaves it so
    return found


def log_summed(own: Tensor) -> Tensor:
    """The log of the sum over all processes of what ``own`` are logs of, of the same shape; without gradients."""
    if world() == 1:
        return own
    found = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(found, own.contiguous())
    return torch.stack(found).logsumexp(0)


def norm(own: Tensor) -> Tensor:
    """Scalar: the norm of the entries of all processes; with gradients."""
    return own.norm() if world() == 1 else summed(own.square().sum()).sqrt()


def mean(own: Tensor) -> Tensor:
    """This process's part of the mean over the entries of all processes; the parts of all add up to it."""
    if processes() == 1:
        return own.mean()
    return own.mean() / processes() if whole else own.sum() / sum(sizes(own.numel()))


def average(own: Tensor) -> Tensor:
    """Scalar: the mean over the entries of all processes, in all of them."""
    return own.mean() if world() == 1 else summed(own.sum()) / sum(sizes(own.numel()))


def agreed(find: Callable[[], Found]) -> Found:
    """What ``find`` gives in the first process, in all of them; the others do not call it.

    Raises:
        Exception: what it raises there, in all of them.
    """
    if processes() == 1:
        return find()
    told: list[Any] = [None]
    if rank() == 0:
        told = [outcome(find)]
    dist.broadcast_object_list(told, 0, device=torch.device("cpu"))
    found: Found = settled(told[0])
    return found


def collected(find: Callable[[], Found]) -> list[Found]:
    """What ``find`` gives in each process, in all of them.

    Raises:
        Exception: what it raises in the first process where it does, in all of them.
    """
    own = outcome(find)
    if processes() == 1:
        return [settled(own)]
    told: list[Any] = [None] * processes()
    dist.all_gather_object(told, own)
    return [settled(other) for other in told]


def outcome(find: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What ``find`` gives, or what it raises."""
    try:
        return find(), None
    except Exception as error:
        return None, error


def settled(told: tuple[Any, Exception | None]) -> Any:
    """What was found.

    Raises:
        Exception: what was raised.
    """
    found, error = told
    if error is not None:
        raise error
    return found


def join_gradients(network: Network) -> None:
    """Add up the gradients of all processes, after a backward pass of each: every process then makes the same step.

    Of a table that was looked up by rows, these rows and their ids are sent; its ``touched`` then holds the ids of all.
    Everything else is one sum.
    """
    if processes() == 1:
        return
    tables = [module for module in network.modules() if isinstance(module, Table)]
    by_rows = [table for table in tables if table.touched and not table.whole and table.weight.grad is not None]
    if by_rows:
        join_rows(by_rows)
    weights = {id(table.weight) for table in by_rows}
    gradients = [parameter.grad for parameter in network.parameters()
                 if parameter.grad is not None and id(parameter) not in weights]
    if gradients:
        total = dist_sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, found in zip(gradients, total.split([one.numel() for one in gradients]), strict=True):
            gradient.copy_(found.view_as(gradient))


def join_rows(tables: list[Table]) -> None:
    """Add up the gradients of ``tables`` at the rows that any process has looked up."""
    for table in tables:
        ids = torch.cat(table.touched)  # (k,)
        counts = sizes(len(ids))
        grad = table.weight.grad
        rows = once(grad, ids)  # type: ignore[arg-type]  # it is there
        all_ids, all_rows = joined(ids, counts), joined(rows, counts)
        grad.index_fill_(0, ids, 0.0)  # type: ignore[union-attr]
        grad.index_add_(0, all_ids, all_rows)  # type: ignore[union-attr]
        table.touched = [all_ids]


def once(grad: Tensor, ids: Tensor) -> Tensor:
    """(k, d): the rows ``ids`` (k,) of ``grad``; of a row that is asked for several times one has it, and others zeros.
    """
    order = torch.arange(len(ids), device=ids.device)
    place = order.new_empty(len(grad)).index_copy_(0, ids, order)  # (rows,) read only where it was written
    return grad.index_select(0, ids) * (place.index_select(0, ids) == order)[:, None]
