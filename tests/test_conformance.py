"""What every method promises, asked of every preset in conf/model: adding one adds no test code."""

import inspect
import re
from functools import cache

import pytest
import torch
from commands import composed
from hydra.utils import get_class

from recot.closed.markov import Markov
from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.evaluate import evaluate
from recot.fit.gradient import Gradient
from recot.networks.caser import Caser
from recot.networks.sequential import Sequential
from recot.record.build import ask_questions, build, make
from recot.request.compose import CONF

FLATTENED = ("loss.contrast.tau=100",)
LEARNS_WITH = {  # what a preset is given where its own values are known to teach it no more than popularity
    # The code behind ProRec's table decays by 0.1 what gradients of some 1e-5 build: the table's CDAE row is, digit for
    # digit, that of popularity.
    "cdae": ("trainer.weight_decay=0", "trainer.max_epochs=300"),
    # All states side by side make inner products of some hundreds: at the code's temperature of 1 (or of 1e-6, for one
    # over a distance) one other view takes all, and the first hundreds of steps go into that.
    "cl4rec": FLATTENED, "coserec": FLATTENED, "coserec_wdm": ("loss.contrast.tau=1e-3",),
    "mstein_released": ("loss.contrast.tau=1e-3",),
    # Of a network this narrow and half dropped out, some hundred steps teach a mask nothing but what is popular.
    "bert4rec": ("model.dim=32", "model.dropout=0.2", "trainer.learning_rate=3e-3", "trainer.max_epochs=30"),
    # All items of two batches an epoch: what is popular comes first, and communities some hundred steps later.
    "neumf_table4": ("trainer.learning_rate=1e-2", "trainer.patience=99", "trainer.eval_every=10"),
}
PRESETS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SMALL = ("model.dim=16", "model.max_length=20", "loss.batch_size=32", "trainer.max_epochs=12", "trainer.eval_every=4")
"""Of networks that read sequences, which cost a hundred times as much an epoch as a table of vectors."""
SMALL_INSTEAD = {"caser": ("model.max_length=5", "loss.batch_size=128", "trainer.learning_rate=3e-3"),
                 "duorec": ("loss.prefixes=one", "trainer.max_epochs=40", "trainer.learning_rate=3e-3",
                            "model.dropout=0.2")}
"""What else of those that are not small by the above (filters of 20 heights), or see less in an epoch.

Half dropped out, what DuoRec learns is a matter of its seed: recall of .17 to .44 at four of them, .44 to .53 with .2.
"""


@cache
def config(preset, *overrides):
    """The checked config of a preset on planted data, with the trainer a first run uses."""
    words = (f"model={preset}", "trainer=smoke")
    return composed(*words, *SMALL * reads_sequences(preset), *SMALL_INSTEAD.get(preset, ()), *overrides)[0]


@cache
def reads_sequences(preset):
    return issubclass(get_class(composed(f"model={preset}")[0]["model"]["_target_"]), Sequential | Caser)


@cache
def split(preset, *overrides):
    settings = config(preset, *overrides)
    return ask_questions(settings, make(settings["data"]).load())


@cache
def fitted(preset, *overrides):
    return build(config(preset, *overrides)).fit(split(preset, *overrides).for_training())


def scores(preset, *overrides):
    return fitted(preset, *overrides).score(split(preset, *overrides).test[0].query)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ("popularity", "markov")])
def test_it_beats_popularity_on_planted_communities(preset):
    words = LEARNS_WITH.get(preset, ())
    questions = split(preset).test[0]
    floor = evaluate(Popularity().fit(split(preset)), questions, ["recall@20"])["recall@20"].mean()
    assert evaluate(fitted(preset, *words), questions, ["recall@20"])["recall@20"].mean() > 2 * floor


def test_what_followed_the_last_item_beats_popularity_where_the_last_item_is_asked_for():
    planted = split("markov", "protocol=sequence")
    found = [evaluate(model.fit(planted), planted.test[0], ["mrr"])["mrr"].mean() for model in (Markov(), Popularity())]
    assert found[0] > 5 * found[1]


