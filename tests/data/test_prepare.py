"""From raw files to interactions: filters, numbering, counts, cache; and the real files where they are at hand."""

import bz2
import errno
import gzip
import hashlib
import io
import logging
import lzma
import multiprocessing
import os
import random
import shutil
import time
import zipfile
from pathlib import Path

import hydra
import pandas as pd
import pytest
import torch
from commands import PATIENCE
from omegaconf import OmegaConf

from recot.data.dataset import load
from recot.data.prepare import Csv, Files

REAL = os.environ.get("RECOT_DATA")
CONF = Path(__file__).parents[2] / "conf/data"


@pytest.fixture(autouse=True)
def without_data_root(monkeypatch):
    monkeypatch.delenv("RECOT_DATA", raising=False)


def files(tmp_path, text, **settings):
    """A set of one file of tab ratings."""
    (tmp_path / "set").mkdir(exist_ok=True)
    (tmp_path / "set/u.data").write_text(text)
    chosen = {"name": "toy", "folder": "set", "files": {"u.data": None}, "read": "tab_ratings", "root": str(tmp_path),
              "cache": str(tmp_path / "cache")} | settings
    return Files(**chosen)


def pairs(dataset):
    """(user, item) by their raw ids, in the order of the interactions."""
    kept = dataset.interactions
    return [(dataset.user_ids[user], dataset.item_ids[item])
            for user, item in zip(kept.users.tolist(), kept.items.tolist(), strict=True)]


TOY = "9\t1\t5\t30\n10\t1\t4\t10\n9\t2\t5\t20\n9\t2\t4\t5\n10\t3\t1\t1\n"


