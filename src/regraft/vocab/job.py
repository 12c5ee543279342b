"""What `adapt` and `compare` share: a model, its new tokenizer, and the texts on which both are scored."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.corpus.sampling import open_source_text, sample_texts, say_skipped
from regraft.errors import CorpusError, OntologyError, ParameterError
from regraft.evaluation import Score, Speed, generation_speed, greedy_hits, joined, score_text
from regraft.language.loading import is_scorable, load_both, load_model
from regraft.language.model import remembered_states
from regraft.progress import console, step
from regraft.report.page import Section, terminal_tables
from regraft.tokenizer import Tokenizer, measure_segmentation, widen_pretokenizer
from regraft.tokenizer.as_transformers import load_tokenizer, make_loadable
from regraft.training import Training
from regraft.vocab.change import Change, add_words, extend, replace, trim
from regraft.vocab.initializer import Aids, Context
from regraft.vocab.initializers.k_tokeniser import KTokeniserStart
from regraft.vocab.k_tokeniser import Ontology, build, open_ontologies

WATCH_BYTES = 8_000
PROMPTS, PROMPT_CHARACTERS = 4, 300
FRAME = 3  # tokens that training may put around a document, at most


@dataclass(frozen=True, kw_only=True)
class TokenizerRequest:
    """How the tokenizer is to change: exactly one of `extend`, `replace`, `words`, `trim`, `ontology`.

    Parameters
    ----------
    extend : number of new pieces to learn from the corpus.
    replace : a Hugging Face tokenizer directory or `tokenizer.json` to change to.
    words : a file with one word or phrase a line; each becomes one token.
    trim : keep only the pieces that the corpus uses.
    ontology : `name=source` of each semantic type whose words the pieces are made of; see `Ontology.open`.
    k_tokeniser : the parameters of those pieces and their choice, by default the paper's.
    route : how `extend` learns: "continued" training, merging an auxiliary tokenizer with "new-first" or "old-first" merges, or the n-grams
        that save most tokens, appended ("n-grams") or in the place of tokens of little use ("adaptivocab").
    widen_pretokenizer : let combining marks belong to letters before learning.
    """

    extend: int | None = None
    replace: str | Path | None = None
    words: str | Path | None = None
    trim: bool = False
    ontology: Sequence[str] | None = None
    k_tokeniser: KTokeniserStart | None = None
    route: str = "continued"
    widen_pretokenizer: bool = False

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("extend", "replace", "words", "trim", "ontology")}
        asked = [name for name, value in given.items() if value is not None and value is not False and value != []]
        if self.k_tokeniser is not None and not self.ontology:
            instead = f" instead of --{asked[0]}" if asked else ""
            raise ParameterError(f"k-tokeniser makes its pieces from ontologies: give --ontology name=path{instead}")
        if len(asked) != 1:
            raise ParameterError(
                "say how the vocabulary changes with exactly one of --extend, --replace, --words, --trim, --ontology "
                f"(got {', '.join(asked) or 'none'})"
            )
        if self.extend is not None and self.extend < 1:
            raise ParameterError(f"--extend {self.extend}: ask for at least 1 new piece")

    def apply(self, tokenizer: Tokenizer, corpus: Corpus) -> Change:
        """The changed tokenizer, learned on training documents only. Raises `CorpusError` if it needs some and there are none."""
        if (self.extend is not None or self.trim) and not corpus.count("train"):
            raise CorpusError(f"{corpus.name}: all of it is held out, none is left to learn from: separate documents with blank lines")
        if self.extend is not None:
            return extend(tokenizer, corpus.documents("train"), self.extend, route=self.route, widen=self.widen_pretokenizer)  # type: ignore[arg-type]
        if self.replace is not None:
            change = replace(tokenizer, Tokenizer.from_directory(self.replace))
        elif self.words is not None:
            change = add_words(tokenizer, read_words(Path(self.words)))
        elif self.ontology:
            return self._build(tokenizer, corpus)
        else:
            change = trim(tokenizer, corpus.documents("train"))
        loadable, notes = make_loadable(change.tokenizer, list(islice(corpus.documents("train"), 50)))
        return dataclasses.replace(change, tokenizer=loadable, notes=[*change.notes, *notes])

    @cached_property
    def ontologies(self) -> list[Ontology]:
        """What `ontology` names, read once."""
        return open_ontologies(self.ontology or [])

    def _build(self, tokenizer: Tokenizer, corpus: Corpus) -> Change:
        """The pool of the ontologies' pieces. A concept name that is itself held-out text is not learned from."""
        names = {phrase for ontology in self.ontologies for phrase in ontology.phrases}
        held_out = {document for document in corpus.documents("held-out") if document in names}
        rows = [ontology.summary() for ontology in self.ontologies]
        console.print(*terminal_tables(Section("table", "ontologies", "", rows=rows), console))
        learned = [ontology.within(names - held_out) for ontology in self.ontologies] if held_out else self.ontologies
        change = build(tokenizer, learned, self.k_tokeniser or KTokeniserStart())
        if not len(change.new_ids):
            raise OntologyError(f"{', '.join(self.ontology or [])}: no new piece: the base vocabulary has them all; give a larger ontology")
        return change

    def open_corpus(self, paths: Sequence[str | Path], *, held_out: float, text_column: str | None) -> Corpus:
        """The corpus of `paths`; without any, the concept names of the ontologies stand in for it."""
        if paths or not self.ontology:
            return Corpus.open(paths, held_out=held_out, text_column=text_column)
        phrases = dict.fromkeys(phrase for ontology in self.ontologies for phrase in ontology.phrases)
        return Corpus.from_texts(phrases, held_out=held_out, name="concept names")

    def describe(self) -> str:
        if self.ontology:
            return f"pieces of {', '.join(self.ontology)}"
        if self.extend is not None:
            return f"extend by {self.extend} pieces ({self.route})"
        return f"replace by {self.replace}" if self.replace else f"add the words of {self.words}" if self.words else "trim to the corpus"


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


