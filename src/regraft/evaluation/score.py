"""What text costs a model, per byte, so that models with different vocabularies compare.

Enters: a `transformers` model, its tokenizer, documents. Leaves: `Score` (bits per byte with a bootstrap interval, tokens per byte, word
and document, bytes per second), how often a new token wins greedy decoding of old text, and how many bytes a second the model writes.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import regex
import torch

from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.evaluation.likelihood import likelihood
from regraft.evaluation.pseudo_likelihood import pseudo_likelihood
from regraft.evaluation.windows import batches_by_length, pad
from regraft.language.model import LanguageModel, inference

WORD = regex.compile(r"[\w\p{M}\u200c\u200d]+")  # \w alone would cut Indic words at every combining mark
BATCH_TOKENS, DEVICE_BATCH_TOKENS = 512, 16_384  # on a CPU 2048 is a sixth slower: temporaries stay small enough to be reused
DRAWS = 1000


@dataclass(frozen=True)
class Score:
    """What documents cost, document by document.

    Attributes
    ----------
    document_bits : (documents,) float64, bits of each document's counted bytes.
    document_bytes : (documents,) int64, UTF-8 bytes that were scored. Every byte counted is scored and vice versa.
    tokens : tokens scored.
    words : words, runs of letters, digits, marks and joiners.
    text_bytes, text_tokens : of the whole text, scored or not; tokens per byte, word and document come from these.
    unknown : unknown tokens among them; each hides the text it stands for, so a score with many is too good to be true.
    seconds : wall time of scoring, tokenization included.
    measure : "likelihood" (decoder) or "pseudo-likelihood" (masked model).
    sampled : share of tokens whose cost was computed; below 1 only for pseudo-likelihood.
    """

    document_bits: npt.NDArray[np.float64]
    document_bytes: npt.NDArray[np.int64]
    tokens: int
    words: int
    text_bytes: int
    text_tokens: int
    unknown: int
    seconds: float
    measure: Literal["likelihood", "pseudo-likelihood"] = "likelihood"
    sampled: float = 1.0

    @property
    def bytes(self) -> int:
        return int(self.document_bytes.sum())

    @property
    def bits_per_byte(self) -> float:
        return float(self.document_bits.sum()) / max(1, self.bytes)

    @property
    def tokens_per_byte(self) -> float:
        return self.text_tokens / max(1, self.text_bytes)

    @property
    def tokens_per_word(self) -> float:
        return self.text_tokens / max(1, self.words)

    @property
    def tokens_per_document(self) -> float:
        return self.text_tokens / max(1, len(self.document_bytes))

    @property
    def bytes_per_second(self) -> float:
        """Bytes read a second; with sampling, the bytes of the share that was computed."""
        return self.bytes * self.sampled / max(self.seconds, 1e-9)

    def interval(self, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval of `bits_per_byte` over documents; deterministic in `seed`."""
        return _percentiles(_resampled(self, seed), level)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        low, high = self.interval()
        costs = ("bits_per_byte", "tokens_per_byte", "tokens_per_word", "tokens_per_document")
        figures = {name: getattr(self, name) for name in (*costs, "bytes", "tokens", "unknown", "seconds", "bytes_per_second")}
        return {"measure": self.measure, **figures, "interval": [low, high], "documents": len(self.document_bytes), "sampled": self.sampled}


def joined(scores: Sequence[Score]) -> Score:
    """Scores of texts that follow on each other, of one model and measure, as one."""
    summed = {
        name: sum(getattr(s, name) for s in scores) for name in ("tokens", "words", "text_bytes", "text_tokens", "unknown", "seconds")
    }
    bits, sizes = (np.concatenate([getattr(s, name) for s in scores]) for name in ("document_bits", "document_bytes"))
    computed = sum(s.sampled * s.tokens for s in scores) / max(1, summed["tokens"])
    return Score(bits, sizes, **summed, measure=scores[0].measure, sampled=computed)


