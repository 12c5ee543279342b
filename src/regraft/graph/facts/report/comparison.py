"""The page of a comparison of models of facts: the answer in a sentence, what each reaches, how validation went."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.comparison import Metric, Outcome, tables_of
from regraft.graph.facts.data import Facts
from regraft.graph.facts.learning import Schedule
from regraft.report import Report, escape
from regraft.report.figures import DASHES, PALETTE, line_colors

Rows = Sequence[Mapping[str, Any]]


def report_of(
    facts: Facts, schedule: Schedule, seeds: int, rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome], metric: Metric
) -> Report:
    """The page."""
    scored = [row for row in rows if row[metric.name] is not None]
    best = min(scored, key=lambda row: metric.cost(row[metric.name]))
    lead = f"{best['method']} ranks {len(facts.test):,} held-out facts of {facts.name} best, MRR {best[metric.name]:.3f}"
    if best is not scored[0]:
        lead += f"; {scored[0]['method']} reaches {scored[0][metric.name]:.3f}"
    report = Report(f"Facts of {facts.name}", f"{lead}. Best of {schedule.epochs} epochs by validation, mean of {seeds} seed(s).")
    report.add_figure("What each reaches", reached(scored), "A fact's right answer: first, or among the first ten.")
    report.add_figure("Right answers among the first k", among(scored), "Share of held-out facts, both directions, mean over seeds.")
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure("Validation", validation(curves), "First seed.")
    caption = "Filtered ranks, ties lost, both directions; behind_first with half its 95 % interval over the same facts and seeds."
    for table in tables_of(rows, outcomes, metric, caption, hidden=["hits"]):
        report.add_table(**table)
    if facts.notes:
        report.add_table("Notes on the data", [{"note": note} for note in facts.notes])
    return report


def reached(rows: Rows) -> go.Figure:
    """A mark for MRR, hits@1 and hits@10 of each model."""
    figure = go.Figure()
    names = [escape(row["method"]) for row in rows]
    for color, name in zip(PALETTE, ("mrr", "hits@1", "hits@10"), strict=False):
        figure.add_scatter(x=[row[name] for row in rows], y=names, mode="markers", name=name, marker={"size": 11, "color": color})
    figure.update_xaxes(title="share, or mean reciprocal rank")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=160 + 40 * len(rows))


def among(rows: Rows) -> go.Figure:
    """One line a model, k on a logarithmic axis."""
    figure, colors = go.Figure(), line_colors([row["method"] for row in rows])
    for number, row in enumerate(rows):
        at, share = zip(*row["hits"], strict=True)
        line = {"color": colors[row["method"]], "dash": DASHES[number % len(DASHES)]}
        figure.add_scatter(x=at, y=share, mode="lines+markers", name=escape(row["method"]), line=line, marker={"size": 5})
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100) if k <= at[-1]]
    figure.update_xaxes(title="k", type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks])
    figure.update_yaxes(title="hits@k", rangemode="tozero")
    return figure.update_layout(height=420)


def validation(curves: Mapping[str, Sequence[tuple[float, float]]]) -> go.Figure:
    """One line a model."""
    figure, colors = go.Figure(), line_colors(list(curves))
    for name, curve in curves.items():
        figure.add_scatter(
            x=[at for at, _ in curve], y=[value for _, value in curve], mode="lines", name=escape(name), line={"color": colors[name]}
        )
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="MRR of validation facts")
    return figure.update_layout(height=420)
