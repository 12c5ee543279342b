"""Large images from grids of embeddings: one canvas, seen by the U-Net through overlapping windows, each with an embedding of its place.

Enters: a pipeline, a grid (rows, columns, d). Leaves: one image of rows x columns windows. At any time there are the canvas, its
accumulators and one batch of windows. After Graikos et al. 2024, "Learned representation-guided diffusion models for large-image
generation".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from regraft.concepts.decode.pipeline import EmbeddingToImagePipeline
from regraft.errors import InputError, ParameterError
from regraft.progress import progress_bar

PARALLEL = 0.9995  # cosine above which vectors are mixed along the line
BLEND = 0.8  # width of the weight of a decoded window


@dataclass(frozen=True)
class Canvas:
    """How a large image is drawn.

    Attributes
    ----------
    stride : steps between windows, in latents; by default a quarter of a window. steps, eta, guidance_scale : of sampling; the scale
        is 4 where the paper writes w = 3.
    average : "x0" averages what windows take the clean image to be, derives the noise from that, and adds one noise for the whole canvas;
        "update" averages the next state of each window, with noise of its own (MultiDiffusion). A step of DDIM is linear in the clean
        image, so both are the same without noise and clipping; with noise, that of "update" cancels where windows overlap, and blurs.
    compat : "released" adds the noise of a single step where steps are skipped, as the authors' code does; None that of the whole stride,
        as DDIM does.
    batch : windows at a time.
    """

    stride: int | None = None
    steps: int = 50
    eta: float = 1.0
    guidance_scale: float = 4.0
    average: Literal["x0", "update"] = "x0"
    compat: Literal["released"] | None = None
    batch: int = 8


def slerp(t: Any, a: Tensor, b: Tensor) -> Tensor:
    """Between `a` (t = 0) and `b` (t = 1), (..., d), along the arc of their directions; t broadcasts over (...).

    The angle is that of the normalized vectors, while the vectors are mixed as they are. Where they are parallel, opposite, or one is
    zero, along the line.
    """
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)[..., None]
    angle = torch.arccos(cosine.clamp(-1, 1))
    straight = (cosine.abs() > PARALLEL) | (a.norm(dim=-1, keepdim=True) == 0) | (b.norm(dim=-1, keepdim=True) == 0)
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    left = torch.where(straight, 1 - t, ((1 - t) * angle).sin() / sine)
    right = torch.where(straight, t.expand_as(straight), (t * angle).sin() / sine)
    return left * a + right * b


def origins(cells: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side of `cells` windows. Raises `ParameterError`: the stride does not reach the end."""
    if not 1 <= stride <= window or window % stride:
        raise ParameterError(f"--stride {stride}: must divide the window of {window} (1 to {window}), so that windows reach the last row")
    return list(range(0, (cells - 1) * window + 1, stride))


