"""What a user asks of the tokenizer: exactly one change, and the corpus it is learned on."""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from regraft.corpus import Corpus
from regraft.errors import CorpusError, OntologyError, ParameterError
from regraft.method import resolve
from regraft.progress import console
from regraft.report.page import Section, terminal_tables
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import make_loadable
from regraft.vocab.change import Change, add_words, extend, replace, trim
from regraft.vocab.initializer import Initializer
from regraft.vocab.k_tokeniser import Ontology, open_ontologies

PIECES = "k-tokeniser"  # the start that makes pieces of ontologies where the chosen one makes none


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
    start : the start of the new rows, which may change the tokenizer in its own way; without one that does, pieces are K-Tokeniser's.
    route : how `extend` learns: "continued" training, merging an auxiliary tokenizer with "new-first" or "old-first" merges, or the n-grams
        that save most tokens, appended ("n-grams") or in the place of tokens of little use ("adaptivocab").
    widen_pretokenizer : let combining marks belong to letters before learning.
    """

    extend: int | None = None
    replace: str | Path | None = None
    words: str | Path | None = None
    trim: bool = False
    ontology: Sequence[str] | None = None
    start: Initializer | None = None
    route: str = "continued"
    widen_pretokenizer: bool = False

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("extend", "replace", "words", "trim", "ontology")}
        asked = [name for name, value in given.items() if value is not None and value is not False and value != []]
        if self.start is not None and "ontology" in self.start.needs and not self.ontology:
            instead = f" instead of --{asked[0]}" if asked else ""
            raise ParameterError(f"{self.start.name} makes its pieces from ontologies: give --ontology name=path{instead}")
        if len(asked) != 1:
            raise ParameterError(
                "say how the vocabulary changes with exactly one of --extend, --replace, --words, --trim, --ontology "
                f"(got {', '.join(asked) or 'none'})"
            )
        if self.extend is not None and self.extend < 1:
            raise ParameterError(f"--extend {self.extend}: ask for at least 1 new piece")

    def apply(self, tokenizer: Tokenizer, corpus: Corpus, keep: Collection[int] = ()) -> Change:
        """The changed tokenizer, learned on training documents only; trimming keeps the ids `keep`.

        Raises `CorpusError` if it needs some and there are none.
        """
        if (self.extend is not None or self.trim) and not corpus.count("train"):
            raise CorpusError(f"{corpus.name}: all of it is held out, none is left to learn from: separate documents with blank lines")
        learned = self._learned(corpus)
        change = None if self.start is None else self.start.change(tokenizer, corpus, learned)
        if change is None:
            change = self._own_change(tokenizer, corpus, learned, keep)
        if self.ontology and not len(change.new_ids):
            raise OntologyError(f"{', '.join(self.ontology)}: no new piece: the base vocabulary has them all; give a larger ontology")
        return change

    def _own_change(self, tokenizer: Tokenizer, corpus: Corpus, ontologies: Sequence[Ontology], keep: Collection[int]) -> Change:
        """What was asked for, where the start has no change of its own."""
        if self.extend is not None:
            return extend(tokenizer, corpus.documents("train"), self.extend, route=self.route, widen=self.widen_pretokenizer)  # type: ignore[arg-type]
        if self.ontology:
            pieces: Change = resolve("initializer", PIECES).change(tokenizer, corpus, ontologies)
            return pieces
        if self.replace is not None:
            change = replace(tokenizer, Tokenizer.from_directory(self.replace))
        elif self.words is not None:
            change = add_words(tokenizer, read_words(Path(self.words)))
        else:
            change = trim(tokenizer, corpus.documents("train"), keep)
        loadable, notes = make_loadable(change.tokenizer, list(islice(corpus.documents("train"), 50)))
        return dataclasses.replace(change, tokenizer=loadable, notes=[*change.notes, *notes])

    @cached_property
    def ontologies(self) -> list[Ontology]:
        """What `ontology` names, read once."""
        return open_ontologies(self.ontology or [])

    def _learned(self, corpus: Corpus) -> list[Ontology]:
        """What is learned of the ontologies: a concept name that is itself held-out text is not."""
        if not self.ontology:
            return []
        names = {phrase for ontology in self.ontologies for phrase in ontology.phrases}
        held_out = {document for document in corpus.documents("held-out") if document in names}
        rows = [ontology.summary() for ontology in self.ontologies]
        console.print(*terminal_tables(Section("table", "ontologies", "", rows=rows), console))
        return [ontology.within(names - held_out) for ontology in self.ontologies] if held_out else self.ontologies

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


def read_words(path: Path) -> list[str]:
    """One word or phrase a line; blank lines and repeats dropped."""
    try:
        words = list(dict.fromkeys(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot read the word list ({error}): give a UTF-8 file with one word a line") from None
    if not words:
        raise CorpusError(f"{path}: the word list is empty: give a UTF-8 file with one word a line")
    return words