def test_positives_are_numbered_ordered_by_time_and_counted(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        dataset = files(tmp_path, TOY, threshold=4).load()
    assert pairs(dataset) == [(9, 2), (9, 1), (10, 1)]
    assert dataset.interactions.times.tolist() == [5, 30, 10]             # 5 is the earlier of two
    assert dataset.dropped == {"rating below 4": 1, "duplicate pairs": 1}
    assert caplog.messages == ["toy: 2 users, 2 items, 3 interactions; left out: 1 rating below 4, 1 duplicate pairs"]


def test_a_second_load_reads_the_cache_and_other_settings_do_not(tmp_path, caplog):
    first = files(tmp_path, TOY).load()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = files(tmp_path, TOY).load()
        assert caplog.messages == []
        assert pairs(again) == pairs(first)
        assert again.dropped == first.dropped
        assert len(files(tmp_path, TOY, threshold=4).load().interactions) == 3
        assert len(files(tmp_path, TOY + "11\t1\t5\t7\n").load().interactions) == len(first.interactions) + 1
        assert len(caplog.messages) == 2


def test_a_sample_of_users_is_prepared_apart_and_nothing_is_expected_of_it(tmp_path):
    text = "".join(f"{user}\t{item}\n" for user in range(50) for item in range(3))
    whole = files(tmp_path, text, expect={"users": 50}).load()
    sample = files(tmp_path, text, expect={"users": 50}, user_share=0.2).load()
    other = files(tmp_path, text, expect={"users": 50}, user_share=0.2, sample_seed=1).load()
    assert (len(whole.user_ids), len(sample.user_ids), len(sample.interactions)) == (50, 10, 30)
    assert set(sample.user_ids) < set(whole.user_ids) and set(sample.user_ids) != set(other.user_ids)


def test_the_order_of_lines_does_not_matter(tmp_path):
    lines = TOY.splitlines()
    expected = files(tmp_path, TOY).load()
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        dataset = files(tmp_path, "\n".join(lines)).load()
        assert pairs(dataset) == pairs(expected)
        assert dataset.interactions.times.tolist() == expected.interactions.times.tolist()


def test_the_digest_follows_the_content_alone(tmp_path):
    one = files(tmp_path, TOY)
    digest = one.digest()
    moved = tmp_path / "elsewhere/set"
    moved.mkdir(parents=True)
    (moved / "u.data.gz").write_bytes(gzip.compress(TOY.encode()))
    assert files(tmp_path, TOY, root=str(tmp_path / "elsewhere"), threshold=4).digest() == digest
    assert files(tmp_path, TOY + "11\t1\t5\t7\n").digest() != digest


def test_the_substitute_is_taken_only_in_place_of_all_files(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/pairs.txt").write_text("1\t2\n3\t4\n")
    dataset = files(tmp_path, TOY, files={"no.data": None}, substitute={"pairs.txt": None}).load()
    assert pairs(dataset) == [(1, 2), (3, 4)]
    dataset = files(tmp_path, TOY, substitute={"pairs.txt": None}).load()
    assert len(dataset.interactions) == 4


@pytest.mark.parametrize(("settings", "message"), [
    ({"threshold": 6}, "has no rating of 6 or more, the highest is 5; lower data.threshold"),
    ({"core": 3}, "no user and item of toy has 3 interactions with the others; lower data.core"),
    ({"expect": {"users": 2, "items": 4}}, "3 items where 4 are expected. .* then data.expect=null"),
    ({"expect": {"interactions": "0.01k"}}, "4 interactions where 0.01k are expected"),
])
def test_a_filter_that_leaves_nothing_or_other_counts_is_an_error(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        files(tmp_path, TOY, **settings).load()


def test_printed_counts_are_compared_after_rounding(tmp_path):
    text = "".join(f"{user}\t1\n" for user in range(1250))
    for printed in ("1.25k", "1.2k", "1k", "1250", 1250):
        files(tmp_path, text, expect={"users": printed}).load()
    for printed in ("1.3k", "1.250001k", 1251):
        with pytest.raises(ValueError, match="toy with threshold None and core 0 has 1,250 users where"):
            files(tmp_path, text, expect={"users": printed}).load()


def test_a_threshold_without_ratings_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="toy has no ratings, so data.threshold=4.0 means nothing; set it to null"):
        files(tmp_path, "1\t2\n", threshold=4).load()


def test_files_without_interactions_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="the files of toy hold no interactions; get them again"):
        files(tmp_path, "1\n2\n", read="adjacency_list").load()


@pytest.mark.parametrize(("settings", "message"), [
    ({"threshold": float("nan")}, "got nan; use a finite number or null"),
    ({"core": -1}, "got -1; use 0 to keep everybody"),
    ({"user_share": 0.0}, "data.user_share is the share of the users to keep, got 0.0; use more than 0"),
    ({"user_share": 1.5}, "got 1.5; use more than 0 and at most 1, or null for all"),
    ({"expect": {"pairs": 3}}, "data.expect has pairs: 3; give users, items and interactions as an integer or"),
    ({"expect": {"users": "many"}}, "data.expect has users: many; give users, items and interactions as an integer"),
])
def test_settings_out_of_range_are_refused_before_data_are_read(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        files(tmp_path, TOY, **settings)


def configured(name, tmp_path, **changes):
    """What conf/data/NAME.yaml describes."""
    config = OmegaConf.create({"paths": {"cache": str(tmp_path / "cache")},
                               "data": OmegaConf.load(CONF / f"{name}.yaml")})
    for key, value in changes.items():
        config.data[key] = value
    return hydra.utils.instantiate(config.data)


def test_the_users_own_file_needs_its_path_and_columns_only(tmp_path):
    path = tmp_path / "my data.csv"
    path.write_text("uid,item,stars\n001,a,5\n1,a,4\n1,b,1\n")
    dataset = configured("csv", tmp_path, path=str(path), user="uid").load()
    assert pairs(dataset) == [("001", "a"), ("1", "a"), ("1", "b")]
    dataset = configured("csv", tmp_path, path=str(path), user="uid", rating="stars", threshold=2).load()
    assert pairs(dataset) == [("001", "a"), ("1", "a")]
    other = tmp_path / "same.tsv.gz"
    other.write_bytes(gzip.compress(path.read_bytes()))
    assert Csv(str(path), cache=str(tmp_path / "cache")).digest() == Csv(str(other), cache=str(tmp_path / "c")).digest()
    other.write_bytes(gzip.compress(path.read_bytes().replace(b",", b"\t")))
    assert pairs(Csv(str(other), user="uid", cache=str(tmp_path / "cache")).load())[0] == ("001", "a")


def test_the_users_own_file_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.csv is missing; correct data\.path"):
        configured("csv", tmp_path, path=str(tmp_path / "no.csv")).digest()
    with pytest.raises(ValueError, match="my.txt is neither .csv nor .tsv .* set data.delimiter to the one character"):
        Csv("my.txt")
    with pytest.raises(ValueError, match="data.threshold=3 needs ratings; set data.rating to their column"):
        Csv("my.csv", threshold=3)


def test_purchases_are_told_from_clicks(tmp_path):
    (tmp_path / "tmall").mkdir()
    (tmp_path / "tmall/ijcai2016_taobao.csv").write_text("use_ID,sel_ID,ite_ID,cat_ID,act_ID,time\n"
                                                         "7,1,20,3,1,20151011\n7,1,21,3,0,20151011\n")
    dataset = configured("tmallbuy", tmp_path, root=str(tmp_path), core=0, expect=None).load()
    assert pairs(dataset) == [(7, 20)]
    with pytest.raises(FileNotFoundError, match="tianchi.aliyun.com.* unpack it. Put ijcai2016_taobao.csv"):
        configured("tmallbuy", tmp_path).digest()


@pytest.mark.skipif(REAL is None, reason="RECOT_DATA does not name a folder with the real files")
@pytest.mark.parametrize("name", ["gowalla", "ml100k", "ml1m"])
def test_the_real_files_give_the_expected_counts(tmp_path, name):
    dataset = configured(name, tmp_path, root=REAL)
    assert dataset.expect.keys() == {"users", "items", "interactions"}
    assert len(dataset.load().interactions) == dataset.expect["interactions"]


def prepare_in_child(source, barrier, results):
    torch.set_num_threads(1)
    logging.getLogger("recot").setLevel(logging.INFO)
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append
    logging.getLogger("recot").addHandler(handler)
    barrier.wait()
    dataset = source.load()
    found = hashlib.sha256(repr(pairs(dataset)).encode()).hexdigest()
    results.put((source.digest(), found, len(seen)))


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recot.data.prepare", "hydra", "pytest"])
    return context


def larger(tmp_path, n_users=2000):
    rng = torch.Generator().manual_seed(0)
    items = torch.randint(0, 500, (n_users, 30), generator=rng).tolist()
    text = "".join(f"{user}\t{item}\t5\t{user + item}\n" for user, row in enumerate(items) for item in row)
    return files(tmp_path, text, core=5)


def test_row_6_eight_processes_prepare_once_and_agree(tmp_path, processes):
    source, barrier, results = larger(tmp_path), processes.Barrier(8), processes.Queue()
    children = [processes.Process(target=prepare_in_child, args=(source, barrier, results)) for _ in range(8)]
    for child in children:
        child.start()
    answers = [results.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join()
    assert sum(answer[2] for answer in answers) == 1                       # one line of counts: one did it
    assert all(answer[:2] == answers[0][:2] for answer in answers)


def test_a_killed_preparation_leaves_nothing_half_written(tmp_path, processes):
    source, barrier, results = larger(tmp_path), processes.Barrier(2), processes.Queue()
    started = time.perf_counter()
    expected = source.load()
    seconds = time.perf_counter() - started
    prepared = tmp_path / "cache/prepared"
    for part in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1):
        shutil.rmtree(prepared)
        child = processes.Process(target=prepare_in_child, args=(source, barrier, results))
        child.start()
        barrier.wait()
        time.sleep(part * seconds)
        child.kill()
        child.join()
        for file in prepared.glob("toy-" + "[0-9a-f]" * 16):
            assert pairs(load(file)) == pairs(expected)
        assert pairs(source.load()) == pairs(expected)
    shutil.rmtree(prepared)
    source.load()
    assert sorted(path.suffix for path in prepared.iterdir()) == ["", ".lock"]


def test_what_a_killed_preparation_left_is_swept_by_the_next_one(tmp_path):
    prepared = tmp_path / "cache/prepared"
    prepared.mkdir(parents=True)
    (prepared / "toy-0123456789abcdef.ab12cd34.part").write_bytes(b"half")
    files(tmp_path, TOY).load()
    assert not list(prepared.glob("*.part"))


def test_damaged_prepared_data_are_named_and_made_again(tmp_path, caplog):
    expected = files(tmp_path, TOY).load()
    [file] = (tmp_path / "cache/prepared").glob("toy-" + "[0-9a-f]" * 16)
    file.write_bytes(file.read_bytes()[:-3] + b"???")
    assert pairs(files(tmp_path, TOY).load()) == pairs(expected) == pairs(load(file))
    [said] = [message for message in caplog.messages if "damaged" in message]
    assert str(file) in said and said.endswith("they have to be made again, now")


@pytest.fixture
def read_only(monkeypatch):
    """Below a folder nothing can be written, made or renamed; permissions would not hold back an administrator."""
    def closed(folder):
        def refusing(function, writes=lambda *args: True):
            def called(path, *args, **kwargs):
                if str(path).startswith(str(folder)) and writes(*args, *kwargs.values()):
                    raise OSError(errno.EROFS, "Read-only file system", str(path))
                return function(path, *args, **kwargs)
            return called

        for name in ("mkdir", "rename", "replace", "unlink"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name)))
        monkeypatch.setattr(os, "open", refusing(os.open, lambda flags, *rest: flags & (os.O_WRONLY | os.O_RDWR)))
        monkeypatch.setattr(io, "open", refusing(io.open, lambda mode="r", *rest: not set(mode) <= set("rbt")))
    return closed


