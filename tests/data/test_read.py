"""Every format reads what it should, and names the file and line of what it should not."""

import gzip

import numpy as np
import pandas as pd
import pytest

from recot.data import read

COLUMNS = {"user": "uid", "item": "sku", "rating": "stars", "time": "at"}


def written(tmp_path, content, name="data.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def rows(frame):
    return [tuple(row) for row in frame.itertuples(index=False)]


def test_adjacency_lists_become_pairs(tmp_path):
    frame = read.adjacency_list(written(tmp_path, b"7 1 2\n8\n3 10 10\n7 4\n"))
    assert rows(frame) == [(7, 1), (7, 2), (3, 10), (3, 10), (7, 4)]


RATINGS = [(1, 20, 3.5, 100), (2, 3000000000, -1.0, -5)]


@pytest.mark.parametrize("delimiter", ["\t", "::"])
@pytest.mark.parametrize("change", [
    lambda text: text, lambda text: text.replace(b"\n", b"\r\n"), lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.rstrip(b"\n"), lambda text: text.replace(b"\n", b"\n\n")], ids=[
    "plain", "CRLF", "byte-order mark", "no last line end", "blank lines"])
def test_ratings_are_read_whatever_the_line_ends(tmp_path, delimiter, change):
    text = change(b"1|20|3.5|100\n2|3000000000|-1|-5\n".replace(b"|", delimiter.encode()))
    assert rows(read.ratings(written(tmp_path, text), delimiter)) == RATINGS
    assert rows(read.ratings(written(tmp_path, gzip.compress(text), "data.txt.gz"), delimiter)) == RATINGS
    assert rows(read.adjacency_list(written(tmp_path, change(b"1 20\n2 30 \n")))) == [(1, 20), (2, 30)]


def test_ratings_and_times_may_be_absent(tmp_path):
    assert list(read.ratings(written(tmp_path, b"1\t2\n"), "\t").columns) == ["user", "item"]
    assert list(read.ratings(written(tmp_path, b"1\t2\t3\n"), "\t").columns) == ["user", "item", "rating"]


def test_string_ids_are_kept_exactly(tmp_path):
    path = written(tmp_path, 'uid,sku\n001, a\n1,"a,b"\n1,NA\nnull,\u00e9\n'.encode())
    frame = read.table(path, {"user": "uid", "item": "sku"})
    assert rows(frame) == [("001", " a"), ("1", "a,b"), ("1", "NA"), ("null", "\u00e9")]


def test_ids_are_integers_only_when_nothing_is_lost(tmp_path):
    frame = read.table(written(tmp_path, b"uid,sku\n10,9\n9,0\n"), {"user": "uid", "item": "sku"})
    assert rows(frame) == [(10, 9), (9, 0)]
    for odd in ("01", "-0", "+1", "1.0", "1 ", "12345678901234567890"):
        frame = read.table(written(tmp_path, f"uid,sku\n{odd},9\n".encode()), {"user": "uid", "item": "sku"})
        assert rows(frame) == [(odd, 9)]


def test_named_columns_are_found_in_any_order_and_with_any_delimiter(tmp_path):
    text = "\ufeffat;stars;other;sku;uid\r\n100;3.5;;20;1\r\n-5;-1;x;3000000000;2\r\n"
    assert rows(read.table(written(tmp_path, text.encode()), COLUMNS, ";")) == RATINGS


def test_parquet_reads_as_csv_does(tmp_path):
    path = tmp_path / "data.parquet"
    pd.DataFrame({"uid": ["1", "2"], "sku": [20, 3000000000], "stars": [3.5, -1], "at": [100, -5]}).to_parquet(path)
    assert rows(read.parquet(path, COLUMNS)) == RATINGS
    pd.DataFrame({"uid": ["001", "1"], "sku": pd.Categorical(["a", "b"])}).to_parquet(path)
    assert rows(read.parquet(path, {"user": "uid", "item": "sku"})) == [("001", "a"), ("1", "b")]


REMEDY = "; correct or remove that line, or get the file again"


@pytest.mark.parametrize(("bad", "reason"), [
    (b"1\t2\t3", "it has 3 fields, expected 4"),
    (b"1\t2\t3\t4\t5", "it has 5 fields, expected 4"),
    (b"\t2\t3\t4", "the user '' is not a whole number below"),
    (b"1\tx\t3\t4", "the item 'x' is not a whole number below"),
    (b"1.0\t2\t3\t4", "the user '1.0' is not a whole number below"),
    (b"001\t2\t3\t4", "the user '001' is not a whole number below"),
    (b"0x1\t2\t3\t4", "the user '0x1' is not a whole number below"),
    (b"1\t99999999999999999999\t3\t4", "the item '9+' is not a whole number below"),
    (b"1\t\xff\t3\t4", "the item '.' is not UTF-8"),
    (b"1\t2\tnan\t4", "the rating 'nan' is not a finite number"),
    (b"1\t2\t-inf\t4", "the rating '-inf' is not a finite number"),
    (b"1\t2\t1e999\t4", "the rating '1e999' is not a finite number"),
    (b"1\t2\t\t4", "the rating '' is not a finite number"),
    (b"1\t2\t3\t4.5", "the time '4.5' is not a whole number of seconds"),
    (b"1\t2\t3\tyesterday", "the time 'yesterday' is not a whole number of seconds"),
])
@pytest.mark.parametrize("delimiter", ["\t", "::"])
def test_a_malformed_rating_is_named_by_file_and_line(tmp_path, bad, reason, delimiter):
    lines = b"1\t2\t3\t4\n\n2\t3\t4\t5\n" + bad
    path = written(tmp_path, lines.replace(b"\t", delimiter.encode()))
    with pytest.raises(ValueError, match=rf"data\.txt, line 4: {reason}.*{REMEDY}"):
        read.ratings(path, delimiter)


@pytest.mark.parametrize(("bad", "reason"), [
    (b"2,,3,4", "the user '' is empty"),
    (b"2,b", "it has 2 fields, expected 4"),
    (b"2,b,five,4", "the rating 'five' is not a finite number"),
    (b"2,b,3,2020-01-01", "the time '2020-01-01' is not a whole number of seconds"),
])
def test_a_malformed_csv_line_is_named_by_file_and_line(tmp_path, bad, reason):
    columns = {"user": "sku", "item": "uid", "rating": "stars", "time": "at"}
    with pytest.raises(ValueError, match=rf"data\.txt, line 3: {reason}{REMEDY}"):
        read.table(written(tmp_path, b"uid,sku,stars,at\n1,a,3,4\n" + bad), columns)


@pytest.mark.parametrize("bad", ["x", "1.5", "-1", "007", "12345678901234567890"])
def test_a_malformed_adjacency_id_is_named_by_file_and_line(tmp_path, bad):
    with pytest.raises(ValueError, match=rf"data\.txt, line 2: the id '{bad}' is not a whole number .*{REMEDY}"):
        read.adjacency_list(written(tmp_path, f"1 2 3\r\n2 5 {bad} 6\r\n".encode()))


def test_a_first_line_of_the_wrong_width_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"line 1: it has 1 fields between '::', expected 'user item .*{REMEDY}"):
        read.ratings(written(tmp_path, b"1\t2\t3\t4\n"), "::")


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is empty; get it again"):
        read.adjacency_list(written(tmp_path, b"\n"))
    for content in (b"", b"\n1\t2\n"):
        with pytest.raises(ValueError, match="is empty or starts with a blank line; get it again or remove"):
            read.ratings(written(tmp_path, content), "\t")


