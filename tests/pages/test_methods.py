"""The table of methods: every column is read from what the preset is."""

import pytest
from commands import known

from recot.artifacts.differences import text as text_of
from recot.pages import methods
from recot.request.claims import is_inductive, stranger_to
from recot.request.errors import RequestError
from recot.request.presets import outline

PRESETS = sorted(file.stem for file in methods.PRESETS.glob("*.yaml"))


@pytest.mark.parametrize(("preset", "row"), [
    ("sclrec", ("SCLRec", "Zhuang and Zhang, PAKDD 2024", "pairs", "soft_matching", "-", "no")),
    ("mstein", ("MStein", "Fan et al., WWW 2023", "sequences, views", "-", "times", "yes")),
    ("caser", ("Caser", "Tang and Wang, WSDM 2018", "sequences", "-", "times", "no")),
    ("vae", ("VAE-CF", "Liang et al., WWW 2018", "rows", "-", "-", "yes")),
    ("cdae", ("CDAE", "Wu et al., WSDM 2016", "rows", "-", "-", "no")),
    ("markov", ("Markov", "-", "closed form", "-", "times", "yes")),
    ("uclr", ("UCLR", "Yang et al., WWW 2024", "contrast, views", "-", "domains", "no")),
    ("ga_mtcdr", ("GA-MTCDR", "Zhu et al., TKDE 2023", "alternating", "-", "domains", "no"))])
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


def same(said, composed):
    """Whether a composed config has all that is said; references aside, and 1e-3 being a text to yaml."""
    if isinstance(said, dict):
        return isinstance(composed, dict) and all(same(value, composed.get(key)) for key, value in said.items())
    return "${" in str(said) or said == composed or (isinstance(said, str) and isinstance(composed, float)
                                                     and float(said) == composed)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_read_of_a_preset_is_what_is_composed(preset):
    (config, choices), said = known(f"model={preset}"), outline(preset)
    for part in ("model", "loss", "denoiser", "stages", "domains"):
        assert same(said.get(part, {}), config[part]), part
    assert [said["choices"].get(group) for group in ("loss", "denoiser")] == [choices["loss"], choices["denoiser"]]
    assert bool(said["loss"].get("contrast")) == bool(config["loss"].get("contrast"))
    assert (is_inductive(said), stranger_to(said)) == (is_inductive(config), stranger_to(config))


def test_methods_are_chosen_by_kind_need_and_unseen_users():
    assert {row.preset for row in methods.chosen("pairs")} > {"bprmf", "clrec"}
    assert all(row.kind == "sequences, views" for row in methods.chosen("views", "times"))
    assert {row.preset for row in methods.chosen("closed form", "times", True)} == {"markov"}
    assert {row.needs for row in methods.chosen(need="-")} == {"-"}
    for words, said in ((("pear",), "--kind pear: no method is so. Did you mean 'pairs'?"),
                        ((None, "prices"), "--needs prices: no method is so. ")):
        with pytest.raises(RequestError, match=said):
            methods.chosen(*words)


def test_the_page_of_a_method_has_its_parts_its_departures_its_settings_and_two_commands():
    text = methods.page("sclrec")
    assert text.startswith("SCLRec, Zhuang and Zhang, PAKDD 2024\nkind: pairs; needs: -; unseen users: no\n")
    for line in ("model=sclrec, recot.networks.factorisation.Tables", "loss=infonce, recot.objectives.pairs.InfoNCE",
                 "denoiser=soft_matching, recot.denoise.soft_matching.SoftMatching"):
        part = text[text.index(line):].split("\n\n")
        assert len(part[0].splitlines()) == 2 and any(each.startswith("  Departures: ") for each in part[1:4])
    assert "Args:" not in text and "Raises:" not in text
    assert "  loss.tau=0.2\n" in text and "  trainer.weight_decay=1e-06\n" in text and "_target_" not in text
    assert text.endswith("try:\n  python -m recot.run model=sclrec\n"
                         "  python -m recot.run model=sclrec data=csv data.path=my.csv\n")
    with pytest.raises(RequestError, match="no method is called 'sclrc'. Did you mean 'sclrec'?"):
        methods.page("sclrc")


@pytest.mark.parametrize("preset", ["ease", "sasrec", "uclr"])
def test_the_settings_and_the_commands_of_a_page_are_those_that_can_be_typed(preset):
    text = methods.page(preset)
    planted, own = text[text.index("try:"):].splitlines()[1:]
    words = planted.split()[3:]
    config, _ = known(*words)
    known(*own.split()[3:])
    for line in text[text.index("settings:"):text.index("try:")].splitlines()[1:-1]:
        key, _, value = line.strip().partition("=")
        found = config
        for name in key.split("."):
            found = found[name]
        assert text_of(found) == value
