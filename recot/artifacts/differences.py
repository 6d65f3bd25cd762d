"""Names that tell configs apart: the smallest set of settings that no other one has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count
from typing import Any

from recot.request.former import LATER, present

NOTHING = object()
"""What a config has under a key that it lacks."""

Settings = Mapping[str, Any]
"""Values by dotted key, as they are typed."""


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a config by dotted key; what holds nothing, such as ``stages: {}``, is a value."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def value(settings: Settings, key: str) -> Any:
    """What a config has under a key; that a former one lacks a key says the same as the value in :data:`LATER`."""
    return settings.get(key, LATER.get(key, NOTHING))


def telling(settings: Sequence[Settings]) -> list[list[str]]:
    """For each config the keys of the smallest set of its settings that no other one has; none where it is alone.

    Of keys that always change together the shortest stands for all, and so it does of sets of equal size: the choice of
    a group before what the choice sets.
    """
    keys = sorted({key for each in settings for key in each}, key=lambda key: (len(key), key))
    columns: dict[tuple[int, ...], str] = {}  # which configs are alike under a key -> the first such key
    for key in keys:
        texts = [repr(value(each, key)) for each in settings]
        columns.setdefault(tuple(map(texts.index, texts)), key)
    kept = [(key, column) for column, key in columns.items() if any(column)]
    return [smallest([(key, {other for other, place in enumerate(column) if place != column[number]})
                      for key, column in kept if value(own, key) is not NOTHING])
            for number, own in enumerate(settings)]


def smallest(keys: Sequence[tuple[str, set[int]]]) -> list[str]:
    """The smallest set of keys that tell a config from as many others as all of them do.

    Args:
        keys: each with the configs that it tells from this one.
    """
    times = Counter(other for _, told in keys for other in told)
    needed = [key for key, told in keys if any(times[other] == 1 for other in told)]
    rest = [key for key, _ in keys if key not in needed]
    by_key = dict(keys)
    for more in count():
        for chosen in combinations(rest, more):
            names = [key for key in by_key if key in needed or key in chosen]
            if set().union(*(by_key[key] for key in names)) == {*times}:
                return names
    raise AssertionError("all keys together tell what any of them tells")


def typed(settings: Settings, keys: Sequence[str]) -> list[str]:
    """The settings as overrides of the command line."""
    return [f"{key}={text(value(settings, key), key)}" for key in keys]


def text(found: Any, key: str = "") -> str:
    """A value as it is typed."""
    if key.endswith("_target_"):
        return present(found)
    if isinstance(found, list):
        return f"[{','.join(map(text, found))}]"
    return found if isinstance(found, str) else json.dumps(found)
