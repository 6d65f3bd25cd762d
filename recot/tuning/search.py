"""Studies: settings of a method are tried, and the best are kept by validation answers."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recot.record import store
from recot.record.ledger import read
from recot.record.lines import TrialLine, TrialRun
from recot.request import compose, keys, tuned
from recot.request.command import held
from recot.request.errors import RequestError
from recot.request.nodes import check_seed
from recot.system.files import write_whole
from recot.tuning.space import METHOD, Space, setting
from recot.tuning.study import Study, requests

log = logging.getLogger("recot.tune")  # __name__ is __main__ under python -m

Run = Callable[[dict[str, Any], dict[str, str], str, str], dict[str, Any]]
"""What makes or finds a run and returns its record, given config, choices, command and key."""


def here(config: dict[str, Any], choices: dict[str, str], command: str, key: str) -> dict[str, Any]:
    """A run in this process."""
    from recot.record import experiment

    return experiment.run(config, choices, command)


def configured(words: Sequence[str], epochs: int | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The config and choices of a trial, of at most ``epochs`` and without a refit, which validation does not see.

    The tuned file of its method is left out: what an earlier study found for other keys would be a setting that nobody
    asked for, and that the file which this study writes does not hold.
    """
    config, choices = compose.composed(*words, "~tuned")
    config["protocol"]["refit"] = False
    if epochs is not None:
        config["trainer"]["max_epochs"] = min(config["trainer"]["max_epochs"], epochs)
    return config, choices


def tuned_file(choices: Mapping[str, str]) -> Path:
    """The tuned file of a method on a data set."""
    return compose.CONF / "tuned" / choices["data"] / f"{choices['model']}-{choices['loss']}-{choices['denoiser']}.yaml"


def checked(space: Space, epochs: int | None) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """The configs at the edges of a space; whatever is wrong with any of them is found before the first trial.

    Raises:
        RequestError: a key, a value or a combination is wrong, or trials would not compare.
    """
    try:
        edges = [configured(space.words(params), epochs) for params in space.edges()]
        with held():
            from recot.record import build

        for config, _ in edges:
            build.rehearse(config)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise RequestError(compose.explain(error)) from error
    first, monitor = edges[0][0], edges[0][0]["protocol"]["monitor"]
    if any(config[part] != first[part] for config, _ in edges for part in ("data", "protocol", "noise", "seed")):
        raise RequestError("these models are asked different questions, so their validation answers do not compare; "
                           "tune each model by itself")
    if monitor not in first["metrics"]:
        raise RequestError(f"metrics leaves out {monitor}, by which trials are compared; add {monitor} to "
                           "metrics=[...], or set protocol.monitor")
    return edges


def command(words: Sequence[str], choices: Mapping[str, str]) -> str:
    """What a user types for a run without the tuned file of its method."""
    return shlex.join(["python", "-m", "recot.run", *words, *["~tuned"] * tuned_file(choices).exists()])


def space_of(overrides: Sequence[str], trials: int, epochs: int | None, seed: int, write: bool, preset_first: bool,
             finals: int) -> Space:
    """The search space of a study; the arguments are those of :func:`tune`.

    Raises:
        RequestError, HydraException: the space or an option is wrong, or the two do not go together.
    """
    for name, number in (("--trials", trials), ("--epochs", 1 if epochs is None else epochs)):
        if number < 1:
            raise RequestError(f"{name} {number} leaves nothing to run; give 1 or more")
    if finals < 0:
        raise RequestError(f"--finals {finals} is a number of trials; give 0 or more")
    if finals and epochs is None:
        raise RequestError(f"--finals {finals} repeats trials without their cap on epochs, and there is no cap; give "
                           "--epochs as well")
    check_seed("--sampler-seed", seed)
    space = Space(overrides)
    groups = [key for key in space.sweeps if "." not in key]
    if write and groups:
        raise RequestError(f"--write cannot keep a choice of {groups[0]}: a tuned file belongs to one model, loss and "
                           "denoiser, and holds their values. Compare without --write, then tune the winner")
    if preset_first and groups:
        raise RequestError(f"--preset-first: where {groups[0]} is chosen there is no single preset to begin with. Tune "
                           f"each {groups[0]} by itself, or leave out --preset-first")
    return space


