"""Texts in, one vector a text out, in the order of the texts. Texts are read in blocks; all vectors are held.

Enters: a checkpoint, a way of encoding, a corpus. Leaves: a .npy of float32, int8 or packed bits, with a JSON beside it that says how it
was made; and the encoder itself as a directory, if asked. An empty text has a vector of zeros, so that rows stay in step with a table's.
"""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from sentence_transformers.util.quantization import quantize_embeddings

from regraft import __version__
from regraft.corpus import Corpus
from regraft.corpus.sampling import say_skipped
from regraft.errors import EvaluationError, ParameterError
from regraft.method import resolve
from regraft.output import atomic_directory, atomic_file, check_output
from regraft.progress import Bar, progress_bar, step
from regraft.text.encoder import Encoder, refuse_untrained
from regraft.text.loading import content_hash
from regraft.text.reading.after import After, append, ends_at_unit_length, fit_after, unit
from regraft.text.reading.late import late_chunks

AT_ONCE = 8192  # texts that are sorted by length together
BATCHES = 16  # batches between two moves of the progress bar
Precision = Literal["float32", "int8", "binary"]
Floats = npt.NDArray[np.float32]
CALIBRATION = 10_000  # vectors that the ranges of int8 are taken from


@dataclass(frozen=True)
class Shape:
    """What the vectors look like.

    Attributes
    ----------
    dimensions : keep the first so many, at unit length again. precision : "int8" with ranges from the first vectors, or "binary", one bit a
        dimension. after : a transform fitted on vectors (`regraft.text.reading.after`), before the others: on those of the texts in `fit`,
        else on those that are encoded. chunk_tokens : a vector for each so many tokens, pooled late, in place of one for the text.
    """

    dimensions: int | None = None
    precision: Precision = "float32"
    after: After = "none"
    fit: Sequence[str | Path] | None = None
    chunk_tokens: int | None = None


