"""Whether the tuned settings of a method apply: only to the data, and the rest of the method, they were found for.

The head of a tuned file says both. ``# data:`` is the digest of what the data hold, and ``# fixed:`` names the settings
that its study did not try but had from its command; their values stand in the file too. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from recot.data.fetch import OWN, cache_folder, content_sha256, data_root, in_folder, own_digest, own_parts
from recot.request import keys

DATA, FIXED = "# data: ", "# fixed: "
PLACES = {"name", "folder", "files", "substitute", "url", "archive_sha256", "manual", "expect"}
"""Keys of a data set that say where its files are and which, and not what is taken from them."""


def digests(data: Mapping[str, Any]) -> list[str]:
    """16 hexadecimal digits of what a data set holds, the raw files and what is taken from them; the names, places and
    packing of the files do not count.

    Files whose sums are listed are not read. Data sets with substitutes have two digests.

    Args:
        data: resolved config of the data set.

    Returns:
        Empty where the files have no listed sums and are not at hand.
    """
    taken = {name: value for name, value in keys.relevant({"data": data})["data"].items()
             if name not in PLACES and value is not None and not (name == "sample_seed" and not data.get("user_share"))}
    if "path" in data or "files" in data:
        taken.pop("_target_", None)  # how they are read is what `read` says
    taken = {name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
             for name, value in taken.items()}
    texts = [json.dumps([taken, raw], sort_keys=True) for raw in contents(data)]
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def contents(data: Mapping[str, Any]) -> list[str]:
    """Digests of the raw files that a data set may be read from; one empty text for data that are drawn."""
    own = cache_folder(data.get("cache"))
    if "path" in data:
        said = {key: place for key in OWN if (place := data.get(key.removeprefix("data.")))}
        try:
            found = own_parts(said)
        except FileNotFoundError:
            return []
        return [own_digest((key, content_sha256(path, own)) for key, paths in found.items() for path in paths)]
    if "files" not in data:
        return [""]
    raw_digests = []
    for files in (data["files"], data.get("substitute") or {}):
        sums = list(files.values())
        if None in sums:
            places = [data_root(data.get("root"), own) / data["folder"], own / "raw" / data["folder"]]
            at_hand = [next((path for place in places if (path := in_folder(place, name))), None) for name in files]
            sums = [content_sha256(path, own) if path else None for path in at_hand]
        if sums and None not in sums:
            raw_digests.append(hashlib.sha256("\n".join(map(str, sums)).encode()).hexdigest())
    return raw_digests


def head(file: Path) -> tuple[str, list[str]]:
    """The digest of the data and the fixed keys that a tuned file names; empty if the file names none."""
    lines = file.read_text(encoding="utf-8").splitlines()
    data = next((line.removeprefix(DATA).strip() for line in lines if line.startswith(DATA)), "")
    fixed = next((line.removeprefix(FIXED).split() for line in lines if line.startswith(FIXED)), [])
    return data, fixed


def settings(file: Path) -> dict[str, Any]:
    """The values in a tuned file by dotted key, those of another one that it takes up included."""
    by_key: dict[str, Any] = {}

    def collect(node: Mapping[str, Any], prefix: str) -> None:
        for name, value in node.items():
            by_key[f"{prefix}{name}"] = value
            if isinstance(value, Mapping):
                collect(value, f"{prefix}{name}.")

    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for default in content.pop("defaults", []):
        for group, name in default.items():
            by_key |= settings(file.parents[2] / group.strip("/").partition("@")[0] / f"{name}.yaml")
    collect(content, "")
    return by_key


def objection(file: Path, data: Mapping[str, Any], value: Callable[[str], Any]) -> str:
    """Why the settings of a tuned file are not those of a run, or an empty text.

    Args:
        data: resolved config of the data set. value: what the run's config has under a dotted key, the file included.
    """
    tuned_on, fixed = head(file)
    if not tuned_on:
        return "it does not say on which data they were found; a study with recot.tune --write does"
    try:
        here = digests(data)
    except (OSError, ValueError) as error:
        return f"these data cannot be read ({error})"
    if not here:
        return "the files of these data are not here, and their sums are not listed"
    if tuned_on not in here:
        return f"they were found on other data ({tuned_on}, these are {' or '.join(here)})"
    tuned = settings(file)
    for key in fixed:
        if value(key) != tuned.get(key):
            return f"they were found with {key}={tuned.get(key)}, and this run has {key}={value(key)}"
    return ""
