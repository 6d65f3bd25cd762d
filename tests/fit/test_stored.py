"""What training left on the disk is what it wrote, or it is refused in a sentence and nothing in it is run."""

import os
import pickle
import random
import shutil
import tempfile
from functools import partial

import pytest
import torch
from fitting import QUICK, gradient, interrupted, small_split, weights

from recot.denoise.base import Denoiser
from recot.fit.epochs import EpochEnd
from recot.fit.gradient import Gradient
from recot.networks.factorisation import Tables
from recot.objectives.pairs import BPR
from recot.request.errors import RequestError
from recot.system.files import read_sealed, write_sealed


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def wider(training=QUICK, **given):
    return Gradient(partial(Tables, dim=9), BPR(64), Denoiser(), training, **given)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A folder with both files that a fit may go on from, and one of those of a wider network."""
    own, other = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("other")
    interrupted(own)
    ended = tmp_path_factory.mktemp("ended")
    gradient(folder=ended).fit(small_split())
    (ended / "fitted.pt").rename(own / "fitted.pt")
    wider(folder=other).fit(small_split())
    return own, other


def state_of(file):
    return torch.load(read_sealed(file), weights_only=True)


def changed(file, change):
    """A file whose seal is right and whose content is not what a fit writes."""
    state = state_of(file)
    put = change(state)
    write_sealed(file, partial(torch.save, state if put is None else put))


def poisoned(state):
    best = state["best_weights"] if "best_weights" in state else state["state_dict"]
    best[next(name for name in best if name.endswith("user_table.weight"))][3, 2] = torch.nan


def integers(state):
    best = state["best_weights"] if "best_weights" in state else state["state_dict"]
    name = next(name for name in best if name.endswith("user_table.weight"))
    best[name] = best[name].long()


DAMAGE = {
    "truncated": lambda file, other: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file, other: file.write_bytes(b""),
    "garbage": lambda file, other: file.write_bytes(b"\x00garbage" * 99),
    "a folder": lambda file, other: (file.unlink(), file.mkdir()),
    "of torch": lambda file, other: torch.save(state_of(file), file),
    "a pickle": lambda file, other: file.write_bytes(pickle.dumps(Bomb(file.parent / "ran"))),
    "a sealed pickle": lambda file, other: write_sealed(file, partial(pickle.dump, Bomb(file.parent / "ran"))),
    "sealed code": lambda file, other: changed(file, lambda state: {**state, "more": Bomb(file.parent / "ran")}),
    "sealed garbage": lambda file, other: write_sealed(file, lambda stream: stream.write(b"x" * 999)),
    "a list": lambda file, other: changed(file, lambda state: [state]),
    "a tensor": lambda file, other: changed(file, lambda state: torch.zeros(3)),
    "of another network": lambda file, other: shutil.copy(other / "fitted.pt", file) if file.name == "fitted.pt" else (
        changed(file, lambda state: state["state_dict"].update({"network.user_table.weight": torch.zeros(40, 9)}))),
    "NaN": lambda file, other: changed(file, poisoned),
    "integers": lambda file, other: changed(file, integers),
    "no history": lambda file, other: changed(file, lambda state: {
        name: value for name, value in state.items() if name not in ("history", "callbacks")}),
}


@pytest.mark.parametrize("name", ["last.ckpt", "fitted.pt"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_not_what_was_written_is_refused_with_its_name_and_the_remedy(left, tmp_path, name, damage):
    own, other = left
    file = shutil.copy(own / name, tmp_path / name)
    damage(file, other)
    with pytest.raises(ValueError, match="Delete it, and the same command starts this run from the beginning") as told:
        gradient(folder=tmp_path).fit(small_split())
    assert str(file) in str(told.value) and "\n" not in str(told.value) and "nothing in it was run" in str(told.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("part", "instead"), [
    *((part, None) for part in ("state_dict", "optimizer_states", "loops", "callbacks", "sampler", "torch", "cuda",
                                "device")), ("state_dict", {}), ("optimizer_states", []), ("callbacks", {})])
def test_a_checkpoint_without_one_of_its_parts_is_refused(left, tmp_path, part, instead):
    file = shutil.copy(left[0] / "last.ckpt", tmp_path / "last.ckpt")

    def without(state):
        del state[part]
        return state if instead is None else state | {part: instead}

    changed(file, without)
    with pytest.raises(ValueError, match="Delete it, and the same command"):
        gradient(folder=tmp_path).fit(small_split())


@pytest.mark.parametrize("name", ["last.ckpt", "fitted.pt"])
def test_any_flipped_bit_is_noticed(left, tmp_path, name):
    whole, rng = bytearray((left[0] / name).read_bytes()), random.Random(1)
    for place in [*range(0, 90, 9), *rng.sample(range(len(whole)), 20)]:
        flipped = whole.copy()
        flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / name).write_bytes(flipped)
        with pytest.raises(ValueError, match="Delete it, and the same command"):
            gradient(folder=tmp_path).fit(small_split())


def test_both_files_as_they_were_written_are_gone_on_from(left, tmp_path):
    whole = weights(gradient().fit(small_split()))
    for name in ("last.ckpt", "fitted.pt"):
        shutil.copy(left[0] / name, tmp_path / name)
        told = weights(gradient(folder=tmp_path).fit(small_split()))
        assert all(tensor.equal(told[name]) for name, tensor in whole.items())


def test_a_fit_that_ended_does_not_ask_what_it_went_on_from(left, tmp_path):
    shutil.copy(left[0] / "fitted.pt", tmp_path / "fitted.pt")
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert gradient(folder=tmp_path).fit(small_split()).best_epoch > 0


def test_a_checkpoint_of_another_device_is_left_alone_with_a_warning(left, tmp_path, caplog):
    file = shutil.copy(left[0] / "last.ckpt", tmp_path / "last.ckpt")
    changed(file, lambda state: {**state, "device": "cuda"})
    told = weights(gradient(folder=tmp_path).fit(small_split()))
    [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert str(file) in line and "cuda" in line and "cpu" in line and "begins anew" in line
    assert all(tensor.equal(told[name]) for name, tensor in weights(gradient().fit(small_split())).items())


def test_nothing_is_written_outside_the_folder(tmp_path, monkeypatch):
    """Lightning would write a checkpoint into the temporary files of the system first."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    (tmp_path / "run").mkdir()
    gradient(folder=tmp_path / "run").fit(small_split())
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"last.ckpt", "fitted.pt"}


