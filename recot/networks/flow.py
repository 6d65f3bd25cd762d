"""Autoencoders whose code is drawn from more than a Gaussian: a Gaussian sent through autoregressive maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.networks.autoencoder import Autoencoder
from recot.nn.precision import in_float32
from recot.request.limits import check

LOWEST, HIGHEST = -5.0, 3.0
"""Between these lies the log of what a coordinate is multiplied by."""


class Autoregressive(nn.Module):
    """``z_i -> exp(s_i) z_i + t_i``, where s_i and t_i are made of the coordinates before i in some order.

    The order is drawn at random when the map is made. Both come out of one hidden layer whose weights are masked
    (MADE), so that the Jacobian is triangular in that order and its log determinant the sum of s. Unit j of h hidden
    ones sees the first ``1 + j (d - 1) / (h - 1)`` coordinates of the order, rounded, and coordinate i is made of the
    units that see fewer than up to i. s is cut to -5..3, and its gradient is not.

    Args:
        dim: width d. hidden: units of the hidden layer.

    Attributes:
        into: (hidden, d) bool, which coordinates a hidden unit sees. out_of: (2 d, hidden) bool, which hidden units
            make t and s.
    """

    into: Tensor
    out_of: Tensor

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        place = torch.randperm(dim).argsort()  # (d,) of each coordinate in the order
        seen = torch.linspace(1, dim, hidden).round()  # (hidden,)
        self.register_buffer("into", seen[:, None] > place)  # (hidden, d)
        self.register_buffer("out_of", (place[:, None] >= seen).repeat(2, 1))  # (2d, hidden)
        self.first, self.second = nn.Linear(dim, hidden), nn.Linear(hidden, 2 * dim)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(b, d) -> what ``z`` becomes and the logs s of what it is multiplied by, (b, d) each."""
        inside = F.linear(z, self.first.weight * self.into, self.first.bias).relu()  # (b, hidden)
        t, s = F.linear(inside, self.second.weight * self.out_of, self.second.bias).chunk(2, 1)  # (b, d) each
        s = s + (s.clamp(LOWEST, HIGHEST) - s).detach()
        return s.exp() * z + t, s


class FlowAutoencoder(Autoencoder):
    """Variational autoencoder whose code is a Gaussian draw sent through two :class:`Autoregressive` maps.

    Between the maps, coordinates change places with those from the other end. The score sends the mean through.

    Args:
        n_users, n_items: sizes.
        dim: width r of the code. hidden, hidden_activation: of the layer on either side of it.
        corruption, normalize, start, input, spread: see :class:`Autoencoder`.
        flow_hidden: width of the hidden layer of each map.

    Raises:
        ValueError: a width is not positive, or ``corruption`` lies outside 0..1.

    Source: the authors' program of Li et al. (WWW 2021), SinkhornCF; the maps from Kingma et al. (NeurIPS 2016),
    Improved Variational Inference with Inverse Autoregressive Flow, and Germain et al. (ICML 2015), MADE.

    Departures: the maps are those of the program, and SinkhornCF's paper does not mention them. The divergence is
    estimated from the one code that was drawn.
    """

    objectives = ("Sinkhorn", "SinkhornCF")  # type: ignore[assignment]  # the base has more, and TwoTower any number
    inductive = True

    def __init__(self, n_users: int, n_items: int, dim: int = 200, hidden: int = 600,
                 hidden_activation: Literal["relu", "tanh"] = "relu", corruption: float = 0.5, normalize: bool = True,
                 start: Literal["truncated", "xavier", "xavier_uniform"] = "xavier_uniform",
                 input: Literal["weighted", "binary"] = "weighted",
                 spread: Literal["log_std", "log_variance"] = "log_variance", flow_hidden: int = 601):
        super().__init__(n_users, n_items, dim, hidden, "identity", "none", True, corruption, normalize, start, input,
                         hidden_activation, spread)
        check("model", ("flow_hidden", flow_hidden, flow_hidden >= 1, "is the width of a layer; give 1 or more"))
        self.flows = nn.ModuleList(Autoregressive(dim, flow_hidden) for _ in range(2))

    def drawn(self, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (b, r), drawn while training and made of the mean otherwise, and their ``log_ratio``, (b,)."""
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        first, second = self.flows
        z, s = first(mean + log_std.exp() * noise)
        z, more = second(z.flip(1))
        return z, log_ratio(noise, log_std, s + more, z)


@in_float32
def log_ratio(noise: Tensor, log_std: Tensor, stretched: Tensor, code: Tensor) -> Tensor:
    """(b,): log density of ``code`` over that of a unit Gaussian there.

    Args:
        noise: (b, r) unit Gaussian draws. log_std: (b, r) of what they were multiplied by.
        stretched: (b, r) logs of what the maps then multiplied by, in any order. code: (b, r), what came out.
    """
    return ((code.square() - noise.square()) / 2 - log_std - stretched).sum(1)
