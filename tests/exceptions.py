"""What the tests of every preset give one of them in place of what they give all: tests/presets/<name>.yaml."""

from functools import cache
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "presets"
KINDS = {
    "small": "words of a network that reads sequences or knows domains, which the general ones do not make quick",
    "learns_with": "words without which the preset learns no more than popularity",
    "one_list": "it shows all users the same list, so that none is their own",
    "in_order": "words with which it learns what comes next",
    "by_heart": "words with which it learns a few users by heart",
    "first_order": "a chain of first order by construction: no better than what followed the last item",
    "order_comes_late": "it learns order in more steps than a test can afford",
}


@cache
def exceptions(preset):
    """Kind -> its entry, with ``words`` where there are some and ``why``; of most presets nothing."""
    file = FOLDER / f"{preset}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}


def words(preset, kind):
    """The overrides of an exception; none where there is no such exception."""
    return tuple(exceptions(preset).get(kind, {}).get("words", ()))


def having(kind):
    """The presets with an exception of a kind."""
    return {file.stem for file in FOLDER.glob("*.yaml") if kind in exceptions(file.stem)}
