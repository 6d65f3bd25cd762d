"""The schema is the constructor: what is read from source, what fits, and what every refusal says."""

import ast
import copy
import re
import sys
import textwrap

import pytest
import torch
from commands import composed

from recot.request.errors import RequestError, nearest
from recot.request.nodes import canonical, check_target, targets
from recot.request.schema import check, metric_names
from recot.request.signature import describe, fits


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package called ``plug`` of one module ``plug.shapes``, never imported by the schema."""
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "__init__.py").touch()
    (tmp_path / "plug" / "shapes.py").write_text(textwrap.dedent("""
        from dataclasses import dataclass
        from typing import Literal
        from recot.networks.factorisation import Tables
        raise RuntimeError("this module was executed")

        Kind = Literal["round", "square"]

        class Base:
            colours = ("red",)
            size: int = 3
            computed = len("red")
            def __init__(self, width: int, *, depth: float = 1.0): ...

        class Child(Base):
            sides = 4

        class Other(Base):
            def __init__(self, kind: Kind = "round"): ...

        @dataclass
        class Plain:
            a: int
            b: float = 1.0

        @dataclass(frozen=True)
        class Longer(Plain):
            c: str = "x"

        class Network(Tables): ...

        @dataclass
        class Own:
            a: int
            def batches(self): ...

        class Elsewhere(another.Base): ...

        def function(split, ratio: float, *, seed: int = 0, loud: bool): ...
    """))
    monkeypatch.syspath_prepend(tmp_path)
    yield "plug.shapes"
    assert "plug.shapes" not in sys.modules


def test_a_class_is_described_by_its_constructor_its_bases_and_its_constants(package):
    found = describe(f"{package}.Base")
    assert list(found.parameters) == ["width", "depth"] and found.required == {"width"}
    assert found.constants == {"colours": ("red",), "size": 3} and found.bases == {"Base"}


def test_a_child_inherits_the_constructor_and_constants_unless_it_has_its_own(package):
    child, other = describe(f"{package}.Child"), describe(f"{package}.Other")
    assert child.required == {"width"} and child.bases == {"Base", "Child"}
    assert child.constants["sides"] == 4 and child.constants["colours"] == ("red",)
    assert list(other.parameters) == ["kind"] and other.required == set()


def test_a_dataclass_is_described_by_its_fields_and_those_of_its_base(package):
    assert describe(f"{package}.Plain").required == {"a"} and "b" in describe(f"{package}.Plain").parameters
    longer = describe(f"{package}.Longer")
    assert list(longer.parameters) == ["a", "b", "c"] and longer.required == {"a"}


def test_a_function_is_described_by_its_parameters(package):
    found = describe(f"{package}.function")
    assert list(found.parameters) == ["split", "ratio", "seed", "loud"] and found.required == {"split", "ratio", "loud"}


def test_imports_are_followed_within_the_package_and_into_recot_only(package):
    assert "TwoTower" in describe(f"{package}.Network").bases
    assert describe("recot.record.build.Gradient").module == "recot.fit.gradient"
    assert describe("recot.record.experiment.Path") is None
    assert describe("recot.record.code.subprocess.run") is None


@pytest.mark.parametrize("path", ["recot", "recot.nothing.Here", "recot.fit.gradient.Nothing",
                                  "recot.fit.gradient.os.system", "x.X"])
def test_what_is_not_defined_is_not_found(path):
    assert describe(path) is None


@pytest.mark.parametrize(("annotation", "good", "bad"), [
    ("int", [0, -3], [1.0, True, "1", None, [1]]),
    ("float", [0, 0.5, -1], [True, "0.5", None, {}]),
    ("bool", [True, False], [0, 1, "true", None]),
    ("str", ["", "a"], [1, None, True]),
    ("float | None", [None, 1, 0.5], ["x", True]),
    ("int | str | None", [1, "69.9k", None], [0.5]),
    ("Literal['a', 'b']", ["a", "b"], ["c", None, 1]),
    ("Literal['a']", ["a"], ["b"]),
    ("list[int]", [[], [1, 2]], [[1, "x"], 1, {"a": 1}]),
    ("dict[str, int | None]", [{}, {"a": 1, "b": None}], [{"a": "x"}, [1]]),
    ("list", [[], ["a"]], [{}, "a"]),
    ("dict", [{}, {"a": []}], [[], "a"]),
    ("Callable[..., Tensor]", [], [1, "anything", None]),
    ("Tensor", [], [1, "anything", None, {}, []]),
    ("Path", ["a/b"], [1, None, ["a"]]),
    ("Path | None", ["a/b", None], [1]),
    ("os.PathLike[str]", [], ["a"]),
    ("Sequence[float]", [[0, 0.5]], ["ab", 1, ["a"]]),
    ("tuple[int, str]", [[1, "a"]], [[1], [1, 2], "ab"]),
    ("tuple[int, ...]", [[], [1, 2]], [["a"], 1]),
    ("Literal[1]", [1], [True, 1.0, "1"]),
    ("Mapping[str, float]", [{"a": 1}], [{1: 1}, {"a": "b"}, []]),
    ("Optional[int]", [1, None], ["1", {}]),
    ("Union[int, str]", [1, "a"], [None, 0.5]),
    ("'int | None'", [1, None], ["1"]),
    ("Annotated[int, 'a number']", [1], ["1"]),
    ("Any", [1, "a", None, [1], {"a": {}}], [{1: 2}, object()]),
    ("Nothing", [], [1, "a", None]),
])
def test_a_value_fits_its_annotation_or_not(annotation, good, bad):
    tree = ast.parse(annotation, mode="eval").body
    assert all(fits(value, tree, "recot.run") for value in good)
    assert not any(fits(value, tree, "recot.run") for value in bad)


def test_an_alias_of_the_same_module_is_looked_up():
    annotation = describe("recot.denoise.soft_matching.SoftMatching").parameters["popularity"]
    assert fits("marginal", annotation, "recot.denoise.soft_matching")
    assert not fits("marginall", annotation, "recot.denoise.soft_matching")


def test_the_metrics_known_without_torch_are_those_of_the_code():
    from recot.evaluation.metrics import METRICS

    assert metric_names() == list(METRICS)


def test_zero_and_zero_point_zero_are_one_config():
    whole, fraction = (composed("trainer.weight_decay=" + zero)[0] for zero in ("0", "0.0"))
    assert repr(whole) == repr(fraction) and whole["trainer"]["weight_decay"] == 0.0


def test_numbers_become_floats_only_where_a_float_is_taken():
    config = {"data": {"_target_": "recot.data.prepare.Csv", "path": "a.csv", "threshold": 4, "core": 5}}
    assert repr(canonical(config)["data"]["threshold"]) == "4.0" and repr(config["data"]["core"]) == "5"
    config = {"data": {"_target_": "recot.data.prepare.Csv", "path": "a.csv", "threshold": None}}
    assert canonical(config)["data"]["threshold"] is None


def test_targets_are_found_at_any_depth_and_in_lists():
    hidden = {"a": {"_target_": "x", "b": {"_target_": "y"}}, "c": [1, [{"_target_": "z"}]], "d": {"e": 1}}
    assert [(path, node["_target_"]) for path, node in targets(hidden)] == [("a", "x"), ("a.b", "y"), ("c.1.0", "z")]


def test_the_nearest_name_is_offered_or_all_of_them():
    assert nearest("alhpa", ["alpha", "beta"]) == "Did you mean 'alpha'?"
    assert nearest("zzz", ["beta", "alpha"]) == "Known: alpha, beta."


INFONCE = "recot.objectives.pairs.InfoNCE"


@pytest.mark.parametrize(("node", "remedy"), [
    ({"_target_": "os.system", "command": "true"}, "lies outside recot, so it is not run. If you trust it, name its "
                                                   "package: plugins=[os]"),
    ({"_target_": 3}, "loss._target_ = 3 lies outside recot"),
    ({"_target_": "recot.objectives.pairs.BRP"}, "names nothing that is defined there: Did you mean 'BPR'?"),
    ({"_target_": "recot.objektives.BPR"}, "there is no module 'recot.objektives'"),
    ({"_target_": "recot.objectives.pairs.BPR", "negative": 2},
     "loss.negative is not a parameter of BPR that a config can set. Did you mean 'negatives'?"),
    ({"_target_": "recot.objectives.pairs.BPR", "_args_": [1]}, "loss._args_ is not a parameter"),
    ({"_target_": INFONCE, "tau": "warm"}, "loss.tau = 'warm' does not fit: InfoNCE takes float"),
    ({"_target_": INFONCE, "tau": float("nan")}, "loss.tau = nan is not finite; give a finite number"),
    ({"_target_": "recot.objectives.pairs.InfoNCE", "duplicates": "x"},
     "does not fit: InfoNCE takes Literal['none', 'mask', 'multi_positive']"),
    ({"_target_": INFONCE, "tau": 10**400}, "loss.tau is a number of 1329 bits; give one of 64"),
])
def test_a_target_is_refused_with_its_remedy(node, remedy):
    with pytest.raises(RequestError, match=re.escape(remedy)):
        check_target("loss", node, [])


def test_a_missing_parameter_is_named_with_the_way_to_give_it(package):
    with pytest.raises(RequestError, match=r"loss lacks a: give it as loss\.a=\.\.\."):
        check_target("loss", {"_target_": f"{package}.Own"}, ["plug"])


CHANGES = [
    (lambda c: c.pop("trainer"), "the config has no trainer; leave it in, each run needs it"),
    (lambda c: c["trainer"].pop("_target_"), "trainer names nothing to run; give trainer=NAME, or leave out ~trainer"),
    (lambda c: c.update(sed=1), "sed: nothing reads this key. Did you mean 'seed'?"),
    (lambda c: c["protocol"].update(monitors=1), "protocol.monitors: nothing reads this key. Did you mean 'monitor'?"),
    (lambda c: c["paths"].update(run="x"), "paths.run: nothing reads this key. Did you mean 'runs'?"),
    (lambda c: c.update(seed=1.5), "seed = 1.5 does not fit; give it like seed=0"),
    (lambda c: c.update(seed=True), "seed = True does not fit; give it like seed=0"),
    (lambda c: c.update(force="no"), "force = 'no' does not fit; give it like force=true"),
    (lambda c: c.update(plugins="os"), "plugins = 'os' does not fit; give it like plugins=[my_package]"),
    (lambda c: c.update(metrics="recall@20"), "metrics = 'recall@20' does not fit; give it like metrics=[recall@20"),
    (lambda c: c["loss"].update(batch_size=0), "loss.batch_size = 0 is too small; give 1 or more"),
    (lambda c: c["paths"].update(runs=""), "paths.runs = '' names no folder; leave it out, or unset RECOT_RUNS"),
    (lambda c: c.update(seed=-1), "seed = -1 is out of range; give 0 or more"),
    (lambda c: c.update(seed=2**64), "is out of range; give 0 or more, below 2**32"),
    (lambda c: c["protocol"].update(split=None), "protocol.split = None names nothing to run; give protocol=NAME"),
    (lambda c: c.update(paths=None), "paths = None says nothing; leave paths out, or give its parts like paths.cache"),
    (lambda c: c.update(metrics=[]), "metrics = [] leaves nothing to report; give it like metrics=[recall@20"),
    (lambda c: c.update(metrics=["recal@20"]), "metrics: there is no metric 'recal'. Did you mean 'recall'?"),
    (lambda c: c.update(metrics=["recall"]), "metrics: 'recall' needs a whole cut-off above 0, for example recall@20"),
    (lambda c: c.update(metrics=["recall@0"]), "'recall@0' needs a whole cut-off above 0"),
    (lambda c: c.update(metrics=["test/hr@20"]), "test answers are reported once, at the end. Use metrics=hr@20"),
    (lambda c: c["model"].update(n_users=3), "model.n_users is not a parameter of Tables that a config can set. "
                                             "Known: dim, score, std."),
    (lambda c: c["trainer"].update(precision="16-mixed", device="cpu"),
     "trainer.precision=16-mixed needs CUDA; use bf16-mixed or 32-true"),
    (lambda c: c["noise"].update(_target_="recot.data.noise.add"), "noise lacks ratio: give it as noise.ratio=..."),
]


def test_users_who_do_not_train_are_for_models_that_read_histories():
    composed("protocol=sequence", "protocol.split.portion=0.4", "model=sasrec")
    composed("protocol=sequence", "protocol.split.portion=0.4", "model=markov")
    composed("protocol=sequence", "protocol.split.portion=0.4", "model=vae", "model.user_vector=none")
    with pytest.raises(RequestError, match=r"protocol\.split\.portion = 0\.4 .* model=sclrec; .* such as model=sasrec"):
        composed("protocol=sequence", "protocol.split.portion=0.4")


@pytest.mark.parametrize("model", ["sasrec", "caser", "markov"])
def test_what_reads_histories_in_order_is_not_refitted_on_pairs_without_times(model):
    composed("protocol=sequence", f"model={model}")
    with pytest.raises(RequestError, match=rf"model={model} reads histories in order; use protocol.refit=false"):
        composed("protocol=denoise", f"model={model}")


@pytest.mark.parametrize(("change", "remedy"), CHANGES, ids=[remedy[:30] for _, remedy in CHANGES])
def test_a_config_is_refused_with_its_remedy(change, remedy):
    config, choices = composed()
    changed = copy.deepcopy(config)
    change(changed)
    check(config, choices)
    with pytest.raises(RequestError, match=re.escape(remedy)):
        check(changed, choices)


def test_a_class_named_in_plugins_passes(package):
    config, choices = composed("denoiser=none", "loss=bpr")
    config["model"] = {"_target_": f"{package}.Network", "dim": 8}
    assert check({**config, "plugins": ["plug"]}, choices)["model"]["dim"] == 8
    with pytest.raises(RequestError, match=r"plugins=\[plug\]"):
        check({**config, "plugins": []}, choices)


def test_a_source_without_metrics_is_an_error(monkeypatch):
    monkeypatch.setattr("recot.request.schema.parse", lambda module: ast.parse("x = 1"))
    with pytest.raises(LookupError, match="defines no METRICS; the names of the metrics are read from it"):
        metric_names()


SEEDS = {"seed": "seed", "data_seed": "data.data_seed", "split_seed": "protocol.split.split_seed",
         "noise_seed": "noise.noise_seed", "sample_seed": "data.sample_seed", "a closed form's": "model.seed"}


@pytest.mark.parametrize("path", SEEDS.values(), ids=SEEDS)
@pytest.mark.parametrize(("seed", "reason"), [
    ("1.0", "1.0 does not fit"), ("true", "True does not fit"), ("null", "None does not fit"),
    ("'1'", "'1' does not fit"),
    *((str(seed), f"{seed} is out of range; give 0 or more, below 2**32 (this one would draw the numbers of "
                  f"{seed % 2**32})") for seed in (-1, 2**32, 2**32 + 5, 2**70))])
def test_a_seed_that_is_not_the_one_that_would_be_used_is_refused(path, seed, reason):
    words = {"noise.noise_seed": ["noise=add", "noise.ratio=0.1"], "data.sample_seed": ["data=yahoo"],
             "model.seed": ["model=wrmf"]}.get(path, [])
    with pytest.raises(RequestError, match=re.escape(f"{path} = {reason}")):
        composed(*words, f"{path}={seed}")


def test_seeds_that_are_accepted_draw_different_numbers():
    drawn = {tuple(torch.randint(2**40, (4,), generator=torch.Generator().manual_seed(seed)).tolist())
             for seed in (0, 1, 2**31, 2**32 - 1)}
    assert len(drawn) == 4


def test_stages_and_domains_that_cannot_know_strangers_are_refused_where_some_do_not_train():
    with pytest.raises(RequestError, match=r"protocol=strong asks .* and stages\.pretraining\.model has no vector"):
        composed("model=mean_user", "protocol=strong")
    with pytest.raises(RequestError, match=r"leaves users without a vector in stages\.pretraining\.model; use"):
        composed("model=mean_user", "protocol=sequence", "protocol.split.portion=0.5")
    with pytest.raises(RequestError, match="protocol=strong keeps items that .* use domains=joint, or protocol="):
        composed("model=itemknn", "protocol=strong", "domains=each")
