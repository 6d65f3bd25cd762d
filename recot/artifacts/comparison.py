"""Finished runs that answered the same questions, side by side: what stands in one table, and what may not."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recot.artifacts import differences
from recot.artifacts.answers import Means, over_seeds, same_users
from recot.evaluation.paired import holm, paired_test
from recot.record.console import without
from recot.record.lines import RunLine
from recot.record.record import Record, look_up
from recot.record.store import Runs
from recot.request import keys
from recot.request.errors import RequestError, nearest
from recot.request.former import keyed

log = logging.getLogger(__name__)

CHOICES = ("loss", "denoiser", "data", "protocol", "noise")
"""Config groups whose choice a record names; that of the model is the name of the method."""

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Value:
    """A metric of a method.

    Attributes:
        mean, std: over seeds; no deviation of one seed. low, high: interval of the mean over users, None where their
            values are not at hand. difference: of the means over users to the best method. p: of the paired test
            against the best, None for the best itself; p_holm: after Holm's correction for all tests of the table.
    """

    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Method:
    """Runs whose configs are the same but for the seed.

    Attributes:
        label: name of the preset, and the settings that tell it from the others. seeds, keys: of the runs.
        values: by metric. epochs, seconds: mean over seeds. memory: the largest peak, MB. command: makes the runs.
    """

    label: str
    seeds: tuple[int, ...]
    keys: tuple[str, ...]
    values: Mapping[str, Value]
    epochs: float
    seconds: float
    memory: float | None
    command: str


@dataclass(frozen=True)
class Comparison:
    """Methods that answered the same questions, the best first.

    Attributes:
        data: name of the data set. split: fingerprint of the questions. questions: name of the test set.
        metrics: the first orders the methods. users: how many were asked, 0 where their values are not at hand.
        tests: how many paired tests the correction is for.
    """

    data: str
    split: str
    questions: str
    metrics: tuple[str, ...]
    methods: tuple[Method, ...]
    users: int
    tests: int


def finished(runs: Runs, wanted: Iterable[str], data: str | None = None) -> list[Record]:
    """The finished ones of some runs. A warning names each that is damaged or was not finished.

    Args:
        data: the name of a data set; runs on others are left out.
    """
    found = []
    for key in wanted:
        try:
            record = look_up(runs, key)
        except ValueError as error:
            log.warning("left out: %s", error)
            continue
        if record is None:
            if data is None:
                log.warning("left out: %s holds no record; the run has not been finished", runs.folder(key))
        elif data not in (None, record.content.get("data")):
            continue
        elif record.line is None:
            log.warning("left out: %s is %s%s", runs.folder(key), record.status,
                        "" if record.status == "running" else f" ({record.error})".replace("\n", " "))
        else:
            found.append(record)
    return found


def data_sets(runs: Runs, keys: Iterable[str]) -> list[str]:
    """The names of the data sets of the runs that are finished."""
    found = set()
    for key in keys:
        with contextlib.suppress(ValueError):  # a damaged one was named before
            record = look_up(runs, key)
            if record is not None and record.line is not None:
                found.add(record.line.data)
    return sorted(found)


def line(record: Record) -> RunLine:
    """What the list of runs has of a finished run."""
    assert record.line is not None
    return record.line


def test_sets(record: Record) -> list[str]:
    """Names of the test sets that a run has answered."""
    return sorted({*record.content.get("floor", {"test": None})} - {"valid"})


def asked(record: Record, metrics: Sequence[str]) -> dict[str, str]:
    """What two runs have to share to stand in one table, in words.

    Args:
        metrics: those that were named. Where none was, all metrics and the monitor are to be the same.
    """
    said = {"split": line(record).split, "test sets": ", ".join(test_sets(record))}
    if not metrics:
        said |= {"metrics": ", ".join(sorted(record.content["test"])), "monitor": monitor(record)}
    return said


def monitor(record: Record) -> str:
    """The metric by which a run was selected."""
    return str(record.content["config"].get("protocol", {}).get("monitor", ""))


def groups(records: Sequence[Record], metrics: Sequence[str] = ()) -> list[list[Record]]:
    """The runs that may stand in one table each, in their order."""
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(asked(record, metrics).values()), []).append(record)
    return list(found.values())


def same_questions(records: Sequence[Record], metrics: Sequence[str]) -> None:
    """Refuse runs that do not stand in one table.

    Raises:
        RequestError: says which runs differ in what.
    """
    apart = groups(records, metrics)
    if len(apart) < 2:
        return
    said = [asked(group[0], metrics) for group in apart]
    differ = [name for name in said[0] if len({each[name] for each in said}) > 1]
    told = told_apart([whole(group[0]) for group in apart], ("data", "protocol", "noise"))
    parts = [", ".join(f"{name} {each[name]}" for name in differ) + (f" ({' '.join(words)})" if words else "")
             + f": {some([line(record).key for record in group])}"
             for each, words, group in zip(said, told, apart, strict=True)]
    remedy = (f"take one split with --split {said[0]['split'][:8]}" if "split" in differ else
              "name what all of them have with --metric" if "metrics" in differ or "monitor" in differ else
              "name the runs of one of them")
    raise RequestError(f"these {len(records)} runs did not answer the same questions: {'; '.join(parts)}; {remedy}")


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many others there are."""
    rest = len(names) - most
    return " ".join(names[:most]) + (f" and {rest} other{'s' * (rest > 1)}" if rest > 0 else "")


