"""Each place of a config takes one kind of thing, whoever wrote the config: a command, a preset or a record."""

import copy
import re
import sys

import pytest
from commands import composed

from recot.request.errors import RequestError
from recot.request.kinds import KINDS
from recot.request.schema import check, check_parts

MACHINERY = [
    "recot.restore.restore", "recot.restore.settings", "recot.tuning.search.tune", "recot.record.experiment.run",
    "recot.record.build.make", "recot.request.signature.parse", "recot.request.signature.locate",
    "recot.record.store.Runs",
    "recot.data.fetch.locate", "recot.data.fetch.RawFiles", "recot.data.fetch.writable",
    "recot.data.fetch._download", "recot.data.dataset.Dataset", "recot.data.dataset.load",
    "recot.data.dataset.write", "recot.record.code.commit", "recot.system.files.write_whole",
    "recot.system.files.sweep",
    "recot.run.main", "recot.recommend.main", "recot.tables.main", "recot.fit.gradient.Gradient",
    "recot.data.read.table",
    "recot.data.split.joined", "recot.data.split._dealt", "recot.data.noise._count", "recot.nn.contracts.Objective",
    "recot.record.trackers.Tracker", "recot.request.compose.composed", "recot.system.environment.looked_up",
]


def put(config, path, node):
    """A copy of a config with another node at a place."""
    changed = copy.deepcopy(config)
    group, _, key = path.partition(".")
    if key:
        changed[group][key] = node
    else:
        changed[group] = node
    return changed


@pytest.fixture(scope="module")
def base():
    return composed()


@pytest.mark.parametrize("place", KINDS)
def test_each_place_takes_its_own_kind_and_nothing_else_of_recot(base, place):
    config, choices = base
    check(config, choices)
    others = [path for kind in KINDS.values() for path in kind.known() if kind is not KINDS[place]]
    for dotted in [*MACHINERY, *others]:
        for node in ({"_target_": dotted}, {"_target_": dotted, "_partial_": True}):
            with pytest.raises(RequestError, match=rf"{re.escape(place)}\._target_ = .* (is no|names nothing)"):
                check(put(config, place, node), choices)


@pytest.mark.parametrize(("place", "kind"), KINDS.items(), ids=KINDS)
def test_what_every_preset_names_is_known_and_a_near_name_is_offered(place, kind, base):
    named = (base[0][place] if "." not in place else base[0]["protocol"]["split"])["_target_"]
    assert named in kind.known()
    wrong = put(base[0], place, {"_target_": "recot.system.files.sha256"})
    with pytest.raises(RequestError, match=rf"is no {kind.what} of .*(Did you mean|Known)"):
        check(wrong, base[1])


NESTED = {"_target_": "recot.objectives.views.Contrast",
          "augmentation": {"_target_": "recot.batches.augment.Augmentation"}}


def test_below_a_place_one_stands_only_where_the_annotation_names_its_class(base):
    sequence, choices = composed("model=cl4rec", "protocol=sequence")
    sequence["loss"]["contrast"] = NESTED
    check(sequence, choices)


@pytest.mark.parametrize("dotted", [*MACHINERY[:8], "recot.batches.augment.Augmentation", "recot.objectives.pairs.BPR"])
@pytest.mark.parametrize("place", ["loss.contrast", "loss.contrast.augmentation", "loss.negatives", "model.dim",
                                   "trainer.max_epochs", "data.n_users", "denoiser.alpha", "noise.ratio"])
def test_another_class_below_a_place_is_refused(place, dotted):
    config, choices = composed("model=cl4rec", "protocol=sequence")
    config["loss"]["contrast"] = copy.deepcopy(NESTED)
    if place == "loss.contrast.augmentation" and dotted.endswith("Augmentation"):
        return
    *above, last = place.split(".")
    node = config
    for name in above:
        node = node[name]
    node[last] = {"_target_": dotted}
    with pytest.raises(RequestError, match=rf"{re.escape(place)}(\._target_ = .* does not fit|.* is not a parameter)"):
        check(config, choices)


@pytest.mark.parametrize(("path", "value"), [
    (("metrics",), [{"_target_": "recot.restore.restore"}]), (("protocol", "metrics"), [{"_target_": "os.system"}]),
    (("protocol", "monitor"), {"_target_": "os.system"}), (("seed",), {"_target_": "os.system"}),
    (("paths", "runs"), {"_target_": "os.system"}), (("plugins",), [{"_target_": "os.system"}]),
    (("loss",), {"inner": {"_target_": "recot.objectives.pairs.BPR"}}),
    (("loss",), [{"_target_": "recot.objectives.pairs.BPR"}]),
    (("loss", "tau"), [[{"_target_": "recot.objectives.pairs.BPR"}]]), (("model.x",), {"_target_": "os.system"}),
    (("data.x",), {"_target_": "recot.restore.restore"}), (("data",), {"n_users": {"_target_": "os.system"}}),
    (("data",), "_target_"), (("noise",), ["_target_"]), (("model",), None), (("loss",), None)])
