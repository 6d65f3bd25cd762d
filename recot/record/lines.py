"""The lines of the csv files of results: one class a file, whose fields are its columns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, get_type_hints


@dataclass(frozen=True)
class Kind:
    """What the cells of a column hold.

    Attributes:
        parse: from the text of a cell to its value; raises ValueError where the text is none. what: its name for users.
        write: back to the same text.
    """

    parse: Callable[[str], Any]
    what: str
    write: Callable[[Any], str] = str


def number(text: str) -> float:
    """A finite number; a whole one stays whole, so that its text stays the same.

    Raises:
        ValueError: it is none.
    """
    value = int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def matched(pattern: str) -> Callable[[str], str]:
    """A function that returns the texts which match, and refuses all others."""
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is no {pattern}")
        return text
    return check


def whole(text: str) -> int:
    """A whole number of 0 or more."""
    return int(matched(r"\d+")(text))


def pairs(text: str) -> dict[str, str]:
    """The values of ``name=value name=value``, as texts."""
    parts = [matched(r"[^=]+=[^=]*")(part).partition("=") for part in text.split()]
    return {name: value for name, _, value in parts}


def several(parse: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """The values between single spaces."""
    return lambda text: tuple(map(parse, text.split(" "))) if text else ()


def spaced(values: Iterable[object]) -> str:
    """The values with single spaces between them."""
    return " ".join(map(str, values))


def optional(kind: Kind) -> Kind:
    """The same, or an empty cell, which is None."""
    return Kind(lambda text: kind.parse(text) if text else None, kind.what,
                lambda value: "" if value is None else kind.write(value))


ONE_KEY = matched(r"[0-9a-f]{16}")
NUMBER, WHOLE = Kind(number, "a number"), Kind(whole, "a whole number")
Text = Annotated[str, Kind(str, "a text")]
Number = Annotated[float, NUMBER]
MaybeNumber = Annotated[float | None, optional(NUMBER)]
Whole = Annotated[int, WHOLE]
MaybeWhole = Annotated[int | None, optional(WHOLE)]
Key = Annotated[str, Kind(ONE_KEY, "the key of a run")]
MaybeKey = Annotated[str, Kind(lambda text: text and ONE_KEY(text), "the key of a run")]
Keys = Annotated[tuple[str, ...], Kind(several(ONE_KEY), "keys of runs", spaced)]
OneKeyOrMore = Annotated[tuple[str, ...], Kind(lambda text: tuple(map(ONE_KEY, text.split(" "))),
                                               "keys of runs", spaced)]
Seeds = Annotated[tuple[int, ...], Kind(several(whole), "seeds", spaced)]
Pairs = Annotated[Mapping[str, str], Kind(pairs, "name=value for each value",
                                          lambda by_name: spaced(map("=".join, by_name.items())))]
"""Types of fields, each with what its cells hold."""


@cache
def stored(cls: type) -> dict[str, tuple[str, Kind]]:
    """The fields that are cells: the name of each, its column, and what the cells hold."""
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in get_type_hints(cls, include_extras=True).items()}
    return {name: (mark[1] if len(mark) > 1 else name, mark[0]) for name, mark in marks.items() if mark}


class Line:
    """A line of a csv file. Its cells are parsed once, when the file is read; an empty cell without a value is None.

    Attributes:
        told_by: the columns that tell the lines of a file apart.
    """

    told_by: ClassVar[tuple[str, ...]]

    @classmethod
    def header(cls) -> tuple[str, ...]:
        """The columns that a file has in any case, in their order."""
        return tuple(column for column, _ in stored(cls).values())  # type: ignore[arg-type]  # a class has a hash

    @classmethod
    def accepts(cls, columns: Sequence[str]) -> bool:
        """Whether a file with these columns holds such lines."""
        return tuple(columns) == cls.header()

    @classmethod
    def columns(cls, lines: Sequence[Self]) -> Sequence[str]:
        """The columns of a file of these lines."""
        return cls.header()

    @classmethod
    def parsed(cls, cells: Mapping[str, str]) -> Self:
        """The line that these cells hold, by column.

        Raises:
            ValueError: a cell does not hold what its column holds; names the column.
        """
        return cls(**values(cls, cells))

    def cells(self) -> dict[str, str]:
        """The texts of the cells, by column."""
        return texts(self)


def values(cls: type, cells: Mapping[str, str], columns: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """The values of the fields of ``cls`` by name, from cells by column.

    Args:
        columns: field -> column, where this is not what the field says.

    Raises:
        ValueError: as in :meth:`Line.parsed`.
    """
    by_name = {}
    for name, (own, kind) in stored(cls).items():
        column = columns.get(name, own)
        try:
            by_name[name] = kind.parse(cells.get(column, ""))
        except ValueError as error:
            raise ValueError(f"{column} is {cells.get(column, '')!r}, and not {kind.what}") from error
    return by_name


def texts(line: object, columns: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The texts of the fields of a line by column; see :func:`values`."""
    parts = stored(type(line))  # type: ignore[arg-type]  # a class has a hash
    return {columns.get(name, own): kind.write(getattr(line, name)) for name, (own, kind) in parts.items()}