def whole(record: Record) -> dict[str, Any]:
    """The choices and settings of a run by dotted key, without the seed."""
    config = {name: setting for name, setting in keyed(record.content["config"]).items() if name != "seed"}
    chosen = {group: str(record.content[group]) for group in CHOICES if record.content.get(group)}
    return dict(differences.flat(keys.relevant(config))) | chosen


def told_apart(settings: Sequence[Mapping[str, Any]], among: Sequence[str] = ()) -> list[list[str]]:
    """The overrides that tell each of some configs from the others.

    Args:
        among: names of the groups that are looked at; all without.
    """
    seen = [{key: value for key, value in each.items() if not among or key.split(".")[0] in among} for each in settings]
    return [differences.typed(own, names) for own, names in zip(seen, differences.telling(seen), strict=True)]


def compare(records: Sequence[Record], runs: Runs, metrics: Sequence[str] = (),
            questions: str = "test") -> Comparison:
    """Finished runs side by side, the best first.

    Args:
        metrics: those that are shown, the first orders the methods. All without, the monitor first.
        questions: name of the test set.

    Raises:
        RequestError: the runs did not answer the same questions, or none such.
    """
    same_questions(records, metrics)
    first = records[0]
    if questions not in test_sets(first):
        raise RequestError(f"these runs have no test set {questions!r}. {nearest(questions, test_sets(first))}")
    known = [metric for metric in first.content[questions]
             if all(metric in record.content[questions] for record in records)]
    if absent := [metric for metric in metrics if metric not in known]:
        raise RequestError(f"not all of these runs answer {absent[0]!r}. {nearest(absent[0], known)}")
    shown = tuple(metrics or sorted(known, key=lambda metric: metric != monitor(first)))
    methods = [method(group, shown, questions) for group in by_method(records)]
    methods = [replace(each, label=label) for each, label in zip(methods, labels(by_method(records)), strict=True)]
    methods.sort(key=lambda each: -each.values[shown[0]].mean)
    means = answers(methods, runs, shown, questions)
    methods, tests = tested(methods, means, shown)
    users = max((len(found) for found, _ in means.values()), default=0)
    return Comparison(line(first).data, line(first).split, questions, shown, tuple(methods), users, tests)


