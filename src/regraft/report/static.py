"""A plotly figure as static pictures: SVG by matplotlib, once for a wide page and once for a phone.

Enters: a figure as plain data (`Figure.to_plotly_json`). Leaves: SVG elements that hold their text as text. Ink and grid have the page's
colours, light or dark. Understood is what this library's figures use (see `regraft.report.traces`; axes, lines across, notes, legends,
plots side by side); `can_draw` says whether a figure has more, which then needs plotly itself.
"""

import html
import io
import math
import re
from collections.abc import Mapping
from typing import Any

from regraft.report.traces import COLORS, DASHES, DRAWN, GRID, INK, SOFT, Places, Trace, said
from regraft.report.traces import can_draw as can_draw_trace

WIDE, NARROW = 900, 350  # pixels at which text has its own size
EDGE = "at the right edge"
PAGE = {INK: "currentColor", GRID: "var(--grid)", SOFT: "var(--soft)"}


def can_draw(figure: Mapping[str, Any]) -> bool:
    shapes = figure.get("layout", {}).get("shapes") or []
    return all(map(can_draw_trace, figure.get("data") or [])) and all(shape.get("type") == "line" for shape in shapes)


def svg(figure: Mapping[str, Any], title: str, *, narrow: bool = False) -> str:
    """The picture as an `<svg>` element. A `narrow` one has its names in a legend and its plots below each other."""
    import matplotlib
    from matplotlib.figure import Figure

    layout, size = figure.get("layout") or {}, 12 if narrow else 13
    salt = f"{title} {narrow} {len(str(figure))}"
    look: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": size,
        "axes.edgecolor": GRID,
    }
    look |= {"text.color": INK, "axes.labelcolor": INK, "xtick.color": SOFT, "ytick.color": SOFT, "grid.color": GRID}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True}
    with matplotlib.rc_context(look):
        plots = sorted({_plot(trace) for trace in figure.get("data") or []}) or [""]
        height = float(layout.get("height") or 420)
        if narrow:
            height = (height if _tall(figure) else min(height, 320.0)) * len(plots)
        drawn = Figure(figsize=((NARROW if narrow else WIDE) / 72, height / 72), layout="constrained")
        grid = drawn.subplots(len(plots) if narrow else 1, 1 if narrow else len(plots), squeeze=False).ravel()
        legend: list[tuple[str, dict[str, Any]]] = []
        for ax, plot in zip(grid, plots, strict=True):
            legend += _draw(ax, figure, plot, narrow, first=ax is grid[0])
        lines = _legend(drawn, layout, legend, narrow)
        drawn.set_size_inches(drawn.get_figwidth(), (height + 18 * lines) / 72)
        out = io.StringIO()
        drawn.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _on_page(out.getvalue(), title)


def _plot(trace: Trace) -> str:
    """ "" for the first pair of axes, "2" for the second."""
    return str(trace.get("xaxis") or "x")[1:]


def _tall(figure: Mapping[str, Any]) -> bool:
    """Whether the height follows from how many rows there are."""
    return any(
        trace.get("type") in ("bar", "box", "heatmap") and trace.get("orientation", "h") == "h" for trace in figure.get("data") or []
    )


