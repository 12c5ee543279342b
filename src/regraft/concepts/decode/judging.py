"""What drawn images are worth: how near their distribution is to that of real ones, and how near their embeddings are to what was asked.

Enters: images, embeddings. Leaves: figures, with the samples behind them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.comparison import Metric
from regraft.concepts.decode.pictures import Rows
from regraft.errors import InputError
from regraft.progress import progress_bar

Encoder = Callable[[Tensor], Rows]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """An encoder that learns nothing but axes: principal components of pixels and their gradients. `mean` (m,), `axes` (m, dims)."""

    mean: Floats
    axes: Floats

    @classmethod
    def fit(cls, images: Tensor, dims: int = 16) -> "PixelFeatures":
        """Of `images` (n, c, h, w) in [0, 1], which must be others than those that are judged."""
        raw = _with_gradients(images)
        mean = raw.mean(0)
        _, _, axes = np.linalg.svd(raw - mean, full_matrices=False)
        return cls(mean, axes[:dims].T)

    def __call__(self, images: Tensor) -> Rows:
        return np.asarray((_with_gradients(images) - self.mean) @ self.axes, dtype=np.float32)


def _with_gradients(images: Tensor) -> Floats:
    """Pixels, and absolute differences to the neighbours, flat."""
    x = images.double()
    across, down = (x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()
    return torch.cat([part.flatten(1) for part in (x, across, down)], 1).numpy()


def frechet(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    r"""Squared Fréchet distance of normal distributions fitted to (n, d) and (m, d).

    .. math:: \lVert \mu_a - \mu_b \rVert^2 + \operatorname{tr}(C_a + C_b - 2 (C_a C_b)^{1/2})
    """
    one, two = (_moments(np.asarray(rows, dtype=np.float64), np.ones((1, len(rows)))) for rows in (a, b))
    return float(_between(one, two)[0])


def _moments(rows: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Means (draws, d) and covariances (draws, d, d) of `rows` (n, d), each drawn `times` (draws, n)."""
    count = times.sum(1)[:, None]
    mean = times @ rows / count
    square = np.stack([(rows * own[:, None]).T @ rows for own in times])
    return mean, (square - count[:, :, None] * mean[:, :, None] * mean[:, None]) / (count[:, :, None] - 1)


def _between(one: tuple[Floats, Floats], two: tuple[Floats, Floats]) -> Floats:
    """(draws,) distances of means and covariances."""
    values, vectors = np.linalg.eigh(one[1])
    root = (vectors * np.sqrt(values.clip(0))[:, None]) @ vectors.swapaxes(1, 2)
    shared = np.sqrt(np.linalg.eigvalsh(root @ two[1] @ root).clip(0)).sum(1)
    traces = np.trace(one[1] + two[1], axis1=1, axis2=2)
    return np.asarray(((one[0] - two[0]) ** 2).sum(1) + traces - 2 * shared)


@dataclass(frozen=True, eq=False)
class Distance:
    """A Fréchet distance as a sample: `real` (n, d) features, `drawn` (seeds, n, d), image by image for the same embeddings."""

    real: npt.NDArray[Any]
    drawn: npt.NDArray[Any]

    @property
    def documents(self) -> int:
        return len(self.real)

    @property
    def seeds(self) -> int:
        return len(self.drawn)

    @property
    def value(self) -> float:
        return self.resample(np.arange(self.documents), np.arange(self.seeds))

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        times = np.bincount(documents, minlength=self.documents)[None]
        return float(self.resample_many(times, np.asarray(seeds)[None])[0])

    def resample_many(self, times: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> Floats:
        """(draws,) distances over documents drawn `times` (draws, n) and over `seeds` (draws, seeds)."""
        weights = times.astype(np.float64)
        real = _moments(self.real.astype(np.float64), weights)
        by_seed = np.stack([_between(real, _moments(one.astype(np.float64), weights)) for one in self.drawn], 1)
        return np.asarray(np.take_along_axis(by_seed, seeds, 1).mean(1))


class DistanceMetric(Metric):
    """The Fréchet distance in a comparison; a kept line has the features."""

    def to_line(self, sample: Any) -> dict[str, Any]:
        return {} if sample is None else {"real": np.round(sample.real, 5).tolist(), "drawn": np.round(sample.drawn, 5).tolist()}

    def from_line(self, line: Mapping[str, Any]) -> Distance | None:
        return Distance(np.array(line["real"]), np.array(line["drawn"])) if line.get("real") else None


FRECHET = DistanceMetric("frechet", "low")


def cosines(a: Rows, b: Rows) -> Floats:
    """(n,) cosine of each row of `a` with that of `b`; 0 where one is zero."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.where(lengths == 0, 1, lengths), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Similarity:
    """How embeddings of drawn images lie to those that were asked for.

    Attributes
    ----------
    cosine : (n,) of each with its own. shuffled : (n,) with that of another one. found : (n,) 1 where of all that were asked for its own
        is the nearest.
    """

    cosine: Floats
    shuffled: Floats
    found: Floats

    def figures(self) -> dict[str, float]:
        return {"cosine": float(self.cosine.mean()), "cosine_shuffled": float(self.shuffled.mean()), "retrieved": float(self.found.mean())}


def similarity(asked: Rows, again: Rows) -> Similarity:
    """Of `asked` (n, d) and the embeddings `again` (n, d) of what was drawn. Raises `InputError`: other shapes."""
    if asked.shape != again.shape:
        raise InputError(
            f"embeddings asked for are {asked.shape}, those of drawn images {again.shape}: needs the same encoder, a row an image"
        )
    a, b = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (asked, again))
    nearest = np.concatenate([(part @ a.T).argmax(1) for part in np.array_split(b, max(1, len(b) // 1024))])
    other = np.roll(np.arange(len(a)), len(a) // 2 or 1)
    return Similarity(cosines(asked, again), cosines(asked[other], again), (nearest == np.arange(len(a))).astype(np.float64))


def open_encoder(folder: str | Path, device: str = "cpu", batch: int = 32) -> Encoder:
    """An encoder of images from a `transformers` checkpoint: the first token of the last layer, or the mean over places of a conv net.

    Raises `InputError`: no such model, or none of images.
    """
    from transformers import AutoImageProcessor, AutoModel

    try:
        processor = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        model = AutoModel.from_pretrained(folder).to(device).eval()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"--encoder {folder}: no model of images that transformers opens ({' '.join(str(error).split())[:200]})") from None
    model = getattr(model, "vision_model", model)

    @torch.no_grad()
    def encode(images: Tensor) -> Rows:
        found = []
        with progress_bar("embedding", len(images), "images") as bar:
            for part in torch.split(images, batch):
                color = part.expand(-1, 3, -1, -1) if part.shape[1] == 1 else part
                pixels = (color * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
                given = processor(images=list(pixels), return_tensors="pt", input_data_format="channels_last")
                states = model(pixel_values=given["pixel_values"].to(device)).last_hidden_state
                found.append((states[:, 0] if states.ndim == 3 else states.mean((2, 3))).float().cpu())
                bar.advance(len(part))
        return np.asarray(torch.cat(found).numpy(), dtype=np.float32)

    return encode
