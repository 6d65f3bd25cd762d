"""Several domains: who is asked what, among which items, and the counts that independent code found."""

import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from commands import composed

from recot.batches.negatives import uniform_negatives
from recot.closed.popularity import Popularity
from recot.data.domains import cut, domains, number_of
from recot.data.interactions import Domain, Interactions
from recot.data.planted import Planted
from recot.data.prepare import prepare
from recot.data.questions import validate
from recot.data.reduce import Domains, hashed, in_file_order
from recot.data.split import ratio
from recot.data.strong import strong
from recot.evaluation.evaluate import evaluate
from recot.evaluation.recommender import Recommender
from recot.record.build import make
from recot.record.outputs import activity_here

RANGES = (Domain("Books", 0, 20), Domain("Films", 20, 50), Domain("Music", 50, 60))


def pairs(seed=0, times=True, ranges=RANGES):
    """30 users of 60 items; the first has one, two and three items in the domains, the second none in the last."""
    rng = np.random.default_rng(seed)
    rows = [(0, item) for item in (3, 25, 21, 55, 51, 58)] + [(1, item) for item in (4, 9, 7, 30, 49, 33)]
    for user in range(2, 30):
        rows += [(user, int(item)) for _, low, high in RANGES for item in rng.permutation(high - low)[:4] + low]
    users, items = torch.tensor(rows).T
    moment = torch.from_numpy(rng.permutation(len(rows)))
    return Interactions.from_pairs(users, items, 30, 60, times=moment if times else None, domains=ranges)


def sets(split):
    return {part.name: part for part in split.test}


def of_user(part, user):
    rows = (part.query.users == user).nonzero().flatten().tolist()
    return {int(part.targets.values[row]) for row in rows}


@pytest.mark.parametrize("times", [True, False])
def test_every_pair_is_in_one_place_and_one_of_each_user_and_domain_is_tested(times):
    whole = pairs(times=times)
    split = domains(whole, 5)
    validate(split)
    here = Counter(zip(whole.users.tolist(), number_of(whole.items, RANGES).tolist(), strict=True))
    test, valid = split.test[0], split.valid
    tested = Counter(zip(test.query.users.tolist(), number_of(test.targets.values, RANGES).tolist(), strict=True))
    assert set(tested.values()) == {1} and tested.keys() == here.keys()
    selecting = Counter(zip(valid.query.users.tolist(), number_of(valid.targets.values, RANGES).tolist(), strict=True))
    assert set(selecting.values()) == {1} and selecting.keys() == {key for key, count in here.items() if count >= 3}
    found = [*zip(split.train.users.tolist(), split.train.items.tolist(), strict=True)]
    for part in (valid, test):
        found += zip(part.query.users.tolist(), part.targets.values.tolist(), strict=True)
    assert sorted(found) == sorted(zip(whole.users.tolist(), whole.items.tolist(), strict=True))


def test_the_last_is_tested_and_the_one_before_validates_by_time():
    whole = pairs()
    split = domains(whole, 5)
    for user in range(30):
        for domain in RANGES:
            taken = [item for item in whole.by_user.take(torch.tensor([user])).values.tolist()
                     if domain.start <= item < domain.stop]
            asked = {item for item in of_user(split.test[0], user) if domain.start <= item < domain.stop}
            before = {item for item in of_user(split.valid, user) if domain.start <= item < domain.stop}
            assert asked == set(taken[-1:]) and before == (set(taken[-2:-1]) if len(taken) >= 3 else set())


def test_who_has_one_or_two_items_in_a_domain_is_tested_there_and_validates_nothing_and_who_has_none_is_counted():
    split = domains(pairs(), 5)
    assert len(of_user(split.test[0], 0)) == 3 and len(of_user(split.valid, 0)) == 1
    assert split.train.activity[0] == 2  # of two items of films one trains, of three of music one
    assert sets(split)["music"].left_out == 1 and 1 not in sets(split)["music"].query.users
    assert sets(split)["books"].left_out == 0