SPOILED = {
    "missing": lambda file, state: file.unlink(),
    "empty": lambda file, state: file.write_bytes(b""),
    "truncated": lambda file, state: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file, state: file.write_bytes(b"\x00garbage" * 99),
    "a folder": lambda file, state: (file.unlink(), file.mkdir()),
    "a pickle": lambda file, state: file.write_bytes(pickle.dumps(Bomb(file.parent / "ran"))),
    "code": lambda file, state: torch.save({**state, "more": Bomb(file.parent / "ran")}, file),
    "a list": lambda file, state: torch.save([state], file),
    "a tensor": lambda file, state: torch.save(torch.zeros(3), file),
    "nothing": lambda file, state: torch.save({}, file),
    "other names": lambda file, state: torch.save({**state, "more": torch.zeros(1)}, file),
    "numbers as names": lambda file, state: torch.save(dict(enumerate(state.values())), file),
    "other shapes": lambda file, state: torch.save({name: tensor[:-1] for name, tensor in state.items()}, file),
    "lists": lambda file, state: torch.save({name: tensor.tolist() for name, tensor in state.items()}, file),
    "integers": lambda file, state: torch.save({name: tensor.long() for name, tensor in state.items()}, file),
    "doubles": lambda file, state: torch.save({name: tensor.double() for name, tensor in state.items()}, file),
    "sparse": lambda file, state: torch.save({name: tensor.to_sparse() for name, tensor in state.items()}, file),
    "no numbers": lambda file, state: torch.save({name: tensor.to("meta") for name, tensor in state.items()}, file),
    "NaN": lambda file, state: torch.save({name: tensor / 0 * 0 for name, tensor in state.items()}, file),
}


@pytest.fixture(scope="module")
def fitted():
    return gradient().fit(small_split())


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_weights_that_are_not_those_of_this_network_are_refused_with_the_remedy(fitted, tmp_path, spoil):
    file = tmp_path / "weights.pt"
    fitted.save(file)
    spoil(file, fitted.network.state_dict())
    with pytest.raises(RequestError, match="; the command of its run with force=true makes it again") as told:
        gradient().load(file, small_split().train)
    assert str(file) in str(told.value) and "\n" not in str(told.value) and "weights_only" not in str(told.value)
    assert not (tmp_path / "ran").exists()


def test_weights_are_replaced_whole_or_not_at_all(fitted, tmp_path, monkeypatch):
    file = tmp_path / "weights.pt"
    fitted.save(file)
    before = file.read_bytes()

    def full(state, stream):
        stream.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_all_that_selection_knows_is_kept():
    """A field that a checkpoint lacks would start anew after an interruption."""
    selection = EpochEnd(None, "ndcg@20", QUICK, None, print)
    assert {*vars(selection)} - {*EpochEnd.STATE} == {"validate", "monitor", "training", "file", "observe", "clock",
                                                     "saved"}
