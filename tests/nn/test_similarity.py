"""Similarities."""

import pytest
import torch

from recot.nn import similarity


def test_cosine_is_the_dot_product_of_unit_vectors_whatever_the_length(rng):
    z, v = torch.randn(4, 3, generator=rng), torch.randn(5, 3, generator=rng)
    torch.testing.assert_close(similarity.cosine(10 * z, v), similarity.cosine(z, 0.1 * v))
    torch.testing.assert_close(similarity.cosine(z, z).diagonal(), torch.ones(4))
    torch.testing.assert_close(similarity.dot(z, v), torch.einsum("md,nd->mn", z, v))


def test_a_zero_vector_is_similar_to_nothing():
    assert similarity.cosine(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="use one of dot, cosine"):
        similarity.named("cosin")
