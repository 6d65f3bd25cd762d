"""One value that is wrong, one message: it names that parameter with its path, its value, and what to give."""

import inspect
import math
import re

import pytest

from recot.batches.augment import Augmentation
from recot.closed.factors import NCE, SVD, WRMF
from recot.closed.neighbours import ItemKNN
from recot.denoise.iterative import IterativeRelabelling
from recot.denoise.prorec import ProRec
from recot.denoise.reweight import RCE, TCE
from recot.denoise.smoothing import PopularitySmoothing
from recot.denoise.soft_matching import SoftMatching
from recot.networks.autoencoder import Autoencoder
from recot.networks.bert4rec import BERT4Rec
from recot.networks.buir import BUIR
from recot.networks.caser import Caser
from recot.networks.factorisation import Tables
from recot.networks.lightgcn import LightGCN
from recot.networks.sasrec import SASRec
from recot.networks.stosa import Stosa
from recot.objectives.pairs import BCE, BPR, DirectAU, InfoNCE
from recot.objectives.rows import Multinomial, SampledRowBCE
from recot.objectives.sequences import Cloze, DuoRec, NextGaussian, NextItem, NextItems
from recot.objectives.transport import Cosine, Sinkhorn, SinkhornCF
from recot.objectives.views import Contrast

VIEWS = Augmentation(["crop"], ratios={"crop": 0.5})
SIZES = {"dim": [0, -1], "max_length": [0]}
HEADS = {"n_layers": [0], "n_heads": [0, 3], "dropout": [-0.1, 1.0], "attention_dropout": [-0.1, 1.0]}
REFUSED = {  # group -> class -> what it is given besides, and the values it refuses
    "loss": {
        BPR: ({}, {"negatives": [0], "penalty": [-1.0]}), InfoNCE: ({}, {"tau": [0.0, -1.0]}),
        DirectAU: ({}, {"gamma": [-1.0]}), BCE: ({}, {"negatives": [-1]}), SampledRowBCE: ({}, {"negatives": [-1]}),
        Multinomial: ({}, {"beta": [-1.0], "anneal_steps": [-1]}), NextItem: ({}, {"negatives": [0, -1]}),
        NextGaussian: ({}, {"negatives": [0], "pvn": [-0.1]}),
        DuoRec: ({}, {"negatives": [1, -1], "tau": [0.0], "weight": [-0.1]}),
        NextItems: ({}, {"targets": [0], "negatives": [0], "max_length": [0]}),
        Cloze: ({}, {"ratio": [0.0, 1.1, -0.5], "last": [-0.1, 1.5]}),
        Sinkhorn: ({}, {"eps": [0.0, -1.0], "n_iters": [0], "beta": [-1.0], "anneal_steps": [-1, 0.5]}),
        SinkhornCF: ({}, {"weight": [-0.1], "concentration": [-0.1, 1.1], "k": [0], "eps": [0.0], "n_iters": [0],
                          "every": [0], "start_epoch": [-1], "max_rows": [0], "beta": [-1.0], "anneal_steps": [-1]})},
    "loss.cost": {Cosine: ({}, {"shrink": [-1.0], "topn": [0]})},
    "loss.contrast": {Contrast: ({"augmentation": VIEWS}, {
        "weight": [-0.1], "tau": [0.0], "group": [0], "warm_up": [-1]})},
    "denoiser": {
        IterativeRelabelling: ({}, {"a": [-0.1, 1.5], "b": [-0.1, 1.5], "plus": [-1], "lam": [0.0]}),
        TCE: ({}, {"eps_max": [-0.1, 1.0], "eps_steps": [0], "exponent": [0.0]}), RCE: ({}, {"beta": [-0.1]}),
        PopularitySmoothing: ({}, {"alpha": [-0.1, 1.1]}),
        SoftMatching: ({}, {"alpha": [-0.1, 1.1], "lam": [0.0], "n_iters": [-1], "momentum": [-0.1, 2.0],
                            "warmup_epochs": [-1]}),
        ProRec: ({}, {"gamma": [0.0], "lam": [-0.1, 1.5], "beta": [-1.0], "rank": [0], "n_iters": [0],
                      "tolerance": [-1.0], "exact_users": [0]})},
    "model": {
        SVD: ({}, {"rank": [0]}), NCE: ({}, {"rank": [0], "ridge": [0.0]}), ItemKNN: ({}, {"k": [0], "shrink": [-1.0]}),
        WRMF: ({}, {"rank": [0], "alpha": [-1.0], "ridge": [0.0], "sweeps": [0]})} | {
            kind: ({"n_users": 3, "n_items": 4}, wrong) for kind, wrong in {
                Tables: {"dim": [0]}, LightGCN: {"dim": [0], "n_layers": [-1], "edge_drop_max": [-0.1, 1.0]},
                BUIR: {"dim": [0], "momentum": [-0.1, 1.5]},
                Autoencoder: {"dim": [0], "hidden": [-1], "corruption": [-0.1, 1.0]}, SASRec: SIZES | HEADS,
                Stosa: SIZES | HEADS, BERT4Rec: SIZES | HEADS | {"max_length": [0, 1]},
                Caser: SIZES | {"n_vertical": [-1], "n_horizontal": [-1], "dropout": [-0.1, 1.0]}}.items()}}
CASES = [(group, kind, given, name, value) for group, kinds in REFUSED.items() for kind, (given, wrong) in kinds.items()
         for name, values in wrong.items() for value in values]


@pytest.mark.parametrize(("group", "kind", "given", "name", "value"), CASES,
                         ids=[f"{kind.__name__}-{name}-{value}" for _, kind, _, name, value in CASES])
def test_a_value_out_of_range_is_named_alone_with_its_path_and_a_remedy(group, kind, given, name, value):
    kind(**given)
    with pytest.raises(ValueError, match=rf"^{re.escape(f'{group}.{name} = {value}')} .*; give ") as refused:
        kind(**given, **{name: value})
    others = set(inspect.signature(kind).parameters) - {name}
    fault = str(refused.value).split(";")[0]
    assert not [other for other in others if re.search(rf"\.{other} = (?!{given.get(other, '64')})", fault)
                and (name, other) not in {("n_heads", "dim")}]


@pytest.mark.parametrize(("group", "kind", "given", "name", "value"), [
    case for case in CASES if isinstance(case[4], float)], ids=lambda value: None)
def test_what_is_no_number_is_refused_like_what_is_out_of_range(group, kind, given, name, value):
    with pytest.raises(ValueError, match=rf"^{re.escape(group)}\.{name} = nan "):
        kind(**given, **{name: math.nan})


def test_of_two_kinds_of_filters_one_may_have_none():
    Caser(3, 4, n_vertical=0)
    Caser(3, 4, n_horizontal=0)
    with pytest.raises(ValueError, match=r"^model\.n_vertical = 0 .* 1 or more where model\.n_horizontal is 0"):
        Caser(3, 4, n_vertical=0, n_horizontal=0)


def test_every_constructor_that_checks_a_range_is_in_the_list():
    known = {kind for kinds in REFUSED.values() for kind in kinds}
    modules = {inspect.getmodule(kind) for kind in known}
    for kind in {kind for module in modules for kind in vars(module).values()
                 if inspect.isclass(kind) and kind.__module__ == module.__name__}:
        assert "check(" not in inspect.getsource(kind.__init__) or kind in known or kind.__subclasses__()
