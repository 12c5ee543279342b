"""Likelihood: what text costs a decoder, each token given those before it.

Enters: a decoder, documents. Leaves: bits per document, and what could not be scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from regraft.errors import ParameterError
from regraft.evaluation.windows import batches_by_length, pad, plan_windows
from regraft.language.model import LanguageModel
from regraft.progress import progress_bar


@dataclass(frozen=True)
class Measured:
    """Bits of each document (documents,), bytes that could not be scored (documents,), and token counts."""

    bits: npt.NDArray[np.float64]
    unscored_bytes: npt.NDArray[np.int64]
    tokens: int
    scored_tokens: int
    unknown: int
    sampled: float = 1.0


def likelihood(language_model: LanguageModel, texts: Sequence[str], *, window: int, stride: int | None, batch_tokens: int) -> Measured:
    """Bits of each document, window by window; `regraft.evaluation.score_text` says how windows, prefix and first tokens are treated.

    Raises `ParameterError` for a window or stride out of range.
    """
    prefix = language_model.prefix
    size = window - len(prefix)
    stride = max(1, window // 2) if stride is None else stride
    if size < 2 or not 1 <= stride <= size - (not prefix):
        raise ParameterError(f"window={window}, stride={stride}: a window needs 2 tokens besides BOS, and the stride must stay inside it")
    documents = language_model.encode(texts)
    skips, unscored = [0] * len(documents), np.zeros(len(documents), dtype=np.int64)
    if not prefix:
        skips, unscored = _unscored(language_model, texts)
    bits = np.zeros(len(documents))
    windows = list(plan_windows([len(d) for d in documents], skips, size, stride))
    lengths = np.array([w.end - w.start for w in windows], dtype=np.int64) + len(prefix)
    with progress_bar("scoring", total=int(lengths.sum()), unit="tokens") as bar:
        for batch in batches_by_length(lengths, batch_tokens):
            chosen = [windows[i] for i in batch]
            ids, mask = pad([prefix + documents[w.document][w.start : w.end] for w in chosen], language_model.device)
            states = language_model.hidden(ids, mask)
            spans = [(row, w.first - w.start + len(prefix), w.end - w.start + len(prefix)) for row, w in enumerate(chosen)]
            rows = torch.cat([torch.full((last - first,), row) for row, first, last in spans]).to(ids.device)
            columns = torch.cat([torch.arange(first, last) for _, first, last in spans]).to(ids.device)
            costs = language_model.bits(states[rows, columns - 1], ids[rows, columns])
            owners = np.repeat([w.document for w in chosen], [last - first for _, first, last in spans])
            np.add.at(bits, owners, costs)
            bar.advance(int(lengths[batch].sum()))
    unknown_id = language_model.tokenizer.unk_token_id
    tokens = sum(map(len, documents))
    return Measured(bits, unscored, tokens, tokens - sum(skips), sum(d.count(unknown_id) for d in documents))


def _unscored(language_model: LanguageModel, texts: Sequence[str]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Tokens and bytes at the start of each text with nothing to be conditioned on: the first token, and others of the same character."""
    encoded = language_model.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    skips, left_out = [], np.zeros(len(texts), dtype=np.int64)
    for document, (text, offsets) in enumerate(zip(texts, encoded["offset_mapping"], strict=True)):
        skip, reach = 0, 1
        while skip < len(offsets) and offsets[skip][0] < reach:
            reach = max(reach, offsets[skip][1])
            skip += 1
        skips.append(skip)
        left_out[document] = len(text[:reach].encode() if skip < len(offsets) else text.encode())
    return skips, left_out
