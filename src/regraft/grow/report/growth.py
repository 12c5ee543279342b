"""The page of one growth: what each new layer is made of, and what text costs before and after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from regraft.evaluation import Score
from regraft.report import Report
from regraft.report.figures import training_curves


def growth_report(name: str, method: Any, grown: Any, scores: Mapping[str, Score], run: Any, figures: Mapping[str, Any]) -> Report:
    """Lead, picture, table."""
    size = f"{figures['parameters'] / figures['parameters_before']:.2f} times the parameters"
    told = ", ".join(f"{stage} {score.bits_per_byte:.3f}" for stage, score in scores.items())
    lead = f"{name} by {method.name}: {size}." + _exactness(figures) + (f" Bits per byte of held-out text: {told}." if told else "")
    report = Report("Another size", lead)
    if "hidden_before" in figures:
        report.add_figure("Sizes before and after", sizes_figure(figures), "Heads keep their size, so their number follows the width.")
    if "plan" in figures:
        picture = plan_figure(figures["plan"], int(figures["layers_before"]), loud=figures.get("loudness"))
        silent = " Silent layers pass their input on until training wakes them." if 0 in figures.get("loudness", ()) else ""
        caption = f"Rows: layers of the new model. Columns: layers that they come from.{silent}"
        report.add_figure("What each new layer is made of", picture, caption)
    rows = [
        {"stage": stage, "bits_per_byte": score.bits_per_byte, "low": score.interval()[0], "high": score.interval()[1]}
        for stage, score in scores.items()
    ]
    if rows:
        report.add_table("Held-out text", rows, "low and high: 95 % interval over documents.", best={"bits_per_byte": "low"})
    if run is not None and run.losses:
        curve = [(float(point.step), point.bits_per_byte) for point in run.losses]
        report.add_figure("Training", training_curves({method.name: curve}, x_title="steps", y_title="bits per byte, as read"))
    plain = {key: value for key, value in figures.items() if isinstance(value, int | float | str)}
    report.add_table("Figures", [plain])
    return report


def plan_figure(plan: list[Mapping[str, float]], columns: int, loud: Any = None) -> go.Figure:
    """Weights of each new layer over what it is made of, as a heat map."""
    width = max([columns, *(int(old) + 1 for row in plan for old in row)])
    weights = np.zeros((len(plan), width))
    for new, row in enumerate(plan):
        for old, weight in row.items():
            weights[new, int(old)] = weight
    figure = go.Figure(go.Heatmap(z=weights.tolist(), x=list(range(width)), y=list(range(len(plan))), colorscale="Blues", zmin=0))
    rows = layer_axis(len(plan))
    named = [f"{layer} (silent)" if loud is not None and not loud[layer] else str(layer) for layer in rows["tickvals"]]
    figure.update_layout(
        xaxis={"title": {"text": "made of layer"}, **layer_axis(width)},
        yaxis={"title": {"text": "layer"}, "autorange": "reversed", **rows, "ticktext": named},
        height=max(420, 80 + 14 * len(rows["tickvals"])),
    )
    return figure


def layer_axis(layers: int) -> dict[str, Any]:
    """Ticks of an axis over `layers` layers: whole numbers, and not too many of them."""
    return {"tickvals": list(range(0, layers, 1 + layers // 40))}


def sizes_figure(figures: Mapping[str, Any]) -> go.Figure:
    """How many times as large each size of a widened model is."""
    names = {"hidden": "residual stream", "heads": "heads", "groups": "key-value heads", "ffn": "neurons a layer"}
    shown = {name: (figures[f"{key}_before"], figures[key]) for key, name in names.items()}
    texts = [f"{before:,} to {after:,}" for before, after in shown.values()]
    bars = go.Bar(x=[after / before for before, after in shown.values()], y=list(shown), orientation="h", text=texts)
    figure = go.Figure(bars)
    figure.add_vline(x=1, line_dash="dot", line_width=1)
    figure.update_layout(xaxis={"title": {"text": "times the size before"}}, yaxis={"autorange": "reversed"}, height=260)
    return figure


def _exactness(figures: Mapping[str, Any]) -> str:
    """Whether another width computes what the model did, and by how much it is off; nothing of other growths."""
    if "relative_difference" not in figures:
        return ""
    same = "computes the same function" if figures["exact"] else "does not compute the same function"
    return f" It {same}: outputs differ by at most {figures['difference']:.1g} ({figures['relative_difference']:.1g} of their size)."