@dataclass(frozen=True)
class CellLine(Line):
    """A metric of a cell of an artifact.

    Attributes:
        row, column: ids of the spec. seeds: of the runs. mean, std: of the metric over the seeds, of six significant
            digits. paper: the printed number. delta: difference of the mean to it, relative.
        verdict: what the difference is called, or why there is no mean. keys: of the runs, one for each seed.
    """

    table: Text
    row: Text
    column: Text
    metric: Text
    seeds: Seeds = ()
    mean: MaybeNumber = None
    std: MaybeNumber = None
    paper: MaybeNumber = None
    delta: MaybeNumber = None
    verdict: Text = ""
    keys: Annotated[Keys, "key"] = ()

    told_by: ClassVar[tuple[str, ...]] = ("row", "column", "metric")

    @classmethod
    def parsed(cls, cells: Mapping[str, str]) -> Self:
        """See :meth:`Line.parsed`; each seed has a key.

        Raises:
            ValueError: as there.
        """
        line = super().parsed(cells)
        if len(line.seeds) != len(line.keys):
            raise ValueError(f"{len(line.seeds)} seeds have {len(line.keys)} keys")
        return line


@dataclass(frozen=True)
class RunLine(Line):
    """A run behind the results of a paper.

    Attributes:
        data, model, loss, denoiser, noise: choices. epochs: of its fit, 0 in closed form; max_epochs: the cap on them.
        seconds: of fitting; wall_seconds: of everything. sources: digest of the code that made it; repeated: of the
            code that was last seen to do the same. split, digest: of the questions, and of all answers.
        first_epoch: what the first validated epoch came to, as texts, which are compared to the last digit.
    """

    key: Key
    data: Text = ""
    model: Text = ""
    loss: Text = ""
    denoiser: Text = ""
    noise: Text = ""
    seed: Whole = 0
    epochs: Whole = 0
    best_epoch: MaybeNumber = None
    max_epochs: MaybeWhole = None
    seconds: Number = 0
    wall_seconds: MaybeNumber = None
    peak_memory_mb: MaybeNumber = None
    device: Text = ""
    threads: MaybeWhole = None
    commit: Text = "unknown"
    sources: Text = ""
    repeated: Text = ""
    split: Text = ""
    digest: Text = ""
    first_epoch: Pairs = field(default_factory=dict)
    finished: Text = ""
    command: Text = ""

    told_by: ClassVar[tuple[str, ...]] = ("key",)


@dataclass(frozen=True)
class PairedLine(Line):
    """The paired test of a column's best row against its second best.

    Attributes:
        difference: of the means over users. p_holm: p after Holm's correction. keys: of the runs of both rows.
    """

    table: Text
    column: Text
    metric: Text
    best: Text
    second: Text
    difference: Number
    users: Whole
    p: Number
    p_holm: Number
    keys: OneKeyOrMore

    told_by: ClassVar[tuple[str, ...]] = ("column", "metric")


@dataclass(frozen=True)
class TrialRun:
    """A run of a trial.

    Attributes:
        value: of the validation metric; None where the run did not end well.
    """

    value: MaybeNumber = None
    epochs: MaybeWhole = None
    best_epoch: MaybeWhole = None
    seconds: MaybeNumber = None
    status: Text = ""
    key: MaybeKey = ""


@dataclass(frozen=True)
class TrialLine(Line):
    """A trial of a study.

    Attributes:
        trial: its number, from 1. run: of at most ``max_epochs`` epochs. metric: of validation.
        trials: how many were asked for. settings: what was tried, key -> value as it is typed.
        final: the run without the cap on epochs, where there was one. study: the name of the request; studies of before
            requests had names have none.
    """

    trial: Whole
    run: TrialRun
    metric: Text = ""
    trials: MaybeWhole = None
    max_epochs: MaybeWhole = None
    settings: Mapping[str, str] = field(default_factory=dict)
    final: TrialRun | None = None
    study: Text = ""

    told_by: ClassVar[tuple[str, ...]] = ("study", "key")

    @classmethod
    def header(cls) -> tuple[str, ...]:
        """See :meth:`Line.header`; the settings come after the first."""
        return "trial", *RUN.values(), "metric", "trials", "max_epochs"

    @classmethod
    def accepts(cls, columns: Sequence[str]) -> bool:
        """See :meth:`Line.accepts`; settings, final runs and the name of the study may be there too."""
        return set(columns) >= set(cls.header())

    @classmethod
    def columns(cls, lines: Sequence[Self]) -> Sequence[str]:
        """See :meth:`Line.columns`; the columns of final runs and of the study where some line has them."""
        first, *rest = cls.header()
        return [first, *dict.fromkeys(key for line in lines for key in line.settings), *rest,
                *(FINAL.values() if any(line.final for line in lines) else ()),
                *["study"] * any(line.study for line in lines)]

    @classmethod
    def parsed(cls, cells: Mapping[str, str]) -> Self:
        """See :meth:`Line.parsed`.

        Raises:
            ValueError: as there.
        """
        if not cells["key"]:
            raise ValueError("key is '', and not the key of a run")
        known = {*cls.header(), *FINAL.values(), "study"}
        final = any(cells.get(column) for column in FINAL.values())
        return cls(**values(cls, cells), run=TrialRun(**values(TrialRun, cells, RUN)),
                   final=TrialRun(**values(TrialRun, cells, FINAL)) if final else None,
                   settings={column: text for column, text in cells.items() if text and column not in known})

    def cells(self) -> dict[str, str]:
        """See :meth:`Line.cells`."""
        final = texts(self.final, FINAL) if self.final else {}
        cells = {**self.settings, **texts(self), **texts(self.run, RUN), **final}
        return {column: text for column, text in cells.items() if text}


RUN = {name: name for name in stored(TrialRun)}
FINAL = {name: "final" if name == "value" else f"final_{name}" for name in RUN}
"""The columns of the fields of a trial's run, and of its final run."""