def _draw(ax: Any, figure: Mapping[str, Any], plot: str, narrow: bool, *, first: bool) -> list[tuple[str, dict[str, Any]]]:
    """All of one pair of axes; what a legend would say of it."""
    layout = figure.get("layout") or {}
    across, up = (layout.get(f"{name}axis{plot}") or {} for name in "xy")
    x, y, legend = Places(across), Places(up), []
    traces = [trace for trace in figure.get("data") or [] if _plot(trace) == plot]
    beside = [trace for trace in traces if trace.get("type") in ("bar", "box")]
    for number, trace in enumerate(traces):
        turn = (beside.index(trace), len(beside)) if trace in beside else (0, 1)
        shown = DRAWN[trace.get("type", "scatter")](ax, trace, x, y, COLORS[number % len(COLORS)], turn)
        if shown and trace.get("name") and trace.get("showlegend") is not False:
            legend.append((said(trace["name"], 30), shown))
    for shape in layout.get("shapes") or []:
        line = shape.get("line") or {}
        look = {
            "color": line.get("color", SOFT),
            "linewidth": line.get("width", 1),
            "linestyle": DASHES.get(line.get("dash", "solid"), "-"),
        }
        if str(shape.get("xref")) in (f"x{plot} domain", "paper") and str(shape.get("yref")) == f"y{plot}":
            ax.axhline(shape["y0"], zorder=1, **look)
        elif str(shape.get("yref")) in (f"y{plot} domain", "paper") and str(shape.get("xref")) == f"x{plot}":
            ax.axvline(shape["x0"], zorder=1, **look)
    wrap = (14, 30) if narrow else (24, 44)
    if x.named:  # names below stand beside each other: a letter is about 7 pixels wide
        wrap = (max(4, min(wrap[0], (NARROW if narrow else WIDE) * 6 // 7 // (7 * len(x.names) or 1))), wrap[1])
    _axis(ax.xaxis, across, x, wrap[0], flip=ax.invert_xaxis, limits=ax.set_xlim, scale=ax.set_xscale, narrow=narrow)
    other = layout.get("yaxis") or {} if plot else {}
    _axis(ax.yaxis, up | ({"autorange": other.get("autorange")} if other else {}), y, wrap[1] if not narrow else 16, flip=ax.invert_yaxis,
          limits=ax.set_ylim, scale=ax.set_yscale, narrow=narrow)  # fmt: skip
    return legend + _notes(ax, layout, plot, narrow, first=first)


def _axis(axis: Any, asked: Trace, places: Places, wrap: int, *, flip: Any, limits: Any, scale: Any, narrow: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    title = asked.get("title") or {}
    axis.set_label_text(said(title.get("text") or "" if isinstance(title, Mapping) else title, 42 if narrow else 90))
    log = asked.get("type") == "log" and axis.get_minpos() < math.inf  # without a value above 0 there is no such axis
    if log:
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1.0,) if narrow else (1.0, 2.0, 5.0), numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
        axis.set_minor_formatter(NullFormatter())
    if places.named:
        axis.set_ticks(range(len(places.names)), [said(name, wrap) for name in places.names])
        axis.grid(False)
    elif asked.get("tickvals") is not None:
        labels = asked.get("ticktext") or [f"{value:g}" for value in asked["tickvals"]]
        axis.set_ticks(asked["tickvals"], [said(label, wrap) for label in labels], minor=False)
        axis.set_ticks([], minor=True)
    elif not log:
        whole = asked.get("tickformat") == "d"
        axis.set_major_locator(MaxNLocator(5 if narrow else 8, integer=whole, min_n_ticks=1 if whole else 2))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    if asked.get("range") is not None:
        limits([10**bound for bound in asked["range"]] if log else asked["range"])
    elif asked.get("rangemode") == "tozero" and not log:
        limits(0, None)
    if asked.get("autorange") == "reversed":
        flip()


def _notes(ax: Any, layout: Trace, plot: str, narrow: bool, *, first: bool) -> list[tuple[str, dict[str, Any]]]:
    """Notes on the plot. Names at its right edge stand there on a wide page, and in the legend of a narrow one."""
    named = []
    notes = layout.get("annotations") or []
    titles = [note for note in notes if note.get("xref") == note.get("yref") == "paper" and not note.get("ax")]
    number = int(plot or 1) - 1
    if number < len(titles):
        ax.set_title(said(titles[number].get("text", ""), 40), fontsize=12)
    for note in notes if first else []:
        if note in titles:
            continue
        color, text = (note.get("font") or {}).get("color") or INK, said(note.get("text", ""), 30)
        at_edge = note.get("xref") == "paper" and note.get("xanchor") == "left"
        if at_edge and narrow:
            named.append((text, {"color": color, "linestyle": "-", "linewidth": 3, EDGE: True}))
            continue
        logs = [(layout.get(f"{name}axis") or {}).get("type") == "log" for name in "xy"]
        x, y = (10 ** note[name] if log and note.get(f"{name}ref") != "paper" else note[name] for name, log in zip("xy", logs, strict=True))
        where = tuple("axes fraction" if note.get(f"{name}ref") == "paper" else "data" for name in "xy")
        moved = (
            (note.get("ax") or 0, -(note.get("ay") or 0))
            if note.get("showarrow", True)
            else (3 if where[0] == "data" else -3, note.get("yshift", 4))
        )
        arrow = {"arrowstyle": "-", "color": color, "linewidth": 0.8} if note.get("showarrow", True) else None
        side = {"left": "left", "right": "right", "center": "center"}.get(note.get("xanchor", "center"), "center")
        ax.annotate(text, (x, y), moved, where, "offset points", arrowprops=arrow, color=color, fontsize=12, ha=side, va="center")
    return named


def _legend(drawn: Any, layout: Trace, legend: list[tuple[str, dict[str, Any]]], narrow: bool) -> int:
    """Names above the plots, where there are several and none stand at the right edge; how many lines that takes."""
    from matplotlib.lines import Line2D

    known = dict(legend)
    if layout.get("showlegend") is False:  # names at the right edge; of a narrow page here, in the order in which they would stand there
        marks = dict(reversed(legend))  # what a trace looks like rather than what its note does
        known = {name: marks[name] for name, look in legend if look.get(EDGE)} if narrow else {}
    if len(known) < 2:
        return 0
    keep = ("color", "linestyle", "linewidth", "marker", "markersize")
    handles = [Line2D([], [], label=name, **{key: look[key] for key in keep if look.get(key) is not None}) for name, look in known.items()]
    columns = max(
        1, min(len(handles), (NARROW if narrow else WIDE) // (24 + 8 * max(len(line) for name in known for line in name.split("\n"))))
    )
    drawn.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=12, handlelength=1.8)
    return -(-len(handles) // columns)


def _on_page(source: str, title: str) -> str:
    """The element alone, as wide as its place, in the page's colours and letters, without names that another picture might have."""
    element = source[source.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'<g id="[a-z0-9_.]+">', "<g>", re.sub(r"<style.*?</style>", "", element, flags=re.DOTALL))
    element = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", element)
    element = re.sub(r"font-family:[^;\"]*;?", "", element)
    element = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1" role="img">',
        element,
        count=1,
    )
    for stand_in, color in PAGE.items():
        element = element.replace(stand_in, color)
    return element.replace('role="img">', f'role="img" aria-label="{html.escape(title, quote=True)}">', 1).strip()
