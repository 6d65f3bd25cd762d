"""The worked example of SinkhornCF's introduction, as the table shows it."""

import pytest
import torch

from recot.artifacts.load import load
from recot.ot import worked
from recot.ot.exact import exact_plan
from recot.pages.statistics import worked as lines_of
from recot.request.errors import RequestError


def test_every_number_of_the_table_is_the_printed_one():
    table = next(artifact for artifact in load("sinkhorncf") if artifact.name == "text_2")
    lines = list(lines_of(table))
    assert len(lines) == 6
    for line in lines:
        assert line.mean == pytest.approx(line.paper, abs=5e-7) and line.verdict == "match", line


def test_only_the_transport_tells_the_outputs_apart():
    near, far = worked.losses().values()
    assert near["kl"] == far["kl"] and near["sq_euclidean"] == far["sq_euclidean"] and near["w1"] < far["w1"]


def test_the_transport_is_that_of_the_network_simplex():
    """An output of two items of one half each is two columns of that mass, and what was taken two rows of one half."""
    for name, output in worked.OUTPUTS.items():
        cost = (1 - worked.SIMILARITY)[[0, 0]][:, output > 0]
        assert worked.losses()[name]["w1"] == pytest.approx(float((exact_plan(cost) * cost).sum()), abs=1e-12)


def test_a_similarity_has_ones_on_its_diagonal_and_no_side():
    assert torch.equal(worked.SIMILARITY, worked.SIMILARITY.T) and bool((worked.SIMILARITY.diagonal() == 1).all())


def test_an_example_that_nothing_computes_is_refused(monkeypatch, tmp_path):
    (tmp_path / "own.yaml").write_text("title: t\nseeds: [0]\ndata: {toy: four items}\nartifacts:\n  text: {"
                                       "kind: worked, title: t, data: [toy], metrics: [w1], of: os.system, rows: {}}\n")
    monkeypatch.setattr("recot.artifacts.load.EXPERIMENTS", tmp_path)
    load.__globals__["papers"].cache_clear()
    try:
        with pytest.raises(RequestError, match="a worked example is of one of losses, got 'os.system'"):
            load("own")
    finally:
        monkeypatch.undo()
        load.__globals__["papers"].cache_clear()