def test_a_filled_cache_that_cannot_be_written_serves(tmp_path, read_only):
    expected = files(tmp_path, TOY).load()
    lock = next((tmp_path / "cache/prepared").glob("*.lock"))
    source, cold = files(tmp_path, TOY), files(tmp_path, TOY, threshold=2)
    read_only(tmp_path / "cache")
    assert pairs(source.load()) == pairs(expected) and lock.exists()
    with pytest.raises(OSError, match="cannot be written .*name another place for prepared data with RECOT_CACHE or"):
        cold.load()


def test_a_file_that_changes_between_its_digest_and_its_reading_is_refused(tmp_path):
    source = files(tmp_path, TOY)
    source.digest()
    (tmp_path / "set/u.data").write_text(TOY.replace("9", "8"))
    with pytest.raises(ValueError, match=r"u\.data changed while it was read; run the same command again when it is"):
        source.load()
    assert not list((tmp_path / "cache/prepared").glob("toy-" + "[0-9a-f]" * 16))
    assert pairs(files(tmp_path, TOY.replace("9", "8")).load())[0][0] == 8


@pytest.mark.parametrize("name", ["log.parquet", "LOG.PARQUET", "log.data", "log.csv", "log.pq.gz"])
def test_the_users_own_parquet_needs_no_delimiter(tmp_path, name):
    if name.endswith(".gz"):
        pd.DataFrame({"user": [1, 2], "item": [3, 4]}).to_parquet(tmp_path / "plain")
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
        name_given = {"delimiter": ","}
    else:
        pd.DataFrame({"user": [1, 2], "item": [3, 4]}).to_parquet(tmp_path / name)
        name_given = {}
    source = Csv(str(tmp_path / name), cache=str(tmp_path / "cache"), **name_given)
    assert pairs(source.load()) == [(1, 3), (2, 4)]


