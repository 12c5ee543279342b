"""Step A: the words of an ontology, as the tokenizer will meet them in text."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from regraft.tokenizer import Tokenizer
from regraft.tokenizer.alphabet import from_stand_ins
from regraft.vocab.k_tokeniser.ontology import Ontology


@dataclass
class TypeWords:
    """Words with their counts, and those left out: with characters the base vocabulary lacks, or too long for its model."""

    counts: Counter[str] = field(default_factory=Counter)
    unspellable: Counter[str] = field(default_factory=Counter)
    too_long: Counter[str] = field(default_factory=Counter)


def collect_words(tokenizer: Tokenizer, ontology: Ontology, *, released: bool = False) -> TypeWords:
    """Words between white space, normalized and cut as `tokenizer` cuts text: a piece across a border of words could never be used.

    As `released`, words are cut at white space alone.
    """
    found = TypeWords()
    limit = tokenizer.model.get("max_input_chars_per_word", 100)
    for raw, count in ontology.words.items():
        for word in [raw] if released else _as_met(tokenizer, raw):
            if len(word) > limit:
                found.too_long[word] += count
            elif _spellable(tokenizer, word):
                found.counts[word] += count
            else:
                found.unspellable[word] += count
    return found


def _as_met(tokenizer: Tokenizer, raw: str) -> Iterator[str]:
    normalizer, cutter = tokenizer.backend.normalizer, tokenizer.backend.pre_tokenizer
    text = normalizer.normalize_str(raw) if normalizer is not None else raw
    if tokenizer.algorithm != "byte-bpe":
        yield from (word for word, _ in cutter.pre_tokenize_str(text)) if cutter is not None else text.split()
        return
    for word, _ in cutter.pre_tokenize_str(f" {text}") if cutter is not None else [(text, (0, 0))]:
        plain = from_stand_ins(word)
        whole = "" if plain is None else plain.decode("utf-8", "ignore").strip()
        if whole:
            yield whole


def _spellable(tokenizer: Tokenizer, word: str) -> bool:
    if tokenizer.algorithm == "byte-bpe":
        return True
    unknown = tokenizer.unknown_id
    return all(token.id != unknown for token in tokenizer.backend.model.tokenize(word))
