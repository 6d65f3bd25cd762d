"""Two processes that have half of a batch each compute what one process does that has all of it."""

import copy
from types import SimpleNamespace

import contracts
import pytest
import torch
import torch.nn.functional as F
from commands import known as composed
from hypothesis import given
from hypothesis import strategies as st
from test_meta_device import VARIANTS, small
from together import together
from torch import nn

from recot.batches import parts
from recot.batches.users import MaskedUsers
from recot.data.domains import cut
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.denoise.base import Denoiser
from recot.fit.rmsprop import RMSProp
from recot.fit.rounds import Relabelled
from recot.fit.step import Step
from recot.nn import ranks
from recot.nn.dropout import Dropout
from recot.nn.gradients import Gradients
from recot.nn.table import Table
from recot.ot.sinkhorn import scale_kernel, sinkhorn
from recot.record.build import ask_questions, build, make
from recot.request.claims import check_devices
from recot.request.errors import RequestError

SINGLE = {"buir_nb", "directau_lightgcn", "herograph", "lightgcn", "multvae", "node2vec", "sclrec", "sclrec_lightgcn",
          "vae", "vae_paper", "clrec-multi_positive", "clrec-smoothing-mask", "sclrec-mask",
          "sclrec-multi_positive-symmetric", "sclrec-marginal-ramp", "herograph-neighbours"}
"""What keeps a graph, targets or weights in float32, whatever the network has; these descend without Adam, which makes
a whole step of the last digit of a gradient near zero."""
REFUSED = {"pge_ae", "pge_cl", "pge_ucl", "recsys_dan", "uclr", "uclr_full", "uclr_rho"}
SHOWN = ("bprmf", "bprmf-norm", "clrec", "clrec-mask", "clrec-symmetric", "clrec-smoothing-mask", "sclrec",
         "sclrec-multi_positive-symmetric", "sclrec-marginal-ramp", "directau", "tce", "rce", "cdae-tce", "cdae",
         "vae", "mf", "buir_nb", "caser", "duorec", "mstein-group", "coserec-hybrid", "bert4rec",
         "bprmf-sinkhorn-log", "bprmf-sinkhorncf-scaled", "bprmf-official", "herograph", "ga_mtcdr_narrow", "cat",
         "node2vec")
"""Each loss, each denoiser, and what several networks ask; each preset would cost a minute."""


class Undrawn:
    """No random numbers in a step: what processes draw for their own rows differs from what one draws for all."""

    def __enter__(self):
        self.kept = F.dropout, torch.randn_like
        F.dropout, torch.randn_like = (lambda x, *rest, **named: x), (lambda x: x.detach().sin())

    def __exit__(self, *error):
        F.dropout, torch.randn_like = self.kept


def prepared(name):
    """Config, network and training set of a variant, without dropout."""
    config = composed(*small(*VARIANTS[name]))[0]
    config["loss"]["batch_size"] = 15
    split = ask_questions(config, make(config["data"]).load())
    model = build(config)
    model = (model.make(None, print) if isinstance(model, Relabelled) else model).untrained(split.train)
    network = copy.deepcopy(model.networks[0]).train()
    network = network if name in SINGLE else network.double()
    for module in network.modules():
        if isinstance(module, Dropout | nn.Dropout):
            module.p = 0.0
    return config, network, split.train if config["domains"] == "joint" else cut(split, [0]).train


