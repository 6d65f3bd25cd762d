"""One experiment: a checked config becomes a record."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import secrets
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.errors import InstantiationException
from torch import Tensor

from recot import allocator, cache, files, outputs, report, sources, track
from recot.closed.popularity import Popularity
from recot.data import fetch
from recot.data.dataset import Dataset
from recot.data.interactions import Interactions
from recot.data.split import EvalSet, Split, in_time_order, joined, validate
from recot.denoise.base import Denoiser
from recot.environment import REFERENCE, hidden, looked_up
from recot.evaluate import Diverged, Recommender, evaluate
from recot.learn import Gradient, History
from recot.networks.base import TwoTower
from recot.staged import Relabelled
from recot.truth import noise_auc, score_pairs

log = logging.getLogger(__name__)

LIBRARIES = ("recot", "torch", "lightning", "hydra-core", "omegaconf", "numpy", "pandas", "scipy")


def make(node: Mapping[str, Any], **given: Any) -> Any:
    """What a checked config node with a ``_target_`` describes. Texts are taken as they are, but for references to
    the environment.

    Args:
        given: values that are not in the node; ``_partial_=True`` leaves the call for later.

    Raises:
        hydra.errors.InstantiationException: the class or function refuses its values.
    """
    values = {name: make(value) if isinstance(value, Mapping) and "_target_" in value else looked_up(value)
              for name, value in node.items()} | given
    target, later = hydra.utils.get_object(values.pop("_target_")), values.pop("_partial_", False)
    try:
        return partial(target, **values) if later else target(**values)
    except Exception as error:
        raise InstantiationException(f"{node['_target_']} refuses its values ({error})") from error


def ask_questions(config: Mapping[str, Any], dataset: Dataset) -> Split:
    """The split of a data set under the config's protocol, with its noise, checked for leaks.

    Raises:
        ValueError: the model reads histories in order, and the data have no times.
    """
    split = make(config["noise"])(make(config["protocol"]["split"])(in_order(config, dataset)))
    validate(split)
    return split


def in_order(config: Mapping[str, Any], dataset: Dataset) -> Interactions:
    """The pairs of a data set; where the model reads histories in order, ties in time are broken at random.

    Raises:
        ValueError: the model reads histories in order, and the data have no times.
    """
    pairs = dataset.interactions
    if not getattr(hydra.utils.get_class(config["model"]["_target_"]), "ordered", False):
        return pairs
    if pairs.times is None:
        raise ValueError("the model reads histories in order, and these data have no times; name their column, as in "
                         "data.time=timestamp, or use a model that reads histories as sets, such as model=sclrec")
    return in_time_order(pairs, config["protocol"]["split"].get("split_seed", 0))


def ask_again(config: Mapping[str, Any], dataset: Dataset) -> Split:
    """The same for a refit: the validation pairs train as well, and the noise is relative to all of these pairs."""
    return make(config["noise"])(joined(make(config["protocol"]["split"])(dataset.interactions)))


def build(config: Mapping[str, Any], folder: Path | None = None,
          observe: Callable[[History], None] = lambda history: None) -> Recommender:
    """The unfitted recommender of a config.

    Args:
        folder: where a network keeps its checkpoint, or None to keep none. observe: see :class:`Gradient`.
    """
    denoiser, monitor = make(config["denoiser"]), config["protocol"]["monitor"]
    if not issubclass(hydra.utils.get_class(config["model"]["_target_"]), TwoTower):
        if not hasattr(denoiser, "relabel"):
            return make(config["model"])
        return Relabelled(lambda folder, observe: make(config["model"]), denoiser, monitor)

    def network(denoiser: Denoiser, folder: Path | None, observe: Callable[[History], None]) -> Gradient:
        return Gradient(make(config["model"], _partial_=True), make(config["loss"]), denoiser, make(config["trainer"]),
                        monitor, config["seed"], folder, observe)

    if hasattr(denoiser, "relabel"):
        return Relabelled(partial(network, Denoiser()), denoiser, monitor, folder, observe)
    return network(denoiser, folder, observe)


def rehearse(config: Mapping[str, Any]) -> None:
    """Let every constructor refuse its values before anything is read or recorded; a network that of one item.

    Raises:
        hydra.errors.InstantiationException: one of them does.
        RequestError: see ``Training.pick_device``.
    """
    build(config)
    if descends(config):
        make(config["trainer"]).pick_device()
        make(config["model"], n_users=1, n_items=1)


def refitted(config: Mapping[str, Any], model: Recommender, split: Split, folder: Path) -> Recommender:
    """The recommender of a config fitted on the training and validation pairs, as long as was best for ``model``.

    Args:
        model: fitted with the validation questions at hand. split: from :func:`recot.data.split.joined`.
        folder: where a network keeps its checkpoint.
    """
    chosen = dict(config)
    if epochs := getattr(model, "best_epoch", 0):
        chosen["trainer"] = {**config["trainer"], "max_epochs": epochs}
    if isinstance(model, Relabelled):
        chosen["denoiser"] = {**config["denoiser"], "rounds": model.best_round}
    folder.mkdir(exist_ok=True)
    return build(chosen, folder).fit(split.for_training())


def run(config: dict[str, Any], choices: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the experiment of a checked config, or find its record; go on where an earlier attempt stopped.

    Args:
        config: from ``schema.check``. choices: the preset name of each config group. command: what the user typed.

    Returns:
        The record, as stored in ``<paths.runs>/<key>/record.json``, and ``fresh``: was it run just now?

    Raises:
        Exception: whatever the run raised, after a record of it was written.
    """
    allocator.keep_freed()
    peak = allocator.Peak()
    rehearse(config)
    commit, today = sources.commit(), source_digest(config)  # of the code that is loaded; files may change meanwhile
    source = make(config["data"])
    key, runs = cache.key(config, source.digest()), cache.Runs(config["paths"]["runs"])
    folder = runs.folder(key)
    if not config["force"] and (found := finished(runs, key)):
        return shown(found, folder, today)
    with runs.lock(key), runs.writing(key):
        earlier = runs.get(key)
        kept = earlier if earlier and earlier["status"] == "done" else None  # a failed force=true costs no good record
        if kept and not config["force"]:  # another process has finished it meanwhile
            return shown(kept, folder, today)
        begun = begin(folder, today, config["force"], kept)
        record = {"key": key, **{group: choices.get(group) for group in (
            "model", "loss", "denoiser", "data", "protocol", "noise")}, "seed": config["seed"], "status": "running",
            "command": command, "config": cache.relevant(config), "places": places(config["data"])}
        made = {"commit": commit, **begun}
        try:
            with runs.draft(key) as left:
                found = attempt(config, source, key, folder, "again.csv" if kept else "epochs.csv", left)
                record = runs.publish(key, record | found | provenance(config, peak) | made)
        except BaseException as error:
            if not kept:
                stopped = "failed" if isinstance(error, Exception) else "interrupted"
                note(runs, key, error, record | {
                    "status": "diverged" if isinstance(error, Diverged) else stopped,
                    "error": hidden(f"{type(error).__name__}: {error}"), "traceback": hidden(traceback.format_exc())}
                    | provenance(config, peak) | made)
            raise
        runs.settle(key)
        forget(folder)
        return {**record, "fresh": True}


