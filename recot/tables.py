"""Every table and figure of the papers, from their specs: ``python -m recot.tables --paper sclrec`` (``make tables``).

A spec says which runs an artifact is made of; runs whose record is there are not run again; what is there is written to
``results/<paper>/`` after every run. Whatever kills this program, the same command goes on.
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recot.artifacts import slurm
from recot.artifacts.estimates import Estimates
from recot.artifacts.jobs import Job, Launcher, Local, Outcome, carry_out, one_by_one
from recot.artifacts.load import load, of_data, papers, tunes_first, tuning
from recot.artifacts.plan import Request, needed, reachable
from recot.artifacts.spec import Artifact, Column, Row, Tuning
from recot.artifacts.state import State, listing
from recot.pages import claims
from recot.pages.publish import Publisher
from recot.record.store import Runs
from recot.request import command
from recot.request.compose import composed
from recot.request.errors import RequestError, nearest

if TYPE_CHECKING:
    from recot.tuning import search

log = logging.getLogger("recot.tables")  # __name__ is __main__ under python -m


def duration(seconds: float | None) -> str:
    """``90 s``, ``12 min`` or ``3.4 h``; ``unknown`` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def parse_duration(text: str) -> float:
    """Seconds of 90s, 30m, 2h or a number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 90s, 30m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def words(text: str) -> list[str]:
    """The parts of a text between its commas."""
    return [word for word in text.split(",") if word]


COMMANDS = {
    "run": "make the runs that are missing, and write the tables; the default",
    "list": "every artifact and its state; runs nothing",
    "dry-run": "the runs that would start, with an estimate of time",
    "render": "write the tables from what is there; runs nothing",
    "verify": "repeat the first epochs of runs that older code made, and say which of them come out the same; makes no "
              "missing run",
    "tune": "tune the rows on the data sets given, with the budget of the spec, and write conf/tuned; makes no other "
            "run"}

RUN, READ = "run dry-run", "run dry-run render verify"
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": (f"{READ} list tune", {"type": words, "default": [], "help": "papers, separated by commas; all without"}),
    "table": (f"{READ} list", {"type": words, "default": [], "help": "artifacts, such as table2,fig2"}),
    "data": (f"{READ} tune", {"type": words, "default": [], "help": "data sets"}),
    "row": (f"{READ} tune", {"type": words, "default": [], "help": "rows"}),
    "seeds": (READ, {"type": words, "default": [], "help": "seeds, such as 0,1,2"}),
    "dry-run": ("dry-run verify tune", {"action": "store_true", "help": "say what would start"}),
    "budget": (RUN, {"type": parse_duration, "help": "start no run that would not end within 30m, 2h, ..."}),
    "limit": (RUN, {"type": parse_duration, "help": "give up a run after this long; of a job of Slurm, the time limit, "
                    "after which its run goes on in the queue (default 4h)"}),
    "jobs": (f"{RUN} verify", {"type": int, "default": 1,
                               "help": "runs at once (set OMP_NUM_THREADS to share the cores)"}),
    "launcher": (f"{RUN} tune", {"choices": ["local", "slurm"], "default": "local",
                                 "help": "where runs are made: on this machine, or by a cluster's queue"}),
    "slurm": (f"{RUN} tune", {"type": shlex.split, "action": "extend", "default": [], "metavar": "'KEY=VALUE ...'",
                              "help": "what a job asks of Slurm, such as 'partition=gpu gpus_per_node=1 mem_gb=32'"}),
    "fresh": (RUN, {"action": "store_true", "help": "run again what older code made"}),
    "whole": ("verify", {"type": parse_duration, "default": 0.0, "help": (
        "if the first epoch of a run does not tell and the run took no longer than 10m, 2h, ..., make it to its end")}),
    "profile": (f"{READ} list", {"help": "smoke: everything on small planted data, into results/smoke"}),
    "results": (f"{READ} list tune", {"type": Path, "default": Path("results"), "help": "where tables are written"}),
    "list": ("list", {"action": "store_true", "help": "the same as the word list"}),
    "render": ("render", {"action": "store_true", "help": "the same as the word render"}),
    "verify": ("verify", {"action": "store_true", "help": "the same as the word verify"}),
    "tune": ("tune", {"action": "store_true", "help": "the same as the word tune"})}
"""The options, each with the sub-commands that take it."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.Parser(
        command.program("tables"), formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Regenerates the tables and figures of the papers beside the printed numbers.\n"
                    "Finished runs are not repeated; after a kill the same command goes on.",
        epilog="\n".join(["sub-commands:", *(f"  {name:8} {what}" for name, what in COMMANDS.items())]))
    parser.add_argument("words", nargs="*", metavar="SUB-COMMAND KEY=VALUE", help=(
        "one of those below, and what data of your own are, such as data.path=my.csv data.time=timestamp, for a paper "
        "like own (run, dry-run, render, verify, tune)"))
    for name, (takers, settings) in OPTIONS.items():
        parser.add_argument(f"--{name}", **{**settings, "help": f"{settings['help']} ({takers.replace(' ', ', ')})"})
    return parser


