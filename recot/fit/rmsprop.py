"""RMSProp as TensorFlow 1 computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

PIECE = 1 << 15
"""Numbers per piece: three tensors of them fit into the second-level cache of a core."""


class RMSProp(torch.optim.Optimizer):
    """``p -= learning_rate * g / sqrt(average(g^2) + eps)``, the average starting at one.

    torch's own starts at zero and adds ``eps`` outside the root. That is no detail where gradients are small: with
    ``eps`` inside, one below 1e-5 (a mean over all entries of a matrix gives such) moves its parameter by less than the
    learning rate instead of by all of it, and the start at one delays everything by some hundred steps.

    Args:
        params: parameters, or groups of them.
        learning_rate: the largest step of a steady gradient.
        weight_decay: coupled L2, as in ``torch.optim.Adam``.
        decay: of the average of squares. eps: see above. Both have TensorFlow's defaults.

    Source: ``tf.train.RMSPropOptimizer``, without momentum.
    """

    def __init__(self, params: Iterable[Any], learning_rate: float, weight_decay: float = 0.0, decay: float = 0.9,
                 eps: float = 1e-10):
        super().__init__(params, {"lr": learning_rate, "weight_decay": weight_decay, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; the value of ``closure``, which is called with gradients."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.move(parameter, parameter.grad, group)
        return value

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """The step of one parameter, a piece at a time: on a CPU the four passes over a piece stay in its cache."""
        state = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter)
        whole = (parameter, gradient, state["mean_square"])
        cut = parameter.device.type == "cpu" and all(tensor.is_contiguous() for tensor in whole)
        for value, slope, average in zip(*(tensor.view(-1).split(PIECE) if cut else (tensor,) for tensor in whole),
                                         strict=True):
            if group["weight_decay"]:
                slope = slope.add(value, alpha=group["weight_decay"])
            average.mul_(group["decay"]).addcmul_(slope, slope, value=1 - group["decay"])
            value.addcdiv_(slope, (average + group["eps"]).sqrt_(), value=-group["lr"])
