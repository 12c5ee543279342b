"""Text packed into blocks of equal length, and the endless reproducible order in which training reads them.

Enters: documents and a tokenizer. Leaves: blocks of ids without padding, each with the bytes of text it holds.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from regraft.errors import CorpusError
from regraft.language.model import LanguageModel
from regraft.progress import progress_bar

TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Packed:
    """`ids` (blocks, block) int32 and `sizes` (blocks,) float64: UTF-8 bytes of text in each block, interpolated inside a document."""

    ids: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def pack(
    language_model: LanguageModel, texts: Iterable[str], block: int, seed: int = 0, *, align_documents: bool = False, name: str = "text"
) -> Packed:
    """Shuffle documents by `seed`, join them with the document separator, cut into blocks of `block` tokens, drop the remainder.

    For a decoder each document follows the prefix it is scored behind (and EOS precedes a BOS). For a masked model each block stands
    between the special tokens that the tokenizer adds, which count toward `block`.

    align_documents : a block that would begin inside a document begins at that document's start instead, so a part of it is read twice,
        unless the document is longer than a block. Then texts start at position 0, as when they are scored.

    Raises `CorpusError` if the text, called `name`, does not fill one block.
    """
    documents = list(texts)
    order = np.random.default_rng([seed, 0]).permutation(len(documents))
    before, after, between, prefix = _framing(language_model)
    sequences: list[npt.NDArray[np.int32]] = []
    ends, sizes = [0], [0.0]
    with progress_bar("packing", total=len(documents), unit="documents") as bar:
        for start in range(0, len(order), TEXTS_AT_ONCE):
            chosen = [documents[i] for i in order[start : start + TEXTS_AT_ONCE]]
            for text, ids in zip(chosen, language_model.encode(chosen), strict=True):
                sequences.append(np.array(between + prefix + ids, dtype=np.int32))
                ends.append(ends[-1] + len(sequences[-1]))
                sizes.append(sizes[-1] + len(text.encode()))
            bar.advance(len(chosen))
    inner = block - len(before) - len(after)
    starts = _starts(ends, inner, len(between) if align_documents else None)
    if len(starts) == 0:
        raise CorpusError(f"the {name} has {ends[-1]} tokens, less than one block of {block}: give more of it or a smaller block")
    body = np.lib.stride_tricks.sliding_window_view(np.concatenate(sequences), inner)[starts]
    rim = [np.tile(np.array(ids, dtype=np.int32), (len(starts), 1)) for ids in (before, after)]
    return Packed(np.concatenate([rim[0], body, rim[1]], axis=1), np.interp(starts + inner, ends, sizes) - np.interp(starts, ends, sizes))


def _starts(ends: list[int], size: int, lead: int | None) -> npt.NDArray[np.int64]:
    """Where blocks of `size` tokens begin among documents that end at `ends` (the first of which is 0).

    Without `lead` one follows on the other. With it one goes back to the start of the document it would cut, past the `lead` tokens
    that part documents, if that is after the last block's start.
    """
    if lead is None or size < 1:
        return np.arange(ends[-1] // size if size > 0 else 0, dtype=np.int64) * size
    starts, start = [], min(lead, ends[-1])
    while start + size <= ends[-1]:
        starts.append(start)
        reached = start + size
        opening = ends[bisect_right(ends, reached) - 1] + lead
        start = opening if opening > start else reached
    return np.array(starts, dtype=np.int64)


def _framing(language_model: LanguageModel) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids before and after each block, between documents, and those that open a document."""
    if language_model.kind == "masked":
        before, after = language_model.added
        return before, after, after[-1:], []
    eos, prefix = language_model.tokenizer.eos_token_id, language_model.prefix
    ended = [int(eos)] if language_model.added[0] and eos is not None and eos not in prefix else []
    return [], [], ended, prefix


@dataclass(frozen=True)
class Stream:
    """The endless order of blocks: a new permutation every pass, and `share` of all blocks from `replay`, spread evenly.

    Block number i depends on nothing but i and the seed, so training resumes anywhere. `read` blocks were read before the first.
    """

    packed: Packed
    replay: Packed | None = None
    share: float = 0.0
    seed: int = 0
    read: int = 0

    def blocks(self, first: int, count: int) -> tuple[npt.NDArray[np.int64], float]:
        """Ids (count, block) of blocks `first` to ``first + count`` and the bytes of text they hold."""
        picked = [self._locate(self.read + number) for number in range(first, first + count)]
        ids = np.stack([source.ids[row] for source, row in picked]).astype(np.int64)
        return ids, float(sum(source.sizes[row] for source, row in picked))

    def _locate(self, number: int) -> tuple[Packed, int]:
        replayed = int(number * self.share)
        if self.replay is not None and int((number + 1) * self.share) > replayed:
            return self.replay, self._row(self.replay, replayed, 2)
        return self.packed, self._row(self.packed, number - (replayed if self.replay is not None else 0), 1)

    def _row(self, source: Packed, number: int, salt: int) -> int:
        turn, position = divmod(number, len(source))
        return int(_permutation(self.seed, salt, turn, len(source))[position])


@lru_cache(maxsize=4)
def _permutation(seed: int, salt: int, turn: int, count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, salt, turn]).permutation(count)
