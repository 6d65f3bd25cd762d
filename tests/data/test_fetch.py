"""Raw files: found, downloaded once, checked, and never half there. A server on this machine stands for the network."""

import bz2
import gzip
import hashlib
import io
import lzma
import multiprocessing
import os
import stat
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from commands import PATIENCE

from recot.data import fetch
from recot.data.fetch import RawFiles, content_sha256, locate

TEXT = b"0 1 2\n1 2 3\n" * 200


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; .short breaks off, .slow waits for ever in the middle of the file."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if not self.path.endswith((".short", ".slow")):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"1 2 3\n" * 100)
        self.wfile.flush()
        if self.path.endswith(".slow"):
            self.server.halfway.set()
            self.server.closing.wait(PATIENCE)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    server.folder, server.requests, server.url = folder, [], f"http://127.0.0.1:{server.server_port}"
    server.halfway, server.closing = threading.Event(), threading.Event()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def without_data_root(monkeypatch):
    monkeypatch.delenv("RECOT_DATA", raising=False)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
                  and path.suffix != ".lock" and "digests" not in path.parts)


@pytest.mark.parametrize("folder", ["plain", "with space", "donn\u00e9es \u6570\u636e"])
def test_a_file_is_found_plain_and_compressed_with_the_same_digest(tmp_path, folder):
    root, cache = tmp_path / folder, tmp_path / f"{folder} cache"
    (root / "set").mkdir(parents=True)
    (root / "set/a.txt").write_bytes(TEXT)
    raw = RawFiles("set", {"a.txt": sha256(TEXT)})
    [plain] = locate(raw, str(root), cache)
    assert content_sha256(plain, cache) == sha256(TEXT)
    plain.unlink()
    (root / "set/a.txt.gz").write_bytes(gzip.compress(TEXT))
    [packed] = locate(raw, str(root), cache)
    assert packed.name == "a.txt.gz"
    assert content_sha256(packed, cache) == sha256(TEXT)


def test_the_data_root_may_come_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.txt").write_bytes(TEXT)
    monkeypatch.setenv("RECOT_DATA", str(tmp_path))
    assert locate(RawFiles("set", {"a.txt": None}), None, tmp_path / "cache") == [tmp_path / "set/a.txt"]


def test_the_digest_of_a_large_file_is_remembered_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SMALL", 1)
    monkeypatch.setattr(fetch, "SETTLED", -1)
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_bytes(TEXT)
    content_sha256(path, cache)
    [memory] = (cache / "digests").iterdir()
    memory.write_text("0" * 64)
    assert content_sha256(path, cache) == "0" * 64                    # not read again
    memory.write_text("0" * 30)                                       # half-written
    assert content_sha256(path, cache) == sha256(TEXT)
    path.write_bytes(TEXT + b"2 3\n")
    assert content_sha256(path, cache) == sha256(TEXT + b"2 3\n")


REPLACED = {
    "written over": lambda path, other: path.write_bytes(other.read_bytes()),
    "moved over": lambda path, other: other.replace(path),
    "linked": lambda path, other: (path.unlink(), path.symlink_to(other)),
}


@pytest.mark.parametrize("small", [1, fetch.SMALL], ids=["large files", "small files"])
@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
def test_new_content_of_equal_size_and_time_has_its_own_digest(tmp_path, monkeypatch, replace, small):
    monkeypatch.setattr(fetch, "SMALL", small)
    monkeypatch.setattr(fetch, "SETTLED", -1)
    path, other, cache = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "cache"
    path.write_bytes(b"1 2\n")
    other.write_bytes(b"1 3\n")
    for file in (path, other):
        os.utime(file, (10**9, 10**9))
    assert content_sha256(path, cache) == sha256(b"1 2\n")
    time.sleep(0.02)  # a file system counts in steps of some milliseconds
    replace(path, other)
    os.utime(path, (10**9, 10**9))
    assert content_sha256(path, cache) == sha256(b"1 3\n")


