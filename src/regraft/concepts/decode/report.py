"""Pages of drawn images: contact sheets, and how near the drawn ones are to what was asked for."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from regraft.comparison import Outcome, tables_of
from regraft.concepts.decode.judging import FRECHET, Similarity
from regraft.concepts.decode.pipeline import as_output
from regraft.report import Report, escape
from regraft.report.figures import dots, line_colors, training_curves

SHOWN, SIDE = 12, 72  # rows of a sheet; pixels of an image on the page


def sheet(columns: Mapping[str, Tensor], side: int = SIDE) -> str:
    """Images side by side under their headings, as HTML: a column each of `columns` (n, c, h, w) in [0, 1], a row an example."""
    count = min(SHOWN, *(len(one) for one in columns.values()))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{picture(one[row], side)}</td>" for one in columns.values()) + "</tr>" for row in range(count))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(image: Tensor, side: int = SIDE) -> str:
    """One image (c, h, w) in [0, 1] as HTML that carries it."""
    held = io.BytesIO()
    as_output(image[None], "pil")[0].save(held, "PNG")
    data = base64.b64encode(held.getvalue()).decode()
    return f'<img alt="" style="width:{side}px;image-rendering:pixelated" src="data:image/png;base64,{data}">'


def images_page(drawn: Tensor, said: str, beside: Mapping[str, Tensor], near: Similarity | None, wide: bool = False) -> Report:
    """The page of drawn images (n, c, h, w), with others `beside` them, and `near`: how their embeddings lie to what was asked for."""
    lead = said
    if near is not None:
        own = near.figures()
        lead += f" Their embeddings have a cosine of {own['cosine']:.2f} with what was asked for"
        lead += (
            f" ({own['cosine_shuffled']:.2f} with another's); {own['retrieved']:.0%} are nearest to their own among {len(near.cosine):,}."
        )
    report = Report("Images of embeddings", lead)
    report.add_html("What was drawn", sheet({**beside, "drawn": drawn}, 360 if wide else SIDE), f"The first {SHOWN} at most.")
    if near is not None:
        report.add_figure("How near they are to what was asked for", spread({"own": near.cosine, "another's": near.shuffled}))
        report.add_table("Similarity", [near.figures()], "Means over images; retrieved: share whose own embedding is the nearest.")
    return report


def spread(values: Mapping[str, Any]) -> go.Figure:
    """Histograms of cosines, as lines over common bins."""
    figure, colors = go.Figure(), line_colors(list(values))
    low = min(float(np.min(one)) for one in values.values())
    bins = np.linspace(min(low, 0.0), 1.0, 31)
    for name, one in values.items():
        counts, _ = np.histogram(one, bins)
        figure.add_scatter(x=(bins[1:] + bins[:-1]) / 2, y=counts, mode="lines", name=escape(name), line={"color": colors[name]})
    figure.update_xaxes(title="cosine")
    figure.update_yaxes(title="images")
    return figure.update_layout(height=340)


def comparison_page(
    rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome], sheets: Mapping[str, Tensor], said: Sequence[str]
) -> Report:
    """The page of a comparison. `sheets` : real held-out images, and those that each method drew for them."""
    scored = [row for row in rows if row["frechet"] is not None]
    best = min(scored, key=lambda row: row["frechet"])
    lead = f"{best['method']} is nearest to held-out images: Fréchet distance {best['frechet']:.3f}, "
    lead += f"{scored[0]['method']} {scored[0]['frechet']:.3f}. "
    report = Report("Decoders of embeddings", lead + " ".join(said))
    if sheets:
        report.add_html("Held-out images, and what is drawn for them", sheet(sheets), f"The first {SHOWN}, first seed.")
    report.add_figure(
        "Distance to held-out images",
        dots(scored, FRECHET.name, x_title="Fréchet distance"),
        "The line is the model without a condition; lower is better.",
    )
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure(
            "How they learn",
            training_curves(curves, x_title="steps", y_title="squared error"),
            "First seed, mean error of the noise in training.",
        )
    caption = "frechet in principal components of pixels and gradients, means over seeds; behind_first with half its 95 % interval."
    for table in tables_of(rows, outcomes, FRECHET, caption):
        report.add_table(**table)
    return report


def grid_of(images: Tensor, columns: int) -> Tensor:
    """(n, c, h, w) as one image (c, rows x h, columns x w), black where none is left."""
    rows = -(-len(images) // columns)
    filled = torch.cat([images, torch.zeros(rows * columns - len(images), *images.shape[1:])])
    _, c, h, w = filled.shape
    return filled.reshape(rows, columns, c, h, w).permute(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)
