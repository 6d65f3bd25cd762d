"""From raw files to interactions: keep what counts as positive, drop what is rare, number what remains."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import pandas as pd

from recot.data import douban, fetch, filters, moments, netflix, parts, read
from recot.data.dataset import Dataset, load, write
from recot.data.reduce import Domains, Reduction, in_file_order
from recot.data.roles import NAMES, TRAIN
from recot.data.rows import Rows, rated, told
from recot.system import files

logger = logging.getLogger(__name__)

PARQUET = b"PAR1"                 # how such a file begins
BETWEEN = {".csv": ",", ".tsv": "\t", ".parquet": ","}
VERSION = 2                       # of the preparation: raise it whenever the same files and settings give other data


class Files:
    """A data set in raw files.

    Of its interactions those rated at least ``threshold`` are kept, of equal pairs the earliest, and then users and
    items with fewer than ``core`` interactions are dropped until none is left. Users and items are numbered in the
    order of their raw ids (integers by value, strings by code points), whatever the order of the files.

    Args:
        name: what messages and the cache call it.
        folder: folder of the raw files below the data root.
        files: file name -> sha256 of its uncompressed content, null when unknown. NAME may be stored as NAME.gz.
        read: the format, a function of ``recot.data.read`` or ``netflix``; a file *.parquet or *.csv is read as such in
            any case.
        substitute: the same pairs in other files, taken when they lie in the data root and none of ``files`` does.
        url: a .zip that holds the files, or the folder on a server they lie in; null when they cannot be downloaded.
        archive_sha256: of the .zip, null when unknown.
        manual: where to get the files by hand, one sentence.
        columns: for csv and parquet: "user", "item" and, if wanted, "rating", "time" and "domain" -> name of the
            column.
        delimiter: for csv.
        threshold: smallest rating of a positive; null keeps all.
        core: least number of interactions of a user and of an item; 0 and 1 drop nobody.
        top_items: keep so many items, those with the most interactions, of equal ones the first by id; null keeps all.
        user_core: least number of interactions of a user, asked after all that is above and of no item; 0 drops nobody.
        sample_users, sample_interactions: keep so many random users, of those so active that their interactions are so
            many, within 1 %; null keeps all.
        user_share: keep a random share of the users, before ``core``; null keeps all. Nothing is expected of a sample.
        sample_seed: of these choices, which depend on the raw ids.
        substitute_threshold: ``threshold`` of the substitute, where its ratings are others; null is the same.
        domains: the domains to keep, in this order; items are numbered domain after domain. Null knows of none.
        domain_of: file name -> its domain, where each file is of one; their items get the ids DOMAIN/ID.
        domain_core: least number of interactions of a user in each domain, asked after all that is above.
        item_share: share of the items to keep, by a hash of ``item_seed`` and the raw id; null keeps all.
        file_order: whether rows of a user lie in order, so that they break ties in time.
        parts: file name -> valid or test, where a file holds the pairs of that part; the others train. What is counted,
            as ``core`` is, is counted among the pairs that train. Null where the files say nothing, and in substitutes.
        time_unit: of times that are numbers, s, ms, us or ns, or date where all are dates; null takes whole seconds and
            dates, and refuses numbers that look like another unit.
        expect: "users", "items", "interactions" -> number that must come out: an integer, or a text like "69.9k" that
            is compared after rounding as printed. Null expects nothing.
        root: the data root; null is the environment variable RECOT_DATA, and without it ``<cache>/raw``.
        cache: folder of downloads and prepared data; null is the platform's cache folder.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(self, name: str, folder: str, files: dict[str, str | None],
                 read: Literal["adjacency_list", "sequences", "tab_ratings", "double_colon_ratings", "film_blocks",
                               "rated_lists", "csv", "parquet", "ratings_csv", "douban_reviews", "douban_blocks"],
                 substitute: dict[str, str | None] | None = None, url: str | None = None,
                 archive_sha256: str | None = None, manual: str | None = None, columns: dict[str, str] | None = None,
                 delimiter: str = ",", threshold: float | None = None, core: int = 0,
                 expect: dict[str, int | str] | None = None, root: str | None = None,
                 cache: str | None = None, user_share: float | None = None, sample_seed: int = 0,
                 top_items: int | None = None, user_core: int = 0, sample_users: int | None = None,
                 sample_interactions: int | None = None, substitute_threshold: float | None = None,
                 domains: list[str] | None = None, domain_of: dict[str, str] | None = None, domain_core: int = 1,
                 item_share: float | None = None, item_seed: int = 0, file_order: bool = False,
                 parts: dict[str, Literal["valid", "test"]] | None = None,
                 time_unit: Literal["s", "ms", "us", "ns", "date"] | None = None) -> None:
        if user_share is not None and not 0 < user_share <= 1:
            raise ValueError(f"data.user_share is the share of the users to keep, got {user_share}; use more than 0 "
                             "and at most 1, or null for all")
        if threshold is not None and not math.isfinite(threshold):
            raise ValueError(f"data.threshold is the smallest rating kept, got {threshold}; use a finite number "
                             "or null")
        if item_share is not None and not 0 < item_share <= 1:
            raise ValueError(f"data.item_share is the share of the items to keep, got {item_share}; use more than 0 "
                             "and at most 1, or null for all")
        if len({*(domains or ())}) < len(domains or ()) or (not domains and (domain_of or item_share)):
            raise ValueError(f"data.domains = {domains} does not name different domains, which data.domain_of "
                             "and data.item_share need; give it like data.domains=[Books,Music]")
        for key, least in (("core", core), ("user_core", user_core), ("domain_core", domain_core)):
            if least < 0:
                raise ValueError(f"data.{key} is a number of interactions, got {least}; use 0 to keep everybody")
        for key, count in (("top_items", top_items), ("sample_users", sample_users),
                           ("sample_interactions", sample_interactions)):
            if count is not None and count < 1:
                raise ValueError(f"data.{key} is a number to keep, got {count}; use 1 or more, or null for all")
        if (sample_users is None) != (sample_interactions is None):
            raise ValueError("data.sample_users and data.sample_interactions belong together; give both or none")
        for key, value in (expect or {}).items():
            if key not in ("users", "items", "interactions") or not re.fullmatch(r"\d+|\d+(\.\d+)?[kM]", str(value)):
                raise ValueError(f"data.expect has {key}: {value}; give users, items and interactions as an integer "
                                 "or as a text like '69.9k' or '56.9M'")
        if wrong := {*(parts or ())} - {*files}:
            raise ValueError(f"data.parts names {sorted(wrong)[0]}, which is none of data.files; name those that are "
                             "for validation and test")
        fetch.check_name("data.name", name)
        self.name, self.read, self.root = name, read, root
        self.columns, self.delimiter = dict(columns or {}), delimiter
        self.threshold = None if threshold is None else float(threshold)
        self.core, self.expect = core, dict(expect or {}) if user_share is None else {}
        self.substitute_threshold = substitute_threshold
        self.reduction = Reduction(top_items, user_core, sample_users, sample_interactions, sample_seed)
        self.user_share, self.sample_seed = user_share, sample_seed
        self.domains = Domains(tuple(domains or ()), domain_core, item_share, item_seed)
        self.domain_of, self.file_order = dict(domain_of or {}), file_order
        self.parts, self.time_unit = dict(parts or {}), time_unit
        self.raw = fetch.RawFiles(folder, dict(files), url, archive_sha256, manual)
        self.substitute = fetch.RawFiles(folder, dict(substitute), manual=manual) if substitute else None
        self.cache = fetch.cache_folder(cache)
        self._sums: dict[Path, str] | None = None

    def paths(self) -> list[Path]:
        """The raw files, found or downloaded, and checked; errors as in :func:`recot.data.fetch.locate`."""
        return fetch.locate(self._wanted(), self.root, self.cache)

    def _wanted(self) -> fetch.RawFiles:
        """The files, or those that stand in for them."""
        if self.substitute is not None:
            place = fetch.data_root(self.root, self.cache) / self.raw.folder
            if (not any(fetch.in_folder(place, name) for name in self.raw.files)
                    and all(fetch.in_folder(place, name) for name in self.substitute.files)):
                return self.substitute
        return self.raw

    def _least(self) -> float | None:
        """The smallest rating of a positive in the files that are there."""
        other = self.substitute_threshold is not None and self._wanted() is self.substitute
        return self.substitute_threshold if other else self.threshold

    def digest(self) -> str:
        """sha256 of the raw content, 64 hexadecimal digits, the same for NAME and NAME.gz and in any folder.

        It is taken once: what :meth:`load` gives afterwards is made of this content.
        """
        if self._sums is None:
            expected = self._wanted().files.values()  # paths() has seen that a file has the sum that is expected of it
            self._sums = {path: known or fetch.content_sha256(path, self.cache)
                          for path, known in zip(self.paths(), expected, strict=True)}
        return hashlib.sha256("\n".join(self._sums.values()).encode()).hexdigest()

    def load(self) -> Dataset:
        """The prepared data, from the cache or made now. What is in the cache is read without writing there.

        Raises:
            FileNotFoundError, OSError: as in :func:`recot.data.fetch.locate`; or the cache cannot be written.
            ValueError: the raw files are malformed or changed meanwhile, a filter leaves nothing, or ``expect`` is not
                met.
        """
        settings: list[Any] = [VERSION, self.read, self.columns, self.delimiter, self._least(), self.core]
        settings.append(self.digest())
        settings += [] if self.user_share is None else [self.user_share, self.sample_seed]
        settings += [] if self.reduction == Reduction() else [*astuple(self.reduction)]
        settings += [self.domain_of, *astuple(self.domains)] if self.domains.names else []
        settings += ["file order"] * self.file_order
        settings += [{"time unit": self.time_unit}] if self.time_unit else []
        settings += [{"parts": [self._part(path) for path in self._sums or ()]}] if self._parted() else []
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        file = self.cache / "prepared" / f"{self.name}-{key}"
        dataset = kept(file)
        if dataset is None:
            with _locked(file):
                dataset = kept(file, said=True) or self._made(file)
        self._compare(dataset)
        return dataset

    def _made(self, file: Path) -> Dataset:
        """The data, prepared now and written to ``file``."""
        files.sweep(file.parent)
        dataset = prepare(self._rows(), self._least(), self.core, self.name, self.reduction, self.domains,
                          self._called())
        write(dataset, file)
        return dataset

    def _rows(self) -> pd.DataFrame:
        """The rows of all files that are looked at."""
        frame = filters.joined([self._in_part(path, self._in_domain(path, self._table(path, sha256)))
                                for path, sha256 in (self._sums or {}).items()])
        frame = in_file_order(frame) if self.file_order else frame
        if self.user_share is not None:
            frame = filters.sampled(frame, self.user_share, self.sample_seed)
        return frame

    def _in_domain(self, path: Path, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a file with its domain, where each file is of one."""
        name = self.domain_of.get(path.name.removesuffix(".gz"))
        return frame if name is None else frame.assign(domain=name, item=f"{name}/" + frame["item"].astype(str))

    def _parted(self) -> bool:
        """Whether the files say what their pairs are for."""
        return bool(self.parts) and self._wanted() is self.raw

    def _part(self, path: Path) -> int:
        """What the pairs of a file are for, see :mod:`recot.data.roles`."""
        return NAMES.index(self.parts.get(path.name.removesuffix(".gz"), NAMES[TRAIN]))

    def _in_part(self, path: Path, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a file with what they are for, where the files say so."""
        return frame.assign(part=np.int8(self._part(path))) if self._parted() else frame

    def _called(self) -> list[str]:
        """What messages call the three parts: the names of their files."""
        paths = [*(self._sums or ())]
        return [parts.called([path.name for path in paths if self._part(path) == part]) for part in range(len(NAMES))]

    def _table(self, path: Path, sha256: str) -> pd.DataFrame:
        """The rows of a file with this content."""
        content = fetch.uncompressed(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{path} changed while it was read; run the same command again when it is whole")
        if content.startswith(PARQUET) or fetch.unpacked(path.name).endswith(".parquet"):
            return read.parquet(path, self.columns, content, self.time_unit)
        match "csv" if fetch.unpacked(path.name).endswith((".csv", ".tsv")) else self.read:
            case "adjacency_list":
                return read.adjacency_list(path, content)
            case "sequences":
                return read.sequences(path, content)
            case "tab_ratings":
                return read.ratings(path, "\t", content, unit=self.time_unit)
            case "double_colon_ratings":
                return read.ratings(path, "::", content, unit=self.time_unit)
            case "film_blocks":
                return netflix.film_blocks(path, content)
            case "rated_lists":
                return netflix.rated_lists(path, content)
            case "ratings_csv":
                return read.ratings(path, ",", content, integers=False, unit=self.time_unit)
            case "douban_reviews":
                return douban.reviews(path, content)
            case "douban_blocks":
                return douban.blocks(path, content)
            case _:
                return read.table(path, self.columns, self.delimiter, content, self.time_unit)

    def _compare(self, dataset: Dataset) -> None:
        found = {"users": len(dataset.user_ids), "items": len(dataset.item_ids),
                 "interactions": len(dataset.interactions)}
        wrong = []
        for kind, printed in self.expect.items():
            if (unit := str(printed)[-1]) in ("k", "M"):
                digits = len(str(printed).partition(".")[2][:-1])
                same = f"{found[kind] / (1000 if unit == 'k' else 1_000_000):.{digits}f}{unit}" == printed
            else:
                same = found[kind] == int(printed)
            if not same:
                wrong.append(f"{found[kind]:,} {kind} where {printed} are expected")
        if wrong:
            raise ValueError(f"{self.name} with threshold {self.threshold} and core {self.core} has "
                             f"{', '.join(wrong)}. Either its raw files differ from those the numbers come from, and "
                             "another copy is needed, or the settings were changed on purpose: then data.expect=null")


class Csv(Files):
    """The user's own files: text with a header line and named columns, or parquet.

    Args:
        path: the file, several of the same columns, or a folder of files of one kind, which are read in the order of
            their names; the order changes nothing. Files may be compressed, see :func:`recot.data.fetch.opened`.
        valid, test: likewise, pairs to validate and to be tested with; null where there are none. protocol=given takes
            them so.
        user, item: names of the columns. Ids are strings or integers, see ``recot.data.read``.
        rating, time, domain: names of the columns; null when there is none. Times are whole seconds or dates, or what
            ``time_unit`` says.
        domains: the domains to keep, in this order; null keeps all of the column ``domain``, by name.
        delimiter: null takes a comma for .csv and a tab for .tsv; parquet has none. Names count in any case (.CSV).
        threshold, core, cache, time_unit: as in :class:`Files`.

    Raises:
        ValueError: the delimiter cannot be one or be told from the names, a threshold has no rating column, or there
            are validation pairs and no test pairs.
    """

    def __init__(self, path: str | list[str], user: str = "user", item: str = "item", rating: str | None = None,
                 time: str | None = None, delimiter: str | None = None, threshold: float | None = None, core: int = 0,
                 cache: str | None = None, domain: str | None = None, domains: list[str] | None = None,
                 domain_core: int = 1, valid: str | list[str] | None = None, test: str | list[str] | None = None,
                 time_unit: Literal["s", "ms", "us", "ns", "date"] | None = None) -> None:
        if not path:
            raise ValueError(f"data.path = {path!r} names no file; give it like data.path=my.csv")
        if valid and not test:
            raise ValueError(f"data.valid = {valid} validates, and nothing is tested; give data.test as well, or name "
                             "all files in data.path and use protocol=topk")
        if threshold is not None and rating is None:
            raise ValueError(f"data.threshold={threshold} needs ratings; set data.rating to their column in {path}, or "
                             "data.threshold=null")
        columns = {kind: column for kind, column in
                   (("user", user), ("item", item), ("rating", rating), ("time", time), ("domain", domain))
                   if column is not None}
        self._keys: dict[Path, str] = {}
        self.said = {key: place for key, place in zip(fetch.OWN, (path, valid, test), strict=True) if place}
        super().__init__("csv", "csv", {"csv": None}, "csv", columns=columns,
                         delimiter=separator(self.said, delimiter), threshold=threshold, core=core,
                         cache=cache, domains=domains, domain_core=domain_core, time_unit=time_unit)

    def paths(self) -> list[Path]:
        """The files, those that train first.

        Raises:
            FileNotFoundError, ValueError: as :func:`recot.data.fetch.own_parts`.
        """
        return [path for found in fetch.own_parts(self.said).values() for path in found]

    def digest(self) -> str:
        """See :meth:`Files.digest`; the order and the names of files do not count, and what they are for does."""
        if self._sums is None:
            self._keys = {path: key for key, paths in fetch.own_parts(self.said).items() for path in paths}
            self._sums = {path: fetch.content_sha256(path, self.cache) for path in self._keys}
        return fetch.own_digest((self._keys[path], sha256) for path, sha256 in self._sums.items())

    def _parted(self) -> bool:
        return len(self.said) > 1

    def _part(self, path: Path) -> int:
        return [*fetch.OWN].index(self._keys[path])

    def _made(self, file: Path) -> Dataset:
        dataset = super()._made(file)
        times = dataset.interactions.times
        logger.info("%s: %s rows%s", parts.called([path.name for path in self._keys]),
                    f"{len(dataset.interactions) + sum(dataset.dropped.values()):,}", "" if times is None else
                    f", those that remain from {moments.written(int(times.min()))} to "
                    f"{moments.written(int(times.max()))}")
        return dataset


def separator(said: Mapping[str, str | list[str]], delimiter: str | None) -> str:
    """The one character between the columns of a user's files, by the key that names them: as given, or told from their
    names.

    Raises:
        ValueError: it cannot be one, or the names tell of none or of several.
    """
    files = [file for key, place in said.items() for one in ([place] if isinstance(place, str) else place)
             for file in (fetch.own_files(key, one) if Path(one).is_dir() else [Path(one)])]
    found = {path: delimiter or BETWEEN.get(Path(fetch.unpacked(path.name)).suffix) or "," * is_parquet(path)
             for path in files}
    if unknown := [path for path, mark in found.items() if not mark]:
        raise ValueError(f"{unknown[0]} is neither .csv nor .tsv nor .parquet; set data.delimiter to the one character "
                         "between its columns")
    mark, *others = {*found.values()}
    if others:
        raise ValueError(f"{' and '.join(path.name for path in files)} are of several kinds; give files of one kind, "
                         "or say what is between the columns of all with data.delimiter")
    if len(mark) != 1 or not mark.isascii() or mark in '"\r\n\0':
        raise ValueError(f"data.delimiter = {mark!r} cannot be what is between columns; give one character of "
                         "ASCII that is no quote and no line end")
    return mark


def is_parquet(path: Path) -> bool:
    """Whether a file is there and begins as parquet does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(PARQUET)) == PARQUET


def kept(file: Path, said: bool = False) -> Dataset | None:
    """The prepared data in ``file``; None where there are none, or where they are damaged, which is said."""
    try:
        return load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        if not said:
            logger.warning("%s, now", error)
        return None


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold ``file`` for this process; others wait.

    Raises:
        OSError: its folder cannot be written.
    """
    lock = filelock.FileLock(f"{file}.lock")
    try:
        fetch.writable(file.parent)
        lock.acquire()
    except OSError as error:
        raise OSError(f"{file} cannot be written ({error}); name another place for prepared data with RECOT_CACHE or "
                      "paths.cache") from error
    try:
        yield
    finally:
        lock.release()


def prepare(frame: pd.DataFrame, threshold: float | None, core: int, name: str,
            reduction: Reduction | None = None, domains: Domains | None = None,
            called: Sequence[str] = NAMES) -> Dataset:
    """Filter and number the rows of a table with the columns user, item and, if known, rating, time, domain and part.

    Where rows have a part (int8, see :mod:`recot.data.roles`), what is counted to decide which pairs stay is counted
    among those that train, and the others stay whatever the counts.

    Args:
        called: what messages call the three parts.

    Raises:
        ValueError: there is a threshold but no ratings, a pair stands in two parts, or nothing is left.
    """
    dropped: dict[str, int] = {}
    frame = rated(frame, threshold, name, dropped)
    domains = (domains or Domains()).named(frame)
    if domains.names:
        frame = domains.of(frame, dropped, name)
    rows = Rows.of(frame)
    if rows.parts is not None:
        parts.refuse_overlap(frame, rows.pairs, called, name)
    del frame  # or its columns are there beside their numbers
    chosen = rows.kept(core, reduction or Reduction(), domains, name, dropped)
    dataset = rows.dataset(chosen, domains.names, dropped)
    logger.info("%s", told(name, dataset))
    return dataset
