"""The contract of a task: texts in, a figure a document out, so that two encoders are compared document by document."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.errors import EvaluationError
from regraft.evaluation.paired import Measured

Role = Literal["text", "query", "document"]
Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str], Role], Vectors]


@dataclass(frozen=True)
class Task(ABC):
    """One task. `name` : as the user writes it. `metric` : what its figure is; higher is better, 1 is perfect. `sha256` : of its data."""

    name: str
    metric: str
    sha256: str

    @abstractmethod
    def measure(self, encode: Encode) -> Measured:
        """What `encode` is worth here. Raises `EvaluationError` where it gives NaN or infinity."""

    @property
    @abstractmethod
    def documents(self) -> int:
        """How many pairs, texts or queries are scored."""

    @property
    @abstractmethod
    def texts(self) -> list[str]:
        """Texts that are scored on: what no training may have read."""

    @property
    def needed(self) -> list[tuple[str, ...]]:
        """Of each document the texts without whose vectors it cannot be answered."""
        return [(text,) for text in self.texts]

    @property
    def typical(self) -> list[str]:
        """Texts such as most of the work is done on, to time encoding."""
        return self.texts


def encoder(model: Any, batch_size: int = 32) -> Encode:
    """A `SentenceTransformer` as tasks call it; queries and documents get the model's own prompts."""
    ways = {"text": model.encode, "query": model.encode_query, "document": model.encode_document}

    def encode(texts: Sequence[str], role: Role) -> Vectors:
        found = ways[role](list(texts), batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(found, dtype=np.float32)

    return encode


def checked(vectors: Vectors, name: str) -> Vectors:
    """`vectors`, unless one is not finite."""
    broken = ~np.isfinite(vectors).all(1)
    if broken.any():
        raise EvaluationError(f"{name}: {int(broken.sum()):,} of {len(vectors):,} vectors hold NaN or infinity: the model is broken")
    return vectors


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows of length 1 in float64; a zero row stays zero, so its cosine with anything is 0."""
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))
