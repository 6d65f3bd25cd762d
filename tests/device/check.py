"""See ``check.sh``. A step runs in processes of its own, which print a line of JSON for each thing they have seen."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from recot.request.compose import CONF, composed

sys.path.insert(0, str(Path(__file__).parents[1]))
from small import asked, briefly  # noqa: E402  # of the tests beside this folder

DEVICE = os.environ.get("DEVICE", "cuda")
SMALL = DEVICE == "cpu"
"""A rehearsal: everything once, on little data."""
LIMITS = {"train": 150, "precision": 120, "resume": 120, "deterministic": 120, "large": 60, "speed": 90,
          "evaluation": 60, "row": 150, "bench": 200}
"""Seconds a step may take, in order of importance."""
SHARED = {"train", "precision", "resume", "deterministic"}
"""Steps that are a list of presets, shared out among processes."""
LARGE = ("lightgcn", "buir_nb", "sclrec_lightgcn", "directau_lightgcn", "sclrec")
FASTEST_OF = 5


class Stop(Exception):
    """An interruption."""


def presets() -> list[str]:
    """Names of all presets of networks, or those of PRESETS."""
    chosen = os.environ.get("PRESETS")
    names = [path.stem for path in sorted((CONF / "model").glob("*.yaml"))
             if "_target_: recot.networks." in path.read_text()]
    return [name for name in names if chosen is None or name in chosen.split(",")]


def say(step: str, name: str, fine: bool, start: float, detail: str) -> None:
    """A line for the table."""
    print(json.dumps({"step": step, "name": name, "fine": fine, "seconds": time.monotonic() - start,
                      "detail": detail}), flush=True)


def config_of(preset: str, *words: str) -> tuple[dict, dict]:
    """A preset on planted data."""
    few = ("data.n_users=60", f"data.n_items={120 if asked(preset) else 80}", "data.mean_activity=6") if SMALL else ()
    stages = briefly(preset, max_epochs=2, per_node=2)
    return composed(f"model={preset}", "data=planted", "trainer=smoke", f"trainer.device={DEVICE}", *few,
                    *asked(preset, candidates=10), *stages, *words)


def fit(preset: str, *words: str, folder: Path | None = None, stop: int = 0):
    """The fitted recommender; with ``stop``, interrupted in that epoch."""
    from recot.record.build import ask_questions, build, make

    def observe(history: list) -> None:
        if stop and len(history) == stop:
            raise Stop

    config, _ = config_of(preset, *words)
    model = build(config, folder, observe)
    split = ask_questions(config, make(config["data"]).load()).for_training()
    with contextlib.suppress(Stop):
        return model.fit(split)


def weights(model) -> dict:
    """Those of the chosen network, or of one for each domain, on the CPU."""
    return {(number, name): tensor.cpu() for number, network in enumerate(getattr(model, "model", model).networks)
            for name, tensor in network.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    """Bit for bit."""
    return all(tensor.equal(other[name]) for name, tensor in one.items())


def train(preset: str) -> str:
    """Two epochs end with a record."""
    from recot.record import experiment

    config, choices = config_of(preset, "trainer.max_epochs=2")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config["paths"] = {"runs": folder, "cache": folder}
        record = experiment.run(config, choices, f"python -m recot.run model={preset}")
    if record["status"] != "done":
        raise RuntimeError(f"the record says {record['status']}: {str(record.get('error'))[-200:]}")
    return ""


def precision(preset: str) -> str:
    """An epoch's loss is finite in each precision, and near that of float32."""
    losses = {}
    for name in ("32-true", "bf16-mixed", *(["16-mixed"] * (DEVICE != "cpu"))):
        losses[name] = fit(preset, "trainer.max_epochs=1", f"trainer.precision={name}").history[-1]["loss"]
        if not math.isfinite(losses[name]):
            raise RuntimeError(f"loss {losses[name]} in {name}")
        if abs(losses[name] - losses["32-true"]) > 0.1 * abs(losses["32-true"]) + 0.01:
            raise RuntimeError(f"loss {losses[name]:.4g} in {name}, {losses['32-true']:.4g} in float32")
    return ""


