"""What all networks promise that go on from a stage before, or come before one."""

import pytest
import torch
import torch.distributed.tensor  # an optimiser imports it, and lent() has then replaced a type that it names
from card import Card, held, lent
from domains import DOMAINS, before, domain_interactions, joint, question

from recot.fit.rmsprop import RMSProp
from recot.networks import uclr
from recot.networks.cat_art import ART, CAT
from recot.networks.factorisation import Tables
from recot.networks.ga_mtcdr import GA_MTCDR
from recot.networks.node2vec import Node2Vec
from recot.networks.pepnet import PEPNet
from recot.networks.recsys_dan import RecSys_DAN, Source
from recot.networks.uclr import ContrastiveAutoencoder
from recot.nn.contracts import Before
from recot.nn.table import clear_gradients
from recot.objectives.alternating import AlternatingBCE
from recot.objectives.contrast import Adapted, Contrastive, Temperatures
from recot.objectives.masking import MaskedDomains
from recot.objectives.pairs import BPR
from recot.objectives.transfer import Adversarial
from recot.objectives.walks import SkipGram

N_USERS, N_ITEMS, FIRST = 24, DOMAINS[-1].stop, DOMAINS[0].stop


def cat():
    return CAT(N_USERS, N_ITEMS, DOMAINS, before(N_USERS, dim=4))


def art():
    return ART(N_USERS, FIRST, Before((cat().eval(),), DOMAINS, 0))


def ga():
    return GA_MTCDR(N_USERS, N_ITEMS, DOMAINS, before(N_USERS, dim=4), width_factor=2)


def walking():
    return Node2Vec(N_USERS, FIRST, dim=4)


def source():
    network = Source(N_USERS, N_ITEMS, dim=4, std=0.5)
    network.bind(joint(torch.Generator().manual_seed(3), N_USERS))
    return network


def target():
    return RecSys_DAN(N_USERS, FIRST, Before((source(),), DOMAINS, 0))


def pepnet():
    return PEPNet(N_USERS, N_ITEMS, DOMAINS, dim=4, std=0.5)


def coded():
    first = Before((Tables(N_USERS, N_ITEMS, dim=6).eval(),), DOMAINS)
    return ContrastiveAutoencoder(N_USERS, N_ITEMS, first, code=4, hidden=5)


def adapted():
    return uclr.Adapted(N_USERS, FIRST, Before((coded().eval(),), DOMAINS, 0), rank=2)


STEPS = {"cat": (cat, MaskedDomains(8), joint), "art": (art, BPR(8), domain_interactions),
         "ga": (ga, AlternatingBCE(32), joint), "ga-p": (ga, AlternatingBCE(32, personalised=True), joint),
         "pepnet": (pepnet, BPR(8), joint), "source": (source, BPR(8, scope="domain"), joint),
         "target": (target, Adversarial(8), domain_interactions), "tuned": (target, Adversarial(8, eta=0.0),
                                                                            domain_interactions),
         "node2vec": (walking, SkipGram(8), domain_interactions),
         "coded": (coded, Contrastive(8), joint), "coded-alone": (coded, Contrastive(8, masked_negatives=False), joint),
         "coded-features": (coded, Contrastive(8, mask="feature"), joint),
         "coded-average": (coded, Contrastive(8, temperatures=Temperatures("rho", gamma=0.9, grad_clip=1.0)), joint),
         "autoencoder": (coded, Contrastive(8, streams=1), joint),
         "adapted": (adapted, Adapted(8, penalty=1e-3), domain_interactions),
         "adapted-alone": (adapted, Adapted(8, stage2_weight=0), domain_interactions)}


def prepared(name):
    """A network, its objective and what both are trained on."""
    make, objective, draw = STEPS[name]
    torch.manual_seed(0)
    network, train = make(), draw(torch.Generator().manual_seed(0), N_USERS)
    return network, objective, train if draw is joint else train[0]


@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "weighted"])
@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits_for_the_device(name, weighted):
    network, objective, train = prepared(name)
    train = train.reweighted(torch.linspace(0, 1, len(train))) if weighted else train
    with Card() as card, lent():
        network, train = held(network), held(train)
        network.bind(train)
        optimizer = RMSProp(network.parameters(), 1e-3)
        batches = objective.batches(train, torch.Generator().manual_seed(0), network, 0)
        for stage in (None, "here", "here"):
            card.stage = stage if stage is None else "drawing"
            batch = next(batches)
            card.stage = stage
            loss = objective(network, batch)[0].mean()
            loss.backward()
            optimizer.step()
            clear_gradients(network)
            network.after_step()
        card.stage = None
        assert bool(loss.detach().isfinite())
    assert not card.waits


@pytest.mark.parametrize("name", STEPS)
def test_a_network_is_its_state_and_needs_no_fitted_stage_to_be_read(name):
    network, _, train = prepared(name)
    network.bind(train)
    torch.manual_seed(7)
    other = STEPS[name][0]()
    for tensor in other.state_dict().values():
        tensor.div_(2, rounding_mode=None if tensor.is_floating_point() else "floor")
    other.load_state_dict(network.state_dict())
    other.bind(train)
    query = question(0, 5, 11)
    assert other.eval().score(query).equal(network.eval().score(query))


@pytest.mark.parametrize("name", STEPS)
def test_scores_are_those_of_chosen_items_and_the_products_of_vectors(name):
    network, _, train = prepared(name)
    network.bind(train)
    network.eval()
    query, some = question(3, 8), torch.tensor([[0, 2, 4], [1, 1, 3]])
    with torch.no_grad():
        scores = network.score(query)
        torch.testing.assert_close(network.score_of(query, some), scores.gather(1, some))
        torch.testing.assert_close(network.similarity(network.users(query), network.items()), scores)
        assert scores.shape == (2, train.n_items)


@pytest.mark.parametrize("name", STEPS)
def test_under_autocast_losses_are_float32_and_near_those_without(name, rng):
    network, objective, train = prepared(name)
    network.bind(train)
    network.eval()
    batch = next(objective.batches(train, rng, network, 0))
    plain = objective(network, batch)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective(network, batch)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.mean(), plain.mean(), rtol=0.05, atol=0.01)
