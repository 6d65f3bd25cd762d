"""The help of a run: what can be typed, in a text of its own."""

import pytest
import yaml
from commands import python

from recot.request import usage
from recot.request.errors import RequestError


@pytest.mark.parametrize(("words", "asks"), [
    (["--help"], True), (["model=clrec", "-h"], True), (["model=clrec"], False), (["--hydra-help"], False),
    (["--cfg", "job"], False), (["model=h"], False)])
def test_help_is_what_asks_for_help(words, asks):
    assert usage.wanted(words) is asks


def test_every_group_of_conf_is_shown_but_those_that_choose_themselves():
    groups = {path.name for path in usage.CONF.iterdir() if path.is_dir()}
    assert {*usage.GROUPS} == groups - {"recipe", "tuned"}
    shown = usage.text([])
    for group in usage.GROUPS:
        assert f"  {', '.join(usage.choices(group, [usage.CONF]))}\n" in shown


def test_the_config_is_that_of_the_words():
    shown = usage.text(["model=clrec", "loss.tau=0.3"])
    config = yaml.safe_load(shown.partition("The config of these words:\n")[2])
    assert config["loss"]["tau"] == 0.3 and "hydra" not in config


def test_choices_of_an_own_folder_are_among_them(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: recot.networks.factorisation.Tables\ndim: 3\n")
    shown = usage.text(["--config-dir", str(tmp_path), "model=mine"])
    assert ", mf, mine, mstein," in shown and yaml.safe_load(shown.partition("words:\n")[2])["model"]["dim"] == 3


def test_a_preset_that_asks_for_trust_is_not_shown_as_if_it_ran(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# @package _global_\nplugins: [theirs]\n")
    with pytest.raises(RequestError, match="only what you type is trusted"):
        usage.text(["--config-dir", str(tmp_path), "model=mine"])


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["denoiser=soft_matching", "loss=bpr"], 2)])
def test_neither_help_nor_a_refusal_loads_what_reads_data(tmp_path, words, code):
    """NumPy, pyarrow and pooch are a quarter of the time that such a command takes with them."""
    script = ("import atexit, runpy, sys; atexit.register(lambda: sys.stdout.write(str(sorted("
              "{'numpy', 'pyarrow', 'pooch', 'torch'} & {*sys.modules})))); "
              f"sys.argv = ['run', *{words!r}]; runpy.run_module('recot.run', run_name='__main__')")
    done = python(tmp_path, "-c", script)
    assert (done.returncode, done.stdout[-2:]) == (code, "[]")
