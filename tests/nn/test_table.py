"""A table is an embedding with a cheaper gradient, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from recot.nn.table import Table, clear_gradients


def twins(rows=20, dim=3):
    torch.manual_seed(0)
    table = Table(rows, dim)
    embedding = nn.Embedding(rows, dim)
    embedding.weight.data.copy_(table.weight.data)
    return table, embedding


def test_training_a_table_equals_training_an_embedding(rng):
    """Dense Adam with weight decay, repeated ids, two look-ups a step and one use of the whole table."""
    table, embedding = twins()
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.1, weight_decay=0.01) for m in (table, embedding)]
    for step in range(6):
        first, second = torch.randint(20, (7,), generator=rng), torch.randint(20, (4, 2), generator=rng)
        for module, optimizer in zip((table, embedding), optimizers, strict=True):
            loss = module(first).pow(2).sum() + module(second).sin().sum()
            if step == 3:
                loss = loss + (module(None) if module is table else module.weight).pow(3).sum()
            loss.backward()
            optimizer.step()
            clear_gradients(module)
        torch.testing.assert_close(table.weight, embedding.weight)


def test_clearing_leaves_no_gradient_behind(rng):
    table, _ = twins()
    for ids in (torch.tensor([1, 1, 5]), torch.tensor([[2], [7]])):
        table(ids).sum().backward()
    assert table.weight.grad.count_nonzero() > 0
    table.clear_gradient()
    assert table.weight.grad.count_nonzero() == 0


def test_a_frozen_copy_gathers_no_gradient():
    table, _ = twins()
    teacher = copy.deepcopy(table).requires_grad_(False)
    assert not teacher(torch.tensor([1])).requires_grad and not teacher.touched
    with torch.no_grad():
        table(torch.tensor([1]))
    assert not table.touched


def test_initialisation_is_xavier_normal():
    torch.manual_seed(0)
    assert Table(3000, 64).weight.std().item() == pytest.approx((2 / 3064) ** 0.5, rel=0.02)
