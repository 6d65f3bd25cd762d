"""T-CE and R-CE: the hand example, what is dropped, what stays plain cross entropy."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from recot.batches.pairs import Pairs
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.denoise.reweight import RCE, TCE

LOGITS = torch.tensor([[2.0, 0.5], [-1.0, 0.0]])
LABELS = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
EMPTY = Pairs(Query(torch.zeros(2, dtype=torch.int64), Ragged.from_lists([[], []])), torch.zeros(2, dtype=torch.int64),
              torch.zeros(2, 1, dtype=torch.int64), labels=LABELS)


def bce(logits=LOGITS, labels=LABELS):
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def full(eps_max, **given):
    """T-CE at its largest rate."""
    denoiser = TCE(eps_max, eps_steps=1, **given)
    denoiser.after_step(None)
    return denoiser


def test_the_hand_example_of_truncation():
    assert bce().mean().item() == pytest.approx(0.7769, abs=1e-4)
    assert full(0.25).after(bce(), EMPTY).mean().item() == pytest.approx(0.5981, abs=1e-4)


def test_the_hand_example_of_reweighting():
    loss = RCE(0.2).after(bce(), EMPTY)
    assert (loss / bce()).flatten().tolist() == pytest.approx([0.9749, 0.8230, 0.7690, 0.8706], abs=1e-4)
    assert loss.mean().item() == pytest.approx(0.6347, abs=1e-4)


def test_nothing_dropped_and_no_exponent_are_plain_cross_entropy():
    torch.testing.assert_close(full(0.0).after(bce(), EMPTY), bce())
    torch.testing.assert_close(RCE(0.0).after(bce(), EMPTY), bce())


def test_a_dropped_pair_has_no_gradient_and_the_others_have(rng):
    logits = torch.randn(50, 2, generator=rng, requires_grad=True)
    labels = torch.tensor([1.0, 0.0]).repeat(50, 1)
    loss = full(0.2).after(bce(logits, labels), replace(EMPTY, labels=labels))
    loss.mean().backward()
    dropped = logits.grad == 0
    assert dropped[:, 0].sum() == 20 and not dropped[:, 1].any()  # a fifth of a hundred entries, positives only
    assert logits[dropped].max() <= logits[:, 0][~dropped[:, 0]].min()  # those with the largest losses


def test_the_share_may_be_one_of_the_positives(rng):
    logits, labels = torch.randn(50, 2, generator=rng), torch.tensor([1.0, 0.0]).repeat(50, 1)
    loss = full(0.2, rate_of="positives").after(bce(logits, labels), replace(EMPTY, labels=labels))
    assert int((loss == 0).sum()) == 10


def test_the_mean_is_that_of_what_is_kept(rng):
    logits, labels = torch.randn(50, 2, generator=rng), torch.tensor([1.0, 0.0]).repeat(50, 1)
    plain = bce(logits, labels)
    loss = full(0.1).after(plain, replace(EMPTY, labels=labels))
    torch.testing.assert_close(loss.mean(), plain[loss != 0].mean())


def test_something_is_always_kept():
    labels = torch.ones(3, 1)
    loss = full(0.99).after(torch.tensor([[3.0], [1.0], [2.0]]), replace(EMPTY, labels=labels))
    assert loss.flatten().tolist() == [0.0, 3.0, 0.0]


def test_the_rate_grows_to_its_largest_and_jumps_only_with_another_exponent():
    denoiser, bent = TCE(0.2, eps_steps=4), TCE(0.2, eps_steps=4, exponent=2.0)
    rates = []
    for _ in range(6):
        rates.append((denoiser.rate(), bent.rate()))
        denoiser.after_step(None)
        bent.after_step(None)
    assert [plain for plain, _ in rates] == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.2])
    assert [curved for _, curved in rates] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.2, 0.2])


def test_a_checkpoint_holds_the_step():
    denoiser, other = full(0.2), TCE(0.2, eps_steps=1)
    other.load_state_dict(denoiser.state_dict())
    assert other.step == 1 and other.rate() == 0.2


def test_the_reports_say_what_was_trusted():
    truncated, weighted = full(0.25), RCE(0.2)
    truncated.after(bce(), EMPTY)
    weighted.after(bce(), EMPTY)
    assert truncated.report() == {"dropped": 0.5} and truncated.report() == {}
    assert weighted.report()["weight_of_positives"] == pytest.approx((0.9749 + 0.7690) / 2, abs=1e-4)