def finished(runs: cache.Runs, key: str) -> dict[str, Any] | None:
    """The record of a run that is done, or None; what a run would resume from is removed where it is still there."""
    record = runs.get(key)
    if record is None or record["status"] != "done":
        return None
    if resumes(runs.folder(key)) or runs.unsettled(key):
        try:
            with runs.lock(key):
                forget(runs.folder(key))
                record = runs.get(key) or record
        except OSError as error:
            log.warning("what was left of an earlier start stays: %s", error)
    return record


def shown(record: dict[str, Any], folder: Path, today: str) -> dict[str, Any]:
    """What :func:`run` returns of a run that was finished before; says where its code has changed."""
    if today not in (record.get("sources"), record.get("repeated")):
        log.warning("%s was made by code that has changed since; force=true makes it again", folder)
    return {**record, "fresh": False}


def note(runs: cache.Runs, key: str, failure: BaseException, record: Mapping[str, Any]) -> None:
    """Write the record of a failure, which then names it; where that fails as well, the first is what has to be known.
    """
    try:
        failure.add_note(f"{runs.put(key, record)} holds it too")
    except OSError as error:
        log.warning("there is no record of this failure: %s", error)


def begin(folder: Path, today: str, force: bool, kept: Mapping[str, Any] | None) -> dict[str, str]:
    """Name an attempt and the code it goes by, in the file ``code``; an earlier one that can be goes on.

    A forced one goes on only where it was begun by this very code and has not ended in the record that is there.

    Args:
        today: digest of the code. kept: the record of the finished run that is made again.

    Returns:
        ``attempt``, its name, and ``sources``, the digests of the codes it went by.

    Raises:
        ValueError: the file is damaged, and the run is not forced.
    """
    code, before = folder / "code", None
    if resumable(folder) and code.exists():
        try:
            before = json.load(files.read_sealed(code))
        except ValueError as error:
            if not force:
                raise ValueError(f"{error}; force=true begins this run anew") from error
    if force and resumes(folder) and (before is None or before["sources"] != today
                                      or before["attempt"] == (kept or {}).get("attempt")):
        forget(folder)
        before = None
    begun = before or {"attempt": secrets.token_hex(8), "sources": today}
    if not begun["sources"].endswith(today):
        log.warning("%s was begun by code that has changed since; force=true begins anew", folder)
        begun["sources"] += f"+{today}"
    files.write_sealed(code, lambda stream: stream.write(json.dumps(begun).encode()))
    return begun