def test_a_target_in_a_list_or_where_nothing_is_built_is_refused(base, path, value):
    config = copy.deepcopy(base[0])
    node = config
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    with pytest.raises(RequestError):
        check(config, base[1])
    if path[0] not in ("data", "noise", "model", "loss"):
        with pytest.raises(RequestError, match="holds a _target_, and nothing is built there; take it out"):
            check_parts(config, [])


@pytest.mark.parametrize("special", ["_args_", "_recursive_", "_convert_", "_partial_", "_mode_"])
@pytest.mark.parametrize("place", [place for place, kind in KINDS.items() if not kind.takes])
def test_nothing_else_of_the_configs_grammar_is_taken(base, place, special):
    node = {**base[0][place], special: True}
    with pytest.raises(RequestError, match=rf"{place}\.{special} (is not a parameter|.* it is left out)"):
        check(put(base[0], place, node), base[1])


@pytest.mark.parametrize("value", [False, 1, "true", None])
@pytest.mark.parametrize("place", ["noise", "protocol.split"])
def test_a_function_is_given_what_it_changes_later(base, place, value):
    node = {**(base[0]["noise"] if place == "noise" else base[0]["protocol"]["split"]), "_partial_": value}
    with pytest.raises(RequestError, match=r"_partial_ = .* does not fit: it is true here"):
        check(put(base[0], place, node), base[1])


PLUGIN = """
    raise RuntimeError("this module was executed")
    import recot.networks.base
    import recot.denoise.base as denoise
    from recot.networks import factorisation
    from recot.data.prepare import Files
    from recot.evaluation.recommender import Recommender
    from somewhere import Base

    class Network(recot.networks.base.TwoTower):
        def __init__(self, n_users, n_items, dim=64): ...

    class Child(Network): ...
    class Tables(factorisation.Tables): ...
    class Fits(Recommender):
        def fit(self, split): ...
    class Alike:
        def fit(self, split): ...
    class Noise(denoise.Denoiser): ...
    class Mine(Files): ...
    class Source:
        load = digest = lambda self: None
    class Loss:
        def batches(self, train, rng, network, epoch): ...
    class Foreign(Base): ...
    class Nothing: ...
    def cut(interactions, share: float = 0.5): ...
    def spoil(split): ...
"""


@pytest.mark.parametrize(("place", "fitting"), [
    ("model", ["Network", "Child", "Tables", "Fits", "Foreign"]), ("denoiser", ["Noise", "Foreign"]),
    ("data", ["Mine", "Source", "Foreign"]), ("loss", ["Loss", "Foreign"]), ("protocol.split", ["cut"]),
    ("noise", ["spoil"]), ("trainer", ["Foreign"]), ("logger", ["Foreign"])])
def test_a_trusted_package_fills_a_place_with_the_same_kind(place, fitting, tmp_path, monkeypatch):
    import textwrap

    from recot.request.signature import describe

    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged" / "__init__.py").touch()
    (tmp_path / "plugged" / "parts.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(tmp_path)
    kind = KINDS[place]
    names = re.findall(r"(?:class|def) ([A-Za-z]\w+)[(:]", "\n".join(
        line for line in textwrap.dedent(PLUGIN).splitlines() if not line.startswith(" ")))
    described = {name: describe(f"plugged.parts.{name}") for name in names}
    holding = {name for name, found in described.items() if kind.holds(found) and bool(found.bases) != bool(kind.takes)}
    assert holding == set(fitting)
    assert "plugged.parts" not in sys.modules
    with pytest.raises(RequestError, match=r"is no .*, nor of a package in plugins"):
        node = {"_target_": "plugged.parts.Nothing"}
        check_parts({place: node} if "." not in place else {"protocol": {"split": node}}, ["plugged"])


def test_nothing_of_a_package_is_imported_before_it_is_trusted(tmp_path, monkeypatch):
    """Presets leave out what another loss does not take; that looks at what the loss names."""
    (tmp_path / "untrusted").mkdir()
    (tmp_path / "untrusted" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for group in ("loss", "denoiser", "model", "data", "noise", "trainer", "logger"):
        with pytest.raises(RequestError, match=r"name its package: plugins=\[untrusted\]"):
            composed("model=vae", "loss=bpr", f"{group}._target_=untrusted.inner.X")
