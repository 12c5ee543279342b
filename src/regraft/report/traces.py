"""What plotly traces look like in matplotlib: lines and marks, bars, boxes of given quantiles, heatmaps.

Enters: a trace as plain data and the axes it belongs to. Leaves: artists on the axes, and what a legend says of them.
"""

import html
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

INK, GRID, SOFT = "#010203", "#040506", "#070809"  # stand for the page's own colours, which are put in their places at the end
COLORS = ("#4a90d9", "#d55e00", "#009e73", "#cc79a7", "#c79a00", "#7f6fd0", "#b0418f", "#a0674b")
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "star": "*",
    "pentagon": "p",
    "hexagon": "h",
    "x": "X",
}
Trace = Mapping[str, Any]


def said(text: Any, width: int = 1000) -> str:
    """A label as plain text: plotly's are HTML. Lines longer than `width` characters are broken."""
    plain = html.unescape(re.sub(r"</?(?:b|i|em|sup|sub|span)[^>]*>", "", re.sub(r"<br\s*/?>", "\n", str(text))))
    return "\n".join(textwrap.fill(line, width, break_long_words=True) for line in plain.split("\n"))


class Places:
    """Numbers of an axis: its own, or those of its categories in the order in which they are met, or in a given one."""

    def __init__(self, axis: Trace) -> None:
        given = axis.get("categoryarray") or []
        self.names: list[str] = [str(name) for name in given]
        self.named = bool(given) or axis.get("type") == "category"

    def of(self, values: Sequence[Any]) -> list[float]:
        if self.named or any(isinstance(value, str) for value in values):
            self.named = True
            self.names += [name for name in dict.fromkeys(map(str, values)) if name not in self.names]
            return [float(self.names.index(str(value))) for value in values]
        return [np.nan if value is None else float(value) for value in values]


def scatter(ax: Any, trace: Trace, x: Places, y: Places, color: str, turn: tuple[int, int]) -> dict[str, Any]:
    mode, line, marker = trace.get("mode") or "lines", trace.get("line") or {}, trace.get("marker") or {}
    xs, ys = x.of(trace.get("x") or []), y.of(trace.get("y") or [])
    color = line.get("color") or _one(marker.get("color")) or color
    look: dict[str, Any] = {"color": color, "alpha": trace.get("opacity", marker.get("opacity", 1.0))}
    look |= {"linestyle": DASHES.get(line.get("dash", "solid"), "-") if "lines" in mode else "none", "linewidth": line.get("width", 2)}
    if "markers" in mode:
        look |= {"marker": MARKS.get(_one(marker.get("symbol")) or "circle", "o"), "markersize": 0.8 * float(_one(marker.get("size")) or 7)}
    ax.plot(xs, ys, drawstyle="steps-mid" if line.get("shape") in ("hvh", "vhv") else "default", **look)
    if trace.get("fill") in ("tozeroy", "tonexty"):
        ax.fill_between(xs, 0, ys, color=color, alpha=0.15, linewidth=0, step="mid" if line.get("shape") else None)
    for name in ("x", "y"):
        if (spread := _spread(trace.get(f"error_{name}"), len(xs))) is not None:
            ax.errorbar(xs, ys, **{f"{name}err": spread}, fmt="none", ecolor=color, elinewidth=1.2, capsize=3)
    if "text" in mode:
        for place, words in zip(zip(xs, ys, strict=True), _many(trace.get("text"), len(xs)), strict=True):
            ax.annotate(said(words), place, (0, 8), textcoords="offset points", ha="center", color=INK, fontsize=12)
    return look


