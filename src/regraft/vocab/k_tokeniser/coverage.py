"""What the choices did to a text: the share of words each type took, sentences rolled back, tokens per word before and after."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from regraft.vocab.k_tokeniser.choice import BASE
from regraft.vocab.k_tokeniser.cutting import Cutter, Record


@dataclass
class Tally:
    """Words, and their tokens under the base tokenizer and as chosen."""

    words: int = 0
    base_tokens: int = 0
    tokens: int = 0

    def add(self, base_tokens: int, tokens: int) -> None:
        self.words += 1
        self.base_tokens += base_tokens
        self.tokens += tokens

    def to_dict(self) -> dict[str, Any]:
        words = max(1, self.words)
        return {"words": self.words, "base_tokens_per_word": self.base_tokens / words, "tokens_per_word": self.tokens / words}


@dataclass
class Coverage:
    """Figures over many texts. A word counts for a type only where that changed its tokens; words rolled back count for base.

    `types` has one `Tally` a type, in order; `base` the words left as they were; `all` every word.
    """

    names: list[str]
    types: list[Tally]
    base: Tally = field(default_factory=Tally)
    all: Tally = field(default_factory=Tally)
    sentences: int = 0
    rolled_back: int = 0

    @classmethod
    def of(cls, cutter: Cutter, texts: Iterable[str]) -> "Coverage":
        """Cut `texts` and count."""
        names = [kind.name for kind in cutter.knowledge.types]
        found = cls(names, [Tally() for _ in names])
        for _ in cutter.cut(texts, found._add):
            pass
        return found

    def _add(self, record: Record) -> None:
        self.sentences += record.sentences
        self.rolled_back += record.rolled_back
        for word in record.words:
            counts = len(word.base_ids), len(word.ids)
            self.all.add(*counts)
            (self.base if word.type == BASE or word.rolled_back else self.types[word.type]).add(*counts)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: overall, by type, and shares in [0, 1]."""
        words = max(1, self.all.words)
        by_type = {name: {**tally.to_dict(), "share": tally.words / words} for name, tally in zip(self.names, self.types, strict=True)}
        return {
            **self.all.to_dict(),
            "types": by_type,
            "base_share": self.base.words / words,
            "sentences": self.sentences,
            "rolled_back": self.rolled_back,
            "rolled_back_share": self.rolled_back / max(1, self.sentences),
        }