def resume(preset: str) -> str:
    """An interrupted run ends like another one; one of a card goes on on a CPU."""
    words = ("trainer.max_epochs=4", "trainer.checkpoint_seconds=0")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "here"
        place.mkdir()
        fit(preset, *words, folder=place, stop=3)
        again, whole = fit(preset, *words, folder=place), fit(preset, *words)
        if not same(weights(again), weights(whole)):
            raise RuntimeError("resumed, the weights are others")
        if DEVICE != "cpu":
            place = Path(folder) / "moved"
            place.mkdir()
            fit(preset, *words, folder=place, stop=3)
            moved = fit(preset, *words, "trainer.device=cpu", folder=place)
            if not all(tensor.isfinite().all() for tensor in weights(moved).values()):
                raise RuntimeError("gone on on the CPU, a weight is not finite")
    return ""


def deterministic(preset: str) -> str:
    """Two runs have the same weights."""
    one, other = (weights(fit(preset, "trainer.max_epochs=2", "trainer.deterministic=true")) for _ in range(2))
    if not same(one, other):
        raise RuntimeError("two runs with deterministic=true differ")
    return ""


def gowalla():
    """Pairs of the size of Gowalla, or some of them in a rehearsal."""
    from recot.bench.steps import synthetic

    pairs = synthetic().train
    return (pairs.select(torch.arange(30_000)) if SMALL else pairs).to(DEVICE)


def stepper(preset: str, pairs, *words: str):
    """A function that takes a step of a preset in a bare loop, and its network."""
    from recot.denoise.base import Denoiser
    from recot.nn.table import clear_gradients
    from recot.record.build import make

    config, _ = composed(f"model={preset}", "data=planted", *words)
    torch.manual_seed(0)
    network = make(config["model"], n_users=pairs.n_users, n_items=pairs.n_items).to(DEVICE)
    denoiser, objective = make(config["denoiser"]), make(config["loss"])
    denoiser = (Denoiser() if hasattr(denoiser, "relabel") else denoiser).to(DEVICE)
    network.bind(pairs)
    denoiser.bind(network, pairs)
    rng = torch.Generator(DEVICE).manual_seed(0)
    batches = itertools.chain.from_iterable(
        objective.batches(pairs, rng, network, epoch) for epoch in itertools.count())
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)

    def step() -> None:
        batch = denoiser.before(next(batches), network)
        loss, batch = objective(network, batch)
        denoiser.after(loss, batch).mean().backward()
        optimizer.step()
        clear_gradients(network)
        network.after_step()
        denoiser.after_step(network)

    return step, network


def waited() -> float:
    """The time, once the device has done all it was given."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def large() -> None:
    """Thirty steps at Gowalla's size, twice, where deterministic algorithms are asked for."""
    from recot.nn.graph import Graph, product

    pairs = gowalla()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    for preset in LARGE:
        start, found = time.monotonic(), []
        for _ in range(2):
            step, network = stepper(preset, pairs)
            for _ in range(3 if SMALL else 30):
                step()
            found.append({name: tensor.cpu() for name, tensor in network.state_dict().items()})
        fine = same(*found)
        say("large", preset, fine, start, "" if fine else "two times thirty steps differ")
    matrix = Graph.of(pairs.users, pairs.items, pairs.n_users, pairs.n_items).whole[0]
    dense, times = torch.randn(pairs.n_items, 64, device=DEVICE), {}
    start = time.monotonic()
    for wanted in (True, False):
        torch.use_deterministic_algorithms(wanted)
        results = {product(matrix, dense).sum(1).cpu().numpy().tobytes() for _ in range(10)}
        begin = waited()
        for _ in range(20):
            product(matrix, dense)
        times[wanted] = f"{(waited() - begin) / 20 * 1e6:.0f} us, {len(results)} results of 10"
    say("large", "product", times[True].endswith(" 1 results of 10"), start,
        f"deterministic {times[True]}; else {times[False]}")


