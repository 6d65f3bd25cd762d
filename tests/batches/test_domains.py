"""Batches by domain: every pair once, negatives of the own domain, shares that make losses of domains add up."""

import pytest
import torch

from recot.batches.domains import domain_batches
from recot.data.domains import of_domain
from recot.data.interactions import Domain, Interactions

DOMAINS = (Domain("books", 0, 8), Domain("films", 8, 12), Domain("music", 12, 30))


@pytest.fixture
def train(rng):
    chosen = torch.rand(40, 30, generator=rng) < 0.4
    chosen[:, [0, 8, 12]] = False  # so that no user has all of a domain
    users, items = chosen.nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, 40, 30, domains=DOMAINS)


def test_the_pairs_of_a_domain_keep_their_ids(train):
    parts = [of_domain(train, domain) for domain in DOMAINS]
    assert sum(map(len, parts)) == len(train) and torch.equal(torch.cat([part.keys for part in parts]).sort()[0],
                                                              train.keys)
    assert all(domain.start <= int(part.items.min()) and int(part.items.max()) < domain.stop and part.n_items == 30
               for part, domain in zip(parts, DOMAINS, strict=True))


def test_every_pair_is_drawn_once_and_all_domains_end_together(train):
    batches = list(domain_batches(train, 32, torch.Generator().manual_seed(0), 2))
    sizes = torch.tensor([len(of_domain(train, domain)) for domain in DOMAINS])
    assert len(batches) == -(-int(sizes.max()) // 32)
    keys = torch.cat([batch.query.users * 30 + batch.items for batch in batches])
    assert torch.equal(keys.sort()[0], train.keys)
    for batch in batches:
        starts = torch.tensor([domain.start for domain in DOMAINS])
        shares = (torch.searchsorted(starts, batch.items, right=True) - 1).bincount(minlength=3)
        assert ((shares - sizes / len(batches)).abs() < 1).all()
        assert batch.negatives.shape == (len(batch.items), 2)
        assert torch.equal(torch.searchsorted(starts, batch.negatives, right=True),
                           torch.searchsorted(starts, batch.items, right=True)[:, None].expand(-1, 2))
        assert not train.contains(batch.query.users[:, None], batch.negatives).any()


def test_the_mean_over_a_batch_is_the_sum_of_the_means_over_its_domains(train):
    weights = torch.rand(len(train), generator=torch.Generator().manual_seed(3))
    own = {int(key): weight for key, weight in zip(train.users * 30 + train.items, weights, strict=True)}
    for batch in domain_batches(train.reweighted(weights), 32, torch.Generator().manual_seed(0), 1):
        loss = torch.randn(len(batch.items))
        given = torch.stack([own[int(key)] for key in batch.query.users * 30 + batch.items])
        expected = sum((loss * given)[(batch.items >= domain.start) & (batch.items < domain.stop)].mean()
                       for domain in DOMAINS)
        torch.testing.assert_close((loss * batch.weights).mean(), expected)
