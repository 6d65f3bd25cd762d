"""One torch thread for every test: two of them on a busy small machine can cost a factor of sixty on tiny tensors."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs that the tests of a file share."""
    return tmp_path_factory.mktemp("runs")