def tune(overrides: Sequence[str], trials: int, epochs: int | None = None, seed: int = 0,
         results: Path = Path("results"), write: bool = False, preset_first: bool = False,
         finals: int = 0, run: Run = here) -> list[TrialLine]:
    """Try ``trials`` different configurations, or all there are; found records count.

    ``<results>/tuning/<data>/<model>-<loss>-<denoiser>.csv`` is written after every trial; see :class:`Study`.

    Args:
        overrides: as for ``recot.run``; those with several values are tuned.
        epochs: cap of each trial's ``trainer.max_epochs``. seed: of the sampler.
        write: put the best values into ``conf/tuned``, where they apply to every run of the method on these data.
        preset_first: the first trial has the settings of the preset, so that no winner is worse.
        finals: so many of the best trials, and the preset where it came first, are run without the cap as well, and
            these decide: what is ahead early need not be at the end.
        run: makes a trial, here or elsewhere.

    Returns:
        The trials in order.

    Raises:
        RequestError, HydraException: the request is wrong; nothing was run.
    """
    space = space_of(overrides, trials, epochs, seed, write, preset_first, finals)
    edges = checked(space, epochs)
    names = ["+".join(dict.fromkeys(choices[group] for _, choices in edges)) for group in METHOD[:3]]
    config, choices = edges[0]
    file = results / "tuning" / choices["data"] / f"{'-'.join(names)}.csv"
    log.info("%s on %s: %d of %s configurations by validation %s, at most %d epochs each", "-".join(names),
             choices["data"], min(trials, space.size), "any number of" if space.size == math.inf else space.size,
             config["protocol"]["monitor"], max(config["trainer"]["max_epochs"] for config, _ in edges))
    for hidden in dict.fromkeys(tuned_file(choices) for _, choices in edges):
        if hidden.exists():
            log.info("left out of the trials: %s", hidden)
    start = [space.combination(configured(space.fixed(), epochs)[0])] if preset_first else []
    from recot.record import build

    data = build.make(config["data"]).digest()
    study = Study(file, [space.asked(), epochs, seed, preset_first, data])
    lines = search(space, trials, epochs, seed, study, start, data, run)
    if finals:
        finish(space, lines, finals, preset_first, study, data, run)
    log.info("written to %s", file)
    if write and (winner := best(lines)):
        options = ["--trials", trials, *([] if epochs is None else ["--epochs", epochs]), "--sampler-seed", seed,
                   *["--preset-first"] * preset_first, *["--finals", finals] * bool(finals)]
        title = (f"Best of {len(lines)} configurations by validation {winner.metric}, at most {winner.max_epochs} "
                 f"epochs each{', then the first of them to the end' if finals else ''}; see {file.as_posix()}.")
        config, choices = configured(space.words(winner.settings), epochs)
        keep(space, config, tuned_file(choices), title, [str(option) for option in options])
    return lines


def studied(overrides: Sequence[str], epochs: int | None, seed: int = 0, results: Path = Path("results"),
            preset_first: bool = False) -> list[TrialLine]:
    """The trials of a study as far as its table has them; runs nothing. The arguments are those of :func:`tune`.

    Raises:
        RequestError, HydraException: the request is wrong. ValueError: the table is damaged.
    """
    space = Space(overrides)
    config, choices = configured(space.words(next(space.edges())), epochs)
    file = results / "tuning" / choices["data"] / f"{'-'.join(choices[group] for group in METHOD[:3])}.csv"
    if not file.exists():
        return []
    from recot.record import build

    study = Study(file, [space.asked(), epochs, seed, preset_first, build.make(config["data"]).digest()])
    return requests(read(file, TrialLine)).get(study.name, [])


def search(space: Space, trials: int, epochs: int | None, seed: int, study: Study,
           start: Sequence[Mapping[str, Any]], data: str, run: Run) -> list[TrialLine]:
    """Ask, run, tell, until there are enough trials or no combinations left; those in ``start`` first."""
    with held():
        import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asker = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for params in start:
        asker.enqueue_trial(dict(params))
    lines: dict[str, TrialLine] = {}  # by the key of the record
    tried: set[tuple[Any, ...]] = set()
    while len(lines) < trials:
        if len(tried) == space.size:
            log.info("these are all the configurations there are: %d, and %d were asked for", len(lines), trials)
            break
        trial = asker.ask(space.distributions())
        params = {name: trial.params[name] for name in space.sweeps}
        config, choices = configured(space.words(params), epochs)
        key = keys.key(config, data)
        fresh = key not in lines
        tried.add(tuple(params.values()))
        if fresh:
            cap = [] if epochs is None else [f"trainer.max_epochs={config['trainer']['max_epochs']}"]
            record = outcome(config, choices, command([*unrefitted(space, params), *cap], choices), key,
                             study.records, run)
            metric = config["protocol"]["monitor"]
            lines[key] = TrialLine(len(lines) + 1, trial_run(record, metric, key), metric, trials,
                                   config["trainer"]["max_epochs"],
                                   {name: str(value) for name, value in params.items()})
            study.write(list(lines.values()))
            report(list(lines.values()), record)
        value = lines[key].run.value
        asker.tell(trial, value, None if value is not None else optuna.trial.TrialState.FAIL)
        if not fresh and len(tried) < space.size < math.inf:
            asker.enqueue_trial(space.untried(tried))  # a sampler that repeats itself may never name the rest of a grid
    return list(lines.values())