@pytest.mark.parametrize(("name", "between"), [("LOG.CSV", ","), ("Log.Tsv", "\t"), ("log.CSV.GZ", ","),
                                               ("log.csv.zip", ","), ("log.tsv.xz", "\t"), ("log.csv.bz2", ",")])
def test_names_count_in_any_case_and_below_what_packs_them(tmp_path, name, between):
    text = f"user{between}item\n1{between}3\n".encode()
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(Path(name.lower()).suffix, bytes)
    (tmp_path / name).write_bytes(pack(text))
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("log.csv", text)
    assert pairs(Csv(str(tmp_path / name), cache=str(tmp_path / "cache")).load()) == [(1, 3)]


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\u00a7"])
def test_what_cannot_be_between_columns_is_refused(delimiter):
    with pytest.raises(ValueError, match="set data.delimiter to|give one character of ASCII that is no quote"):
        Csv("my.txt", delimiter=delimiter)


ROWS = ["a,x,5", "a,y,6", "b,x,1", "b,z,2", "c,y,3", "c,z,4"]


def own(folder, **pieces):
    """The data of files in a folder: ``a="12"`` writes the first and second row into a.csv."""
    folder.mkdir(exist_ok=True)
    for name, numbers in pieces.items():
        (folder / f"{name}.csv").write_text("\n".join(["user,item,at", *(ROWS[int(n) - 1] for n in numbers)]))
    return folder


