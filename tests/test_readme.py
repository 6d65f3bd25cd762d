"""What the README tells people to type works."""

import re
from pathlib import Path

import pytest
from commands import composed, typed

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = [match.split("#")[0].split() for match in re.findall(r"^python -m recot\.run (.+=.+)$", TEXT, re.MULTILINE)]


def block(language):
    return re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL).group(1)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_line_is_one_that_can_run(words):
    for choice in (0, -1):  # of a sweep: all its first and all its last values
        overrides = [f"{w.split('=')[0]}={w.split('=')[1].split(',')[choice]}" for w in words if "=" in w]
        assert composed(*overrides)[0]["model"]


def test_a_model_of_ones_own_trains_from_outside_the_repository(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "averages.py").write_text(block("python"))
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "averages.yaml").write_text(block("yaml"))
    words = ["--config-dir", "my_conf", "model=averages", "plugins=[mine]", "trainer=smoke", "trainer.max_epochs=2"]
    done = typed(tmp_path, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "averages on planted" in done.stdout
    refused = typed(tmp_path, *words[:3])
    assert refused.returncode == 2 and "plugins=[mine]" in refused.stderr
