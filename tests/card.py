"""A card that is none: tensors that call the ``meta`` device theirs, and still hold values.

Tensors of the ``meta`` device hold nothing, so that an epoch cannot be drawn there. These hold their values aside: code
asks for their device and takes the paths of a card, autograd runs, and every operation is seen on its way. What would
wait for a card is noted with the place that asked for it; tensors of two devices in one operation raise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from recot.nn import graph, neighbourhood

ROOT = Path(__file__).parent.parent / "recot"
SIZE_UNKNOWN = {"nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount",
                "_local_scalar_dense", "is_nonzero", "equal"}
"""Operations whose answer the host needs before it goes on: values, or the size of what comes out."""


class Mixed(RuntimeError):
    """Tensors of two devices met in one operation."""


class Held(torch.Tensor):
    """A tensor that says ``meta`` and keeps its values in ``inner``, on the CPU."""

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        inner = inner.inner if isinstance(inner, Held) else inner
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device="meta", requires_grad=requires_grad)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __deepcopy__(self, memo):
        made = Held(self.inner.clone())
        return nn.Parameter(made, self.requires_grad) if isinstance(self, nn.Parameter) else made

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), named=None):
        raise RuntimeError(f"{operation} of a card's tensor outside of its context")


def held(value):
    """``value`` with all its tensors on the card: of containers, dataclasses and modules."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(Held(parameter.detach().clone()), parameter.requires_grad)
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else Held(buffer.clone())
        return value
    if isinstance(value, Tensor):
        return value if isinstance(value, Held) else Held(value.clone())
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{
            field.name: held(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init})
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):  # a domain has no tensors
        return type(value)(map(held, value))
    return value


class Card(TorchDispatchMode):
    """While entered, the ``meta`` device computes.

    Attributes:
        stage: what goes on, a name to note waits under; None where waiting is fine.
        waits: (stage, operation, place) of everything that waited.
    """

    def __init__(self):
        super().__init__()
        self.stage, self.waits = None, []

    def waited(self, operation):
        """Note a wait and the line of recot that asked for it."""
        if self.stage is not None:
            lines = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(ROOT)]
            place = f"{Path(lines[-1].filename).relative_to(ROOT)}:{lines[-1].lineno}" if lines else "?"
            self.waits.append((self.stage, operation, place))

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        named, name = dict(named or {}), operation.overloadpacket.__name__
        own, others = {}, []

        def seen(value):
            if isinstance(value, Held):
                own[id(value.inner)] = value
                return value.inner
            if isinstance(value, Tensor):
                if value.device.type == "meta":
                    raise Mixed(f"{name} meets a tensor that the host made for the card one by one (torch.tensor)")
                if value.dim():
                    others.append(value)
            return value

        arguments, plain = tree_map(seen, (arguments, named))
        goes, leaves = self.crosses(name, plain, own)
        if own and others and not goes:
            raise Mixed(f"{name} of tensors on the card and of {tuple(others[0].shape)} on the host")
        if goes or leaves or (own and self.depends(name, arguments, plain)):
            self.waited("copy" if goes or leaves else name)
        found = operation(*arguments, **plain)
        if leaves or not (own or goes or self.made):
            return found

        def wrapped(value):
            if not isinstance(value, Tensor):
                return value
            return own[id(value)] if id(value) in own else Held(value)

        return tree_map(wrapped, found)

    def crosses(self, name, named, own):
        """Whether an operation brings something to the card, and whether it takes something from it."""
        device = named.get("device")
        self.made = device is not None and torch.device(device).type == "meta"
        if self.made:
            named["device"] = torch.device("cpu")
        if name == "_to_copy" and device is not None:
            return self.made and not own, bool(own) and not self.made
        return False, False

    @staticmethod
    def depends(name, arguments, named):
        """Whether the host needs an answer of the card before it can go on."""
        if name in SIZE_UNKNOWN:
            return True
        if name == "repeat_interleave":
            return named.get("output_size") is None
        if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"):
            masks = [part for part in arguments[1] if part is not None and part.dtype in (torch.bool, torch.uint8)]
            filled = name != "index" and len(masks) == 1 and arguments[2].numel() == 1  # becomes a masked_fill
            return bool(masks) and not filled
        return False


@contextlib.contextmanager
def lent():
    """What the ``meta`` device has not, taken from the host: random generators, autocast and sparse products."""
    generator, autocast = torch.Generator, torch.autocast

    def product(matrix, dense):
        rows, columns, values = matrix
        own = torch.arange(len(rows) - 1, device=dense.device).repeat_interleave(rows.diff(), output_size=len(columns))
        return torch.zeros(len(rows) - 1, dense.shape[1], device=dense.device).index_add_(
            0, own, dense[columns] * values[:, None])

    def inner(offsets, columns, left, right):
        own = torch.arange(len(left), device=left.device).repeat_interleave(offsets.diff(), output_size=len(columns))
        return (left[own] * right[columns]).sum(1)

    with (mock.patch.object(torch, "Generator", lambda device="cpu": generator()),
          mock.patch.object(torch, "autocast", lambda device, *rest, **named: autocast("cpu", *rest, **named)),
          mock.patch.object(graph, "product", product), mock.patch.object(neighbourhood, "inner", inner),
          mock.patch.object(torch, "sparse_csr_tensor", lambda rows, columns, values, *rest, **named: (
              rows, columns, values))):
        yield
