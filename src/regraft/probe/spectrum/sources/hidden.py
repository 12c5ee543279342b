"""Hidden states of a model over texts, as rows: one a text (the mean over its tokens), or one a token.

Enters: a checkpoint, a layer, texts. Leaves: rows (N, K). Layer 0 is the input, -1 the last, as in ``hidden_states`` of `transformers`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.corpus.sampling import say_skipped
from regraft.errors import CorpusError
from regraft.language.hidden_states import hidden_states as of_sequences
from regraft.language.loading import check_placement, load_both
from regraft.progress import progress_bar, step
from regraft.tokenizer import Tokenizer

Pool = Literal["mean", "tokens"]
BATCH = 16
LONGEST = 512  # tokens of a text that are read


def hidden_states(
    checkpoint: Checkpoint,
    text: Sequence[str | Path],
    *,
    layer: int,
    pool: Pool = "mean",
    limit: int = 25_600,
    text_column: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
) -> torch.Tensor:
    """Rows (N, K) in float32, at most `limit`: of "mean", one a text, over all its tokens but padding; of "tokens", one a token.

    Raises `ParameterError` for a layer that the model does not have, and `CorpusError` where there is no text.
    """
    check_placement(dtype, device)
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    corpus = Corpus.open(text, held_out=0.0, text_column=text_column)
    say_skipped(corpus)
    with step("loading the model"):
        model, reads = load_both(checkpoint, tokenizer, dtype, device)
    parts: list[torch.Tensor] = []
    found = 0
    with progress_bar(f"layer {layer} of {checkpoint.path.name}", total=limit, unit="rows") as bar:
        for batch in _batches(corpus.documents("all")):
            sequences = [reads(one, truncation=False)["input_ids"][:LONGEST] for one in batch]
            for _, states in sorted(of_sequences(model, sequences, layers=(layer,)), key=lambda pair: pair[0]):
                rows = states[0].mean(0, keepdim=True) if pool == "mean" else states[0]
                parts.append(rows[: limit - found])
                found += len(parts[-1])
                bar.advance(len(parts[-1]))
            if found >= limit:
                break
    if not found:
        raise CorpusError(f"{corpus.name}: no text with a token in it: give more text")
    return torch.cat(parts)


def text_rows(checkpoint: Checkpoint, texts: Sequence[str], *, layer: int = -1, device: str = "cpu", dtype: str = "auto") -> torch.Tensor:
    """One row a text (N, K), in their order: the mean over its tokens of `layer`, in float32.

    Raises `CorpusError` for a text without a token, `ParameterError` for a layer that the model does not have.
    """
    check_placement(dtype, device)
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    with step("loading the model"):
        model, reads = load_both(checkpoint, tokenizer, dtype, device)
    ids = [reads(one, truncation=False)["input_ids"] if one.strip() else [] for one in texts]
    empty = next((number for number, one in enumerate(ids) if not one), None)
    if empty is not None:
        raise CorpusError(f"text {empty} is empty: leave such rows out")
    found: list[torch.Tensor] = [torch.empty(0)] * len(ids)
    with progress_bar(f"layer {layer} of {checkpoint.path.name}", total=len(ids), unit="texts") as bar:
        for number, states in of_sequences(model, ids, layers=(layer,)):
            found[number] = states[0].mean(0)
            bar.advance()
    return torch.stack(found)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        if text.strip():
            batch.append(text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
