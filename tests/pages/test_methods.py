"""The table of methods: every column is read from what the preset is."""

import pytest

from recot.pages import methods


@pytest.mark.parametrize(("preset", "row"), [
    ("sclrec", ("SCLRec", "Zhuang and Zhang, PAKDD 2024", "pairs", "soft_matching", "-", "no")),
    ("mstein", ("MStein", "Fan et al., WWW 2023", "sequences, views", "-", "times", "yes")),
    ("caser", ("Caser", "Tang and Wang, WSDM 2018", "sequences", "-", "times", "no")),
    ("vae", ("VAE-CF", "Liang et al., WWW 2018", "rows", "-", "-", "yes")),
    ("cdae", ("CDAE", "Wu et al., WSDM 2016", "rows", "-", "-", "no")),
    ("markov", ("Markov", "-", "closed form", "-", "times", "yes"))])
def test_a_row_says_what_the_preset_is(preset, row):
    assert methods.method(preset) == methods.Method(preset, *row)


@pytest.mark.parametrize("head", ["# BPRMF (Rendle et al. 2009), SCLRec Table 2.", "# BPRMF: Rendle et al., 2009",
                                  "defaults:", "# BPRMF: Rendle et al., UAI 2009"])
def test_a_preset_that_does_not_name_its_source_is_refused(head, tmp_path, monkeypatch):
    (tmp_path / "bprmf.yaml").write_text(f"# @package _global_\n{head}\n", encoding="utf-8")
    monkeypatch.setattr(methods, "PRESETS", tmp_path)
    with pytest.raises(ValueError, match="give the name and the paper first, as in '# BPRMF: Rendle et al."):
        methods.methods()


def test_no_two_presets_have_one_name():
    names = [row.name for row in methods.methods()]
    assert len(set(names)) == len(names)