def test_a_digest_is_kept_only_of_a_file_that_cannot_change_within_one_tick(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SMALL", 1)
    (tmp_path / "a.txt").write_bytes(TEXT)
    content_sha256(tmp_path / "a.txt", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_memory_of_digests_that_cannot_be_written_is_said_and_not_missed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fetch, "SMALL", 1)
    monkeypatch.setattr(fetch, "SETTLED", -1)
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "cache").write_text("a file")
    with caplog.at_level("INFO"):
        assert content_sha256(tmp_path / "a.txt", tmp_path / "cache") == sha256(TEXT)
    assert "so " in caplog.text and "name another cache with RECOT_CACHE or paths.cache" in caplog.text


def zipped(content, *names):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for name in names:
            members.writestr(name, content)
    return archive.getvalue()


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {"gz": gzip.compress, "two gz": lambda text: gzip.compress(text[:4]) + gzip.compress(text[4:]),
           "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd, "zip": lambda text: zipped(text, "in/a.csv"),
           "zip of a Mac": lambda text: zipped(text, "a.csv", "__MACOSX/._a.csv"), "plain": bytes}


@pytest.mark.parametrize("name", ["a.csv", "A.CSV.PACKED"])
@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_packed_files_are_told_by_their_first_bytes(tmp_path, pack, name):
    path = tmp_path / name
    path.write_bytes(pack(TEXT * 50))
    assert fetch.uncompressed(path) == TEXT * 50
    assert content_sha256(path, tmp_path / "cache") == sha256(TEXT * 50)


@pytest.mark.parametrize("read", [fetch.uncompressed, lambda path: content_sha256(path, path.parent / "cache")])
@pytest.mark.parametrize("pack", [PACKERS[name] for name in ("gz", "bz2", "xz", "zst", "zip")])
def test_damaged_packed_files_are_named(tmp_path, pack, read):
    path, whole = tmp_path / "a.csv", pack(bytes(range(256)) * 40)
    half = len(whole) // 2
    for damaged in (whole[:-12], *[whole[:half] + b"?" * 9 + whole[half + 9:]] * (pack is not zstd)):  # has no checksum
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.csv is damaged .*; get it again"):
            read(path)


@pytest.mark.parametrize(("names", "message"), [
    (("a", "b"), "is a .zip of 2 files, expected one; unpack it"),
    (("[Content_Types].xml", "xl/workbook.xml"), "is a spreadsheet; save its table as .csv"),
    (("mimetype", "content.xml"), "is a spreadsheet; save its table as .csv")])
def test_a_zip_of_another_number_of_files_is_refused(tmp_path, names, message):
    (tmp_path / "a.zip").write_bytes(zipped(TEXT, *names))
    with pytest.raises(ValueError, match=message):
        fetch.uncompressed(tmp_path / "a.zip")


def test_a_damaged_gz_is_named(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(TEXT)[:-12])
    with pytest.raises(ValueError, match=r"a\.txt\.gz is damaged .*; get it again"):
        content_sha256(path, tmp_path / "cache")


def test_a_missing_data_root_names_what_moves_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; set RECOT_DATA or data.root"):
        locate(RawFiles("set", {"a.txt": None}), str(tmp_path / "nowhere"), tmp_path / "cache")


def test_a_cache_that_cannot_be_made_names_what_moves_it(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="cannot be made .*name another place with RECOT_CACHE or paths.cache"):
        fetch.writable(tmp_path / "taken" / "cache")


def test_a_file_that_cannot_be_downloaded_says_where_to_get_and_put_it(tmp_path):
    raw = RawFiles("tmall", {"log.csv": "ab12"}, manual="Get it from the shop.")
    place = tmp_path / "tmall"
    with pytest.raises(FileNotFoundError, match=rf"tmall/log.csv is missing.*Get it from the shop\. Put log.csv "
                                                rf"\(sha256 ab12\) into {place}, or .*RECOT_DATA or data.root"):
        locate(raw, str(tmp_path), tmp_path / "cache")


