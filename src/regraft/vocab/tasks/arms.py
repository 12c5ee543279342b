"""What a task is compared on: vocabularies for one checkpoint, each with a way to start its new rows.

    base            the model and its tokenizer as they are
    added-words     the ontologies' most frequent words, each one token; rows as `resize_token_embeddings` makes them
    default-rows    the pieces of K-Tokeniser with those rows
    random-rows     the pieces of K-Tokeniser, each coordinate drawn from the old rows' mean and spread
    k-tokeniser     the pieces of K-Tokeniser, each the mean of its old pieces

Any other name of a start (`regraft methods`) puts its rows under the pieces of K-Tokeniser.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.errors import OntologyError, ParameterError
from regraft.method import resolve
from regraft.tasks.fine_tuning import Prepare
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.change import Change, add_words
from regraft.vocab.initializer import Aids, Context, Initializer
from regraft.vocab.initializers.k_tokeniser import KTokeniserStart
from regraft.vocab.k_tokeniser import KTokeniser, Ontology
from regraft.vocab.k_tokeniser.words import collect_words
from regraft.vocab.transplant.installed import install
from regraft.vocab.transplant.transplant import Transplant, transplant

BASE, ADDED_WORDS, DEFAULT_ROWS, RANDOM_ROWS, K_TOKENISER = "base", "added-words", "default-rows", "random-rows", "k-tokeniser"
ARMS = (BASE, ADDED_WORDS, DEFAULT_ROWS, RANDOM_ROWS, K_TOKENISER)
STARTS = {ADDED_WORDS: "transformers-default", DEFAULT_ROWS: "transformers-default", RANDOM_ROWS: "univariate"}
FEWEST_LETTERS = 3  # of an added word: shorter ones are abbreviations and Roman numerals


@dataclass(frozen=True)
class Arm:
    """One way: its tokenizer as tasks call it, and the change and start behind its tables (None: the model's own)."""

    name: str
    vocabulary: Literal["base", "words", "pieces"]
    encoder: Any
    change: Change | None = None
    start: Initializer | None = None

    @property
    def new_tokens(self) -> int:
        return 0 if self.change is None else len(self.change.new_ids)


@dataclass
class Subject:
    """A checkpoint with its tokenizer and ontologies. Vocabularies are built once, when the first arm asks for them.

    Attributes
    ----------
    method : parameters of the pieces and of their choice (phi, h0_count, delta_k, pieces ...).
    words : how many words `added-words` adds; by default as many as there are new pieces, where the ontologies have so many.
    corpus, aids : for starts that learn from text or need more; `corpus` is the training side of the task.
    """

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    ontologies: Sequence[Ontology]
    method: KTokeniserStart = field(default_factory=KTokeniserStart)
    words: int | None = None
    corpus: Corpus | None = None
    aids: Aids = field(default_factory=Aids)

    @cached_property
    def pieces(self) -> Change:
        """The base vocabulary and the pieces of every ontology. Raises `OntologyError` where there is no new one."""
        change = self.method.change(self.tokenizer, self.corpus, self.ontologies)
        if change is None or not len(change.new_ids):
            raise OntologyError(f"{self._sources}: no new piece: the base vocabulary has them all; give a larger ontology")
        return change

    @cached_property
    def whole_words(self) -> Change:
        """The base vocabulary and the ontologies' most frequent words that it cuts. Raises `OntologyError` where there is none."""
        counts: Counter[str] = Counter()
        for ontology in self.ontologies:
            counts.update(collect_words(self.tokenizer, ontology).counts)
        long = [word for word in counts if word.isalpha() and len(word) >= FEWEST_LETTERS]
        cut = [word for word, ids in zip(long, self.tokenizer.encode_batch([f" {word}" for word in long]), strict=True) if len(ids) > 1]
        chosen = sorted(cut, key=lambda word: (-counts[word], word))[: self.words or len(self.pieces.new_ids)]
        if not chosen:
            raise OntologyError(f"{self._sources}: every word is one token of the base vocabulary already; give a larger ontology")
        return add_words(self.tokenizer, chosen)

    @property
    def _sources(self) -> str:
        return ", ".join(self._named)

    @property
    def _named(self) -> tuple[str, ...]:
        return tuple(f"{ontology.name}={ontology.source}" for ontology in self.ontologies)

    @cached_property
    def _encoders(self) -> dict[str, Any]:
        return {}

    def arm(self, name: str) -> Arm:
        """The arm called `name`. Raises `ParameterError` for a name that is neither an arm nor a start."""
        slug = name.strip().lower().replace("_", "-")
        if slug == BASE:
            return Arm(BASE, "base", self._encoder("base"))
        start: Initializer = self.method if slug == K_TOKENISER else resolve("initializer", STARTS.get(slug, slug))
        if slug == ADDED_WORDS:
            return Arm(slug, "words", self._encoder("words"), self.whole_words, start)
        return Arm(slug, "pieces", self._encoder("pieces"), self.pieces, start)

    def _encoder(self, vocabulary: str) -> Any:
        if vocabulary not in self._encoders:
            if vocabulary == "pieces":
                companion = self.pieces.companion
                assert isinstance(companion, KTokeniser)
                self._encoders[vocabulary] = companion
            else:
                self._encoders[vocabulary] = load_tokenizer(self.tokenizer if vocabulary == "base" else self.whole_words.tokenizer)
        return self._encoders[vocabulary]

    def prepare(self, arm: Arm, seed: int) -> Prepare | None:
        """What gives a model the arm's tables; it may be sent to another process."""
        tables = self.tables(arm, seed)
        return None if tables is None else partial(install, result=tables)

    def tables(self, arm: Arm, seed: int) -> Transplant | None:
        """The arm's tables; starts that draw do so by `seed`."""
        if arm.change is None or arm.start is None:
            return None
        context = Context(corpus=self.corpus, seed=seed, aids=replace(self.aids, ontology=self._named))
        return transplant(self.checkpoint, self.tokenizer, arm.change, arm.start, context)


def arm_names(methods: Sequence[str] | str) -> list[str]:
    """The arms asked for, base first; "all" are the five above. Raises `ParameterError` where none is named."""
    if methods == "all" or list(methods) == ["all"]:
        return list(ARMS)
    given = [methods] if isinstance(methods, str) else list(methods)
    names = [name.strip().lower().replace("_", "-") for name in given if name.strip()]
    if not [name for name in names if name != BASE]:
        raise ParameterError(f"--methods names nothing to compare with the base tokenizer: give some of {', '.join(ARMS[1:])}, or all")
    for name in names:
        if name not in ARMS:
            resolve("initializer", name)
    return list(dict.fromkeys([BASE, *names]))
