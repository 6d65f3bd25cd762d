"""What a command imports: Lightning, which costs as much as all else, where a network is trained and nowhere else."""

from commands import TINY, python, typed

HEAVY = {"lightning", "torchmetrics", "torch._dynamo", "sympy", "matplotlib"}

SEVERAL = """
import runpy, shlex, sys
for line in sys.argv[1:]:
    sys.argv = shlex.split(line)
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, line
    print("after", *sys.modules, file=sys.stderr)
"""
"""Commands in one interpreter, which says after each of them what is imported."""


def test_only_training_imports_lightning(tmp_path):
    words = (*TINY, "data=planted_clicks", "trainer.max_epochs=1")
    trained = typed(tmp_path, *words, "model=bprmf")
    assert trained.returncode == 0, trained.stderr
    [network] = (tmp_path / "runs").glob("*/weights.pt")
    run = network.parent
    line = f"recot.run {' '.join(words)}"
    asking = [f"{line} model=bprmf", f"{line} -m model=itemknn,popularity,ease", f"recot.recommend {run} --k 3",
              f"recot.suspects {run}", "recot.compare --last"]
    done = python(tmp_path, "-c", SEVERAL, *asking, f"{line} model=bprmf seed=1")
    assert done.returncode == 0, done.stderr
    *idle, training = [{*line.split()} for line in done.stderr.splitlines() if line.startswith("after ")]
    assert len(idle) == len(asking) and "torch" in idle[0] and training > HEAVY - {"matplotlib"}
    for line, imported in zip(asking, idle, strict=True):
        assert not HEAVY & imported, line
    assert "finished before" in done.stdout and len([*(tmp_path / "runs").glob("*/record.json")]) == 5
