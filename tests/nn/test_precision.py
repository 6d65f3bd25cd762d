"""Whatever the precision of a network, its loss is float32 and close to that of a network in float32."""

from functools import cache

import pytest
import torch
from commands import known as composed
from torch import nn

from recot.data.interactions import Interactions
from recot.nn.precision import single
from recot.nn.similarity import unit
from recot.objectives import losses
from recot.objectives.pairs import BPR, cosines
from recot.objectives.sequences import NextGaussian, NextItem
from recot.objectives.views import two_views
from recot.record.build import make

HALVES = [torch.bfloat16, torch.float16]
LAST = ("loss.contrast.pooling=last", "loss.contrast.filled=false", "loss.contrast.augmentation.masked=item")
METHODS = [
    ("bprmf",), ("bprmf", "loss.penalty=0.1"), ("bprmf", "loss.penalty=0.1", "loss.penalty_form=norm"),
    ("lightgcn",), ("clrec",), ("clrec", "loss.tau=0.02"), ("clrec", "loss.duplicates=mask", "loss.symmetric=true"),
    ("clrec", "loss.duplicates=multi_positive", "loss.symmetric=true"), ("sclrec",),
    ("sclrec", "loss.duplicates=mask", "loss.symmetric=true"), ("sclrec", "denoiser.lam=0.02"),
    ("clrec", "denoiser=smoothing"), ("directau",), ("directau_lightgcn",), ("buir",), ("buir_nb",), ("tce",), ("rce",),
    ("cdae", "loss.weighting=equal"), ("cdae_paper",), ("cdae_paper", "denoiser=tce"), ("cdae_paper", "denoiser=rce"),
    ("vae",), ("vae_paper",),
    ("caser",), ("sasrec",), ("sasrec", "loss.against=all", "loss.negatives=0"), ("bert4rec",), ("duorec",),
    ("duorec", "loss.against=sampled", "loss.negatives=2"), ("stosa",), ("stosa_released",),
    ("cl4rec",), ("cl4rec", *LAST, "loss.contrast.alike=cosine", "loss.contrast.tau=0.05"), ("coserec",),
    ("coserec_wdm",), ("mstein",), ("mstein", "loss.contrast.tau=1"), ("mstein_released",)]


def drawn(config):
    """A network with vectors of length about one, its objective and denoiser, and a batch."""
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.rand(40, 60, generator=generator) < 0.2).nonzero(as_tuple=True)
    train = Interactions.from_pairs(users, items, 40, 60, times=torch.rand(len(users), generator=generator).argsort())
    torch.manual_seed(0)
    network = make(config["model"], _partial_=True)(n_users=40, n_items=60)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1 and "target" not in name:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    network.bind(train)
    objective, denoiser = make(config["loss"]), make(config["denoiser"])
    denoiser.bind(network, train)
    return network.eval(), objective, denoiser, next(objective.batches(train, generator.manual_seed(1), network, 0))


@cache
def settings(words):
    return composed(f"model={words[0]}", *words[1:])[0]


