"""The page of a comparison of tables: quality beside memory, and which method to take at which budget."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import plotly.graph_objects as go

from regraft.comparison import Metric, Outcome, tables_of
from regraft.evaluation.paired import paired_effect
from regraft.report import Report, escape
from regraft.report.figures import SYMBOLS, UNTOUCHED, label_right, line_colors

HEIGHT = 520
METRIC = Metric("auc", "high")
Row = dict[str, Any]


class Data(Protocol):
    """What the page says of the rows."""

    @property
    def fields(self) -> tuple[str, ...]: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def numeric(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> tuple[int, int, int]: ...


class How(Protocol):
    """What the page says of the training."""

    @property
    def model(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def seeds(self) -> int: ...


def comparison_report(rows: Sequence[Row], outcomes: Mapping[str, Outcome], data: Data, how: How) -> tuple[Report, list[Row]]:
    """The page, and its recommendations as plain data."""
    plain, measured = rows[0], [row for row in rows[1:] if row["error"] is None]
    recommended = [recommend(share, measured, outcomes, plain) for share in sorted({row["asked"] for row in rows[1:]}, reverse=True)]
    report = Report("Smaller tables for a click model", lead(recommended, plain))
    if measured:
        report.add_figure(
            "AUC beside memory",
            quality_figure(measured, plain),
            f"Test AUC of {how.model} over {data.rows[2]:,} rows, mean of {how.seeds} seed(s), with 95 % intervals over rows and seeds; "
            "memory as share of the plain tables, logarithmic. Grey: plain tables.",
        )
    report.add_table("What to take", recommended, "tied: not told apart from the best at this budget by a paired 95 % interval.")
    caption = (
        "asked, ratio: memory to serve, of the plain tables. training: of the plain tables, the most that tables hold while they train, "
        "without gradients and moments. seconds: of training, a seed. lookup: random look-ups a second by those of plain tables."
    )
    for table in tables_of(rows, outcomes, METRIC, caption, hidden=("table",)):
        report.add_table(**table)
    kinds = [{"column": name, "taken for": "category", "ids": size} for name, size in zip(data.fields, data.sizes, strict=True)]
    kinds += [{"column": name, "taken for": "number", "ids": None} for name in data.numeric]
    split = " / ".join(f"{count:,}" for count in data.rows)
    report.add_table("Columns", kinds, f"{split} rows to train, choose weights and test. ids: with that of values not seen in training.")
    return report, recommended


def recommend(share: float, measured: Sequence[Row], outcomes: Mapping[str, Outcome], plain: Row) -> Row:
    """What to take at `share`: the best; where others are not told apart from it, that is said, with the one that costs least to train."""
    able = [row for row in measured if row["asked"] == share and row["ratio"] <= share * (1 + 1e-6)]
    if not able:
        return {"budget": share, "take": None, "auc": None, "behind_plain": None, "tied": None, "why": "no method reaches this budget"}
    best = max(able, key=lambda row: row["auc"])
    tied = [row for row in able if row is not best and not _above(outcomes[best["method"]], outcomes[row["method"]])]
    if len(able) == 1:
        why = "the only one that reaches this budget"
    elif not tied:
        why = f"surely the best of {len(able)}"
    else:
        light = min([best, *tied], key=lambda row: (round(row["training"], 2), -row["auc"]))
        why = f"highest of {len(able)}, tied with {', '.join(row['table'] for row in tied)}"
        of_plain = f"{light['training']:.2g} of the plain tables"
        why += (
            f"; it also holds least in training ({of_plain})"
            if light is best
            else f"; {light['table']} holds least in training ({of_plain})"
        )
    effect = _effect(outcomes[plain["method"]], outcomes[best["method"]])
    behind = None if effect is None else f"{-effect[0]:+.4f} [{-effect[2]:+.4f}, {-effect[1]:+.4f}]"
    return {"budget": share, "take": best["table"], "auc": best["auc"], "behind_plain": behind, "tied": len(tied), "why": why}


def _effect(first: Outcome, second: Outcome) -> tuple[float, float, float] | None:
    """How far the second is above the first, with its interval."""
    if first.sample is None or second.sample is None:
        return None
    found = paired_effect(first.sample, second.sample)
    return found.effect, found.low, found.high


def _above(first: Outcome, second: Outcome) -> bool:
    """Whether the first is surely above the second."""
    found = _effect(second, first)
    return found is not None and found[1] > 0


def lead(recommended: Sequence[Row], plain: Row) -> str:
    """The answer in a paragraph."""
    said = [f"Plain tables: AUC {plain['auc']:.4f}."]
    for one in recommended:
        if one["take"] is None:
            said.append(f"At {one['budget']:.3g} of their memory {one['why']}.")
        else:
            said.append(f"At {one['budget']:.3g} of their memory take {one['take']} (AUC {one['auc']:.4f}): {one['why']}.")
    return " ".join(said)


def quality_figure(rows: Sequence[Row], plain: Row) -> go.Figure:
    """One line a method over the share of memory that it really takes (per cent, logarithmic), each point with its interval."""
    figure, ends = go.Figure(), []
    names = list(dict.fromkeys(row["table"] for row in rows))
    colors = line_colors(names)
    for index, name in enumerate(names):
        own = sorted((row for row in rows if row["table"] == name), key=lambda row: row["ratio"])
        x, y = [100 * row["ratio"] for row in own], [row["auc"] for row in own]
        bars = {"type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": colors[name]}
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=escape(name),
            marker={"size": 7, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": colors[name]},
            line={"color": colors[name], "width": 2},
            error_y={**bars, "array": [r["auc_high"] - r["auc"] for r in own], "arrayminus": [r["auc"] - r["auc_low"] for r in own]},
            hovertemplate=f"<b>{escape(name)}</b><br>%{{y:.4f}} at %{{x:.3g}} %<extra></extra>",
        )
        ends.append((name, x[-1], y[-1], colors[name]))
    figure.add_hline(y=plain["auc"], line={"color": UNTOUCHED, "width": 2, "dash": "dash"})
    ends.append(("plain", 100.0, plain["auc"], UNTOUCHED))
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    figure.update_xaxes(title="memory, % of the plain tables", type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    label_right(figure, ends, HEIGHT, [row[bound] for row in [plain, *rows] for bound in ("auc_low", "auc_high")])
    return figure.update_layout(height=HEIGHT, showlegend=False, yaxis_title="test AUC")
