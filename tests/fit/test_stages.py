"""A fit for each domain, and stages that go on from one another."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from commands import composed
from fitting import QUICK

from recot.closed.neighbours import ItemKNN
from recot.data.domains import cut, domains
from recot.data.planted import Planted
from recot.denoise.base import Denoiser
from recot.evaluation.evaluate import evaluate
from recot.evaluation.recommender import Recommender
from recot.fit.gradient import Gradient
from recot.fit.stages import Apart, Staged
from recot.networks.base import TwoTower
from recot.networks.factorisation import Tables
from recot.nn import similarity
from recot.nn.contracts import Before
from recot.nn.table import Table
from recot.objectives.pairs import BPR
from recot.record.build import build, rehearse
from recot.request.errors import RequestError


class Shifted(TwoTower):
    """Users of the stage before, and a table that is added to its items."""

    def __init__(self, n_users, n_items, before: Before):
        super().__init__()
        users, items = before.vectors(n_users)
        self.register_buffer("before_users", users)
        self.register_buffer("before_items", items)
        self.similarity = similarity.dot
        self.item_table = Table(n_items, items.shape[1])

    def users(self, query):
        return self.before_users[query.users]

    def items(self, ids=None):
        return (self.before_items if ids is None else self.before_items[ids]) + self.item_table(ids)


def split():
    return domains(Planted(n_users=60, n_items=150, n_communities=3, n_domains=3).load().interactions, 20)


def trained(network, before=None, folder=None, observe=lambda history: None, training=QUICK):
    given = {} if before is None else {"before": before}
    return Gradient(partial(network, **given), BPR(64), Denoiser(), training, "ndcg@10", folder=folder, observe=observe)


tables = partial(trained, partial(Tables, dim=8))
shifted = partial(trained, Shifted)


def each(made):
    """How a recommender of each domain is made."""
    return lambda before, folder, observe: Apart(made, before, False, folder, observe)


def test_one_fit_for_each_domain_is_that_of_the_domain_alone():
    whole = split()
    apart = Apart(tables).fit(whole.for_training())
    query = whole.test[0].query.slice(0, 50)
    for number, domain in enumerate(whole.train.domains):
        alone = tables(None, None, lambda history: None).fit(cut(whole, [number]))
        assert torch.equal(apart.score(query)[:, domain.items], alone.score(query))
    assert apart.best_epoch == max(model.best_epoch for model in apart.models)
    assert {row["domain"] for row in apart.history} == {0, 1, 2}
    assert set(apart.stages) == {"domain0", "domain1", "domain2"}


def test_a_closed_form_of_a_domain_knows_its_history_alone():
    whole = split()
    apart = Apart(lambda *_: ItemKNN(k=10)).fit(whole.for_training())
    scores = apart.score(whole.test[0].query)
    for number, domain in enumerate(whole.train.domains):
        part = cut(replace(whole, valid=whole.test[0]), [number])
        alone = ItemKNN(k=10).fit(cut(whole, [number]))
        rows = (whole.test[0].targets.values >= domain.start) & (whole.test[0].targets.values < domain.stop)
        assert torch.equal(scores[rows][:, domain.items], alone.score(part.valid.query))


@pytest.mark.parametrize("make", [tables, lambda *_: ItemKNN(k=10)])
def test_scores_of_some_items_are_those_among_all(make):
    whole = split()
    apart = Apart(make).fit(whole.for_training())
    test = whole.test[0]
    scores = apart.score(test.query)
    assert torch.allclose(apart.score_of(test.query, test.candidates), scores.gather(1, test.candidates), atol=1e-6)
    assert torch.allclose(apart.score_of(test.query, slice(55, 90)), scores[:, 55:90], atol=1e-6)
    assert torch.allclose(apart.score_of(test.query, slice(30, 90)), scores[:, 30:90], atol=1e-6)
    mixed = torch.arange(0, 150, 30).repeat(len(test), 1)  # of several domains in a row
    assert torch.allclose(apart.score_of(test.query, mixed), scores[:, ::30], atol=1e-6)


def test_the_others_train_what_a_later_stage_goes_on_from_and_answer_nothing():
    whole, seen = split(), []

    class Watching(Recommender):
        def fit(self, split):
            seen.append(split.train)
            return self

    apart = Apart(lambda *_: Watching(), others=True).fit(whole.for_training())
    assert [[domain.name for domain in train.domains] for train in seen] == [
        ["domain1", "domain2"], ["domain0", "domain2"], ["domain0", "domain1"]]
    with pytest.raises(RequestError, match="which only a later stage can use; use domains=each"):
        apart.score(whole.valid.query)


def test_data_without_domains_are_refused_in_a_sentence():
    whole = split()
    with pytest.raises(RequestError, match="domains=each wants data with domains; use domains=joint"):
        Apart(tables).fit(replace(whole, train=replace(whole.train, domains=())))
    with pytest.raises(RequestError, match="domains=others wants data with two domains or more"):
        Apart(tables, others=True).fit(cut(whole, [0]))


def test_a_stage_goes_on_from_the_network_before_it():
    whole = split()
    staged = Staged({"first": tables, "second": shifted}).fit(whole.for_training())
    first = tables(None, None, lambda history: None).fit(whole.for_training())
    assert torch.equal(staged.model.network.before_users, first.network.user_table.weight)
    assert torch.equal(staged.model.network.before_items, first.network.item_table.weight)
    assert [row["stage"] for row in staged.history] == [0] * len(first.history) + [1] * len(staged.model.history)
    assert set(staged.stages) == {"first", "second"}
    assert staged.stages["first"]["best_epoch"] == first.best_epoch and staged.best_epoch == staged.model.best_epoch
    query = whole.valid.query
    assert torch.equal(staged.score(query), staged.model.score(query))


def test_a_stage_for_each_domain_goes_on_from_its_part_of_a_joint_one():
    whole = split()
    staged = Staged({"first": tables, "each": each(shifted)}).fit(whole.for_training())
    first = tables(None, None, lambda history: None).fit(whole.for_training())
    for domain, network in zip(whole.train.domains, staged.networks, strict=True):
        assert torch.equal(network.before_items, first.network.item_table.weight[domain.items])
    assert {*staged.stages} == {"first", "each", "each/domain0", "each/domain1", "each/domain2"}


def test_a_stage_for_each_domain_goes_on_from_that_of_the_same_domain():
    whole = split()
    staged = Staged({"first": each(tables), "second": each(shifted)}).fit(whole.for_training())
    first = Apart(tables).fit(whole.for_training())
    for network, before in zip(staged.networks, first.networks, strict=True):
        assert torch.equal(network.before_items, before.item_table.weight)


def test_a_blind_stage_is_trained_to_its_last_epoch():
    staged = Staged({"first": tables, "second": shifted}, blind=["first"]).fit(split().for_training())
    assert staged.stages["first"]["best_epoch"] == QUICK.max_epochs
    assert all("ndcg@10" not in row for row in staged.history if row["stage"] == 0)
    assert any("ndcg@10" in row for row in staged.history if row["stage"] == 1)


class Stop(Exception):
    pass


@pytest.mark.parametrize(("stage", "rows"), [(0, 2), (1, 1), (1, 6)])
def test_it_goes_on_in_the_stage_that_was_interrupted_and_ends_as_if_it_had_not_been(tmp_path, stage, rows):
    """Row 6 of the second stage lies in its second domain."""
    whole = split()
    makes = {"first": tables, "second": each(shifted)}

    def observe(history):
        if sum(row["stage"] == stage for row in history) == rows:
            raise Stop

    with pytest.raises(Stop):
        Staged(makes, (), tmp_path, observe).fit(whole.for_training())
    told = []
    resumed = Staged(makes, (), tmp_path, lambda history: told.append(len(history))).fit(whole.for_training())
    straight = Staged(makes).fit(whole.for_training())
    assert torch.equal(resumed.score(whole.valid.query), straight.score(whole.valid.query))
    assert len(resumed.history) == len(straight.history) > len(told)  # what was done is not done again

    def without(history):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in history]

    assert without(resumed.history) == without(straight.history)


def test_weights_of_every_stage_and_domain_are_read_back(tmp_path):
    whole = split()
    makes = {"first": tables, "second": each(shifted)}
    staged = Staged(makes).fit(whole.for_training())
    staged.save(tmp_path / "weights.pt")
    read = Staged(makes).load(tmp_path / "weights.pt", whole.train)
    assert torch.equal(read.score(whole.valid.query), staged.score(whole.valid.query))
    with pytest.raises(RequestError, match="force=true makes it again"):
        Staged({"first": tables, "second": shifted}).load(tmp_path / "weights.pt", whole.train)


SMALL = ("data=planted", "data.n_domains=3", "protocol=domains", "protocol.split.candidates=20", "trainer=smoke",
         "trainer.max_epochs=2")


def test_a_config_says_for_which_domains_one_fit_is():
    whole = split()
    for word, kind in (("joint", Gradient), ("each", Apart)):
        model = build(composed(*SMALL, "model=bprmf", f"domains={word}")[0]).fit(whole.for_training())
        assert isinstance(model, kind)
        assert float(evaluate(model, whole.test[0], ["hr@10"])["hr@10"].mean()) > 0


@pytest.mark.parametrize(("words", "said"), [
    (("domains=all",), "domains = 'all' does not fit; use one of joint, each, others"),
    (("domains=each", "protocol.refit=true"), "protocol.refit=true knows no stages"),
    (("+stage@stages.first=pge",), "model=bprmf learns nothing from the stages before"),
    (("+stages.first.model=3",), "stages.first says model, loss, trainer, domains, monitor"),
    (("+stage@stages.first=pge", "stages.first.monitor=3"), "stages.first.monitor = 3 does not fit"),
    (("+stage@stages.first=pge", "stages.first.domains=some"), "stages.first.domains = 'some' does not fit"),
    (("+stage@stages.first=pge", "stages.first.model.dim=x"), "stages.first.model.dim = 'x' does not fit"),
    (("+stage@stages.first=pge", "+stages.first.trainer.max_epoch=3"), "stages.first.trainer.max_epoch is not a"),
    (("+stage@stages.first=pge", "stages.first.loss._target_=recot.denoise.base.Denoiser"), "is no objective"),
    (("+stage@stages.first=pge", "stages.first.model._target_=os.system"), "lies outside recot"),
])
def test_a_wrong_request_is_refused_by_the_path_of_its_key(words, said):
    with pytest.raises(RequestError) as refusal:
        composed(*SMALL, "model=bprmf", *words)
    assert said in str(refusal.value)


def test_every_stage_is_rehearsed_before_anything_is_read():
    config = composed(*SMALL, "model=bprmf")[0]
    rehearse(config)
    stage = {"model": config["model"] | {"dim": -1}, "loss": config["loss"], "trainer": {}, "domains": "joint",
             "monitor": True}
    with pytest.raises(Exception, match="is the width of the vectors"):
        rehearse(config | {"stages": {"first": stage}})
