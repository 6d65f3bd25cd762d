"""The two forms in which Douban's books, films and music are handed on."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse

from recot.data import read

BLOCK = 100  # rows of a question: the positive, then sampled negatives
ITEMS = ("book_id", "movie_id", "music_id")


def reviews(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """Lines ``user item rating labels comment time ...`` between tabs, below a header whose names may stand in quotes.

    Ids and ratings are read, and times (dates of ISO 8601); comments are not.

    Args:
        path: the file. content: what it holds, uncompressed; None reads it. Likewise below.

    Raises:
        ValueError: a column is missing or a line is malformed.
    """
    text = read.content_of(path, content)
    header, _, body = text.partition(b"\n")
    names = [name.strip().strip('"') for name in header.decode("utf-8", "replace").split("\t")]
    item = next((name for name in names if name in ITEMS), "item")
    clean = "\t".join(names).encode() + b"\n" + body.replace(b'"', b"")  # quotes mean nothing in these files
    return read.table(path, {"user": "user_id", "item": item, "rating": "rating", "time": "time"}, "\t", clean)


def blocks(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """Pairs of a sparse matrix, users x items (.npz), or the positives of lines ``user item`` in blocks of 100.

    The other 99 rows of a block are sampled negatives, some of them twice, and are not read.

    Raises:
        ValueError: the file is neither.
    """
    if path.name.endswith(".npz"):
        try:
            matrix = scipy.sparse.load_npz(io.BytesIO(path.read_bytes() if content is None else content)).tocoo()
        except Exception as error:  # a damaged archive makes anything of the reader
            raise ValueError(f"{path} is no sparse matrix of scipy ({error}); get it again") from error
        return pd.DataFrame({"user": matrix.row.astype(np.int64), "item": matrix.col.astype(np.int64)})
    text = re.sub(rb"[ \t]+", b"\t", read.content_of(path, content))
    frame = read.ratings(path, "\t", text)
    if len(frame) % BLOCK:
        raise ValueError(f"{path} has {len(frame)} lines, which are no blocks of {BLOCK}; get it again")
    return frame[::BLOCK].reset_index(drop=True)
