"""What every method promises, asked of every preset in conf/model: adding one adds no test code.

Where a preset cannot keep a promise with the values that all are given, tests/presets/<name>.yaml says why.
"""

import inspect
import re
from functools import cache

import pytest
import torch
from commands import known as composed
from exceptions import FOLDER, KINDS, exceptions, having, words
from hydra.utils import get_class
from small import asked, briefly, plain, wants_domains

from recot.closed.markov import Markov
from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.evaluate import evaluate
from recot.fit.gradient import Gradient
from recot.networks.caser import Caser
from recot.networks.sequential import Sequential
from recot.record.build import ask_questions, build, make
from recot.request.claims import is_inductive
from recot.request.compose import CONF
from recot.request.errors import RequestError

PRESETS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SMALL = ("model.dim=16", "model.max_length=20", "loss.batch_size=32", "trainer.max_epochs=12")
"""Of networks that read sequences, which cost a hundred times as much an epoch as a table of vectors."""
IN_DOMAINS = ("model.dim=32", "loss.batch_size=256", "trainer.max_epochs=10", "trainer.learning_rate=1e-2")
"""Of what has stages, or is fitted once for each of three domains."""
STAGE = {"dim": 32, "batch_size": 256, "max_epochs": 10, "learning_rate": 1e-2, "per_node": 2, "passes": 5, "steps": 5}
"""Of stages before the last."""
SHORT = ("data.n_users=120", "data.mean_activity=10", "loss.batch_size=32", "trainer.max_epochs=2")
"""For what holds after any training: several steps in each of two epochs."""
IN_ORDER = ("protocol=sequence", "model.dim=32", "model.dropout=0.2", "model.attention_dropout=0", "loss.negatives=8",
            "trainer.learning_rate=3e-3", "trainer.max_epochs=40", "trainer.eval_every=3")
BY_HEART = ("protocol=sequence", "model.dim=32", "model.dropout=0", "model.attention_dropout=0", "model.max_length=8",
            "loss.batch_size=64", "trainer.learning_rate=1e-2", "trainer.max_epochs=150", "trainer.eval_every=5",
            "trainer.patience=99")


def taken(preset, given):
    """Those of the words that set what a preset has."""
    def sets(word):
        group, _, key = word.partition("=")[0].partition(".")
        return group in ("data", "protocol") or key.partition(".")[0] in plain(preset)[group]

    return tuple(filter(sets, given))


@cache
def reads_sequences(preset):
    return issubclass(get_class(plain(preset)["model"]["_target_"]), Sequential | Caser)


@cache
def config(preset, *given):
    """The checked config of a preset on planted data, with the trainer a first run uses."""
    small = SMALL if reads_sequences(preset) else ()
    if wants_domains(preset):
        small = (*asked(preset), *IN_DOMAINS, *briefly(preset, **STAGE))
    return composed(f"model={preset}", "trainer=smoke", *taken(preset, (*small, *words(preset, "small"), *given)))[0]


def graded_by(preset):
    """The metric that a preset is graded by: among all items, or among 41 of a domain."""
    return "recall@5" if wants_domains(preset) else "recall@20"


class Enough(Exception):
    """The network has learnt what it was asked for; further epochs would show nothing."""


def learns(settings, questions, of, metric, floor):
    """Whether a preset that is fitted on ``of`` answers questions better than ``floor``.

    A network trains no longer than it has to: it is asked after each epoch that validation would keep if it were the
    last one. What another epoch would answer does not count.
    """
    def grade():
        return evaluate(model, questions, [metric])[metric].mean()

    def observe(history):
        values = [row[monitor] for row in history if monitor in row]
        if isinstance(model, Gradient) and monitor in history[-1] and values[-1] > max(values[:-1], default=-1.0):
            if grade() > floor:
                raise Enough
            model.network.train()

    model, monitor = build(settings, observe=observe), settings["protocol"]["monitor"]
    try:
        model.fit(of)
    except Enough:
        return True
    return grade() > floor


@cache
def split(settings_of, *given):
    settings = config(settings_of, *given)
    return ask_questions(settings, make(settings["data"]).load())


def floor_of(model, planted, metric):
    return evaluate(model.fit(planted), planted.test[0], [metric])[metric].mean()


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ("popularity", "markov")
                                    and name not in having("one_list")])
