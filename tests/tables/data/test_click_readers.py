"""Files of clicks of every kind, read as columns; and what is none of them, in one line."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regraft.errors import InputError
from regraft.tables.data import readers
from regraft.tables.data.readers import kind_of, open_source
from toys.clicks import drawn, write_csv


def whole(path, kind="auto"):
    return pa.concat_tables(open_source(path, kind).blocks())


def put(path, text):
    path.write_text(text, encoding="utf-8")
    return path


CRITEO = "1\t" + "\t".join(["5", "-2", ""] + ["7"] * 10) + "\t" + "\t".join(["05db9164", ""] + ["a"] * 24) + "\n"


def test_commas_tabs_and_compressed_files_are_the_same(tmp_path):
    path = write_csv(tmp_path / "a.csv", 50)
    tabs = put(tmp_path / "a.tsv", path.read_text("utf-8").replace(",", "\t"))
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    assert whole(path).equals(whole(tabs))
    assert whole(path).equals(whole(tmp_path / "a.csv.gz"))
    assert whole(path).num_rows == 50


def test_blocks_are_the_file_again(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "a.csv", 400)
    at_once = whole(path)
    monkeypatch.setattr(readers, "BLOCK", 2000)
    blocks = list(open_source(path).blocks())
    assert len(blocks) > 3
    assert pa.concat_tables(blocks).combine_chunks().equals(at_once.combine_chunks())


def test_parquet_says_what_is_a_number(tmp_path):
    site, app, price, click = drawn(30)
    table = pa.table({"site": site, "app": [f"a{n}" for n in app], "price": price, "click": click.astype(bool)})
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    assert (source.numeric, source.categorical) == ({"price"}, {"app"})
    assert whole(tmp_path / "a.parquet")["click"].to_pylist() == click.tolist()


def test_criteo(tmp_path):
    source = open_source(put(tmp_path / "train.txt", CRITEO * 3))
    assert (source.label, len(source.numeric), len(source.categorical), source.clipped) == ("label", 13, 26, True)
    row = whole(tmp_path / "train.txt").to_pylist()[0]
    assert (row["I2"], row["I3"], row["C1"], row["C2"]) == ("-2", "", "05db9164", "")


def test_avazu(tmp_path):
    path = put(tmp_path / "train.csv", "id,click,hour,C1,site_id\n10,0,14102107,1005,1fbe01fe\n")
    source = open_source(path)
    assert (source.label, source.time, source.dropped) == ("click", "hour", {"id"})
    assert source.categorical == {"C1", "site_id", "hour_of_day"}
    assert whole(path)["hour_of_day"].to_pylist() == ["07"]


def test_libfm(tmp_path):
    path = put(tmp_path / "a.libfm", "1 266:1 1244:1\n-1 138:1 1296:1\n")
    assert whole(path).to_pylist() == [
        {"label": "1", "field1": "266", "field2": "1244"},
        {"label": "-1", "field1": "138", "field2": "1296"},
    ]
    with pytest.raises(InputError, match="field2 holds something else than `id:1`"):
        whole(put(tmp_path / "b.libfm", "1 266:1 1244:1\n1 5:1 6:0.5\n"))
    with pytest.raises(InputError, match="Expected 3 columns, got 2"):
        whole(put(tmp_path / "c.libfm", "1 266:1 1244:1\n1 5:1\n"))


def test_movielens_and_recbole_join_what_lies_beside(tmp_path):
    put(tmp_path / "u.user", "7|24|M|writer|85711\n")
    path = put(tmp_path / "u.data", "7\t242\t3\t881250949\n8\t1\t5\t881250950\n")
    rows = whole(path).to_pylist()
    assert [row["occupation"] for row in rows] == ["writer", ""]
    assert open_source(path).time == "timestamp"
    inter = put(tmp_path / "m.inter", "user_id:token\titem_id:token\trating:float\n7\t242\t3\n7\t1\t5\n")
    put(tmp_path / "m.item", "item_id:token\tclass:token_seq\tyear:float\n1\tx y\t1995\n")
    source = open_source(inter)
    assert (source.label, source.numeric, source.dropped) == ("rating", {"rating", "year"}, {"class"})
    assert whole(inter)["year"].to_pylist() == ["", "1995"]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.csv", "x,y\n", "csv"),
        ("a.txt", "x\ty\n", "tsv"),
        ("a.data", CRITEO, "criteo"),
        ("x.libsvm", "1 2:1\n", "libfm"),
        ("m.inter", "u:token\n", "recbole"),
        ("u.data", "1\t2\t3\t4\n", "movielens"),
        ("train", "id,click,hour,C1\n", "avazu"),
    ],
)
def test_kinds_are_told_by_name_and_first_line(tmp_path, name, text, kind):
    assert kind_of(put(tmp_path / name, text)) == kind


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3\n", "after line 1: .*Expected 2 columns, got 1"),
        ("a,a\n1,2\n", "names a twice"),
        ("a,,b\n1,2,3\n", "by nothing"),
        ("", "is empty"),
    ],
)
def test_what_is_no_table(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        whole(put(tmp_path / "a.csv", text))


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "none.csv")
    (tmp_path / "noise.csv").write_bytes(np.random.default_rng(0).bytes(100))
    with pytest.raises(InputError, match="neither text in UTF-8 nor Parquet"):
        open_source(tmp_path / "noise.csv")
    with pytest.raises(InputError, match="no Parquet file"):
        open_source(put(tmp_path / "a.parquet", "a,b\n"))
    with pytest.raises(InputError, match="choose auto, csv"):
        open_source(put(tmp_path / "a.csv", "a\n1\n"), "xls")
    with pytest.raises(InputError, match="without a kind"):
        open_source(put(tmp_path / "m.inter", "user\titem\n1\t2\n"))
