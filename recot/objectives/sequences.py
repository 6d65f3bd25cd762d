"""Objectives on histories in order: what comes after what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from recot.batches.augment import lowest
from recot.batches.rows import rows
from recot.batches.sequences import Masked, Prefixes, Sequences, Windows, prefixes, sequences, windows
from recot.data.interactions import Interactions, Ragged
from recot.nn import ranks
from recot.nn.contracts import ClozeEncoder, Encoder, SequenceEncoder
from recot.nn.gaussian import wasserstein
from recot.nn.precision import in_float32
from recot.objectives import losses
from recot.objectives.losses import weighted
from recot.objectives.views import Contrast, two_views
from recot.request.limits import check


class NextItem:
    """Each item of a user is predicted from those before it, against sampled items (SASRec).

    Args:
        batch_size: users per step.
        negatives: items drawn per item, uniformly from what the user has not taken, anew every epoch.
        against: ``sampled`` negatives, each by binary cross entropy, all of them added; ``pair``, the same negatives in
            pairs with the item that came, ``softplus(y- - y+)``, averaged over them; or ``all`` items in one softmax.
        contrast: a second term that compares augmented histories, or None.

    Raises:
        ValueError: negatives are drawn that a softmax over all items does not look at, or none where it does not.

    Source: Kang and McAuley (ICDM 2018), Eq. 6. The softmax: Klenitskiy and Vasilev (RecSys 2023). Pairs: BPR-Opt
    (Rendle et al., 2009).

    Departures: the mean is over predictions, as in the code of S3-Rec and MStein. Negatives are outside the training
    items of a user; there, also outside its validation and test items, so that these are never trained down.
    """

    networks = ("SASRec",)
    shared = True

    def __init__(self, batch_size: int = 256, negatives: int = 1,
                 against: Literal["sampled", "pair", "all"] = "sampled", contrast: Contrast | None = None):
        check("loss", ("negatives", negatives, negatives == 0 if against == "all" else negatives >= 1,
                       "are drawn, and a softmax over all items looks at none of them; give 0, or loss.against=sampled"
                       if against == "all" else "leaves nothing to compare with; give 1 or more, or loss.against=all"))
        self.batch_size, self.negatives, self.against, self.contrast = batch_size, negatives, against, contrast

    def batches(self, train: Interactions, rng: torch.Generator, network: SequenceEncoder,
                epoch: int) -> Iterator[Sequences]:
        """Histories with what comes next, and their views; they have them in any case."""
        drawn = sequences(train, self.batch_size, rng, negatives=self.negatives)
        if self.contrast is None:
            yield from drawn
            return
        similar = self.contrast.similar(train, network, epoch)
        for batch in drawn:
            yield replace(batch, views=self.contrast.views(batch.query.history, similar, train.n_items, rng))

    def __call__(self, network: SequenceEncoder, batch: Sequences) -> tuple[Tensor, Sequences]:
        """(nnz,) loss, that of an item and those of its negatives added, and the batch as far as it was read.

        The second term is the same number in every place, so that the mean holds it once.
        """
        batch = batch.latest(network.max_length)
        states = network.states(network.layout(batch.query.history))  # (nnz, d)
        loss = weighted(self.predicted(network, states, batch.items, batch.negatives), batch.weights)
        return loss + self.contrast(network, batch.views) if self.contrast and batch.views else loss, batch

    def predicted(self, network: SequenceEncoder, states: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """(n,) loss of what is known (n, d), the items that came (n,) and sampled ones (n, k)."""
        if self.against == "all":
            return losses.softmax(network.similarity(states, network.items()), items)
        return self.compare(states, network.items(torch.cat([items[:, None], negatives], 1)))

    @in_float32
    def compare(self, states: Tensor, items: Tensor) -> Tensor:
        """(nnz,) of what is known (nnz, d), the item that came and its negatives (nnz, 1 + k, d)."""
        logits = torch.linalg.vecdot(states[:, None], items)  # (nnz, 1 + k)
        if self.against == "pair":
            return losses.bpr(logits[:, 0], logits[:, 1:])
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1.0
        return losses.bce(logits, labels).sum(1)


class NextGaussian(NextItem):
    """The item that comes next is nearer than a sampled one, by the Wasserstein distance of Gaussians (STOSA; MStein).

    Args:
        batch_size: users per step.
        negatives: items drawn per item; their losses are averaged.
        pvn: weight of a hinge that wants the next item nearer to what is known than to the negative.
        contrast: a second term that compares augmented histories, or None.

    Raises:
        ValueError: ``pvn`` is negative, or there are no negatives.

    Source: STOSA (Fan et al., WWW 2022), Eqs. 12 to 14.

    Departures: those of :class:`NextItem`; and the papers have one negative, where several are averaged here. STOSA's
    program also draws the id of a masked item as a negative, which nobody takes.
    """

    networks = ("Stosa",)
    shared = True

    def __init__(self, batch_size: int = 256, negatives: int = 1, pvn: float = 0.005, contrast: Contrast | None = None):
        check("loss", ("pvn", pvn, pvn >= 0, "would reward a negative that is near; give 0 or more"),
              ("negatives", negatives, negatives >= 1, "leaves nothing to be farther away; give 1 or more"))
        super().__init__(batch_size, negatives, "sampled", contrast)
        self.pvn = pvn

    @in_float32
    def compare(self, states: Tensor, items: Tensor) -> Tensor:
        """(nnz,) of what is known (nnz, 2d), the item that came and its negatives (nnz, 1 + k, 2d)."""
        distance = wasserstein(states[:, None], items)  # (nnz, 1 + k)
        loss = losses.bpr(-distance[:, 0], -distance[:, 1:])
        between = wasserstein(items[:, :1], items[:, 1:])  # (nnz, k)
        return loss + self.pvn * (distance[:, :1] - between).relu().mean(1)


class DuoRec:
    """The next item is predicted from a prefix of a history, and two prefixes that it follows recognise each other.

    Each prefix is read twice, with other dropout, and so is another one that was followed by the same item. Two of the
    three vectors are compared among those of the batch.

    Args:
        batch_size: prefixes per step.
        negatives, against: see :class:`NextItem`.
        views: ``dropout_same`` compares the second reading with the other prefix, ``dropout`` the two readings, and
            ``same`` the first reading with the other prefix.
        weight: of the comparison. tau: its temperature.
        prefixes: ``all`` of them make an epoch, or ``one`` of each user.

    Raises:
        ValueError: as :class:`NextItem`; ``tau`` is not positive, or ``weight`` is negative.

    Source: Qiu et al. (WSDM 2022), Contrastive Learning for Representation Degeneration Problem in Sequential
    Recommendation.

    Departures: ``dropout_same`` is the default of the authors' code, where the paper adds the other two. That code pads
    on the right and counts places from the start; here places are counted from the end, so that all of them move as a
    prefix grows. MStein says that its table was made with one negative in place of the softmax over all items, which is
    taken for binary cross entropy there, as in its other rows; the one loss with one negative that the authors' code
    has is ``against=pair``.
    """

    networks = ("SASRec",)
    shared = True

    def __init__(self, batch_size: int = 256, negatives: int = 0, against: Literal["sampled", "pair", "all"] = "all",
                 views: Literal["dropout_same", "dropout", "same"] = "dropout_same", weight: float = 0.1,
                 tau: float = 1.0, prefixes: Literal["all", "one"] = "all"):
        self.next = NextItem(batch_size, negatives, against)
        check("loss", ("tau", tau, tau > 0, "is a temperature, which divides; give more than 0, for example 1"),
              ("weight", weight, weight >= 0, "would drive views apart; give 0 or more"))
        self.views, self.weight, self.tau, self.prefixes = views, weight, tau, prefixes

    def batches(self, train: Interactions, rng: torch.Generator, network: SequenceEncoder,
                epoch: int) -> Iterator[Prefixes]:
        """Prefixes with what comes next, and their partners; they have them in any case."""
        return prefixes(train, self.next.batch_size, rng, negatives=self.next.negatives, one=self.prefixes == "one")

    def __call__(self, network: SequenceEncoder, batch: Prefixes) -> tuple[Tensor, Prefixes]:
        """(n,) loss; the comparison is the same number in every place, so that the mean holds it once."""
        once = batch.query.history.latest(network.max_length)
        other = batch.partners.latest(network.max_length)
        read = [once, *[once] * (self.views != "same"), *[other] * (self.views != "dropout")]
        layout = network.layout(Ragged.from_lengths(torch.cat([rows.lengths for rows in read]),
                                                    torch.cat([rows.values for rows in read])))
        states = layout.last(network.states(layout))  # (2n or 3n, d)
        loss = weighted(self.next.predicted(network, states[:len(once)], batch.items, batch.negatives), batch.weights)
        both = states[-2 * len(once):]  # (2n, d)
        rows = ranks.rows(len(once))
        if rows.all > len(once):
            both = torch.cat([rows.gathered(side) for side in both.tensor_split(2)])  # (2n, d)
        return loss + self.weight * two_views(both, "dot", self.tau).mean(), batch


class NextItems:
    """The items that come next are predicted together from those before them, against sampled items (Caser).

    Args:
        batch_size: windows per step.
        targets: T, items that are predicted at once. A user with fewer is asked for those there are.
        negatives: items drawn per window, uniformly from what the user has not taken, anew every epoch.
        max_length: L, items before the targets in a window, at most; those that the network reads.

    Raises:
        ValueError: one of these is not positive.

    Source: Tang and Wang (WSDM 2018), Sec. 3, with the means over targets and over negatives of the authors' program in
    PyTorch.

    Departures: that program says that ``negatives`` are drawn for each target, and draws them for each window, as here.
    It fills the targets of a user who has fewer with padding, which it then learns to predict; here they do not count.
    """

    networks = ("Caser",)
    shared = True

    def __init__(self, batch_size: int = 512, targets: int = 3, negatives: int = 3, max_length: int = 5):
        check("loss", ("targets", targets, targets >= 1, "leaves nothing to predict; give 1 or more"),
              ("negatives", negatives, negatives >= 1, "leaves nothing to compare with; give 1 or more"),
              ("max_length", max_length, max_length >= 1, "leaves nothing to know; give 1 or more"))
        self.batch_size, self.targets, self.negatives, self.max_length = batch_size, targets, negatives, max_length

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Windows]:
        """Windows; they have histories in any case."""
        return windows(train, self.batch_size, rng, length=self.max_length, targets=self.targets,
                       negatives=self.negatives)

    def __call__(self, network: Encoder, batch: Windows) -> tuple[Tensor, Windows]:
        """(n,) loss of each window: the mean over its targets and that over its negatives, added."""
        items = network.items(torch.cat([batch.targets, batch.negatives], 1))  # (n, t + k, d)
        logits = network.similarity(network.users(batch.query)[:, None], items).squeeze(1)  # (n, t + k)
        labels = torch.zeros_like(logits)
        labels[:, : self.targets] = 1.0
        right, wrong = losses.bce(logits, labels).split([self.targets, self.negatives], 1)  # (n, t), (n, k)
        return weighted(right, batch.weights).mean(1) + wrong.mean(1), batch


class Cloze:
    """Masked items of a user are guessed from the others, before and after them, among all items (BERT4Rec).

    Args:
        batch_size: users per step.
        ratio: share of a user's items that is masked, anew every epoch, and at least one item; of its latest
            ``model.max_length`` ones, which are read.
        last: share of the users, drawn anew every epoch, that have their last item masked and no other: the question
            that is asked in the end.

    Raises:
        ValueError: ``ratio`` is not in (0, 1], or ``last`` not in [0, 1].

    Source: Sun et al. (CIKM 2019), Sec. 3.6.

    Departures: the authors' code masks each user ten times before training and adds one copy with the last item masked,
    a share of 1/11; here masks are drawn anew and the share is half, for RecBole's results rose markedly when it added
    such copies. Items of a user before the latest ones are never masked; there, windows slide over them. There is no
    cap on the masks of a user; there it is 30, the share 0.6 of 50. The item that validates is not trained on.
    """

    networks = ("BERT4Rec",)
    shared = True

    def __init__(self, batch_size: int = 256, ratio: float = 0.6, last: float = 0.5):
        check("loss", ("ratio", ratio, 0 < ratio <= 1, "is a share of items to mask; give more than 0 and up to 1"),
              ("last", last, 0 <= last <= 1, "is a share of users; give 0 to 1"))
        self.batch_size, self.ratio, self.last = batch_size, ratio, last

    def batches(self, train: Interactions, rng: torch.Generator, network: ClozeEncoder, epoch: int) -> Iterator[Masked]:
        """Histories with what decides on their masks; they have them in any case."""
        for batch in rows(train, self.batch_size, rng):
            known = batch.query.history
            key, coin = (torch.rand(count, generator=rng, dtype=torch.float64, device=known.values.device)
                         for count in (len(known.values), len(known)))
            last = coin < self.last  # (b,)
            yield Masked(batch.query, key.masked_fill(known.is_latest(1) & last[known.rows], 0.0),
                         torch.full_like(coin, self.ratio).masked_fill(last, 0.0), batch.weights)

    def __call__(self, network: ClozeEncoder, batch: Masked) -> tuple[Tensor, Masked]:
        """(n_masked,) loss, and the batch as far as it was read."""
        batch = batch.latest(network.max_length)
        known = batch.query.history
        count = (known.lengths * batch.shares).round().long().clamp(min=1)  # (b,)
        masked = lowest(known, count, batch.key)
        places = masked.nonzero().flatten()  # (n_masked,)
        layout = network.layout(Ragged(known.offsets, known.values.masked_fill(masked, network.mask)))
        vectors = network.guesses(network.states(layout).index_select(0, places))  # (n_masked, d + 1)
        logits = network.similarity(vectors, network.items())  # (n_masked, n_items)
        loss = losses.softmax(logits, known.values[places])
        return weighted(loss, None if batch.weights is None else batch.weights[places]), batch