def csv(tmp_path, path, **settings):
    return Csv(path, time="at", cache=str(tmp_path / "cache"), **settings)


def test_one_file_several_and_a_folder_of_them_are_the_same_data_in_any_order(tmp_path, caplog):
    whole, parts = own(tmp_path / "one", a="123456"), own(tmp_path / "many", b="612", a="345")
    ways = [str(whole / "a.csv"), [str(parts / "a.csv"), str(parts / "b.csv")], [str(parts / "b.csv"),
            str(parts / "a.csv")], str(parts)]
    loaded = [csv(tmp_path, way).load() for way in ways]
    assert all(pairs(one) == pairs(loaded[0]) for one in loaded) and len(pairs(loaded[0])) == 6
    assert all(one.interactions.times.tolist() == loaded[0].interactions.times.tolist() for one in loaded)
    digests = [csv(tmp_path, way).digest() for way in ways]
    assert digests[1] == digests[2] == digests[3] != digests[0]


def test_what_marks_a_folder_as_complete_is_no_data(tmp_path):
    folder = own(tmp_path / "many", a="123")
    (folder / "_SUCCESS").touch()
    (folder / ".a.csv.crc").touch()
    assert len(csv(tmp_path, str(folder)).load().interactions) == 3


def test_a_folder_of_parquet_is_read(tmp_path):
    (tmp_path / "many").mkdir()
    for name, rows in (("part-0", [("a", "x"), ("b", "y")]), ("part-1", [("a", "y")])):
        pd.DataFrame(rows, columns=["user", "item"]).to_parquet(tmp_path / f"many/{name}.parquet")
    assert pairs(Csv(str(tmp_path / "many"), cache=str(tmp_path / "cache")).load()) == [
        ("a", "x"), ("a", "y"), ("b", "y")]


@pytest.mark.parametrize(("besides", "remedy"), [
    ("b.parquet", r"holds \.csv and \.parquet, and a folder of data holds files of one kind"),
    ("README.md", r"holds \.csv and \.md, .*; take the others out, or name files, as in data\.path=\[a\.csv,b\.csv\]"),
    ("year=2024/", r"holds \.csv and year=2024/, and a folder of data holds files of one kind")])
def test_a_folder_of_several_kinds_is_refused(tmp_path, besides, remedy):
    folder = own(tmp_path / "many", a="123")
    (folder / besides).mkdir() if besides.endswith("/") else (folder / besides).touch()
    with pytest.raises(ValueError, match=remedy):
        csv(tmp_path, str(folder))


def test_files_of_several_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.csv and b\.tsv are of several kinds; give files of one kind"):
        Csv(["a.csv", "b.tsv"])