REST = ("last.ckpt", "fitted.pt", "code", "again.csv", "round*", "refit")
"""Patterns of what an attempt leaves where it is stopped, and a finished one does not."""
def places(data: Mapping[str, Any]) -> dict[str, str]:
    """Where the data lie, absolute, by config key: no part of what was run, but what brings it back from anywhere.

    A place that refers to the environment stays a reference.
    """
    found = {f"data.{name}": str(data[name]) for name in ("path", "root") if data.get(name)}
    if "root" in data and not data["root"] and not REFERENCE.search(str(data.get("cache"))):
        found["data.root"] = str(fetch.data_root(None, fetch.cache_folder(data.get("cache"))))
    return {name: place if REFERENCE.search(place) else str(Path(place).absolute()) for name, place in found.items()}


def resumable(folder: Path) -> bool:
    """Whether there is something that a run would resume from."""
    return any(folder.glob("**/last.ckpt")) or any(folder.glob("**/fitted.pt"))


def resumes(folder: Path) -> list[Path]:
    """What an attempt left in a folder."""
    return [place for pattern in REST for place in folder.glob(pattern)]


def forget(folder: Path) -> None:
    """Remove what a run would resume from; its ``code`` last, which says whose the others are."""
    for place in sorted(resumes(folder), key=lambda place: place.name == "code"):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()


def attempt(config: dict[str, Any], source: Any, key: str, folder: Path, epochs: str = "epochs.csv",
            left: Path | None = None) -> dict[str, Any]:
    """Train and evaluate; the parts of the record that come out of it.

    Where the protocol says ``refit``, validation answers come from the first fit, and all else from the second.

    Args:
        folder: where the run keeps what it needs to resume, and the file ``epochs``, which gets a line per epoch.
        left: where the files go that the run leaves, or None to leave none.
    """
    start = time.monotonic()
    dataset = source.load()
    split = whole = ask_questions(config, dataset)
    bar, give_back = report.Bar(config["trainer"], config["protocol"]["monitor"]), allocator.GiveBack()
    with track.Guarded(make(config["logger"])) as tracker:
        tracker.start(key, cache.relevant(config), folder)

        def observe(history: History) -> None:
            outputs.save_history(folder / epochs, history)
            tracker.log(history[-1], len(history))
            bar.show(history)
            give_back()

        first = model = build(config, folder, observe)
        began = time.monotonic()
        with bar:
            model.fit(split.for_training())
        fitted = time.monotonic()
        values = answers(model, split.valid, config)
        if config["protocol"]["refit"]:
            whole, began = ask_again(config, dataset), time.monotonic()
            model = refitted(config, first, whole, folder / "refit")
        fit_seconds = (time.monotonic() if model is not first else fitted) - began
        fit_seconds = max(fit_seconds, elapsed(model))  # a run that went on has spent more than this process knows
        values |= answers(model, whole.test, config)
        means = {name: average(found) for name, found in values.items()}
        tracker.finish({f"{name}/{metric}": mean for name in means for metric, mean in means[name].items()})
    floor = answers(Popularity().fit(split), split.valid, config) | answers(Popularity().fit(whole), whole.test, config)
    if left is not None:
        outputs.save(left, dataset, split.valid, whole, first, model, values)
    history: History = getattr(first, "history", [])
    told = next((row for row in history if config["protocol"]["monitor"] in row), {})  # see repeat.departure
    spent = elapsed(first) or fitted - start
    return {
        "status": "done", **means, **about_noise(model, whole.train),
        **({"rounds": model.rounds} if isinstance(model, Relabelled) else {}),
        "floor": {name: average(found) for name, found in floor.items()}, "digest": digest(values),
        "split": split.fingerprint, "sizes": sizes(split), "dropped": dataset.dropped, "epochs": len(history),
        "first_epoch": {name: value for name, value in told.items() if name != "seconds"},
        "best_epoch": getattr(first, "best_epoch", 0), "fit_seconds": round(fit_seconds, 3),
        "seconds": round(spent + time.monotonic() - fitted, 3), "wall_seconds": round(time.monotonic() - start, 3)}


