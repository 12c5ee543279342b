"""Tables of every kind of file, files that help, and the command from a folder to a page, or to one line of refusal."""

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import InputError
from regraft.probe.probes.observatory.aids import place_of, read_aids
from regraft.probe.probes.observatory.tables import Table, read_csv, read_folder
from toys import models

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "probe-tables.md"


def run(*arguments):
    return CliRunner().invoke(app, ["probe", "tables", *map(str, arguments)])


def refused(found, says):
    assert found.exit_code == 2, found.output
    line = re.sub(r"\s+", " ", found.stderr)
    assert says in line, line
    assert "Traceback" not in line


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "tables"
    place.mkdir()
    write(place / "cats.csv", "cat,land,sat\nold hat,map,1\nrat,mat,2\nold hat,map,3\nfar cat,land,4\n")
    write(place / "maps.csv", "map,an\nmap,cat\nmat,hat\nland,rat\nmap,sat\n")
    return place


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "tiny"
    models.bert().save_pretrained(place)
    models.wordpiece().save_pretrained(place)
    return place


def test_ragged_rows_are_filled_and_counted(tmp_path):
    table, notes = read_csv(write(tmp_path / "r.csv", "a,b\n1,2,3\n4\n\n,,\n5,6\n"))
    assert table.header == ("a", "b", "")
    assert table.rows == (("1", "2", "3"), ("4", "", ""), ("5", "6", ""))
    assert notes == ["2 of 3 rows had more or fewer cells than the header"]
    assert table.labels == ("a", "b", "column 3")


