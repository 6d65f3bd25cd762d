"""IR: one relabelling against a loop over users, the cases by hand, the schedule."""

import pytest
import torch

from recot.data.interactions import Interactions, Ragged
from recot.denoise import iterative
from recot.denoise.iterative import IterativeRelabelling
from recot.networks.factorisation import Tables


def network_of(user_vectors, item_vectors):
    network = Tables(len(user_vectors), len(item_vectors), dim=len(item_vectors[0]))
    with torch.no_grad():
        network.user_table.weight.copy_(torch.tensor(user_vectors))
        network.item_table.weight.copy_(torch.tensor(item_vectors))
    return network.eval()


def pairs_of(rows, n_items):
    ragged = Ragged.from_lists(rows)
    return Interactions.from_pairs(ragged.rows, ragged.values, len(rows), n_items)


def relabelled(denoiser, original, network, current=None):
    with torch.no_grad():
        return denoiser.relabel(original, current or original, network)


def slowly(original, current, network, a, b, plus, lam):
    """One user at a time, as the sheet has it."""
    scores = (network.user_table.weight @ network.item_table.weight.T).detach()
    vectors, found = network.item_table.weight.detach(), set()
    for user in range(original.n_users):
        own = original.items[original.users == user].tolist()
        if not own:
            continue
        now = set(current.items[current.users == user].tolist())
        ranked = sorted(own, key=lambda item: -float(scores[user, item]))
        top = ranked[: max(1, int(a * len(own) + 1e-9))]
        bottom = [item for item in ranked[len(own) - max(1, int(b * len(own) + 1e-9)):] if item not in top]
        near = vectors[top].mean(0)
        far = vectors[bottom].mean(0) if bottom else torch.zeros_like(near)
        middle = [item for item in own if item not in top and item not in bottom and item in now
                  and lam * (vectors[item] - near).norm() < (vectors[item] - far).norm()]
        others = sorted(set(range(original.n_items)) - set(own), key=lambda item: -float(scores[user, item]))
        found |= {(user, item) for item in (*top, *middle, *others[:plus])}
    return found


def as_set(train):
    return set(zip(train.users.tolist(), train.items.tolist(), strict=True))


@pytest.mark.parametrize(("a", "b", "plus", "lam"), [(0.35, 0.65, 6, 1.0), (0.5, 0.2, 2, 1.0), (0.3, 0.1, 0, 0.8),
                                                     (0.9, 0.5, 1, 1.2), (0.0, 0.0, 3, 1.0)])
@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_of_users_give_what_a_loop_over_users_gives(rng, monkeypatch, a, b, plus, lam, block):
    monkeypatch.setattr(iterative, "BLOCK", block)
    users, items = (torch.rand(23, 30, generator=rng) < 0.3).nonzero(as_tuple=True)
    original = Interactions.from_pairs(users[users != 4], items[users != 4], 23, 30)
    network = network_of(torch.randn(23, 5, generator=rng).tolist(), torch.randn(30, 5, generator=rng).tolist())
    denoiser = IterativeRelabelling(a, b, plus, lam)
    first = relabelled(denoiser, original, network)
    assert as_set(first) == slowly(original, original, network, a, b, plus, lam)
    other = network_of(torch.randn(23, 5, generator=rng).tolist(), torch.randn(30, 5, generator=rng).tolist())
    second = relabelled(denoiser, original, other, first)
    assert as_set(second) == slowly(original, first, other, a, b, plus, lam)


def test_keeping_all_and_adding_none_is_the_identity(rng):
    original = pairs_of([[0, 2, 5], [1], [3, 4]], 6)
    network = network_of(torch.randn(3, 2, generator=rng).tolist(), torch.randn(6, 2, generator=rng).tolist())
    assert as_set(relabelled(IterativeRelabelling(a=1.0, b=0.1, plus=0), original, network)) == as_set(original)


@pytest.mark.parametrize(("position", "positive"), [(3.0, True), (8.0, False)])
def test_an_item_in_between_goes_with_the_nearer_mean(position, positive):
    """Positive at 0 and 1, rejected at 10; scored by closeness to 0."""
    network = network_of([[-1.0]], [[0.0], [1.0], [position], [10.0]])
    found = relabelled(IterativeRelabelling(a=0.5, b=0.25, plus=0), pairs_of([[0, 1, 2, 3]], 4), network)
    assert as_set(found) == {(0, 0), (0, 1)} | ({(0, 2)} if positive else set())


def test_a_user_keeps_one_item_at_least_and_gets_no_item_twice(rng):
    original = pairs_of([[0], [1], [2], [3]], 8)
    network = network_of(torch.randn(4, 2, generator=rng).tolist(), torch.randn(8, 2, generator=rng).tolist())
    found = relabelled(IterativeRelabelling(a=0.0, b=1.0, plus=3), original, network)
    assert as_set(original) <= as_set(found) and len(found) == 16


@pytest.mark.parametrize("plus", [2, 9])
def test_a_user_who_took_nearly_all_gets_what_is_left_and_nothing_that_was_rejected(rng, plus):
    original = pairs_of([[0, 1, 2, 3], [0, 1, 2, 3, 4], [0]], 5)
    network = network_of(torch.randn(3, 2, generator=rng).tolist(), torch.randn(5, 2, generator=rng).tolist())
    denoiser = IterativeRelabelling(a=0.2, b=0.8, plus=plus)
    found = as_set(relabelled(denoiser, original, network))
    assert (0, 4) in found and len([user for user, _ in found if user == 0]) == 2
    assert len([user for user, _ in found if user == 1]) == 1  # its best; there is nothing to add
    assert found == slowly(original, original, network, 0.2, 0.8, plus, 1.0)
    assert denoiser.report() == {"kept": 3.0, "rejected": 7.0, "added": 1.0 + min(plus, 4)}


def test_marks_and_times_follow_the_pairs(rng):
    original = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), 2, 5,
                                       times=torch.tensor([5, 9, 7]), noisy=torch.tensor([True, False, True]))
    network = network_of([[1.0], [1.0]], [[5.0], [4.0], [3.0], [2.0], [1.0]])
    found = relabelled(IterativeRelabelling(a=1.0, b=0.1, plus=1), original, network)
    assert sorted(zip(found.users.tolist(), found.items.tolist(), found.times.tolist(), found.noisy.tolist(),
                      strict=True)) == [(0, 0, 5, True), (0, 1, 9, False), (0, 2, 9, False), (1, 0, 7, False),
                                        (1, 2, 7, True)]


@pytest.mark.parametrize("wrong", [{"rounds": 0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="is out of range; it has to be 1 or more"):
        IterativeRelabelling(**wrong)