def test_it_beats_popularity_on_planted_communities(preset):
    planted = split(preset)
    settings = config(preset, "trainer.eval_every=2", "trainer.patience=99", *words(preset, "learns_with"))
    floor = floor_of(Popularity(), planted, graded_by(preset))
    assert learns(settings, planted.test[0], planted.for_training(), graded_by(preset), 2 * floor)


@pytest.mark.parametrize("preset", sorted(having("learns_with")))
def test_a_preset_that_is_given_other_values_needs_them(preset):
    planted = split(preset)
    floor, metric = floor_of(Popularity(), planted, graded_by(preset)), graded_by(preset)
    sparse = ("trainer.eval_every=4",) * reads_sequences(preset)
    model = build(config(preset, *sparse)).fit(planted.for_training())
    assert evaluate(model, planted.test[0], [metric])[metric].mean() < 1.5 * floor


def test_what_followed_the_last_item_beats_popularity_where_the_last_item_is_asked_for():
    planted = split("markov", "protocol=sequence")
    assert floor_of(Markov(), planted, "mrr") > 5 * floor_of(Popularity(), planted, "mrr")


@pytest.mark.parametrize("preset", [name for name in PRESETS if reads_sequences(name)
                                    and not {"first_order", "order_comes_late"} & {*exceptions(name)}])
def test_a_sequential_model_beats_what_followed_the_last_item(preset):
    """With eight negatives: with the one of the papers, SASRec stays at 0.46 of mrr where the floor has 0.476."""
    planted = split(preset, "protocol=sequence")
    settings = config(preset, *words(preset, "learns_with"), *IN_ORDER, *words(preset, "in_order"))
    assert learns(settings, planted.test[0], planted.for_training(), "mrr", floor_of(Markov(), planted, "mrr"))


@pytest.mark.parametrize("preset", [name for name in PRESETS if reads_sequences(name)])
def test_a_sequential_model_learns_sixty_four_users_by_heart(preset, rng):
    """All but those that know nothing but the last item, which two users may share."""
    rows = torch.rand(64, 80, generator=rng).argsort(1)[:, :6]
    train = Interactions.from_pairs(torch.arange(64).repeat_interleave(6), rows.flatten(), 64, 80,
                                    times=torch.arange(384))
    history, last = (Ragged.from_lists(part.tolist()) for part in rows.split([5, 1], 1))
    questions = EvalSet(Query(torch.arange(64), history), last, history, None, "valid")
    settings = config(preset, *words(preset, "learns_with"), *BY_HEART, *words(preset, "by_heart"))
    share = 0.6 if "first_order" in exceptions(preset) else 0.9
    assert learns(settings, questions, Split(train, questions, ()), "recall@1", share)


@pytest.fixture(scope="module", params=PRESETS)
def preset(request):
    """Each preset in turn: the tests that share a short fit of it follow each other."""
    return request.param


@pytest.fixture(scope="module")
def short(preset):
    """The questions of small planted data."""
    return split(preset, *SHORT)


@pytest.fixture(scope="module")
def fitted(preset, short):
    """A short fit, which all tests of a preset share and none changes."""
    return build(config(preset, *SHORT)).fit(short.for_training())


@pytest.fixture(scope="module")
def scores(fitted, short):
    return fitted.score(short.test[0].query)


def test_scores_are_finite_of_the_right_shape_and_fresh(fitted, short, scores):
    assert scores.shape == (len(short.test[0]), short.train.n_items) and scores.dtype == torch.float32
    assert scores.isfinite().all()
    fitted.score(short.test[0].query).zero_()
    torch.testing.assert_close(fitted.score(short.test[0].query), scores, atol=0, rtol=0)


def test_the_same_seed_gives_the_same_scores_whatever_was_fitted_before(preset, short, scores):
    """Of a recommender of its own, which has seen other data: a second fit forgets the first."""
    again = build(config(preset, *SHORT))
    again.fit(split(preset, *SHORT, "data.data_seed=5").for_training())
    again.fit(short.for_training())
    torch.testing.assert_close(again.score(short.test[0].query), scores, atol=0, rtol=0)