# As released, the mean of a state is that of its last item alone, so that these are chains of first order but for their
# deviations; with the values below they end at 0.44 to 0.46 of mrr, where the floor has 0.476.
FIRST_ORDER = {"stosa_released", "mstein_released"}
IN_ORDER = ("model.dim=32", "model.dropout=0.2", "model.attention_dropout=0", "loss.negatives=8",
            "trainer.learning_rate=3e-3", "trainer.max_epochs=40", "trainer.eval_every=10")
# Caser has to be asked for one item at a time: with the three of its preset it learns what comes within three steps,
# and the values below end at 0.43 instead of 0.52 (0.49 to 0.52 over three seeds). With the weight decay of the preset,
# where the vectors of users grow twice as long on 15 windows each, they end at 0.48.
IN_ORDER_INSTEAD = {"caser": (
    "loss.targets=1", "trainer.weight_decay=1e-4", "loss.negatives=20", "model.dim=32", "loss.batch_size=128",
    "trainer.learning_rate=5e-3", "trainer.max_epochs=25", "trainer.eval_every=5"),
    "duorec": (*IN_ORDER[:3], "trainer.learning_rate=5e-3", "trainer.max_epochs=60", "trainer.eval_every=20")}
# A mask has to find the item before it, which a causal network starts from. Communities are learnt at once and order
# some thousand steps later, when 400 users are known by heart: 0.19 with the values below, 0.26 at the best found. It
# needs users, not other values: of 2,000 it makes 0.41 in 6,000 steps, and rising. tests/test_sequential.py has a ring.
ORDER_COMES_LATE = {"bert4rec"}


@pytest.mark.parametrize("preset", [name for name in PRESETS
                                    if reads_sequences(name) and name not in FIRST_ORDER | ORDER_COMES_LATE])
def test_a_sequential_model_beats_what_followed_the_last_item(preset):
    """With eight negatives: with the one of the papers, SASRec stays at 0.46 of mrr where the floor has 0.476."""
    words = ("protocol=sequence", *IN_ORDER_INSTEAD.get(preset, IN_ORDER), *LEARNS_WITH.get(preset, ()))
    questions = split(preset, *words).test[0]
    floor = evaluate(Markov().fit(split(preset, *words)), questions, ["mrr"])["mrr"].mean()
    assert evaluate(fitted(preset, *words), questions, ["mrr"])["mrr"].mean() > floor


BY_HEART = ("protocol=sequence", "model.dim=32", "model.dropout=0", "model.max_length=8", "loss.batch_size=64",
            "trainer.learning_rate=1e-2", "trainer.max_epochs=150", "trainer.eval_every=30", "trainer.patience=99")
BY_HEART_TOO = {
    "caser": ("trainer.weight_decay=0", "loss.targets=1", "loss.negatives=8", "trainer.max_epochs=60"),
    "duorec": ("loss.prefixes=all", "trainer.learning_rate=5e-3", "trainer.max_epochs=90")}


@pytest.mark.parametrize("preset", [name for name in PRESETS if reads_sequences(name)])
def test_a_sequential_model_learns_sixty_four_users_by_heart(preset, rng):
    """All but those that know nothing but the last item, which two users may share."""
    rows = torch.rand(64, 80, generator=rng).argsort(1)[:, :6]
    train = Interactions.from_pairs(torch.arange(64).repeat_interleave(6), rows.flatten(), 64, 80,
                                    times=torch.arange(384))
    known, last = (Ragged.from_lists(part.tolist()) for part in rows.split([5, 1], 1))
    questions = EvalSet(Query(torch.arange(64), known), last, known, None, "valid")
    asleep = () if preset == "caser" else ("model.attention_dropout=0",)
    words = (*BY_HEART, *asleep, *BY_HEART_TOO.get(preset, LEARNS_WITH.get(preset, ())[:1]))
    model = build(config(preset, *words)).fit(Split(train, questions, ()))
    hit = evaluate(model, questions, ["recall@1"])["recall@1"].mean()
    assert hit > (0.6 if preset in FIRST_ORDER else 0.9)