def test_another_file_of_the_same_name_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.txt").write_bytes(TEXT)
    raw = RawFiles("set", {"a.txt": "ab12"}, url="http://127.0.0.1:9/set")
    with pytest.raises(ValueError, match=rf"another file than the expected a\.txt: its content has sha256 "
                                         rf"{sha256(TEXT)}\. Remove it\. Get it from http.* Put a\.txt \(sha256 ab"):
        locate(raw, str(tmp_path), tmp_path / "cache")
    with pytest.raises(ValueError, match=r"Remove it\. Get another copy\. Put a\.txt"):
        locate(RawFiles("set", {"a.txt": "ab12"}), str(tmp_path), tmp_path / "cache")


def test_missing_files_are_downloaded_once_and_the_data_root_is_left_alone(tmp_path, server):
    for name in ("a.txt", "b.txt"):
        (server.folder / name).write_bytes(TEXT + name.encode())
    (tmp_path / "root/set").mkdir(parents=True)
    (tmp_path / "root/set/b.txt").write_bytes(TEXT + b"b.txt")
    raw = RawFiles("set", {"a.txt": sha256(TEXT + b"a.txt"), "b.txt": None}, url=server.url)
    for _ in range(2):
        paths = locate(raw, str(tmp_path / "root"), tmp_path / "cache")
    assert paths == [tmp_path / "cache/raw/set/a.txt", tmp_path / "root/set/b.txt"]
    assert paths[0].read_bytes() == TEXT + b"a.txt"
    assert server.requests == ["/a.txt"]
    assert files_below(tmp_path / "root") == ["set/b.txt"]


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members:
            out.writestr(name, content)
    return sha256(path.read_bytes())


def test_the_wanted_members_of_an_archive_are_extracted(tmp_path, server):
    found = archive(server.folder / "set.zip", [("ml/README", b"read me"), ("ml/a.txt", TEXT)])
    raw = RawFiles("set", {"a.txt": sha256(TEXT)}, url=f"{server.url}/set.zip", archive_sha256=found)
    [path] = locate(raw, None, tmp_path / "cache")
    assert path.read_bytes() == TEXT
    assert files_below(tmp_path / "cache") == ["raw/set/a.txt"]