def test_candidates_are_the_target_and_items_of_its_domain_that_the_user_has_in_no_part_of_the_data():
    whole = pairs()
    split = domains(whole, 5, split_seed=3)
    for part in (split.valid, split.test[0]):
        assert part.candidates.shape == (len(part), 6)
        for user, target, row in zip(part.query.users.tolist(), part.targets.values.tolist(),
                                     part.candidates.tolist(), strict=True):
            domain = RANGES[int(number_of(torch.tensor(target), RANGES))]
            assert len(set(row)) == 6 and row.count(target) == 1
            assert all(domain.start <= item < domain.stop for item in row)
            others = torch.tensor([item for item in row if item != target])
            assert not bool(whole.contains(torch.tensor(user), others).any())


def test_candidates_follow_from_the_pairs_and_the_seed_alone_and_the_fingerprint_knows_them():
    first, again, other = domains(pairs(), 5), domains(pairs(), 5), domains(pairs(), 5, split_seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(first.valid.candidates, again.valid.candidates)
    assert torch.equal(first.valid.targets.values, other.valid.targets.values)  # times say what is held out


def test_every_item_is_as_likely_to_be_a_candidate():
    whole = Interactions.from_pairs(torch.arange(2000), torch.zeros(2000, dtype=torch.int64), 2000, 12,
                                    domains=(Domain("all", 0, 12),))
    drawn = domains(whole, 4).test[0].candidates[:, 1:]
    share = torch.bincount(drawn.flatten(), minlength=12).double() / 2000
    assert share[0] == 0
    deviation = (4 / 11 * 7 / 11 / 2000) ** 0.5
    assert bool(((share[1:] - 4 / 11).abs() < 4.5 * deviation).all())
    assert all(len(set(row)) == 4 for row in drawn.tolist())


def test_a_full_ranking_is_of_the_domain_without_what_is_known():
    whole = pairs()
    split = domains(whole, 5)
    part = sets(split)["films_full"]
    assert part.candidates is None and part.among == slice(20, 50)
    train = split.train

    class Order(Recommender):
        def score(self, query):
            return -torch.arange(60.0).repeat(len(query), 1)

    reciprocal = evaluate(Order(), part, ["mrr"])["mrr"]
    for row, user in enumerate(part.query.users.tolist()):
        target = int(part.targets.values[row])
        ahead = [item for item in range(20, target) if not bool(whole.contains(torch.tensor(user), torch.tensor(item)))]
        assert reciprocal[row] == pytest.approx(1 / (1 + len(ahead)))
    assert bool((train.items < 60).all())


def test_a_constant_scorer_has_the_middle_rank_and_misses_ten_of_a_hundred():
    whole = Planted(n_users=60, n_items=600, n_domains=3, noise=0).load().interactions
    part = domains(whole, 99).test[0]

    class Constant(Recommender):
        def score(self, query):
            return torch.zeros(len(query), 600)

    found = evaluate(Constant(), part, ["hr@10", "mrr@10", "ndcg@10", "hr@20", "mrr@20", "ndcg@20"])
    means = [round(float(values.mean()), 5) for values in found.values()]
    assert means == [0.1, 0.02929, 0.04544, 0.2, 0.03598, 0.0704]  # what a random order has on average


def test_warm_targets_train_and_the_few_have_one_or_two_pairs():
    split = domains(pairs(), 5)
    popularity, found = split.train.popularity, sets(split)
    for name, domain in (("books", RANGES[0]), ("films", RANGES[1]), ("music", RANGES[2])):
        whole, warm = found[name], found[f"{name}_warm"]
        assert bool((popularity[warm.targets.values] > 0).all())
        assert len(whole) - len(warm) == int((popularity[whole.targets.values] == 0).sum())
        few = found[f"{name}_few"]
        inside = (split.train.items >= domain.start) & (split.train.items < domain.stop)
        activity = torch.bincount(split.train.users[inside], minlength=30)
        expected = [user for user in whole.query.users.tolist() if 1 <= activity[user] <= 2]
        assert few.query.users.tolist() == expected


def test_known_noise_trains_and_is_no_target():
    whole = Planted(n_users=60, n_items=330, n_domains=3, noise=0.3).load().interactions
    split = domains(whole, 20)
    assert int(split.train.noisy.sum()) == int(whole.noisy.sum())


def test_a_domain_with_too_few_items_is_refused_by_name():
    with pytest.raises(ValueError, match="fewer than 7 of the 10 items of the domain 'Music'.*candidates=20"):
        domains(pairs(), 7)


def test_data_without_domains_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="these data have none; name their column .data.domain=..."):
        domains(pairs(ranges=()), 5)


