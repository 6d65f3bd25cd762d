"""The gradients of a step that several processes share, see :mod:`recot.nn.ranks`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recot.nn import ranks
from recot.nn.contracts import Network
from recot.nn.table import Table, tables


class Gradients:
    """The gradients of one step, those of all processes added up: every process then makes the same step.

    Of a table that was looked up by rows, these rows and their ids are sent, all tables in one message; its ``touched``
    then holds the ids of all processes. Everything else is one sum.

    Args:
        network: after the forward pass of a step. entries: how many the unreduced loss of this process has.
    """

    def __init__(self, network: Network, entries: int):
        self.network = network
        if ranks.processes() > 1:
            self.tables = [table for table in tables(network) if table.touched and not table.whole]
            self.ids = [torch.cat(table.touched) for table in self.tables]
            self.told = ranks.exchanged([entries, *map(len, self.ids)])

    def mean(self, loss: Tensor) -> Tensor:
        """Scalar: the part of this process in the mean of the unreduced ``loss``; those of all processes add up to it.
        """
        if ranks.processes() == 1:
            return loss.mean()
        if not ranks.divided:
            return loss.mean() / ranks.processes()
        return loss.sum() / sum(numbers[0] for numbers in self.told)

    def join(self) -> None:
        """Add them up, after the backward pass."""
        if ranks.processes() == 1:
            return
        places = [place for place, table in enumerate(self.tables) if table.stored.grad is not None]
        if places:
            self.join_rows(places)
        seen = {id(self.tables[place].stored) for place in places}
        gradients = []
        for module in self.network.modules():
            # A table as it is stored: whoever asks for its parameters otherwise brings all of its rows up to date.
            of_module = [module.stored] if isinstance(module, Table) else module.parameters(recurse=False)
            for parameter in of_module:
                if parameter.grad is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    gradients.append(parameter.grad)
        if gradients:
            total = ranks.added(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            for gradient, found in zip(gradients, total.split([one.numel() for one in gradients]), strict=True):
                gradient.copy_(found.view_as(gradient))

    def join_rows(self, places: list[int]) -> None:
        """Add up the gradients of the tables at ``places``, at the rows that any process has looked up."""
        chosen = [self.tables[place] for place in places]
        message = packed([self.ids[place] for place in places], [table.stored for table in chosen])
        widths = [table.stored.shape[1] for table in chosen]
        counts = [[numbers[1 + place] for place in places] for numbers in self.told]
        sizes = [size(message.dtype, own, widths) for own in counts]
        messages = ranks.joined(message, sizes).split(sizes)
        found = [unpacked(one, own, widths) for one, own in zip(messages, counts, strict=True)]
        for number, table in enumerate(chosen):
            grad: Tensor = table.stored.grad  # type: ignore[assignment]  # it is there
            grad.index_fill_(0, self.ids[places[number]], 0.0)
            for ids, slopes in found:
                grad.index_add_(0, ids[number], slopes[number])
            table.touched = [ids[number] for ids, _ in found]


def packed(ids: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """(size,): the ``ids`` (k,) of each table, as they are in memory, and then the gradients at them, (k, d)."""
    # Every weight here has a gradient.
    slopes = [once(weight.grad, own) for weight, own in zip(weights, ids, strict=True)]  # type: ignore[arg-type]
    return torch.cat([torch.cat(list(ids)).view(slopes[0].dtype), *(rows.reshape(-1) for rows in slopes)])  # (size,)


def unpacked(message: Tensor, counts: Sequence[int], widths: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """What :func:`packed` has put into ``message``: ids (k,) and gradients (k, d) of each table."""
    head = sum(counts) * 8 // message.element_size()
    ids = message[:head].clone().view(torch.int64).split(list(counts))  # a copy, since its place may suit no int64
    rows = message[head:].split([count * width for count, width in zip(counts, widths, strict=True)])
    return list(ids), [part.view(-1, width) for part, width in zip(rows, widths, strict=True)]


def size(dtype: torch.dtype, counts: Sequence[int], widths: Sequence[int]) -> int:
    """How long a message is with so many rows of so many numbers, and their ids."""
    return sum(counts) * 8 // dtype.itemsize + sum(
        count * width for count, width in zip(counts, widths, strict=True))


def once(grad: Tensor, ids: Tensor) -> Tensor:
    """(k, d): the rows ``ids`` (k,) of ``grad``; of a row that is asked for several times one has it, and others zeros.
    """
    order = torch.arange(len(ids), device=ids.device)
    place = order.new_empty(len(grad)).index_copy_(0, ids, order)  # (rows,) read only where it was written
    return grad.index_select(0, ids) * (place.index_select(0, ids) == order)[:, None]
