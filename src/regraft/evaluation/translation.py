"""How well a model translates: few-shot prompts, greedy decoding, chrF.

Enters: a decoder, its tokenizer, pairs of a source and a reference sentence. Leaves: a `Translation`: what it wrote, chrF with an interval,
and how many characters a decoding step wrote. A few of the pairs show the model what is wanted and are never scored.
"""

import copy
import inspect
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regraft.corpus.pairs import Pair, checked_pair
from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.evaluation.chrf import ChrfSample, Counts, metric, ngram_counts
from regraft.evaluation.score import DRAWS
from regraft.language.model import LanguageModel, inference
from regraft.progress import progress_bar

TEMPLATE = "{source} = {reference}"  # names no language, so it serves all
EXAMPLES = 5
ROWS, DEVICE_ROWS = 8, 32  # sentences written side by side; on a CPU eight take twice as long as one
LONGER = 1.5  # how much longer than the examples foretell a translation may get


@dataclass(frozen=True)
class Translation:
    """What a model wrote for each sentence, and what that is worth.

    Attributes
    ----------
    hypotheses, references : texts, sentence by sentence.
    counts : (sentences, 18) n-gram counts, see `regraft.evaluation.chrf.ngram_counts`.
    steps : (sentences,) int64, tokens written, the one that ended the line included.
    seconds : wall time of writing, prompts included.
    signature : sacrebleu's description of the metric.
    """

    hypotheses: list[str]
    references: list[str]
    counts: Counts
    steps: Counts
    seconds: float
    signature: str

    @property
    def characters(self) -> Counts:
        """(sentences,) int64, characters written."""
        return np.array([len(text) for text in self.hypotheses], dtype=np.int64)

    @property
    def chrf(self) -> float:
        """Corpus-level chrF, 0 to 100."""
        return ChrfSample(self.counts[None]).value

    @property
    def tokens_per_sentence(self) -> float:
        return float(self.steps.mean())

    @property
    def characters_per_step(self) -> float:
        return float(self.characters.sum() / max(1, self.steps.sum()))

    def interval(self, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval of `chrf` over sentences; deterministic in `seed`."""
        generator, sample, sentences = np.random.default_rng(seed), ChrfSample(self.counts[None]), len(self.counts)
        own = np.zeros(1, dtype=np.int64)
        values = [sample.resample(generator.integers(sentences, size=sentences), own) for _ in range(DRAWS)]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
        return float(low), float(high)

    def to_dict(self, seed: int = 0) -> dict[str, Any]:
        """Plain numbers for JSON; `seed` is that of the interval."""
        names = ("tokens_per_sentence", "characters_per_step", "seconds", "signature")
        figures = {name: getattr(self, name) for name in names}
        return {"chrf": self.chrf, "chrf_interval": list(self.interval(seed)), "sentences": len(self.references), **figures}


def translate(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    examples: int = EXAMPLES,
    template: str = TEMPLATE,
    sentences: int | None = None,
    new_tokens: int | None = None,
    seed: int = 0,
) -> Translation:
    """Translate the sources of `pairs` and compare with their references.

    A prompt is `examples` pairs written out by `template`, a line each, and the source to translate. The model goes on greedily, with its
    cache, until a line or the text ends. White space within a sentence of a prompt is written as one space.

    Parameters
    ----------
    pairs : (source, reference). The examples are drawn from them by `seed`; no other pair that shares a text with one is scored.
    template : has ``{source}`` and, at its end, ``{reference}``.
    sentences : how many pairs to translate, drawn by `seed`; by default all that are no examples. Every model gets the same ones.
    new_tokens : most tokens to write for a sentence. By default half as many again as the examples, in this tokenizer's tokens a byte of
        source, foretell, so that two vocabularies may write equally much text.

    Raises
    ------
    EvaluationError : the model is no decoder, its context is too short for the examples, or sacrebleu is missing.
    CorpusError : a pair has an empty side, or there are no pairs beside the examples.
    ParameterError : a template or number that makes no sense.
    """
    metric()
    language_model = as_decoder(model, tokenizer)
    check_prompt(len(pairs), examples, template, sentences)
    if new_tokens is not None and new_tokens < 1:
        raise ParameterError(f"new_tokens={new_tokens}: give at least 1")
    shown, asked = _draw([checked_pair(*pair, f"pair {n}") for n, pair in enumerate(pairs, 1)], examples, sentences, seed)
    start = time.perf_counter()
    prompts = _prompts(language_model, shown, [source for source, _ in asked], template)
    limits = [new_tokens] * len(asked) if new_tokens else _limits(language_model, shown, asked)
    room = language_model.max_tokens - max(map(len, prompts))
    if room < 1:
        raise EvaluationError(f"a prompt has {max(map(len, prompts))} tokens, the model reads {language_model.max_tokens}: fewer examples")
    with inference(model):
        written = _write_lines(language_model, prompts, [min(limit, room) for limit in limits])
    hypotheses = [tokenizer.decode(ids, skip_special_tokens=True).partition("\n")[0].strip() for ids in written]
    seconds, references = time.perf_counter() - start, [reference for _, reference in asked]
    counts, steps = ngram_counts(hypotheses, references), np.array([len(ids) for ids in written], dtype=np.int64)
    return Translation(hypotheses, references, counts, steps, seconds, str(metric().get_signature()))


def check_prompt(pairs: int, examples: int, template: str, sentences: int | None) -> None:
    """Raise `ParameterError` or `CorpusError` unless prompts can be made of so many pairs."""
    _template_parts(template)
    for name, value in (("examples", examples), ("sentences", sentences)):
        if value is not None and value < 1:
            raise ParameterError(f"{name}={value}: give at least 1")
    if pairs <= examples:
        raise CorpusError(f"{pairs} pairs leave none to translate beside {examples} examples: give more pairs, or fewer examples")


def as_decoder(model: Any, tokenizer: Any) -> LanguageModel:
    """The model as one that can write. Raises `EvaluationError` if it cannot."""
    language_model = LanguageModel(model, tokenizer)
    if language_model.kind != "decoder":
        raise EvaluationError(f"{type(model).__name__} does not generate text: translations are for decoders")
    language_model.need_backbone("translation")
    return language_model


def _write_lines(language_model: LanguageModel, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
    """Ids that the model writes behind each prompt, greedily, up to `limits` of them.

    The token that ends a line or the text is the last. What all prompts begin with is read once.
    """
    alike = sum(1 for _ in itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False)))
    shared = min(alike, min(map(len, prompts)) - 1)
    first = language_model.need_backbone("translation")(
        input_ids=torch.tensor([prompts[0][:shared]], device=language_model.device), use_cache=True
    )
    read = getattr(first, language_model.cache_name)
    rows = ROWS if language_model.device.type == "cpu" else DEVICE_ROWS
    order = np.argsort([-limit for limit in limits], kind="stable").tolist()  # those of a batch then end at about the same step
    written: list[list[int]] = [[] for _ in prompts]
    with progress_bar("Translating", total=len(prompts), unit="sentences") as bar:
        for batch in (order[at : at + rows] for at in range(0, len(order), rows)):
            rest = [prompts[i][shared:] for i in batch]
            for row, token in _greedy(language_model, copy.deepcopy(read), shared, rest, [limits[i] for i in batch]):
                written[batch[row]].append(token)
            bar.advance(len(batch))
    return written


def _greedy(
    language_model: LanguageModel, cache: Any, cached: int, rest: Sequence[Sequence[int]], limits: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """(row, id) of each token written behind `rest`, which follows on the `cached` tokens that `cache` holds. A row that ends drops out."""
    backbone, device = language_model.need_backbone("translation"), language_model.device
    with_positions = "position_ids" in inspect.signature(backbone.forward).parameters
    cache.reorder_cache(torch.zeros(len(rest), dtype=torch.long, device=device))  # the one row for all
    ids, mask = _pad_left(rest, cached, device)
    stops, rows, left = _stops(language_model), list(range(len(rest))), list(limits)
    while rows:
        options = {"attention_mask": mask, language_model.cache_name: cache, "use_cache": True}
        if with_positions:
            options["position_ids"] = (mask.cumsum(1) - 1)[:, -ids.shape[1] :].clamp(min=0)
        states = backbone(input_ids=ids, **options).last_hidden_state
        tokens = language_model.logits(states[:, -1]).argmax(-1).tolist()
        yield from zip(rows, tokens, strict=True)
        left = [n - 1 for n in left]
        going = [i for i, t in enumerate(tokens) if left[i] and t not in stops and "\n" not in language_model.tokenizer.decode([t])]
        kept = torch.tensor(going, dtype=torch.long, device=device)
        if len(going) < len(rows):
            cache.reorder_cache(kept)
        rows, left = [rows[i] for i in going], [left[i] for i in going]
        ids = torch.tensor([[tokens[i]] for i in going], device=device)
        mask = torch.cat([mask[kept], mask.new_ones(len(going), 1)], dim=1)


def _pad_left(rest: Sequence[Sequence[int]], cached: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (rows, longest), padded on the left with 0, and the mask (rows, cached + longest) that is 1 on real tokens."""
    longest = max(map(len, rest))
    ids, mask = np.zeros((len(rest), longest), dtype=np.int64), np.ones((len(rest), cached + longest), dtype=np.int64)
    for row, sequence in enumerate(rest):
        ids[row, longest - len(sequence) :] = sequence
        mask[row, cached : cached + longest - len(sequence)] = 0
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _stops(language_model: LanguageModel) -> set[int]:
    """Ids that end a text: the tokenizer's, the model's own, and the separator of documents."""
    own = getattr(getattr(language_model.model, "generation_config", None), "eos_token_id", None)
    listed = [*own] if isinstance(own, list) else [own]
    return {i for i in (*listed, language_model.tokenizer.eos_token_id, language_model.separator) if i is not None}


def _template_parts(template: str) -> tuple[str, str]:
    """What stands before the source, and between it and the reference."""
    before, source, rest = template.partition("{source}")
    between, reference, after = rest.partition("{reference}")
    if not source or not reference or after or "{source}" in between:
        raise ParameterError(f"template {template!r}: it needs {{source}} and, at its end, {{reference}}, once each")
    return before, between


def _draw(pairs: Sequence[Pair], examples: int, sentences: int | None, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs that are shown, and pairs that are asked for, these in their own order."""
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    shown = [pairs[i] for i in order[:examples]]
    known = {text for pair in shown for text in pair}
    asked = [i for i in order[examples:] if known.isdisjoint(pairs[i])][:sentences]
    if not asked:
        raise CorpusError("every pair shares a text with an example: give more pairs, or fewer examples")
    return shown, [pairs[i] for i in sorted(asked)]


def _prompts(language_model: LanguageModel, shown: Sequence[Pair], sources: Sequence[str], template: str) -> list[list[int]]:
    before, between = _template_parts(template)
    lines = [f"{before}{' '.join(source.split())}{between}{' '.join(reference.split())}\n" for source, reference in shown]
    end = between.rstrip(" ")  # the space belongs to the first word of what follows
    texts = ["".join([*lines, before, " ".join(source.split()), end]) for source in sources]
    return [language_model.prefix + ids for ids in language_model.encode(texts)]


def _limits(language_model: LanguageModel, shown: Sequence[Pair], asked: Sequence[Pair]) -> list[int]:
    """Tokens that may be written for each sentence."""
    tokens = sum(map(len, language_model.encode([reference for _, reference in shown])))
    rate = LONGER * tokens / sum(len(source.encode()) for source, _ in shown)
    return [math.ceil(rate * len(source.encode())) for source, _ in asked]
