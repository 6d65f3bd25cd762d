"""Every format reads what it should, and names the file and line of what it should not."""

import gzip
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
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


@pytest.mark.parametrize("odd", ["01", "0x7", " 7", "7 ", "\t7", "7\t", "-7", "-0", '"07"', "+7", "7.0", str(10**18)])
@pytest.mark.parametrize("place", [1, 2, 6])
@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_one_id_that_is_no_whole_number_lets_all_stay_as_they_are_written(tmp_path, monkeypatch, odd, place, piece):
    """pyarrow would read most of these as whole numbers: wherever it stands, and wherever a piece of the text ends."""
    monkeypatch.setattr(read, "PIECE", piece)
    lines = ["uid,sku", *(f"{number},{number + 10}" for number in range(6))]
    expected = [(str(number), number + 10) for number in range(6)]
    lines[place], expected[place - 1] = f"{odd},{place + 9}", (odd.strip('"'), place + 9)
    text = "\n".join(lines)
    assert rows(read.table(written(tmp_path, text.encode()), {"user": "uid", "item": "sku"})) == expected
    turned = "\n".join(",".join(reversed(line.split(","))) for line in lines)
    assert rows(read.table(written(tmp_path, turned.encode()), {"user": "uid", "item": "sku"})) == expected


def test_what_other_columns_hold_changes_no_id(tmp_path):
    for other in ("05", "-1", " x ", '"a,b"', "0.5"):
        text = f"uid,other,sku\n7,{other},0\n10,{other},12\n"
        assert rows(read.table(written(tmp_path, text.encode()), {"user": "uid", "item": "sku"})) == [(7, 0), (10, 12)]


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
    (b"1\t2\t3\t4,5", "the time '4,5' is not a whole number of seconds or a date of ISO 8601"),
    (b"1\t2\t3\t1.6e9", "the time '1.6e9' is not a whole number of seconds or a date of ISO 8601"),
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
    (b"2,b,3,01/02/2020", "the time '01/02/2020' is not a whole number of seconds or a date of ISO 8601"),
    (b'2,b,"3,5",4', "the rating '3,5' is not a finite number"),
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
    with pytest.raises(ValueError, match=r"has 0 columns called 'sku', .*Name the columns with data\.user"):
        read.parquet(path, {"user": "uid", "item": "sku"})


OPEN = {  # text -> its first bad line
    "an unread column": (b'uid,title,sku\n1,x,2\n2,"y,3\n3,z,4\n4,"w",5\n5,v,6\n', 3),
    "the first column": (b'title,uid,sku\n"x,1,2\ny",2,3\n', 2),
    "the last column": (b'uid,sku,title\n1,2,x\n1,3,"x\n2,3,y"\n', 3),
    "an id": (b'uid,sku\n1,b\n2,"a\n3,b\n', 3),
    "a value of several lines": (b'text,uid,sku\n"two\nlines",1,2\n', 2),
    "the end of a long file": (b'uid,sku\n1,"a\n' + b"2,b\n" * 100_000, 2),
    "inches": (b'uid,title,sku\n1,"12" screen",2\n2,x,3\n', 2),
    "text behind": (b'uid,title,sku\n1,"x" y,2\n', 2),
    "a lone CR": (b'uid,title,sku\r1,"x\r2,y",3\r', 2),
    "the header": (b'uid,"title,sku\n1,x,2\n', 1),
}


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize(("text", "line"), OPEN.values(), ids=OPEN)
def test_a_quote_never_swallows_a_line(tmp_path, text, line, delimiter):
    path = written(tmp_path, text.replace(b",", delimiter.encode()))
    with pytest.raises(ValueError, match=rf"data\.txt, line {line}: a quote is left open, or text .*{REMEDY}"):
        read.table(path, {"user": "uid", "item": "sku"}, delimiter)


def test_quotes_that_say_what_they_mean_are_read(tmp_path):
    text = b'"uid","title","sku"\n1,12" screen,2\n2,"a ""b"", c","x,""y"\n3,"",w\n4,it\'s 5" x 6",z\n'
    assert rows(read.table(written(tmp_path, text), {"user": "uid", "item": "sku"})) == [
        (1, "2"), (2, 'x,"y'), (3, "w"), (4, "z")]


