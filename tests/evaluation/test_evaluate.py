"""Metrics against their definitions, against another library, and under every way of computing ranks."""

import itertools
import logging
import math
import random
import re
from typing import Any

import pytest
import torch
import torchmetrics.functional.retrieval as retrieval
from torch import Tensor

from recot.data.interactions import Ragged
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.evaluate import best, count, count_near_top, evaluate, ranks, recommended, users_at_once
from recot.evaluation.metrics import (
    BEYOND,
    METRICS,
    Ranks,
    average_precision,
    check_metrics,
    hr,
    map_running,
    mrr,
    ndcg,
    ndcg_full,
    parse_metric,
    recall,
    recall_capped,
)
from recot.evaluation.recommender import Recommender

ALL = [f"{name}@{k}" for name in METRICS for k in (1, 2, 5, 10)]


class Given(Recommender):
    """Answers with the scores it was given; row u belongs to user u."""

    def __init__(self, scores: Tensor):
        self.scores = scores

    def fit(self, split: Split) -> "Given":
        return self

    def score(self, query: Query) -> Tensor:
        return self.scores[query.users].clone()


def at(positions: list[list[int]]) -> Ranks:
    """Untied targets at the given positions."""
    first = Ragged.from_lists(positions)
    return Ranks(first, torch.ones_like(first.values))


def asked(targets: list[list[int]], seen: list[list[int]] | None = None, candidates: Tensor | None = None) -> EvalSet:
    empty = Ragged.from_lists(seen or [[] for _ in targets])
    return EvalSet(Query(torch.arange(len(targets)), empty), Ragged.from_lists(targets), empty, candidates, "test")


# --- the definitions, in plain Python -------------------------------------------------------------------------------


def by_definition(name: str, positions: list[int], k: int) -> float:
    """One metric of one user whose targets stand at ``positions``, all different."""
    targets, hits = len(positions), [p in positions for p in range(1, k + 1)]
    gain = sum(1 / math.log2(p + 1) for p in positions if p <= k)
    precision = [sum(hits[:p]) / p for p in range(1, k + 1)]
    best = min(positions)
    return {
        "recall": sum(hits) / targets,
        "recall_capped": sum(hits) / min(k, targets),
        "ndcg": gain / sum(1 / math.log2(p + 1) for p in range(1, min(k, targets) + 1)),
        "ndcg_full": gain / sum(1 / math.log2(p + 1) for p in range(1, targets + 1)),
        "map": sum(x for x, hit in zip(precision, hits, strict=True) if hit) / min(k, targets),
        "map_running": sum(precision) / k,
        "hr": float(any(hits)),
        "mrr": 1 / best if best <= k else 0.0,
    }[name]


def orders(scores: dict[int, float], targets: list[int]) -> list[list[int]]:
    """Every way the targets can stand when ties are broken, all equally likely."""
    blocks = []
    for level in sorted({scores[t] for t in targets}):
        start = 1 + sum(s > level for s in scores.values())
        size = sum(s == level for s in scores.values())
        mates = sum(scores[t] == level for t in targets)
        blocks.append(list(itertools.combinations(range(start, start + size), mates)))
    return [[p for block in choice for p in block] for choice in itertools.product(*blocks)]


def slow(scores: list[float], targets: list[int], seen: list[int], candidates: list[int] | None, name: str) -> float:
    base, cut = parse_metric(name)
    pool = range(len(scores)) if candidates is None else candidates
    ways = orders({i: scores[i] for i in pool if i not in seen}, targets)
    k = min(cut or len(pool), len(pool))
    return sum(by_definition(base, way, k) for way in ways) / len(ways)


