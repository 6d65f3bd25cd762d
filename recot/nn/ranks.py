"""The processes that share each batch, called ranks: every one has a part of the rows, and together they are the batch.

With one process every function here gives back what it was given. With several, all of them have to call the same
functions in the same order, and a process that has gone makes the others fail.

Sizes are told by the host to the host, so that no step waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recot.batches.parts import length, part

Found = TypeVar("Found")
Batch = TypeVar("Batch")

divided: list[int] = []
"""How many rows of a batch each process has for now; empty where each has all of them, see :func:`share`."""


def processes() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; the first one writes and talks."""
    return dist.get_rank() if processes() > 1 else 0


def spans(count: int, block: int = 1) -> list[tuple[int, int]]:
    """From where to where ``count`` rows are those of each process, in whole blocks but for the last one.

    The spans follow each other, and differ by a block at most. Some are empty where there are fewer blocks than
    processes.
    """
    blocks, world = -(-count // block), processes()
    ends = [min(count, block * (blocks * place // world)) for place in range(world + 1)]
    return list(pairwise(ends))


@contextmanager
def share(batch: Batch) -> Iterator[Batch]:
    """The rows of a batch that are those of this process, for a step.

    A batch with fewer rows than processes is computed by each of them as a whole, since networks and formulas may not
    know what to make of no rows at all; :mod:`recot.nn.gradients` then counts it once.
    """
    global divided
    if processes() == 1:
        yield batch
        return
    found = spans(length(batch))
    divided = [stop - start for start, stop in found] if length(batch) >= processes() else []
    try:
        yield part(batch, *found[rank()]) if divided else batch
    finally:
        divided = []


def exchanged(numbers: Sequence[int]) -> list[list[int]]:
    """``numbers`` of each process; all have to give as many."""
    own = torch.tensor(numbers)
    found = own.new_empty(processes(), len(numbers))
    dist.all_gather(list(found), own)
    told: list[list[int]] = found.tolist()
    return told


class Rows:
    """Rows of which each process has some; of a batch, :func:`rows` makes them.

    Args:
        counts: how many each process has; of one process, where all have the same ones.

    Attributes:
        first: the place of the first one that this process has. all: how many there are.
    """

    def __init__(self, counts: list[int]):
        number = rank() if len(counts) > 1 else 0
        self.counts, self.first, self.all = counts, sum(counts[:number]), sum(counts)
        self.last = self.first + counts[number]

    def gathered(self, own: Tensor) -> Tensor:
        """(all, ...): the rows of all processes, of (own, ...); gradients go back to where the rows are from."""
        if len(self.counts) == 1:
            return own
        found: Tensor = Gathered.apply(own, self.counts)  # type: ignore[no-untyped-call]  # torch leaves it so
        return found

    def own(self, whole: Tensor) -> Tensor:
        """(own, ...): those of this process, of (all, ...)."""
        return whole if len(self.counts) == 1 else whole[self.first : self.last]

    def diagonal(self, device: torch.device) -> Tensor:
        """(own, all) bool, true where a column is the row itself."""
        if len(self.counts) == 1:
            return torch.eye(self.all, dtype=torch.bool, device=device)
        own = torch.zeros(self.last - self.first, self.all, dtype=torch.bool, device=device)
        own.diagonal(self.first).fill_(True)
        return own


def rows(own: int) -> Rows:
    """The rows of the batch of this step, of which this process has ``own``.

    Raises:
        ValueError: it has another number of them.
    """
    if divided and own != divided[rank()]:
        raise ValueError(f"{own} rows of a batch of which this process has {divided[rank()]}; ask ranks.entries for "
                         "the place of what is no row of a batch")
    return Rows(divided or [own])


def entries(own: int) -> Rows:
    """As :func:`rows`, of anything that each process has a number of its own of, which they tell each other."""
    return Rows([other for other, in exchanged([own])] if divided else [own])


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
        total = added(grad.clone(memory_format=torch.contiguous_format))
        first = sum(ctx.counts[: rank()])
        return total[first : first + ctx.counts[rank()]], None


class Summed(torch.autograd.Function):
    """See :func:`summed`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Of the shape of ``own``."""
        return added(own.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """What all processes ask of the sum, which each of them is a term of."""
        return added(grad.clone(memory_format=torch.contiguous_format))


def added(values: Tensor) -> Tensor:
    """``values`` with those of all processes added, in place."""
    dist.all_reduce(values)
    return values


def joined(own: Tensor, counts: Sequence[int]) -> Tensor:
    """(all, ...): the rows of all processes in their order, of (own, ...)."""
    most = max(counts)
    padded = own if len(own) == most else torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
    found = own.new_empty(len(counts) * most, *own.shape[1:])
    each = found.split(most)
    dist.all_gather(list(each), padded.contiguous())
    if min(counts) == most:
        return found
    return torch.cat([rows[:count] for rows, count in zip(each, counts, strict=True)])


def summed(own: Tensor) -> Tensor:
    """The sum over all processes, of the shape of ``own``; with gradients."""
    if not divided:
        return own
    found: Tensor = Summed.apply(own)  # type: ignore[no-untyped-call]  # torch leaves it so
    return found


def log_summed(own: Tensor) -> Tensor:
    """The log of the sum over all processes of what ``own`` are logs of, of the same shape; without gradients."""
    if not divided:
        return own
    return joined(own[None], [1] * processes()).logsumexp(0)


def norm(own: Tensor) -> Tensor:
    """Scalar: the norm of the entries of all processes; with gradients."""
    return summed(own.square().sum()).sqrt() if divided else own.norm()


def average(own: Tensor) -> Tensor:
    """Scalar: the mean over the entries of all processes, in all of them."""
    return summed(own.sum()) / entries(own.numel()).all if divided else own.mean()


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
    except Exception as error:  # every process has to hear of it, or the others would wait
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
