"""The page of a trained model of facts: how validation went, how wide entities are, and what relations turned out to be."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from regraft.graph.facts.data import Facts
from regraft.graph.facts.learning import Learned
from regraft.graph.facts.rules import NEAR, turned_out
from regraft.report import Report
from regraft.report.figures import PALETTE

SHOWN = 12  # entities at either end


def report_of(
    facts: Facts, learned: Learned, found: Mapping[str, float], spreads: Tensor | None, tried: Sequence[Mapping[str, Any]] = ()
) -> Report:
    """`found` are figures of the test facts; `spreads` (entities,) or None; `tried` settings and what each reached on validation facts."""
    lead = f"{learned.method.name} finds the missing end of {len(facts.test):,} held-out facts of {facts.name} with MRR {found['mrr']:.3f}"
    lead += f"; the right answer is first in {found['hits@1']:.0%} and among ten in {found['hits@10']:.0%}."
    report = Report(f"Facts of {facts.name}", lead)
    report.add_figure("Validation", validation(learned), f"Epoch {learned.epoch} is kept.")
    if tried:
        report.add_table("Chosen by validation", tried, "No test fact was seen before the choice.", best={"validation_mrr": "high"})
    if spreads is not None:
        degrees = torch.bincount(torch.cat([facts.train[:, 0], facts.train[:, 2]]), minlength=len(facts.entities))
        report.add_figure("Spread of entities", widths(degrees, spreads), "Standard deviation, mean over coordinates, by known facts.")
        order = spreads.argsort(descending=True).tolist()
        rows = [
            {"entity": facts.entities[one], "spread": float(spreads[one]), "facts": int(degrees[one])}
            for one in dict.fromkeys([*order[:SHOWN], *order[-SHOWN:]])
        ]
        report.add_table("Widest and narrowest entities", rows, "Facts of training that an entity is in.")
    rules = turned_out(facts, learned.model)
    if rules is not None:
        how = (
            "Read off the learned maps. gap: 0 where both sides of the rule are the same map, 1 where they send an entity as far apart as "
        )
        how += "two entities are; holds: how much of what the rule says of facts is in training."
        report.add_table("What the relations turned out to be", rules or [{"rule": f"none with a gap below {NEAR}"}], how)
    report.add_table("Test facts", [dict(found)], "Filtered, ties lost, both directions.")
    if facts.notes:
        report.add_table("Notes", [{"note": note} for note in facts.notes])
    return report


def validation(learned: Learned) -> go.Figure:
    """MRR by epoch, the kept one marked."""
    figure = go.Figure()
    figure.add_scatter(x=[at for at, _ in learned.curve], y=[value for _, value in learned.curve], mode="lines", line={"color": PALETTE[0]})
    figure.add_vline(x=learned.epoch, line={"dash": "dot"})
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="MRR of validation facts")
    return figure.update_layout(height=360, showlegend=False)


def widths(degrees: Tensor, spreads: Tensor) -> go.Figure:
    """One mark an entity, at most 2,000."""
    shown = torch.linspace(0, len(degrees) - 1, min(len(degrees), 2000)).long()
    figure = go.Figure()
    figure.add_scatter(x=degrees[shown].tolist(), y=spreads[shown].tolist(), mode="markers", marker={"size": 6, "color": PALETTE[0]})
    figure.update_xaxes(title="facts of training")
    figure.update_yaxes(title="spread")
    return figure.update_layout(height=360, showlegend=False)