@dataclass(frozen=True)
class Job:
    """A model about to get a new vocabulary, with its texts. Build with `Job.prepare`.

    `domain` and `ordinary` are scored, of `ordinary` first what both tokenizers cut alike; `replay` is there to be trained on.
    """

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    corpus: Corpus
    change: Change
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
        checkpoint = Checkpoint.open(model)
        tokenizer = Tokenizer.from_directory(checkpoint.path)
        with step(f"changing the tokenizer: {request.describe()}"):
            change = request.apply(tokenizer, corpus)
        if request.widen_pretokenizer:
            effect = measure_segmentation(
                tokenizer, widen_pretokenizer(tokenizer), open_source_text(source_text, held_out=0.0).documents("all")
            )
            change.notes.append(f"widening the pre-tokenizer, on text in the model's own language: {effect}")
        for note in change.notes:
            console.print(f"  {note}", highlight=False)
        domain = sample_texts(corpus.documents("held-out"), score_bytes)
        aids = dataclasses.replace(aids or Aids(), ontology=tuple(request.ontology) if request.ontology else None)
        source = open_source_text(source_text, held_out=0.5 if replay else 0.0)
        ordinary = sample_texts(source.documents("held-out" if replay else "all"), score_bytes)
        alike = cut_alike(tokenizer, change, ordinary)
        ordinary = [text for side in (True, False) for text, same in zip(ordinary, alike, strict=True) if same == side]
        replayed = list(source.documents("train")) if replay else []
        load = partial(load_both, checkpoint, tokenizer, dtype, device) if is_scorable(checkpoint) else None
        watched = sample_texts(replayed, score_bytes) or ordinary  # rather what is trained on than what is scored
        context = Context(corpus=corpus, seed=seed, aids=aids, load_model=load, ordinary=watched)
        return cls(checkpoint, tokenizer, corpus, change, domain, ordinary, replayed, context)

    def corpus_record(self) -> dict[str, Any]:
        """The corpus as provenance names it."""
        return {
            "name": self.corpus.name,
            "sha256": self.corpus.sha256,
            "bytes": self.corpus.size_bytes,
            "documents": self.corpus.count("all"),
            "skipped": [list(pair) for pair in self.corpus.skipped],
        }

    @property
    def scorable(self) -> bool:
        """Whether the model has a head that gives text a probability."""
        return is_scorable(self.checkpoint)

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

    def load(self, dtype: str, device: str) -> tuple[Any, Any, Any]:
        """The model and both tokenizers as `transformers` objects."""
        with step("loading the model"):
            return load_model(self.checkpoint, dtype, device), load_tokenizer(self.tokenizer), load_tokenizer(self.change.tokenizer)

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


def read_words(path: Path) -> list[str]:
    """One word or phrase a line; blank lines and repeats dropped."""
    try:
        words = list(dict.fromkeys(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot read the word list ({error}): give a UTF-8 file with one word a line") from None
    if not words:
        raise CorpusError(f"{path}: the word list is empty: give a UTF-8 file with one word a line")
    return words
