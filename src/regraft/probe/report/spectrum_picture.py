"""The picture of a spectrum: eigenvalues by their index on logarithmic axes, with the line whose slope is alpha."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from regraft.probe.spectrum.ranks import PowerLaw
from regraft.probe.spectrum.spectrum import Spectrum
from regraft.report import escape
from regraft.report.figures import DASHES, PALETTE, UNTOUCHED

POINTS = 600  # of a line: more are not seen


def spectrum_picture(spectrum: Spectrum, fit: PowerLaw | None) -> go.Figure:
    """Eigenvalues of the centred covariance; those of Z'Z / N, which hold the mean too, dashed; the fit over its window."""
    figure = go.Figure()
    power = spectrum.singular_values.square() / spectrum.rows
    lines = {"covariance": spectrum.eigenvalues, "Z'Z / N, not centred": power}
    for number, (name, values) in enumerate(lines.items()):
        line = {"color": (PALETTE[0], UNTOUCHED)[number], "width": 2, "dash": DASHES[number]}
        _add(figure, name, values.cpu().numpy(), line)
    if fit is not None:
        index = np.array([fit.first, fit.last], dtype=float)
        figure.add_scatter(
            x=index.tolist(),
            y=(np.exp(fit.intercept) * index**-fit.alpha).tolist(),
            mode="lines",
            name=f"alpha = {fit.alpha:.2f} (R² {fit.r2:.3f})",
            line={"color": PALETTE[1], "width": 3, "dash": "dot"},
        )
    return _axes(figure, "eigenvalue")


def spectra_picture(spectra: Mapping[str, Spectrum]) -> go.Figure:
    """Singular values of several runs, each by the sum of its own: what RankMe takes the entropy of."""
    figure = go.Figure()
    for number, (name, spectrum) in enumerate(spectra.items()):
        line = {"color": PALETTE[number % len(PALETTE)], "width": 2, "dash": DASHES[number // len(PALETTE) % len(DASHES)]}
        _add(figure, name, (spectrum.singular_values / spectrum.singular_values.sum()).cpu().numpy(), line)
    return _axes(figure, "share of the singular values' sum")


def _add(figure: go.Figure, name: str, values: np.ndarray, line: dict[str, object]) -> None:
    there = np.flatnonzero(values > 0)
    if len(there) > POINTS:
        there = there[np.unique(np.geomspace(1, len(there), POINTS).astype(int)) - 1]
    about = f"<b>{escape(name)}</b><br>number %{{x}}: %{{y:.3g}}<extra></extra>"
    figure.add_scatter(x=(there + 1).tolist(), y=values[there].tolist(), mode="lines", name=escape(name), line=line, hovertemplate=about)


def _axes(figure: go.Figure, title: str) -> go.Figure:
    figure.update_xaxes(type="log", title="number, in descending order")
    figure.update_yaxes(type="log", title=title, exponentformat="power")
    return figure.update_layout(height=440)
