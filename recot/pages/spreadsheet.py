"""Texts that spreadsheets would run."""

from __future__ import annotations

import re

FORMULA = r"^(?=[=+\-@\t\r])"
"""Where a text begins that spreadsheets take for a formula."""


def guarded(text: str) -> str:
    """The text, behind an apostrophe where a spreadsheet would run it as a formula."""
    return re.sub(FORMULA, "'", text)