@pytest.mark.parametrize("preset", LEARNS_WITH)
def test_a_preset_that_is_given_other_values_needs_them(preset):
    questions = split(preset).test[0]
    floor = evaluate(Popularity().fit(split(preset)), questions, ["recall@20"])["recall@20"].mean()
    assert evaluate(fitted(preset), questions, ["recall@20"])["recall@20"].mean() < 1.5 * floor


@pytest.mark.parametrize("preset", PRESETS)
def test_scores_are_finite_of_the_right_shape_and_fresh(preset):
    first, second = scores(preset), scores(preset)
    assert first.shape == (len(split(preset).test[0]), split(preset).train.n_items) and first.dtype == torch.float32
    assert first.isfinite().all()
    first.zero_()
    torch.testing.assert_close(scores(preset), second, atol=0, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_seed_gives_the_same_scores(preset):
    few = ("trainer.max_epochs=3",)
    again = build(config(preset, *few)).fit(split(preset, *few).for_training())
    torch.testing.assert_close(again.score(split(preset).test[0].query), scores(preset, *few), atol=0, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_second_fit_forgets_the_first(preset):
    few, other = ("trainer.max_epochs=3",), ("trainer.max_epochs=3", "data.data_seed=5")
    model = build(config(preset, *few))
    model.fit(split(preset, *other).for_training())
    model.fit(split(preset, *few).for_training())
    torch.testing.assert_close(model.score(split(preset).test[0].query), scores(preset, *few), atol=0, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_one_query_at_a_time_gives_the_scores_of_all_at_once(preset):
    query, together = split(preset).test[0].query, scores(preset)
    for place in (0, 17, len(query) - 1):
        alone = fitted(preset).score(query.slice(place, place + 1))
        torch.testing.assert_close(alone[0], together[place], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_inductive_model_ignores_the_user_id_and_another_refuses_unseen_users(preset):
    model, query = fitted(preset), split(preset).test[0].query
    unseen = Query(torch.full_like(query.users, -1), query.history)
    if getattr(model, "inductive", None) or (isinstance(model, Gradient) and model.network.inductive):
        torch.testing.assert_close(model.score(unseen), model.score(query))
    else:
        with pytest.raises(ValueError, match="pick an inductive model"):
            model.score(unseen)


@pytest.mark.parametrize("preset", PRESETS)
def test_fitting_needs_no_test_answers_and_leaves_the_split_alone(preset):
    few = ("trainer.max_epochs=3",)
    before = split(preset, *few).fingerprint
    build(config(preset, *few)).fit(split(preset, *few).for_training())
    assert split(preset, *few).fingerprint == before and split(preset, *few).for_training().test == ()


@pytest.mark.parametrize("preset", PRESETS)
def test_scores_of_nobody_are_empty(preset):
    nobody = Query(torch.zeros(0, dtype=torch.int64), Ragged.from_lists([]))
    assert fitted(preset).score(nobody).shape == (0, split(preset).train.n_items)


METHODS = sorted({target for group in ("model", "loss", "denoiser") for file in (CONF / group).glob("*.yaml")
                  for target in re.findall(r"_target_: (recot\.\S+)", file.read_text())
                  if not target.startswith(("recot.data.", "recot.batches."))}
                 - {"recot.denoise.base.Denoiser"})  # which does nothing


@pytest.mark.parametrize("target", METHODS)
def test_its_docstring_says_where_it_departs_from_its_source(target):
    """A paragraph of the class itself, so that it cannot be forgotten by a subclass or stand in a preset alone."""
    paragraphs = inspect.cleandoc(get_class(target).__doc__ or "").split("\n\n")
    departures = [text for text in paragraphs if text.startswith("Departures: ")]
    assert len(departures) == 1 and len(departures[0].removeprefix("Departures: ").split()) >= 2
