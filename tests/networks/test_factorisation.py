"""Matrix factorisation."""

import pytest
import torch

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.factorisation import Tables


def query(*users):
    return Query(torch.tensor(users), Ragged.from_lists([[] for _ in users]))


def test_score_is_the_inner_product_of_user_and_item_vectors():
    network = Tables(4, 6, dim=3)
    expected = network.user_table.weight[[2, 0]] @ network.item_table.weight.T
    torch.testing.assert_close(network.score(query(2, 0)), expected)


def test_cosine_score_ignores_lengths():
    network = Tables(4, 6, dim=3, score="cosine")
    before = network.score(query(1))
    with torch.no_grad():
        network.item_table.weight.mul_(torch.arange(1, 7)[:, None])
    torch.testing.assert_close(network.score(query(1)), before)


def test_an_unseen_user_is_refused():
    with pytest.raises(ValueError, match="pick an inductive model"):
        Tables(4, 6, dim=3).score(query(1, -1))
