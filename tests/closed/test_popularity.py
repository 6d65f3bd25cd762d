"""The floor."""

import torch

from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions
from recot.data.split import ratio


def test_it_scores_every_item_by_its_training_users():
    users, items = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 3, 3, 3, 1, 0])
    split = ratio(Interactions.from_pairs(users, items, 3, 5))
    counts = torch.zeros(5).index_add(0, split.train.items, torch.ones(len(split.train)))
    scores = Popularity().fit(split).score(split.test[0].query)
    assert scores.equal(counts.repeat(len(split.test[0]), 1))
