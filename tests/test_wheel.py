"""The installed package: what a user without a clone gets."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
                    folder, ROOT], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_config_and_experiment_travels_inside(site):
    for group in ("conf", "experiments"):
        inside = {path.relative_to(site / "recot" / group) for path in (site / "recot" / group).rglob("*.*")}
        assert inside == {path.relative_to(ROOT / group) for path in (ROOT / group).rglob("*.*")} and inside


def test_the_templates_of_the_pages_travel_inside(site):
    for folder in ("templates", "static"):
        names = {path.name for path in (site / "recot" / "pages" / folder).iterdir()}
        assert names == {path.name for path in (ROOT / "recot" / "pages" / folder).iterdir()} and names


def test_the_command_composes_from_it_in_an_empty_folder(site, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import recot.request.compose; print(recot.request.compose.CONF)"
    where = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
                           check=True).stdout.strip()
    assert Path(where) == site / "recot" / "conf"
    shown = subprocess.run([sys.executable, "-m", "recot.run", "--cfg", "job"], cwd=tmp_path, env=environment,
                           capture_output=True, text=True, check=True).stdout
    assert "_target_: recot.denoise.soft_matching.SoftMatching" in shown