@cache
def computed(words, dtype):
    """The loss of a batch, unreduced, with the network in ``dtype``, and the gradients of its mean."""
    network, objective, denoiser, batch = drawn(settings(words))
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        batch = denoiser.before(batch, network)
        loss, batch = objective(network, batch)
        loss = denoiser.after(loss, batch)
    loss.mean().backward()
    return loss.detach(), [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("words", METHODS, ids=" ".join)
def test_the_loss_of_a_network_in_16_bits_is_float32_and_near_that_of_one_in_32(words, dtype):
    (loss, gradients), (whole, _) = computed(words, dtype), computed(words, None)
    assert loss.dtype == whole.dtype == torch.float32 and loss.isfinite().all()
    assert loss.mean().item() == pytest.approx(whole.mean().item(), rel=0.02, abs=0.02)
    assert all(gradient.isfinite().all() for gradient in gradients) and any(g.any() for g in gradients)


def scores(generator, *shape):
    return 8 * torch.randn(*shape, generator=generator)


FORMULAS = {
    "bpr": (losses.bpr, lambda g: (scores(g, 9), scores(g, 9, 3))),
    "infonce": (losses.infonce, lambda g: (scores(g, 9, 9),)),
    "softmax": (losses.softmax, lambda g: (scores(g, 9, 7), torch.arange(9) % 7)),
    "soft_infonce": (losses.soft_infonce, lambda g: (scores(g, 9, 9), torch.rand(9, 9, generator=g).softmax(1))),
    "bce": (losses.bce, lambda g: (scores(g, 9, 7), torch.rand(9, 7, generator=g))),
    "multinomial": (losses.multinomial, lambda g: (scores(g, 3, 26_000), (torch.arange(26_000) < 9_000).float()
                                                   .repeat(3, 1))),
    "gaussian_kl": (losses.gaussian_kl, lambda g: (scores(g, 9, 7), scores(g, 9, 7))),
    "alignment": (losses.alignment, lambda g: (scores(g, 9, 7), scores(g, 9, 7))),
    "uniformity": (lambda z: losses.uniformity(unit(single(z))), lambda g: (scores(g, 9, 7),)),
    "bootstrap": (losses.bootstrap, lambda g: (scores(g, 9, 7), scores(g, 9, 7))),
    "shrinkage": (BPR(penalty=1.0).shrinkage, lambda g: (100 * scores(g, 9, 7), 100 * scores(g, 9, 2, 7))),
    "cosines": (lambda z, v: cosines(z, v, 0.01), lambda g: (scores(g, 9, 7), scores(g, 9, 7))),
    "next item": (NextItem().compare, lambda g: (scores(g, 9, 70), scores(g, 9, 3, 70))),
    "next gaussian": (NextGaussian().compare, lambda g: (scores(g, 9, 7), scores(g, 9, 3, 7))),
} | {f"two views by {alike}": (lambda vectors, alike=alike: two_views(vectors, alike, 1.0),
                               lambda g: (100 * scores(g, 10, 70),)) for alike in ("dot", "cosine", "neg_w2", "inv_w2")}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_has_of_16_bits_what_it_has_of_32(name, dtype, autocast, rng):
    """Loss and gradient, forwards and backwards, of the same rounded inputs."""
    formula, draw = FORMULAS[name]
    rounded = [value.to(dtype) if value.is_floating_point() else value for value in draw(rng)]
    found = []
    for values in (rounded, [value.float() if value.is_floating_point() else value for value in rounded]):
        free = values[0].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and not found):
            loss = formula(free, *values[1:])
        loss.mean().backward()
        found.append((loss, free.grad.float()))
    (ours, slope), (exact, steep) = found
    assert ours.dtype == torch.float32 and ours.isfinite().all() and slope.isfinite().all()
    torch.testing.assert_close(ours, exact, rtol=0, atol=0)
    torch.testing.assert_close(slope, steep, rtol=2**-7, atol=1e-6)  # a gradient has the type of its input


@pytest.mark.parametrize("name", ["uniformity", "two views by dot"])
def test_a_gradient_that_is_written_out_is_not_cast_where_the_backward_pass_is_under_autocast(name, rng):
    formula, draw = FORMULAS[name]
    values, found = draw(rng), []
    values = [value / 100 for value in values]
    for enabled in (True, False):
        free = values[0].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            formula(free).mean().backward()
        found.append(free.grad)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


def test_labels_are_float32_so_that_they_can_be_counted(rng):
    """In float16 a sum of them stops being exact at 2,048."""
    for words in (("tce",), ("cdae_paper",)):
        network, objective, _, batch = drawn(settings(words))
        with torch.autocast("cpu", torch.bfloat16):
            assert objective(network, batch)[1].labels.dtype == torch.float32