def test_one_query_at_a_time_gives_the_scores_of_all_at_once(fitted, short, scores):
    query = short.test[0].query
    for place in (0, 17, len(query) - 1):
        alone = fitted.score(query.slice(place, place + 1))
        torch.testing.assert_close(alone[0], scores[place], atol=1e-5, rtol=1e-4)


def test_an_inductive_model_ignores_the_user_id_and_another_refuses_unseen_users(fitted, short, scores):
    query = short.test[0].query
    unseen = Query(torch.full_like(query.users, -1), query.history)
    if all(part.inductive for part in fitted.networks):
        torch.testing.assert_close(fitted.score(unseen), scores)
    else:
        with pytest.raises(ValueError, match="pick an inductive model"):
            fitted.score(unseen)


def test_fitting_leaves_the_split_alone(preset, short, fitted):
    """And needs no test answers: those that a model is fitted on have none."""
    settings = config(preset, *SHORT)
    assert short.for_training().test == ()
    assert short.fingerprint == ask_questions(settings, make(settings["data"]).load()).fingerprint


def test_scores_of_nobody_are_empty(fitted, short):
    nobody = Query(torch.zeros(0, dtype=torch.int64), Ragged.from_lists([]))
    assert fitted.score(nobody).shape == (0, short.train.n_items)


STRANGERS = ("protocol=strong", "protocol.split.valid=20", "protocol.split.test=30", *SHORT, "trainer.max_epochs=1")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_answers_users_who_did_not_train_or_says_what_would(preset):
    """Under protocol=strong: no user is looked up who is asked about, but where the histories trained as well."""
    parameters = inspect.signature(get_class(plain(preset)["model"]["_target_"])).parameters
    ways = [f"model.fold_in={way}" for way in (
        re.findall(r"\w+", parameters["fold_in"].annotation)[1:] if "fold_in" in parameters else ())]
    answered = set()
    for way in ways or [""]:
        try:
            settings = (composed(f"model={preset}", "protocol=strong")[0] if wants_domains(preset) else
                        config(preset, *STRANGERS, *filter(None, [way])))
        except RequestError as error:
            assert re.search(r"; use |^use ", str(error)), error
            continue
        questions = ask_questions(settings, make(settings["data"]).load())
        assert bool((questions.test[0].query.users < 0).all()) == (way != "model.fold_in=transductive")
        values = evaluate(build(settings).fit(questions.for_training()), questions.test[0], ["ndcg@20"])["ndcg@20"]
        assert len(values) == len(questions.test[0]) and 0 < values.mean() <= 1
        answered.add(way)
    refused = {*(ways or [""])} - answered
    assert refused == ({"model.fold_in=none"} & {*ways} if is_inductive(plain(preset)) or len(ways) > 1 else {""})


def test_a_preset_that_shows_one_list_shows_one(preset, scores):
    assert ("one_list" in exceptions(preset)) == (len(scores.unique(dim=0)) == 1 and preset != "popularity")


def test_every_exception_is_of_a_known_kind_of_a_preset_that_is_there_and_says_why():
    for file in FOLDER.glob("*.yaml"):
        assert file.stem in PRESETS and exceptions(file.stem)
        for kind, entry in exceptions(file.stem).items():
            assert kind in KINDS and set(entry) <= {"words", "why"} and len(entry["why"].split()) > 5, file
            assert taken(file.stem, entry.get("words", ())) == tuple(entry.get("words", ())), file


METHODS = sorted({target for group in ("model", "loss", "denoiser", "stage") for file in (CONF / group).glob("*.yaml")
                  for target in re.findall(r"_target_: (recot\.[\w.]+)", file.read_text())
                  if not target.startswith(("recot.data.", "recot.batches."))}
                 - {"recot.denoise.base.Denoiser"})  # which does nothing


@pytest.mark.parametrize("target", METHODS)
def test_its_docstring_says_where_it_departs_from_its_source(target):
    """A paragraph of the class itself, so that it cannot be forgotten by a subclass or stand in a preset alone."""
    paragraphs = inspect.cleandoc(get_class(target).__doc__ or "").split("\n\n")
    departures = [text for text in paragraphs if text.startswith("Departures: ")]
    assert len(departures) == 1 and len(departures[0].removeprefix("Departures: ").split()) >= 2
