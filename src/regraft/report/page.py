"""A report: what was found, as tables, plots and marked-up text, shown on a terminal, as JSON, or as one self-contained HTML page.

Enters: rows (plain dicts), plotly figures, HTML fragments. Leaves: the same content three ways. The page has the answer first, then the
pictures, then the tables, folded. It loads nothing from a network, so it can be mailed, archived and opened in ten years; pictures are
static and carry their data. Every text is escaped, except fragments, whose makers escape their own.
"""

import base64
import dataclasses
import html
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regraft import __version__
from regraft.errors import OutputError
from regraft.output import atomic_file
from regraft.report.static import can_draw, svg

MISSING = "–"
WIDTH, UNBOUNDED = 140, 10_000
Row = Mapping[str, Any]
Best = Mapping[str, Literal["low", "high"]]


@dataclasses.dataclass(frozen=True)
class Column:
    """How one column is shown: its heading, one text a row, and whether it is numeric (aligned right)."""

    heading: str
    cells: list[str]
    values: list[Any]
    numeric: bool
    best: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a report. `kind` says which of `rows`, `figure`, `fragment` it carries."""

    kind: Literal["table", "figure", "html"]
    title: str
    caption: str
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    figure: dict[str, Any] = dataclasses.field(default_factory=dict)
    fragment: str = ""
    best: Best = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> list[Column]:
        return table_columns(self.rows, self.best)

    @property
    def figure_json(self) -> str:
        """The figure for a `<script type="application/json">` element: no "<" can end the element early."""
        return json.dumps(self.figure, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")

    @property
    def pictures(self) -> dict[str, str]:
        """The figure as SVG for wide and for narrow pages; nothing where it holds what only plotly draws."""
        if not can_draw(self.figure):
            return {}
        return {"wide": svg(self.figure, self.title), "narrow": svg(self.figure, self.title, narrow=True)}

    @property
    def height(self) -> int:
        return int(self.figure.get("layout", {}).get("height") or 420)


class Report:
    """Sections in the order they were added, under a `title` and a one-paragraph `lead` that says what was found."""

    def __init__(self, title: str, lead: str = "") -> None:
        self.title, self.lead = title, lead
        self.sections: list[Section] = []

    def add_table(self, title: str, rows: Iterable[Row], caption: str = "", *, best: Best | None = None) -> None:
        """Add a table, one column per key in order of first appearance; None is shown as a dash, and a column of only None not at all.

        `best` marks the best value of a column, for example ``{"bits_per_byte": "low"}``.
        """
        self.sections.append(Section("table", title, caption, rows=[plain(dict(row)) for row in rows], best=dict(best or {})))

    def add_figure(self, title: str, figure: Any, caption: str = "") -> None:
        """Add a plotly figure. Its template is dropped: the page gives it colours that fit light and dark."""
        data = plain(_arrays_decoded(figure.to_plotly_json()))
        data.get("layout", {}).pop("template", None)
        self.sections.append(Section("figure", title, caption, figure=data))

    def add_html(self, title: str, fragment: str, caption: str = "") -> None:
        """Add an HTML fragment, whose texts its maker has escaped."""
        self.sections.append(Section("html", title, caption, fragment=fragment))

    def print(self, console: Console | None = None) -> None:
        """Show title, lead and tables on a terminal (plots and fragments need the page)."""
        if console is None:
            console = Console()
            if not console.is_terminal:
                console = Console(width=WIDTH)  # a file has no width of its own
        console.print(Text(self.title, style="bold"))
        if self.lead:
            console.print(Text(self.lead))
        for section in self.sections:
            if section.kind == "table":
                console.print()
                for part in terminal_tables(section, console):
                    console.print(part)
                if section.caption:
                    console.print(Text(section.caption, style="dim"))

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings, finite numbers, truth values and None."""
        kinds = {"table": "rows", "figure": "figure", "html": "fragment"}
        sections = [
            {"kind": s.kind, "title": s.title, "caption": s.caption, kinds[s.kind]: getattr(s, kinds[s.kind])} for s in self.sections
        ]
        return {"title": self.title, "lead": self.lead, "regraft": __version__, "sections": sections}

    def to_html(self) -> str:
        """The page: styles, scripts and pictures are all inside; plotly.js too where a figure needs it."""
        source = resources.files("regraft.report").joinpath("templates/report.html").read_text(encoding="utf-8")
        template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
        pictures = [(section, section.pictures if section.kind == "figure" else {}) for section in self.sections if section.kind != "table"]
        tables = [section for section in self.sections if section.kind == "table"]
        plotly_js = ""
        if any(section.kind == "figure" and not drawn for section, drawn in pictures):
            from plotly.offline import get_plotlyjs

            plotly_js = get_plotlyjs()
        answer, rest = first_sentence(self.lead)
        given = {"answer": answer, "rest": rest, "pictures": pictures, "tables": tables}
        return template.render(report=self, plotly_js=plotly_js, version=__version__, **given)

    def save_html(self, path: str | Path) -> Path:
        """Write the page; it appears whole or not at all. Raises `OutputError` when it can't be written."""
        path = Path(path)
        try:
            with atomic_file(path) as partial:
                partial.write_text(self.to_html(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path}: the report can't be written ({error.strerror}); choose another place") from None
        return path


def first_sentence(text: str) -> tuple[str, str]:
    """A text as its first sentence and what follows; a line break ends a sentence too."""
    found = re.search(r"(?<=[.!?])\s+(?=[A-Z(])|\n", text)
    return (text, "") if found is None else (text[: found.start()], text[found.end() :])


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: arrays become lists, dataclasses and mappings dicts, NaN and infinities None, the rest text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    return str(value)


def _arrays_decoded(value: Any) -> Any:
    """Figure data with plotly's base64 arrays as arrays again, so that the JSON can be read without plotly."""
    if isinstance(value, dict):
        if "bdata" in value and "dtype" in value:
            flat = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]).newbyteorder("<"))
            return flat.reshape([int(n) for n in str(value.get("shape", flat.size)).split(",")])
        return {key: _arrays_decoded(item) for key, item in value.items()}
    return [_arrays_decoded(item) for item in value] if isinstance(value, (list, tuple)) else value


