"""What classes claim of themselves, asked of every preset and of every pair of classes: see recot/nn/contracts.py."""

import copy
import inspect
import re
from contextlib import suppress
from dataclasses import replace
from functools import cache

import contracts
import pytest
import torch
from commands import known as composed
from omegaconf import OmegaConf
from small import asked, briefly, plain

from recot.data.domains import of
from recot.data.interactions import Domain
from recot.data.questions import Query
from recot.fit.rounds import Relabelled
from recot.fit.stages import Staged
from recot.networks.recsys_dan import Source
from recot.nn import contracts as documented
from recot.nn.contracts import Before
from recot.record.build import ask_questions, build, descends, make
from recot.request import claims, schema
from recot.request.compose import CONF
from recot.request.errors import RequestError
from recot.request.kinds import KINDS
from recot.request.presets import building

KEPT = {"loss": contracts.OBJECTIVES, "model": [*contracts.NETWORKS, *contracts.CLOSED_FORMS],
        "denoiser": [*contracts.OF_PAIRS, *contracts.RELABELLERS, *contracts.RELABELLERS_OF_NETWORKS]}
BASES = {"recot.networks.base.TwoTower", "recot.networks.sequential.Sequential", "recot.networks.uclr.Coded",
         "recot.networks.domains.ByDomain",
         "recot.denoise.base.Relabelling", "recot.closed.controls.Changed", "recot.closed.factors.Factors",
         "recot.closed.items.ItemToItem"}
"""What a config may name although its methods are left to subclasses."""

PRESETS = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))
SMALL = ("trainer=smoke", "data.n_users=60", "data.mean_activity=8")


def path(part):
    return f"{part.__module__}.{part.__qualname__}"


def target(group, name):
    """What a file of a group builds."""
    return re.search(rf"^(?:{group}:\n  )?_target_: (\S+)", (CONF / group / f"{name}.yaml").read_text(), re.M)[1]


@pytest.mark.parametrize("group", KEPT)
def test_everything_that_a_config_can_name_is_held_against_its_contract(group):
    assert {path(part) for part in KEPT[group]} == set(KINDS[group].known()) - BASES


def test_every_constant_that_a_request_is_checked_by_is_documented():
    read = set(re.findall(r'constants\.get\("(\w+)"', inspect.getsource(claims)))
    table = set(re.findall(r"^(\w+) {2,}(?:networks|closed forms|objectives|relabelling)", documented.__doc__, re.M))
    assert read and table == read | {"undecayed", "by_domain", "starts_fitted", "alike"}


@pytest.mark.parametrize("part", [part for parts in KEPT.values() for part in parts], ids=path)
def test_what_a_class_works_with_can_be_asked_for(part):
    """A misspelt name would refuse everything, and the remedy of a refusal is the name in small letters, or of networks
    that are stages of others, the presets that build them.
    """
    for name in getattr(part, "objectives", ()):
        assert target("loss", name.lower()).rpartition(".")[2] == name
    for name in getattr(part, "networks", ()) if part in contracts.OBJECTIVES else ():
        found = [target("model", preset).rpartition(".")[2] for preset in building([name])]
        assert found and set(found) == {name}


def small(preset):
    """The words by which a preset is asked for a moment's work."""
    return (f"model={preset}", *SMALL, *asked(preset, "protocol=sequence"),
            *briefly(preset, dim=32, max_epochs=1, batch_size=256, per_node=1, passes=1, steps=1))


@cache
def split(*words):
    config = composed(*words)[0]
    return ask_questions(config, make(config["data"]).load())


@cache
def ready(*words):
    """What scores: a closed form that is fitted, and networks as they are drawn, which need no training to keep a
    claim.
    """
    config = composed(*words)[0]
    model = build(config)
    model = model.make(None, print) if isinstance(model, Relabelled) else model
    return model.untrained(split(*words).train) if descends(config) else model.fit(split(*words))


def claimed(model, claim):
    """What the network or closed form that scores says of itself, or each of them."""
    [said] = {getattr(part, claim, False) for part in model.networks}
    return said


