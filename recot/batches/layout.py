"""Histories of different length, end to end, and the grids that attention needs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recot.data.interactions import Ragged


@dataclass(frozen=True)
class Grid:
    """Rows of about one length, side by side, padded on the left.

    Attributes:
        index: (g, t) int64, where each position is in the end-to-end order; 0 at padding.
        real: (g, t) bool, false where nobody looks: at padding, and at items masked by it.
        filled: padding is part of the order; see :class:`Filled`.
    """

    index: Tensor
    real: Tensor
    filled: bool = False

    def allowed(self, causal: bool) -> Tensor:
        """(g, 1, t, t) bool: what a position may look at, namely real positions, up to itself where ``causal``.

        Nobody looks at padding. What finds nothing real to look at looks at itself, for a softmax over nothing would be
        NaN; in a filled order it looks at everything, padding and the future included.
        """
        t = self.real.shape[1]
        seen = self.real[:, None, :].expand(-1, t, t)  # (g, t, t)
        seen = seen.tril() if causal else seen
        lost = ~seen.any(2, keepdim=True)  # (g, t, 1)
        seen = seen | (lost if self.filled else lost & torch.eye(t, dtype=torch.bool, device=seen.device))  # (g, t, t)
        return seen[:, None]  # (g, 1, t, t)


class Layout:
    """How b histories lie end to end, and in grids by length.

    All work but attention is done end to end, where there is no padding. Training histories of Beauty fill 5.7 of 50
    positions; in grids of similar lengths attention wastes little on padding either. On a device other than the CPU
    there is one grid, since choosing several would wait for the lengths.

    Args:
        history: b rows, below zero where nobody looks. width: of the one grid on a device other than the CPU; no row
            may be longer.

    Attributes:
        history: the rows.
        items: (n,) int64, those of all rows; what each position holds, but for padding.
        places: (nnz,) int64, 0 for the last position of each row, 1 for the one before it.
    """

    def __init__(self, history: Ragged, width: int):
        offsets, device = history.offsets, history.values.device
        self.history, self.items = history, history.values
        self.grids: list[Grid] = []
        ends, used = torch.zeros_like(history.lengths), 0  # (b,) where the last position of a row is, grids end to end
        for rows, t in self.groups(history.lengths, width):
            place = torch.arange(-t, 0, device=device) + offsets[1:][rows, None]  # (g, t)
            inside = place >= offsets[:-1][rows, None]  # (g, t)
            index = place * inside
            self.grids.append(Grid(index, inside & (history.values[index] >= 0)))
            ends[rows] = used + t * torch.arange(1, len(rows) + 1, device=device) - 1
            used += t * len(rows)
        self.places = offsets[1:][history.rows] - 1 - torch.arange(len(history.values), device=device)
        self.back = ends[history.rows] - self.places  # (nnz,)

    @staticmethod
    def groups(lengths: Tensor, width: int) -> Iterator[tuple[Tensor, int]]:
        """Row numbers of each grid and its width."""
        if lengths.device.type != "cpu":
            yield torch.arange(len(lengths), device=lengths.device), width
            return
        low, longest = 0, int(lengths.max()) if len(lengths) else 0
        while low < longest:
            high = max(4, 2 * low)
            rows = ((lengths > low) & (lengths <= high)).nonzero().flatten()
            if len(rows):
                yield rows, int(lengths[rows].max())
            low = high

    def attend(self, attention: Callable[..., Tensor], *inputs: Tensor, causal: bool = True) -> Tensor:
        """``attention`` of each grid, put end to end again.

        Args:
            attention: of one (g, heads, t, d) per input and the mask of :meth:`Grid.allowed`, gives (g, heads, t, e).
            inputs: (nnz, heads, d) each. causal: see :meth:`Grid.allowed`.

        Returns:
            (nnz, heads, e).
        """
        found = []
        for grid in self.grids:
            parts = [part.index_select(0, grid.index.flatten()).unflatten(0, grid.index.shape).transpose(1, 2)
                     for part in inputs]  # (g, heads, t, d)
            mask = grid.allowed(causal)
            found.append(attention(*parts, mask).transpose(1, 2).flatten(0, 1))  # (g t, heads, e)
        return torch.cat(found).index_select(0, self.back)

    def laid(self, vectors: Tensor) -> Tensor:
        """(nnz, d): ``vectors`` (n, d) of the items where they are, and zeros at padding."""
        return vectors

    def last(self, states: Tensor) -> Tensor:
        """(b, d): of states (nnz, d) the last one of each row; zeros for an empty row."""
        ends = (self.history.offsets[1:] - 1).clamp(min=0)
        return states.index_select(0, ends) * (self.history.lengths > 0)[:, None]  # (b, d)


class Filled(Layout):
    """Rows that begin with padding up to ``width`` and keep a state there too, as in programs that know nothing else.

    An item that is masked by padding keeps its place and a state as well. It looks back at what is real, and like the
    padding before it at everything where that is nothing.

    Attributes:
        history: the rows with their padding, which is below zero.
        own: (n,) int64, where the items are. real: (nnz,) bool, true there.
        seeing: (m,) int64, where something real is looked at: from the first item of each row on.
        bare: the layout of these, without padding before them.
    """

    def __init__(self, history: Ragged, width: int):
        slots = history.slots(width)  # (n,)
        values = history.values.new_full((len(history) * width,), -1).index_copy(0, slots, history.values)
        super().__init__(Ragged.from_lengths(torch.full_like(history.lengths, width), values), width)
        self.grids = [replace(grid, filled=True) for grid in self.grids]
        self.real = values >= 0
        self.own = self.real.nonzero().flatten()
        self.items = values[self.own]
        seeing = self.real.view(-1, width).cummax(1).values  # (b, width)
        self.seeing = seeing.flatten().nonzero().flatten()
        self.bare = Layout(Ragged.from_lengths(seeing.sum(1), values[self.seeing]), width)

    def laid(self, vectors: Tensor) -> Tensor:
        """See :meth:`Layout.laid`."""
        return vectors.new_zeros(len(self.places), vectors.shape[1]).index_copy(0, self.own, vectors)

    def shared(self) -> Tensor:
        """(nnz,) int64: the number of its row where nothing real is seen, and b and more, counted on, elsewhere."""
        found = self.history.rows.clone()  # (nnz,)
        found[self.seeing] = torch.arange(len(self.seeing), device=found.device) + len(self.history)
        return found
