"""The digest of the code behind a result changes with what the result reaches, and with nothing else."""

import ast
import re
import subprocess
import textwrap

import pytest

from recot import sources
from recot.compose import composed
from recot.experiment import source_digest
from recot.sources import digest, reached, targets

MODULES = {
    "recot.toy.model": """
        from recot.toy import shared
        from recot.toy.base import Base, unused as other

        SCALE, SHIFT = 2.0, 1.0
        RATE: float = 0.5

        def helper(x):
            return RATE * shared.double(x)

        class Model(Base):
            '''A model.'''

            def score(self, x):
                # times two
                return SCALE * helper(x)

        class Neighbour:
            def score(self, x):
                return other(x)

        def recursive(n):
            return recursive(n - 1)
    """,
    "recot.toy.base": """
        FLOOR = 0.0

        class Base:
            def fit(self):
                return FLOOR

        def unused(x):
            return x
    """,
    "recot.toy.shared": """
        def double(x):
            return 2 * x

        def triple(x):
            return 3 * x
    """,
    "recot.toy.box": """
        class Box:
            SIZE = 3

            def __len__(self):
                return self.SIZE

            @property
            def opened(self):
                return self.inner()

            def inner(self):
                return 1

            def emptied(self):
                return 0

        def first(box: Box):
            return box.opened
    """,
    "mine.plugin": """
        from recot.toy.model import Model

        class Own(Model):
            pass
    """,
}
CONFIG = {"model": {"_target_": "recot.toy.model.Model"}}


@pytest.fixture
def package(monkeypatch):
    """Puts toy modules with changes in place of the package: package((module, old, new), ...)."""
    def clear():
        for cached in (sources.definitions, sources.imports, sources.used, sources.code, sources._digest):
            cached.cache_clear()

    def change(*changes):
        texts = {name: textwrap.dedent(text) for name, text in MODULES.items()}
        for module, old, new in changes:
            assert old in texts[module]
            texts[module] = texts[module].replace(old, new)
        trees = {name: ast.parse(text) for name, text in texts.items()}
        monkeypatch.setattr(sources, "parse", trees.get)
        clear()

    change()
    yield change
    clear()


def test_a_class_reaches_its_bases_and_all_that_its_methods_use_through_any_kind_of_import(package):
    assert list(reached(targets(CONFIG))) == [
        ("recot.toy.base", "Base"), ("recot.toy.base", "FLOOR"), ("recot.toy.model", "Model"),
        ("recot.toy.model", "RATE"), ("recot.toy.model", "SCALE"),
        ("recot.toy.model", "SHIFT"), ("recot.toy.model", "helper"), ("recot.toy.shared", "double")]


def test_a_function_that_calls_itself_is_reached_once(package):
    assert list(reached([("recot.toy.model", "recursive")])) == [("recot.toy.model", "recursive")]


def test_a_name_imported_under_another_one_is_followed(package):
    assert ("recot.toy.base", "unused") in reached([("recot.toy.model", "Neighbour")])


def test_a_class_of_a_plugin_reaches_into_the_package(package):
    assert ("recot.toy.shared", "double") in reached([("mine.plugin", "Own")])


def test_what_is_not_defined_in_the_package_is_left_out(package):
    assert reached([("torch.nn", "Linear"), ("recot.toy.model", "Absent")]) == {}


@pytest.mark.parametrize(("module", "old", "new"), [
    ("recot.toy.model", "return SCALE * helper(x)", "return SCALE + helper(x)"),
    ("recot.toy.model", "RATE * shared", "2 * RATE * shared"),
    ("recot.toy.model", "SCALE, SHIFT = 2.0", "SCALE, SHIFT = 3.0"),
    ("recot.toy.model", "RATE: float = 0.5", "RATE: float = 0.6"),
    ("recot.toy.base", "return FLOOR", "return 1 + FLOOR"),
    ("recot.toy.base", "FLOOR = 0.0", "FLOOR = 0.1"),
    ("recot.toy.shared", "2 * x", "x + x"),
    ("recot.toy.model", "    def score(self, x):\n        # times",
     "    def extra(self): ...\n    def score(self, x):\n        # times"),
])
def test_a_change_in_what_is_reached_changes_the_digest(package, module, old, new):
    before = digest(CONFIG)
    package((module, old, new))
    assert digest(CONFIG) != before


@pytest.mark.parametrize(("old", "new", "counts"), [
    ("return self.inner()", "return 2 * self.inner()", True), ("return 1", "return 2", True),
    ("SIZE = 3", "SIZE = 4", True), ("return self.SIZE", "return 5", True), ("return 0", "return -1", False),
    ("class Box:", "@frozen\nclass Box:", True), ("return box.opened", "return box.emptied", True)])