def split_words(options: argparse.Namespace) -> None:
    """Put the first word into ``command``, where it is a sub-command, and leave the others in ``words``.

    Raises:
        RequestError: a word is neither a sub-command nor about the data, or data of one's own want more to be said.
    """
    first = options.words[0] if options.words and "=" not in options.words[0] else None
    if first is not None and first not in COMMANDS:
        raise RequestError(f"there is no sub-command {first!r}. {nearest(first, [*COMMANDS])}")
    options.command, options.words = first, options.words[first is not None:]
    if other := next((word for word in options.words if not re.match(r"data\.\w+=", word)), None):
        raise RequestError(f"{other}: only what says what your data are can be typed here, such as data.path=my.csv; "
                           "the spec says the rest")
    if options.words and len(options.paper) != 1:
        raise RequestError(f"{options.words[0]} is about the data of one paper; name it, as in --paper own")
    if options.words and options.results == default(OPTIONS["results"][1]):
        raise RequestError(f"{options.words[0]}: numbers of your own data do not go into {options.results}, which "
                           "holds those of the papers; name a folder, as in --results mine")


def sub_command(options: argparse.Namespace) -> str:
    """Which sub-command was typed, as the first word or as a flag.

    Raises:
        RequestError: the sub-command does not take an option that was given.
    """
    flags = [name for name in ("list", "tune", "verify", "dry-run", "render") if getattr(options, attribute(name))]
    typed = [] if options.command in (None, "run") else [options.command]
    chosen = next(iter((*typed, *flags)), "run")
    for name, (takers, settings) in OPTIONS.items():
        if chosen not in takers.split() and getattr(options, attribute(name)) != default(settings):
            raise RequestError(f"{chosen} takes no --{name}; it takes " + ", ".join(
                f"--{other}" for other, (others, _) in OPTIONS.items() if chosen in others.split() and other != chosen))
    return chosen


def attribute(name: str) -> str:
    """The attribute in which argparse keeps an option."""
    return name.replace("-", "_")


def default(settings: Mapping[str, Any]) -> Any:
    """The value of an option that was not typed."""
    return settings.get("default", False if "action" in settings else None)


def selected(options: argparse.Namespace) -> list[Artifact]:
    """The artifacts asked for.

    Raises:
        RequestError: a name that is not there, with the nearest one.
    """
    asked = options.paper or [paper for paper in papers() if options.profile or not tunes_first(paper)]  # or it is own
    artifacts = [artifact for paper in asked for artifact in load(paper, options.profile)]
    for given, known in ((options.table, {artifact.name for artifact in artifacts}),
                         (options.data, {column.data for artifact in artifacts for column in artifact.columns}),
                         (options.row, {row.id for artifact in artifacts for row in artifact.rows})):
        for name in given:
            if name not in known:
                raise RequestError(f"{name!r} is in none of these artifacts. {nearest(name, sorted(known))}")
    if not all(seed.isdecimal() for seed in options.seeds):
        raise RequestError(f"seeds are whole numbers, got {','.join(options.seeds)}; give them like 0,1,2")
    if options.jobs < 1:
        raise RequestError(f"jobs = {options.jobs} runs nothing; give 1 or more")
    return [of_data(artifact, options.words) for artifact in artifacts
            if not options.table or artifact.name in options.table]


