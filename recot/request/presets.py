"""Which presets build a network."""

from __future__ import annotations

import re
from collections.abc import Iterable

from recot.request.signature import describe

TARGET = re.compile(r"^model:\n  _target_: (\S+)", re.M)
"""What a preset builds."""


def building(networks: Iterable[str]) -> list[str]:
    """Presets that build a network of the classes ``networks``: those of their names, or all, where a class has none.

    >>> building(["BUIR"]), building(["ContrastiveAutoencoder"])
    (['buir'], ['pge_ae', 'pge_cl', 'pge_ucl'])
    """
    from recot.request.compose import CONF  # which imports what calls this

    files = {file.stem: file for file in sorted((CONF / "model").glob("*.yaml"))}
    found = []
    for name in networks:
        found += [name.lower()] if name.lower() in files else [
            preset for preset, file in files.items() if (target := TARGET.search(file.read_text(encoding="utf-8")))
            and (built := describe(target[1])) and name in built.bases]
    return found
