"""Records of runs that nobody made, with values of a few users, through the store of recot itself."""

import pandas as pd

from recot.record.store import Runs

CONFIG = {"model": {"_target_": "recot.networks.factorisation.Tables", "dim": 64}, "loss": {"tau": 0.1},
          "data": {"_target_": "recot.data.planted.Planted"}, "protocol": {"monitor": "ndcg@20"}, "stages": {}}


def leave(root, number, values, seed=0, *, model="clrec", users=None, config=None, **changes):
    """A finished run whose users have these values of ndcg@20, and half of each as recall@20; returns its key."""
    key = f"{number:016x}"
    frame = pd.DataFrame({"user": users or [f"u{place}" for place in range(len(values))], "activity": 1,
                          "ndcg@20": values, "recall@20": [value / 2 for value in values]})
    means = {metric: float(frame[metric].mean()) for metric in ("recall@20", "ndcg@20")}
    record = {"key": key, "status": "done", "data": "planted", "model": model, "loss": "infonce", "denoiser": "none",
              "protocol": "topk", "noise": "none", "seed": seed, "config": {**CONFIG, **(config or {}), "seed": seed},
              "command": f"python -m recot.run model={model} seed={seed} force=true", "valid": means, "test": means,
              "floor": {"valid": means, "test": means}, "split": "5" * 16, "epochs": 10 + seed, "seconds": 2.0 + seed,
              "peak_memory_mb": 500 + seed, "sources": "0" * 16, "finished": f"2026-01-01T00:00:{number:02}Z",
              **changes}
    runs = Runs(root)
    with runs.lock(key), runs.draft(key) as new:
        frame.to_parquet(new / "test.parquet", index=False)
        runs.publish(key, record)
        runs.settle(key)
    return key