def test_a_column_must_be_there_once(tmp_path):
    for header, count in ((b"user,sku", 0), (b"uid,uid,sku", 2)):
        with pytest.raises(ValueError, match=rf"has {count} columns called 'uid'.* Name the columns with data\.user"):
            read.table(written(tmp_path, header + b"\n1,2\n"), {"user": "uid", "item": "sku"})
    with pytest.raises(ValueError, match="is given two meanings, .*name another one for data.user"):
        read.table(written(tmp_path, b"uid,sku\n1,2\n"), {"user": "uid", "item": "uid"})
    path = tmp_path / "data.parquet"
    pd.DataFrame({"uid": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"has no column 'sku' but \['uid'\]; correct data.columns"):
        read.parquet(path, {"user": "uid", "item": "sku"})


def test_a_quote_left_open_does_not_swallow_lines(tmp_path):
    columns = {"user": "uid", "item": "sku"}
    with pytest.raises(ValueError, match=f"line 3: the item '.*' contains a line end, as after .*{REMEDY}"):
        read.table(written(tmp_path, b'uid,sku\n1,b\n2,"a\n3,b\n'), columns)
    with pytest.raises(ValueError, match=r"cannot be read \(.*\); close open quotes, or write it anew"):
        read.table(written(tmp_path, b'uid,sku\n1,"a\n' + b"2,b\n" * 600_000), columns)
    frame = read.table(written(tmp_path, b'text,uid,sku\n"two\nlines",1,2\n'), columns)
    assert rows(frame) == [(1, 2)]


def test_unusable_parquet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as parquet .* write it anew"):
        read.parquet(written(tmp_path, b"not parquet"), COLUMNS)
    path = tmp_path / "data.parquet"
    columns = {"user": "uid", "item": "sku", "rating": "stars"}
    for uid, stars, column in (([None, "1"], [1.0, 2.0], "uid"), (["", "1"], [1.0, 2.0], "uid"),
                               (["1", "2"], [1.0, np.inf], "stars")):
        pd.DataFrame({"uid": uid, "sku": ["a", "b"], "stars": stars}).to_parquet(path)
        with pytest.raises(ValueError, match=f"an empty or unusable cell in column '{column}'; remove that row"):
            read.parquet(path, columns)


def test_sequences_keep_the_order_of_a_line_as_times(tmp_path):
    frame = read.sequences(written(tmp_path, b"7 5 2 9\n\n8\n3 10 1\n"))
    assert rows(frame) == [(7, 5, 0), (7, 2, 1), (7, 9, 2), (3, 10, 0), (3, 1, 1)]


@pytest.mark.parametrize(("content", "message"), [
    (b"1 2 3\n2 4\n\n1 5\n", "line 4: the user 1 has a line of its own above"),
    (b"1 2 3\n2 4 0\n", "line 2: the item 0 stands for padding"),
    (b"1 2\n2 x\n", "line 2: the id 'x' is not a whole number")])
def test_sequences_that_leave_a_doubt_are_refused_with_file_and_line(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match="data.txt") as refused:
        read.sequences(path)
    assert message in str(refused.value)