@pytest.mark.parametrize(("names", "wrong"), [
    (("Users", "Films", "Music"), "Users"), (("Books", "books", "Music"), "Books', 'books"),
    (("A b", "a-b", "Music"), "A b', 'a-b"), (("Books", "Books full", "Music"), "Books', 'Books full")])
def test_domains_whose_files_would_be_those_of_others_are_refused(names, wrong):
    ranges = tuple(domain._replace(name=name) for domain, name in zip(RANGES, names, strict=True))
    with pytest.raises(ValueError, match=rf"domains \['{wrong}'\] are called as each other's test sets, or as files"):
        domains(pairs(ranges=ranges), 5)


def names_of(items, ranges):
    return [ranges[number].name for number in number_of(items, ranges).tolist()]


@pytest.mark.parametrize("chosen", [[0, 3, 19, 20, 55], [*range(20, 50)], [59], [*range(60)]])
def test_items_keep_their_domain_when_they_are_numbered_anew(chosen):
    whole, items = pairs(), torch.tensor(chosen)
    found = whole.of_items(items)
    assert found.n_items == len(chosen) == sum(domain.stop - domain.start for domain in found.domains)
    assert names_of(torch.arange(len(chosen)), found.domains) == names_of(items, RANGES)
    kept = [(u, i) for u, i in zip(whole.users.tolist(), whole.items.tolist(), strict=True) if i in chosen]
    assert [*zip(found.users.tolist(), items[found.items].tolist(), strict=True)] == kept


def test_a_split_by_users_keeps_the_domains_of_the_items_that_train():
    whole = Planted(n_users=60, n_items=600, n_domains=3, n_communities=3, mean_activity=6).load().interactions
    split = strong(whole, 10, 10)
    assert split.train.n_items < 600
    assert names_of(torch.arange(split.train.n_items), split.train.domains) == names_of(split.items, whole.domains)
    drawn = uniform_negatives(split.train, 3, torch.Generator().manual_seed(0), scope="domain")
    asked = number_of(split.train.items, split.train.domains)[:, None]
    assert bool((number_of(drawn, split.train.domains) == asked).all())


def test_what_is_known_of_a_user_in_the_domain_is_counted_for_strangers_too():
    split = domains(pairs(), 5)
    part = sets(split)["films"]
    strangers = replace(part, query=replace(part.query, users=torch.full_like(part.query.users, -1)),
                        owners=part.query.users)
    inside = (split.train.items >= 20) & (split.train.items < 50)
    activity = torch.bincount(split.train.users[inside], minlength=30)[part.query.users]
    assert torch.equal(activity_here(split.train, part), activity)
    assert torch.equal(activity_here(split.train, strangers), activity)


def test_the_split_of_a_domain_is_the_same_questions_with_items_from_zero():
    split = domains(pairs(), 5)
    part = cut(split, [1])
    assert part.train.n_items == 30 and part.train.n_users == 30 and part.train.domains == (Domain("Films", 0, 30),)
    whole = [(u, i - 20) for u, i in zip(split.train.users.tolist(), split.train.items.tolist(), strict=True)
             if 20 <= i < 50]
    assert [*zip(part.train.users.tolist(), part.train.items.tolist(), strict=True)] == whole
    rows = (split.valid.targets.values >= 20) & (split.valid.targets.values < 50)
    assert torch.equal(part.valid.candidates, split.valid.candidates[rows] - 20)
    assert torch.equal(part.valid.query.users, split.valid.query.users[rows])
    assert part.valid.query.history.values.max() < 30
    for row, user in enumerate(part.valid.query.users.tolist()):
        assert (part.valid.query.history.to_lists()[row]
                == part.train.by_user.take(torch.tensor([user])).values.tolist())
    validate(part)