def elapsed(model: Recommender) -> float:
    """Seconds that the epochs of a fit have taken, those before an interruption too; 0 where it has none."""
    return sum(row["seconds"] for row in getattr(model, "history", []))


def answers(model: Recommender, questions: EvalSet | tuple[EvalSet, ...],
            config: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Every user's value of every metric of the config, by set."""
    parts = questions if isinstance(questions, tuple) else (questions,)
    where = getattr(model, "device", "cpu")
    return {part.name: evaluate(model, part.to(where), config["metrics"]) for part in parts}


def about_noise(model: Recommender, train: Interactions) -> dict[str, Any]:
    """How well known noise is told from the other training pairs: by low scores, and by low weights where it has some.

    Nothing where no noise is known.
    """
    if train.noisy is None or not 0 < int(train.noisy.sum()) < len(train):
        return {}
    place = getattr(model, "device", "cpu")
    found = {"noise_auc": noise_auc(score_pairs(model, train.to(place)), train.noisy, train.users)}
    if isinstance(model, Relabelled) and torch.equal(model.trained_on.keys, train.keys):
        found["weight_auc"] = noise_auc(model.trained_on.weights, train.noisy, train.users)
    return found


def question_sets(split: Split) -> dict[str, EvalSet]:
    """The sets a record reports on, by name."""
    return {questions.name: questions for questions in (split.valid, *split.test)}


def average(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean over users of each metric."""
    return {metric: float(value.mean()) for metric, value in values.items()}


def digest(answers: Mapping[str, Mapping[str, Tensor]]) -> str:
    """16 hexadecimal digits of every user's value of every metric: equal only for runs that agree bit for bit."""
    sha = hashlib.sha256()
    for name in sorted(answers):
        for metric in sorted(answers[name]):
            sha.update(f"{name}/{metric}".encode())
            sha.update(answers[name][metric].numpy().tobytes())
    return sha.hexdigest()[:16]


def sizes(split: Split) -> dict[str, int]:
    """Counts a reader checks first."""
    counts = {"users": split.train.n_users, "items": split.train.n_items, "train": len(split.train)}
    if split.train.noisy is not None:
        counts["train_noisy"] = int(split.train.noisy.sum())
    for name, questions in question_sets(split).items():
        counts |= {f"{name}_users": len(questions), f"{name}_targets": len(questions.targets.values)}
    return counts


def descends(config: Mapping[str, Any]) -> bool:
    """Whether the model is trained by gradient descent; a closed form has no loss and no device."""
    return config["loss"].get("_target_") is not None


def relabels(config: Mapping[str, Any]) -> bool:
    """Whether the denoiser says between two fits what is trained on next."""
    return hasattr(hydra.utils.get_class(config["denoiser"]["_target_"]), "relabel")


HARMLESS = (("recot.outputs", ""), ("recot.report", ""), ("recot.track", ""), ("recot.allocator", ""),
            ("recot.files", ""), ("recot.environment", ""), (__name__, "provenance"))
"""What a run calls without an effect on its numbers: what is written, shown and sent, and how memory is kept."""


def source_digest(config: Mapping[str, Any]) -> str:
    """Digest of the code that the result of ``config`` depends on: all that an attempt at it calls."""
    unused = [*HARMLESS,
              *([("recot.learn", "Gradient"), ("recot.networks.base", "TwoTower")] * (not descends(config))),
              *([("recot.staged", "Relabelled")] * (not relabels(config))),
              *([(__name__, "ask_again"), (__name__, "refitted")] * (not config["protocol"].get("refit", False)))]
    return sources.digest(cache.relevant(config), [(__name__, "attempt")], unused)


def provenance(config: Mapping[str, Any], peak: allocator.Peak) -> dict[str, Any]:
    """What a result may depend on besides its config and its code, and the memory it took."""
    cuda = descends(config) and config["trainer"]["device"] != "cpu" and torch.cuda.is_available()
    return {
        **peak.report(cuda),
        "device": torch.cuda.get_device_name() if cuda else platform.machine(), "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
