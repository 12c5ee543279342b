"""The page of a comparison of priors: the answer in a sentence, the distances to the plain network, the curves of training."""

from collections.abc import Mapping
from typing import Any

from regraft.bias.prior import Plan
from regraft.bias.tasks.task import Task
from regraft.comparison import Outcome, tables_of
from regraft.report import Report
from regraft.report.figures import dots, training_curves


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
        report.add_figure("How they learn", training_curves(curves, x_title="steps", y_title="loss"), "First seed, on batches of training.")
    caption = f"{metric.name} on held-out examples, mean over seeds; behind_first with half its 95 % interval over examples and seeds."
    for table in tables_of(rows, outcomes, metric, caption):
        report.add_table(**table)
    return report