def test_a_question_with_targets_of_several_domains_keeps_those_of_the_domain():
    """Of other protocols, which hold a share of all pairs out."""
    split = ratio(pairs())
    for number, domain in enumerate(RANGES):
        part = cut(split, [number])
        expected = {user: [item - domain.start for item in row if domain.start <= item < domain.stop]
                    for user, row in zip(split.valid.query.users.tolist(), split.valid.targets.to_lists(), strict=True)}
        assert dict(zip(part.valid.query.users.tolist(), part.valid.targets.to_lists(), strict=True)) == {
            user: row for user, row in expected.items() if row}
        validate(part)


def test_the_split_of_several_domains_numbers_them_one_after_the_other():
    part = cut(domains(pairs(), 5), [0, 2])
    assert part.train.domains == (Domain("Books", 0, 20), Domain("Music", 20, 30)) and part.train.n_items == 30
    validate(part)


def frame(rows):
    return pd.DataFrame(rows, columns=["user", "domain", "item", "time"])


def test_items_are_numbered_domain_after_domain_and_by_their_ids_within():
    rows = [("u", "B", "a", 1), ("u", "A", "z", 2), ("v", "A", "c", 1), ("v", "B", "b", 5), ("v", "C", "d", 5)]
    data = prepare(frame(rows), None, 0, "some", domains=Domains(("B", "A")))
    assert data.item_ids.tolist() == ["a", "b", "c", "z"]
    assert data.interactions.domains == (Domain("B", 0, 2), Domain("A", 2, 4))
    assert data.dropped["of other domains"] == 1
    every = prepare(frame(rows[:4]), None, 0, "some")
    assert every.interactions.domains == (Domain("A", 0, 2), Domain("B", 2, 4))


def test_a_user_without_enough_in_some_domain_is_left_out():
    rows = [("u", "A", "a", 1), ("u", "B", "b", 2), ("v", "A", "a", 1), ("v", "A", "c", 1)]
    data = prepare(frame(rows), None, 0, "some", domains=Domains(("A", "B")))
    assert data.user_ids.tolist() == ["u"] and data.item_ids.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="no user has 2 interactions in each of A, B; lower data.domain_core"):
        prepare(frame(rows), None, 0, "some", domains=Domains(("A", "B"), 2))


def test_an_item_in_two_domains_is_refused_and_so_is_a_domain_that_is_not_there():
    rows = [("u", "A", "a", 1), ("u", "B", "a", 2)]
    with pytest.raises(ValueError, match="for example 'a' in 'A' and 'B'; give each an id of its own, as DOMAIN/ID"):
        prepare(frame(rows), None, 0, "some", domains=Domains(("A", "B")))
    with pytest.raises(ValueError, match="no interactions of the domain 'C'; correct data.domains"):
        prepare(frame(rows), None, 0, "some", domains=Domains(("A", "C")))


def test_rows_of_one_time_stay_in_the_order_of_the_file():
    found = in_file_order(pd.DataFrame({"user": [1, 1, 2, 1, 1], "time": [86400, 86400, 86400, 86400, 172800]}))
    assert found["time"].tolist() == [86400, 86401, 86400, 86402, 172800]


def test_the_hash_of_an_item_is_that_of_every_language():
    """printf '0|B000EMOD3Y' | sha256sum begins with these digits."""
    import hashlib
    digits = hashlib.sha256(b"0|B000EMOD3Y").hexdigest()[:8]
    assert hashed("0|B000EMOD3Y") == int(digits, 16) / 2**32


