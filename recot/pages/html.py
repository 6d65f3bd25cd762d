"""Pages of HTML from the templates of this folder. Whatever stands in a csv file is text: templates escape it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

STATIC = Path(__file__).parent / "static"
"""The style sheet and the script of the pages."""


@cache
def environment() -> Environment:
    """The templates, each of which escapes what it is given."""
    made = Environment(loader=PackageLoader("recot.pages"), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"prose": prose, "breaks": breaks}
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}  # facts have an order
    return made


def page(template: str, standalone: bool = False, root: str = "", **content: Any) -> str:
    """A page from a template that extends ``base.html``.

    Args:
        standalone: whether the page is one file, with style and script inside. root: from the page to the folder that
            holds ``assets``; empty, or ends with a slash.
        content: what the template shows.
    """
    inside = {name: Markup((STATIC / name).read_text(encoding="utf-8")) for name in ("style.css", "site.js")}
    found = environment().get_template(template)
    return found.render(standalone=standalone, root=root, inside=inside, **content)


def prose(text: str) -> Markup:
    """The text of a docstring or note: what it marks as code is shown so, and roles leave the name alone."""
    parts = re.split(r":\w+:`~?\.?([^`]+)`|``([^`]+)``|`([^`]+)`", text)
    shown = []
    for number, part in enumerate(parts):
        if part:
            shown.append(escape(part) if number % 4 == 0 else Markup("<code>{}</code>").format(part))
    return Markup("").join(shown)


def breaks(name: str) -> Markup:
    """A name that a line may be broken in behind each underscore."""
    return Markup("_<wbr>").join(map(escape, name.split("_")))
