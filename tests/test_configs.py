"""Every file in conf composes, passes the check and builds; the command line beats presets, presets beat groups."""

import inspect
import itertools

import hydra.utils
import pytest
import torch
import yaml
from commands import composed, known
from hydra.errors import HydraException
from omegaconf import OmegaConf

from recot.data.interactions import Domain, Interactions
from recot.fit.gradient import Gradient
from recot.fit.rounds import Relabelled
from recot.fit.stages import Staged
from recot.networks.herograph import HeroGRAPH
from recot.networks.node2vec import Node2Vec
from recot.networks.sequential import Sequential
from recot.nn.table import Table
from recot.record.build import build, descends, make, rehearse
from recot.request.compose import CONF, explain
from recot.request.errors import RequestError
from recot.request.keys import relevant
from recot.request.nodes import SUPPLIED
from recot.request.signature import describe

DOMAINS = (Domain("films", 0, 3), Domain("books", 3, 7))


def choices_of(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def given(group, name):
    """What a choice needs besides its name."""
    return ["data.path=mine.csv"] if (group, name) == ("data", "csv") else []


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_every_file_parses_and_only_presets_write_outside_their_group(file):
    content = yaml.safe_load(file.read_text()) or {}
    assert isinstance(content, dict)
    brings_its_protocol = file.parent.name == "data" and "defaults" in content
    everywhere = file.parent.name == "model" or "tuned" in file.parts or brings_its_protocol
    assert file.read_text().startswith("# @package _global_\n") == everywhere


@pytest.mark.parametrize(("data", "protocol"), list(itertools.product(choices_of("data"), choices_of("protocol"))))
def test_every_data_set_goes_with_every_protocol(data, protocol):
    """But that data with parts of their own go with the protocol that takes them, and others with the others."""
    if (protocol == "given") != (data == "gowalla_public"):  # the only one
        with pytest.raises(RequestError, match="use protocol=given, or leave" if protocol != "given" else
                           "use protocol=topk"):
            composed(f"data={data}", f"protocol={protocol}", "model=popularity", *given("data", data))
        return
    config, choices = composed(f"data={data}", f"protocol={protocol}", "model=popularity", *given("data", data))
    assert (choices["data"], choices["protocol"]) == (data, protocol)
    assert describe(config["data"]["_target_"]) and config["protocol"]["monitor"]


@pytest.mark.parametrize("model", choices_of("model"))
def test_every_preset_composes_and_builds(model):
    config, choices = composed(f"model={model}", "trainer=smoke")
    recommender = build(config)
    assert choices["model"] == model
    if isinstance(recommender, Gradient):
        network = recommender.build(n_users=5, n_items=7)
        # One that knows users by their rows has no table of them; one that reads sequences knows a masked item besides.
        # One with a graph may have one of all its nodes.
        wanted = {8} if isinstance(network, Sequential) else {7} if network.inductive else {5, 7}
        wanted |= {5 + 7} if isinstance(network, HeroGRAPH) else set()
        wanted = {5 + 7} if isinstance(network, Node2Vec) else wanted
        assert {len(module.weight) for module in network.modules() if isinstance(module, Table)} == wanted
    elif isinstance(recommender, Relabelled):
        assert choices["denoiser"] == "iterative"
    elif isinstance(recommender, Staged):
        nothing = torch.zeros(0, dtype=torch.int64)
        recommender.untrained(Interactions.from_pairs(nothing, nothing, 5, 7, domains=DOMAINS))
        networks = [part for part in recommender.networks if isinstance(part, torch.nn.Module)]
        assert [*config["stages"]] == [*recommender.makes][:-1]
        assert len(networks) == descends(config) * (1 if config["domains"] == "joint" else 2)
    else:
        assert choices["loss"] == choices["denoiser"] == "none"


@pytest.mark.parametrize("model", choices_of("model"))
def test_every_preset_can_be_rehearsed(model):
    rehearse(known(f"model={model}", "trainer=smoke")[0])


@pytest.mark.parametrize("stage", ["pge", "pepnet", "lightgcn_joint"])
def test_stages_that_know_all_domains_can_stand_for_one_another(stage):
    """UCLR, Table 6. One of them has no vectors before it has met the pairs."""
    rehearse(composed("model=uclr", f"stage@stages.pretraining={stage}", "trainer=smoke")[0])


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in ("trainer", "logger", "noise", "data")
                                             for name in choices_of(group)])
def test_every_choice_of_a_group_is_what_its_target_takes(group, name):
    config, choices = composed(f"{group}={name}", *given(group, name))
    assert choices[group] == name and callable(make(config[group], _partial_=True))
    if group in ("trainer", "logger"):
        assert make(config[group]) is not None


