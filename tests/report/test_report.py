"""Reports: the same content three ways, nothing loaded from a network, no text taken for markup."""

import io
import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.subplots import make_subplots
from rich.console import Console

from regraft.errors import OutputError
from regraft.report.figures import UNTOUCHED, bars, learning_curves, spread, training_curves
from regraft.report.page import MISSING, Report, plain, table_columns
from regraft.report.static import svg
from regraft.vocab.report.figures import token_lengths, trade_off
from regraft.vocab.report.segmentation import Neighbors, Segmentation, nearest_html, segmentation_html, visible_html

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
ROWS = [
    {"method": "untouched", "bits_per_byte": 2.765, "tokens_per_byte": 0.52, "drift_bits_per_byte": None, "error": None},
    {"method": ATTACK, "bits_per_byte": 3.1, "tokens_per_byte": 0.29, "drift_bits_per_byte": 0.02, "error": None},
    {"method": "failed", "bits_per_byte": None, "tokens_per_byte": None, "drift_bits_per_byte": None, "error": None},
]


class Page(HTMLParser):
    """Element names, attributes and text (scripts and styles apart) of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.inside = "", ""
        self.scripts: list[tuple[str | None, str]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            kind, before = self.scripts[-1]
            self.scripts[-1] = (kind, before + data)
        elif self.inside != "style":
            self.text += data


def full_report() -> Report:
    report = Report(f"Title {ATTACK}", f"Lead {ATTACK}")
    report.add_table(f"Table {ATTACK}", ROWS, f"Caption {ATTACK}", best={"bits_per_byte": "low"})
    report.add_table("Odd keys", [{ATTACK: ATTACK}])
    report.add_figure("Trade-off", trade_off(ROWS))
    report.add_figure("Curves", training_curves({ATTACK: [(0, 3.0), (10, 2.5)]}, untouched=2.7))
    report.add_figure("Bars", bars({ATTACK: 1.5, "b": None, "untouched": 2.0}, title=ATTACK))
    report.add_figure("Foreign", go.Figure(go.Scatter(x=np.arange(3), y=[1.0, math.nan, math.inf], name=ATTACK)))
    cut = Segmentation(ATTACK, [ATTACK.encode(), b" <b>", b"\xe1\xba"], frozenset({0}))
    report.add_html("Cuts", segmentation_html([[cut]]))
    report.add_html("Nearest", nearest_html([Neighbors(ATTACK.encode(), [(ATTACK.encode(), 0.5)])]))
    return report


def test_no_text_becomes_markup() -> None:
    page = Page(full_report().to_html())
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    kinds = [kind for kind, _ in page.scripts]
    assert kinds == [*["application/json"] * 4, None]  # the data of each figure, and the page's own
    assert "alert(" not in page.scripts[-1][1]
    assert page.text.count(ATTACK) >= 6  # shown as it is


def test_figure_labels_reach_plotly_escaped() -> None:
    for section in full_report().sections:
        if section.kind == "figure" and section.title != "Foreign":
            assert "<img" not in json.dumps(section.figure)


def test_the_page_loads_nothing() -> None:
    page = Page(full_report().to_html())
    loading = {"src", "href", "srcset", "data", "action", "poster", "background"}
    assert not [(tag, attrs) for tag, attrs in page.elements if loading & set(attrs)]
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "embed", "base")]
    styles = re.findall(r"<style>(.*?)</style>", full_report().to_html(), re.DOTALL)
    assert not re.search(r"url\(|@import", "".join(styles))


def test_pictures_are_static_and_plotly_comes_along_only_where_it_must() -> None:
    report = Report("t")
    report.add_table("a", [{"x": 1}])
    assert len(report.to_html()) < 30_000
    for number in range(6):
        report.add_figure(f"f{number}", bars({"a": 1.0, "b": 2.0}, title="x"))
    page = report.to_html()
    assert "plotly.js v" not in page
    assert len(page) < 300_000
    report.add_figure("pie", go.Figure(go.Pie(values=[1, 2])))
    assert report.to_html().count("plotly.js v") == 1


def test_the_answer_comes_first_then_pictures_then_folded_tables() -> None:
    report = Report("title", "It costs 0.9, not 1.0. The rest. And more.")
    report.add_table("first table", [{"x": 1}])
    report.add_figure("picture", bars({"a": 1.0}, title="x"))
    report.add_table("second table", [{"x": 1}])
    page = report.to_html()
    assert '<p class="answer">It costs 0.9, not 1.0.</p>' in page
    places = [page.index(f">{text}<") for text in ("title", "The rest. And more.", "picture", "first table", "second table")]
    assert places == sorted(places)
    assert re.findall(r"<details( open)?>\s*<summary>(.*?)<", page) == [(" open", "first table"), ("", "second table")]


def drawn(figure: go.Figure, *, narrow: bool = False) -> tuple[ElementTree.Element, list[str]]:
    """The picture as XML, and its texts in order."""
    source = svg(_data(figure), "a picture", narrow=narrow)
    root = ElementTree.fromstring(source)
    return root, ["".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")]


def _data(figure: go.Figure) -> dict[str, object]:
    report = Report("")
    report.add_figure("", figure)
    return report.sections[0].figure


def every_figure() -> dict[str, go.Figure]:
    box = go.Box(
        y=["one", "two"], q1=[1, 2], median=[2, 3], q3=[3, 4], lowerfence=[0, 1], upperfence=[5, 6], mean=[2, 3], orientation="h", name="b"
    )
    side = make_subplots(rows=1, cols=2, subplot_titles=["left", "right"])
    side.add_heatmap(z=[[0.1, None], [0.5, 0.9]], x=["a", "b"], y=["c", "d"], text=[["0.10", ""], ["0.50", "0.90"]], row=1, col=1)
    side.add_heatmap(z=[[0.2, 0.3]], x=["a", "b"], y=["c"], row=1, col=2)
    log = go.Figure(go.Scatter(x=[1, 10, 100], y=[3.0, 2.0, 1.0], name="fall", fill="tozeroy"))
    log.update_xaxes(type="log", title="steps")
    return {
        "curves": training_curves({"merge": [(0, 3.0), (10, 2.5)], "mean": [(0, 3.1), (10, 2.4)]}, untouched=2.7),
        "trade-off": trade_off(ROWS),
        "bars": bars({"a": 1.5, "untouched": 2.0}, title="bits"),
        "learning": learning_curves({"base": [(10, 0.5, 0.4, 0.6), (100, 0.7, 0.6, 0.8)], "new": [(10, 0.6, 0.5, 0.7)]}, reference="base"),
        "lengths": token_lengths([b"ab", b"abc", "é".encode()]),
        "boxes": go.Figure(box),
        "maps": side,
        "log": log,
    }


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", every_figure())
def test_every_kind_of_figure_is_drawn_with_its_words_as_text(name: str, narrow: bool) -> None:
    root, texts = drawn(every_figure()[name], narrow=narrow)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert width == (350 if narrow else 900)
    assert height > 100
    said = {
        "curves": {"merge", "mean", "untouched", "seconds of training", "bits per byte"},
        "trade-off": {"untouched", "tokens per byte"},
        "bars": {"a", "untouched", "1.5", "2", "bits"},
        "learning": {"base", "new", "10", "100", "F1"},
        "lengths": {"characters", "bytes", "pieces"},
        "boxes": {"one", "two"},
        "maps": {"left", "right", "0.10", "0.50", "0.90", "a", "d"},
        "log": {"1", "10", "100", "steps"},
    }
    assert said[name] <= set(texts)


@pytest.mark.filterwarnings("error")
def test_a_logarithmic_axis_without_a_value_above_zero_is_drawn() -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[0.0, 0.0], name="nothing"))
    figure.update_yaxes(type="log", title="eigenvalue")
    assert "eigenvalue" in drawn(figure)[1]


@pytest.mark.parametrize("layers", [[1], [0, 1, 2]])
def test_an_axis_of_whole_numbers_has_no_others(layers: list[int]) -> None:
    figure = go.Figure(go.Scatter(x=layers, y=[5.0] * len(layers)))
    figure.update_xaxes(title="layer", tickformat="d")
    below = drawn(figure)[1]
    assert below[: below.index("layer")] == [str(layer) for layer in layers]


def test_names_below_a_narrow_picture_do_not_meet() -> None:
    names = ["least-squares", "vecmap", "procrustes", "refined-procrustes", "rcsls"]
    _, texts = drawn(go.Figure(go.Bar(x=names, y=[1.0] * 5)), narrow=True)
    assert "least-squares" not in texts
    assert {"least-", "squares", "vecmap"} <= set(texts)
    _, wide = drawn(go.Figure(go.Bar(x=names, y=[1.0] * 5)))
    assert set(names) <= set(wide)


def test_two_pictures_share_no_names_and_have_the_colours_of_the_page() -> None:
    sources = [svg(_data(every_figure()["curves"]), title, narrow=narrow) for title in "ab" for narrow in (False, True)]
    names = [set(re.findall(r'id="([^"]+)"', source)) for source in sources]
    assert all(not a & b for a, b in itertools.combinations(names, 2))
    for source in sources:
        assert {f"#{used}" for used in re.findall(r"url\(#([^)]+)\)", source)} <= {
            f"#{name}" for name in re.findall(r'id="([^"]+)"', source)
        }
        assert "currentColor" in source
        assert "var(--grid)" in source
        assert not re.search(r"#01020[0-9]|#0[47]0[58]0[69]|DejaVu", source)


def test_a_picture_has_bars_at_their_lengths() -> None:
    root, _ = drawn(bars({"a": 1.0, "b": 2.0}, title="x"))
    paths = [path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path") if "#4a90d9" in path.attrib.get("style", "")]
    numbers = [[float(number) for number in re.findall(r"-?[\d.]+", path)] for path in paths]
    widths = sorted(max(one[0::2]) - min(one[0::2]) for one in numbers)
    assert len(widths) == 2
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)


def test_json_round_trip_is_finite_and_plain() -> None:
    found = full_report().to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [s["kind"] for s in found["sections"]] == ["table", "table", "figure", "figure", "figure", "figure", "html", "html"]
    assert found["sections"][0]["rows"] == ROWS
    foreign = found["sections"][5]["figure"]["data"][0]
    assert foreign["x"] == [0, 1, 2]
    assert foreign["y"] == [1.0, None, None]
    heat = Report("t")
    heat.add_figure("f", go.Figure(go.Heatmap(z=np.array([[1.5, 2.0], [np.nan, 4.0], [5.0, 6.0]]))))
    assert heat.to_json()["sections"][0]["figure"]["data"][0]["z"] == [[1.5, 2.0], [None, 4.0], [5.0, 6.0]]


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(JSON_LIKE)
def test_plain_values_always_fit_json(value: object) -> None:
    made = plain({"v": value, "array": np.array([1.5, np.nan]), "scalar": np.float32(2), "path": Path("a"), "set": {1}})
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["array"] == [1.5, None]
    assert made["scalar"] == 2.0


def test_numbers_of_a_column_align_and_missing_ones_are_dashes() -> None:
    rows = [
        {"a": 1234.5, "b": 2, "c": 0.00001, "d": True, "e": None, "peak_mb": 3.25},
        {"a": None, "b": 12_000, "c": 0.25, "d": None, "e": None},
    ]
    columns = {column.heading: column for column in table_columns(rows)}
    assert columns["a"].cells == ["1,234" if round(1234.5) == 1234 else "1,235", MISSING]
    assert columns["b"].cells == ["2", "12,000"]
    assert columns["c"].cells == ["1.0e-05", "0.250"]
    assert columns["d"].cells == ["yes", MISSING]
    assert columns["peak MB"].cells == ["3.250", MISSING]
    assert "e" not in columns  # nothing to show
    assert [columns[name].numeric for name in "abcd"] == [True, True, True, False]


def test_terminal_shows_every_number_and_no_markup() -> None:
    report = Report("[bold]not markup[/bold]", "lead")
    report.add_table("t", [{"method": "[red]x[/red]", "bits_per_byte_after": 3.14159, "greedy_hits": None, "n": 1}], "note")
    shown = io.StringIO()
    report.print(Console(file=shown, width=60))
    assert "[bold]not markup[/bold]" in shown.getvalue()
    assert "[red]x[/red]" in shown.getvalue()
    assert "3.142" in shown.getvalue()
    assert "note" in shown.getvalue()


def test_wide_tables_keep_their_numbers_on_a_narrow_terminal() -> None:
    report = Report("t")
    report.add_table("t", [{"method": "zip-tie", **{f"bits_per_byte_after_{i}": 1000.25 + i for i in range(5)}}])
    shown = io.StringIO()
    report.print(Console(file=shown, width=80))
    assert all(f"{1000.25 + i:,.0f}" in shown.getvalue() for i in range(5))


def test_best_value_is_marked_on_every_row_that_ties() -> None:
    rows = [{"x": 1.0}, {"x": None}, {"x": 1.0}, {"x": 2.0}]
    assert table_columns(rows, {"x": "low"})[0].best == {0, 2}
    assert table_columns(rows, {"x": "high"})[0].best == {3}
    assert table_columns(rows)[0].best == frozenset()


def test_saving_leaves_a_whole_page_or_nothing(tmp_path: Path) -> None:
    report = Report("t")
    path = report.save_html(tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        report.save_html(tmp_path / "file" / "report.html")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 400), max_size=15), st.integers(1, 25))
def test_labels_keep_their_order_their_gap_and_their_room(places: list[float], gap: int) -> None:
    places = sorted(places)
    moved = spread(places, gap, 400)
    assert len(moved) == len(places)
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(moved))
    if moved:
        assert moved[0] >= -1e-6
        assert moved[-1] <= 400 + 1e-6
    if all(b - a >= gap for a, b in itertools.pairwise(places)):
        assert moved == pytest.approx(places)


def test_trade_off_marks_the_untouched_model_and_leaves_failures_out() -> None:
    figure = trade_off(ROWS)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(marks) == 2
    assert marks[0].marker.color == UNTOUCHED
    assert (marks[1].x[0], marks[1].y[0]) == (0.29, 3.1)
    assert trade_off([]).data == ()


def test_token_lengths_counts_bytes_and_whole_characters() -> None:
    figure = token_lengths(["ế".encode(), b"ab", b"\xe1\xba"])
    counts = {bar.name: dict(zip(bar.x, bar.y, strict=True)) for bar in figure.data}
    assert counts == {"characters": {1: 1, 2: 1}, "bytes": {2: 2, 3: 1}}


def test_bars_put_the_best_on_top() -> None:
    assert list(bars({"a": 3.0, "b": 1.0, "c": None}, title="x").data[0].y) == ["a", "b"]  # plotly draws upwards
    assert list(bars({"a": 3.0, "b": 1.0}, title="x", ascending=False).data[0].y) == ["b", "a"]


def test_pieces_show_spaces_bytes_marks_and_controls() -> None:
    assert visible_html(b" a\n") == "<i>·</i>a<i>↵</i>"
    assert visible_html(b"a\xe1\xba") == 'a<span class="hex">E1 BA</span>'
    assert visible_html(b"\x80\x81z") == '<span class="hex">80</span><span class="hex">81</span>z'
    assert visible_html("\u0301a".encode()) == "\u25cc\u0301a"
    assert visible_html("\u200d".encode()) == '<span class="hex">U+200D</span>'
    assert visible_html(b"<&\"'") == "&lt;&amp;&quot;&#x27;"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_give_balanced_safe_markup(surface: bytes) -> None:
    page = Page(visible_html(surface))
    assert {tag for tag, _ in page.elements} <= {"i", "span"}
    assert visible_html(surface).count("<") == 2 * len(page.elements)


def test_new_pieces_are_marked_and_counted() -> None:
    fragment = segmentation_html([[Segmentation("old", [b"a", b"b"]), Segmentation("new", [b"ab"], frozenset({0}))]])
    lines = re.findall(r'<div class="sample-line">.*?</div></div>', fragment)
    assert "2 pieces" in lines[0]
    assert "piece new" not in lines[0]
    assert '<span class="piece new">ab</span>' in lines[1]


def test_a_narrow_terminal_gets_the_columns_in_parts_and_no_figure_is_cut():
    report = Report("Title")
    rows = [{"method": f"method {name}", **{f"figure_of_{field}": 1234.5678 + field for field in range(8)}} for name in "ab"]
    report.add_table("Table", rows, "Caption")
    for width, parts in ((200, 1), (60, 2), (30, 4)):
        stream = io.StringIO()
        report.print(Console(file=stream, width=width))
        said = stream.getvalue()
        assert "…" not in said
        assert said.count("method a") == parts
        assert said.count("Table") == said.count("Caption") == 1
        assert all(f"{1234.5678 + field:,.0f}" in said for field in range(8))
        assert max(map(len, said.splitlines())) <= width