def list_states(options: argparse.Namespace) -> int:
    """Print the state of every artifact; the exit code, 1 if one of their files is damaged."""
    faults: list[str] = []
    for line in listing(selected(options), folder(options), faults):
        command.tell(f"{line}\n")
    for fault in faults:
        log.error("%s", fault)
    return 1 if faults else 0


def folder(options: argparse.Namespace) -> Path:
    """Where the artifacts are written."""
    results: Path = options.results
    return results / options.profile if options.profile else results


def state_of(options: argparse.Namespace, fetch: bool, tunes: bool = False) -> State:
    """The state of the artifacts asked for.

    Args:
        fetch: may missing data be downloaded? tunes: are the studies made that come before tables?
    """
    artifacts = [best_of(artifact, options, tunes) for artifact in selected(options)]
    request = Request([needed(artifact, reachable) for artifact in artifacts], set(options.row),
                      set(options.data), tuple(map(int, options.seeds)), folder(options), fetch)
    return State(request, Runs(composed()[0]["paths"]["runs"]))


def launcher(options: argparse.Namespace, runs: Runs) -> Launcher:
    """Where runs are made.

    Raises:
        RequestError, HydraException: what was typed about Slurm is wrong, or Slurm is not there.
    """
    if options.launcher == "slurm":
        return slurm.queue(runs, options.slurm, options.jobs, options.limit)
    return Local(options.jobs, bool(options.profile), options.limit)


def trials_by(options: argparse.Namespace) -> search.Run:
    """What makes the trials of studies: this process, or the launcher that was named."""
    from recot.tuning import search

    if options.launcher == "local":
        return search.here
    return one_by_one(launcher(options, Runs(composed()[0]["paths"]["runs"])))


def check_where(options: argparse.Namespace) -> None:
    """Refuse what was typed about a launcher, before anything is read.

    Raises:
        RequestError, HydraException: with what would work.
    """
    if options.launcher == "local" and options.slurm:
        raise RequestError(f"--slurm {' '.join(options.slurm)} is for --launcher slurm; name the launcher, or leave "
                           "this out")
    if options.launcher != "local" and options.budget:
        raise RequestError("--budget is about this machine, and a cluster has its own; leave --budget out, or give "
                           "--limit, the time limit of a job")
    if options.launcher != "local":
        trials_by(options)


def best_of(artifact: Artifact, options: argparse.Namespace, tunes: bool) -> Artifact:
    """The artifact with the best settings of its studies in its rows, where the spec tunes first.

    A row without a study, or with one of which no trial ended well, stays as it is.

    Args:
        tunes: make what is missing of the studies; else look at what is there.
    """
    if not artifact.shows_runs or not tunes_first(artifact.paper):
        return artifact
    plan, (column,) = tuning(artifact.paper), artifact.columns
    logging.getLogger("recot.tune").setLevel(logging.INFO if tunes else logging.WARNING)
    if not reachable(column.data, *(word for word in column.overrides if word.startswith("data."))):
        return artifact

    run = trials_by(options)

    def tuned(row: Row) -> Row:
        asked = tunes and (not options.row or row.id in options.row)  # of the others what is there is looked at
        return replace(row, overrides=best_settings(column, plan, row, folder(options), run if asked else None))

    return replace(artifact, rows=tuple(tuned(row) if row.id in plan.rows else row for row in artifact.rows))