@pytest.mark.parametrize(("loss", "denoiser"), list(itertools.product(choices_of("loss"), choices_of("denoiser"))))
def test_every_loss_and_denoiser_builds_or_is_refused_with_what_would_work(loss, denoiser):
    words = ("model=bprmf", f"loss={loss}", f"denoiser={denoiser}", "trainer=smoke")
    pointwise = {"bce", "sampledrowbce"}
    wanted = {"soft_matching": {"infonce"}, "smoothing": {"infonce"}, "tce": pointwise, "rce": pointwise}
    target = (yaml.safe_load((CONF / "loss" / f"{loss}.yaml").read_text(encoding="utf-8")) or {}).get("_target_")
    trained = describe(target).constants.get("networks", ()) if target else ()  # by this objective, and no others
    if not target or trained or loss not in wanted.get(denoiser, {loss}):
        remedy = f"use loss=|use model=({'|'.join(choices_of('model'))})[,;]"
        with pytest.raises(RequestError, match=remedy):
            composed(*words)
    elif denoiser in ("iterative", "prorec"):
        assert isinstance(build(known(*words)[0]), Relabelled)
    else:
        assert type(build(known(*words)[0]).objective).__name__.lower() == loss.split("_")[0]


@pytest.mark.parametrize("loss", [loss for loss in choices_of("loss") if loss != "bootstrap"])
def test_a_model_with_a_loss_of_its_own_takes_no_other(loss):
    with pytest.raises(RequestError, match="use loss=bootstrap, or another model|needs a loss"):
        composed("model=buir", f"loss={loss}", "denoiser=none")


@pytest.mark.parametrize("model", ["cdae", "vae", "vae_paper"])
def test_an_autoencoder_needs_an_objective_of_rows(model):
    with pytest.raises(RequestError, match="use loss=rowbce, loss=sampledrowbce, loss=multinomial, loss=sinkhorn, "
                                           "loss=sinkhorncf, or another model"):
        composed(f"model={model}", "loss=bpr")


def test_windows_are_as_long_as_what_the_network_reads_unless_they_are_asked_to_be_otherwise():
    assert composed("model=caser", "model.max_length=10")[0]["loss"]["max_length"] == 10
    assert composed("model=caser", "loss.max_length=7")[0]["model"]["max_length"] == 5


KNOBS = [(group, file) for group in ("loss", "denoiser", "noise", "logger", "model")
         for file in sorted((CONF / group).glob("*.yaml"))] + [("trainer", CONF / "trainer" / "default.yaml")]


@pytest.mark.parametrize(("group", "file"), KNOBS, ids=[f"{group}-{file.stem}" for group, file in KNOBS])
def test_every_parameter_of_the_constructor_is_in_the_file(group, file):
    content = yaml.safe_load(file.read_text()) or {}
    node = content.get("model", content)
    if "_target_" in node:
        knobs = set(describe(node["_target_"]).parameters) - SUPPLIED.get(group, set())
        assert set(node) - {"_target_", "_partial_"} == knobs


@pytest.mark.parametrize(("group", "file"), KNOBS, ids=[f"{group}-{file.stem}" for group, file in KNOBS])
def test_a_value_that_is_not_the_constructors_default_says_why(group, file):
    content = yaml.safe_load(file.read_text()) or {}
    node = content.get("model", content)
    if "_target_" not in node:
        return
    parameters = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    for name, parameter in parameters.items():
        if name in node and parameter.default not in (inspect.Parameter.empty, float_of(node[name])):
            lines = [line for line in file.read_text().splitlines() if line.strip().startswith(f"{name}:")]
            assert "#" in lines[0], f"{name}: {node[name]}, and the default of the constructor is {parameter.default}"