def speed() -> None:
    """Steps at Gowalla's size; a mask costs a fifth at most."""
    pairs, cost = gowalla(), {}
    jobs = {"bprmf": (), "clrec": (), "clrec mask": ("loss.duplicates=mask",),
            "clrec multi_positive": ("loss.duplicates=multi_positive",), "sclrec": (), "directau": (), "buir": (),
            "tce": (), "rce": (), "lightgcn": (), "buir_nb": ()}
    start = time.monotonic()
    steps = {name: stepper(name.split()[0], pairs, *words)[0] for name, words in jobs.items()}
    count = 2 if SMALL else 40
    for _ in range(2 if SMALL else FASTEST_OF):
        for name, step in steps.items():
            step()
            begin = waited()
            for _ in range(count):
                step()
            cost[name] = min(cost.get(name, math.inf), (waited() - begin) / count)
    for name, seconds in cost.items():
        say("speed", name, True, start, f"{name} {seconds * 1e6:.0f} us")
    dearer = cost["clrec mask"] / cost["clrec"]
    say("speed", "mask / clrec", SMALL or dearer <= 1.2, start, f"mask / plain {dearer:.2f}, goal 1.20")
    if DEVICE != "cpu":
        say("speed", "memory", True, start, f"peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")


def evaluation() -> None:
    """Ranking of 100,000 items for 20,000 users, and lists of 20."""
    from recot.data.interactions import Ragged
    from recot.data.questions import EvalSet, Query
    from recot.evaluation.evaluate import evaluate, recommended
    from recot.evaluation.recommender import Recommender

    b, n = (200, 1000) if SMALL else (20_000, 100_000)
    torch.manual_seed(0)
    users, items = torch.randn(b, 64, device=DEVICE), torch.randn(n, 64, device=DEVICE)

    class Product(Recommender):
        device = DEVICE

        def score(self, query):
            return users[query.users] @ items.T

    fives = torch.arange(b + 1) * 5
    own = Ragged(fives, torch.rand(b, n // 20).argsort(1)[:, :5].flatten())
    seen = Ragged(fives, own.values + n // 2)
    none = Ragged(torch.zeros(b + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    asked = EvalSet(Query(torch.arange(b), none), own, seen, None, "test").to(DEVICE)
    for name, call in (("evaluate", lambda: evaluate(Product(), asked, ["recall@20", "ndcg@20"])),
                       ("recommended", lambda: recommended(Product(), asked.query, asked.seen, 20))):
        call()
        start, begin = time.monotonic(), waited()
        call()
        say("evaluation", name, True, start, f"{name} {waited() - begin:.3f} s")


def row() -> None:
    """One cell of a table: CLRec on Gowalla for some epochs; a rehearsal has planted data."""
    from recot.record import experiment

    start = time.monotonic()
    if not SMALL and not (Path(os.environ.get("RECOT_DATA", "nowhere")) / "gowalla").is_dir():
        say("row", "clrec", True, start, "not run: RECOT_DATA has no gowalla")
        return
    config, choices = composed("model=clrec", f"data={'planted' if SMALL else 'gowalla'}", f"trainer.device={DEVICE}",
                               f"trainer.max_epochs={1 if SMALL else 20}")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config["paths"] = {"runs": folder, "cache": folder}
        record = experiment.run(config, choices, "python -m recot.run model=clrec data=gowalla")
    found = record.get("metrics", record.get("test", {}))
    say("row", "clrec", record["status"] == "done", start, f"{record['status']}, {json.dumps(found)[:200]}")


def bench() -> None:
    """The rows of ``make bench`` that have a goal, on the CPU of this machine."""
    from recot.bench import steps as benchmarks

    torch.set_num_threads(1 if SMALL else 4)
    train, rounds, start = benchmarks.synthetic().train, 1 if SMALL else 3, time.monotonic()
    rows = itertools.chain(benchmarks.training_rows(train, rounds), benchmarks.baseline_rows(train, rounds),
                           benchmarks.sequence_rows(rounds))
    for line in rows:
        if line.goal:
            say("bench", line.job, SMALL or line.ratio <= float(line.goal.split()[1]), start,
                f"{line.job} {line.ratio:.2f} ({line.goal})")


def work(step: str, names: list[str]) -> None:
    """A step, or the part of it that these presets are."""
    doing = globals()[step]
    if step not in SHARED:
        doing()
    for name in names:
        start = time.monotonic()
        try:
            detail, fine = doing(name), True
        except Exception as error:  # one preset's fault is a line of the table, and the others go on
            detail, fine = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}", False
        say(step, name, fine, start, detail)


def carried_out(step: str, names: list[str], seconds: float) -> tuple[list[dict], str]:
    """What the processes of a step have seen within ``seconds``, and what became of them."""
    shares = [[]]
    if step in SHARED:
        count = min(len(names), 2 if SMALL else 6)
        shares = [names[number::count] for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(number) for number in range(len(shares))]
        running = []
        for share, log in zip(shares, logs, strict=True):
            with open(log, "w") as out, open(f"{log}.errors", "w") as errors:
                running.append(subprocess.Popen([sys.executable, __file__, "--work", step, *share], stdout=out,
                                                stderr=errors, start_new_session=True))
        end, ended = time.monotonic() + seconds, []
        try:
            for process, log in zip(running, logs, strict=True):
                try:
                    if process.wait(max(end - time.monotonic(), 0.1)):
                        ended.append(f"exit {process.returncode}: {Path(f'{log}.errors').read_text()[-300:].strip()}")
                except subprocess.TimeoutExpired:
                    ended.append(f"stopped after {seconds:.0f} s")
        finally:
            for process in running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        lines = [line for log in logs for line in log.read_text().splitlines() if line.startswith('{"step"')]
    return [json.loads(line) for line in lines], "; ".join(sorted(set(ended)))


def table(rows: list[tuple[str, str, float, str]]) -> str:
    """One line per step."""
    cells = [(step, result, f"{seconds:.0f}", " ".join(detail.replace("|", "/").split()))
             for step, result, seconds, detail in rows]
    return "\n".join(["| step | result | seconds | detail |", "|---|---|---:|---|",
                      *(f"| {' | '.join(line)} |" for line in cells)])


def main(minutes: float) -> int:
    """Run the steps and print the table."""
    if DEVICE != "cpu" and not torch.cuda.is_available():
        print("torch sees no card here; DEVICE=cpu rehearses without one", file=sys.stderr)
        return 2
    what = "rehearsal on a CPU, no card" if DEVICE == "cpu" else torch.cuda.get_device_name()
    end, rows, names = time.monotonic() + 60 * minutes, [], presets()
    for step in os.environ.get("STEPS", ",".join(LIMITS)).split(","):
        start = time.monotonic()
        left = end - start
        if left < 5:
            rows.append((step, "not run", 0.0, "no time was left"))
            continue
        seen, ended = carried_out(step, names, min(LIMITS[step], left))
        bad = [f"{line['name']}: {line['detail']}" for line in seen if not line["fine"]]
        expected = len(names) if step in SHARED else max(len(seen), 1)
        good = sum(line["fine"] for line in seen)
        told = [line["detail"] for line in seen if line["fine"] and line["detail"]]
        rows.append((step, f"{good} of {expected}", time.monotonic() - start,
                     "; ".join([*bad, *([ended] if ended else []), *told])))
        print(f"{step}: {rows[-1][1]} in {rows[-1][2]:.0f} s", flush=True)
    text = f"{what}, torch {torch.__version__}, {minutes:g} minutes\n\n{table(rows)}\n"
    print(f"\n{text}")
    if os.environ.get("OUT"):
        Path(os.environ["OUT"], "device.md").write_text(text)
    return int(any(len(set(result.split(" of "))) > 1 or result == "not run" for _, result, _, _ in rows))


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(float(sys.argv[1])))