def test_an_empty_folder_a_folder_among_files_and_a_file_named_twice_are_refused(tmp_path):
    folder = own(tmp_path / "many", a="123")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"none holds no files; correct data\.path"):
        Csv(str(tmp_path / "none"), delimiter=",")
    with pytest.raises(FileNotFoundError, match=r"is a folder among several files; give data\.path one folder"):
        csv(tmp_path, [str(folder / "a.csv"), str(folder)]).digest()
    with pytest.raises(ValueError, match="names no file, or one of them twice; name each once"):
        csv(tmp_path, [str(folder / "a.csv"), str(folder / "../many/a.csv")]).digest()
    with pytest.raises(ValueError, match=r"is named in data\.path and in data\.test, and what is known cannot be"):
        csv(tmp_path, str(folder / "a.csv"), test=str(folder)).digest()


def test_parts_are_kept_and_told_apart_in_the_cache(tmp_path, caplog):
    folder = own(tmp_path / "three", a="12", b="34", c="56")
    a, b, c = (str(folder / f"{name}.csv") for name in "abc")
    caplog.set_level(logging.INFO)
    one, other, none = (csv(tmp_path, a, valid=b, test=c), csv(tmp_path, a, valid=c, test=b), csv(tmp_path, [a, b, c]))
    assert len({source.digest() for source in (one, other, none)}) == 3
    assert [source.load().interactions.parts.tolist() for source in (one, other)] == [
        [0, 0, 1, 1, 2, 2], [0, 0, 2, 2, 1, 1]]
    assert none.load().interactions.parts is None
    again = csv(tmp_path, a, valid=b, test=c).load()  # from the cache
    assert again.interactions.parts.tolist() == [0, 0, 1, 1, 2, 2] and again.interactions.parts.dtype == torch.int8
    assert caplog.messages[:2] == [
        "csv: 3 users, 3 items, 6 interactions (2 to train, 2 to validate, 2 to test); left out: 0 duplicate pairs",
        "a.csv and b.csv and c.csv: 6 rows, those that remain from 1970-01-01T00:00:01Z to 1970-01-01T00:00:06Z"]
    assert len(caplog.messages) == 6 and len({*(tmp_path / "cache/prepared").glob("csv-*[0-9a-f]")}) == 3


def test_what_is_counted_is_counted_among_the_pairs_that_train(tmp_path):
    """Of user c one pair trains, and of z none: both have two pairs in all, and are no part of the core."""
    (tmp_path / "train.csv").write_text("user,item\na,x\na,y\nb,x\nb,y\nc,x\n")
    (tmp_path / "test.csv").write_text("user,item\nc,y\na,z\nb,z\n")
    dataset = Csv(str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), core=2, cache=str(tmp_path)).load()
    assert pairs(dataset) == [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("b", "y"), ("b", "z"), ("c", "y")]
    assert dataset.interactions.parts.tolist() == [0, 0, 2, 0, 0, 2, 2]
    assert dataset.dropped == {"duplicate pairs": 0, "outside the 2-core": 1}


def test_a_threshold_holds_in_all_parts(tmp_path):
    (tmp_path / "train.csv").write_text("user,item,stars\na,x,5\na,y,1\nb,y,4\n")
    (tmp_path / "test.csv").write_text("user,item,stars\na,y,4\nb,x,2\n")
    dataset = Csv(str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), rating="stars", threshold=4,
                  cache=str(tmp_path)).load()
    assert pairs(dataset) == [("a", "x"), ("a", "y"), ("b", "y")]
    assert dataset.interactions.parts.tolist() == [0, 2, 0] and dataset.dropped["rating below 4"] == 2


def test_ids_are_of_one_kind_in_all_parts(tmp_path):
    (tmp_path / "train.csv").write_text("user,item\n1,10\n2,11\n")
    (tmp_path / "test.csv").write_text("user,item\n1,x11\n2,10\n")
    dataset = Csv(str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), cache=str(tmp_path / "cache")).load()
    assert pairs(dataset) == [(1, "10"), (1, "x11"), (2, "10"), (2, "11")]


def test_a_part_of_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data\.parts names v\.data, which is none of data\.files"):
        files(tmp_path, TOY, parts={"v.data": "test"})

