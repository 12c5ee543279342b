"""What `adapt` and `compare` share: a model, its new tokenizer, and the texts on which both are scored."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.corpus.sampling import open_source_text, sample_texts, say_skipped
from regraft.errors import CorpusError
from regraft.evaluation import Score, Speed, generation_speed, greedy_hits, joined, score_text
from regraft.language.model import remembered_states
from regraft.progress import console, step
from regraft.tokenizer import Tokenizer, measure_segmentation, widen_pretokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.training import Training
from regraft.vocab.change import Change
from regraft.vocab.change.request import TokenizerRequest
from regraft.vocab.change.stored import follow_stored, ids_of, with_rows
from regraft.vocab.initializer import Aids, Context
from regraft.vocab.setting import Setting

WATCH_BYTES = 8_000
PROMPTS, PROMPT_CHARACTERS = 4, 300
FRAME = 3  # tokens that training may put around a document, at most


@dataclass(frozen=True)
class Stage:
    """One state of the model with what its held-out text costs. `ordinary` is the text it must not forget; `writing` how fast it writes."""

    name: str
    domain: Score | None
    ordinary: Score | None
    greedy_hits: int | None = None
    greedy_positions: int | None = None
    writing: Speed | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "domain": self.domain and self.domain.to_dict(),
            "ordinary": self.ordinary and self.ordinary.to_dict(),
            "greedy_hits": self.greedy_hits,
            "greedy_positions": self.greedy_positions,
            "bytes_written_per_second": self.writing and self.writing.bytes_per_second,
            "bytes_per_step": self.writing and self.writing.bytes_per_step,
            "characters_per_step": self.writing and self.writing.characters_per_step,
        }


@dataclass(frozen=True, kw_only=True)
class Job(Setting):
    """A model about to get a new vocabulary, with its texts. Build with `Job.prepare`.

    `domain` and `ordinary` are scored, of `ordinary` first what both tokenizers cut alike; `replay` is there to be trained on.
    """

    corpus: Corpus
    domain: list[str]
    ordinary: list[str]
    replay: list[str]
    context: Context

    @classmethod
    def prepare(
        cls,
        model: str | Path,
        corpus: Corpus,
        request: TokenizerRequest,
        *,
        source_text: Sequence[str | Path] | None = None,
        replay: bool = False,
        score_bytes: int | None = None,
        seed: int = 0,
        aids: Aids | None = None,
        device: str = "cpu",
        dtype: str = "auto",
    ) -> "Job":
        """Open `model`, change its tokenizer over the training documents, and draw the texts to score (at most `score_bytes` each).

        With `replay`, only the held-out half of `source_text` is scored; the other half is there to be trained on.
        """
        say_skipped(corpus)
        checkpoint = Checkpoint.open(model, vocabulary=True)
        tokenizer = Tokenizer.from_directory(checkpoint.path)
        with step(f"changing the tokenizer: {request.describe()}"):
            change = request.apply(tokenizer, corpus, keep={i for _, i in ids_of(checkpoint)})
        if request.widen_pretokenizer:
            effect = measure_segmentation(
                tokenizer, widen_pretokenizer(tokenizer), open_source_text(source_text, held_out=0.0).documents("all")
            )
            change.notes.append(f"widening the pre-tokenizer, on text in the model's own language: {effect}")
        tokenizer, past = with_rows(checkpoint, tokenizer)
        change = follow_stored(checkpoint, tokenizer, change, past)
        for note in change.notes:
            console.print(f"  {note}", highlight=False)
        domain = sample_texts(corpus.documents("held-out"), score_bytes)
        source = open_source_text(source_text, held_out=0.5 if replay else 0.0)
        ordinary = sample_texts(source.documents("held-out" if replay else "all"), score_bytes)
        alike = cut_alike(tokenizer, change, ordinary)
        ordinary = [text for side in (True, False) for text, same in zip(ordinary, alike, strict=True) if same == side]
        replayed = list(source.documents("train")) if replay else []
        aids = dataclasses.replace(aids or Aids(), ontology=tuple(request.ontology) if request.ontology else None)
        setting = Setting(checkpoint=checkpoint, tokenizer=tokenizer, change=change, corpus=corpus, aids=aids, device=device, dtype=dtype)
        watched = sample_texts(replayed, score_bytes) or ordinary  # rather what is trained on than what is scored
        context = dataclasses.replace(setting.context_for(seed), ordinary=watched)
        return cls(**vars(setting), domain=domain, ordinary=ordinary, replay=replayed, context=context)

    def corpus_record(self) -> dict[str, Any]:
        """The corpus as provenance names it."""
        return {
            "name": self.corpus.name,
            "sha256": self.corpus.sha256,
            "bytes": self.corpus.size_bytes,
            "documents": self.corpus.count("all"),
            "skipped": [list(pair) for pair in self.corpus.skipped],
        }

    def check_text(self) -> None:
        """Raise `CorpusError` unless there is held-out text to score the model on."""
        if self.scorable and not self.domain:
            raise CorpusError(
                f"{self.corpus.name}: nothing is held out, so there is no text to score: separate documents with blank lines, "
                "raise --held-out, or leave the scoring out (--no-score)"
            )

    def check_blocks(self, training: Training) -> None:
        """Raise `CorpusError` if the text to train on, or to replay, is shorter than a block of `training`. Asked before long work."""
        self._check_block(self.corpus.documents("train"), training.block, f"{self.corpus.name}: the text to train on", "--corpus")
        if training.replay:
            name = "the replay text (half of the documents of --source-text, by default of a page of everyday English)"
            self._check_block(self.replay, training.block, name, "--source-text")

    def _check_block(self, texts: Iterable[str], block: int, name: str, option: str) -> None:
        tokens = frames = 0
        for text in texts:
            tokens, frames = tokens + len(self.change.tokenizer.encode(text)), frames + FRAME
            if tokens + frames >= block:
                return
        raise CorpusError(f"{name} has {tokens} tokens, less than one block of {block}: give more with {option}, or a smaller block")

    def load(self) -> tuple[Any, Any, Any]:
        """The model and both tokenizers as `transformers` objects."""
        with step("loading the model"):
            return *self.untouched(), load_tokenizer(self.change.tokenizer)

    def score(
        self, name: str, model: Any, tokenizer: Any, *, new: bool = True, writing: bool = False, kept: dict[bytes, Any] | None = None
    ) -> Stage:
        """Score both texts; with `new`, count greedy hits of new ids on ordinary text cut as before; with `writing`, time generation.

        `kept` holds hidden states of ordinary text cut as before, for other models with the same layers and old input rows.
        """
        domain = score_text(model, tokenizer, self.domain)
        unchanged = self.unchanged_texts if new else []
        changed = self.ordinary[len(unchanged) :]
        with nullcontext() if kept is None else remembered_states(model, kept):
            scores = [score_text(model, tokenizer, unchanged)] if unchanged else []
            if unchanged and self.checkpoint.layout.kind == "decoder":  # none after most replacements: no greedy choices to compare
                hits = greedy_hits(model, tokenizer, unchanged, self.change.new_ids.tolist())
            else:
                hits = None
        scores += [score_text(model, tokenizer, changed)] if changed else []
        stage = Stage(name, domain, joined(scores) if scores else None)
        if hits is not None:
            stage = dataclasses.replace(stage, greedy_hits=hits.hits, greedy_positions=hits.positions)
        if writing and self.checkpoint.layout.kind == "decoder":
            prompts = [text for text in self.domain if len(text) > PROMPT_CHARACTERS][:PROMPTS]
            if prompts:
                stage = dataclasses.replace(stage, writing=generation_speed(model, tokenizer, prompts))
        return stage

    def scored(self) -> dict[str, list[str]]:
        """The texts that are scored, by name."""
        return {"domain": self.domain, "ordinary": self.ordinary}

    @cached_property
    def unchanged_texts(self) -> list[str]:
        """Ordinary texts that both tokenizers cut into the same tokens: the first of them."""
        return [text for text, same in zip(self.ordinary, cut_alike(self.tokenizer, self.change, self.ordinary), strict=True) if same]

    def watcher(self, tokenizer: Any) -> Callable[[Any, int], float]:
        """Bits per byte of a small part of the held-out text, for the curve while a model trains."""
        sample = sample_texts(self.domain, WATCH_BYTES)
        return lambda model, _: score_text(model, tokenizer, sample).bits_per_byte


def cut_alike(tokenizer: Tokenizer, change: Change, texts: Sequence[str]) -> list[bool]:
    """Which of `texts` both tokenizers cut into the same tokens."""
    old, new = tokenizer.encode_batch(texts), change.tokenizer.encode_batch(texts)
    return [a == [int(change.source_ids[i]) for i in b] for a, b in zip(old, new, strict=True)]
