"""The contract of a decoder: examples in, a pipeline out. Methods differ in what they condition on, and in nothing else."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from regraft.concepts.decode.pictures import Pictures, Rows
from regraft.errors import InputError
from regraft.method import Method

QUICK = {"prediction_type": "v_prediction"}
SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {"channels": (32, 64, 128), "width": 128, "blocks": 1, "lr": 5e-4, "warmup": 200, **QUICK},
    "tiny": {"channels": (16, 32), "width": 32, "blocks": 1, "lr": 2e-3, "warmup": 20, **QUICK},
}


@dataclass(frozen=True)
class Plan:
    """How long is trained. `precision` : as accelerate says it, "no", "fp16" or "bf16"."""

    steps: int = 1000
    batch: int = 100
    seed: int = 0
    precision: str = "no"


@dataclass(frozen=True, eq=False)
class Examples:
    """Images with what is known of them.

    Attributes
    ----------
    embeddings : (n, d) of the images as they are, before any flip; levels side by side. levels : width of each.
    labels : (n,) class of each image, or None. classes : their names.
    """

    pictures: Pictures
    embeddings: Rows
    levels: tuple[int, ...] = ()
    labels: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.embeddings):
            raise InputError(f"{len(self.embeddings):,} embeddings for {len(self.pictures):,} images: needs one a row")
        if not self.levels:
            object.__setattr__(self, "levels", (self.embeddings.shape[1],))
        if sum(self.levels) != self.embeddings.shape[1]:
            raise InputError(f"levels of {self.levels} do not add up to embeddings {self.embeddings.shape[1]} wide")

    @classmethod
    def of(cls, pictures: Pictures, embeddings: Rows, *, regions: Rows | None = None, labels: Sequence[str] | None = None) -> "Examples":
        """`regions` : (n, d') embeddings of what surrounds each image, the second level; a zero row where there is none."""
        levels = (embeddings.shape[1],) if regions is None else (embeddings.shape[1], regions.shape[1])
        rows = embeddings if regions is None else np.concatenate([embeddings, regions], 1)
        names = tuple(sorted(set(labels))) if labels is not None else ()
        numbers = None if labels is None else np.array([names.index(one) for one in labels], dtype=np.int64)
        return cls(pictures, rows, levels, numbers, names)

    def part(self, rows: npt.NDArray[np.int64]) -> "Examples":
        labels = None if self.labels is None else self.labels[rows]
        return Examples(self.pictures.part(rows), self.embeddings[rows], self.levels, labels, self.classes)


class EmbeddingDecoder(Method):
    r"""Base of decoders: a U-Net that attends to tokens of a condition, trained to tell the noise in an image.

    Parameters
    ----------
    channels : of the U-Net's levels (192 x 1, 2, 3, 5). blocks : residual blocks a level. heads : of attention.
    attention_from : first level with attention (1: at halves of the side and below). width : of a token.
    p_uncond : how often a condition is dropped in training, each level for itself. flips : of images in training; the embedding stays.
    prediction_type : what the U-Net tells, the noise (the paper) or the velocity (Salimans & Ho 2022), which learns
        from the noisiest images too, and so what a condition says in fewer steps.
    lr : of AdamW. warmup : steps until it is reached; constant afterwards. normalize : divide embeddings by their length.
    """

    family = "embedding-decoder"

    channels: tuple[int, ...] = (192, 384, 576, 960)
    blocks: PositiveInt = 2
    attention_from: NonNegativeInt = 1
    heads: PositiveInt = 1
    width: PositiveInt = 512
    p_uncond: Annotated[float, Field(ge=0, le=1)] = 0.1
    flips: Literal["both", "horizontal", "none"] = "both"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    lr: PositiveFloat = 1e-4
    warmup: NonNegativeInt = 1000
    normalize: bool = True

    @abstractmethod
    def conditions(self, examples: Examples) -> tuple[Rows, tuple[int, ...]]:
        """What each image is drawn from, (n, d), and the width of each level."""
