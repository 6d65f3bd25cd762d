"""Networks may compute in 16 bits; formulas do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Formula = TypeVar("Formula", bound=Callable[..., Any])
SHORT = (torch.float16, torch.bfloat16)


def single(x: Tensor) -> Tensor:
    """``x`` in float32 where it has 16 bits, and itself elsewhere."""
    return x.float() if x.dtype in SHORT else x


def in_float32(formula: Formula) -> Formula:
    """``formula`` of its tensors by :func:`single`, without autocast; it takes positional arguments only.

    In 16 bits a sum over a row of items overflows (float16, above 65,504) or stops growing (bfloat16, after 256 terms),
    and autocast takes every matrix product there, whatever its inputs are. It does so in a backward pass as well, which
    is why the gradients that are written out are formulas too.
    """
    @wraps(formula)
    def called(*inputs: Any) -> Any:
        raised = [single(value) if isinstance(value, Tensor) else value for value in inputs]
        device = next(value.device.type for value in inputs if isinstance(value, Tensor))
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return formula(*raised)
        with torch.autocast(device, enabled=False):
            return formula(*raised)
    return cast(Formula, called)
