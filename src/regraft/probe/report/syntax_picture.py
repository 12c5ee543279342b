"""Pictures of AST-Probe: F1 over layers beside both controls, F1 over ranks, and a rebuilt tree beside the true one."""

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go

from regraft.probe.probes.ast_probe.encoding import Constituent, Tree
from regraft.probe.probes.ast_probe.sweep import LEARNED, RANDOM, Outcome
from regraft.report import escape
from regraft.report.figures import MARGIN, PALETTE, UNTOUCHED

STEP, ROW, LETTER = 12, 34, 7.2  # pixels: between tokens, a level of the tree, a letter
SIDE = 64  # pixels at either end, for labels wider than what they span
CHARACTERS = 18  # of a token or label that are shown


def layers_picture(outcomes: Sequence[Outcome], height: int = 400) -> go.Figure:
    """One line of learned layers, one under random layers, and the level of layer 0; bars are 95 % intervals."""
    figure = go.Figure()
    for name, color, dash, symbol in ((LEARNED, PALETTE[0], "solid", "circle"), (RANDOM, PALETTE[1], "dash", "square")):
        _line(figure, [(one.layer, one) for one in outcomes if one.layers == name], name, color, dash, symbol)
    level = next((one.f1 for one in outcomes if (one.layers, one.layer) == (LEARNED, 0)), None)
    if level is not None:
        figure.add_hline(y=level, line={"color": UNTOUCHED, "dash": "dot", "width": 2})
        figure.add_annotation(x=1, xref="paper", xanchor="right", y=level, yanchor="top", showarrow=False, text="layer 0: the input")
    figure.update_xaxes(title="layer", tickformat="d", dtick=max(1, max(one.layer for one in outcomes) // 12))
    return _axes(figure, height)


def ranks_picture(outcomes: Sequence[Outcome], height: int = 340) -> go.Figure:
    """F1 over the rank of the projection, on a logarithmic axis."""
    figure = go.Figure()
    _line(figure, [(one.rank, one) for one in outcomes], f"layer {outcomes[0].layer}", PALETTE[0], "solid", "circle")
    ranks = sorted(one.rank for one in outcomes)
    figure.update_xaxes(title="rank", type="log", tickvals=ranks, ticktext=[str(rank) for rank in ranks])
    return _axes(figure, height)


def _line(figure: go.Figure, points: Sequence[tuple[int, Outcome]], name: str, color: str, dash: str, symbol: str) -> None:
    if not points:
        return
    points = sorted(points, key=lambda point: point[0])
    shown = [one for _, one in points]
    figure.add_scatter(
        x=[place for place, _ in points],
        y=[one.f1 for one in shown],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 2, "dash": dash},
        marker={"color": color, "size": 8, "symbol": symbol},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [one.interval[1] - one.f1 for one in shown],
            "arrayminus": [one.f1 - one.interval[0] for one in shown],
            "thickness": 1,
            "width": 3,
            "color": color,
        },
        hovertemplate=f"<b>{escape(name)}</b> %{{x}}: F1 %{{y:.3f}}<extra></extra>",
    )


def _axes(figure: go.Figure, height: int) -> go.Figure:
    figure.update_yaxes(title="macro F1 of constituents", rangemode="tozero")
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(height=height, margin={**MARGIN, "t": 40}, showlegend=True, legend=legend)


def tree_picture(title: str, tree: Tree, tokens: Sequence[str], right: Sequence[Constituent]) -> str:
    """A tree as an SVG fragment: labels above what they span, those that are among `right` solid, the others dashed and marked."""
    widths = _widths(tree, tokens)
    left = [sum(widths[:n]) + STEP * n for n in range(len(tokens))]
    marks, edges, there, height = _placed(tree, left, widths, Counter(right))
    width = left[-1] + widths[-1] + 2 * SIDE
    bottom = (height + 1) * ROW
    words = "".join(
        f'<text x="{left[n] + widths[n] / 2:.1f}" y="{bottom:.1f}" class="word">{escape(_short(token))}</text>'
        for n, token in enumerate(tokens)
    )
    return (
        f'<figure class="tree"><figcaption>{escape(title)}: {there} of {len(marks)} right</figcaption><div class="scroll">'
        f'<svg viewBox="{-SIDE} -16 {width:.0f} {bottom + 26:.0f}" width="{width:.0f}" height="{bottom + 26:.0f}" role="img" '
        f'aria-label="{escape(title)}">{"".join(edges)}{"".join(marks)}{words}</svg></div></figure>'
    )


