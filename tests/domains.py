"""Small data of three domains, and stages that have been fitted to them."""

import torch

from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query
from recot.networks.factorisation import Tables
from recot.nn.contracts import Before

DOMAINS = (Domain("books", 0, 5), Domain("films", 5, 9), Domain("music", 9, 15))


def question(*users):
    """Questions of users, without histories."""
    return Query(torch.tensor(users), Ragged.from_lists([[]] * len(users)))


def before(n_users, dim, domains=DOMAINS):
    """One network of each domain."""
    torch.manual_seed(9)
    return Before(tuple(Tables(n_users, d.stop - d.start, dim=dim).eval() for d in domains), domains)


def domain_interactions(rng, n_users, share=0.5, communities=False, domains=DOMAINS):
    """The pairs of each domain, its items from 0; with ``communities``, of users and items that are both odd or even.
    """
    made = []
    for domain in domains:
        size = domain.stop - domain.start
        drawn = torch.rand(n_users, size, generator=rng) < share
        if communities:
            drawn &= torch.arange(n_users)[:, None] % 2 == torch.arange(size) % 2
        users, items = drawn.nonzero(as_tuple=True)
        made.append(Interactions.from_pairs(users, items, n_users, size))
    return made


def joint(rng, n_users, domains=DOMAINS, **given):
    """The pairs of all domains together."""
    each = domain_interactions(rng, n_users, domains=domains, **given)
    users = torch.cat([train.users for train in each])
    items = torch.cat([train.items + domain.start for train, domain in zip(each, domains, strict=True)])
    return Interactions.from_pairs(users, items, n_users, domains[-1].stop, domains=domains)