def test_planted_domains_are_equal_ranges_and_the_pairs_are_those_of_one_domain():
    one, three = Planted(), Planted(n_domains=3)
    assert one.digest() != three.digest()
    assert torch.equal(one.load().interactions.items, three.load().interactions.items)
    ranges = three.load().interactions.domains
    assert [domain.stop - domain.start for domain in ranges] == [100, 100, 100]
    assert all(left.stop == right.start for left, right in pairwise(ranges)) and one.load().interactions.domains == ()


COUNTED = {  # of each domain: items, pairs, training pairs, items that train, test items that do not
    "amazon_kbe": (1994, [(9699, 35123, 31135, 9183, 315), (6055, 28084, 24096, 5477, 357),
                          (9901, 38351, 34363, 9398, 413)]),
    "amazon_kbe_30": (737, [(1728, 5181, None, None, None), (1112, 4076, None, None, None),
                            (1960, 5156, None, None, None)]),
    "douban3": (215, [(814, 2456, None, None, None), (4514, 23497, None, None, None), (546, 2429, None, None, None)]),
}


@pytest.mark.skipif("RECOT_DATA" not in os.environ, reason="set RECOT_DATA to the folder with the data")
@pytest.mark.parametrize("name", COUNTED)
def test_real_data_have_the_counts_that_independent_code_found(name):
    n_users, counted = COUNTED[name]
    data = make(composed(f"data={name}", "model=popularity")[0]["data"]).load()
    whole, split = data.interactions, domains(data.interactions)
    validate(split)
    assert whole.n_users == n_users
    for domain, (items, count, trained, in_train, cold) in zip(whole.domains, counted, strict=True):
        inside = (whole.items >= domain.start) & (whole.items < domain.stop)
        assert (domain.stop - domain.start, int(inside.sum())) == (items, count)
        if trained is not None:
            popularity = split.train.popularity[domain.items]
            tested = sets(split)[domain.name.lower()].targets.values
            assert (int(popularity.sum()), int((popularity > 0).sum()),
                    int((split.train.popularity[tested] == 0).sum())) == (trained, in_train, cold)


@pytest.mark.skipif("RECOT_DATA" not in os.environ, reason="set RECOT_DATA to the folder with the data")
def test_popularity_has_the_values_that_independent_code_found_with_its_own_candidates():
    """One standard error of a hit ratio over 1,994 users is .011."""
    split = domains(make(composed("data=amazon_kbe", "model=popularity")[0]["data"]).load().interactions)
    model = Popularity().fit(split)
    for name, known in (("kitchen", 0.344), ("beauty", 0.433), ("electronics", 0.308)):
        assert float(evaluate(model, sets(split)[name], ["hr@10"])["hr@10"].mean()) == pytest.approx(known, abs=0.022)


@pytest.mark.skipif("RECOT_DATA" not in os.environ, reason="set RECOT_DATA to the folder with the data")
def test_the_candidates_of_real_data_never_change():
    split = domains(make(composed("data=amazon_kbe", "model=popularity")[0]["data"]).load().interactions)
    assert split.fingerprint == "d68b8b1eb06b2b57"


def test_a_domain_is_cut_out_of_questions_with_several_answers():
    planted = Planted(n_users=60, n_items=120, mean_activity=10, n_domains=3).load().interactions
    split = ratio(planted, train=0.5, valid=0.4)
    for number, domain in enumerate(planted.domains):
        part = cut(split, [number])
        validate(replace(part, test=()))
        assert part.valid.query.users.tolist() == [
            user for user, row in zip(split.valid.query.users.tolist(), split.valid.targets.to_lists(), strict=True)
            if any(domain.start <= item < domain.stop for item in row)]
        kept = [item - domain.start for row in split.valid.targets.to_lists() for item in row
                if domain.start <= item < domain.stop]
        assert part.valid.targets.values.tolist() == kept and int(split.valid.targets.lengths.max()) > 1