LINES = [b"uid,sku,at", b"1,2,3", b"4,5,6", b"7,8,9"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\r\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_line_is_a_row_whatever_ends_it_and_however_it_is_encoded(tmp_path, end, encoding):
    def file(lines):
        mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
        return written(tmp_path, (mark + end.join([*lines, b""]).decode()).encode(encoding))

    columns = {"user": "uid", "item": "sku", "time": "at"}
    assert rows(read.table(file(LINES), columns)) == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert rows(read.ratings(file([line.replace(b",", b"\t") for line in LINES[1:]]), "\t"))[2] == (7, 8, 9.0)
    blanks = [line.replace(b",", b" ") for line in LINES[1:]]
    assert rows(read.adjacency_list(file(blanks))) == [(1, 2), (1, 3), (4, 5), (4, 6), (7, 8), (7, 9)]
    assert len(read.sequences(file(blanks))) == 6


@pytest.mark.parametrize("end", ["\v", "\f", "\x85", "\u2028", "\u2029", "\x1c"])
def test_other_separators_of_lines_belong_to_an_id_or_are_refused(tmp_path, end):
    frame = read.table(written(tmp_path, f"uid,sku\n1{end}2,3\n4,5\n".encode()), {"user": "uid", "item": "sku"})
    assert rows(frame) == [(f"1{end}2", 3), ("4", 5)]
    for reader in (read.adjacency_list, read.sequences):
        with pytest.raises(ValueError, match=f"line 1: the id .* is not a whole number .*{REMEDY}"):
            reader(written(tmp_path, f"1 2{end}3 4\n5 6\n".encode()))


@pytest.mark.parametrize(("content", "message"), [
    (b"PAR1....", "is a parquet file, where text was expected; write it as .csv"),
    (b"ARROW1..", "is an Arrow file"), (b"SQLite format 3\0", "is an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook"), (b"%PDF-1.7", "is a PDF file"),
    (b"\xff\xfe1", "begins as utf-16 and goes on otherwise .*write it as UTF-8"),
    ("uid,sku\n1,2\n".encode("utf-16-le"), "line 1: it holds a zero byte, as UTF-16 without .*write the file as"),
    (b"uid,sku\n1,2\n3\0,4\n", "line 3: it holds a zero byte")])
@pytest.mark.parametrize("reader", [read.adjacency_list, read.sequences, lambda path: read.ratings(path, "\t"),
                                    lambda path: read.table(path, {"user": "uid", "item": "sku"})])
def test_what_is_no_text_is_named(tmp_path, content, message, reader):
    with pytest.raises(ValueError, match=rf"data\.txt.* {message}|data\.txt,? {message}"):
        reader(written(tmp_path, content))


@pytest.mark.parametrize(("text", "delimiter", "remedy"), [
    ("uid;sku\n1;2\n", ",", r"""no ',' but 1 ';'; type "data\.delimiter=';'\""""),
    ("uid|sku|at\n1|2|3\n", ",", r"""no ',' but 2 '\|'; type "data\.delimiter='\|'\""""),
    ("uid\tsku\n1\t2\n", ",", r"no ',' but 1 '\\t'; call the file \.tsv"),
    ("uid,sku\n1,2\n", "\t", r"""no '\\t' but 1 ','; type "data\.delimiter=','\"""")])
def test_another_delimiter_is_named(tmp_path, text, delimiter, remedy):
    with pytest.raises(ValueError, match=remedy):
        read.table(written(tmp_path, text.encode()), {"user": "uid", "item": "sku"}, delimiter)


def test_columns_without_a_name_are_left_alone(tmp_path):
    text = b",uid,sku,,\n0,1,2,x,\n1,3,4,y,\n"
    assert rows(read.table(written(tmp_path, text), {"user": "uid", "item": "sku"})) == [(1, 2), (3, 4)]


TIMES = {  # as written -> (seconds, is something said?)
    "whole": (["1600000000", "1600000001"], [1600000000, 1600000001], ""),
    "of a column that had a gap": (["1600000000.0", "1600000001.00"], [1600000000, 1600000001], ""),
    "with fractions": (["1600000000.25", "1600000001"], [1600000000, 1600000001], "fractions of seconds are left out"),
    "days": (["2020-01-01", "1969-12-31"], [1577836800, -86400], "name no zone are taken as UTC"),
    "moments": (["2020-01-01T00:00:01Z", "2020-01-01 02:00:01+02:00"], [1577836801, 1577836801], ""),
    "both": (["2020-01-01", "2020-01-01T00:00:00.5Z"], [1577836800, 1577836800], "fractions of seconds are left out"),
}


def times(folder, texts, unit, form="csv"):
    """The times of a file that is read with a unit."""
    columns = {"user": "uid", "item": "sku", "time": "at"}
    if form == "csv":
        lines = ["uid,sku,at", *(f"1,{row},{text}" for row, text in enumerate(texts))]
        file = written(folder, "\n".join(lines).encode())
        return read.table(file, columns, unit=unit)["time"].tolist()
    if form == "tab":
        file = written(folder, "\n".join(f"1\t{row}\t3\t{text}" for row, text in enumerate(texts)).encode())
        return read.ratings(file, "\t", unit=unit)["time"].tolist()
    values = [int(text) for text in texts] if form == "integers" else texts
    pd.DataFrame({"uid": 1, "sku": range(len(texts)), "at": values}).to_parquet(folder / "data.parquet")
    return read.parquet(folder / "data.parquet", columns, unit=unit)["time"].tolist()


@pytest.mark.parametrize(("unit", "form"), [
    (unit, form) for unit in ("s", "ms", "us", "ns") for form in ("csv", "tab", "integers", "text")
    if (unit, form) != ("ns", "text")])
def test_a_unit_that_is_said_makes_seconds(tmp_path, unit, form):
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    moments = [str(second * per + per // 2) for second in (1_600_000_000, 1_600_000_001)]
    assert times(tmp_path, moments, unit, form) == [1_600_000_000, 1_600_000_001]


@pytest.mark.parametrize(("form", "place"), [("csv", "line 2"), ("tab", "line 1"), ("text", "row 1"),
                                             ("integers", "row 1")])
def test_milliseconds_are_never_guessed(tmp_path, form, place):
    texts = ["1600000000000", "1600000001000"]
    with pytest.raises(ValueError, match=rf"data\.\w+, {place}: as seconds, the time 1600000000000 would lie beyond "
                                         r"the year 5138, and so would 2 of 2; .* data\.time_unit=ms"):
        times(tmp_path, texts, None, form)
    assert times(tmp_path, texts, "s", form) == [1600000000000, 1600000001000]


@pytest.mark.parametrize("unit", [None, "s", "ms"])
@pytest.mark.parametrize(("form", "place", "other"), [("csv", "line 4", "line 2"), ("integers", "row 3", "row 1")])
def test_two_units_in_one_column_are_refused_with_their_lines(tmp_path, unit, form, place, other):
    texts = ["1600000000000", "1600000001000", "1600000002"]
    with pytest.raises(ValueError, match=rf"data\.\w+, {place}: the time 1600000002 is one in seconds, and 2 of 3 "
                                         rf"times are in another unit, as 1600000000000 in {other}; write"):
        times(tmp_path, texts, unit, form)


def test_the_line_of_a_time_counts_blank_lines(tmp_path):
    file = written(tmp_path, b"uid,sku,at\n1,1,1600000000000\n\n1,2,1600000002\n")
    with pytest.raises(ValueError, match="line 4: the time 1600000002"):
        read.table(file, {"user": "uid", "item": "sku", "time": "at"})


def test_a_zero_beside_milliseconds_is_no_other_unit_and_a_far_date_none_at_all(tmp_path):
    assert times(tmp_path, ["0", "1600000000000"], "ms") == [0, 1600000000]
    assert times(tmp_path, ["2020-01-01", "9999-12-31"], None) == [1577836800, 253402214400]


@pytest.mark.parametrize(("unit", "texts", "fault"), [
    ("date", ["2020-01-01", "1600000000"], "line 3: the time '1600000000' is not a date of ISO 8601, data.time_unit="),
    ("date", ["1600000000"], "line 2: the time '1600000000' is not a date of ISO 8601"),
    ("ms", ["1600000000000", "2020-01-01"], "line 3: the time '2020-01-01' is not a whole number, data.time_unit=ms"),
    (None, ["2020-01-01", "2020-13-01"], "line 3: the time '2020-13-01' is not a whole number of seconds or a date")])
def test_times_of_another_form_than_said_are_refused_with_their_line(tmp_path, unit, texts, fault):
    with pytest.raises(ValueError, match=fault):
        times(tmp_path, texts, unit)


@pytest.mark.parametrize("form", ["csv", "tab", "parquet"])
@pytest.mark.parametrize(("texts", "seconds", "said"), TIMES.values(), ids=TIMES)
def test_times_are_read_as_seconds(tmp_path, caplog, texts, seconds, said, form):
    caplog.set_level("INFO")
    if form == "csv":
        frame = read.table(written(tmp_path, "\n".join(["uid,sku,at", *(f"1,2,{text}" for text in texts)]).encode()),
                           {"user": "uid", "item": "sku", "time": "at"})
    elif form == "tab":
        frame = read.ratings(written(tmp_path, "\n".join(f"1\t2\t3\t{text}" for text in texts).encode()), "\t")
    else:
        pd.DataFrame({"uid": [1, 2], "sku": [1, 2], "at": texts}).to_parquet(tmp_path / "data.parquet")
        frame = read.parquet(tmp_path / "data.parquet", {"user": "uid", "item": "sku", "time": "at"})
    assert frame["time"].tolist() == seconds and frame["time"].dtype == np.int64
    assert (said in caplog.text) and bool(said) == bool(caplog.messages)


@pytest.mark.parametrize(("kind", "values", "advice"), [
    ("at", ["01/02/2020", "03/02/2020"], "convert that column to whole seconds since 1970 or to dates of ISO 8601"),
    ("at", ["yesterday", "today"], "or leave it out with data.time=null"),
    ("at", ["1.6e9", "1.7e9"], "convert that column to whole seconds"),
    ("stars", ['"3,5"', '"4,5"'], "write decimals with a point, or name a column of numbers with data.rating"),
    ("stars", ["good", "bad"], "name a column of numbers with data.rating"),
    ("stars", ["3,x", "4,y"], "give every column a name in the header, or name the character between the columns")])
def test_a_column_of_which_all_is_malformed_gets_advice_for_the_column(tmp_path, kind, values, advice):
    lines = [f"1,2,{value if kind == 'stars' else 3},{value if kind == 'at' else 4}" for value in values]
    with pytest.raises(ValueError, match=rf"txt, line 2: .*in all 2 lines that were looked at; .*{advice}") as said:
        read.table(written(tmp_path, "\n".join(["uid,sku,stars,at", *lines]).encode()), COLUMNS)
    assert "remove" not in str(said.value)


def test_seconds_and_dates_in_one_column_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read .*one column of times holds seconds and dates"):
        read.table(written(tmp_path, b"uid,sku,at\n1,2,2020-01-01\n1,3,1600000000\n"),
                   {"user": "uid", "item": "sku", "time": "at"})


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_ids_that_look_like_missing_values_are_counted_and_kept(tmp_path, caplog, form):
    users = ["NULL", "nan", "None", "\\N", "-", "<NA>", "N/A", "NaN", "null", "anna", "NULL"]
    frame = pd.DataFrame({"uid": users, "sku": range(len(users))})
    if form == "csv":
        frame.to_csv(tmp_path / "data.csv", index=False)
        read_ = read.table(tmp_path / "data.csv", {"user": "uid", "item": "sku"})
    else:
        frame.to_parquet(tmp_path / "data.parquet")
        read_ = read.parquet(tmp_path / "data.parquet", {"user": "uid", "item": "sku"})
    assert read_["user"].tolist() == users
    [line] = caplog.messages
    assert "2 rows have the user 'NULL'" in line and "kept as ids: remove the rows if they are" in line
    assert all(f"1 rows have the user {user!r}" in line for user in users if user not in ("NULL", "anna"))
    assert "anna" not in line and "item" not in line


IDS = ["a,b", ' "q" ', " lead", "trail ", "caf\u00e9", "cafe\u0301", "=1+1", "x" * 200_000, "#", "a;b", "\u200f1",
       "1e5"]


def test_ids_of_any_text_come_back_as_they_were(tmp_path):
    frame = pd.DataFrame({"uid": IDS, "sku": IDS[::-1]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.to_parquet(tmp_path / "data.parquet")
    expected = list(zip(IDS, IDS[::-1], strict=True))
    assert rows(read.table(tmp_path / "data.csv", {"user": "uid", "item": "sku"})) == expected
    assert rows(read.parquet(tmp_path / "data.parquet", {"user": "uid", "item": "sku"})) == expected


DAY = pa.array([18262], pa.int32()).cast(pa.date32())
TYPED = {  # a column of parquet -> (what it is for, what comes out)
    "int8": (pa.array([7], pa.int8()), "uid", 7), "uint64": (pa.array([7], pa.uint64()), "uid", 7),
    "whole float": (pa.array([7.0]), "uid", 7), "decimal": (pa.array([Decimal("7.00")]), "uid", 7),
    "large string": (pa.array(["x"], pa.large_string()), "uid", "x"),
    "view": (pa.array(["x"], pa.string_view()), "uid", "x"),
    "binary": (pa.array([b"x"]), "uid", "x"), "dictionary": (pa.array(["x"]).dictionary_encode(), "uid", "x"),
    "dictionary of numbers": (pa.array([7]).dictionary_encode(), "uid", 7),
    "dictionary of large strings": (pa.array(["x"], pa.large_string()).dictionary_encode(), "uid", "x"),
    "rating int": (pa.array([4], pa.int16()), "stars", 4.0),
    "rating float": (pa.array([4.5], pa.float32()), "stars", 4.5),
    "rating decimal": (pa.array([Decimal("4.5")]), "stars", 4.5), "rating text": (pa.array(["4.5"]), "stars", 4.5),
    **{f"time in {unit}": (pa.array([1600000000 * factor], pa.timestamp(unit, zone)), "at", 1600000000)
       for unit, factor, zone in (("s", 1, None), ("ms", 10**3, "UTC"), ("us", 10**6, "Asia/Tokyo"),
                                  ("ns", 10**9, None))},
    "day": (DAY, "at", 18262 * 86400), "day in ms": (DAY.cast(pa.date64()), "at", 18262 * 86400),
    "time float": (pa.array([1600000000.0]), "at", 1600000000), "time decimal": (pa.array([Decimal("16.0")]), "at", 16),
    "time uint": (pa.array([16], pa.uint32()), "at", 16)}


def parquet_of(tmp_path, name, column, **more):
    columns = {"uid": pa.array(["u"] * len(column)), "sku": pa.array(["i"] * len(column)),
               "stars": pa.array([1.0] * len(column)), "at": pa.array([1] * len(column)), name: column}
    pyarrow.parquet.write_table(pa.table(columns | more), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


@pytest.mark.parametrize(("column", "name", "value"), TYPED.values(), ids=TYPED)
def test_parquet_of_any_type_is_read(tmp_path, column, name, value):
    path = parquet_of(tmp_path, name, column, other=pa.array([[1]]), __index_level_0__=pa.array([3]))
    kind = {name: kind for kind, name in COLUMNS.items()}[name]
    assert read.parquet(path, COLUMNS)[kind].tolist() == [value]


@pytest.mark.parametrize(("column", "name", "message"), [
    (pa.array([1.5, 2.0]), "uid", "that are no user .*1.5.*; convert that column, or name another one with data.user"),
    (pa.array([[1], [2]]), "uid", "of type list.* in column 'uid', which is data.user; convert that column to"),
    (pa.array([{"a": 1}, {"a": 2}]), "sku", "of type struct.*convert that column to numbers or text"),
    (pa.array([True, False]), "uid", "of type bool"), (pa.array([b"\xff", b"a"]), "uid", "that are no user"),
    (pa.array([1, 2], pa.duration("s")), "at", "convert that column to whole seconds or timestamps"),
    (pa.array([1, 2], pa.timestamp("s")), "stars", "convert that column to numbers or text"),
    (pa.array(["x", "3"]), "stars", "that are no rating .*name another one with data.rating"),
    (pa.array(["x", "3"]), "at", "unusable cell in column 'at', row 1; remove that row"),
    (pa.array(["x", "y"]), "at", "unusable cell in column 'at', row 1; convert that column to whole seconds"),
    (pa.array([1.0, np.nan]), "uid", "empty or unusable cell in column 'uid', row 2; remove that row"),
    (pa.array([1.0, np.nan]), "at", "empty or unusable cell in column 'at', row 2; remove that row"),
    (pa.array([1, 2**63 + 1], pa.uint64()), "at", "that are no time"), (pa.array([1.0, np.inf]), "at", "row 2"),
    (pa.nulls(2), "uid", "column 'uid', row 1"), (pa.array(["a", "b\nc"]), "uid", "row 2; remove that row")])
def test_parquet_that_cannot_be_meant_is_refused(tmp_path, column, name, message):
    with pytest.raises(ValueError, match=rf"data\.parquet has .*{message}"):
        read.parquet(parquet_of(tmp_path, name, column), COLUMNS)


def test_a_column_twice_in_parquet_is_refused(tmp_path):
    columns = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["uid", "sku", "uid"])
    pyarrow.parquet.write_table(columns, tmp_path / "data.parquet")
    with pytest.raises(ValueError, match="has 2 columns called 'uid', expected one"):
        read.parquet(tmp_path / "data.parquet", {"user": "uid", "item": "sku"})


def test_unusable_parquet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as parquet .* write it anew"):
        read.parquet(written(tmp_path, b"not parquet"), COLUMNS)
    path = tmp_path / "data.parquet"
    columns = {"user": "uid", "item": "sku", "rating": "stars"}
    for uid, stars, column in (([None, "1"], [1.0, 2.0], "uid"), (["", "1"], [1.0, 2.0], "uid"),
                               (["1", "2"], [1.0, np.inf], "stars")):
        pd.DataFrame({"uid": uid, "sku": ["a", "b"], "stars": stars}).to_parquet(path)
        with pytest.raises(ValueError, match=f"an empty or unusable cell in column '{column}', row .; remove that row"):
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
