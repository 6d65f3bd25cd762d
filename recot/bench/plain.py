"""Methods as libraries write them, for ``make bench``: ``nn.Embedding``, autograd, default Adam, nothing saved.

Batches come for free here: places in the training set are drawn with replacement and negatives are not checked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.interactions import Interactions


class Straight:
    """Two embedding tables and an optimiser; subclasses say what the loss of a batch is.

    Args:
        train: (n,) pairs. dim: width. batch: pairs per step. weight_decay: of Adam.
    """

    def __init__(self, train: Interactions, dim: int, batch: int, weight_decay: float = 0.0):
        torch.manual_seed(0)
        self.train, self.batch, self.rng = train, batch, torch.Generator().manual_seed(0)
        self.user, self.item = nn.Embedding(train.n_users, dim), nn.Embedding(train.n_items, dim)
        parameters = [*self.user.parameters(), *self.item.parameters()]
        self.optimizer = torch.optim.Adam(parameters, 1e-3, weight_decay=weight_decay)

    @abstractmethod
    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """Scalar of a batch of pairs, (n,) each."""

    def step(self) -> None:
        """One optimiser step."""
        place = torch.randint(len(self.train), (self.batch,), generator=self.rng)
        loss = self.loss(self.train.users[place], self.train.items[place])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def negatives(self) -> Tensor:
        """(n,) items."""
        return torch.randint(self.train.n_items, (self.batch,), generator=self.rng)


class BPRMF(Straight):
    """BPR by matrix factorisation."""

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """-log sigmoid of the margin."""
        u, v, w = self.user(users), self.item(items), self.item(self.negatives())
        return -torch.log(1e-10 + torch.sigmoid((u * v).sum(1) - (u * w).sum(1))).mean()


class DirectAU(Straight):
    """Alignment, and uniformity by ``torch.pdist``."""

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """As in the paper."""
        u, v = F.normalize(self.user(users), dim=-1), F.normalize(self.item(items), dim=-1)
        spread = [torch.pdist(z).pow(2).mul(-2).exp().mean().log() for z in (u, v)]
        return (u - v).norm(dim=1).pow(2).mean() + sum(spread) / 2


class LightGCN(Straight):
    """Propagation by one square COO matrix, layers stacked and averaged, BPR and the penalty of the authors."""

    def __init__(self, train: Interactions, dim: int, batch: int, n_layers: int):
        super().__init__(train, dim, batch)
        self.n_layers = n_layers
        size = train.n_users + train.n_items
        rows = torch.cat([train.users, train.items + train.n_users])
        columns = torch.cat([train.items + train.n_users, train.users])
        degree = torch.bincount(rows, minlength=size).float()
        values = (degree[rows] * degree[columns]).rsqrt()
        self.adjacency = torch.sparse_coo_tensor(torch.stack([rows, columns]), values, (size, size)).coalesce()

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """BPR of the propagated vectors, and half the squared norms of the free ones."""
        layers = [torch.cat([self.user.weight, self.item.weight])]
        for _ in range(self.n_layers):
            layers.append(torch.sparse.mm(self.adjacency, layers[-1]))
        z, v = torch.stack(layers, 1).mean(1).split([self.train.n_users, self.train.n_items])
        negatives = self.negatives()
        margin = (z[users] * v[items]).sum(1) - (z[users] * v[negatives]).sum(1)
        norms = sum(part.square().sum() for part in (self.user(users), self.item(items), self.item(negatives)))
        return F.softplus(-margin).mean() + 1e-4 / 2 * norms / len(users)


class SCLRec(Straight):
    """SCLRec as its equations stand: three products, log-domain Sinkhorn, autograd through the loss."""

    def __init__(self, train: Interactions, dim: int, batch: int):
        super().__init__(train, dim, batch, weight_decay=1e-6)
        self.slow_user, self.slow_item = self.user.weight.detach().clone(), self.item.weight.detach().clone()

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """Eq. 6."""
        with torch.no_grad():
            targets = self.targets(users, items)
        u, v = F.normalize(self.user(users), dim=1), F.normalize(self.item(items), dim=1)
        return -(targets * (u @ v.T / 0.2).log_softmax(1)).sum(1).mean()

    def targets(self, users: Tensor, items: Tensor) -> Tensor:
        """(n, n) soft targets of a batch, Eqs. 2 to 5."""
        a, c = F.normalize(self.slow_user[users], dim=1), F.normalize(self.slow_item[items], dim=1)
        pi = self.train.popularity[items].float().softmax(0)
        kernel = (a @ a.T + c @ c.T + 0.1 * pi[None, :] + a @ c.T) / 0.1
        kernel = kernel.masked_fill(torch.eye(len(users), dtype=torch.bool), -torch.inf)
        f, g = torch.zeros(len(users)), torch.zeros(len(users))
        for _ in range(6):
            f = -(kernel + g).logsumexp(1)
            g = -(kernel + f[:, None]).logsumexp(0)
        f = -(kernel + g).logsumexp(1)
        return 0.9 * torch.eye(len(users)) + 0.1 * (kernel + f[:, None] + g).exp()

    def step(self) -> None:
        """One optimiser step, and one of the teacher."""
        super().step()
        with torch.no_grad():
            for slow, fast in ((self.slow_user, self.user.weight), (self.slow_item, self.item.weight)):
                slow.mul_(0.9).add_(fast, alpha=0.1)


def transported(cost: Tensor, items: Sequence[Tensor], log_p: Tensor, k: int, n_iters: int) -> Tensor:
    """(b,): SinkhornCF's transport at entropy one, user by user, in logs and by autograd, as its authors' code has it.

    Args:
        cost: (n, n), between all items. items: b histories. log_p: (b, n).
    """
    found = []
    for own, scores in zip(items, log_p, strict=True):
        log_nu, top = scores.topk(k)  # (k,) each
        kernel = -cost[own][:, top].float()  # (m, k)
        log_mu, g = torch.zeros(len(own)), torch.zeros(k)
        for _ in range(n_iters):
            f = log_mu - (kernel + g).logsumexp(1)  # (m,)
            g = log_nu - (kernel + f[:, None]).logsumexp(0)  # (k,)
        found.append(-((kernel + f[:, None] + g).exp() * kernel).sum())
    return torch.stack(found)
