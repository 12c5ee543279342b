"""Texts in, one vector a text out, in the order of the texts, in bounded memory.

Enters: a checkpoint, a way of encoding, a corpus. Leaves: a .npy of float32, int8 or packed bits, with a JSON beside it that says how it
was made; and the encoder itself as a directory, if asked.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from sentence_transformers.util.quantization import quantize_embeddings

from regraft import __version__
from regraft.corpus import Corpus
from regraft.corpus.sampling import say_skipped
from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.method import resolve
from regraft.output import atomic_directory, atomic_file
from regraft.progress import progress_bar, step
from regraft.text.encoder import Encoder, refuse_untrained
from regraft.text.loading import content_hash

AT_ONCE = 2048  # texts that are sorted by length and encoded together
Precision = Literal["float32", "int8", "binary"]
CALIBRATION = 10_000  # vectors that the ranges of int8 are taken from


def encode(
    source: str | Path,
    text: Sequence[str | Path],
    *,
    out: Path,
    method: str = "as-is",
    settings: dict[str, Any] | None = None,
    instruction: str = "",
    text_column: str | None = None,
    dimensions: int | None = None,
    precision: Precision = "float32",
    max_tokens: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
) -> dict[str, Any]:
    """Encode every text and write the vectors to `out`, a .npy; how it was made stands in `out` with .json for .npy.

    Parameters
    ----------
    instruction : put before each text; attended to, and pooled only if the method says so. dimensions : keep the first so many, at unit
        length again. precision : "int8" with ranges from the first vectors, or "binary", one bit a dimension.

    Raises `ParameterError`, `CheckpointError`, `CorpusError` (no text), `EvaluationError` (NaN).
    """
    if out.suffix != ".npy":
        raise ParameterError(f"--out {out}: vectors are written as .npy")
    encoder: Encoder = resolve("encoder", method, settings)
    corpus = Corpus.open(text, held_out=0.0, text_column=text_column)
    say_skipped(corpus)
    start = time.perf_counter()
    with step(f"loading {Path(source).name}"):
        model = encoder.build(source, max_tokens=max_tokens, device=device)
    refuse_untrained(model, method)
    width = int(model.get_embedding_dimension() or 0)
    if dimensions is not None and not 0 < dimensions <= width:
        raise ParameterError(f"--dimensions {dimensions}: the vectors have {width}")
    vectors = _all(model, corpus.documents("all"), instruction, dimensions, batch_size)
    written = quantized(vectors, precision)
    figures = {
        "out": str(out),
        "texts": len(vectors),
        "dimensions": vectors.shape[1],
        "precision": precision,
        "method": method,
        "encoder": str(encoder),
        "instruction": instruction,
        "source": content_hash(source),
        "regraft": __version__,
        "seconds": round(time.perf_counter() - start, 3),
    }
    with atomic_file(out) as partial, partial.open("wb") as file:
        np.save(file, written, allow_pickle=False)
    with atomic_file(out.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(figures, indent=1, ensure_ascii=False), "utf-8")
    return figures


def save_encoder(
    source: str | Path, out: Path, *, method: str, settings: dict[str, Any] | None = None, max_tokens: int | None = None
) -> None:
    """The encoder itself as a directory that sentence-transformers opens (or `regraft.text.load`, for methods that are not stock)."""
    model = resolve("encoder", method, settings).build(source, max_tokens=max_tokens)
    with atomic_directory(out) as temporary:
        model.save_pretrained(str(temporary), create_model_card=False)


def quantized(vectors: npt.NDArray[np.float32], precision: Precision) -> npt.NDArray[Any]:
    """As sentence-transformers does it; a dimension that never changes becomes 0 in int8, not -128."""
    if precision == "float32":
        return vectors
    if precision == "binary":
        return np.asarray(quantize_embeddings(vectors, "binary"))
    sample = vectors[:CALIBRATION]
    ranges = np.stack([sample.min(0), sample.max(0)])
    constant = ranges[0] == ranges[1]
    ranges[1, constant] += 1
    found = np.asarray(quantize_embeddings(np.clip(vectors, *ranges), "int8", ranges=ranges))
    found[:, constant] = 0
    return found


def _all(
    model: SentenceTransformer, texts: Iterator[str], instruction: str, dimensions: int | None, batch_size: int
) -> npt.NDArray[np.float32]:
    parts: list[npt.NDArray[np.float32]] = []
    with progress_bar("encoding", unit="texts") as bar:
        while block := list(itertools.islice(texts, AT_ONCE)):
            found = model.encode(block, prompt=instruction or None, batch_size=batch_size, show_progress_bar=False)
            parts.append(_shortened(np.asarray(found, dtype=np.float32), dimensions))
            bar.advance(len(block))
    if not parts:
        raise CorpusError("no text to encode: give files with text in them")
    vectors = np.concatenate(parts)
    if not np.isfinite(vectors).all():
        raise EvaluationError("some vectors hold NaN or infinity: the model is broken")
    return vectors


def _shortened(vectors: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """The first dimensions, at the length of 1 again."""
    if dimensions is None:
        return vectors
    kept = vectors[:, :dimensions]
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    return np.asarray(np.divide(kept, lengths, out=np.zeros_like(kept), where=lengths > 0))
