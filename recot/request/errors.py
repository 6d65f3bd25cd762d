"""The error for a request that cannot be run, and the nearest known name."""

from __future__ import annotations

import difflib


class RequestError(ValueError):
    """The request was wrong: a key, a value or a combination. Nothing was read or run."""


def nearest(name: str, known: list[str]) -> str:
    """A sentence that names the closest of the ``known`` names, or all of them."""
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    return f"Did you mean {lower[close[0]]!r}?" if close else f"Known: {', '.join(sorted(known))}."
