"""Folders of presets may be anybody's: what they may not do, and what is said of files that cannot be read."""

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recot.request.compose import check_folders, check_trust, composed, explain, layered
from recot.request.errors import RequestError

FLOOR = """# @package _global_
defaults:
  - override /loss: none
  - override /denoiser: none
model:
  _target_: recot.closed.popularity.Popularity
"""


def folder_with(tmp_path, text, name="model/floor.yaml"):
    file = tmp_path / "theirs" / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return tmp_path / "theirs"


@pytest.mark.parametrize("way", ["--config-dir={}", "-cd {}", "--config-d {}", "--config-path={}",
                                 "hydra.searchpath=['file://{}']"])
@pytest.mark.parametrize(("text", "name"), [
    (FLOOR + "hydra:\n  callbacks: {a: {_target_: evil.X}}\n", "model/floor.yaml"),
    (FLOOR + "hydra.callbacks:\n  a: {_target_: evil.X}\n", "model/floor.yaml"),
    ("# @package hydra.callbacks\na: {_target_: evil.X}\n", "model/floor.yaml"),
    (FLOOR.replace("/loss: none", "hydra/launcher: theirs"), "model/floor.yaml"),
    (FLOOR.replace("override /denoiser: none", "/noise@hydra.callbacks.a: add"), "model/floor.yaml"),
    ("_target_: evil.Launcher\n", "hydra/launcher/basic.yaml")])
def test_a_folder_of_presets_does_not_set_hydra_itself(text, name, way, tmp_path):
    folder = folder_with(tmp_path, text, name)
    with pytest.raises(RequestError, match=rf"{name} sets hydra itself, .* type what you trust"):
        check_folders(["model=floor", *way.format(folder).split(" ", 1)])


@pytest.mark.parametrize("text", [FLOOR, "a: [1\n", "- hydra\n", "a: !!python/name:os.system x\n", "", "hydranet: 1\n"])
def test_other_folders_pass(text, tmp_path):
    check_folders(["--config-dir", str(folder_with(tmp_path, text)), "model=floor", "seed=0,1", "-m"])
    check_folders(["model=floor"])


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.system ['touch harm']\n", "a: [1\n", "\ta: 1\n",
                                  "a: b: c\n", "a: \x01\n", "a: &x *y\n"])
def test_a_file_that_is_not_yaml_is_named_in_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = folder_with(tmp_path, text)
    with pytest.raises((yaml.YAMLError, HydraException, OmegaConfBaseException)) as raised:
        composed(f"hydra.searchpath=['file://{folder}']", "model=floor")
    said = explain(raised.value)
    assert "floor.yaml" in said and "correct it" in said and "\n" not in said
    assert not (tmp_path / "harm").exists()


def test_only_what_is_typed_is_trusted():
    cfg, _ = layered("model=bprmf")
    cfg.plugins = ["evil"]
    with pytest.raises(RequestError, match=r"from a preset, .* if you trust these packages, type plugins=\[evil\]"):
        check_trust(cfg, ["model=bprmf", "seed=0"])
    check_trust(cfg, ["plugins=[evil]"])
    cfg.plugins = ["${model.name}"]
    with pytest.raises(RequestError, match="comes from a preset"):
        check_trust(cfg, ["plugins=[x]"])