def unrefitted(space: Space, params: Mapping[str, Any]) -> list[str]:
    """The overrides of a trial; its model is not refitted on the validation answers."""
    words = space.words(params)
    return [*words, *["protocol.refit=false"] * compose.composed(*words)[0]["protocol"]["refit"]]


def finish(space: Space, lines: list[TrialLine], count: int, preset_first: bool, study: Study, data: str,
           run: Run) -> None:
    """Run the best ``count`` trials, and the preset, without their cap, and put that into their lines."""
    ranked = sorted((line for line in lines if line.run.value is not None), key=lambda line: line.run.value or 0,
                    reverse=True)
    for line in {line.trial: line for line in (*lines[:preset_first], *ranked[:count])}.values():
        config, choices = configured(space.words(line.settings), None)
        key = keys.key(config, data)
        record = outcome(config, choices, command(unrefitted(space, line.settings), choices), key, study.records, run)
        final = trial_run(record, line.metric, key)
        lines[line.trial - 1] = replace(line, final=final)
        study.write(lines)
        log.info("trial %d to the end: %s, %s epochs%s", line.trial,
                 f"{record['status']}: {record.get('error')}" if final.value is None else
                 f"{line.metric} {final.value:.4f}", final.epochs, "" if record.get("fresh", True) else ", found")


def outcome(config: dict[str, Any], choices: dict[str, str], command: str, key: str,
            records: Mapping[str, dict[str, Any]], run: Run) -> dict[str, Any]:
    """The record of a trial, run, found or, where it is gone, from ``records``, those of the table of the study.

    One that diverged would do so again; one that failed is tried again.
    """
    runs = store.Runs(config["paths"]["runs"])
    earlier = runs.get(key)
    reported = records.get(key) if earlier is None else earlier if earlier["status"] == "diverged" else None
    if reported and not config["force"]:
        return reported
    try:
        return run(config, choices, command, key)
    except Exception as error:
        record = runs.get(key)
        return record if record and record["status"] in ("diverged", "failed") else {
            "status": "failed", "error": f"{type(error).__name__}: {error}"}


def trial_run(record: Mapping[str, Any], metric: str, key: str) -> TrialRun:
    """What the record of a run says of it in the table of a study."""
    return TrialRun(record["valid"][metric] if record["status"] == "done" else None, record.get("epochs"),
                    record.get("best_epoch"), record.get("seconds"), record["status"], key)


def best(lines: Sequence[TrialLine]) -> TrialLine | None:
    """The trial with the highest final value (before finals, value); the first of equals; None if none ended."""
    values = {line.trial: line.final.value if line.final else None for line in lines}
    if set(values.values()) <= {None}:
        values = {line.trial: line.run.value for line in lines}
    return max((line for line in lines if values[line.trial] is not None), key=lambda line: values[line.trial] or 0,
               default=None)


def report(lines: Sequence[TrialLine], record: Mapping[str, Any]) -> None:
    """Log a sentence about the last trial."""
    line, winner = lines[-1], best(lines)
    what = " ".join(f"{key}={value}" for key, value in line.settings.items())
    if line.run.value is None or winner is None:
        log.info("trial %d/%d  %s  %s: %s", line.trial, line.trials, what, line.run.status, record.get("error"))
    else:
        log.info("trial %d/%d  %s  %s %.4f (best %.4f, trial %d)  %.1f s%s", line.trial, line.trials, what,
                 line.metric, line.run.value, winner.run.value, winner.trial, line.run.seconds,
                 "" if record["fresh"] else ", found")


def keep(space: Space, config: Mapping[str, Any], file: Path, title: str, options: Sequence[str]) -> None:
    """Write the tuned keys of a config, and what the study fixed of the method, as the tuned file of its method."""
    content: dict[str, Any] = {}
    fixed = space.fixed_keys()
    for key in (*space.sweeps, *fixed):
        *path, name = key.split(".")
        reduce(lambda node, part: node.setdefault(part, {}), path, content)[name] = setting(config, key)
    typed = shlex.join(["python", "-m", "recot.tune", *space.asked(), *options])
    head = f"# @package _global_\n# {title}\n# {typed}\n{tuned.DATA}{tuned.digests(config['data'])[0]}\n"
    if fixed:
        head += f"{tuned.FIXED}{' '.join(fixed)}\n"
    verb = "replaced" if file.exists() else "written to"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, (head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).encode())
    log.info("%s %s", verb, file)
