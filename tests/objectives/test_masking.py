"""The loss of a masked autoencoder, in numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from domains import DOMAINS, before, joint

from recot.networks.cat_art import CAT
from recot.objectives.masking import MaskedDomains, both_ways


def test_partners_that_agree_exchanged_and_constant():
    eye = torch.eye(2, dtype=torch.float64)
    assert both_ways(eye, eye, 0.1).tolist() == pytest.approx([4.53989e-5] * 2, rel=1e-6)
    assert both_ways(eye, eye.flip(0), 0.1).tolist() == pytest.approx([10.0000454] * 2, rel=1e-8)
    assert both_ways(torch.ones(7, 3), torch.ones(7, 3), 0.1).tolist() == pytest.approx([math.log(7)] * 7)
    assert both_ways(torch.ones(1, 3), -torch.ones(1, 3), 0.1).tolist() == [0.0]


def test_the_contrast_is_the_same_with_the_streams_exchanged(rng):
    one, other = torch.randn(2, 9, 4, generator=rng)
    torch.testing.assert_close(both_ways(one, other, 0.1), both_ways(other, one, 0.1))
    assert not torch.allclose(both_ways(one, other, 0.1).mean(), both_ways(one, other.roll(1, 0), 0.1).mean())


def test_the_contrast_is_the_cross_entropy_of_cosines_in_both_directions(rng):
    one, other = torch.randn(2, 6, 4, generator=rng)
    cosines = F.cosine_similarity(one[:, None], other[None], dim=-1) / 0.1
    expected = (F.cross_entropy(cosines, torch.arange(6), reduction="none")
                + F.cross_entropy(cosines.T, torch.arange(6), reduction="none")) / 2
    torch.testing.assert_close(both_ways(one, other, 0.1), expected)


def test_the_mean_loss_is_the_weighted_sum_of_contrast_and_mean_squared_errors(rng):
    torch.manual_seed(0)
    network = CAT(20, 15, DOMAINS, before(20, dim=4))
    objective = MaskedDomains(12, passes=2)
    drawn = list(objective.batches(joint(rng, 20), rng, network, 0))
    assert [len(batch.query) for batch in drawn] == [12, 8, 12, 8]
    loss, batch = objective(network, drawn[0])
    whole, codes, decoded = network.streams(batch.query.users, batch.hidden)
    expected = (0.2 * both_ways(codes[0], codes[1], 0.1).mean() + 0.4 * F.mse_loss(decoded[0], whole)
                + 0.4 * F.mse_loss(decoded[1], whole))
    torch.testing.assert_close(loss.mean(), expected)
    assert loss.shape == (12,) and whole.shape == (12, 4 * len(DOMAINS))


def test_a_permuted_batch_has_permuted_losses(rng):
    torch.manual_seed(0)
    network, turned = CAT(20, 15, DOMAINS, before(20, dim=4)), torch.randperm(20, generator=rng)
    objective = MaskedDomains(20)
    batch = next(objective.batches(joint(rng, 20), rng, network, 0))
    other = type(batch)(type(batch.query)(batch.query.users[turned], batch.query.history), batch.hidden[turned])
    torch.testing.assert_close(objective(network, other)[0], objective(network, batch)[0][turned])


@pytest.mark.parametrize(("words", "message"), [
    ({"tau": 0.0}, "loss.tau = 0.0 is a temperature"), ({"contrast": -1.0}, "loss.contrast = -1.0 would push"),
    ({"reconstruction": -1.0}, "loss.reconstruction = -1.0 would reward"), ({"passes": 0}, "loss.passes = 0 leaves")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        MaskedDomains(**words)
