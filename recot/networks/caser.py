"""Convolutions over the latest items of a history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn import similarity
from recot.nn.dropout import Dropout
from recot.nn.table import Table
from recot.request.limits import check


class Caser(TwoTower):
    """The latest items as an image: filters across its rows and down its columns, and a vector per user (Caser).

    A user is ``[z; p_u; 1]``, where z is what the filters found and p_u the free vector, and an item ``[w; b]``, so
    that the bias b of an item is one more coordinate of an inner product. The vectors that are read have a table of
    their own.

    Args:
        n_users, n_items: sizes.
        dim: width d of items that are read, of users and of z.
        max_length: L, items of a history that are read, its latest; the height of the image.
        n_vertical: filters over all positions of one coordinate. n_horizontal: filters of each height 1..L.
        dropout: probability, of what the filters found, in training.

    Raises:
        ValueError: a size is not positive, there is no filter, or ``dropout`` is not in [0, 1).

    Source: Tang and Wang (WSDM 2018), Sec. 3; sizes and initialisation are those of the authors' program in PyTorch.

    Departures: what is missing of a shorter history is zero; in the authors' program padding has a vector that is
    learnt, and is an item that can be recommended.
    """

    ordered = True
    objectives = ("NextItems",)

    def __init__(self, n_users: int, n_items: int, dim: int = 64, max_length: int = 5, n_vertical: int = 4,
                 n_horizontal: int = 16, dropout: float = 0.5):
        super().__init__()
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("max_length", max_length, max_length >= 1, "leaves no item to read; give 1 or more"),
              ("n_horizontal", n_horizontal, n_horizontal >= 0, "is a number of filters; give 0 or more"),
              ("n_vertical", n_vertical, n_vertical >= (n_horizontal == 0), "is a number of filters; give 0 or more, "
               "and 1 or more where model.n_horizontal is 0"),
              ("dropout", dropout, 0 <= dropout < 1, "is a probability; give 0 or more and less than 1"))
        self.similarity, self.max_length = similarity.dot, max_length
        self.user_table, self.item_table = Table(n_users, dim), Table(n_items, dim)
        self.output = Table(n_items, 2 * dim + 1)  # the last column holds the biases
        for table, deviation in ((self.user_table, 1 / dim), (self.item_table, 1 / dim), (self.output, 1 / (2 * dim))):
            nn.init.normal_(table.weight, std=deviation)
        nn.init.zeros_(self.output.weight[:, -1])
        heights = range(1, max_length + 1) if n_horizontal else ()
        self.horizontal = nn.ModuleList(nn.Conv1d(dim, n_horizontal, height) for height in heights)
        self.vertical = nn.Linear(max_length, n_vertical) if n_vertical else None
        self.dropout = Dropout(dropout)
        self.narrow = nn.Linear(n_vertical * dim + n_horizontal * max_length, dim)

    def image(self, history: Ragged) -> Tensor:
        """(b, d, L): the vectors of the latest items, the last one at the end, and zeros before a shorter history."""
        latest = history.latest(self.max_length)
        x = self.item_table(latest.values)  # (nnz, d)
        slots = latest.slots(self.max_length)
        x = x.new_zeros(len(latest) * self.max_length, x.shape[1]).index_copy(0, slots, x)  # (b L, d)
        return x.unflatten(0, (-1, self.max_length)).mT.contiguous()  # (b, d, L)

    def found(self, image: Tensor) -> Tensor:
        """What the filters find in images (b, d, L): (b, n_vertical d + n_horizontal L)."""
        parts = [] if self.vertical is None else [self.vertical(image).flatten(1)]  # (b, d n_vertical)
        parts += [convolution(image).amax(-1).relu() for convolution in self.horizontal]  # (b, n_horizontal) each
        return torch.cat(parts, 1)

    def users(self, query: Query) -> Tensor:
        """(b, 2d + 1)."""
        z = self.narrow(self.dropout(self.found(self.image(query.history)))).relu()  # (b, d)
        return torch.cat([z, self.user_table(query.users), z.new_ones(len(z), 1)], 1)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, 2d + 1), or (n_items, 2d + 1)."""
        return self.output(ids)