def best_settings(column: Column, plan: Tuning, row: Row, results: Path, run: search.Run | None) -> tuple[str, ...]:
    """The overrides of a row with the best settings of its study; those it has where no trial ended well.

    Args:
        run: makes the trials that are missing; without it what is there is looked at.
    """
    from recot.tuning.search import best, studied, tune
    from recot.tuning.space import Space

    request = [*column.overrides, *plan.rows[row.id]]
    lines = (tune(request, plan.trials, plan.epochs, results=results, preset_first=plan.preset_first,
                  finals=plan.finals, run=run) if run else
             studied(request, plan.epochs, results=results, preset_first=plan.preset_first))
    winner = best(lines)
    return tuple(Space(request).words(winner.settings)[len(column.overrides):]) if winner else row.overrides


def missing_runs(state: State, options: argparse.Namespace) -> list[Job]:
    """The runs to start, each with the seconds that it will take."""
    estimates = Estimates(folder(options), state.runs)
    return [replace(job, estimate=estimates.seconds(job)) for job in state.jobs(options.fresh)]


def show_plan(options: argparse.Namespace) -> int:
    """Print the runs that would start; the exit code, 1 if a file cannot be read."""
    state = state_of(options, fetch=False)
    jobs = missing_runs(state, options)
    total, unknown = sum(job.estimate or 0 for job in jobs), sum(job.estimate is None for job in jobs)
    lines = [*(f"{duration(job.estimate):>8}  {job.command}" for job in jobs),
             f"{len(jobs)} runs, {duration(total)}, {unknown} of unknown length", *state.unlisted()]
    command.tell("\n".join(lines) + "\n")
    return 1 if complaints(state) else 0


def render(options: argparse.Namespace) -> int:
    """Write the artifacts from what is there; the exit code, 1 if a file cannot be read."""
    state = state_of(options, fetch=False)
    Publisher(state).write_all()
    report_written(state)
    return 1 if complaints(state) else 0


def run(options: argparse.Namespace) -> int:
    """Run what is missing and write the artifacts; the exit code, 1 if a run failed or a file cannot be read."""
    state = state_of(options, fetch=True, tunes=True)
    jobs, publisher = missing_runs(state, options), Publisher(state)
    publisher.write_all()  # first: a killed run of this program may have left a record that no table shows yet
    failures = execute(publisher, jobs, options)
    report_written(state)
    for outcome in failures:
        log.error("failed: %s\n  %s", outcome.job.command, outcome.error)
    return 1 if complaints(state) or failures else 0


def report_written(state: State) -> None:
    """Say which artifacts were written, and where; a README with a place for the claims gets them as they are now."""
    labels = [artifact.label for artifact in state.request.artifacts if artifact.label not in state.refused]
    log.info("written to %s: %s", state.request.results, ", ".join(labels))
    claims.update(state.request.results)


def complaints(state: State) -> int:
    """Say which files could not be read, and which artifacts were left as they were; how many there are of both."""
    for label, reason in state.refused.items():
        log.error("%s is left as it was: %s", label, reason)
    faults = dict.fromkeys(fault for each in state.faults.values() for fault in each)
    for fault in faults:
        log.error("%s", fault)
    return len(state.refused) + len(faults)


def verify(options: argparse.Namespace) -> int:
    """Repeat the first epochs of runs that other code than today's made, or list these runs.

    A run that comes out the same is noted at once, so that a killed verification goes on where it was.

    Returns:
        The exit code: 1 if a run departs or cannot be judged.
    """
    from recot.artifacts.verify import SAME, TODAYS, Verdict, summary, verdicts

    state = state_of(options, fetch=not options.dry_run)
    behind = state.behind()
    stale = [run for run in behind if run.outdated]
    if options.dry_run:
        lines = [*(run.job.command for run in stale),
                 f"{len(stale)} runs of which the first epoch would be repeated, or all of a closed form",
                 *state.unlisted()]
        command.tell("\n".join(lines) + "\n")
        return 0
    judged = [(run.artifacts, Verdict(TODAYS)) for run in behind if not run.outdated]
    unread = {name: cells for name, (cells, _) in state.silent().items() if cells}
    if not stale and not unread:
        log.info("nothing to verify: today's code made every run, or was seen to repeat it")
    for number, verdict in verdicts([(run.job.config, run.line) for run in stale], options.jobs,
                                    options.whole):
        run = stale[number]
        judged.append((run.artifacts, verdict))
        if verdict.word == SAME:
            state.confirm(run.line)
            log.info("%s: %s", SAME, run.job.command)
        else:
            log.error("%s: %s\n  %s", verdict.word, run.job.command, verdict.reason)
    for name, cells in unread.items():
        log.error("cannot be told: %d cells of %s, whose files were not read", cells, name)
    Publisher(state).write_all()
    faults = complaints(state)
    command.tell("\n".join(summary([artifact.label for artifact in state.request.artifacts], judged)) + "\n")
    return int(bool(unread or faults) or any(verdict.word not in (SAME, TODAYS) for _, verdict in judged))