@pytest.mark.parametrize("preset", PRESETS)
def test_a_request_is_checked_by_what_the_built_model_claims(preset):
    """That the claim is true is asked by test_conformance.py."""
    words = (f"model={preset}", *SMALL, "protocol=sequence", "protocol.split.portion=0.5")
    if claimed(ready(*small(preset)), "inductive") and not plain(preset)["stages"]:
        composed(*words)
    else:
        with pytest.raises(RequestError, match="leaves users without a vector"):
            composed(*words)


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if ".networks." in target("model", preset)])
def test_a_network_that_is_not_inductive_depends_on_the_user_id_and_another_does_not(preset):
    query, model = split(*small(preset)).test[0].query, ready(*small(preset))
    others = Query(query.users.roll(1), query.history)
    assert claimed(model, "inductive") == torch.equal(model.score(query), model.score(others))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_order_of_a_history_counts_where_the_class_says_so_and_nowhere_else(preset):
    query, model = split(*small(preset)).test[0].query, ready(*small(preset))
    turned = replace(query.history, values=query.history.values.flip(0), offsets=len(query.history.values)
                     - query.history.offsets.flip(0))  # rows from last to first, each back to front
    backwards, scores = model.score(Query(query.users.flip(0), turned)).flip(0), model.score(query)
    assert claimed(model, "ordered") != torch.allclose(scores, backwards, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preset", sorted(preset for preset in PRESETS if ".closed." in target("model", preset)))
def test_a_closed_form_is_fitted_by_weights_where_its_class_says_so_and_nowhere_else(preset):
    given, model = split(*small(preset)), build(composed(*small(preset))[0])
    weights = torch.where(torch.arange(len(given.train)) % 3 == 0, 0.25, 1.0)
    if isinstance(model, Staged):  # a stage before it is trained by a loss, which heeds weights
        *earlier, (_, last) = model.makes.items()
        before = Before(tuple(Staged(dict(earlier)).fit(given).networks), given.train.domains)
        model = last(before, None, print)
    weighted = model.fit(replace(given, train=given.train.reweighted(weights)))
    scores = [model.score(given.test[0].query) for model in (ready(*small(preset)), weighted)]
    assert claimed(weighted, "weighted") != torch.allclose(*scores)


@pytest.mark.parametrize("denoiser", [*contracts.RELABELLERS, *contracts.RELABELLERS_OF_NETWORKS])
def test_a_relabeller_keeps_the_pairs_where_its_class_says_that_it_weighs_and_nowhere_else(denoiser):
    train, network = split(*small("bprmf")).train, ready(*small("bprmf")).scorer
    with torch.no_grad():
        found = denoiser().relabel(train, train, network)
    assert getattr(denoiser, "weighs", False) == torch.equal(found.keys, train.keys)
    assert getattr(denoiser, "weighs", False) != bool((found.weights == 1).all())


@pytest.mark.parametrize("network", contracts.NETWORKS)
def test_the_parameters_that_are_spared_from_decay_exist_in_a_preset(network):
    drawn = [ready(*ALONE[network])] if network in ALONE else [
        ready(*small(preset)) for preset in PRESETS if target("model", preset) == path(network)]
    named = {name for model in drawn for name, _ in model.networks[0].named_parameters()}
    assert named and set(network.undecayed) <= named


ALONE = {Source: ("model=pge", f"model._target_={path(Source)}", "~model.score", *SMALL, "protocol=sequence")}
"""How a network is built that presets have as an earlier stage alone."""
FIRST = ALONE | {part: small(min(preset for preset in PRESETS if target("model", preset) == path(part)))
                 for part in contracts.NETWORKS if part not in ALONE}
ABLE = {**dict.fromkeys([*contracts.ON_SEQUENCES, *contracts.ON_PREFIXES], contracts.SEQUENCE_ENCODERS),
        **dict.fromkeys(contracts.ON_MASKED, contracts.CLOZE_ENCODERS),
        **dict.fromkeys(contracts.BOOTSTRAPPED, contracts.BOOTSTRAP_ENCODERS),
        **dict.fromkeys(contracts.BY_DOMAIN, contracts.DOMAIN_ENCODERS),
        **dict.fromkeys(contracts.TRANSFERRED, contracts.TRANSFER_ENCODERS),
        **dict.fromkeys(contracts.ON_MASKED_USERS, contracts.MASKING_ENCODERS),
        **dict.fromkeys(contracts.ON_WALKS, contracts.NODE_ENCODERS),
        **dict.fromkeys(contracts.ALTERNATING, contracts.TOWER_ENCODERS)}
"""The networks that have what an objective asks for beyond vectors of users and items."""


@cache
def loss_of(objective):
    """The file of an objective. What takes other values than those of files is told so."""
    name = objective.__name__.lower()
    read = OmegaConf.to_container(OmegaConf.load(CONF / "loss" / f"{name}.yaml"))
    return read | ({"weighting": "equal"} if name == "rowbce" else {})


def paired(network, objective):
    """The checked request that pairs the two, as it would be composed."""
    config, choices = composed(*FIRST[network])
    paired = config | {"loss": loss_of(objective), "denoiser": {"_target_": "recot.denoise.base.Denoiser"}}
    resolved = OmegaConf.to_container(OmegaConf.create(paired), resolve=True)
    return schema.check(resolved, choices | {"loss": objective.__name__.lower(), "denoiser": "none"})


@cache
def refused(network, objective):
    try:
        paired(network, objective)
    except RequestError as error:
        assert re.search(" needs loss=| works only with ", str(error)), error
        return True
    return False


def module(network):
    """The first that its preset is made of, as it is drawn."""
    return ready(*FIRST[network]).networks[0]


def pairs(network):
    """What that one learns from."""
    train = split(*FIRST[network]).train
    if composed(*FIRST[network])[0]["domains"] != "joint":
        return of(train, train.domains[:1])
    return replace(train, domains=train.domains or (Domain("all", 0, train.n_items),))


def step(network, objective, denoiser=None):
    """The mean loss of the first batch of an epoch."""
    torch.manual_seed(0)
    batches = objective.batches(pairs(type(network)), torch.Generator().manual_seed(0), network, 0)
    batch = next(batches) if denoiser is None else denoiser.before(next(batches), network)
    loss, batch = objective(network, batch)
    return (loss if denoiser is None else denoiser.after(loss, batch)).float().mean()


@pytest.mark.parametrize("objective", contracts.OBJECTIVES)
@pytest.mark.parametrize("network", contracts.NETWORKS)
def test_what_is_not_refused_together_makes_a_step(network, objective):
    if refused(network, objective):
        return
    built = module(network).train()
    built.zero_grad()
    loss = step(built, make(paired(network, objective)["loss"]))
    built.eval()
    loss.backward()
    assert loss.isfinite() and any(bool(part.grad.any()) for part in built.parameters() if part.grad is not None)


@pytest.mark.parametrize(("network", "objective"), [(network, objective) for objective, able in ABLE.items()
                                                    for network in contracts.NETWORKS if network not in able])
def test_an_objective_is_refused_with_networks_that_lack_what_it_asks_for(network, objective):
    with pytest.raises(RequestError, match="needs loss=|works only with"):
        paired(network, objective)
    with pytest.raises((AttributeError, TypeError), match="has no attribute|object is not callable"):
        step(module(network), objective())


@pytest.mark.parametrize("denoiser", [part for part in contracts.OF_PAIRS if part.objectives])
@pytest.mark.parametrize("objective", contracts.OBJECTIVES)
def test_a_denoiser_acts_on_the_objectives_that_its_class_names_and_on_no_other(denoiser, objective):
    network = next(network for network in contracts.NETWORKS if not refused(network, objective))
    built, loss = module(network), make(paired(network, objective)["loss"])
    made = denoiser(eps_steps=1) if denoiser.__name__ == "TCE" else denoiser()
    made.bind(built, pairs(network))
    made.after_step(built)  # what T-CE leaves out grows with the steps
    alone = step(*copy.deepcopy((built, loss)))  # some learn on their way
    if objective.__name__ in denoiser.objectives:
        assert step(built, loss, made) != alone
    else:
        with suppress(AttributeError, TypeError):  # of batches that lack what the denoiser reads
            assert step(built, loss, made) == alone
