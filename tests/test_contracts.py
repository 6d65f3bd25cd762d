"""What classes claim of themselves, asked of every preset and of every pair of classes: see recot/nn/contracts.py."""

import inspect
import re
from contextlib import suppress
from dataclasses import replace
from functools import cache

import contracts
import pytest
import torch
from commands import known as composed

from recot.data.domains import of
from recot.data.questions import Query
from recot.fit.rounds import Relabelled
from recot.nn import contracts as documented
from recot.record.build import ask_questions, build, make
from recot.request import schema
from recot.request.compose import CONF
from recot.request.errors import RequestError
from recot.request.kinds import KINDS
from recot.request.presets import building

KEPT = {"loss": contracts.OBJECTIVES, "model": [*contracts.NETWORKS, *contracts.CLOSED_FORMS],
        "denoiser": [*contracts.OF_PAIRS, *contracts.RELABELLERS, *contracts.RELABELLERS_OF_NETWORKS]}
BASES = {"recot.networks.base.TwoTower", "recot.networks.domains.ByDomain", "recot.networks.sequential.Sequential",
         "recot.networks.uclr.Coded", "recot.denoise.base.Relabelling", "recot.closed.controls.Changed",
         "recot.closed.factors.Factors", "recot.closed.items.ItemToItem"}
"""What a config may name although its methods are left to subclasses."""

PRESETS = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))
SMALL = ("trainer=smoke", "data.n_users=60", "data.mean_activity=8", "data.n_domains=2", "protocol=sequence")


def path(part):
    return f"{part.__module__}.{part.__qualname__}"


def target(group, name):
    """What a file of a group builds."""
    return re.search(rf"^(?:{group}:\n  )?_target_: (\S+)", (CONF / group / f"{name}.yaml").read_text(), re.M)[1]


@pytest.mark.parametrize("group", KEPT)
def test_everything_that_a_config_can_name_is_held_against_its_contract(group):
    assert {path(part) for part in KEPT[group]} == set(KINDS[group].known()) - BASES


def test_every_constant_that_a_request_is_checked_by_is_documented():
    read = set(re.findall(r'constants\.get\("(\w+)"', inspect.getsource(schema)))
    table = set(re.findall(r"^(\w+) {2,}(?:networks|closed forms|objectives|relabelling)", documented.__doc__, re.M))
    assert read and table == read | {"undecayed", "by_domain", "starts_fitted"}


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


@cache
def split(preset):
    config = composed(f"model={preset}", *SMALL)[0]
    return ask_questions(config, make(config["data"]).load())


@cache
def ready(preset):
    """What scores: a closed form that is fitted, and a network as it is drawn, which needs no training to keep a claim.
    """
    model = build(composed(f"model={preset}", *SMALL)[0])
    model = model.make(None, print) if isinstance(model, Relabelled) else model
    if ".closed." in target("model", preset):
        return model.fit(split(preset))
    return model.untrained(split(preset).train).networks[0].eval()


def trained_on(preset):
    """The pairs that the network of :func:`ready` learns from: those of the first domain, where each has one."""
    train = split(preset).train
    return train if composed(f"model={preset}", *SMALL)[0]["domains"] == "joint" else of(train, train.domains[:1])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_request_is_checked_by_what_the_built_model_claims(preset):
    """That the claim is true is asked by test_conformance.py."""
    words = (f"model={preset}", *SMALL, "protocol.split.portion=0.5")
    if ready(preset).inductive:
        composed(*words)
    else:
        with pytest.raises(RequestError, match="leaves users without a vector"):
            composed(*words)


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if ".networks." in target("model", preset)])
def test_a_network_that_is_not_inductive_depends_on_the_user_id_and_another_does_not(preset):
    query = split(preset).test[0].query
    others = Query(query.users.roll(1), query.history)
    scores = [ready(preset).score(asked) for asked in (query, others)]
    assert ready(preset).inductive == torch.equal(*scores)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_order_of_a_history_counts_where_the_class_says_so_and_nowhere_else(preset):
    query = split(preset).test[0].query
    turned = replace(query.history, values=query.history.values.flip(0), offsets=len(query.history.values)
                     - query.history.offsets.flip(0))  # rows from last to first, each back to front
    backwards = ready(preset).score(Query(query.users.flip(0), turned)).flip(0)
    scores = ready(preset).score(query)
    assert getattr(ready(preset), "ordered", False) != torch.allclose(scores, backwards, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preset", sorted(preset for preset in PRESETS if ".closed." in target("model", preset)
                                          and not composed(f"model={preset}")[0]["stages"]))
def test_a_closed_form_is_fitted_by_weights_where_its_class_says_so_and_nowhere_else(preset):
    given = split(preset)
    weights = torch.where(torch.arange(len(given.train)) % 3 == 0, 0.25, 1.0)
    weighted = build(composed(f"model={preset}", *SMALL)[0]).fit(replace(given, train=given.train.reweighted(weights)))
    scores = [model.score(given.test[0].query) for model in (ready(preset), weighted)]
    assert getattr(weighted, "weighted", False) != torch.allclose(*scores)