def random_case(seed: int) -> tuple[list[list[float]], list[list[int]], list[list[int]], list[list[int]] | None]:
    """Scores, targets, seen and candidates of a few users; small cases are full of ties, large ones have some."""
    draw = random.Random(seed)
    n_items, levels = draw.choice([(7, 3), (12, 6), (60, 40), (400, 300), (700, 10**6)])
    scores, targets, seen, candidates = [], [], [], []
    width = draw.randint(5, n_items)
    for _ in range(draw.randint(1, 4)):
        scores.append([draw.randrange(levels) / 8 for _ in range(n_items)])
        items = draw.sample(range(n_items), n_items)
        n_targets = draw.randint(1, 4)
        targets.append(items[:n_targets])
        seen.append(items[n_targets : n_targets + draw.randint(0, n_items // 2)])
        candidates.append(targets[-1] + draw.sample(items[n_targets:], width - n_targets))
    return scores, targets, seen, candidates if seed % 3 == 0 else None


@pytest.mark.parametrize("block", range(4))
def test_200_random_cases_agree_with_the_definitions(block: int):
    for seed in range(50 * block, 50 * block + 50):
        scores, targets, seen, candidates = random_case(seed)
        questions = asked(targets, seen, None if candidates is None else torch.tensor(candidates))
        found = evaluate(Given(torch.tensor(scores)), questions, ALL) | evaluate(
            Given(torch.tensor(scores)), questions, ["mrr"])
        for name, values in found.items():
            for user, value in enumerate(values.tolist()):
                pool = None if candidates is None else candidates[user]
                expected = slow(scores[user], targets[user], seen[user], pool, name)
                assert abs(value - expected) < 1e-9, (seed, user, name)


@pytest.mark.parametrize("k", [20, 90])
def test_metrics_agree_with_torchmetrics(rng: torch.Generator, k: int):
    """Its average precision divides by the hits in the first k, so that one is compared where all items are ranked."""
    theirs = {"recall": retrieval.retrieval_recall, "ndcg": retrieval.retrieval_normalized_dcg,
              "mrr": retrieval.retrieval_reciprocal_rank, "hr": retrieval.retrieval_hit_rate}
    if k == 90:
        theirs["map"] = retrieval.retrieval_average_precision
    scores = torch.rand(40, 90, generator=rng)
    targets = [torch.randperm(90, generator=rng)[: 1 + user % 12].tolist() for user in range(40)]
    found = evaluate(Given(scores), asked(targets), [f"{name}@{k}" for name in theirs])
    for name, function in theirs.items():
        for user, row in enumerate(targets):
            relevant = torch.zeros(90, dtype=torch.int64).index_fill(0, torch.tensor(row), 1)
            expected = function(scores[user], relevant, top_k=k).item()
            assert found[f"{name}@{k}"][user].item() == pytest.approx(expected, abs=2e-6), (name, user)


# --- hand examples --------------------------------------------------------------------------------------------------


def test_the_two_metric_families_give_the_worked_example_of_eight_targets():
    example = at([[1, 3, 7, 8, 9, 10, 11, 12]])
    for metric, printed in ((recall, 0.25), (ndcg_full, 0.3794), (ndcg, 0.5087), (map_running, 0.6133),
                            (average_precision, 0.3333), (recall_capped, 0.4), (hr, 1.0), (mrr, 1.0)):
        assert metric(example, 5).item() == pytest.approx(printed, abs=5e-5), metric.__name__


def test_a_list_with_hits_first_and_third_gives_the_worked_example_of_three_targets():
    example = at([[1, 3, 9]])
    assert recall_capped(example, 4).item() == pytest.approx(2 / 3, abs=1e-12)
    assert recall_capped(example, 2).item() == 0.5
    assert ndcg(example, 4).item() == pytest.approx(0.70392, abs=5e-6)


def test_ranks_1_3_and_12_of_single_targets_give_the_worked_example():
    example = at([[1], [3], [12]])
    assert recall(example, 1).mean().item() == pytest.approx(1 / 3)
    assert recall(example, 5).mean().item() == pytest.approx(2 / 3)
    assert ndcg(example, 5).mean().item() == ndcg(example, 10).mean().item() == pytest.approx(0.5)
    assert mrr(example, 1000).mean().item() == pytest.approx(0.47222, abs=5e-6)


def test_full_normalisation_never_exceeds_the_truncated_one(rng: torch.Generator):
    example = at([(torch.randperm(60, generator=rng)[: 1 + user % 30] + 1).tolist() for user in range(60)])
    for k in (1, 5, 20):
        assert (ndcg_full(example, k) <= ndcg(example, k)).all()
        assert (ndcg_full(example, k) < ndcg(example, k)).any()


# --- ties -----------------------------------------------------------------------------------------------------------


def test_a_constant_scorer_gets_what_chance_gives_a_hundred_candidates():
    questions = asked([[0]], candidates=torch.arange(100)[None])
    chance = {"hr@10": 0.1, "mrr@10": 0.02929, "ndcg@10": 0.04544, "hr@20": 0.2, "mrr@20": 0.03598, "ndcg@20": 0.07040}
    found = evaluate(Given(torch.zeros(1, 300)), questions, list(chance))
    for name, expected in chance.items():
        assert found[name].item() == pytest.approx(expected, abs=5e-6), name


def test_all_scores_equal_gives_middle_ranks():
    found = ranks(torch.zeros(1, 2000), Ragged.from_lists([[5, 9]]), Ragged.from_lists([[0, 1, 2]]), cutoff=20)
    middle = found.first.values + (found.tied - 1) / 2
    assert middle.tolist() == [999.0, 999.0]  # 1997 items are ranked


def test_a_constant_scorer_is_not_rewarded_in_a_catalogue_smaller_than_twice_the_cut():
    found = evaluate(Given(torch.ones(1, 30)), asked([[3]]), ["recall@20", "ndcg@20"])
    assert found["recall@20"].item() == pytest.approx(20 / 30)
    assert found["ndcg@20"].item() < 0.4


def test_two_targets_tied_over_the_cut_count_the_part_that_lies_inside():
    scores = torch.tensor([[5.0, 4.0, 3.0, 3.0, 3.0, 3.0, 1.0]])  # positions 3 to 6 are tied; two are targets
    found = evaluate(Given(scores), asked([[2, 3]]), ["recall@4", "hr@4", "hr@3"])
    assert found["recall@4"].item() == pytest.approx(0.5)  # each stands inside in two of four places
    assert found["hr@4"].item() == pytest.approx(1 - 1 / 6)  # of six placings, only 5 and 6 misses
    assert found["hr@3"].item() == pytest.approx(0.5)


def test_metrics_stay_within_one_when_everything_is_a_tied_target():
    found = evaluate(Given(torch.zeros(1, 39)), asked([list(range(39))]), [f"{m}@20" for m in METRICS])
    for name, values in found.items():
        assert values.item() <= 1 + 1e-12, name
    assert found["recall_capped@20"].item() == pytest.approx(1) and found["ndcg@20"].item() == pytest.approx(1)
    assert found["map@20"].item() == pytest.approx(1) and found["mrr@20"].item() == pytest.approx(1)


# --- ways of computing ranks ----------------------------------------------------------------------------------------


def sorted_count(scores: Tensor, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """As ``count``, from a full sort of every row."""
    order = scores.neg().sort(1).values
    left = torch.searchsorted(order[rows], -values[:, None]).squeeze(1)
    right = torch.searchsorted(order[rows], -values[:, None], right=True).squeeze(1)
    return left, right - left


@pytest.mark.parametrize("n_items", [1000, 1023, 1024, 1025, 3001])
@pytest.mark.parametrize("levels", [2, 30, 500, 10**7])
def test_search_near_the_top_equals_counting_and_sorting(n_items: int, levels: int, rng: torch.Generator):
    scores = torch.randint(levels, (16, n_items), generator=rng).float()
    rows = torch.arange(16).repeat_interleave(20)
    top = scores.topk(20).indices[:, torch.randperm(20, generator=rng)[:10]]  # half of the targets near or on the cut
    items = torch.cat([top, torch.randint(n_items, (16, 10), generator=rng)], dim=1).flatten()
    values = scores[rows, items]
    above, equal = count(scores, rows, values)
    for found, expected in zip((above, equal), sorted_count(scores, rows, values), strict=True):
        assert torch.equal(found, expected)
    for cutoff in (1, 5, 10, 15):
        near_above, near_equal = count_near_top(scores, rows, values, cutoff)
        known = near_above != BEYOND
        assert known[above < cutoff].all()
        assert torch.equal(near_above[known], above[known]) and torch.equal(near_equal[known], equal[known])
    assert not known.all() or levels == 2  # the search does skip targets


def test_a_tie_across_the_cut_is_found_in_groups_that_were_not_among_the_best():
    scores = torch.zeros(1, 2000)
    scores[0, :9] = 2.0
    scores[0, [100, 101, 102, 103]] = 1.0  # positions 10 to 13 around a cut at 10, each in a group of its own
    above, equal = count_near_top(scores, torch.tensor([0]), torch.tensor([1.0]), 10)
    assert (above.item(), equal.item()) == (9, 4)


@pytest.mark.parametrize("n_items", [500, 1600, 3001, 3200])
@pytest.mark.parametrize("levels", [2, 60, 10**4, 10**7])
def test_the_best_of_each_row_are_those_of_a_sort_and_equal_ones_in_the_order_of_topk(
        n_items: int, levels: int, rng: torch.Generator):
    scores = torch.randint(levels, (24, n_items), generator=rng).float()
    scores[:8].scatter_(1, torch.randint(n_items, (8, 900), generator=rng), -math.inf)
    scores[8:10, 10:] = -math.inf  # fewer are left than are asked for
    for k in (1, 5, 20):
        values, columns = best(scores, k)
        assert values.equal(scores.topk(k, 1).values) and columns.equal(scores.topk(k, 1).indices)
        assert values.equal(scores.sort(1, descending=True).values[:, :k])
        assert best(scores.T.contiguous().T, k)[1].equal(columns)


def test_metrics_do_not_depend_on_the_largest_cut_asked_for(rng: torch.Generator):
    scores = torch.randint(3000, (30, 2500), generator=rng).float()
    targets = [torch.randperm(2500, generator=rng)[:60].tolist() for _ in range(30)]
    together = evaluate(Given(scores), asked(targets), [*ALL, "recall@50", "mrr"])
    for name in ALL:
        torch.testing.assert_close(evaluate(Given(scores), asked(targets), [name])[name], together[name])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_chunk_size_does_not_matter(chunk: int, rng: torch.Generator):
    scores = torch.randint(500, (50, 1500), generator=rng).float()
    targets = [torch.randperm(1500, generator=rng)[: 1 + user % 5].tolist() for user in range(50)]
    once, again = (evaluate(Given(scores), asked(targets), [*ALL, "mrr"], size) for size in (64, chunk))
    for name, values in once.items():
        assert torch.equal(values, again[name]), name


def test_users_in_another_order_get_the_same_values(rng: torch.Generator):
    scores = torch.randint(50, (40, 200), generator=rng).float()
    questions = asked([torch.randperm(100, generator=rng)[: 1 + user % 5].tolist() for user in range(40)],
                      [torch.randint(100, 200, (user,), generator=rng).tolist() for user in range(40)])
    order = torch.randperm(40, generator=rng)
    query = Query(questions.query.users[order], questions.query.history.take(order))
    other = EvalSet(query, questions.targets.take(order), questions.seen.take(order), None, "test")
    before, after = (evaluate(Given(scores), q, ALL) for q in (questions, other))
    for name, values in before.items():
        torch.testing.assert_close(values[order], after[name], atol=1e-12, rtol=0)


def test_seen_items_do_not_take_places():
    scores = torch.arange(50, 0, -1).float()[None]
    assert evaluate(Given(scores), asked([[4]], [[0, 1, 2, 3]]), ["mrr"])["mrr"].item() == 1.0
    assert evaluate(Given(scores), asked([[4]]), ["mrr"])["mrr"].item() == pytest.approx(0.2)


def test_only_candidates_take_places():
    scores = torch.arange(50, 0, -1).float()[None]
    found = evaluate(Given(scores), asked([[4]], candidates=torch.tensor([[3, 4, 20, 30]])), ["mrr"])
    assert found["mrr"].item() == 0.5


def test_per_user_values_are_double_precision_and_in_the_order_of_the_questions():
    found = evaluate(Given(torch.eye(3)), asked([[0], [0], [2]]), ["hr@1"])["hr@1"]
    assert found.dtype == torch.float64 and found.tolist() == [1.0, 0.0, 1.0]


def test_a_transposed_or_double_precision_score_block_is_ranked_alike(rng: torch.Generator):
    scores = torch.rand(8, 600, generator=rng)

    class Turned(Given):
        def score(self, query: Query) -> Tensor:
            return self.scores[query.users].double().T.contiguous().T

    targets = [[user, user + 20] for user in range(8)]
    plain, turned = (evaluate(model, asked(targets, [[300]] * 8), ALL) for model in (Given(scores), Turned(scores)))
    for name, values in plain.items():
        assert torch.equal(values, turned[name]), name


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused_with_the_name_of_the_recommender(bad: float):
    scores = torch.zeros(2, 9)
    scores[1, 4] = scores[1, 5] = bad
    with pytest.raises(ValueError, match="Given.score returned 2 non-finite scores out of 18; lower the learning rate"):
        evaluate(Given(scores), asked([[0], [1]]), ["recall@5"])


def test_finite_scores_whose_sum_overflows_are_ranked():
    scores = torch.full((1, 8), 3e38)
    scores[0, 2] = 3.2e38
    assert evaluate(Given(scores), asked([[2]]), ["mrr"])["mrr"].item() == 1.0


@pytest.mark.parametrize("scores", [torch.zeros(3, 4), torch.zeros(3, 9, 1), torch.zeros(3, 9, dtype=torch.int64)])
def test_scores_of_another_shape_or_type_are_refused(scores: Tensor):
    with pytest.raises(ValueError, match=r"return float32 of shape \(2, n_items\)"):
        evaluate(Given(scores), asked([[0], [6]]), ["recall@2"])


def test_a_target_that_is_also_seen_is_refused():
    with pytest.raises(ValueError, match="1 targets are also in seen, first item 6 of row 1; remove held-out items"):
        evaluate(Given(torch.zeros(2, 9)), asked([[0], [6]], [[1], [5, 6]]), ["recall@2"])


@pytest.mark.parametrize("pool", [[[1, 2, 3]], [[0, 0, 3]]])
def test_a_target_that_is_not_once_among_the_candidates_is_refused(pool: list[list[int]]):
    with pytest.raises(ValueError, match="not exactly once among their user's 3 candidates; put every target"):
        evaluate(Given(torch.zeros(1, 9)), asked([[0]], candidates=torch.tensor(pool)), ["hr@2"])


@pytest.mark.parametrize(("targets", "numbers"), [([], "0 users, 0 of them"), ([[1], []], "2 users, 1 of them")])
def test_questions_without_answers_are_refused(targets: list[list[int]], numbers: str):
    with pytest.raises(ValueError, match=f"{numbers} without a held-out item; keep only users with targets"):
        evaluate(Given(torch.zeros(2, 9)), asked(targets), ["recall@2"])


def test_an_unknown_metric_is_refused_with_the_nearest_and_the_known_names():
    with pytest.raises(ValueError, match="no metric is called 'recal'; did you mean 'recall'.*map_running, hr, mrr"):
        check_metrics(["ndcg@20", "recal@20"])


@pytest.mark.parametrize("name", ["recall", "recall@", "ndcg@0", "hr@-1", "map@ten", "mrr@", "recall@2.5"])
def test_a_metric_without_a_usable_cut_is_refused(name: str):
    with pytest.raises(ValueError, match=f"{re.escape(name)}.*write a whole number from 1 up, for example "):
        check_metrics([name])


def test_an_empty_list_of_metrics_is_refused():
    with pytest.raises(ValueError, match="name at least one of recall, "):
        check_metrics([])


def test_a_cut_beyond_the_items_is_clipped_with_one_notice(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        found = evaluate(Given(torch.eye(130, 9)), asked([[3]] * 130), ["recall@50", "ndcg@20", "map_running@9", "mrr"])
    assert [record.getMessage() for record in caplog.records] == [
        "recall@50, ndcg@20 ask for more than the 9 ranked items of 'test'; cut at 9"]
    assert (found["recall@50"] == 1).all()


@pytest.mark.parametrize(("free", "held", "n_items", "users"), [
    (80 << 30, 0, 40_981, 8192), (8 << 30, 0, 100_000, 2684), (1 << 30, 7 << 30, 100_000, 2684),
    (1 << 20, 0, 10**6, 1)])
def test_on_a_card_users_are_asked_as_many_at_a_time_as_its_free_memory_takes(
        monkeypatch: pytest.MonkeyPatch, free: int, held: int, n_items: int, users: int):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held + 5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    assert users_at_once(torch.device("cuda"), n_items) == users
    assert users_at_once(torch.device("cpu"), n_items) == 64


@pytest.mark.parametrize("ask", [
    lambda model, questions, chunk: evaluate(model, questions, ["recall@5", "mrr"], chunk),
    lambda model, questions, chunk: recommended(model, questions.query, questions.seen, 3, chunk)])
def test_answers_are_brought_to_the_host_once_however_many_parts_there_are(
        ask: Any, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch):
    cpu, calls = Tensor.cpu, []

    def counted(tensor: Tensor) -> Tensor:
        calls[-1] += 1
        return cpu(tensor)

    monkeypatch.setattr(Tensor, "cpu", counted)
    model = Given(torch.rand(12, 9, generator=rng))
    for chunk in (12, 1):
        calls.append(0)
        ask(model, asked([[row % 9] for row in range(12)]), chunk)
    assert calls[0] == calls[1] > 0


def test_the_recommended_items_are_the_best_unseen_ones_in_order():
    class Scores(Recommender):
        def score(self, query):
            return torch.tensor([[0.1, 0.9, 0.5, 0.7], [0.4, 0.3, 0.2, 0.1], [1.0, 2.0, 3.0, 4.0]])[query.users]

    seen = Ragged.from_lists([[3], [1]])
    query = Query(torch.tensor([2, 0]), seen)
    for chunk in (1, 64):
        items, scores = recommended(Scores(), query, seen, 2, chunk)
        assert items.tolist() == [[2, 1], [3, 2]]
        assert scores.tolist() == [[3.0, 2.0], pytest.approx([0.7, 0.5])]


def test_a_place_for_which_no_unseen_item_is_left_scores_minus_infinity():
    seen = Ragged.from_lists([[0, 1, 3]])
    items, scores = recommended(Given(torch.tensor([[4.0, 3.0, 2.0, 1.0]])), Query(torch.tensor([0]), seen), seen, 2)
    assert int(items[0, 0]) == 2 and scores.tolist() == [[2.0, -torch.inf]]