def bar(ax: Any, trace: Trace, x: Places, y: Places, color: str, turn: tuple[int, int]) -> dict[str, Any]:
    """`turn`: which of how many bars stand side by side at each place."""
    lying, marker = trace.get("orientation") == "h", trace.get("marker") or {}
    places = (y if lying else x).of((trace.get("y") if lying else trace.get("x")) or [])
    values = [np.nan if v is None else float(v) for v in ((trace.get("x") if lying else trace.get("y")) or [])]
    width, (number, count) = 0.75 / turn[1], turn
    at = np.array(places) + (number - (count - 1) / 2) * width
    filled = marker.get("color") or color
    hatch = "//" if (marker.get("pattern") or {}).get("shape") else None
    look: dict[str, Any] = {"color": filled, "hatch": hatch, "edgecolor": "#ffffff" if hatch else None, "linewidth": 0}
    (ax.barh if lying else ax.bar)(at, values, width, **look)
    error = _spread(trace.get("error_x" if lying else "error_y"), len(values))
    if error is not None:
        ends = {"xerr" if lying else "yerr": error}
        ax.errorbar(values if lying else at, at if lying else values, **ends, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
    for place, value, words in zip(at, values, _many(trace.get("text"), len(values)), strict=True):
        if words:
            spot, gap = ((value, place), (4, 0)) if lying else ((place, value), (0, 4))
            ends = {"ha": "left", "va": "center"} if lying else {"ha": "center", "va": "bottom"}
            ax.annotate(said(words), spot, gap, textcoords="offset points", color=INK, fontsize=12, **ends)
    return {"color": _one(filled), "marker": "s", "linestyle": "none", "markersize": 9}


def box(ax: Any, trace: Trace, x: Places, y: Places, color: str, turn: tuple[int, int]) -> dict[str, Any]:
    """Boxes whose quantiles are given, side by side where several traces have one at a place."""
    lying, color = trace.get("orientation") == "h", (trace.get("marker") or {}).get("color") or color
    places = (y if lying else x).of((trace.get("y") if lying else trace.get("x")) or [])
    width, (number, count) = 0.75 / turn[1], turn
    keys = {"q1": "q1", "med": "median", "q3": "q3", "whislo": "lowerfence", "whishi": "upperfence", "mean": "mean"}
    stats = [
        {key: trace[name][i] for key, name in keys.items() if trace.get(name) is not None} | {"fliers": []} for i in range(len(places))
    ]
    line = {"color": color, "linewidth": 1.5}
    ax.bxp(
        stats,
        positions=np.array(places) + (number - (count - 1) / 2) * width,
        widths=0.8 * width,
        orientation="horizontal" if lying else "vertical",
        patch_artist=True,
        showmeans="mean" in stats[0] if stats else False,
        meanline=True,
        manage_ticks=False,
        boxprops={"facecolor": color, "alpha": 0.35, "edgecolor": color},
        medianprops=line,
        whiskerprops=line,
        capprops=line,
        meanprops={**line, "linestyle": "--", "linewidth": 1},
    )
    return {"color": color, "marker": "s", "linestyle": "none", "markersize": 9}


def heatmap(ax: Any, trace: Trace, x: Places, y: Places, color: str, turn: tuple[int, int]) -> dict[str, Any]:
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    grid = np.array([[np.nan if value is None else float(value) for value in row] for row in trace["z"]], dtype=float).reshape(
        len(trace["z"]), -1
    )
    scale = trace.get("colorscale")
    shades: Any = "Blues"
    if isinstance(scale, list) and all(len(step) == 2 and str(step[1]).startswith("#") for step in scale):
        shades = LinearSegmentedColormap.from_list("given", [(float(at), shade) for at, shade in scale])
    rows, columns = grid.shape
    across, down = (np.array(places.of(trace.get(n) or list(range(c)))) for n, places, c in (("x", x, columns), ("y", y, rows)))
    low, high = trace.get("zmin"), trace.get("zmax")
    norm = Normalize(np.nanmin(grid) if low is None else low, np.nanmax(grid) if high is None else high)
    drawn = ax.pcolormesh(across, down, grid, cmap=shades, norm=norm, shading="nearest", edgecolors="none")
    ax.grid(False)
    for i, row in enumerate(trace.get("text") or []):
        for j, words in enumerate(row):
            if words:
                dark = sum(drawn.cmap(norm(grid[i, j]))[:3]) < 1.7
                ax.text(across[j], down[i], said(words), ha="center", va="center", color="#ffffff" if dark else "#101418", fontsize=12)
    return {}


Draw = Callable[[Any, Trace, Places, Places, str, tuple[int, int]], dict[str, Any]]
DRAWN: dict[str, Draw] = {"scatter": scatter, "bar": bar, "box": box, "heatmap": heatmap}


def can_draw(trace: Trace) -> bool:
    """Whether a trace is of a kind that is drawn here; boxes only with their quantiles given."""
    return trace.get("type", "scatter") in DRAWN and (trace.get("type") != "box" or trace.get("q1") is not None)


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _many(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list) else [value] * count


def _spread(error: Any, count: int) -> Any:
    """Lengths of error bars as matplotlib takes them: (2, count), below and above."""
    if not error or error.get("array") is None:
        return None
    above = [max(0.0, v or 0.0) for v in error["array"]]
    below = [max(0.0, v or 0.0) for v in error["arrayminus"]] if error.get("arrayminus") is not None else above
    return np.array([below, above]).reshape(2, count)
