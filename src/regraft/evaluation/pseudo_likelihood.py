"""Pseudo-likelihood: what text costs a masked language model, one masked token at a time.

Enters: a masked LM, documents. Leaves: bits per document, so that `evaluation.Score` reads the same for encoders as for decoders.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import regex
import torch

from regraft.errors import EvaluationError, ParameterError
from regraft.evaluation.likelihood import Measured
from regraft.evaluation.windows import batches_by_length, pad
from regraft.language.model import LanguageModel
from regraft.progress import progress_bar

AFFORDABLE = 4000  # masked positions when `sample` is left open: minutes, not hours, for a base-size model on two cores
# Scripts written without spaces would make one word of a whole sentence, so each of their characters stands alone.
WORDS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\w\p{M}\u200c\u200d]+|\S")


@dataclass(frozen=True)
class Question:
    """Which token of `document` is asked for, and where the tokens that are masked with it end."""

    document: int
    position: int
    masked_end: int


def pseudo_likelihood(
    language_model: LanguageModel,
    texts: Sequence[str],
    *,
    window: int,
    batch_tokens: int,
    sample: float | None = None,
    masking: Literal["word", "token"] = "word",
    seed: int = 0,
) -> Measured:
    r"""Bits of each document, :math:`-\sum_i \log_2 p(t_i \mid \text{rest})`, each token asked for behind a mask of its own.

    With ``masking="token"`` the rest is every other token (Salazar et al. 2020). That favors a tokenizer that cuts words up: pieces of one
    word give each other away. ``masking="word"`` also hides the pieces that follow in the same word (Kauf and Ivanova 2023), so that a
    word costs the same kind of thing in one piece or in five, and vocabularies compare.

    Documents longer than `window` are seen through a window centered on the asked token. `sample` is the share of tokens asked for in
    each document (at least one), drawn with `seed`; a document's cost is then the mean of the asked times its tokens. None asks all, or
    as many as make about 4000 in total.

    Raises `EvaluationError` without a mask token, `ParameterError` for a sample outside (0, 1].
    """
    if sample is not None and not 0 < sample <= 1:
        raise ParameterError(f"sample={sample}: a share in (0, 1]")
    if masking not in ("word", "token"):
        raise ParameterError(f"masking={masking!r}: choose 'word' or 'token'")
    mask_id = language_model.tokenizer.mask_token_id
    if mask_id is None:
        raise EvaluationError("the tokenizer has no mask token, so a masked model cannot be asked for a token")
    before, after = language_model.added
    size = window - len(before) - len(after)
    encoded = language_model.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    documents: list[list[int]] = encoded["input_ids"]
    total = sum(map(len, documents))
    share = min(1.0, AFFORDABLE / max(1, total)) if sample is None else sample
    spans = [_masked_ends(text, offsets, masking) for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)]
    questions = _draw(spans, share, seed)
    lengths = np.array([min(len(documents[q.document]), size) for q in questions], dtype=np.int64) + len(before) + len(after)
    sums, asked = np.zeros(len(documents)), np.zeros(len(documents), dtype=np.int64)
    with progress_bar("scoring", total=len(questions), unit="masked tokens") as bar:
        for batch in batches_by_length(lengths, batch_tokens):
            rows, columns, targets = [], [], []
            for question in (questions[i] for i in batch):
                document = documents[question.document]
                start = max(0, min(question.position - size // 2, len(document) - size))
                row = before + document[start : start + size] + after
                column = question.position - start + len(before)
                end = min(question.masked_end - start, size) + len(before)
                row[column:end] = [mask_id] * (end - column)
                rows.append(row)
                columns.append(column)
                targets.append(document[question.position])
            ids, mask = pad(rows, language_model.device)
            states = language_model.hidden(ids, mask)[torch.arange(len(rows)), torch.tensor(columns)]
            owners = [questions[i].document for i in batch]
            np.add.at(sums, owners, language_model.bits(states, torch.tensor(targets, device=ids.device)))
            np.add.at(asked, owners, 1)
            bar.advance(len(batch))
    counts = np.array([len(d) for d in documents])
    unknown = sum(d.count(language_model.tokenizer.unk_token_id) for d in documents)
    bits = sums * counts / np.maximum(asked, 1)
    return Measured(bits, np.zeros(len(documents), dtype=np.int64), total, int(asked.sum()), unknown, int(asked.sum()) / max(1, total))


def _masked_ends(text: str, offsets: Sequence[tuple[int, int]], masking: str) -> npt.NDArray[np.int64]:
    """For each token, one past the last token hidden with it: itself, or the last piece of its word."""
    count = len(offsets)
    if masking == "token" or count == 0:
        return np.arange(1, count + 1)
    word_of = np.full(len(text) + 1, -1, dtype=np.int64)
    for number, match in enumerate(WORDS.finditer(text)):
        word_of[match.start() : match.end()] = number
    following = np.where(word_of >= 0, word_of, np.iinfo(np.int64).max)  # a token that starts with a space belongs to the word after it
    following = np.minimum.accumulate(following[::-1])[::-1]
    words = following[np.array([start for start, _ in offsets], dtype=np.int64)]
    starts = np.flatnonzero(np.r_[True, words[1:] != words[:-1]])
    ends = np.r_[starts[1:], count]
    return np.repeat(ends, ends - starts)


def _draw(spans: Sequence[npt.NDArray[np.int64]], share: float, seed: int) -> list[Question]:
    """The questions asked of each document: `share` of its tokens, at least one, drawn without replacement."""
    generator = np.random.default_rng(seed)
    questions: list[Question] = []
    for document, ends in enumerate(spans):
        if len(ends) == 0:
            continue
        asked = max(1, math.ceil(share * len(ends)))
        positions = np.arange(len(ends)) if asked == len(ends) else np.sort(generator.choice(len(ends), asked, replace=False))
        questions.extend(Question(document, int(p), int(ends[p])) for p in positions)
    return questions