def test_odd_tables_are_read(tmp_path):
    empty_column, _ = read_csv(write(tmp_path / "e.csv", "a,,b\n1,,\n2,,\n"))
    assert empty_column.header == ("a", "b")  # a name without cells stays, nothing at all goes
    assert empty_column.columns[1] == ("", "")
    twice, _ = read_csv(write(tmp_path / "d.csv", "a,a,b\n1,2,3\n"))
    assert (twice.labels, len(twice)) == (("a (1)", "a (2)", "b"), 1)
    wide, _ = read_csv(write(tmp_path / "w.csv", ",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join("1" * 10_000) + "\n"))
    assert wide.width == 10_000
    semicolons, _ = read_csv(write(tmp_path / "s.csv", "a;b\n1,5;2\n"))
    assert semicolons.rows == (("1,5", "2"),)
    tabs, _ = read_csv(write(tmp_path / "t.tsv", "a\tb\n1\t2\n"))
    assert tabs.header == ("a", "b")
    assert len(read_csv(write(tmp_path / "l.csv", "a\n" + "1\n" * 50), most_rows=7)[0]) == 7
    text, _ = read_csv(write(tmp_path / "n.csv", "a,b\nNaN,\n"))
    assert text.rows == (("NaN", ""),)  # a word in a file is a word


def test_a_frame_becomes_text():
    frame = pd.DataFrame({"a": [1.5, float("nan")], "b": ["x", None], 3: pd.to_datetime(["2020-01-01", None])})
    table = Table.from_frame(frame, "f")
    assert table.header == ("a", "b", "3")
    assert table.rows[0][:2] == ("1.5", "x")
    assert table.rows[1] == ("", "", "")
    assert (table.is_numeric(0), table.is_numeric(1)) == (True, False)
    twice = Table.from_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert (twice.header, twice.rows) == (("a", "a"), (("1", "2"),))


def test_tables_of_one_content_have_one_digest():
    a = Table("a", ("x", "y"), (("1", "2"), ("3", "4")))
    assert a.digest == Table("b", ("x", "y"), a.rows).digest
    assert (
        len({a.digest, a.take_rows([1, 0]).digest, a.take_columns([1, 0]).digest, a.with_header(["x", "z"]).digest, a.head(1).digest}) == 5
    )


def test_what_cannot_be_read_is_skipped_and_counted(folder, tmp_path):
    write(folder / "nothing.csv", "")
    write(folder / "header.csv", "a,b\n")
    (folder / "image.csv").write_bytes(b"\xff\xd8\xff")
    found = read_folder(folder)
    assert [table.name for table in found.tables] == ["cats", "maps"]
    assert found.skipped == {
        "header.csv": "has a header and no row",
        "image.csv": "is not UTF-8 text (byte 0): save it as CSV in UTF-8",
        "nothing.csv": "is empty",
    }
    write(folder / "maps.tsv", "map\tan\nhat\trat\n")
    (folder / "folder.csv").mkdir()
    found = read_folder(folder)
    assert [table.name for table in found.tables] == ["cats", "maps.csv", "maps.tsv"]
    assert place_of(found.tables, "maps.tsv", "an", "here") == (2, 1)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"has no .csv or .tsv file"):
        read_folder(tmp_path / "none")
    with pytest.raises(InputError, match=r"no table could be read; header.csv: has a header and no row"):
        read_folder(folder / "header.csv")


def test_files_that_help_name_what_is_not_there(folder, tmp_path):
    tables = read_folder(folder).tables
    joins = write(tmp_path / "j.csv", "table_a,column_a,table_b,column_b,quality\ncats.csv,land,maps,map,0.5\n")
    types = write(tmp_path / "t.csv", "table,column,type\ncats,land,place\nmaps,an,thing\n")
    synonyms = write(tmp_path / "s.csv", "column,synonym\ncat,feline\ncat,kitty\n")
    aids = read_aids(tables, joins, types, synonyms)
    assert (aids.joins[0].left, aids.joins[0].right, aids.joins[0].quality) == ((0, 1), (1, 0), 0.5)
    assert aids.types == {(0, 1): "place", (1, 1): "thing"}
    assert aids.synonyms == {"cat": ["feline", "kitty"]}
    for text, says in (
        ("table,column,type\ncast,land,x\n", "line 2: no table 'cast': did you mean cats"),
        ("table,column,type\ncats,lnd,x\n", "has no column 'lnd': did you mean land"),
        ("table,column\ncats,land\n", "has no column 'type': its first line must be table,column,type"),
        ("table,column,type\ncats,land,\n", "line 2: nothing for 'type'"),
        ("table,column,type\n", "has a header and no line"),
    ):
        with pytest.raises(InputError, match=re.escape(says)):
            read_aids(tables, types=write(tmp_path / "bad.csv", text))
    with pytest.raises(InputError, match="quality 'much' is not a number"):
        read_aids(tables, joins=write(tmp_path / "bad.csv", "table_a,column_a,table_b,column_b,quality\ncats,land,maps,map,much\n"))
    with pytest.raises(InputError, match="can't be read"):
        read_aids(tables, synonyms=tmp_path / "gone.csv")


def test_the_command_from_a_folder_to_a_page(folder, model, tmp_path):
    write(folder / "empty.csv", "")
    write(folder / "wide.csv", ",".join(["cat"] * 400) + "\n" + ",".join(["hat"] * 400) + "\n")
    write(folder / "one.csv", "cat,hat\nold map,rat\n")
    types = write(tmp_path / "t.csv", "table,column,type\ncats,cat,thing\ncats,land,place\nmaps,map,place\nmaps,an,thing\n")
    vectors = write(tmp_path / "words.vec", "3 2\ncat 1 0\nhat 0.5 1\nmap -1 0.2\n")
    arguments = (f"first={model}", model, vectors, "--tables", folder, "--types", types, "--permutations", 4, "--samples", 3)
    result = run(*arguments, "--levels", "column,row", "--out", tmp_path / "out", "--cache", tmp_path / "kept", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["models"] == ["first", str(model), "words.vec"] or found["models"] == ["first", "tiny", "words.vec"]
    assert found["baseline"] == "static rows of first"
    assert found["skipped_tables"] == {"empty.csv": "is empty"}
    base = {one["name"]: one for one in found["properties"]["row-order"]["encoders"][found["baseline"]]["figures"]}
    assert (base["column cosine"]["value"], base["column MCV"]["value"]) == (1, 0)
    assert base["row cosine"]["quantiles"]["0.05"] == 1
    own = found["properties"]["column-order"]["encoders"]["first"]
    assert {one["name"]: one["value"] for one in own["figures"]}["column cosine"] < 1
    assert own["skipped"]["tables of which no row fits"] == 2  # once for columns, once for rows
    pairs = found["properties"]["entity"]["encoders"]
    assert len(pairs) == 6
    same = next(one for name, one in pairs.items() if "words" not in name and "static" not in name)
    assert all(one["value"] == 1 for one in same["figures"])  # one model under two names
    assert any(one["measure"] == "purity" for one in found["properties"]["context"]["encoders"]["first"]["figures"])
    assert "they are level in" in found["lead"] or "No model leads in" in found["lead"]  # one model under two names
    assert "words.vec leads in row order" not in found["lead"]  # it knows no order
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["measures.json", "regraft.json", "report.html", "values.csv"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(title in page for title in ("Row order", "Functional dependencies", "Neighbours of cells", "What was not measured"))
    rows = list(csv.DictReader((tmp_path / "out" / "values.csv").open()))
    assert {row["property"] for row in rows} >= {"row-order", "column-order", "join", "sample", "perturbation", "context", "entity"}
    assert (
        sum(r["property"] == "row-order" and r["encoder"] == "first" and r["measure"] == "MCV" and r["setting"] == "column" for r in rows)
        == 5
    )
    assert json.loads((tmp_path / "out" / "regraft.json").read_text())["method"]["name"] == "observatory"
    again = json.loads(run(*arguments, "--levels", "column,row", "--cache", tmp_path / "kept", "--json").stdout)
    assert again["properties"]["sample"] == found["properties"]["sample"]
    shown = run(model, "--tables", folder, "--properties", "row-order", "--permutations", 2)
    assert shown.exit_code == 0
    assert "At a glance" in shown.stdout
    assert "functional dependencies" not in shown.stdout


def test_joins_of_too_few_pairs_are_said_to_have_no_figure(model, tmp_path):
    (tmp_path / "a.csv").write_text("city,land\nrome,italy\nlyon,france\nnice,france\n")
    (tmp_path / "b.csv").write_text("name,length\nitaly,3\nfrance,4\nspain,5\n")
    shown = run(model, "--tables", tmp_path, "--properties", "join", "--cache", tmp_path / "kept")
    assert shown.exit_code == 0
    assert "joins: containment" not in shown.stdout
    assert "too few pairs to rank" in shown.stdout


def test_what_is_refused_leaves_nothing(folder, model, tmp_path):
    before = sorted(path.name for path in tmp_path.iterdir())
    out = ("--out", tmp_path / "out")
    (folder / "sub").mkdir()
    for arguments, says in (
        ((model, "--tables", tmp_path / "gone", *out), "no such folder"),
        ((model, "--tables", folder / "sub", *out), "has no .csv or .tsv file"),
        ((tmp_path / "gone", "--tables", folder, *out), "gone"),
        ((model, "--tables", folder, "--properties", "rows", *out), "no property 'rows': choose all or some of row-order, column-order"),
        ((model, "--tables", folder, "--levels", "word", *out), "--levels word: choose some of column, row, cell, table"),
        ((model, "--tables", folder, "--types", tmp_path / "gone.csv", *out), "gone.csv: can't be read"),
        ((model, "--tables", folder, "--set", "orders=3", *out), "observatory has no parameter 'orders'"),
        ((model, "--tables", folder, "--dtype", "int8", *out), "--dtype int8: choose one of"),
        ((model, "--tables", folder, "--out", folder / "sub" / "in"), "lies inside the input"),
        ((f"a={model}", f"a={model}", "--tables", folder, *out), "two encoders are called 'a'"),
    ):
        refused(run(*arguments), says)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_table_that_does_not_fit_is_skipped_and_counted(folder, model):
    write(folder / "wide.csv", ",".join(["cat"] * 600) + "\n" + ",".join(["hat"] * 600) + "\n")
    arguments = ("--permutations", 2, "--samples", 2, "--json", "--properties", "row-order,sample")
    for path in (folder / "cats.csv", folder / "maps.csv"):
        path.unlink()
    found = json.loads(run(model, "--tables", folder, *arguments).stdout)
    for key in ("row-order", "sample"):
        one = found["properties"][key]["encoders"]["tiny"]
        assert (one["figures"], one["skipped"]) == ([], {"tables of which no row fits": 1})
    assert "nothing of what was asked could be measured" in found["lead"]


def test_the_guide_runs(tmp_path, monkeypatch):
    """Its commands in order, in an empty folder; a tiny model stands in for MiniLM."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    models.bert().save_pretrained(tmp_path / "tiny")
    models.wordpiece().save_pretrained(tmp_path / "tiny")
    ran = []
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, str(GUIDE), "exec"), {})
            ran.append("python")
            continue
        for line in text.replace("$(cat where.txt)", str(tmp_path / "tiny")).splitlines():
            if line.startswith("regraft "):
                command, _, target = line.partition(" > ")
                result = CliRunner().invoke(app, shlex.split(command)[1:])
                assert result.exit_code == 0, result.output
                ran.append(command.split()[2])
                if target:
                    write(tmp_path / target, result.stdout)
            elif not line.startswith("python "):
                subprocess.run(line, shell=True, check=True)
    assert ran == ["tables", "tables", "python"]
    assert (tmp_path / "seen" / "report.html").is_file()
    found = json.loads((tmp_path / "figures.json").read_text())["properties"]
    assert found["join"]["encoders"]["MiniLM"]["figures"][-1]["name"] == "given quality Spearman"
    assert "synonym cosine" in {one["name"] for one in found["perturbation"]["encoders"]["MiniLM"]["figures"]}
    assert "alone purity" in {one["name"] for one in found["context"]["encoders"]["MiniLM"]["figures"]}
