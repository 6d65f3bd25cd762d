"""The two forms in which ratings of Netflix are handed on."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from recot.data.read import content_of, malformed

HEADING = re.compile(rb"^(\d+):\r?\n", re.M)
RATED = re.compile(rb"\d+,[1-5],[^,]*")
LIST = re.compile(rb"(\d+:[1-5])( \d+:[1-5])*")


def film_blocks(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """Blocks of a line ``film:`` and lines ``user,rating,date``, as the prize's files have them, joined or not.

    Dates are not read. Memory: some 40 bytes for each of the 100 million ratings.

    Args:
        path: the file. content: what it holds, uncompressed; None reads it. Likewise below.

    Raises:
        ValueError: a line is of neither form, or the first is no heading (file and line named), or the file is empty.
    """
    text = content_of(path, content)
    headings = list(HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    blocks = [text[heading.end():end].strip() for heading, end in zip(headings, ends, strict=True)]
    try:
        if not headings or headings[0].start():
            raise ValueError("no heading")
        body = io.BytesIO(b"\n".join(block for block in blocks if block))
        frame = pd.read_csv(body, header=None, names=["user", "rating", "date"], usecols=["user", "rating"],
                            dtype={"user": np.int64, "rating": np.float64}, skip_blank_lines=False)
        if not frame["rating"].between(1, 5).all():
            raise ValueError("a rating is not in 1..5")
        counts = [block.count(b"\n") + bool(block) for block in blocks]
        return frame.assign(item=np.repeat([int(heading[1]) for heading in headings], counts))
    except ValueError as error:
        raise fault(path, text, error) from error


def fault(path: Path, text: bytes, error: ValueError) -> ValueError:
    """What is wrong with the first line that is neither a heading nor a rating, or comes before any heading."""
    headed = False
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.fullmatch(rb"\d+:", line.strip())
        headed = headed or bool(heading)
        if line.strip() and not (headed and (heading or RATED.fullmatch(line.strip()))):
            return malformed(path, number, f"{line[:40]!r} is neither 'film:' nor 'user,rating,date' below one")
    return ValueError(f"{path} cannot be read ({error}); get it again")


def rated_lists(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """A user a line, numbered from 0: ``item:rating item:rating ...``.

    Raises:
        ValueError: a line is of another form (file and line named), or the file is empty.
    """
    lines = content_of(path, content).splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip() and not LIST.fullmatch(line.strip()):
            raise malformed(path, number, f"{line[:40]!r} is no list of item:rating")
    counts = [line.count(b":") for line in lines]
    numbers = np.array(b" ".join(lines).replace(b":", b" ").split(), dtype=np.int64).reshape(-1, 2)  # (n, 2)
    return pd.DataFrame({"user": np.repeat(np.arange(len(lines)), counts), "item": numbers[:, 0],
                         "rating": numbers[:, 1].astype(np.float64)})
