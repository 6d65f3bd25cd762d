"""The training pairs that a finished run believes in least: with its model, and with models that had not seen them."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from commands import command, folder_of
from small import briefly

from recot import suspects
from recot.evaluation.known_noise import noise_auc, score_pairs
from recot.fit.gradient import Gradient
from recot.record import crossfit, experiment
from recot.request.compose import composed
from recot.request.errors import RequestError
from recot.restore import restore

LEARNT = ("trainer.max_epochs=40", "trainer.learning_rate=3e-3", "data.n_users=400", "data.mean_activity=20")
IN_DOMAINS = ("data.n_domains=3", "data.mean_activity=20", "protocol=domains", "protocol.split.candidates=20",
              "metrics=[recall@10]")
RUNS = {
    "a network": ("model=bprmf",),
    "transport": ("model=sclrec",),
    "a graph whose pairs were relabelled": ("model=lightgcn", "denoiser=iterative", "denoiser.a=0.5"),
    "an autoencoder that was refitted": ("model=cdae", "protocol=denoise", "denoiser=prorec",
                                         "denoiser.score_map=sigmoid"),
    "a closed form": ("model=itemknn",),
    "a closed form that was relabelled and refitted": ("model=svd", "model.rank=5", "protocol=denoise",
                                                       "denoiser=prorec"),
    "added noise": ("model=bprmf", "noise=add", "noise.ratio=0.2"),
    "users held out whole": ("model=vae", "protocol=strong", "protocol.split.valid=10", "protocol.split.test=10"),
    "users held out whole who train by what is known of them": (
        "model=mf", "protocol=strong", "protocol.split.valid=10", "protocol.split.test=10",
        "model.fold_in=transductive"),
}


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("folds", [0, 2])
def test_every_training_pair_stands_in_the_table_once_in_order(runs, words, folds):
    finished = restore(folder_of(runs, *words))
    frame, pairs = finished.suspects(folds), finished.split.train.unfolded()
    assert len(frame) == len(pairs) and not frame.duplicated(["user", "item"]).any()
    users, items = (torch.from_numpy(np.searchsorted(ids, frame[name])) for name, ids in (
        ("user", finished.dataset.user_ids), ("item", finished.dataset.item_ids)))
    assert pairs.contains(users, items).all()
    assert ("weight" in frame) == (folds == 0 and any(word.startswith("denoiser=") for word in words))
    by = [frame[name] for name in ("weight",) if name in frame] + [-frame["share"].fillna(-1)]
    assert np.lexsort(by[::-1]).tolist() == list(range(len(frame)))
    judged = frame.dropna()
    assert len(judged) and judged["share"].between(0, 1).all()
    np.testing.assert_allclose((judged["rank"] - 1) / (judged["of"] - 1), judged["share"])
    assert frame["noisy"].sum() == pairs.noisy.sum() > 0


def test_without_folds_a_share_follows_the_score_of_the_run_within_each_user(runs):
    finished = restore(folder_of(runs, *RUNS["a network"]))
    pairs = finished.split.train
    scores = pd.DataFrame({"user": pairs.users.numpy(), "item": pairs.items.numpy(), "asked": score_pairs(
        finished.model, pairs).numpy()})
    frame = finished.suspects().merge(scores, "left", ["user", "item"])
    np.testing.assert_allclose(frame["score"], frame["asked"])
    for _, one in frame.groupby("user"):
        ordered = one.sort_values("score", ascending=False)
        assert (ordered["rank"].diff().dropna() >= 0).all()


def test_weights_are_those_that_the_denoiser_left_and_0_where_it_took_a_pair_out(runs):
    for name, least in (("a closed form that was relabelled and refitted", 0.0),
                        ("a graph whose pairs were relabelled", 0.0)):
        folder = folder_of(runs, *RUNS[name])
        left = pd.read_parquet(folder / "pairs.parquet")[["user", "item", "weight"]]
        frame = restore(folder).suspects().merge(left, "left", ["user", "item"], suffixes=("", "_left"))
        np.testing.assert_allclose(frame["weight"], frame["weight_left"].fillna(least))
        assert frame["weight"].nunique() > 1


@pytest.mark.parametrize("model", ["bprmf", "itemknn"])
def test_planted_noise_comes_first_with_and_without_folds(runs, model):
    """Of a tenth that is noise, the first twentieth of the pairs holds four times as much."""
    found = {}
    for folds in (0, 3):
        frame = restore(folder_of(runs, f"model={model}", *LEARNT)).suspects(folds)
        found[folds] = noise_auc(frame["level"], frame["noisy"], frame["user"])["auc"]
        assert frame["noisy"][:len(frame) // 20].mean() > 4 * frame["noisy"].mean()
    assert min(found.values()) > 0.85, found


@pytest.fixture
def fits(monkeypatch):
    """What each fit of a fold was given: a list of (split, epochs)."""
    seen, fit = [], Gradient.fit

    def spied(self, split):
        seen.append((split, self.training.max_epochs))
        return fit(self, split)

    monkeypatch.setattr(Gradient, "fit", spied)
    return seen


def test_each_pair_is_judged_by_the_one_fit_that_was_not_given_it(runs, fits, monkeypatch):
    folder, judged = folder_of(runs, "model=bprmf", "seed=5"), []
    asked = crossfit.of_the_known
    monkeypatch.setattr(crossfit, "of_the_known", lambda model, kept, pairs, taken: judged.append(
        (kept, pairs)) or asked(model, kept, pairs, taken))
    fits.clear()
    finished = restore(folder)
    finished.suspects(4)
    assert [split.train.keys.tolist() for split, _ in fits] == [kept.keys.tolist() for kept, _ in judged]
    whole = finished.split.train.keys
    for kept, pairs in judged:
        assert torch.cat([kept.keys, pairs.keys]).sort().values.equal(whole)
    assert torch.cat([pairs.keys for _, pairs in judged]).sort().values.equal(whole)


@pytest.mark.parametrize("name", ["a network", "a graph whose pairs were relabelled",
                                  "an autoencoder that was refitted"])
def test_folds_are_fitted_as_long_as_was_best_and_see_no_held_out_answer(runs, fits, name):
    folder = folder_of(runs, "seed=6", *RUNS[name])
    record = json.loads((folder / "record.json").read_text())
    fits.clear()
    restore(folder).suspects(2)
    assert {epochs for _, epochs in fits} == {record["best_epoch"]}
    assert all(len(split.valid) == 0 and split.test == () for split, _ in fits)
    rounds = crossfit.best_round(record["rounds"], record["config"]) if "rounds" in record else 0
    assert len(fits) == 2 * (1 + rounds)


def test_a_command_that_was_stopped_goes_on_in_the_fold_it_was_in(runs, fits, monkeypatch):
    folder = folder_of(runs, "model=bprmf", "seed=7")
    undisturbed = restore(folder).suspects(3)
    [place] = folder.glob("folds3-*")
    kept = {file.name: file.read_bytes() for file in place.iterdir()}
    assert set(kept) == {f"fold{number}.pt" for number in range(3)}
    for number in (1, 2):
        (place / f"fold{number}.pt").unlink()
    fits.clear()
    with monkeypatch.context() as patch:
        patch.setattr(crossfit, "of_the_known", stopped)
        with pytest.raises(KeyboardInterrupt):
            restore(folder).suspects(3)
    assert len(fits) == 1 and (place / "fold1" / "fitted.pt").exists()
    steps, train = [], Gradient.train
    monkeypatch.setattr(Gradient, "train", lambda self, step, resume: steps.append(step) or train(self, step, resume))
    pd.testing.assert_frame_equal(restore(folder).suspects(3), undisturbed)
    assert len(steps) == 1  # fold 1 had ended its fit, and fold 2 had not begun
    assert {file.name: file.read_bytes() for file in place.iterdir()} == kept


def stopped(*given):
    raise KeyboardInterrupt


def test_what_folds_left_is_no_part_of_the_run_and_a_run_made_again_has_folds_of_its_own(runs):
    words = ("model=bprmf", "seed=8")
    folder = folder_of(runs, *words)
    restore(folder).suspects(2)
    before = {place.name for place in folder.glob("folds2-*")}
    assert folder_of(runs, *words, "force=true") == folder
    record = json.loads((folder / "record.json").read_text())
    assert not any(name.startswith("fold") for name in record["files"])
    restore(folder).suspects(2)
    assert {place.name for place in folder.glob("folds2-*")} == before  # the same answers, so the same folds
    again = {**record, "digest": "0" * 16}
    assert crossfit.identity(record["config"], record) != crossfit.identity(record["config"], again)


def test_a_damaged_fold_is_named(runs):
    folder = folder_of(runs, "model=bprmf", "seed=9")
    restore(folder).suspects(2)
    [file] = folder.glob("folds2-*/fold1.pt")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"fold1\.pt is damaged.*Delete it"):
        restore(folder).suspects(2)


def test_a_pair_whose_user_has_no_other_is_not_judged_in_folds(runs, tmp_path, caplog):
    table = tmp_path / "pairs.csv"
    random = np.random.default_rng(0)
    pairs = {(f"u{user}", f"i{item}") for user, item in random.integers(0, (30, 20), (250, 2))} | {("one", "i3")}
    table.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in sorted(pairs)))
    config, choices = composed("model=itemknn", "data=csv", f"data.path={table}", "metrics=[recall@10]")
    config["paths"] = {"runs": str(runs), "cache": str(runs)}
    folder = runs / experiment.run(config, choices, "python -m recot.run model=itemknn")["key"]
    frame = restore(folder).suspects(2)
    assert frame["user"].iloc[-1] == "one" and frame["share"].isna().sum() == 1 and "noisy" not in frame
    caplog.set_level("INFO")
    suspects.tell_noise(frame, 5)
    assert "1 of them have nothing to be compared with and come last" in caplog.text and "noise" not in caplog.text


def of_domains(runs, *words):
    return folder_of(runs, *words, *IN_DOMAINS, *briefly(words[0].removeprefix("model="), dim=16, max_epochs=2,
                                                         batch_size=64, steps=2))


@pytest.mark.parametrize("words", [("model=bprmf", "domains=each"), ("model=herograph",),
                                   ("model=uclr", "model.rank=4"), ("model=mean_user",)], ids=" ".join)
def test_in_data_with_domains_a_pair_stands_among_the_items_of_its_domain(runs, words):
    finished = restore(of_domains(runs, *words))
    frame, taken = finished.suspects(), finished.taken().to_lists()
    domains = finished.split.train.domains
    for row in frame[:50].itertuples():
        [domain] = [one for one in domains if one.start <= row.item < one.stop]
        assert row.of == 1 + sum(item not in taken[row.user] for item in range(domain.start, domain.stop))


def test_folds_of_stages_repeat_each_stage_as_long_as_was_best(runs, fits):
    folder = of_domains(runs, "model=pge_ae", "domains=joint")
    record = json.loads((folder / "record.json").read_text())
    fits.clear()
    assert restore(folder).suspects(2)["share"].notna().any()
    wanted = [found["best_epoch"] for name, found in record["stages"].items() if "/" not in name]
    assert [epochs for _, epochs in fits] == wanted * 2


def test_what_cannot_be_judged_is_refused_with_what_would_work(runs, tmp_path):
    with pytest.raises(RequestError, match="reads histories in order: .* use a run of a model that reads histories as "
                                           "sets, such as model=bprmf or model=itemknn"):
        restore(folder_of(runs, "model=sasrec", "protocol=sequence")).suspects()
    with pytest.raises(RequestError, match="fitted each domain by itself .domains=each.* leave --folds out"):
        restore(of_domains(runs, "model=bprmf", "domains=each")).suspects(2)
    finished = restore(folder_of(runs, "model=bprmf"))
    with pytest.raises(RequestError, match="--folds 1 leaves nothing to train on; give 2 or more"):
        finished.suspects(1)
    with pytest.raises(RequestError, match="no fit to repeat; leave --folds out"):
        crossfit.as_chosen(finished.config, {**finished.record, "best_epoch": 0})


@pytest.mark.parametrize(("words", "said"), [
    (["nowhere"], "nowhere holds no record.json"), (["nowhere", "--out", "pairs.txt"], "is neither .csv nor .parquet"),
    (["nowhere", "--k", "0"], "--k 0 shows nothing; give 1 or more"),
    (["nowhere", "--folds", "1"], "--folds 1 leaves nothing to train on; give 2 or more, or leave it out"),
    (["nowhere", "--folds", "-3"], "--folds -3 leaves nothing to train on"),
    (["nowhere", "--users", ""], "--users names nobody; leave it out for all users"),
    (["nowhere", "--spreadsheet", "--out", "x.parquet"], "leave --spreadsheet out")])
def test_a_wrong_request_is_refused_before_anything_is_read(tmp_path, words, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=said):
        suspects.answer(suspects.arguments().parse_intermixed_args(words))


def test_the_command_prints_the_first_and_writes_all(runs, tmp_path):
    folder = folder_of(runs, "model=itemknn")
    expected = restore(folder).suspects()
    shown = command(tmp_path, "recot.suspects", folder.name, "--k", "3", RECOT_RUNS=str(runs))
    assert shown.returncode == 0, shown.stderr
    columns = ["user", "item", "share", "rank", "of", "margin", "score", "noisy"]
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(shown.stdout)), expected[columns][:3], check_dtype=False)
    areas = noise_auc(expected["level"], expected["noisy"], expected["user"])
    assert f"AUC {areas['auc']:.3f} (within users {areas['auc_user']:.3f})" in shown.stderr
    file, asked = tmp_path / "pairs.parquet", expected["user"].unique()[:2]
    written = command(tmp_path, "recot.suspects", str(folder), "--users", ",".join(map(str, asked)), "--out", str(file))
    assert written.returncode == 0 and written.stdout == "", written.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(file), expected[expected["user"].isin(asked)][columns].reset_index(
        drop=True))


def test_a_spreadsheet_gets_an_apostrophe(runs, tmp_path, monkeypatch):
    class Found:
        dataset = None

        def suspects(self, folds):
            return pd.DataFrame({"user": ["=1+1", "a"], "item": ["@x", "b"], "share": [1.0, 0.5], "level": [0, 1]})

    monkeypatch.setattr("recot.restore.restore", lambda folder, words: Found())
    out = tmp_path / "pairs.csv"
    for words, wanted in (([], ["=1+1", "@x"]), (["--spreadsheet"], ["'=1+1", "'@x"])):
        suspects.answer(suspects.arguments().parse_args([str(tmp_path), "--out", str(out), *words]))
        assert pd.read_csv(out).iloc[0, :2].tolist() == wanted


def test_the_best_round_is_that_of_validation_or_the_last_of_a_refit():
    config = {"protocol": {"monitor": "ndcg@5"}}
    told = [{"round": 0, "ndcg@5": 0.9}, {"round": 1, "ndcg@5": 0.2}, {"round": 2, "ndcg@5": 0.5},
            {"round": 3, "ndcg@5": 0.5}]
    assert crossfit.best_round(told, config) == 2
    assert crossfit.best_round([{"round": 0}, {"round": 1}], config) == 1
