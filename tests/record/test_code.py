"""The digest of the code behind a result changes with what the result reaches, and with nothing else."""

import ast
import json
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import execute
from commands import known as composed

from recot.record import code
from recot.record.code import digest, reached, shape, targets
from recot.record.provenance import source_digest
from recot.request.signature import parse

ROOT = Path(__file__).parents[2]

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
        from mine import parts
        from .deep.more import shift

        class Own(Model):
            def score(self, x):
                return shift(parts.scale(x))
    """,
    "mine.parts": """
        def scale(x):
            return 2 * x
    """,
    "mine.deep.more": """
        def shift(x):
            return x + 1
    """,
}
CONFIG = {"model": {"_target_": "recot.toy.model.Model"}}


@pytest.fixture
def package(monkeypatch):
    """Puts toy modules with changes in place of the package: package((module, old, new), ...)."""
    def clear():
        for cached in (code.definitions, code.imports, code.used, code.code, code._digest):
            cached.cache_clear()

    def change(*changes):
        texts = {name: textwrap.dedent(text) for name, text in MODULES.items()}
        for module, old, new in changes:
            assert old in texts[module]
            texts[module] = texts[module].replace(old, new)
        trees = {name: ast.parse(text) for name, text in texts.items()}
        monkeypatch.setattr(code, "parse", trees.get)
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


@pytest.mark.parametrize("root", [("torch.nn", "Linear"), ("recot.toy.model", "Absent"), ("recot.absent", "Model"),
                                  ("recot.toy.model", "")])
def test_a_root_that_is_not_defined_is_an_error(package, root):
    with pytest.raises(LookupError, match=f"{root[0]}.{root[1]}, which is not defined there; correct the name"):
        digest(CONFIG, [root])


def test_a_plugin_reaches_the_rest_of_its_package_by_any_form_of_import(package):
    assert {("mine.parts", "scale"), ("mine.deep.more", "shift")} <= set(reached([("mine.plugin", "Own")]))


def test_what_is_cut_off_does_not_count_nor_does_what_only_it_reaches(package):
    whole = set(reached(targets(CONFIG)))
    assert whole - set(reached(targets(CONFIG), frozenset({("recot.toy.model", "helper")}))) == {
        ("recot.toy.model", "helper"), ("recot.toy.model", "RATE"), ("recot.toy.shared", "double")}
    assert whole - set(reached(targets(CONFIG), frozenset({("recot.toy.base", "")}))) == {
        ("recot.toy.base", "Base"), ("recot.toy.base", "FLOOR")}


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


@pytest.mark.parametrize(("module", "first"), [("recot.toy.shared", "def double"), ("recot.toy.base", "FLOOR =")])
def test_where_a_definition_stands_does_not_count(package, module, first):
    before = digest(CONFIG)
    package(("recot.toy.model", "RATE: float = 0.5\n", f"from {module} import RATE\n"),
            (module, first, f"RATE: float = 0.5\n{first}"))
    assert ("recot.toy.model", "RATE") not in reached(targets(CONFIG)) and digest(CONFIG) == before


RENAMED = ("recot.toy.model", "shared.double", "common.double")


@pytest.mark.parametrize("changes", [
    [("recot.toy.model", "import shared", "import shared as common"), RENAMED],
    [("recot.toy.model", "return RATE", "from recot.toy import shared as common\n    return RATE"), RENAMED],
    [("recot.toy.model", "def helper(x):", "def helper(x: 'Tensor') -> float:")],
    [("recot.toy.model", "def helper(x):", "def helper(x: Encoder):"),
     ("recot.toy.model", "SCALE, SHIFT", "class Encoder(Protocol):\n    size: int\n\nSCALE, SHIFT")],
])
def test_names_of_modules_and_types_that_a_function_declares_do_not_count(package, changes):
    before = digest(CONFIG)
    package(*changes)
    assert digest(CONFIG) == before


@pytest.mark.parametrize(("old", "new", "seen"), [
    ("helper(x):\n", "helper(x, unused=3):\n    x = unused\n", False),
    ("helper(x):\n", "helper(x):\n    for unused in x:\n        x = (lambda: unused)()\n", False),
    ("helper(x):\n", "helper(x, y=unused):\n", True), ("helper(x):\n", "helper(x):\n    x = unused\n", True),
    ("helper(x):\n", "helper(x):\n    global unused\n    unused = x\n", True)])
def test_a_local_name_is_none_of_the_module(package, old, new, seen):
    package(("recot.toy.model", "unused as other", "unused"), ("recot.toy.model", "return other", "return unused"),
            ("recot.toy.model", old, new))
    assert (("recot.toy.base", "unused") in reached([("recot.toy.model", "helper")])) is seen


@pytest.mark.parametrize(("base", "body", "counts"), [
    ("Protocol", "'''A scalar.'''", False), ("Protocol[T]", "...", False), ("Protocol", "return FLOOR", True),
    ("Base", "'''A scalar.'''", True)])
def test_a_protocol_counts_where_its_methods_do_something(package, base, body, counts):
    encoder = f"class Encoder({base}):\n    def size(self):\n        {body}\n\n"
    package(("recot.toy.model", "helper(x):", "helper(x: Encoder):"),
            ("recot.toy.model", "SCALE, SHIFT", f"{encoder}SCALE, SHIFT"))
    assert (("recot.toy.model", "Encoder") in reached([("recot.toy.model", "helper")])) is counts


def test_the_methods_of_a_class_that_a_function_declares_count(package):
    before = digest({}, [("recot.toy.box", "first")])
    package(("recot.toy.box", "first(box: Box)", "first(box)"))
    assert digest({}, [("recot.toy.box", "first")]) != before


SHAPE = (
    "ClassDef(name='Own', bases=[Name(id='Base', ctx=Load())], keywords=[keyword(arg='metaclass', "
    "value=Name(id='Meta', ctx=Load()))], body=[AnnAssign(target=Name(id='rate', ctx=Store()), "
    "annotation=Name(id='float', ctx=Load()), value=Constant(value='0.5'), simple=1), "
    "FunctionDef(name='score', args=arguments(posonlyargs=[arg(arg='self'), arg(arg='x')], "
    "vararg=arg(arg='rest'), kwonlyargs=[arg(arg='key')], kw_defaults=[Constant()]), "
    "body=[Return(value=Tuple(elts=[JoinedStr(values=[FormattedValue(value=Name(id='x', ctx=Load()), "
    "conversion=114, format_spec=JoinedStr(values=[Constant(value='>'), "
    "FormattedValue(value=Constant(value=3), conversion=-1)])), Constant(value=' of two')]), "
    "IfExp(test=Name(id='x', ctx=Load()), body=Subscript(value=Name(id='x', ctx=Load()), "
    "slice=Tuple(elts=[Slice(lower=Constant(value=1)), Constant(value=Ellipsis)], ctx=Load()), "
    "ctx=Load()), orelse=Constant())], ctx=Load()))], decorator_list=[Name(id='once', ctx=Load())])])")


def test_the_shape_of_code_is_the_same_text_from_every_python():
    part = ast.parse(textwrap.dedent("""
        class Own(Base, metaclass=Meta):
            'Described.'
            rate: float = u'0.5'  # a comment

            @once
            def score(self, x, /, *rest, key=None):
                return f"{x!r:>{3}} of" " two", x[1:, ...] if x else None
    """)).body[0]
    assert shape(part) == SHAPE


def test_each_interpreter_at_hand_gives_the_same_digests(tmp_path):
    """Runs where another supported Python is installed; the text above holds on each of them."""
    modules = ("recot.networks.sasrec", "recot.objectives.pairs", "recot.data.split", "recot.fit.gradient",
               "recot.record.attempt")
    program = "import json, sys; sys.path.insert(0, sys.argv[1]); from recot.record import code; print(json.dumps(" \
              "{m: [code.digest({}, [(m, n)]) for n in code.definitions(m)] for m in sys.argv[2:]}))"
    words = ["-c", program, str(ROOT), *modules]
    answers = {}
    for name in (sys.executable, "python3.11", "python3.12", "python3.13"):
        if shutil.which(name):
            done = subprocess.run([name, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
            if done.returncode == 0:  # a shim of a version manager may name a Python that is not there
                answers[name] = done.stdout
    assert len(set(answers.values())) == 1 and len(json.loads(answers[sys.executable])) == len(modules)


@pytest.mark.parametrize(("old", "new", "counts"), [
    ("return self.inner()", "return 2 * self.inner()", True), ("return 1", "return 2", True),
    ("SIZE = 3", "SIZE = 4", True), ("return self.SIZE", "return 5", True), ("return 0", "return -1", False),
    ("class Box:", "@frozen\nclass Box:", True), ("return box.opened", "return box.emptied", True),
    ("return box.opened", "return getattr(box, 'emptied', 0)", True)])
def test_of_a_container_the_methods_count_that_something_mentions(package, old, new, counts):
    before = digest({}, [("recot.toy.box", "first")]), digest({}, [("recot.toy.box", "Box")])
    package(("recot.toy.box", old, new))
    assert (digest({}, [("recot.toy.box", "first")]) != before[0]) is counts
    assert digest({}, [("recot.toy.box", "Box")]) != before[1] or old == "return box.opened"  # all of what is named


def test_a_method_that_is_mentioned_by_its_name_alone_counts(package):
    mentioned = ("recot.toy.box", "return box.opened", "return getattr(box, 'emptied', 0)")
    package(mentioned)
    before = digest({}, [("recot.toy.box", "first")])
    package(mentioned, ("recot.toy.box", "return 0", "return -1"))
    assert digest({}, [("recot.toy.box", "first")]) != before


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


CASES = {"closed": ("model=popularity",), "trained": ("model=clrec",), "rounds": ("model=ir",),
         "again": ("model=nce", "protocol=denoise"), "both": ("model=nce", "protocol=denoise", "denoiser=prorec")}
EVERY = set(CASES)


@pytest.fixture
def edited(monkeypatch):
    """Digests of the cases with a change in the code of the package: edited(module, old, new)."""
    def clear():
        for cached in (code.definitions, code.imports, code.used, code.code, code._digest):
            cached.cache_clear()

    def digests(*change):
        if change:
            module, old, new = change
            text = Path(find_spec(module).origin).read_text(encoding="utf-8")
            assert text.count(old) >= 1, f"{module} has no {old!r} any more"
            tree = ast.parse(text.replace(old, new, 1))
            monkeypatch.setattr(code, "parse", lambda name: tree if name == module else parse(name))
        clear()
        return {name: source_digest(composed(*words)[0]) for name, words in CASES.items()}

    yield digests
    clear()


@pytest.mark.parametrize(("module", "old", "new", "whose"), [
    ("recot.fit.gradient", "torch.manual_seed(self.seed)", "torch.manual_seed(self.seed + 1)", {"trained", "rounds"}),
    ("recot.fit.rounds", "self.denoiser.rounds + 1", "self.denoiser.rounds + 2", {"rounds", "both"}),
    ("recot.record.build", 'config["seed"], folder', 'config["seed"] + 1, folder', EVERY),
    ("recot.record.attempt", "ask_again(config, dataset)", "ask_questions(config, dataset)", EVERY),
    ("recot.record.build", "(joined(make(", "((make(", {"again", "both"}),
    ("recot.record.build", 'config["protocol"]["monitor"]', '"ndcg@20"', EVERY),
    ("recot.evaluation.known_noise", "return ", "return 1 - ", EVERY),
    ("recot.closed.popularity", "return ", "return -", EVERY),
    ("recot.data.questions", "validation targets of the same user too", "answers", EVERY),
    ("recot.evaluation.evaluate", "chunk = chunk or", "chunk = 2 or", EVERY),
    ("recot.evaluation.metrics", "return ", "return 2 * ", EVERY),
    ("recot.record.outputs", "LIST = 6", "LIST = 7", set()),
    ("recot.record.console", 'self.drawn = ', 'self.drawn = False and ', set()),
    ("recot.record.provenance", '"threads": ', '"cores": ', set())])
def test_a_change_counts_for_what_it_can_change(edited, module, old, new, whose):
    before = edited()
    after = edited(module, old, new)
    assert {name for name in CASES if before[name] != after[name]} == whose


CHANGES_NOTHING = {f"recot.{module}" for module in (
    "record.outputs", "record.console", "record.trackers", "record.store", "record.code", "record.provenance",
    "record.experiment", "system.memory", "system.files", "system.environment", "request.signature", "request.kinds",
    "request.schema", "request.compose", "request.command", "request.errors", "request.former", "request.keys",
    "fit.processes", "fit.stored", "system.place")}
"""Modules whose functions a run calls without an effect on its numbers."""
AROUND = {*(("recot.evaluation.evaluate", name) for name in ("recommended", "best")),
          *(("recot.record.build", name) for name in ("rehearse", "descends", "relabels", "import_training"))}
"""Functions around an attempt: what is looked up, kept and said."""


@pytest.mark.parametrize("words", [
    ("model=sclrec",), ("model=nce", "protocol=denoise", "denoiser=prorec"), ("model=lightgcn", "noise=add"),
    ("model=ir", "denoiser.rounds=1"),
    ("model=bprmf", "metrics=[recall@5,coverage@5,gini@5,popularity@5,intra_list_similarity@5]"),
    ("model=sasrec", "data.mean_activity=8", "protocol=sequence", "noise=insert", "noise.ratios=[0.5]")])
def test_whatever_a_run_calls_is_in_its_digest_or_changes_nothing(tmp_path, monkeypatch, words):
    called, package = set(), str(Path(code.__file__).parents[1])

    def trace(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(package):
            called.add((frame.f_globals["__name__"], *frame.f_code.co_qualname.split(".")[:2]))

    found = {}
    monkeypatch.setattr(code, "_digest", lambda roots, without: found.update(code.reached(roots, without)) or "d")
    execute(tmp_path / "first", *words)  # imports what there is to import: the body of a class is called there as well
    sys.setprofile(trace)
    try:
        execute(tmp_path / "second", *words)
    finally:
        sys.setprofile(None)
    reaches = {name: [part.name for part in parts if isinstance(part, ast.FunctionDef)]
               for name, parts in found.items()}
    for module, name, *method in sorted(called):
        if module in CHANGES_NOTHING or (module, name) in AROUND or name.startswith("<"):
            continue
        assert (module, name) in reaches, f"{module}.{name} is called and not in the digest"
        if reaches[module, name] and method and not method[0].startswith("<"):
            whole = any(isinstance(part, ast.ClassDef | ast.FunctionDef) and part.name == name
                        for part in found[module, name])
            assert whole or method[0] in reaches[module, name], f"{module}.{name}.{method[0]} is not in the digest"
    assert ("recot.record.attempt", "attempt") in reaches and len(called) > 100


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
    assert code.commit(package) is None, "in no repository"
    git("init")
    assert code.commit(package) is None, "in one that does not hold it, as an installed package"
    git("add", ".")
    git("commit", "-m", "first")
    clean = code.commit(package)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "table.md").write_text("a result")
    assert code.commit(package) == clean
    (package / "new.py").write_text("x = 1")
    assert code.commit(package) == f"{clean}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code.commit(package) is None, "without git"
