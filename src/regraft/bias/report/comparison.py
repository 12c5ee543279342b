"""The page of a comparison of priors: the answer in a sentence, the distances to the plain network, the curves of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.bias.prior import Plan
from regraft.bias.tasks.task import Task
from regraft.comparison import Outcome, tables_of
from regraft.report import Report, escape
from regraft.report.figures import PALETTE, line_colors


def report_of(task: Task, plan: Plan, seeds: int, rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome]) -> Report:
    """The page."""
    metric = task.metric
    scored = [row for row in rows if row[metric.name] is not None]
    plain, *others = scored
    lead = f"{plain['method']} reaches {metric.name} {plain[metric.name]:.3f}"
    if others:
        best = min(others, key=lambda row: metric.cost(row[metric.name]))
        lead += f", {best['method']} {best[metric.name]:.3f}"
    lead += f", on {len(task.x_test):,} held-out examples of {task.name} after {plan.steps} steps, mean of {seeds} seed(s)."
    report = Report(f"Priors on {task.name}", lead)
    report.add_figure("What each reaches", dots(scored, metric.name), "The line is the plain network. The axis begins near the values.")
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure("How they learn", curves_figure(curves), "First seed, on batches of training.")
    caption = f"{metric.name} on held-out examples, mean over seeds; behind_first with half its 95 % interval over examples and seeds."
    for table in tables_of(rows, outcomes, metric, caption):
        report.add_table(**table)
    return report


def dots(rows: Sequence[Mapping[str, Any]], metric: str) -> go.Figure:
    """One mark a method, the first row's value as a line."""
    figure = go.Figure()
    names = [escape(row["method"]) for row in rows]
    figure.add_scatter(x=[row[metric] for row in rows], y=names, mode="markers", marker={"size": 12, "color": PALETTE[0]})
    figure.add_vline(x=rows[0][metric], line={"dash": "dot"})
    figure.update_xaxes(title=metric)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=140 + 36 * len(rows), showlegend=False)


def curves_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> go.Figure:
    """One line a method."""
    figure, colors = go.Figure(), line_colors(list(curves))
    for name, curve in curves.items():
        figure.add_scatter(
            x=[at for at, _ in curve], y=[value for _, value in curve], mode="lines", name=escape(name), line={"color": colors[name]}
        )
    figure.update_xaxes(title="steps")
    figure.update_yaxes(title="loss")
    return figure.update_layout(height=420)
