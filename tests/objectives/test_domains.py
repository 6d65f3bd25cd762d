"""DomainBPR: losses of domains add up."""

import pytest
import torch
import torch.nn.functional as F

from recot.data.interactions import Domain, Interactions
from recot.networks.herograph import HeroGRAPH
from recot.objectives.domains import DomainBPR

DOMAINS = (Domain("books", 0, 8), Domain("films", 8, 20))


@pytest.fixture
def train(rng):
    users, items = (torch.rand(15, 20, generator=rng) < 0.4).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 15, 20, domains=DOMAINS)


@pytest.fixture
def network(train):
    torch.manual_seed(0)
    made = HeroGRAPH(15, 20, DOMAINS, dim=4, widths=[4])
    made.bind(train)
    return made


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_loss_is_the_sum_over_domains_of_means(network, train, penalty):
    objective = DomainBPR(10, penalty=penalty)
    batch = next(objective.batches(train, torch.Generator().manual_seed(0), network, 0))
    loss, _ = objective(network, batch)
    scores, rows = network.score(batch.query), torch.arange(len(batch.items))
    p = network.private_users.weight.view(15, 2, 4)
    expected = 0.0
    for number, domain in enumerate(DOMAINS):
        own = rows[(batch.items >= domain.start) & (batch.items < domain.stop)]
        users, chosen, other = batch.query.users[own], batch.items[own], batch.negatives[own, 0]
        used = [p[users, number], network.nodes.weight[users], *(
            table for ids in (chosen, other) for table in (network.private_items.weight[ids],
                                                           network.nodes.weight[ids + 15]))]
        expected = expected + F.softplus(scores[own, other] - scores[own, chosen]).mean()
        expected = expected + penalty / 2 * sum(rows.square().sum() for rows in used) / len(own)
    torch.testing.assert_close(loss.mean(), expected)


def test_neighbours_are_drawn_anew_for_every_epoch(train):
    network = HeroGRAPH(15, 20, DOMAINS, dim=4, widths=[4], neighbours=1)
    network.bind(train)
    objective, rng, seen = DomainBPR(10), torch.Generator().manual_seed(0), []
    for epoch in range(2):
        list(objective.batches(train, rng, network, epoch))
        seen.append(network.drawn.heard.values)
    assert len(seen[0]) == len(seen[1]) and not torch.equal(*seen)


@pytest.mark.parametrize(("given", "remedy"), [({"negatives": 0}, "give 1 or more"), ({"penalty": -1}, "0 or more")])
def test_what_cannot_be_is_refused(given, remedy):
    with pytest.raises(ValueError, match=remedy):
        DomainBPR(**given)