def member(name, kind=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


@pytest.mark.parametrize(("bad", "content", "reason"), [
    (member("ml/../../escaped.txt"), b"x", "leaves its folder"),
    (member("ml\\..\\escaped.txt"), b"x", "leaves its folder"),
    (member("/etc/escaped.txt"), b"x", "has an absolute path"),
    (member("C:/escaped.txt"), b"x", "has an absolute path"),
    (member("ml/link", stat.S_IFLNK), b"/etc/passwd", "is a link or a device"),
    (member("ml/device", stat.S_IFCHR), b"", "is a link or a device"),
    ("ml/bomb.txt", b"0" * 10**6, r"expands [\d,]+ bytes to 1,000,000, more than 200 times"),
], ids=["up", "up with backslashes", "absolute", "drive", "link", "device", "bomb"])
def test_row_4_an_unsafe_archive_is_refused_and_leaves_nothing(tmp_path, server, bad, content, reason):
    archive(server.folder / "set.zip", [("ml/a.txt", TEXT), (bad, content)])
    raw = RawFiles("set", {"a.txt": None}, url=f"{server.url}/set.zip")
    with pytest.raises(ValueError, match=rf"set\.zip is refused: its member .* {reason}\. Nothing was extracted\. Get"):
        locate(raw, None, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("escaped.txt"))


def test_row_4_an_archive_that_is_too_large_in_all_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 3000)
    archive(server.folder / "set.zip", [("a.txt", TEXT), ("b.txt", TEXT)])
    with pytest.raises(ValueError, match="refused: it expands to 4,800 bytes, more than 3,000. Nothing was extracted"):
        locate(RawFiles("set", {"a.txt": None}, url=f"{server.url}/set.zip"), None, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_an_archive_with_another_file_of_that_name_is_refused(tmp_path, server):
    archive(server.folder / "set.zip", [("a.txt", TEXT)])
    raw = RawFiles("set", {"a.txt": "ab12"}, url=f"{server.url}/set.zip")
    with pytest.raises(ValueError, match="holds another a.txt than expected, with sha256 .*Nothing was extracted. Get"):
        locate(raw, None, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_an_archive_without_the_file_or_that_is_none_is_refused(tmp_path, server):
    archive(server.folder / "set.zip", [("b.txt", TEXT)])
    raw = RawFiles("set", {"a.txt": None}, url=f"{server.url}/set.zip")
    with pytest.raises(ValueError, match="holds 0 files called a.txt, expected one. Nothing was extracted. Get"):
        locate(raw, None, tmp_path / "cache")
    (server.folder / "set.zip").write_bytes((server.folder / "set.zip").read_bytes()[:-30])
    with pytest.raises(ValueError, match="an archive that cannot be read .* Nothing was extracted. Get"):
        locate(raw, None, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def refused(error, match, tmp_path, raw):
    remedy = rf".*Expected sha256 .*Put .* into {tmp_path / 'cache/raw/set'}, or name another data root with RECOT_DATA"
    with pytest.raises(error, match=match + remedy):
        locate(raw, None, tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_a_wrong_or_broken_download_is_refused_and_leaves_nothing(tmp_path, server):
    (server.folder / "a.txt").write_bytes(TEXT)
    (server.folder / "page.txt").write_bytes(b"\n <!DOCTYPE html><html>Please log in</html>")
    refused(ValueError, f"/a.txt served a file with sha256 {sha256(TEXT)}", tmp_path,
            RawFiles("set", {"a.txt": "ab12"}, url=server.url))
    refused(ValueError, "/page.txt served a web page in place of the file", tmp_path,
            RawFiles("set", {"page.txt": None}, url=server.url))
    refused(ConnectionError, r"/no.txt could not be downloaded \(404", tmp_path,
            RawFiles("set", {"no.txt": None}, url=server.url))
    refused(ConnectionError, r"/a.short could not be downloaded \(.*[Ii]ncomplete", tmp_path,
            RawFiles("set", {"a.short": None}, url=server.url))
    refused(ConnectionError, "could not be downloaded", tmp_path,
            RawFiles("set", {"a.txt": None}, url="http://127.0.0.1:9"))


def locate_in_child(raw, cache, results):
    [path] = locate(raw, None, cache)
    results.put(content_sha256(path, cache))


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recot.data.prepare", "hydra", "pytest"])
    return context


def test_row_6_eight_processes_download_once(tmp_path, server, processes):
    (server.folder / "a.txt").write_bytes(TEXT)
    results = processes.Queue()
    arguments = (RawFiles("set", {"a.txt": sha256(TEXT)}, url=server.url), tmp_path / "cache", results)
    children = [processes.Process(target=locate_in_child, args=arguments) for _ in range(8)]
    for child in children:
        child.start()
    assert [results.get(timeout=PATIENCE) for _ in children] == [sha256(TEXT)] * 8
    for child in children:
        child.join()
    assert server.requests == ["/a.txt"]


def test_a_download_killed_halfway_is_started_again(tmp_path, server, processes):
    cache = tmp_path / "cache"
    slow = RawFiles("set", {"a.slow": None}, url=server.url)
    results = processes.Queue()             # a name of its own: unreferenced, it is gone before the child opens it
    child = processes.Process(target=locate_in_child, args=(slow, cache, results))
    child.start()
    assert server.halfway.wait(PATIENCE)
    child.kill()
    child.join()
    assert not Path(cache / "raw/set/a.slow").exists()
    (server.folder / "a.txt").write_bytes(TEXT)
    [path] = locate(RawFiles("set", {"a.txt": sha256(TEXT)}, url=server.url), None, cache)
    assert path.read_bytes() == TEXT
    assert files_below(cache) == ["raw/set/a.txt"]