def steps(name, config, network, train):
    """Losses of the first two batches and of the last, the weights after them, and what is reported."""
    torch.manual_seed(0)  # edges that are left out are the same in all processes
    network, objective, denoiser = copy.deepcopy(network), make(config["loss"]), make(config["denoiser"])
    denoiser = Denoiser() if hasattr(denoiser, "relabel") else denoiser
    training = make(config["trainer"])
    network.bind(train)
    denoiser.bind(network, train)
    parameters = list(network.parameters())
    optimizer = (torch.optim.SGD(parameters, 0.1) if name in SINGLE else RMSProp(parameters, 1e-3)
                 if training.optimizer == "rmsprop" else torch.optim.Adam(parameters, 1e-2))

    class Bare(Step):
        def optimizers(self):
            return SimpleNamespace(step=optimizer.step)

        def manual_backward(self, loss):
            loss.backward()

    step = Bare(network, objective, denoiser, training, train, torch.Generator())
    batches, losses = list(objective.batches(train, torch.Generator().manual_seed(0), network, 0)), []
    with Undrawn():
        for batch in (*batches[:2], batches[-1]):
            step.training_step([batch], 0)
            losses.append(step.epoch_loss())
    report = getattr(objective, "report", lambda network: {})
    weights = {key: value for key, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
    return losses, {key: value.numpy() for key, value in weights.items()}, denoiser.report() | report(network)


@pytest.mark.parametrize("name", SHOWN)
def test_two_processes_make_the_steps_of_one(name):
    given = prepared(name)
    losses, weights, told = steps(name, *given)
    for other_losses, other_weights, _ in (found := together(lambda: steps(name, *given))):
        assert other_losses == pytest.approx(losses, rel=1e-6)
        for key, value in weights.items():
            assert other_weights[key] == pytest.approx(value, rel=1e-6, abs=1e-6 if name in SINGLE else 1e-9), key
    assert found[0][2] == pytest.approx(told, rel=1e-4)
    assert all((found[0][1][key] == value).all() for key, value in found[1][1].items())  # or they would drift apart


@pytest.mark.parametrize("name", ["sclrec", "tce", "sasrec"])
def test_a_batch_with_fewer_rows_than_processes_counts_once(name):
    config, network, train = prepared(name)
    config["loss"]["batch_size"] = 1
    losses, weights, told = steps(name, config, network, train)
    for other_losses, other_weights, other_told in together(lambda: steps(name, config, network, train)):
        assert other_losses == pytest.approx(losses, rel=1e-6) and other_told == pytest.approx(told)
        assert all(other_weights[key] == pytest.approx(value, abs=1e-6) for key, value in weights.items())


def test_every_loss_and_denoiser_that_claims_to_be_shared_is_shown_to_be():
    shown = {part["_target_"].rpartition(".")[2] for name in SHOWN for config in [composed(*small(*VARIANTS[name]))[0]]
             for part in (config["loss"], config["denoiser"])}
    for part in (*contracts.OBJECTIVES, *contracts.OF_PAIRS):
        assert (part.__name__ in shown) == (getattr(part, "shared", False) or part is Denoiser), part


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_shared_is_refused(name):
    config, choices = composed(*small(*VARIANTS[name]))
    check_devices(config, choices)
    config["trainer"]["devices"] = 2
    with pytest.raises(RequestError, match="looks at a batch as a whole.* use trainer.devices=1, or another loss"):
        check_devices(config, choices)


def test_a_closed_form_and_a_strange_denoiser_are_refused():
    config, choices = composed("model=ease")
    config["trainer"]["devices"] = 2
    with pytest.raises(RequestError, match="model=ease is fitted in closed form.* use trainer.devices=1"):
        check_devices(config, choices)
    config, choices = composed("model=pepnet", "data.n_domains=3", "protocol=domains")
    config["trainer"]["devices"], config["denoiser"] = 2, {"_target_": "recot.denoise.base.Relabelling"}
    with pytest.raises(RequestError, match="looks at a batch as a whole.* or denoiser=none"):
        check_devices(config, choices | {"denoiser": "mine"})


def test_stages_have_the_processes_of_the_run():
    config, choices = composed(*small(*VARIANTS["cat_art"]))
    config["stages"]["invariant"]["trainer"] = {"devices": 2}
    with pytest.raises(RequestError, match=r"stages.invariant.trainer.devices differs .* give trainer.devices alone"):
        check_devices(config, choices)


@given(st.integers(0, 50), st.integers(1, 7), st.integers(1, 5))
def test_spans_follow_each_other_and_differ_by_a_block(count, block, world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "processes", lambda: world)
        found = ranks.spans(count, block)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])] and found[-1][1] == count
    blocks = [-(-(stop - start) // block) for start, stop in found]
    assert max(blocks) - min(blocks) <= 1 and all(start % block == 0 for start, stop in found if start < stop)


def questions(count):
    """A batch of users who ask for nothing."""
    users = torch.arange(count)
    return MaskedUsers(Query(users, Ragged(torch.zeros(count + 1, dtype=torch.int64), users[:0])), users)


def test_gathered_rows_give_gradients_back_to_where_they_are_from():
    whole = torch.arange(10.0).reshape(5, 2) / 5
    weight = torch.linspace(-1, 1, 25).reshape(5, 5)

    def half():
        with ranks.share(questions(5)) as batch:
            own = whole[batch.hidden].requires_grad_()
            rows = ranks.rows(len(own))
            loss = (own @ rows.gathered(own).T * weight[batch.hidden]).exp().log1p().sum()
            (loss + ranks.norm(own) * len(own) / rows.all).backward()
            logs = ranks.log_summed(own.detach()[:2].mean(0))
        return own.grad.numpy(), rows.diagonal(own.device).numpy(), logs.numpy()

    one = whole.clone().requires_grad_()
    ((one @ one.T * weight).exp().log1p().sum() + one.norm()).backward()
    (upper, above, logs), (lower, below, _) = together(half)
    assert [*upper, *lower] == [pytest.approx(row) for row in one.grad.numpy()]
    assert [*map(list, above), *map(list, below)] == torch.eye(5).bool().tolist()
    assert logs == pytest.approx(torch.stack([whole[:2].mean(0), whole[2:4].mean(0)]).logsumexp(0).numpy())


@pytest.mark.parametrize("fast", [True, False])
def test_sinkhorn_of_half_of_the_rows_each_is_that_of_all(fast):
    kernel = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    a, b = torch.full((5,), 7.0, dtype=torch.float64), torch.full((7,), 5.0, dtype=torch.float64)

    def plan(start, stop, *total):
        if fast:
            return scale_kernel(kernel[start:stop].clone(), a[start:stop], b, 4, *total[:1])
        return sinkhorn(kernel[start:stop].log(), a[start:stop].log(), b.log(), 4, *total[1:]).exp()

    def half():
        with ranks.share(questions(5)) as batch:
            return plan(int(batch.hidden[0]), int(batch.hidden[-1]) + 1, ranks.summed, ranks.log_summed).numpy()

    halves = together(half)
    assert [*halves[0], *halves[1]] == [pytest.approx(row) for row in plan(0, 5).numpy()]


def test_gradients_of_a_table_are_joined_by_rows_and_rows_of_any_process_are_cleared():
    """A wrapper that sends tables leaves the rows of others in the gradient, to be added to the next step."""
    looked_up = [torch.tensor([0, 1, 1]), torch.tensor([1, 3])], [torch.tensor([4]), torch.tensor([0, 0])]

    def gradients():
        network, found = nn.Module(), []
        network.table, network.dense = Table(6, 2), nn.Linear(2, 1)
        for of_step in looked_up:
            ids = of_step[ranks.rank()]
            loss = (network.table(ids) * (1 + ids[:, None])).sum(1) + network.dense(torch.ones(len(ids), 2)).squeeze(1)
            gradients = Gradients(network, loss.numel())
            loss.sum().backward()
            gradients.join()
            touched = torch.cat(network.table.touched).sort().values.tolist()
            found.append((network.table.weight.grad.tolist(), touched, network.dense.bias.grad.tolist()))
            network.table.clear_gradient()
            network.dense.bias.grad = network.dense.weight.grad = None
        return found

    first, second = together(gradients)
    assert first == second
    assert first[0] == ([[1, 1], [6, 6], [0, 0], [4, 4], [0, 0], [0, 0]], [0, 1, 1, 1, 3], [5])
    assert first[1] == ([[2, 2], [0, 0], [0, 0], [0, 0], [5, 5], [0, 0]], [0, 0, 4], [3])


def test_what_is_no_row_of_a_batch_has_to_be_asked_for():
    def found():
        with ranks.share(questions(5)), pytest.raises(ValueError, match="7 rows of a batch .* ask ranks.entries"):
            ranks.rows(7)
        with ranks.share(questions(5)):
            asked = ranks.entries(3 * ranks.rank())
        return asked.first, asked.last, asked.all

    assert together(found) == [(0, 0, 3), (0, 3, 3)]


def test_what_is_no_batch_is_not_divided():
    with pytest.raises(TypeError, match="list is no batch that can be divided by rows"):
        parts.length([1, 2])


def test_what_one_process_raises_is_raised_in_all():
    def found():
        def fails():
            raise ValueError(f"in {ranks.rank()}")

        told = [ranks.agreed(lambda: f"by {ranks.rank()}"), ranks.collected(ranks.rank)]
        for ask in (ranks.agreed, ranks.collected):
            try:
                ask(fails if ranks.rank() == (ask is ranks.collected) else ranks.rank)
            except ValueError as error:
                told.append(str(error))
        return told

    assert together(found) == [["by 0", [0, 1], "in 0", "in 1"]] * 2
