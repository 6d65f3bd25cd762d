"""The grid of a markdown table, and plain text in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A markdown table and an empty line."""
    return [f"| {' | '.join(header)} |", "|" + " --- |" * len(header), *(f"| {' | '.join(row)} |" for row in body), ""]


def escape(text: str) -> str:
    """Plain text for markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)
