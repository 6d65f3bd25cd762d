"""Claims in words, and the section of results/README.md, which is what the csv files say."""

from pathlib import Path

import pytest

from recot.artifacts.claims import HELD, NOT_HELD, Judgement
from recot.artifacts.load import load
from recot.artifacts.rules import Claim, Comparison, Reading
from recot.pages import claims

RESULTS = Path(__file__).parents[2] / "results"


def test_the_claims_of_the_readme_are_those_of_the_cells():
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    shown = text.partition(claims.BEGIN)[2].partition(claims.END)[0]
    assert shown == claims.section(RESULTS), "make tables ARGS=--render writes the claims as they are now"


@pytest.mark.parametrize("paper", ["mstein", "prorec", "sclrec", "sinkhorncf", "uclr"])
def test_every_paper_has_claims_that_cells_decide(paper):
    judged = claims.judgements(paper, RESULTS)
    assert sum(bool(each.claim.rule) for each in judged) >= 5
    assert {each.claim.table for each in judged if each.claim.rule} <= {artifact.name for artifact in load(paper)}


READINGS = (Reading("table1", "a", "near", "ndcg@10", "A|x", "Near", 0.3, 1),
            Reading("table1", "b", "near", "ndcg@10", "B", "Near", 0.2, 1))


def test_a_comparison_in_words_has_numbers_metric_data_and_significance():
    comparison = Comparison(READINGS, True, 0.5, 0.0123, "over 3 seeds")
    assert claims.numbers(comparison) == "A|x 0.3000 against B 0.2000 (ndcg@10; Near)"
    assert claims.evidence(comparison) == "+50.0 %, p = 0.012 over 3 seeds"
    assert claims.evidence(Comparison(READINGS, True, 0.5, 1e-9, "over 3 seeds")) == "+50.0 %, p < .001 over 3 seeds"
    assert claims.evidence(Comparison(READINGS, True, 0.5, None, "one seed")) == "+50.0 %, one seed"


def test_the_section_counts_comparisons_escapes_names_and_drops_remarks_of_other_verdicts():
    claim = Claim("toy", "one", "A beats *B*", "table1", rule="greater", remarks={HELD: "So it is.", NOT_HELD: "No."})
    judged = Judgement(claim, HELD, (Comparison(READINGS, True, 0.5, 0.2, "over 3 seeds"), Comparison(READINGS)))
    prose = Judgement(Claim("toy", "two", "C", prose="Nothing decides it."), "untestable")
    text = claims.markdown([("Toy", [judged, prose])])
    assert (r"| Toy | A beats \*B\* | **held** (1 of 1 comparison, none significant; 1 cannot be made yet) | "
            r"A\|x 0.3000 against B 0.2000 (ndcg@10; Near): +50.0 %, p = 0.2 over 3 seeds. So it is. |") in text
    assert "No." not in text.split("No cell")[0] and "* Toy, C: Nothing decides it." in text


def test_only_what_stands_between_the_marks_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "section", lambda results: "new\n")
    page = tmp_path / "README.md"
    assert not claims.update(tmp_path) and not page.exists()
    page.write_text("no marks\n")
    assert not claims.update(tmp_path) and page.read_text() == "no marks\n"
    page.write_text(f"above\n{claims.BEGIN}old\n{claims.END}below\n")
    assert claims.update(tmp_path) and page.read_text() == f"above\n{claims.BEGIN}new\n{claims.END}below\n"
