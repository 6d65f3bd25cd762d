"""Objectives on histories in order: hand values, and what enters which loss."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from recot.batches.sequences import Windows
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.networks.bert4rec import BERT4Rec
from recot.networks.caser import Caser
from recot.networks.sasrec import SASRec
from recot.nn.table import clear_gradients
from recot.objectives.sequences import Cloze, DuoRec, NextGaussian, NextItem, NextItems
from recot.objectives.views import two_views


@pytest.fixture
def ordered():
    users, items = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([3, 4, 1, 0, 5, 2, 6])
    return Interactions.from_pairs(users, items, 2, 15, times=torch.arange(7))


def test_next_item_is_two_cross_entropies_per_position(ordered, rng):
    network = SASRec(2, 15, dim=4, max_length=8).eval()
    batch = next(NextItem(2, negatives=2).batches(ordered, rng, None, 0))
    loss, _ = NextItem(2, negatives=2)(network, batch)
    states = network.states(network.layout(batch.query.history))
    for row, (state, item, others) in enumerate(zip(states, batch.items, batch.negatives, strict=True)):
        expected = F.softplus(-state @ network.table.weight[item]) + sum(
            F.softplus(state @ network.table.weight[other]) for other in others)
        torch.testing.assert_close(loss[row], expected)


def test_next_item_reads_no_more_than_the_network_does(ordered, rng):
    network = SASRec(2, 15, dim=4, max_length=2).eval()
    loss, batch = NextItem(2)(network, next(NextItem(2).batches(ordered, rng, None, 0)))
    assert len(loss) == 4 and batch.query.history.lengths.tolist() == [2, 2]


def test_next_gaussian_by_hand():
    state, items = torch.tensor([[0.0, 1.0]]), torch.tensor([[[1.0, 1.0], [3 ** 0.5, 1.0]]])  # distances 1 and 3
    between = (3 ** 0.5 - 1) ** 2
    plain, hinged = (NextGaussian(pvn=pvn).compare(state, items).item() for pvn in (0.0, 1.0))
    assert plain == pytest.approx(0.126928, abs=1e-5) and hinged - plain == pytest.approx(1 - between, abs=1e-5)


def test_next_item_against_all_is_one_softmax_over_all_items(ordered, rng):
    objective = NextItem(2, negatives=0, against="all")
    network = SASRec(2, 15, dim=4, max_length=8).eval()
    batch = next(objective.batches(ordered, rng, None, 0))
    loss, _ = objective(network, batch)
    states = network.states(network.layout(batch.query.history)).double()
    scores = states @ network.table.weight[:15].double().T
    expected = scores.logsumexp(1) - scores[torch.arange(5), batch.items]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("negatives", "expected"), [
    ([[2.0, 0.0]], 1.313262), ([[-1.0, 5.0]], 0.126928), ([[2.0, 0.0], [-1.0, 5.0], [1.0, 7.0]], 0.711112)])
def test_a_pair_is_softplus_of_the_difference_and_several_are_averaged(negatives, expected):
    """The state (1, 0) and the item (1, 3), so that y+ is 1; y- is 2, -1 and 1, softplus(1), (-2), (0) = log 2."""
    states, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[[1.0, 3.0], *negatives]])
    for objective in (NextItem(negatives=len(negatives), against="pair"), DuoRec(9, len(negatives), "pair").next):
        assert objective.compare(states, items).tolist() == [pytest.approx(expected, abs=1e-5)]


def test_duorec_against_pairs_is_bpr_at_the_last_place_and_its_contrast(ordered, rng):
    network, objective = SASRec(2, 15, dim=4, max_length=8).eval(), DuoRec(9, 2, "pair", weight=0.3, tau=0.5)
    batch = next(objective.batches(ordered, rng, None, 0))
    loss, _ = objective(network, batch)
    own, other = (read(network, rows.to_lists()) for rows in (batch.query.history, batch.partners))
    table = network.table.weight
    right, wrong = (own * table[batch.items]).sum(1), (own[:, None] * table[batch.negatives]).sum(2)
    compared = two_views(torch.cat([own, other]), "dot", 0.5).mean()
    torch.testing.assert_close(loss, F.softplus(wrong - right[:, None]).mean(1) + 0.3 * compared)


def read(network, rows):
    """The last states of histories, one by one."""
    return torch.cat([network.layout(one).last(network.states(network.layout(one)))
                      for one in (Ragged.from_lists([row]) for row in rows)])


@pytest.mark.parametrize("views", ["dropout_same", "dropout", "same"])
def test_duorec_is_two_cross_entropies_at_the_last_place_and_a_weighted_contrast(ordered, rng, views):
    network = SASRec(2, 15, dim=4, max_length=8).eval()  # no dropout: both readings are the same
    plain, whole = (DuoRec(9, 1, "sampled", views, weight, 0.5) for weight in (0.0, 0.3))
    batch = next(whole.batches(ordered, rng, None, 0))
    loss, _ = whole(network, batch)
    own, other = (read(network, rows.to_lists()) for rows in (batch.query.history, batch.partners))
    table = network.table.weight
    expected = F.softplus(-(own * table[batch.items]).sum(1)) + F.softplus((own * table[batch.negatives[:, 0]]).sum(1))
    torch.testing.assert_close(plain(network, batch)[0], expected)
    compared = two_views(torch.cat([own, own if views == "dropout" else other]), "dot", 0.5).mean()
    torch.testing.assert_close(loss.mean(), expected.mean() + 0.3 * compared)


def test_the_contrast_of_duorec_does_not_touch_the_reading_that_predicts(ordered, rng):
    states = {}

    class Watched(SASRec):
        def states(self, layout):
            states["all"] = super().states(layout)
            states["all"].retain_grad()
            return states["all"]

    network = Watched(2, 15, dim=4, max_length=8)
    batch = next(DuoRec(9).batches(ordered, rng, None, 0))
    with_term, without = [], []
    for weight, kept in ((0.5, with_term), (0.0, without)):
        torch.manual_seed(0)  # of the dropout
        DuoRec(9, weight=weight)(network, batch)[0].mean().backward()
        kept.append(states["all"].grad[:len(batch.query.history.values)].clone())
    torch.testing.assert_close(with_term, without)
    assert float(states["all"].grad.abs().sum()) > 0


@pytest.fixture
def windows():
    """Of two users; the second has but one item, which counts for all three that are asked for."""
    return Windows(Query(torch.tensor([0, 1]), Ragged.from_lists([[5, 6], []])), torch.tensor([[1, 2, 3], [9, 9, 4]]),
                   torch.tensor([[7, 8], [0, 7]]), torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]))


def test_next_items_is_the_mean_over_targets_and_that_over_negatives(windows):
    network = Caser(2, 15, dim=4).eval()
    torch.nn.init.normal_(network.output.weight)
    scores = network.score(windows.query)
    loss, _ = NextItems(negatives=2)(network, windows)
    first = (F.softplus(-scores[0, [1, 2, 3]]).sum() / 3 + F.softplus(scores[0, [7, 8]]).sum() / 2)
    second = F.softplus(-scores[1, 4]) + F.softplus(scores[1, [0, 7]]).sum() / 2
    torch.testing.assert_close(loss, torch.stack([first, second]))


def test_next_items_is_two_bits_per_window_where_nothing_is_known(windows):
    network = Caser(2, 15, dim=4)
    torch.nn.init.zeros_(network.output.weight)
    assert NextItems(negatives=2)(network, windows)[0].tolist() == pytest.approx([2 * 0.693147] * 2, abs=1e-5)


def test_a_target_that_is_missing_teaches_nothing(windows):
    network = Caser(2, 15, dim=4)
    NextItems(negatives=2)(network, windows)[0].mean().backward()
    assert network.output.weight.grad.any(1).nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 7, 8]


def test_users_of_any_length_are_trained_on(ordered, rng):
    network = Caser(2, 15, dim=4)
    batch = next(NextItems(batch_size=8, targets=5).batches(ordered, rng, None, 0))
    loss, _ = NextItems(targets=5)(network, batch)
    assert sorted(batch.query.users.tolist()) == [0, 1] and loss.shape == (2,) and loss.isfinite().all()


def lengths_data(*lengths, n_items=40):
    users = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    items = torch.cat([torch.arange(length) for length in lengths])
    return Interactions.from_pairs(users, items, len(lengths), n_items, times=torch.arange(len(users)))


class Spy(BERT4Rec):
    """Keeps what it was given to read."""

    def states(self, layout):
        self.read = layout.history
        return super().states(layout)


def masks(batch, objective, max_length=50):
    """What is masked of each history as far as it is read, and what was read, for a batch."""
    network = Spy(1, 40, dim=4, max_length=max_length).eval()
    loss, batch = objective(network, batch)
    hidden, true = network.read.values == network.mask, batch.query.history.values
    assert torch.equal(network.read.values[~hidden], true[~hidden]) and len(loss) == hidden.sum()
    return [part.tolist() for part in hidden.split(batch.query.history.lengths.tolist())]


@pytest.mark.parametrize(("ratio", "max_length"), [(0.6, 50), (0.1, 50), (0.5, 50), (1.0, 50), (0.6, 7)])
def test_cloze_masks_its_share_of_what_is_read_and_one_at_least(rng, ratio, max_length):
    lengths = [1, 2, 3, 4, 5, 6, 8, 11, 20, 38]
    objective = Cloze(16, ratio=ratio, last=0.0)
    for batch in objective.batches(lengths_data(*lengths), rng, None, 0):
        hidden = masks(batch, objective, max_length)
        for length, row in zip(batch.query.history.lengths.tolist(), hidden, strict=True):
            assert len(row) == min(length, max_length) and sum(row) == max(1, round(ratio * len(row)))


def test_cloze_masks_only_the_last_item_of_a_share_of_the_users(rng):
    objective = Cloze(500, ratio=0.5, last=0.3)
    hidden = masks(next(objective.batches(lengths_data(*[10] * 500), rng, None, 0)), objective)
    alone = [row for row in hidden if sum(row) == 1]
    assert all(row[-1] for row in alone) and {sum(row) for row in hidden} == {1, 5}
    assert len(alone) == pytest.approx(150, abs=31)  # three deviations
    every = Cloze(9, last=1.0)
    hidden = masks(next(every.batches(lengths_data(*[10] * 9), rng, None, 0)), every)
    assert all(sum(row) == 1 and row[-1] for row in hidden)


def test_cloze_draws_other_masks_each_epoch_from_the_generator_that_is_passed():
    train, objective = lengths_data(*[12] * 20), Cloze(20, last=0.0)

    def drawn(rng):
        batch = next(objective.batches(train, rng, None, 0))
        return dict(zip(batch.query.users.tolist(), masks(batch, objective), strict=True))

    first, again = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    epoch = drawn(first)
    assert epoch == drawn(again) != drawn(first)


def test_cloze_is_a_softmax_over_all_items_at_masks_and_nowhere_else(rng):
    network = Spy(2, 15, dim=4, max_length=6)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    batch = next(Cloze(3).batches(lengths_data(9, 3, 5, n_items=15), rng, None, 0))
    loss, batch = Cloze(3)(network.eval(), batch)
    states, row = network.states(network.layout(network.read)).detach(), 0
    for place, item in enumerate(batch.query.history.values.tolist()):
        if network.read.values[place] == network.mask:
            scores = [(network.transform(states[place]) @ network.table.weight[i] + network.bias[i]).item()
                      for i in range(15)]
            assert loss[row].item() == pytest.approx(math.log(sum(map(math.exp, scores))) - scores[item], abs=1e-4)
            row += 1
    assert row == len(loss)


def test_cloze_weighs_the_items_that_are_masked(rng):
    train = lengths_data(6, 4)
    network, objective = Spy(2, 40, dim=4).eval(), Cloze(2)
    batch = next(objective.batches(train.reweighted(torch.arange(10) / 10), rng, None, 0))
    loss, _ = objective(network, batch)
    plain, _ = objective(network, replace(batch, weights=None))
    torch.testing.assert_close(loss, plain * batch.weights[network.read.values == network.mask])


def test_bert4rec_learns_what_comes_next_in_a_ring():
    n, length = 8, 5
    items = (torch.arange(64)[:, None] + torch.arange(length)) % n  # (64, 5)
    train = Interactions.from_pairs(torch.arange(64).repeat_interleave(length), items.flatten(), 64, n,
                                    times=torch.arange(64 * length))
    torch.manual_seed(0)
    network = BERT4Rec(64, n, dim=32, n_layers=1, n_heads=1, max_length=length, dropout=0.0, attention_dropout=0.0)
    step, objective = torch.optim.Adam(network.parameters(), 5e-3), Cloze(32, ratio=0.2)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        for batch in objective.batches(train, rng, None, 0):
            objective(network, batch)[0].mean().backward()
            step.step()
            clear_gradients(network)
    known = Query(torch.full((n,), -1), Ragged.from_lists(items[:n, :-1].tolist()))
    assert torch.equal(network.eval()(known).argmax(1), items[:n, -1])