def placed(grid: Tensor, window: int, stride: int, levels: Sequence[int]) -> Tensor:
    """(windows down, windows across, d): the embedding of each window, by slerp between the four of `grid` around it, level by level.

    The grid is repeated by one row and column at its end, for windows that begin on the last.
    """
    padded = torch.cat([grid, grid[-1:]], 0)
    padded = torch.cat([padded, padded[:, -1:]], 1)
    down, across = (torch.tensor(origins(size, window, stride), device=grid.device) for size in grid.shape[:2])
    (i, ti), (j, tj) = (((at // window), (at % window) / window) for at in (down, across))
    ti, tj = (t.to(grid.dtype) for t in (ti, tj))
    found = []
    for part in torch.split(padded, list(levels), dim=-1):
        upper = slerp(tj[None], part[i][:, j], part[i][:, j + 1])
        lower = slerp(tj[None], part[i + 1][:, j], part[i + 1][:, j + 1])
        found.append(slerp(ti[:, None], upper, lower))
    return torch.cat(found, -1)


def in_grids(embeddings: Any, shape: tuple[int, int] | None, order: Literal["rows", "columns"] = "rows") -> np.ndarray[Any, Any]:
    """(grids, rows, columns, d) of (n, d) embeddings that stand one grid after the other, or of grids as they are.

    `order` : whether a grid stands row by row or column by column. Raises `InputError`: they do not divide.
    """
    found = np.asarray(embeddings)
    if found.ndim == 3:
        found = found[None]
    if found.ndim == 4:
        if shape is not None and found.shape[1:3] != shape:
            raise InputError(f"--large {shape[0]}x{shape[1]}: the file holds grids of {found.shape[1]}x{found.shape[2]}")
        return found
    if found.ndim != 2 or shape is None:
        raise InputError(f"embeddings of shape {found.shape}: needs (n, d) and --large ROWSxCOLUMNS, or (grids, rows, columns, d)")
    rows, columns = shape
    if len(found) % (rows * columns):
        raise InputError(f"--large {rows}x{columns}: {len(found):,} embeddings do not divide into grids of {rows * columns}")
    if order == "columns":
        return found.reshape(-1, columns, rows, found.shape[1]).swapaxes(1, 2)
    return found.reshape(-1, rows, columns, found.shape[1])


@torch.no_grad()
def draw_large(
    pipeline: EmbeddingToImagePipeline,
    grid: Any,
    canvas: Canvas | None = None,
    *,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """One image (channels, height, width) in [0, 1] of a `grid` (rows, columns, d) of embeddings.

    `noise` : (channels, height, width) latents to start with. Raises `InputError` for embeddings that do not fit the pipeline,
    `ParameterError` for a stride that does not.
    """
    canvas = canvas or Canvas()
    latents = draw_latents(pipeline, grid, canvas, generator=generator, noise=noise)
    return decode_large(pipeline, latents, canvas)


@torch.no_grad()
def draw_latents(
    pipeline: EmbeddingToImagePipeline, grid: Any, canvas: Canvas, *, generator: Any = None, noise: Tensor | None = None
) -> Tensor:
    """The canvas before it is decoded, (channels, height, width)."""
    grid = np.asarray(grid)
    rows, columns, size = grid.shape
    window, device = pipeline.window, pipeline.device
    stride = canvas.stride or max(1, window // 4)
    tops, lefts = origins(rows, window, stride), origins(columns, window, stride)
    cells = pipeline.checked(grid.reshape(-1, size)).reshape(rows, columns, size)
    places = placed(cells, window, stride, pipeline.conditioner.config.levels).reshape(-1, size)
    corners = [(top, left) for top in tops for left in lefts]
    shape = (pipeline.unet.config.in_channels, rows * window, columns * window)
    x = (torch.randn(shape, generator=generator) if noise is None else noise.clone()).to(device)
    count = torch.zeros(shape[1:], device=device)
    for top, left in corners:
        count[top : top + window, left : left + window] += 1
    null = pipeline.conditioner.null()
    moments = list(_moments(pipeline.scheduler, canvas))
    with progress_bar("drawing", len(moments) * len(corners), "windows") as bar:
        for t, alpha, before, sigma in moments:
            shared = canvas.average == "x0" and sigma > 0
            fresh = torch.randn(shape, generator=generator).to(device) if shared else None
            total = torch.zeros_like(x)
            for start in range(0, len(corners), canvas.batch):
                some = corners[start : start + canvas.batch]
                windows = torch.stack([x[:, top : top + window, left : left + window] for top, left in some])
                tokens = pipeline.conditioner(places[start : start + canvas.batch])
                told = pipeline.predicted(windows, t, tokens, null, canvas.guidance_scale)
                found, noise_in = _parts(windows, told, alpha, pipeline.scheduler)
                if canvas.average == "update":
                    own = torch.randn(windows.shape, generator=generator).to(device) if sigma > 0 else None
                    found = _next(found, noise_in, before, sigma, own)
                for (top, left), one in zip(some, found, strict=True):
                    total[:, top : top + window, left : left + window] += one
                bar.advance(len(some))
            total /= count
            if canvas.average == "update":
                x = total
                continue
            rest = (max(0.0, 1 - before - sigma**2) / (1 - alpha)) ** 0.5
            x.sub_(total, alpha=alpha**0.5).mul_(rest).add_(total, alpha=before**0.5)  # DDIM, in place, with the noise that is left in x
            if fresh is not None:
                x.add_(fresh, alpha=sigma)
    return x


def _moments(scheduler: Any, canvas: Canvas) -> Iterator[tuple[Tensor, float, float, float]]:
    """(time, alpha-bar there, alpha-bar at the next time, standard deviation of the noise that is added) from the noisiest on."""
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise InputError(f"large images need a model that tells noise or velocity, this one tells {scheduler.config.prediction_type}")
    scheduler.set_timesteps(canvas.steps)
    bars, times = scheduler.alphas_cumprod.double(), [int(t) for t in scheduler.timesteps]
    for t, after in zip(times, [*times[1:], -1], strict=True):
        alpha, before = float(bars[t]), float(bars[after]) if after >= 0 else 1.0
        beta = float(scheduler.betas[t]) if canvas.compat == "released" else 1 - alpha / before
        variance = canvas.eta**2 * beta * (1 - before) / (1 - alpha)
        yield torch.tensor(t), alpha, before, min(variance, 1 - before) ** 0.5


def _parts(x: Tensor, told: Tensor, alpha: float, scheduler: Any) -> tuple[Tensor, Tensor]:
    """The clean image in `x`, as far as the scheduler lets pixels go, and the noise, of what the U-Net told."""
    signal, noisy = alpha**0.5, (1 - alpha) ** 0.5
    if scheduler.config.prediction_type == "epsilon":
        clean, noise = (x - noisy * told) / signal, told
    else:
        clean, noise = signal * x - noisy * told, signal * told + noisy * x
    reach = scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else None
    return clean if reach is None else clean.clamp(-reach, reach), noise


def _next(clean: Tensor, noise: Tensor, before: float, sigma: float, fresh: Tensor | None) -> Tensor:
    """The state at the next time, of a clean image and the noise in it (DDIM)."""
    found: Tensor = before**0.5 * clean + max(0.0, 1 - before - sigma**2) ** 0.5 * noise
    return found if fresh is None else found + sigma * fresh


@torch.no_grad()
def decode_large(pipeline: EmbeddingToImagePipeline, latents: Tensor, canvas: Canvas | None = None) -> Tensor:
    """(channels, height, width) in [0, 1]: windows decoded one by one, blended by a weight that falls towards their edges."""
    if pipeline.vae is None:
        return pipeline.decoded(latents[None])[0].cpu()
    window, factor = pipeline.window, pipeline.factor
    stride = (canvas.stride if canvas else None) or max(1, window // 4)
    weight = window_weight(window * factor).to(latents.device)
    height, width = latents.shape[1:]
    image, mass = None, torch.zeros(height * factor, width * factor, device=latents.device)
    for top in origins(height // window, window, stride):
        for left in origins(width // window, window, stride):
            tile = pipeline.decoded(latents[None, :, top : top + window, left : left + window])[0]
            if image is None:
                image = torch.zeros(len(tile), height * factor, width * factor, device=latents.device)
            place = (slice(top * factor, (top + window) * factor), slice(left * factor, (left + window) * factor))
            image[(slice(None), *place)] += weight * tile
            mass[place] += weight
    assert image is not None
    return (image / mass).cpu()


def window_weight(side: int, width: float = BLEND) -> Tensor:
    r"""(side, side) :math:`\exp(-\lVert u \rVert^2 / \text{width}^2)` with u over :math:`[-1, 1]^2`."""
    along = torch.exp(-((torch.linspace(-1, 1, side) / width) ** 2))
    return along[:, None] * along[None]