def test_of_a_container_the_methods_count_that_something_mentions(package, old, new, counts):
    before = digest({}, [("recot.toy.box", "first")]), digest({}, [("recot.toy.box", "Box")])
    package(("recot.toy.box", old, new))
    assert (digest({}, [("recot.toy.box", "first")]) != before[0]) is counts
    assert digest({}, [("recot.toy.box", "Box")]) != before[1] or old == "return box.opened"  # all of what is named


@pytest.mark.parametrize(("module", "old", "new"), [
    ("recot.toy.model", "# times two", "# doubled, for a reason"),
    ("recot.toy.model", "'''A model.'''", "'''A model that is described better.'''"),
    ("recot.toy.model", "return SCALE * helper(x)", "return (SCALE *\n                helper(x))"),
    ("recot.toy.model", "return other(x)", "return 7"),
    ("recot.toy.model", "class Neighbour:", "class Added: ...\n\nclass Neighbour:"),
    ("recot.toy.base", "return x", "return -x"),
    ("recot.toy.shared", "3 * x", "4 * x"),
])
def test_a_change_in_comments_docstrings_or_what_is_not_reached_does_not(package, module, old, new):
    before = digest(CONFIG)
    package((module, old, new))
    assert digest(CONFIG) == before


def test_targets_are_found_at_any_depth_and_other_values_do_not_count(package):
    nested = {"model": {"_target_": "a.b.C", "parts": [{"_target_": "d.e", "x": {"_target_": "f.g.h"}}, 3]}, "k": "a.b"}
    assert list(targets(nested)) == [("a.b", "C"), ("d", "e"), ("f.g", "h")]
    assert digest(CONFIG | {"seed": 1}) == digest(CONFIG)
    assert digest(CONFIG, [("recot.toy.shared", "triple")]) != digest(CONFIG)


def test_a_digest_is_sixteen_hexadecimal_digits_and_the_same_whichever_order_things_are_named_in(package):
    other = ("recot.toy.shared", "triple"), ("recot.toy.base", "unused")
    assert digest(CONFIG, other) == digest(CONFIG, reversed(other))
    assert len(digest(CONFIG)) == 16 and int(digest(CONFIG), 16) >= 0


# The package itself.

def behind(*overrides):
    """What the result of a real command reaches: module -> names."""
    config = composed(*overrides)[0]
    found = {}
    for module, name in reached(targets(config)):
        found.setdefault(module.removeprefix("recot."), set()).add(name)
    return found


def test_sclrec_depends_on_its_loss_denoiser_and_transport_and_not_on_other_methods():
    modules = behind("model=sclrec", "data=planted")
    assert {"Tables", "SoftMatching", "InfoNCE", "sinkhorn"} <= set().union(*modules.values())
    assert not {"LightGCN", "BUIR", "BPR", "ItemKNN"} & set().union(*modules.values())


def test_clrec_does_not_depend_on_the_transport_of_sclrec():
    assert "sinkhorn" not in set().union(*behind("model=clrec", "data=planted").values())


def test_constants_that_are_assigned_together_count():
    assert {"START", "HOUR"} <= behind("model=clrec", "data=planted")["data.planted"]


def test_only_what_is_trained_by_gradient_depends_on_the_training_loop(monkeypatch):
    monkeypatch.setattr(sources, "digest", lambda config, also: list(also))
    loop = ("recot.learn", "Gradient")
    assert loop in source_digest(composed("model=clrec")[0])
    assert loop not in source_digest(composed("model=popularity")[0])


def test_what_is_fitted_more_than_once_depends_on_how(monkeypatch):
    monkeypatch.setattr(sources, "digest", lambda config, also: set(also))
    rounds, again = ("recot.staged", "Relabelled"), ("recot.experiment", "refitted")
    for words, fits in ((("model=clrec",), set()), (("model=ir",), {rounds}),
                        (("model=nce", "protocol=denoise"), {again}),
                        (("model=nce", "protocol=denoise", "denoiser=prorec"), {rounds, again})):
        assert source_digest(composed(*words)[0]) & {rounds, again} == fits


def test_methods_differ_in_their_code_and_settings_of_one_method_do_not():
    assert source_digest(composed("model=clrec")[0]) == source_digest(composed("model=clrec", "loss.tau=0.3")[0])
    names = ("clrec", "sclrec", "bprmf", "popularity")
    assert len({source_digest(composed(f"model={name}")[0]) for name in names}) == 4


def test_the_commit_is_that_of_the_code_and_results_do_not_make_it_dirty(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path), *words], check=True,
                       capture_output=True)

    package = tmp_path / "code"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert sources.commit(package) is None, "in no repository"
    git("init")
    assert sources.commit(package) is None, "in one that does not hold it, as an installed package"
    git("add", ".")
    git("commit", "-m", "first")
    clean = sources.commit(package)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "table.md").write_text("a result")
    assert sources.commit(package) == clean
    (package / "new.py").write_text("x = 1")
    assert sources.commit(package) == f"{clean}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sources.commit(package) is None, "without git"