@pytest.mark.parametrize("denoiser", [*contracts.RELABELLERS, *contracts.RELABELLERS_OF_NETWORKS])
def test_a_relabeller_keeps_the_pairs_where_its_class_says_that_it_weighs_and_nowhere_else(denoiser):
    train, network = split("bprmf").train, ready("bprmf")
    with torch.no_grad():
        found = denoiser().relabel(train, train, network)
    assert getattr(denoiser, "weighs", False) == torch.equal(found.keys, train.keys)
    assert getattr(denoiser, "weighs", False) != bool((found.weights == 1).all())


LAST = [part for part in contracts.NETWORKS if any(target("model", preset) == path(part) for preset in PRESETS)]
"""The networks of presets; some are of earlier stages alone, see tests/networks/test_stages.py."""


@pytest.mark.parametrize("network", LAST)
def test_the_parameters_that_are_spared_from_decay_exist_in_a_preset(network):
    named = {name for preset in PRESETS if target("model", preset) == path(network)
             for name, _ in ready(preset).named_parameters()}
    assert named and set(network.undecayed) <= named


FIRST = {part: min(preset for preset in PRESETS if target("model", preset) == path(part)) for part in LAST}
ABLE = {**dict.fromkeys([*contracts.ON_SEQUENCES, *contracts.ON_PREFIXES], contracts.SEQUENCE_ENCODERS),
        **dict.fromkeys(contracts.ON_MASKED, contracts.CLOZE_ENCODERS),
        **dict.fromkeys(contracts.BOOTSTRAPPED, contracts.BOOTSTRAP_ENCODERS),
        **dict.fromkeys(contracts.BY_DOMAIN, [part for part in contracts.NETWORKS if part.by_domain]),
        **dict.fromkeys(contracts.TRANSFERRED, contracts.TRANSFER_ENCODERS),
        **dict.fromkeys(contracts.ON_MASKED_USERS, contracts.MASKING_ENCODERS),
        **dict.fromkeys(contracts.ON_WALKS, contracts.NODE_ENCODERS),
        **dict.fromkeys(contracts.ALTERNATING, contracts.TOWER_ENCODERS),
        **dict.fromkeys([*contracts.ON_USERS, *contracts.ON_USER_PAIRS], contracts.CODED_ENCODERS)}
"""The networks that have what an objective asks for beyond vectors of users and items."""


def words(network, objective):
    """A request that pairs the two. What takes other values than those of files is told so."""
    loss = objective.__name__.lower()
    return (f"model={FIRST[network]}", f"loss={loss}", "denoiser=none", *SMALL,
            *["loss.weighting=equal"] * (loss == "rowbce"))  # only an autoencoder hides items


@cache
def refused(network, objective):
    try:
        composed(*words(network, objective))
    except RequestError:
        return True
    return False


def step(network, objective, denoiser=None):
    """The mean loss of the first batch of an epoch."""
    torch.manual_seed(0)
    batches = objective.batches(trained_on(FIRST[type(network)]), torch.Generator().manual_seed(0), network, 0)
    batch = next(batches) if denoiser is None else denoiser.before(next(batches), network)
    loss, batch = objective(network, batch)
    return (loss if denoiser is None else denoiser.after(loss, batch)).float().mean()


@pytest.mark.parametrize("objective", contracts.OBJECTIVES)
@pytest.mark.parametrize("network", LAST)
def test_what_is_not_refused_together_makes_a_step(network, objective):
    if refused(network, objective):
        return
    module = ready(FIRST[network]).train()
    module.zero_grad()
    loss = step(module, make(composed(*words(network, objective))[0]["loss"]))
    module.eval()
    loss.backward()
    assert loss.isfinite() and any(bool(part.grad.any()) for part in module.parameters() if part.grad is not None)


@pytest.mark.parametrize(("network", "objective"), [(network, objective) for objective, able in ABLE.items()
                                                    for network in LAST if network not in able])
def test_an_objective_is_refused_with_networks_that_lack_what_it_asks_for(network, objective):
    with pytest.raises(RequestError, match="needs loss=|works only with"):
        composed(*words(network, objective))
    with pytest.raises((AttributeError, TypeError), match="has no attribute|is not callable"):
        step(ready(FIRST[network]), objective())


@pytest.mark.parametrize("denoiser", [part for part in contracts.OF_PAIRS if part.objectives])
@pytest.mark.parametrize("objective", [part for part in contracts.OBJECTIVES if part not in contracts.TRANSFERRED])
def test_a_denoiser_acts_on_the_objectives_that_its_class_names_and_on_no_other(denoiser, objective):
    network = next(network for network in LAST if not refused(network, objective))
    module, loss = ready(FIRST[network]), make(composed(*words(network, objective))[0]["loss"])
    made = denoiser(eps_steps=1) if denoiser.__name__ == "TCE" else denoiser()
    made.bind(module, trained_on(FIRST[network]))
    made.after_step(module)  # what T-CE leaves out grows with the steps
    with torch.no_grad():
        plain = step(module, loss)
        if objective.__name__ in denoiser.objectives:
            assert step(module, loss, made) != plain
        else:
            with suppress(AttributeError, TypeError):  # of batches that lack what the denoiser reads
                assert step(module, loss, made) == plain