def tune_rows(options: argparse.Namespace) -> int:
    """Tune rows of one paper with equal budgets; the exit code.

    Raises:
        RequestError: not one paper, no data set, or a row that the spec does not tune.
    """
    if len(options.paper) != 1:
        raise RequestError(f"tune takes one paper, got {len(options.paper)}; give it like --paper sclrec")
    if not options.data:
        raise RequestError("tune needs the data sets to tune on; give them like --data gowalla,ml1m")
    from recot.tuning.search import best, tune

    selected(options)
    plan = tuning(options.paper[0])
    for name in options.row:
        if name not in plan.rows:
            raise RequestError(f"experiments/{options.paper[0]}.yaml does not tune {name!r}. "
                               f"{nearest(name, sorted(plan.rows))}")
    requests = [[f"data={data}", *options.words, *plan.rows[name]] for data in options.data
                for name in options.row or plan.rows]
    if options.dry_run:
        budget = ["--trials", str(plan.trials), "--epochs", str(plan.epochs), "--write",
                  *["--preset-first"] * plan.preset_first, *["--finals", str(plan.finals)] * bool(plan.finals)]
        command.tell("".join(shlex.join(["python", "-m", "recot.tune", *words, *budget]) + "\n" for words in requests))
        return 0
    logging.getLogger("recot.tune").setLevel(logging.INFO)
    trials = [tune(words, plan.trials, plan.epochs, results=options.results, write=True,
                   preset_first=plan.preset_first, finals=plan.finals, run=trials_by(options)) for words in requests]
    return 1 if any(best(rows) is None for rows in trials) else 0


def execute(publisher: Publisher, jobs: Sequence[Job], options: argparse.Namespace) -> list[Outcome]:
    """Carry out the jobs and write the artifacts of each as it ends; what failed."""
    numbers = {job.key: number for number, job in enumerate(jobs, 1)}
    failures: list[Outcome] = []

    def started(job: Job) -> None:
        log.info("[%d/%d] %s (%s)", numbers[job.key], len(jobs), job.command, duration(job.estimate))

    def done(outcome: Outcome) -> None:
        if outcome.error:
            failures.append(outcome)
        log.info("[%d/%d] %s in %s", numbers[outcome.job.key], len(jobs), outcome.error or "done",
                 duration(outcome.seconds))
        if not options.profile:  # whose runs take less time than drawing a figure
            publisher.write_all(outcome.job.key)

    runs = publisher.state.runs
    left = carry_out(jobs, runs, launcher(options, runs), budget=options.budget, done=done, started=started)
    for job in left:
        log.info("left for another time (%s): %s", duration(job.estimate), job.command)
    if options.profile:
        publisher.write_all()
    return failures


def regenerate() -> int:
    """Do what was typed; the exit code."""
    options = arguments().parse_intermixed_args()
    split_words(options)
    check_where(options)
    work = {"list": list_states, "tune": tune_rows, "verify": verify, "dry-run": show_plan, "render": render,
            "run": run}
    return work[sub_command(options)](options)


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes. 1 also says that a run failed."""
    command.carry_out(regenerate, "recot.tables",
                      "the same command goes on where it was")


if __name__ == "__main__":
    main()
