"""Gaussians as vectors: hand values, the oracle, and slopes where roots and exponentials go wrong."""

import numpy as np
import pytest
import torch

from recot.nn.gaussian import deviation, variance, wasserstein
from recot.nn.similarity import nearest


def gaussian(mean, var):
    return torch.cat([torch.tensor(mean), torch.tensor(var).sqrt()])


def test_the_distance_by_hand():
    a, b = gaussian([0.0, 0.0], [1.0, 4.0]), gaussian([3.0, 4.0], [4.0, 1.0])
    assert wasserstein(a, b).item() == wasserstein(b, a).item() == 27.0 and wasserstein(a, a).item() == 0.0


def test_the_distance_is_that_of_pot(rng):
    ot = pytest.importorskip("ot")
    means = torch.randn(2, 5, generator=rng, dtype=torch.float64)
    spreads = torch.randn(2, 5, generator=rng, dtype=torch.float64)
    a, b = (torch.cat([mean, deviation(spread)]) for mean, spread in zip(means, spreads, strict=True))
    bures = ot.gaussian.bures_wasserstein_distance(*means.numpy(), *(np.diag(variance(s).numpy()) for s in spreads))
    assert wasserstein(a, b).item() == pytest.approx(float(bures) ** 2, rel=1e-10)


def test_the_deviation_is_the_root_of_the_variance_with_a_finite_slope():
    x = torch.tensor([-120.0, -50.0, -20.0, -1.0, 0.0, 1.0, 50.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(deviation(x)[3:], variance(x)[3:].sqrt())
    (slope,) = torch.autograd.grad(deviation(x).sum(), x)
    assert slope.isfinite().all() and (slope <= 0.5).all() and (slope >= 0).all()
    small = torch.tensor([-50.0, -20.0], requires_grad=True)
    assert (deviation(small) > 0).all() and (torch.autograd.grad(deviation(small).sum(), small)[0] > 0).all()


def test_nearest_ranks_by_distance(rng):
    z, v = torch.randn(3, 6, generator=rng), torch.randn(20, 6, generator=rng)
    by_distance = wasserstein(z[:, None], v).argsort(1)
    assert torch.equal(nearest(z, v).argsort(1, descending=True), by_distance)