def table_columns(rows: Sequence[Row], best: Best | None = None) -> list[Column]:
    """Rows turned into columns of formatted text; numbers of one column share their decimals, so that they align."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        present = [v for v in values if v is not None]
        if not present:
            continue
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in present)
        cells = _number_cells(values) if numeric else [_cell(v) for v in values]
        columns.append(Column(heading(name), cells, values, numeric, _best(values, (best or {}).get(name)) if numeric else frozenset()))
    return columns


def heading(name: str) -> str:
    """A key of a row as a person writes it: "peak_mb" is "peak MB"."""
    return " ".join("MB" if word == "mb" else word for word in name.split("_"))


def _best(values: Sequence[Any], direction: str | None) -> frozenset[int]:
    present = [v for v in values if v is not None]
    if direction is None or len(present) < 2:
        return frozenset()
    winner = min(present) if direction == "low" else max(present)
    return frozenset(i for i, v in enumerate(values) if v == winner)


def _number_cells(values: Sequence[Any]) -> list[str]:
    present = [v for v in values if v is not None]
    if all(isinstance(v, int) or float(v).is_integer() for v in present):
        return [MISSING if v is None else f"{int(v):,}" for v in values]
    largest = max(abs(v) for v in present)
    decimals = 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0
    return [MISSING if v is None else _number(v, decimals) for v in values]


def _number(value: float, decimals: int) -> str:
    """Fixed decimals; a value that they would round to nothing is shown with two digits and a power of ten."""
    if value and abs(value) < 0.5 * 10**-decimals:
        return f"{value:.1e}"
    return f"{value:,.{decimals}f}"


def _cell(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value, 3)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    return str(value)


def terminal_tables(section: Section, console: Console) -> list[Table]:
    """Rich tables of a section, to stand below each other: where `console` is too narrow for all columns, each begins with the first."""
    columns, wide = section.columns, console.options.update(width=UNBOUNDED)
    parts = [columns[:1]]
    for column in columns[1:]:
        if len(parts[-1]) > 1 and console.measure(_table("", [*parts[-1], column]), options=wide).minimum > console.width:
            parts.append(columns[:1])
        parts[-1].append(column)
    return [_table("" if index else section.title, part) for index, part in enumerate(parts)]


def _table(title: str, columns: Sequence[Column]) -> Table:
    """Numbers to the right, best values bold."""
    table = Table(title=Text(title, style="bold") if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        head, whole = Text(_folded(column)), column.numeric or index == 0
        widest = max(map(cell_len, [*head.plain.splitlines(), *column.cells])) if whole else None
        table.add_column(head, justify="right" if column.numeric else "left", no_wrap=whole, min_width=widest)
    for row in range(len(columns[0].cells) if columns else 0):
        table.add_row(*(Text(column.cells[row], style="bold green" if row in column.best else "") for column in columns))
    return table


def _folded(column: Column) -> str:
    """The heading over as many lines as keep a numeric column no wider than its numbers ask."""
    if not column.numeric:
        return column.heading
    width = max(8, max(map(len, column.cells)), max(map(len, column.heading.split())))
    return "\n".join(textwrap.wrap(column.heading, width, break_long_words=False))


def escape(text: Any) -> str:
    """Text made safe to stand in HTML, in elements and in quoted attributes."""
    return html.escape(str(text), quote=True)
