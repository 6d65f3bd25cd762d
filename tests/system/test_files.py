"""A file is whole or as it was, follows no link, and says whether it is what was written."""

import fcntl
import io

import pytest

from recot.system import files


def test_a_file_holds_what_was_written(tmp_path):
    files.write_whole(tmp_path / "a", b"one")
    files.write_whole(tmp_path / "a", lambda stream: stream.write(b"two"))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write_whole(tmp_path / "a", b"old")

    def broken(stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_whole(tmp_path / "a", broken)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_told_with_the_file(tmp_path, hidden):
    def full(stream):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            if not hidden:
                raise
            raise RuntimeError("unexpected pos 704 vs 598")  # as torch.save does  # noqa: B904

    with pytest.raises(OSError, match="No space left on device: .*/a'$"):
        files.write_whole(tmp_path / "a", full)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_writer_is_told_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="of its own"):
        files.write_whole(tmp_path / "a", lambda stream: exec("raise RuntimeError('of its own')"))


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    files.write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert not (tmp_path / "a").is_symlink() and (tmp_path / "a").read_bytes() == b"new"


def test_a_sweep_removes_what_the_dead_left_and_spares_the_living(tmp_path):
    (tmp_path / "dead.1.part").write_bytes(b"half")
    living = (tmp_path / "living.2.part").open("wb")
    fcntl.flock(living, fcntl.LOCK_EX)
    (tmp_path / "link.3.part").symlink_to(tmp_path / "kept")
    (tmp_path / "kept").write_bytes(b"kept")
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"living.2.part", "link.3.part", "kept"}
    living.close()


def test_a_sealed_file_is_read_as_it_was_written(tmp_path):
    files.write_sealed(tmp_path / "a", lambda stream: stream.write(b"line\nline"))
    assert files.read_sealed(tmp_path / "a").read() == b"line\nline"


def test_any_flipped_bit_of_a_sealed_file_is_found(tmp_path):
    files.write_sealed(tmp_path / "a", lambda stream: stream.write(bytes(range(64))))
    whole = (tmp_path / "a").read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        (tmp_path / "a").write_bytes(broken)
        with pytest.raises(ValueError, match="damaged|not written by recot"):
            files.read_sealed(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"recot-sealed sha256=00\nx"])
def test_a_foreign_or_short_file_is_no_sealed_one(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="damaged|not written by recot"):
        files.read_sealed(tmp_path / "a")


def test_what_is_sealed_may_be_large(tmp_path):
    files.write_sealed(tmp_path / "a", lambda stream: stream.write(b"\n" * 2**20))
    assert isinstance(content := files.read_sealed(tmp_path / "a"), io.BytesIO) and len(content.read()) == 2**20