def by_method(records: Iterable[Record]) -> list[list[Record]]:
    """The runs of each method, in the order of their seeds."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: line(record).seed):
        found.setdefault(json.dumps([line(record).model, whole(record)], sort_keys=True), []).append(record)
    return list(found.values())


def labels(methods: Sequence[Sequence[Record]]) -> list[str]:
    """The name of each method, with the settings that tell it from others of that name, or else the key of a run."""
    names = [line(group[0]).model for group in methods]
    found = list(names)
    for name in dict.fromkeys(names):
        places = [place for place, other in enumerate(names) if other == name]
        for place, words in zip(places, told_apart([whole(methods[place][0]) for place in places]), strict=True):
            found[place] = " ".join([name, *words])
    return [f"{label} ({line(group[0]).key})" if found.count(label) > 1 else label
            for label, group in zip(found, methods, strict=True)]


def method(group: Sequence[Record], metrics: Sequence[str], questions: str) -> Method:
    """What the records of a method say of it; it has no label yet."""
    lines = [line(record) for record in group]
    values = {metric: over([record.value(metric, questions) for record in group]) for metric in metrics}
    peaks = [each.peak_memory_mb for each in lines if each.peak_memory_mb is not None]
    return Method("", tuple(each.seed for each in lines), tuple(each.key for each in lines), values,
                  statistics.fmean(each.epochs for each in lines), statistics.fmean(each.seconds for each in lines),
                  max(peaks, default=None), command(lines[0].command, [each.seed for each in lines]))


def over(values: Sequence[float]) -> Value:
    """Mean and deviation over seeds."""
    return Value(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def command(line: str, seeds: Sequence[int]) -> str:
    """What to type for the runs of a method: the command of one of them, with all seeds."""
    named = [f"seed={','.join(map(str, seeds))}"] * (list(seeds) != [0])
    return shlex.join([*without(line, "seed="), *named, *["-m"] * (len(seeds) > 1)])


def answers(methods: Sequence[Method], runs: Runs, metrics: Sequence[str], questions: str) -> dict[str, Means]:
    """Label -> what single users got of a method. A warning names each whose files are gone or damaged.

    Raises:
        ValueError: methods were tested on different users.
    """
    found: dict[str, Means] = {}
    for each in methods:
        try:
            means = over_seeds(runs, each.keys, metrics, questions)
        except OSError as error:
            log.warning("%s has no interval and no test: %s", each.label, error)
            continue
        for other, (users, _) in found.items():
            same_users(users, means[0], [each.label, other])
            break
        found[each.label] = means
    return found


def tested(methods: Sequence[Method], means: Mapping[str, Means], metrics: Sequence[str]) -> tuple[list[Method], int]:
    """The methods with intervals and tests, and how many tests there are."""
    found = {(each.label, metric): ranged(each.values[metric], means[each.label][1][metric])
             if each.label in means else each.values[metric] for each in methods for metric in metrics}
    compared = list(against_best(methods, means, metrics))
    for (label, metric, difference, p), corrected in zip(compared, holm([p for *_, p in compared]), strict=True):
        found[label, metric] = replace(found[label, metric], difference=difference, p=p, p_holm=corrected)
    return [replace(each, values={metric: found[each.label, metric] for metric in metrics}) for each in methods], len(
        compared)


def ranged(value: Value, users: NDArray[np.float64]) -> Value:
    """A value with the interval of its mean over users, (users,), by Student's t; none of one user."""
    if len(users) < 2:
        return value
    half = stats.t.ppf((1 + LEVEL) / 2, len(users) - 1) * users.std(ddof=1) / len(users) ** 0.5
    return replace(value, low=float(users.mean() - half), high=float(users.mean() + half))


def against_best(methods: Sequence[Method], means: Mapping[str, Means],
                 metrics: Sequence[str]) -> Iterator[tuple[str, str, float, float]]:
    """Label, metric, difference and p value of the paired test of each method against the best of a metric."""
    for metric in metrics:
        best = max(methods, key=lambda each: each.values[metric].mean)
        for each in methods:
            if each is not best and {each.label, best.label} <= {*means} and len(means[best.label][0]) > 1:
                yield each.label, metric, *paired_test(means[each.label][1][metric], means[best.label][1][metric])