def encode(
    source: str | Path,
    text: Sequence[str | Path],
    *,
    out: Path,
    method: str = "as-is",
    settings: dict[str, Any] | None = None,
    instruction: str = "",
    text_column: str | None = None,
    shape: Shape | None = None,
    save_model: Path | None = None,
    max_tokens: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
) -> dict[str, Any]:
    """Encode every text and write the vectors to `out`, a .npy; how it was made stands in `out` with .json for .npy.

    Parameters
    ----------
    instruction : put before each text; attended to, and pooled only if the method says so. save_model : directory for the encoder itself,
        with the transform `after` in it.

    Raises `ParameterError`, `CheckpointError`, `CorpusError` (no text), `EvaluationError` (NaN).
    """
    if out.suffix != ".npy":
        raise ParameterError(f"--out {out}: vectors are written as .npy")
    encoder: Encoder = resolve("encoder", method, settings)
    shape = shape or Shape()
    if save_model is not None:
        check_output(save_model, sources=[Path(source)] if Path(source).is_dir() else [])
    corpus, fitted_on = _opened(text, text_column), _opened(shape.fit, text_column)
    start = time.perf_counter()
    with step(f"loading {Path(source).name}"):
        model = encoder.build(source, max_tokens=max_tokens, device=device)
    refuse_untrained(model, method)
    _check(model, instruction, shape)
    read = _Reader(model, instruction, batch_size, shape.chunk_tokens)
    fitted = None if fitted_on is None else read.all(fitted_on, "fitting")
    vectors = read.all(corpus, "encoding")
    if shape.after != "none":
        from_vectors = vectors if fitted is None else fitted
        transform = fit_after(from_vectors[from_vectors.any(1)], shape.after)
        model = append(model, transform)
        empty = ~vectors.any(1)
        vectors = transform(vectors) if not ends_at_unit_length(model) else unit(transform(vectors))
        vectors[empty] = 0
    if shape.dimensions is not None:
        if shape.dimensions > vectors.shape[1]:
            raise ParameterError(f"--dimensions {shape.dimensions}: {vectors.shape[1]} are left after {shape.after}")
        vectors = unit(vectors[:, : shape.dimensions])
    written = quantized(vectors, shape.precision)
    figures = {
        "out": str(out),
        "texts": len(read.chunks) if shape.chunk_tokens is not None else len(vectors),
        "vectors": len(vectors),
        "dimensions": vectors.shape[1],
        "precision": shape.precision,
        "after": shape.after,
        "empty": read.empty,
        **({} if shape.chunk_tokens is None else {"chunks": read.chunks}),
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
    if save_model is not None:
        _save(model, save_model)
        figures |= {"model": str(save_model)}
    return figures


def save_encoder(
    source: str | Path, out: Path, *, method: str, settings: dict[str, Any] | None = None, max_tokens: int | None = None
) -> None:
    """The encoder itself as a directory that sentence-transformers opens (or `regraft.text.load`, for methods that are not stock)."""
    _save(resolve("encoder", method, settings).build(source, max_tokens=max_tokens), out)


def _save(model: SentenceTransformer, out: Path) -> None:
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


class _Reader:
    """Texts through a model, in blocks."""

    def __init__(self, model: SentenceTransformer, instruction: str, batch_size: int, chunk_tokens: int | None) -> None:
        self.model, self.instruction, self.batch_size, self.chunk_tokens = model, instruction, batch_size, chunk_tokens
        self.empty = 0
        self.chunks: list[int] = []  # vectors of each text

    def all(self, corpus: Corpus, description: str) -> Floats:
        """Vectors of all rows of the corpus. Raises `CorpusError`, `EvaluationError`."""
        parts: list[Floats] = []
        texts = corpus.rows()
        self.empty, self.chunks = 0, []
        with progress_bar(description, total=corpus.count("all"), unit="texts") as bar:
            while block := list(itertools.islice(texts, AT_ONCE)):
                parts += [self._chunked(text, bar) for text in block] if self.chunk_tokens is not None else self._encoded(block, bar)
        vectors = np.concatenate(parts)
        if not np.isfinite(vectors).all():
            raise EvaluationError("some vectors hold NaN or infinity: the model is broken")
        return vectors

    def _encoded(self, block: list[str], bar: Bar) -> list[Floats]:
        """One vector a text; slices of similar length, so that the bar moves within a block."""
        order = sorted((row for row, text in enumerate(block) if text), key=lambda row: -len(block[row]))
        found = np.zeros((len(block), int(self.model.get_embedding_dimension() or 0)), np.float32)
        bar.advance(len(block) - len(order))
        self.empty += len(block) - len(order)
        for begin in range(0, len(order), self.batch_size * BATCHES):
            rows = order[begin : begin + self.batch_size * BATCHES]
            texts = [block[row] for row in rows]
            found[rows] = self.model.encode(texts, prompt=self.instruction or None, batch_size=self.batch_size, show_progress_bar=False)
            bar.advance(len(rows))
        return [found]

    def _chunked(self, text: str, bar: Bar) -> Floats:
        found, _ = late_chunks(self.model, self.instruction + text if text else "", tokens=self.chunk_tokens or 1)
        self.chunks.append(len(found))
        self.empty += not len(found)
        bar.advance()
        return found


def _opened(paths: Sequence[str | Path] | None, text_column: str | None) -> Any:
    if paths is None:
        return None
    corpus = Corpus.open(paths, held_out=0.0, text_column=text_column)
    say_skipped(corpus)
    return corpus


def _check(model: SentenceTransformer, instruction: str, shape: Shape) -> None:
    """Raise `ParameterError` for what cannot be had, before anything is encoded."""
    width = int(model.get_embedding_dimension() or 0)
    if shape.dimensions is not None and not 0 < shape.dimensions <= width:
        raise ParameterError(f"--dimensions {shape.dimensions}: the vectors have {width}")
    if shape.fit is not None and shape.after == "none":
        raise ParameterError("--fit: there is nothing to fit; name a transform with --after")
    tokenizer: Any = model.tokenizer
    most = model.max_seq_length
    if instruction and most is not None and hasattr(tokenizer, "model_max_length"):
        length = len(tokenizer(instruction)["input_ids"])
        if length >= most:
            raise ParameterError(f"--instruction: its {length} tokens leave no room for a text; the longest input is {most} tokens")
