"""The K-Tokeniser as users call it: texts in, ids out, with the choice of types by word and by sentence.

    k_tokeniser = KTokeniser.from_pretrained(DIR)
    batch = k_tokeniser(texts, padding=True, truncation=True, return_offsets_mapping=True, return_tensors="pt")
    batch.word_ids(0)

The directory also loads with `AutoTokenizer`: the same ids, cut greedily over the whole pool, without the choices.
"""

import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import ParameterError, TokenizerError
from regraft.vocab.k_tokeniser.batching import KEncoding, Layout, Row, fitted, pad_rows, windows
from regraft.vocab.k_tokeniser.choice import used_pieces
from regraft.vocab.k_tokeniser.coverage import Coverage
from regraft.vocab.k_tokeniser.cutting import Cut, Cutter, Ids
from regraft.vocab.k_tokeniser.knowledge import Knowledge
from regraft.vocab.k_tokeniser.sections import add_sections
from regraft.vocab.k_tokeniser.storage import load_knowledge, save_knowledge

if TYPE_CHECKING:
    from regraft.report import Report

HUGE = 1 << 30  # transformers says "no limit" with a number of 30 digits


class KTokeniser:
    """A tokenizer that takes each word from the vocabulary of the semantic type that knows it best.

    Parameters
    ----------
    knowledge : what `build` made or `load_knowledge` read.
    phi : roll-back threshold; by default the saved one.
    """

    is_fast = True

    def __init__(self, knowledge: Knowledge, phi: float | None = None) -> None:
        self.knowledge = knowledge
        self.phi = knowledge.choices.phi if phi is None else phi
        if self.phi < 0:
            raise ParameterError(f"phi={self.phi}: give 0 (base tokenizer), 1 (never roll back) or a share in between")
        self.cutter = Cutter(knowledge, self.phi)
        self._directory: Path | None = None

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, phi: float | None = None) -> "KTokeniser":
        """Load a directory that `save` or `regraft adapt --ontology` wrote.

        Raises `TokenizerError` where a file is missing, or is not the one that was saved (each is hash-checked).
        """
        found = cls(load_knowledge(Path(directory)), phi)
        found._directory = Path(directory)
        return found

    def save(self, directory: str | Path) -> None:
        """Write `tokenizer.json` with its companion files, and `k_tokeniser/`. The directory also loads with `AutoTokenizer`."""
        self.knowledge.tokenizer.save(directory)
        self.save_beside(Path(directory))

    def save_pretrained(self, directory: str | Path) -> None:
        """As `save`; the name that `transformers` users know."""
        self.save(directory)

    @cached_property
    def plain(self) -> Any:
        """The tokenizer that `AutoTokenizer` gives for the same files: padding, special tokens, decoding."""
        from transformers import AutoTokenizer  # takes seconds to import

        if self._directory is not None:
            return AutoTokenizer.from_pretrained(self._directory, trust_remote_code=False, local_files_only=True)
        with tempfile.TemporaryDirectory(prefix="regraft-") as directory:
            self.knowledge.tokenizer.save(directory)
            return AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)

    def __getattr__(self, name: str) -> Any:
        """Everything else (`pad_token_id`, `model_max_length`, `pad` ...) is the plain tokenizer's."""
        if name.startswith("_") or name in ("plain", "knowledge", "cutter"):
            raise AttributeError(name)
        return getattr(self.plain, name)

    def __len__(self) -> int:
        return self.knowledge.tokenizer.vocab_size

    @cached_property
    def layout(self) -> Layout:
        """Special tokens around a text, as the base tokenizer's post-processor puts them."""
        return Layout.of(self.knowledge.base)

    @cached_property
    def _layouts(self) -> dict[tuple[bool, bool], Layout]:
        """By whether it is a pair, and whether special tokens are wanted."""
        return {(pair, special): Layout.of(self.knowledge.base, pair, special) for pair in (False, True) for special in (False, True)}

    def __call__(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        text_pair: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
        pad_to_multiple_of: int | None = None,
        is_split_into_words: bool = False,
        return_offsets_mapping: bool = False,
        return_special_tokens_mask: bool = False,
        return_tensors: str | None = None,
    ) -> KEncoding:
        """Encode one text, or many, or pairs of them; arguments as in `transformers`.

        Parameters
        ----------
        texts : a text or a list of texts; with `is_split_into_words` a list of words, or a list of such lists.
        text_pair : a second text for each, as many as `texts`.
        padding : False, True or "longest", "max_length".
        truncation : False, or True: at most `max_length` tokens (by default the model's), special tokens included. Ids, masks, offsets
            and word ids are cut together, on the plain tokenizer's `truncation_side`. Of a pair the longer text is cut first;
            "only_first" and "only_second" cut one.
        stride, return_overflowing_tokens : give what was cut off as further rows that repeat `stride` tokens; `overflow_to_sample_mapping`
            says whose they are. For single texts.

        Returns a `BatchEncoding` whose `word_ids(i)` gives each token's word: the pre-token, or the word given.
        """
        single = isinstance(texts, str) or (is_split_into_words and (not texts or isinstance(texts[0], str)))
        parts = [self._cuts(given, single, is_split_into_words) for given in (texts, text_pair) if given is not None]
        if len({len(cuts) for cuts in parts}) > 1:
            raise ParameterError(f"text_pair: {len(parts[1])} texts beside {len(parts[0])}: give one for each")
        layout = self._layouts[len(parts) == 2, add_special_tokens]
        limit = self._limit(max_length) if truncation not in (False, "do_not_truncate") else None
        if limit is not None and limit < layout.size:
            raise ParameterError(f"max_length={limit}: the special tokens alone are {layout.size}")
        strategy = truncation if isinstance(truncation, str) else "longest_first"
        room = None if limit is None else limit - layout.size
        left = room is not None and self.plain.truncation_side == "left"
        owners = list(range(len(parts[0])))
        if return_overflowing_tokens and room is not None:
            if len(parts) == 2 or not 0 <= stride < room:
                raise ParameterError(f"stride={stride}: overflowing tokens are for single texts, with 0 <= stride < {room}")
            pieces = [windows(cut, room, stride, from_left=left) for cut in parts[0]]
            owners = [owner for owner, some in enumerate(pieces) for _ in some]
            rows = [layout.wrap(piece) for some in pieces for piece in some]
        else:
            rows = [layout.wrap(*fitted(some, room, strategy, from_left=left)) for some in zip(*parts, strict=True)]
        self._pad(rows, padding, max_length, pad_to_multiple_of)
        optional = {"offset_mapping": return_offsets_mapping, "special_tokens_mask": return_special_tokens_mask}
        names = [*self.plain.model_input_names, *(name for name, wanted in optional.items() if wanted)]
        mapping = {"overflow_to_sample_mapping": owners} if return_overflowing_tokens else {}
        flat = single and not return_overflowing_tokens
        return KEncoding.of(rows, names, self, single=flat, return_tensors=return_tensors, more=mapping)

    def _cuts(self, texts: Any, single: bool, is_split_into_words: bool) -> list[Cut]:
        given: Any = [texts] if single else list(texts)
        if any(not isinstance(text, str) for text in given) and not is_split_into_words:
            raise TokenizerError("texts must be strings: give is_split_into_words=True for lists of words")
        return list(self.cut_words(given) if is_split_into_words else self.cutter.cut(given))

    def _limit(self, max_length: int | None) -> int | None:
        limit = int(min(self.plain.model_max_length, HUGE)) if max_length is None else max_length
        return None if limit >= HUGE else limit

    def _pad(self, rows: list[Row], padding: bool | str, max_length: int | None, multiple: int | None) -> None:
        if padding in (False, "do_not_pad") or not rows:
            return
        if padding not in (True, "longest", "max_length"):
            raise ParameterError(f"padding={padding!r}: choose False, True, 'longest' or 'max_length'")
        size = max(len(row.ids) for row in rows)
        if padding == "max_length":
            size = max(size, self._limit(max_length) or 0)
        size = -(-size // (multiple or 1)) * (multiple or 1)
        token = self.plain.pad_token_id
        if token is None:
            raise TokenizerError("the tokenizer has no padding token: set k_tokeniser.plain.pad_token, or encode without padding")
        pad_rows(rows, size, token, self.plain.pad_token_type_id, left=self.plain.padding_side == "left")

    def cut_words(self, texts: Iterable[Sequence[str]]) -> Iterable[Cut]:
        """Cut lists of words; word ids count the words given, and offsets run within each."""
        words = [list(text) for text in texts]
        for given, cut in zip(words, self.cutter.cut(" ".join(text) for text in words), strict=True):
            starts = [0, *accumulate(len(word) + 1 for word in given)]
            offsets, numbers = [], []
            for start, end in cut.offsets:
                # a piece of byte-level BPE may begin with the space before its word
                last = max(start, end - 1)
                number = bisect_right(starts, last) - 1
                number += number + 1 < len(given) and last + 1 == starts[number + 1]  # a space alone goes with the word behind it
                numbers.append(number)
                offsets.append((max(0, start - starts[number]), max(0, end - starts[number])))
            yield Cut(cut.ids, offsets, numbers)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of one text."""
        return self._layouts[False, add_special_tokens].wrap(next(iter(self.cutter.cut([text])))).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""
        return [cut.ids for cut in self.cutter.cut(texts, kind=Ids)]

    def tokenize(self, text: str) -> list[str]:
        """The pieces of one text as the vocabulary writes them, without special tokens."""
        return [self.knowledge.tokenizer.pieces[i] for i in self.encode(text, add_special_tokens=False)]

    def decode(self, ids: Any, **options: Any) -> str:
        """Text of `ids`; options as in `transformers`."""
        return str(self.plain.decode(ids, **options))

    def coverage(self, texts: Iterable[str]) -> Coverage:
        """Where the words of `texts` went, how many sentences were rolled back, and what that did to token counts."""
        return Coverage.of(self.cutter, texts)

    def unused(self, words: Mapping[str, Mapping[str, int]]) -> list[int]:
        """New ids into which no type's tokenizer cuts any of that type's own `words`, ascending."""
        used = used_pieces(self.cutter.chooser, words)
        return sorted(set(self.knowledge.new_types) - used)

    def save_beside(self, folder: Path) -> None:
        """Write `k_tokeniser/` into the directory of the tokenizer's own files."""
        save_knowledge(self.knowledge, folder)

    def measure(self, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Coverage of each set of texts, in plain numbers."""
        return {name: self.coverage(found).to_dict() for name, found in texts.items()}

    def report(self, report: "Report", texts: Mapping[str, Sequence[str]], figures: Mapping[str, Any]) -> None:
        """Add the sections on ontologies, coverage, examples and delta curves."""
        add_sections(report, self.cutter, texts, figures)
