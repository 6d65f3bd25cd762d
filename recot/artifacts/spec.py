"""A paper's tables and figures as data: what ``experiments/<paper>.yaml`` says, checked. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from recot.request.schema import of_lists

KINDS = {"statistics": {"data", "metrics", "base"},
         "results": {"data", "metrics", "rows", "beyond", "base", "axis", "printed", "called", "tests", "relative_to",
                     "improvement"},
         "figure": {"data", "metrics", "rows", "beyond", "base", "axis", "printed", "called", "plot"},
         "worked": {"data", "metrics", "rows", "printed", "of"}}
"""What an artifact of each kind may say besides ``kind``, ``title`` and ``note``. Statistics are counted, and a worked
example is computed; what others show are runs."""

EXAMPLES = ("losses",)
"""What a worked example may be ``of``: functions of :mod:`recot.ot.worked`."""

HELD_OUT = ("validation_users", "test_users")
"""Statistics of a split. A table that has them counts its data as they are split."""

PLOTS = ("degradation", "lines", "groups", "case")
"""How a figure may be drawn: bars with their loss below, one panel of lines for each metric, lines over bars that show
how large the groups are, or a few users' pairs."""

AXES = ("values", "sets", "groups")
"""What the values of an axis may be: other runs, other test sets of a run, or groups of its test questions."""


@dataclass(frozen=True)
class Row:
    """A method or setting: its id, its name, its overrides; ``beyond`` the paper or in it.

    Attributes:
        paper: its id in the printed numbers where that is another one (two readings of one method), or None; where rows
            are variants, the method that they vary if that is not the paper's.
        needs: key of the data that has to be typed, such as ``data.time``, or there is no such row; None for none.
    """

    id: str
    name: str
    overrides: tuple[str, ...]
    beyond: bool
    paper: str | None = None
    needs: str | None = None


@dataclass(frozen=True)
class Group:
    """Test questions, or users, by a number that is known of each.

    Attributes:
        by: ``activity`` of the user, training pairs; ``activity_here``, those in the domain that is asked about;
            ``popularity`` of the target; ``ninth``, which ninth of the users by activity, 1 the most active.
        low: the least value. high: the largest, or None for no bound.
    """

    by: str
    low: int
    high: int | None

    @property
    def label(self) -> str:
        """``4 to 7``."""
        if self.high is None:
            return f"{self.low} or more"
        if self.high == self.low:
            return f"{self.low}"
        return f"{self.low} to {self.high}" if self.low else f"up to {self.high}"


@dataclass(frozen=True)
class Column:
    """A data set, and a value of the artifact's axis where it has one.

    Attributes:
        id: begins with the name of its entry in the spec's ``data``, which is how the printed numbers call it.
        data: the config name of the data set. name: how a table calls it.
        overrides: of the run. value: on the axis, or None.
        stands_in: the data set it replaces where that is not at hand, or None.
        questions: name of the test set that is reported. group: the part of it, or None for all of it.
        entry: see ``id``; where it is not said, ``data``.
    """

    id: str
    data: str
    name: str
    overrides: tuple[str, ...]
    value: float | None = None
    stands_in: str | None = None
    questions: str = "test"
    group: Group | None = None
    entry: str = ""

    def __post_init__(self) -> None:
        if not self.entry:
            object.__setattr__(self, "entry", self.data)

    @property
    def label(self) -> str:
        """Its place on the axis."""
        return self.group.label if self.group else f"{self.value:g}"


@dataclass(frozen=True)
class Artifact:
    """A table or figure; its runs are the product of rows, columns and seeds, in the order they are wanted.

    Attributes:
        printed: which column of the printed numbers names a row, ``model`` or ``variant``; None where there are none.
        called: (metric, its name in the printed numbers) where the two differ; that name then means no other metric.
        relative_to: id of the row the others are compared with, or None.
        improvement: ids of rows the best of which is compared with the best of the paper's other rows, or none.
        of: what computes a worked example, one of :data:`EXAMPLES`.
        plot: how a figure is drawn, or None. axis: name and label of the x axis, or None.
        planted: the real data gave way to planted ones (a profile).
        colours: ids of the rows of all figures of the paper; the place of a row there is its colour.
    """

    paper: str
    name: str
    kind: str
    title: str
    note: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    printed: str | None = None
    called: tuple[tuple[str, str], ...] = ()
    tests: bool = False
    relative_to: str | None = None
    improvement: tuple[str, ...] = ()
    plot: str | None = None
    axis: tuple[str, str] | None = None
    planted: bool = False
    colours: tuple[str, ...] = ()
    of: str = ""

    @property
    def shows_runs(self) -> bool:
        """Whether its numbers come from runs."""
        return self.kind not in ("statistics", "worked")

    @property
    def contested(self) -> tuple[str, ...]:
        """The metrics of which more is better. What is said of lists is no merit by itself, nor is a time."""
        no_merit = of_lists(self.metrics)
        return tuple(metric for metric in self.metrics if metric not in no_merit and not metric.endswith("seconds"))

    @property
    def label(self) -> str:
        """``paper/artifact``."""
        return f"{self.paper}/{self.name}"

    def cells(self) -> Iterator[tuple[Column, Row]]:
        """Columns of one data set together, rows inside a column."""
        for column in self.columns:
            for row in self.rows:
                yield column, row


@dataclass(frozen=True)
class Tuning:
    """How the methods of a paper are tuned: every one with as many trials of as many epochs.

    Attributes:
        rows: id -> overrides in Hydra's sweep grammar, without the data set; those of ``base`` in the spec come first.
        preset_first: whether the first trial has the settings of the preset.
        finals: so many of the best trials, and the preset, are run without the cap on epochs as well.
        first: whether tables are made of the best trials, whose studies come first; else of what conf/tuned has.
    """

    trials: int
    epochs: int
    rows: dict[str, tuple[str, ...]]
    preset_first: bool = False
    finals: int = 0
    first: bool = False
