"""A request in the sweep grammar, as the sampler sees it."""

from recot.tuning.space import Space

LOG = "trainer.learning_rate=tag(log,interval(1e-4,1e-1))"


def test_the_sweep_grammar_says_what_is_tuned():
    space = Space(["model=clrec", "~tuned", "loss.tau=0.1,0.2,0.1", "loss.duplicates=choice(none,mask)",
                        "model.dim=range(16,65,16)", LOG, "loss.batch_size=int(interval(2,5))", "metrics=[hr@5,mrr]"])
    assert list(space.sweeps) == ["loss.tau", "loss.duplicates", "model.dim", "trainer.learning_rate",
                                  "loss.batch_size"]
    assert space.values == {"loss.tau": ["0.1", "0.2"], "loss.duplicates": ["none", "mask"],
                            "model.dim": ["16", "32", "48", "64"], "trainer.learning_rate": None,
                            "loss.batch_size": range(2, 6)}
    drawn = space.distributions()
    rate, batch = drawn["trainer.learning_rate"], drawn["loss.batch_size"]
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-1, True)
    assert (batch.low, batch.high, batch.log) == (2, 5, False)
    assert drawn["loss.tau"].choices == ("0.1", "0.2")
    chosen = dict(zip(space.sweeps, ("0.2", "mask", "48", 0.003, 4), strict=True))
    assert space.words(chosen) == ["model=clrec", "loss.tau=0.2", "loss.duplicates=mask", "model.dim=48",
                                   "trainer.learning_rate=0.003", "loss.batch_size=4", "metrics=[hr@5,mrr]"]
    assert space.size == float("inf") and Space(["loss.tau=1,2,3", "model.dim=range(4)"]).size == 12


def test_every_listed_value_and_both_ends_are_checked_beforehand():
    edges = list(Space(["loss.tau=1,2,3", "model.dim=range(1,50)", LOG]).edges())
    assert {edge["loss.tau"] for edge in edges} == {"1", "2", "3"}
    assert {edge["model.dim"] for edge in edges} == {"1", "49"}
    assert {edge["trainer.learning_rate"] for edge in edges} == {1e-4, 1e-1}
    groups = [(edge["model"], edge["denoiser"]) for edge in Space(["model=a,b", "denoiser=c,d"]).edges()]
    assert groups == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
