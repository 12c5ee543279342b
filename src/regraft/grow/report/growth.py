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
    lead = f"{name} by {method.name}: {size}." + (f" Bits per byte of held-out text: {told}." if told else "")
    report = Report("Another size", lead)
    if "plan" in figures:
        picture = plan_figure(figures["plan"], int(figures["layers_before"]), loud=figures.get("loudness"))
        report.add_figure("What each new layer is made of", picture, "Rows: layers of the new model. Columns: layers that they come from.")
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
    figure.update_layout(
        xaxis={"title": {"text": "made of layer"}}, yaxis={"title": {"text": "layer"}, "autorange": "reversed"}, height=420
    )
    return figure
