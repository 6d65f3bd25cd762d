"""How alike two vectors are. Each function maps (..., m, d) and (..., n, d) to (..., m, n)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from recot.nn.product import Products

Similarity = Callable[[Tensor, Tensor], Tensor]


def unit(z: Tensor) -> Tensor:
    """Rows of ``z`` (..., d) scaled to length one; a zero row stays zero."""
    return F.normalize(z, dim=-1, eps=1e-12)


def direction(z: Tensor) -> Tensor:
    """As :func:`unit`, but rows shorter than 1e-8 are divided by that, so that their gradient stays moderate."""
    return F.normalize(z, dim=-1, eps=1e-8)


def dot(z: Tensor, v: Tensor) -> Tensor:
    """Inner products."""
    return z @ v.mT


def cosine(z: Tensor, v: Tensor) -> Tensor:
    """Inner products of unit vectors, in [-1, 1]."""
    return unit(z) @ unit(v).mT


def nearest(z: Tensor, v: Tensor) -> Tensor:
    """``(|z|^2 - |z - v|^2) / 2``: falls with the distance of ``v``, and ranks by it in one product."""
    return z @ v.mT - v.square().sum(-1)[..., None, :] / 2


def minus_distance(z: Tensor, v: Tensor) -> Tensor:
    """``-|z - v|^2 / 2``, the same for either of the two; :func:`nearest` has another offset for each ``z``."""
    return nearest(z, v) - z.square().sum(-1)[..., None] / 2


def against(similarity: Similarity, v: Tensor) -> Callable[[Tensor], Tensor]:
    """``similarity(z, v)`` for one z (m, d) after another, where v (n, d) stays as it is; (m, n), bit for bit."""
    if similarity is dot:
        return Products(v)
    if similarity is cosine:
        products = Products(unit(v))
        return lambda z: products(unit(z))
    return lambda z: similarity(z, v)


def named(name: str) -> Similarity:
    """The similarity called ``name`` in a config.

    Raises:
        ValueError: no similarity has that name.
    """
    known = {function.__name__: function for function in (dot, cosine)}
    if name not in known:
        raise ValueError(f"no similarity is called {name!r}; use one of {', '.join(known)}")
    return known[name]
