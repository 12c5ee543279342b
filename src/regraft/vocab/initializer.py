"""The contract of a start for new rows: `initializer(source, target, context) -> Graft | Rows`.

Enters: one trained table with its tokenizer, the new tokens with their bytes and their split by the old tokenizer, and what else the
user gave. Leaves: a `Graft` (weights over old rows) wherever the start is linear, else `Rows`. The caller applies the same graft to the
input table, an untied head and biases, unless `separate_head` says that the head needs its own call.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from regraft.errors import ParameterError
from regraft.graft import Graft, Rows
from regraft.graft.factors import Factors
from regraft.method import Method

if TYPE_CHECKING:
    from regraft.corpus import Corpus
    from regraft.tokenizer import Tokenizer
    from regraft.vectors.files import GivenVectors
    from regraft.vocab.change import Change
    from regraft.vocab.k_tokeniser.ontology import Ontology


T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A trained table and the tokenizer that indexes it.

    Attributes
    ----------
    table : (vocab_size, d) the rows being started from, in the checkpoint's dtype, padding rows cut off.
    tokenizer : the old tokenizer.
    role : "input" for the input table (also when it is tied to the head), "head" for an untied head.
    tied : whether the input table is also the head.
    initializer_range : the model's own standard deviation for fresh weights.
    bias : (vocab_size,) output bias, or None.
    partner : reads the other table of an untied model, (vocab_size, d), for starts that learn both at once; None if there is none.
    """

    table: torch.Tensor
    tokenizer: "Tokenizer"
    role: Literal["input", "head"] = "input"
    tied: bool = True
    initializer_range: float = 0.02
    bias: torch.Tensor | None = None
    partner: Callable[[], torch.Tensor] | None = None

    @property
    def vocab_size(self) -> int:
        return int(self.table.shape[0])

    def generator(self, context: "Context") -> torch.Generator:
        """A generator for sampled rows; the head's draws differ from the input table's."""
        return torch.Generator().manual_seed(2 * context.seed + (self.role == "head"))


@dataclass(frozen=True)
class Target:
    """The tokens that need rows.

    Attributes
    ----------
    ids : (m,) ids of the new tokens in the new tokenizer.
    tokenizer : the new tokenizer.
    source_ids : (new vocabulary,) the old id of each token of the new tokenizer, -1 where it has none.
    """

    ids: npt.NDArray[np.int64]
    tokenizer: "Tokenizer"
    source_ids: npt.NDArray[np.int64]
    old_tokenizer: "Tokenizer"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def surfaces(self) -> list[bytes]:
        """Bytes of each new token; a word-initial marker of SentencePiece or byte-level BPE is a leading space."""
        return [self.tokenizer.surface(int(i)) for i in self.ids]

    @cached_property
    def pieces(self) -> list[list[int]]:
        """How the old tokenizer's model spells each new token's bytes: old ids, without special or unknown tokens; may be empty."""
        return [
            self.old_tokenizer.spell(surface, self.tokenizer.continues_word(int(i)))
            for surface, i in zip(self.surfaces, self.ids, strict=True)
        ]


@dataclass(frozen=True)
class Aids:
    """What a user may give beside model and corpus; each field is the command-line option of the same name.

    Attributes
    ----------
    donor : a model whose vocabulary holds the wanted tokens.
    vectors : word or token vectors in the target language: a file (fastText, GloVe, word2vec, .npy with an index), gensim `KeyedVectors`,
        or a dict word -> vector.
    source_vectors : the same in the source language, in the same space or to be aligned with `dictionary`.
    dictionary : lines of source word and target word.
    bitext : two files of parallel lines, source and target.
    ontology : `name=source` of each ontology that the tokenizer was changed with.
    """

    donor: Path | None = None
    vectors: "GivenVectors | None" = None
    source_vectors: "GivenVectors | None" = None
    dictionary: Path | None = None
    bitext: tuple[Path, Path] | None = None
    ontology: tuple[str, ...] | None = None

    def need(self, field: str, method: str) -> Any:
        """The field, or an error that names the option."""
        value = getattr(self, field)
        if value is None:
            raise ParameterError(f"{method} needs --{field.replace('_', '-')}: give one, or choose a method that does without")
        return value


@dataclass(frozen=True)
class Context:
    """What else a start may ask for. `corpus` is training text only, never held-out text; `load_model` gives the old model and tokenizer
    as fresh `transformers` objects, for starts that learn from the model itself. `ordinary` is text in the model's own language, for starts
    that watch what it costs; empty if the user gave none. What the user should know goes to `notes`, a line each.
    """

    corpus: "Corpus | None" = None
    seed: int = 0
    aids: Aids = field(default_factory=Aids)
    load_model: Callable[[], tuple[Any, Any]] | None = None
    ordinary: Sequence[str] = ()
    memory: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    notes: list[str] = field(default_factory=list, compare=False, repr=False)

    def texts(self, method: str) -> Sequence[str]:
        """Training documents, or an error that names the option."""
        if self.corpus is None:
            raise ParameterError(f"{method} needs text to learn from: give --corpus PATH")
        return list(self.corpus.documents("train"))

    def model(self, method: str) -> tuple[Any, Any]:
        """The old model and its tokenizer, fresh: the caller may change them. Raises `ParameterError` where none can be had."""
        if self.load_model is None:
            raise ParameterError(f"{method} learns from the model itself, and this checkpoint has no language-model head to learn from")
        return self.load_model()

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """`compute()`, once per context: the head's call reuses what the input table's call learned from the corpus."""
        if key not in self.memory:
            self.memory[key] = compute()
        return cast(T, self.memory[key])


class Initializer(Method):
    """Base of every start for new rows."""

    family: ClassVar[str] = "initializer"
    separate_head: ClassVar[bool] = False  # True: called again with role="head" for an untied head
    # `needs`: "text", "model" (a language-model head to learn from), or options: "donor"

    @abstractmethod
    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        """Start the rows of `target` from `source`."""

    def change(self, tokenizer: "Tokenizer", corpus: "Corpus | None", ontologies: "Sequence[Ontology]") -> "Change | None":
        """The change of `tokenizer` that the method is about, learned on `corpus` or from `ontologies`; None: the request's own."""
        return None

    def factorise(self, table: torch.Tensor) -> Factors | None:
        """The old table (vocab_size, d) as two factors, of which the coordinates are then started; None: whole rows are."""
        return None

    def share(self, table: torch.Tensor, read_head: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        """One table (rows, d) in the place of an untied model's input table and head, from which rows are started; None: they stay two."""
        return None

    def new_bias(self, graft: Graft, bias: torch.Tensor) -> torch.Tensor | None:
        """Output biases of the new tokens, shape (m,), from the old ones; None: the graft mixes them as it mixes rows."""
        return None
