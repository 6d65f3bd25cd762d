"""What stands below a table is true of its numbers."""

import pytest

from recot.artifacts.spec import Artifact, Column, Row
from recot.pages.notes import budgets, unfinished
from recot.record.lines import CellLine, RunLine

STUDY = ("trial,loss.tau,value,epochs,best_epoch,seconds,status,key,metric,trials,max_epochs\n"
         f"1,0.1,0.2,9,8,1.5,done,{'a' * 16},ndcg@20,2,20\n2,0.2,0.3,9,8,1.5,done,{'b' * 16},ndcg@20,2,20\n")


@pytest.mark.parametrize(("overrides", "told"), [
    (("model=clrec",), ["Tuned on validation with 2 configurations, at most 20 epochs each: One on gowalla "
                        "(results/tuning)."]),
    (("model=clrec", "loss.duplicates=mask"), ["Tuned on validation with 2 configurations, at most 20 epochs each: "
                                               "One on gowalla (results/tuning)."]),
    (("model=clrec", "loss.tau=0.3"), []), (("model=clrec", "tuned=gowalla/bprmf-bpr-none"), []),
    (("model=clrec", "tuned=${data}/clrec-infonce-none"), ["Tuned on validation with 2 configurations, at most 20 "
                                                           "epochs each: One on gowalla (results/tuning)."]),
    (("model=bprmf",), [])])
def test_a_row_counts_as_tuned_unless_it_sets_what_its_study_chose(tmp_path, overrides, told):
    (tmp_path / "gowalla").mkdir()
    (tmp_path / "gowalla" / "clrec-infonce-none.csv").write_text(STUDY)
    model = overrides[0].partition("=")[2]
    artifact = Artifact("own", "table", "results", "", "", (Row("one", "One", overrides, False),),
                        (Column("gowalla", "gowalla", "Gowalla", ("data=gowalla",)),), ("recall@10",), (0,))
    ledger = {"k": RunLine("k", "gowalla", model, "infonce", "none")}
    lines = [CellLine("table", "one", "gowalla", "recall@10", keys=keys) for keys in (("k",), ("k", "missing"), ())]
    assert list(budgets(artifact, lines, ledger, tmp_path)) == told


def test_a_study_with_finals_says_so(tmp_path):
    (tmp_path / "gowalla").mkdir()
    header, first, second = STUDY.splitlines()
    study = f"{header},final,final_epochs\n{first},0.4,90\n{second},,\n"
    (tmp_path / "gowalla" / "clrec-infonce-none.csv").write_text(study)
    artifact = Artifact("own", "table", "results", "", "", (Row("one", "One", ("model=clrec",), False),),
                        (Column("gowalla", "gowalla", "Gowalla", ("data=gowalla",)),), ("recall@10",), (0,))
    ledger = {"k": RunLine("k", "gowalla", "clrec", "infonce", "none")}
    [told] = budgets(artifact, [CellLine("table", "one", "gowalla", "recall@10", keys=("k",))], ledger, tmp_path)
    assert told == ("Tuned on validation with 2 configurations, at most 20 epochs each, the first of them to the end: "
                    "One on gowalla (results/tuning).")


def test_a_cell_of_fewer_seeds_than_the_others_is_named():
    rows = tuple(Row(name.lower(), name, (), False) for name in ("One", "Two", "Three"))
    artifact = Artifact("own", "table", "results", "", "", rows, (Column("gowalla", "gowalla", "Gowalla", ()),),
                        ("recall@10", "ndcg@10"), (0, 1, 2))
    lines = [CellLine("table", row, "gowalla", metric, seeds)
             for row, seeds in (("one", (0, 1, 2)), ("two", (0, 2)), ("three", ())) for metric in artifact.metrics]
    assert list(unfinished(artifact, lines)) == ["Of fewer seeds so far: Two, Gowalla (0, 2)."]
    assert not list(unfinished(artifact, lines[:2]))


def test_each_study_in_a_table_has_its_own_budget(tmp_path):
    (tmp_path / "gowalla").mkdir()
    header, *rows = STUDY.splitlines()
    rows = [f"{row},{study}" for row, study in zip([*rows, rows[0]], ("", "", "12345678"), strict=True)]
    (tmp_path / "gowalla" / "clrec-infonce-none.csv").write_text("\n".join([f"{header},study", *rows, ""]))
    artifact = Artifact("own", "table", "results", "", "", (Row("one", "One", ("model=clrec",), False),),
                        (Column("gowalla", "gowalla", "Gowalla", ("data=gowalla",)),), ("recall@10",), (0,))
    ledger = {"k": RunLine("k", "gowalla", "clrec", "infonce", "none")}
    told = list(budgets(artifact, [CellLine("table", "one", "gowalla", "recall@10", keys=("k",))], ledger, tmp_path))
    assert [note.split(",")[0] for note in told] == ["Tuned on validation with 2 configurations",
                                                     "Tuned on validation with 1 configurations"]
