"""What text costs a model, per byte, so that models with different vocabularies compare.

Enters: a `transformers` model, its tokenizer, documents. Leaves: `Score` (bits per byte with a bootstrap interval, tokens per byte and per
word, bytes per second), how often a new token wins greedy decoding of old text, and how many bytes a second the model writes.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import regex
import torch
from torch.nn.functional import cross_entropy

from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.language_model import LanguageModel, inference
from regraft.progress import progress_bar

WORD = regex.compile(r"[\w\p{M}\u200c\u200d]+")  # \w alone would cut Indic words at every combining mark
BATCH_TOKENS = 2048
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
    text_bytes, text_tokens : of the whole text, scored or not; tokens per byte and per word come from these.
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
    def bytes_per_second(self) -> float:
        """Bytes read a second; with sampling, the bytes of the share that was computed."""
        return self.bytes * self.sampled / max(self.seconds, 1e-9)

    def interval(self, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval of `bits_per_byte` over documents; deterministic in `seed`."""
        return _percentiles(_resampled(self, seed), level)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        low, high = self.interval()
        names = ("bits_per_byte", "tokens_per_byte", "tokens_per_word", "bytes", "tokens", "unknown", "seconds", "bytes_per_second")
        figures = {name: getattr(self, name) for name in names}
        return {"measure": self.measure, **figures, "interval": [low, high], "documents": len(self.document_bytes), "sampled": self.sampled}


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
    batch_tokens: int = BATCH_TOKENS,
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

    A masked model: see `regraft.pseudo_likelihood`; `sample`, `masking` and `seed` belong to it.

    Parameters
    ----------
    window : longest window in tokens, capped at what the model takes.
    batch_tokens : tokens in a batch, padding included.
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
    with inference(model):
        if language_model.kind == "masked":
            from regraft.pseudo_likelihood import pseudo_likelihood

            measured = pseudo_likelihood(
                language_model, texts, window=window, batch_tokens=batch_tokens, sample=sample, masking=masking, seed=seed
            )
        else:
            measured = _likelihood(language_model, texts, sizes, window, stride, batch_tokens)
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


@dataclass(frozen=True)
class Measured:
    """Bits of each document (documents,), bytes that could not be scored (documents,), and token counts."""

    bits: npt.NDArray[np.float64]
    unscored_bytes: npt.NDArray[np.int64]
    tokens: int
    scored_tokens: int
    unknown: int
    sampled: float = 1.0


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end` of `document`, of which those from `first` on are scored."""

    document: int
    start: int
    first: int
    end: int


def plan_windows(lengths: Sequence[int], skips: Sequence[int], size: int, stride: int) -> Iterator[Window]:
    """Windows of at most `size` tokens that score each token past the first `skips[i]` of document i exactly once."""
    for document, (length, done) in enumerate(zip(lengths, skips, strict=True)):
        start = 0
        while done < length:
            end = min(start + size, length)
            yield Window(document, start, done, end)
            start, done = start + stride, end


def batches_by_length(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of sequences grouped by similar length, longest first, with ``longest * count <= batch_tokens`` (at least one a batch)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (batch, longest) padded on the right with 0, and the mask that is 1 on real tokens."""
    longest = max(len(s) for s in sequences)
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def token_bits(language_model: LanguageModel, states: torch.Tensor, targets: torch.Tensor) -> npt.NDArray[np.float64]:
    """Bits of `targets` (n,) given the hidden states (n, d) that predict them, in float32, block by block."""
    block = language_model.block()
    nats = [
        cross_entropy(language_model.logits(states[start : start + block]).float(), targets[start : start + block], reduction="none")
        for start in range(0, len(targets), block)
    ]
    return torch.cat(nats).double().cpu().numpy() / math.log(2)


def _likelihood(
    language_model: LanguageModel, texts: Sequence[str], sizes: npt.NDArray[np.int64], window: int, stride: int | None, batch_tokens: int
) -> Measured:
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
            costs = token_bits(language_model, states[rows, columns - 1], ids[rows, columns])
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
    batch_tokens: int = BATCH_TOKENS,
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
    """Bytes and tokens written in `seconds`."""

    bytes: int
    tokens: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / max(self.seconds, 1e-9)

    @property
    def bytes_per_step(self) -> float:
        """Bytes a decoding step yields: what a better vocabulary buys, free of the machine's speed."""
        return self.bytes / max(1, self.tokens)


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
    total_bytes = total_tokens = 0
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
            total_bytes += len(tokenizer.decode(written, skip_special_tokens=True).encode())
            total_tokens += len(written)
            seconds += elapsed
    return Speed(total_bytes, total_tokens, seconds)


def _decode(language_model: LanguageModel, prompt: list[int], forced: list[int] | None, steps: int) -> tuple[list[int], float]:
    """Ids written after `prompt`, and the seconds that took without reading the prompt."""
    device = language_model.device
    output = language_model.model(torch.tensor([prompt], device=device), use_cache=True)
    written: list[int] = []
    start = time.perf_counter()
    for step in range(len(forced) if forced is not None else steps):
        greedy = int(output.logits[0, -1].argmax())
        written.append(forced[step] if forced is not None else greedy)
        output = language_model.model(torch.tensor([written[-1:]], device=device), past_key_values=output.past_key_values, use_cache=True)
    return written, time.perf_counter() - start