def paired_difference(a: Score, b: Score, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """(a - b, low, high) in bits per byte: the same resampled documents on both sides, so that hard documents cancel.

    Raises `EvaluationError` if the scores are not of the same documents.
    """
    if len(a.document_bytes) != len(b.document_bytes) or a.text_bytes != b.text_bytes:
        raise EvaluationError("paired difference: the two scores are of different documents; score the same text with both models")
    low, high = _percentiles(_resampled(a, seed) - _resampled(b, seed), level)
    return a.bits_per_byte - b.bits_per_byte, low, high


def _resampled(score: Score, seed: int) -> npt.NDArray[np.float64]:
    generator, documents = np.random.default_rng(seed), len(score.document_bytes)
    values = np.zeros(DRAWS)
    for draw in range(DRAWS):
        picked = np.bincount(generator.integers(documents, size=documents), minlength=documents)
        values[draw] = float(picked @ score.document_bits) / max(1, int(picked @ score.document_bytes))
    return values


def _percentiles(values: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return float(low), float(high)


def score_text(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    window: int = 1024,
    stride: int | None = None,
    batch_tokens: int | None = None,
    device: str | torch.device | None = None,
    sample: float | None = None,
    masking: Literal["word", "token"] = "word",
    seed: int = 0,
) -> Score:
    """Bits per byte of `texts`: likelihood under a decoder, pseudo-likelihood under a masked model.

    A decoder reads each document in windows of `window` tokens that advance by `stride` (default: half a window); each token is scored
    once, in the first window that holds it, so past the first window it sees at least ``window - stride`` tokens of context. Every window
    starts with `LanguageModel.prefix` (BOS, else the document separator), which is never scored. A model with neither cannot score a
    document's first token: the token and its bytes are both left out. Bytes are those of the text as given, also where the tokenizer
    normalizes it. Padding goes to the right behind a mask, so neither `batch_tokens` nor the order of `texts` changes the result.

    A masked model: see `regraft.evaluation.pseudo_likelihood`; `sample`, `masking` and `seed` belong to it.

    Parameters
    ----------
    window : longest window in tokens, capped at what the model takes.
    batch_tokens : tokens in a batch, padding included; by default 512 on a CPU and 16,384 elsewhere.
    device : where to run; by default where the model is.

    Raises
    ------
    EvaluationError : the model has no causal or masked LM head, or its tokenizer does not fit it, or its logits are not finite.
    CorpusError : there is no text, or it holds lone surrogates.
    ParameterError : a window or stride out of range.
    """
    if device is not None:
        model.to(device)
    language_model = LanguageModel(model, tokenizer)
    start = time.perf_counter()
    sizes = _sizes(texts)
    window = min(window, language_model.max_tokens)
    batch_tokens = batch_tokens or _batch_tokens(language_model)
    with inference(model):
        if language_model.kind == "masked":
            measured = pseudo_likelihood(
                language_model, texts, window=window, batch_tokens=batch_tokens, sample=sample, masking=masking, seed=seed
            )
        else:
            measured = likelihood(language_model, texts, window=window, stride=stride, batch_tokens=batch_tokens)
    if not np.isfinite(measured.bits).all():
        raise EvaluationError(f"the model gives non-finite logits on document {int(np.flatnonzero(~np.isfinite(measured.bits))[0])}")
    return Score(
        document_bits=measured.bits,
        document_bytes=sizes - measured.unscored_bytes,
        tokens=measured.scored_tokens,
        words=sum(len(WORD.findall(text)) for text in texts),
        text_bytes=int(sizes.sum()),
        text_tokens=measured.tokens,
        unknown=measured.unknown,
        seconds=time.perf_counter() - start,
        measure="likelihood" if language_model.kind == "decoder" else "pseudo-likelihood",
        sampled=measured.sampled,
    )


def _sizes(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    if isinstance(texts, str) or not any(texts):
        raise CorpusError("nothing to score: give a list of documents, at least one of them not empty")
    sizes = np.zeros(len(texts), dtype=np.int64)
    for document, text in enumerate(texts):
        try:
            sizes[document] = len(text.encode())
        except UnicodeEncodeError as error:
            raise CorpusError(f"document {document} holds a lone surrogate at character {error.start}: it is not text; remove it") from None
    return sizes


@dataclass(frozen=True)
class GreedyHits:
    """Positions scored, and at how many a new token wins (`hits`) or equals the best old one within tolerance (`ties`, won by the old).

    `skipped` documents were left out because their segmentation holds a new token.
    """

    positions: int
    hits: int
    ties: int
    skipped: int = 0


def greedy_hits(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    new_ids: Sequence[int] | npt.NDArray[np.int64],
    *,
    tolerance: float = 1e-4,
    window: int = 1024,
    batch_tokens: int | None = None,
) -> GreedyHits:
    """How often greedy decoding of old text would leave it for a new token.

    Counts positions of documents that hold no new token, where the best new logit exceeds the best old logit by more than `tolerance`.
    Rows in the convex hull of old rows never do in exact arithmetic; equal logits round either way, hence the tolerance, and ties go to
    the old token. Documents are read up to `window` tokens.

    Raises the errors of `score_text`; `EvaluationError` for a masked model, `ParameterError` for ids outside the table.
    """
    language_model = LanguageModel(model, tokenizer)
    if language_model.kind != "decoder":
        raise EvaluationError(f"{type(model).__name__} does not decode greedily: greedy hits are for decoders")
    _sizes(texts)
    new = torch.as_tensor(np.unique(np.asarray(new_ids, dtype=np.int64)), device=language_model.device)
    if len(new) == 0:
        return GreedyHits(0, 0, 0)
    if int(new[0]) < 0 or int(new[-1]) >= language_model.vocab_rows:
        raise ParameterError(f"new_ids run from {int(new[0])} to {int(new[-1])}: the model has rows 0 to {language_model.vocab_rows - 1}")
    added, prefix = set(new.tolist()), language_model.prefix
    documents = [d for d in language_model.encode(texts) if d]
    kept = [(prefix + d)[: min(window, language_model.max_tokens)] for d in documents if added.isdisjoint(d)]
    positions = hits = ties = 0
    batch_tokens = batch_tokens or _batch_tokens(language_model)
    with inference(model):
        for batch in batches_by_length(np.array([len(d) for d in kept], dtype=np.int64), batch_tokens):
            ids, mask = pad([kept[i] for i in batch], language_model.device)
            states = language_model.hidden(ids, mask)[mask.bool()]
            for start in range(0, len(states), language_model.block()):
                logits = language_model.logits(states[start : start + language_model.block()]).float()
                best_new = logits[:, new].amax(dim=1)
                best_old = logits.index_fill(1, new, -math.inf).amax(dim=1)
                positions += len(logits)
                hits += int((best_new > best_old + tolerance).sum())
                ties += int(((best_new - best_old).abs() <= tolerance).sum())
    return GreedyHits(positions, hits, ties, len(documents) - len(kept))


@dataclass(frozen=True)
class Speed:
    """Bytes, characters and tokens written in `seconds`."""

    bytes: int
    characters: int
    tokens: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / max(self.seconds, 1e-9)

    @property
    def bytes_per_step(self) -> float:
        """Bytes a decoding step yields: what a better vocabulary buys, free of the machine's speed."""
        return self.bytes / max(1, self.tokens)

    @property
    def characters_per_step(self) -> float:
        """Characters a decoding step yields: what a reader sees of it, whatever bytes the script takes."""
        return self.characters / max(1, self.tokens)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers for JSON."""
        steps = {"bytes_per_step": self.bytes_per_step, "characters_per_step": self.characters_per_step}
        return {"bytes_written_per_second": self.bytes_per_second, **steps}


def generation_speed(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, new_tokens: int = 64, prompt_tokens: int = 16, follow: bool = True
) -> Speed:
    """How fast the model writes, one document at a time, greedily, with its cache.

    Each prompt is cut after `prompt_tokens` tokens; then `new_tokens` steps are timed, without the reading of the prompt and after one
    warm-up prompt. With `follow` the steps spell the prompt's own continuation (shorter if it ends), so that two vocabularies write the
    same kind of text whatever the models have learned; without it each step writes the model's choice, past any end-of-text token.

    Raises `EvaluationError` for a model that is no decoder or prompts too short to follow.
    """
    language_model = LanguageModel(model, tokenizer)
    if language_model.kind != "decoder":
        raise EvaluationError(f"{type(model).__name__} does not generate text: generation speed is for decoders")
    _sizes(prompts)
    total_bytes = characters = tokens = 0
    seconds = 0.0
    documents = language_model.encode(prompts)
    chosen = [d for d in documents if len(d) > prompt_tokens + 1] if follow else [d for d in documents if d]
    if not chosen:
        raise EvaluationError(f"no prompt is longer than {prompt_tokens} tokens: give longer ones or a smaller prompt_tokens")
    with inference(model):
        for turn, document in enumerate([chosen[0], *chosen]):
            forced = document[prompt_tokens : prompt_tokens + new_tokens] if follow else None
            written, elapsed = _decode(language_model, language_model.prefix + document[:prompt_tokens], forced, new_tokens)
            if turn == 0:
                continue  # warm-up
            text = tokenizer.decode(written, skip_special_tokens=True)
            total_bytes += len(text.encode())
            characters += len(text)
            tokens += len(written)
            seconds += elapsed
    return Speed(total_bytes, characters, tokens, seconds)


def _batch_tokens(language_model: LanguageModel) -> int:
    return BATCH_TOKENS if language_model.device.type == "cpu" else DEVICE_BATCH_TOKENS


def _decode(language_model: LanguageModel, prompt: list[int], forced: list[int] | None, steps: int) -> tuple[list[int], float]:
    """Ids written after `prompt`, and the seconds that took without reading the prompt."""
    device, cache = language_model.device, language_model.cache_name
    output = language_model.model(torch.tensor([prompt], device=device), use_cache=True)
    written: list[int] = []
    start = time.perf_counter()
    for step in range(len(forced) if forced is not None else steps):
        greedy = int(output.logits[0, -1].argmax())
        written.append(forced[step] if forced is not None else greedy)
        so_far = {cache: getattr(output, cache)}
        output = language_model.model(torch.tensor([written[-1:]], device=device), use_cache=True, **so_far)
    return written, time.perf_counter() - start
