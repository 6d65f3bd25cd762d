"""What may be done to fitted users without training: one mean for all, a shorter way from it, fewer directions."""

import pytest
import torch

from recot.closed.controls import Changed, MeanUser, ShrunkUsers, TruncatedUsers
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.evaluate import evaluate
from recot.networks.factorisation import Tables
from recot.nn.contracts import Before

N_USERS, N_ITEMS, WIDTH = 24, 50, 8
DOMAINS = (Domain("films", 0, 20), Domain("books", 20, 50))
BUILD = {"mean": MeanUser, "rank 1": lambda before: TruncatedUsers(before, [1]),
         "shrunk": lambda before: ShrunkUsers(before, [0.5])}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Tables(N_USERS, N_ITEMS, WIDTH)


@pytest.fixture
def before(network):
    return Before((network,), DOMAINS)


def asked(n_users=N_USERS):
    return Query(torch.arange(n_users), Ragged.from_lists([[]] * n_users))


def split_of(targets=None, n_items=N_ITEMS):
    """Nothing to train on, and a validation target for each user."""
    nothing = torch.zeros(0, dtype=torch.int64)
    none = Ragged.from_lists([[]] * N_USERS)
    answers = Ragged.from_lists([] if targets is None else [[int(item)] for item in targets])
    empty = Ragged.from_lists([])
    valid = EvalSet(Query(nothing, empty), empty, empty, None, "valid") if targets is None else (
        EvalSet(asked(), answers, none, None, "valid"))
    return Split(Interactions.from_pairs(nothing, nothing, N_USERS, n_items), valid, ())


def wanted(users, network):
    """The item that each of ``users`` has first."""
    return (users @ network.item_table.weight.T).argmax(1)


def test_the_mean_user_gives_all_one_list(network, before):
    scores = MeanUser(before).fit(split_of()).score(asked())
    expected = network.user_table.weight.mean(0) @ network.item_table.weight.T
    torch.testing.assert_close(scores, expected.expand(N_USERS, -1))


def test_users_may_be_moved_none_or_all_of_the_way(network, before):
    start = network.user_table.weight @ network.item_table.weight.T
    whole = ShrunkUsers(before, [1.0]).fit(split_of()).score(asked())
    torch.testing.assert_close(whole, MeanUser(before).fit(split_of()).score(asked()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ShrunkUsers(before, [0.0]).fit(split_of()).score(asked()), start)
    torch.testing.assert_close(ShrunkUsers(before, [0.25]).fit(split_of()).score(asked()), 0.75 * start + 0.25 * whole)


@pytest.mark.parametrize("rank", [1, 3, 8, 20])
def test_users_are_cut_to_the_best_matrix_of_their_rank(network, before, rank):
    u, strength, v = torch.linalg.svd(network.user_table.weight.detach().double(), full_matrices=False)
    best = (u[:, :rank] * strength[:rank]) @ v[:rank]
    scores = TruncatedUsers(before, [rank]).fit(split_of()).score(asked())
    torch.testing.assert_close(scores.double(), best @ network.item_table.weight.double().T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "values", "best"), [
    (ShrunkUsers, [0.0, 0.5, 0.9], 0.9), (ShrunkUsers, [0.9, 0.0], 0.0), (TruncatedUsers, [1, 2, 4, 8], 2),
    (TruncatedUsers, [8, 1], 8)])
def test_validation_chooses(network, before, kind, values, best):
    """The held-out item of each user is what they would have first if they were changed by one of the values."""
    network.user_table.weight.data += 0.5 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    users = kind(before, values).changed(network.user_table.weight.detach(), best)
    split = split_of(wanted(users, network))
    model = kind(before, values, "recall@1").fit(split)
    assert model.value == best and model.chosen == {"model": {kind.parameter: [best]}}
    assert float(evaluate(model, split.valid, ["recall@1"])["recall@1"].mean()) == 1


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
def test_one_domain_is_scored_by_its_own_items(network, build):
    alone = build(Before((network,), DOMAINS, 1)).fit(split_of(n_items=30)).score(asked())
    torch.testing.assert_close(alone, build(Before((network,), DOMAINS)).fit(split_of()).score(asked())[:, 20:])


def test_without_answers_there_is_no_choice(before):
    with pytest.raises(ValueError, match=r"model.ranks = \[1, 2\], and the split has no validation.*one value"):
        TruncatedUsers(before, [1, 2]).fit(split_of())


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
def test_a_user_who_did_not_train_has_no_vector(before, build):
    with pytest.raises(ValueError, match="has no vector for user -1"):
        build(before).fit(split_of()).score(Query(torch.tensor([3, -1]), Ragged.from_lists([[], []])))


@pytest.mark.parametrize(("build", "fault"), [
    (lambda before: TruncatedUsers(before, []), r"model.ranks = \[\] leaves nothing to choose"),
    (lambda before: TruncatedUsers(before, [2, 0]), r"model.ranks = \[2, 0\] has one that leaves nothing"),
    (lambda before: ShrunkUsers(before, []), r"model.shares = \[\] leaves nothing to choose"),
    (lambda before: ShrunkUsers(before, [0.5, 1.5]), r"model.shares = \[0.5, 1.5\] has one that overshoots")])
def test_what_makes_no_sense_is_refused(before, build, fault):
    with pytest.raises(ValueError, match=fault):
        build(before)


def test_a_base_says_what_a_subclass_has_to_define(before):
    with pytest.raises(TypeError, match="has to define changed"):
        Changed(before, [1.0]).changed(torch.zeros(1, 1), 1.0)
