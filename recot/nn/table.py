"""An embedding table whose gradient is accumulated in place, and whose rows may lag behind until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Keeper(Protocol):
    """What leaves rows of a table as they were some steps ago; kept by ``fit.lazy.Lag``."""

    def refresh(self, ids: Tensor) -> None:
        """Bring the rows at ``ids`` up to date."""

    def settle(self) -> None:
        """Bring all rows up to date."""

    def release(self) -> None:
        """Bring all rows up to date, and let none lag behind from now on."""

    def follow(self, slow: Table, share: float) -> bool:
        """Whether the rows of ``slow`` are moved towards those of the table whenever they are read; see `follow`."""


class Modules(Protocol):
    """What has tables: a network, or one of them."""

    def modules(self) -> Iterator[nn.Module]:
        """See ``nn.Module``."""


class Watched(dict[str, "nn.Parameter | None"]):
    """The parameters of a table. Whoever asks for one, by whatever way, finds all of its rows up to date.

    ``nn.Module`` looks up its parameters here and nowhere else: for an attribute, a list of parameters, a state, a copy
    and a move to another device.

    Attributes:
        keeper: of the table, or None where no row lags behind.
        read: whether someone has asked since this was last set to False.
    """

    keeper: Keeper | None = None
    read: bool = False

    def settle(self) -> None:
        """Bring the rows up to date."""
        self.read = True
        if self.keeper is not None:
            self.keeper.settle()

    def __getitem__(self, name: str) -> nn.Parameter | None:
        self.settle()
        return super().__getitem__(name)

    def __setitem__(self, name: str, parameter: nn.Parameter | None) -> None:
        if self.keeper is not None:
            self.keeper.release()
        super().__setitem__(name, parameter)

    def items(self) -> Any:
        """As of any dict."""
        self.settle()
        return super().items()

    def values(self) -> Any:
        """As of any dict."""
        self.settle()
        return super().values()

    def __reduce__(self) -> tuple[type[Watched], tuple[dict[str, nn.Parameter | None]]]:
        """A copy has its own rows and no keeper."""
        return Watched, (dict(self.items()),)


class Lookup(torch.autograd.Function):
    """Rows of a table; the backward pass adds to ``weight.grad`` itself, at the rows of the batch only.

    The dense gradient of a lookup costs as much as the optimiser: it allocates, clears and adds a whole table for a
    few thousand rows. Adding in place gives the same dense gradient (so the same dense Adam) without that traffic.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> Tensor:
        """(*ids.shape, d) of ``weight`` (rows, d) and ``ids`` int64."""
        ctx.save_for_backward(ids)
        ctx.weight = weight  # the parameter itself: its .grad is written to
        return weight.index_select(0, ids.reshape(-1)).reshape(*ids.shape, weight.shape[1])  # (*ids.shape, d)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        """Adds ``grad`` (*ids.shape, d) to the rows of ``weight.grad``."""
        (ids,) = ctx.saved_tensors
        weight = ctx.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids.reshape(-1), grad.reshape(-1, weight.shape[-1]).to(weight.dtype))
        return None, None


class Table(nn.Module):
    """Embedding table, Xavier normal: standard deviation ``sqrt(2 / (rows + dim))``.

    First derivatives only, and gradients bypass autograd hooks. Several processes that share a batch join them by the
    rows that were looked up, see :mod:`recot.nn.gradients`: a data-parallel wrapper would send whole tables, and leave
    the rows of other processes in ``weight.grad`` for the next step.

    Ask the table whenever its rows are needed, by a call or for its ``weight``: of a parameter that was kept from an
    earlier step, some rows may lag behind until the block of steps ends. ``stored.grad`` is complete at any time.

    Args:
        n_rows: number of embeddings. dim: their width.

    Attributes:
        touched: what was looked up since the gradient was last cleared, and may have a gradient.
        whole: whether all rows were.
    """

    _parameters: Watched

    def __init__(self, n_rows: int, dim: int):
        super().__init__()
        self._parameters = Watched()
        self.weight = nn.Parameter(torch.empty(n_rows, dim))
        nn.init.xavier_normal_(self.weight)
        self.touched: list[Tensor] = []
        self.whole = False

    @property
    def watched(self) -> Watched:
        """The dict that knows whether rows lag behind."""
        return self._parameters

    @property
    def stored(self) -> nn.Parameter:
        """The parameter as it is; some of its rows may lag behind. Its gradient never does."""
        return dict.__getitem__(self._parameters, "weight")  # type: ignore[return-value]  # it is no None

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, dim), or the whole table (n_rows, dim)."""
        weight, keeper = self.stored, self._parameters.keeper
        training = torch.is_grad_enabled() and weight.requires_grad
        if ids is None:
            self.whole |= training
            return self.weight
        if keeper is not None:
            keeper.refresh(ids)
        if not training:
            rows: Tensor = weight.index_select(0, ids.reshape(-1))
            return rows.reshape(*ids.shape, weight.shape[1])  # (*ids.shape, dim)
        self.touched.append(ids.reshape(-1))
        return Lookup.apply(weight, ids)  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it so

    def clear_gradient(self) -> None:
        """Zero the gradient; only the rows touched since the last call are written."""
        grad = self.stored.grad
        if grad is not None:
            if self.whole:
                grad.zero_()
            else:
                for ids in self.touched:
                    grad.index_fill_(0, ids, 0.0)
        self.touched, self.whole = [], False


def tables(network: Modules) -> list[Table]:
    """The tables of ``network``."""
    return [module for module in network.modules() if isinstance(module, Table)]


def settle(network: Modules) -> None:
    """Bring all rows of all tables up to date."""
    for table in tables(network):
        if table.watched.keeper is not None:
            table.watched.keeper.settle()


def clear_gradients(network: Modules) -> None:
    """Make every gradient of ``network`` zero: tables in place, other parameters by dropping the tensor.

    To be called between a step and the next look-up, since a table clears the rows looked up so far.
    """
    for module in network.modules():
        if isinstance(module, Table):
            module.clear_gradient()
        else:
            for parameter in module.parameters(recurse=False):
                parameter.grad = None


def follow(slow: Modules, fast: Modules, share: float) -> None:
    """Move every parameter of ``slow`` towards that of ``fast``, of the same shapes, by ``share`` of their distance.

    Rows of tables move when they are next read, where those of ``fast`` lag behind.
    """
    moved: set[int] = set()  # a parameter of two modules moves once
    for behind, ahead in zip(slow.modules(), fast.modules(), strict=True):
        if isinstance(behind, Table) and isinstance(ahead, Table):
            keeper = ahead.watched.keeper
            if keeper is not None and keeper.follow(behind, share):
                continue
            lagging = keeper is not None or behind.watched.keeper is not None
            pairs = [(behind.weight, ahead.weight) if lagging else (behind.stored, ahead.stored)]
        else:
            pairs = [*zip(behind.parameters(recurse=False), ahead.parameters(recurse=False), strict=True)]
        for target, source in pairs:
            if id(target) not in moved:
                moved.add(id(target))
                target.lerp_(source, share)
