"""What is tuned, over which values: a request in Hydra's sweep grammar, checked, as optuna's sampler wants it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from recot.request import keys
from recot.request.errors import RequestError

METHOD = ("model", "loss", "denoiser", "trainer")
"""What is a setting of a method. Validation answers under different data, protocols, noise or seeds do not compare."""


def setting(config: Mapping[str, Any], key: str) -> Any:
    """What a config has under a dotted key."""
    return reduce(lambda node, part: node[part], key.split("."), config)


class Space:
    """What a request tunes, over which values, and what it fixes.

    Attributes:
        parsed: the overrides. sweeps: those that are tuned, by key.
        values: of each tuned key, as they are typed or as a range; None for an interval of real numbers.
        size: number of combinations, infinite with such an interval.

    Raises:
        RequestError, HydraException: nothing is tuned, or not in a way that can be.
    """

    def __init__(self, overrides: Sequence[str]):
        self.parsed = OverridesParser.create().parse_overrides([word for word in overrides if word != "~tuned"])
        self.sweeps = {word.key_or_group: word for word in self.parsed if word.is_sweep_override()}
        if not self.sweeps:
            raise RequestError("nothing is tuned; give a key several values, such as loss.tau=0.1,0.2 or "
                               "'trainer.learning_rate=tag(log,interval(1e-4,1e-2))'")
        self.values: dict[str, Sequence[Any] | None] = {}
        for key, word in self.sweeps.items():
            self.check(key)
            sweep: Any = word.value()  # a choice, a range or an interval, each with attributes of its own
            if word.is_discrete_sweep():
                self.values[key] = list(dict.fromkeys(word.sweep_string_iterator()))
            else:
                self.values[key] = range(sweep.start, sweep.end + 1) if isinstance(sweep.start, int) else None
        counts = [math.inf if values is None else len(values) for values in self.values.values()]
        self.size = math.prod(counts)

    def check(self, key: str) -> None:
        """Refuse what cannot be tuned."""
        sweep: Any = self.sweeps[key].value()
        typed = self.sweeps[key].input_line
        if key.split(".")[0] not in METHOD:
            raise RequestError(f"{typed}: {key} is no setting of a method, and validation answers under different "
                               f"values of it do not compare. Tune keys of {', '.join(METHOD)}; python -m recot.run -m "
                               "sweeps over any")
        if key in keys.IRRELEVANT:
            raise RequestError(f"{typed}: {key} changes no result, so there is nothing to choose")
        if [word.key_or_group for word in self.parsed].count(key) > 1:
            raise RequestError(f"{key} is given more than once; give all its values in one place")
        if isinstance(sweep, Glob):
            raise RequestError(f"{typed}: name the choices, such as {key}=this,that")
        interval = self.sweeps[key].is_interval_sweep()
        if sweep.tags - ({"log"} if interval else set()):
            raise RequestError(f"{typed}: the one tag there is, log, is for an interval, such as "
                               f"'{key}=tag(log,interval(1e-4,1e-2))'")
        if interval and sweep.start >= sweep.end:
            raise RequestError(f"{typed}: an interval rises; give its lower end first")
        if interval and sweep.tags and sweep.start <= 0:
            raise RequestError(f"{typed}: an interval on a logarithmic scale starts above 0; give a lower end above 0")

    def distributions(self) -> dict[str, Any]:
        """What the sampler draws from: listed values, whose order is not used, and intervals with both their ends."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        by_key: dict[str, Any] = {}
        for key, word in self.sweeps.items():
            sweep: Any = word.value()
            if word.is_discrete_sweep():
                by_key[key] = CategoricalDistribution(self.values[key] or ())
            else:
                kind = FloatDistribution if self.values[key] is None else IntDistribution
                by_key[key] = kind(sweep.start, sweep.end, log="log" in sweep.tags)
        return by_key

    def edges(self) -> Iterator[dict[str, Any]]:
        """Combinations to check first: every choice of groups; within each, all listed values and both ends."""
        ends: dict[str, Sequence[Any]] = {}
        for key, values in self.values.items():
            word = self.sweeps[key]
            if values is None:
                interval: Any = word.value()
                ends[key] = (interval.start, interval.end)
            else:
                ends[key] = values if word.is_choice_sweep() else (values[0], values[-1])
        groups = [key for key in ends if "." not in key]
        for choice in itertools.product(*(ends[group] for group in groups)):
            first = {key: values[0] for key, values in ends.items()} | dict(zip(groups, choice, strict=True))
            yield first
            yield from (first | {key: value} for key in ends if key not in groups for value in ends[key][1:])

    def combination(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The one that a config has.

        Raises:
            RequestError: the config has a value that is not among those which are tried.
        """
        values_of_config: dict[str, Any] = {}
        for key, values in self.values.items():
            has = setting(config, key)
            interval: Any = self.sweeps[key].value()
            same = [has] if values is None and interval.start <= has <= interval.end else [
                value for value in values or () if self.typed(value) == has]
            if not same:
                raise RequestError(f"{self.sweeps[key].input_line}: the preset has {has}, which is not among these. "
                                   "Add that value, or leave out --preset-first")
            values_of_config[key] = same[0]
        return values_of_config

    @staticmethod
    def typed(value: Any) -> Any:
        """A value as a config holds it, from what was typed."""
        return OverridesParser.create().parse_override(f"value={value}").value()

    def words(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of one combination."""
        return [f"{word.get_key_element()}={params[word.key_or_group]}" if word.key_or_group in self.sweeps
                else str(word.input_line) for word in self.parsed]

    def fixed(self) -> list[str]:
        """The overrides that are not tuned."""
        return [str(word.input_line) for word in self.parsed if word.key_or_group not in self.sweeps]

    def fixed_keys(self) -> list[str]:
        """Settings of model, loss and denoiser that the request gives one value: those of the problem it solves."""
        return list(dict.fromkeys(
            word.key_or_group for word in self.parsed if word.key_or_group not in self.sweeps and not word.is_delete()
            and word.key_or_group.split(".")[0] in METHOD[:3] and "." in word.key_or_group))

    def asked(self) -> list[str]:
        """The overrides without those that say where and how a run is made, and not what it is."""
        return [str(word.input_line) for word in self.parsed
                if not any(f"{word.key_or_group}.".startswith(f"{name}.") for name in keys.IRRELEVANT)]

    def untried(self, tried: set[tuple[Any, ...]]) -> dict[str, Any]:
        """The first combination of the grid that was not tried."""
        combinations = itertools.product(*self.values.values())  # type: ignore[arg-type]  # asked of finite spaces only
        return dict(zip(self.values, next(values for values in combinations if values not in tried), strict=True))