STYLE = """<style>
.tree { margin: 0 0 18px; } .tree figcaption { font-weight: 600; margin-bottom: 6px; }
.tree text { font: 12px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle; fill: var(--ink); }
.tree .label { font-size: 11px; paint-order: stroke; stroke: var(--card); stroke-width: 5px; }
.tree .right { fill: var(--best); font-weight: 600; } .tree .wrong { fill: var(--new-line); font-style: italic; }
.tree line { stroke: var(--soft); stroke-opacity: .45; } .tree .word { font-weight: 600; }
</style>"""


def _widths(tree: Tree, tokens: Sequence[str]) -> list[float]:
    """Pixels of each token, such that every label fits above what it spans and so none meets its neighbor."""
    widths = [max(LETTER * len(_short(token)), 14.0) for token in tokens]
    for label, first, last, *_ in sorted(_levels(tree), key=lambda node: node[2] - node[1]):
        short = LETTER * (len(_short(label)) + 3) - sum(widths[first : last + 1]) - STEP * (last - first)
        for position in range(first, last + 1):
            widths[position] += max(short, 0) / (last - first + 1)
    return widths


def _placed(
    tree: Tree, left: Sequence[float], widths: Sequence[float], right: Counter[Constituent]
) -> tuple[list[str], list[str], int, int]:
    """Labels and edges of every node, how many are right, and the height of the tree."""
    levels = _levels(tree)
    height = levels[0][3]
    centers = [(left[first] + left[last] + widths[last]) / 2 for _, first, last, _, _ in levels]
    marks, edges, there = [], [], 0
    for number, (label, first, last, level, parent) in enumerate(levels):
        x, y = centers[number], (height - level) * ROW
        good = right[label, first, last] > 0
        right[label, first, last] -= good
        there += good
        sign = "" if good else " ✗"
        marks.append(f'<text x="{x:.1f}" y="{y:.1f}" class="label {"right" if good else "wrong"}">{escape(_short(label))}{sign}</text>')
        if parent is not None:
            edges.append(_edge(x, y - 10, centers[parent], (height - levels[parent][3]) * ROW + 3))
    owner: dict[int, int] = {}  # the innermost node above each token comes last
    for number, (_, first, last, _, _) in enumerate(levels):
        owner |= dict.fromkeys(range(first, last + 1), number)
    for position, number in owner.items():
        edges.append(
            _edge(left[position] + widths[position] / 2, (height + 1) * ROW - 12, centers[number], (height - levels[number][3]) * ROW + 3)
        )
    return marks, edges, there, height


def _edge(x: float, y: float, other_x: float, other_y: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{other_x:.1f}" y2="{other_y:.1f}"/>'


def _levels(tree: Tree) -> list[tuple[str, int, int, int, int | None]]:
    """(label, first token, last token, height above the lowest nodes, number of its parent) of each node, parents first."""
    found: list[tuple[str, int, int, int, int | None]] = []

    def visit(node: Tree, first: int, parent: int | None) -> tuple[int, int]:
        number, position, level = len(found), first, -1
        found.append((node.label, first, first, 0, parent))
        for child in node.children:
            if isinstance(child, str):
                position += 1
            else:
                position, below = visit(child, position, number)
                level = max(level, below)
        found[number] = (node.label, first, position - 1, level + 1, parent)
        return position, level + 1

    visit(tree, 0, None)
    return found


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
