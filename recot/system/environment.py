"""Values of environment variables in a config: it keeps their names, whoever needs a value looks it up, and what is
shown has the names again. So no secret comes into a record, a key, a message or a tracker.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import quote

REFERENCE = re.compile(r"\$\{oc\.env:(\w+)(?:,([^{}]*))?\}")
"""A variable by its name, and what stands for it where it is not set."""

LOOKED_UP: dict[str, str] = {}
"""Values that this process has looked up -> the reference that each came from."""


def looked_up(value: Any) -> Any:
    """A copy of a plain value with references replaced by what they name; a text that is one whose default is null
    becomes None where the variable is not set.

    Raises:
        ValueError: a variable is not set, and the reference has no default.
    """
    if isinstance(value, dict):
        return {name: looked_up(item) for name, item in value.items()}
    if isinstance(value, list):
        return [looked_up(item) for item in value]
    if not isinstance(value, str):
        return value
    alone = REFERENCE.fullmatch(value)
    if alone and alone[2] == "null" and alone[1] not in os.environ:
        return None
    return REFERENCE.sub(_value, value)


def _value(reference: re.Match[str]) -> str:
    name, default = reference.groups()
    if name not in os.environ and default is None:
        raise ValueError(f"{reference[0]} names a variable that is not set; set {name}, or type the value")
    if name not in os.environ:
        return str(default)
    LOOKED_UP[os.environ[name]] = f"${{oc.env:{name}}}"
    return os.environ[name]


def hidden(text: str) -> str:
    """``text`` with the values that were looked up replaced by the references that they came from.

    Values of one to three letters stay, for they are parts of any text.
    """
    for value in sorted((value for value in LOOKED_UP if len(value) > 3), key=len, reverse=True):
        for form in (value, quote(value), quote(value, safe="")):
            text = text.replace(form, LOOKED_UP[value])
    return text


def shown(text: object) -> str:
    """A text with URLs, without what was looked up, and without users, passwords and queries of the URLs."""
    without = re.sub(r"(\w://)[^/\s@'\"]*@", r"\1", hidden(str(text)))
    return re.sub(r"\?[^\s'\")]*", "", without)


def secret_in(url: str) -> str | None:
    """What of a URL may be a secret and is no reference, so that it would be kept; None where nothing is."""
    authority, _, rest = url.partition("://")[2].partition("/")
    user, at, _ = authority.rpartition("@")
    if at and not REFERENCE.search(user):
        return "a user or a password"
    query = rest.partition("?")[2] or authority.partition("?")[2]
    return "a query" if query and not REFERENCE.search(query) else None