def float_of(value):
    """``1e-3`` is a text to plain YAML and a number to OmegaConf."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def test_a_preset_chooses_its_loss_and_denoiser_and_the_command_line_beats_it():
    assert composed("model=sclrec")[1]["denoiser"] == "soft_matching"
    config, choices = composed("model=sclrec", "denoiser=none", "loss=bpr", "trainer.weight_decay=0.5")
    assert (choices["loss"], choices["denoiser"], config["trainer"]["weight_decay"]) == ("bpr", "none", 0.5)


def test_sclrec_without_its_denoiser_is_clrec():
    assert relevant(composed("model=sclrec", "denoiser=none")[0]) == relevant(composed("model=clrec")[0])


@pytest.mark.parametrize("words", [("trainer=smoke", "model=sclrec"), ("model=sclrec", "trainer=smoke")])
def test_a_trainer_and_a_preset_both_count_in_any_order(words):
    trainer = composed(*words)[0]["trainer"]
    assert (trainer["max_epochs"], trainer["weight_decay"], trainer["learning_rate"]) == (40, 1e-6, 1e-3)


def test_a_tuned_file_applies_to_exactly_its_model_loss_and_denoiser():
    def tau(*words):
        return composed(*words)[0]["loss"].get("tau")

    assert tau("model=sclrec", "data=gowalla") == tau("model=clrec", "data=gowalla") == 0.12
    assert tau("model=sclrec", "data=gowalla", "loss.tau=0.3") == 0.3
    assert tau("model=sclrec", "data=gowalla", "denoiser=none") == 0.2   # the file of clrec is not that of sclrec
    assert tau("model=sclrec", "data=planted") == 0.2
    assert tau("model=bprmf", "data=gowalla") is None


def test_each_tuned_file_is_named_after_choices_that_exist():
    for file in (CONF / "tuned").rglob("*.yaml"):
        model, loss, denoiser = file.stem.split("-")
        known(f"data={file.parent.name}", f"model={model}", f"loss={loss}", f"denoiser={denoiser}")


@pytest.mark.parametrize("file", sorted((CONF / "tuned" / "beauty").glob("*.yaml")), ids=lambda file: file.stem)
def test_settings_that_were_found_on_office_are_those_of_beauty_too(file):
    choices = dict(zip(("model", "loss", "denoiser"), file.stem.split("-"), strict=True))
    words = [f"{group}={choice}" for group, choice in choices.items()]
    here, there, preset = (known(*words, f"data={data}", *rest)[0]
                           for data, rest in (("beauty", ()), ("office", ()), ("beauty", ("~tuned",))))
    methods = [{group: config[group] for group in ("model", "loss", "trainer")} for config in (here, there, preset)]
    assert methods[0] == methods[1]
    assert (methods[0] == methods[2]) == (choices["model"] == "stosa_released")  # whose preset won


def test_records_and_cache_move_with_their_variables_and_with_the_command_line(monkeypatch):
    monkeypatch.setenv("RECOT_RUNS", "elsewhere")
    monkeypatch.delenv("RECOT_CACHE", raising=False)
    assert composed()[0]["paths"] == {"runs": "elsewhere", "cache": None}
    assert composed("paths.cache=there", "paths.runs=here")[0]["paths"] == {"runs": "here", "cache": "there"}
    monkeypatch.delenv("RECOT_RUNS")
    assert composed()[0]["paths"]["runs"] == "runs"


def test_the_metrics_of_the_protocol_are_reported_unless_others_are_asked_for():
    config = composed()[0]
    assert config["metrics"] == config["protocol"]["metrics"]
    assert composed("metrics=[hr@5]")[0]["metrics"] == ["hr@5"]


def test_a_recipe_is_of_a_model_with_one_loss_and_another_loss_gets_the_rest_of_the_preset():
    config, _ = composed("model=lightgcn", "loss=infonce")
    assert config["loss"]["batch_size"] == 2048 and "penalty" not in config["loss"]
    assert composed("model=lightgcn")[0]["loss"]["penalty"] == 1e-4
    with pytest.raises(HydraException) as error:
        composed("model=lightgcn", "loss=infonce", "loss.penalty=0.5")
    assert "loss.penalty: Key 'penalty' is not in struct. Known: " in explain(error.value)
    with pytest.raises(RequestError, match="loss.penalty is not a parameter of InfoNCE"):
        composed("model=lightgcn", "loss=infonce", "+loss.penalty=0.5")


def test_what_is_typed_wins_over_a_recipe_which_follows_the_preset():
    assert composed("model=lightgcn", "loss.penalty=0.5")[0]["loss"]["penalty"] == 0.5
    assert composed("model=caser", "model.max_length=7")[0]["loss"]["max_length"] == 7


@pytest.mark.parametrize("recipe", choices_of("recipe"))
def test_a_recipe_applies_to_a_preset_with_the_loss_that_it_chooses(recipe):
    model, _, loss = recipe.rpartition("-")
    config, choices = composed(f"model={model}", "~tuned")
    settings = OmegaConf.load(CONF / "recipe" / f"{recipe}.yaml")
    assert (choices["loss"], choices["recipe"]) == (loss, recipe) and settings
    assert config["loss"].keys() >= settings.keys()
    assert not settings.keys() & yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text()).get("loss", {}).keys()


@pytest.mark.parametrize("loss", ["nextitem", "bpr", "duorec"])
def test_a_loss_that_a_model_cannot_be_trained_on_is_answered_with_one_that_it_can(loss):
    with pytest.raises(RequestError, match=f"model=caser needs loss=nextitems, and loss={loss} gives it nothing"):
        composed("model=caser", f"loss={loss}")


@pytest.mark.parametrize("word", ["data.path=/tmp/données.csv", "data.path=my file (1).csv", "data.path=a=b.csv"])
def test_a_value_that_hydra_cannot_read_is_told_to_be_quoted(word):
    name, _, value = word.partition("=")
    with pytest.raises(HydraException) as error:
        composed("data=csv", word)
    assert f"{word}: Hydra cannot read this value; put it in quotes of its own" in explain(error.value)
    assert composed("data=csv", f'{name}="{value}"', "model=popularity")[0]["data"]["path"] == value


def test_a_name_in_other_letters_is_found():
    with pytest.raises(HydraException) as error:
        composed("model=SCLRec")
    assert explain(error.value) == "model=SCLRec: there is no such choice. Did you mean 'sclrec'?"
