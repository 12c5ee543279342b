"""The input table of a checkpoint, and which of its rows say nothing of the model: special tokens, and tokens that cannot occur.

Enters: a checkpoint directory or Hub id. Leaves: a `Table`: its rows, the ids to leave out by reason, and the under-trained tokens beside
them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regraft.checkpoint import Checkpoint
from regraft.probe.spectrum.sources.rows import Rows, tensor_rows
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.undertrained import never_used, undertrained

Ids = npt.NDArray[np.int64]
SHOWN = 50
PLACEHOLDER = re.compile(r"[\[<]\|?(unused|extra_id|reserved)[ _-]?\w*\|?[\]>]")  # kept for later, as BERT's [unused7]


@dataclass(frozen=True)
class Table:
    """`rows` of the input table; ids by reason in `special` and `unused` (padding, no token, a placeholder, bytes that no text holds); and
    the `undertrained` ids, of which some are unused, with the `tokens` of the first few."""

    checkpoint: Checkpoint
    rows: Rows
    special: Ids
    unused: Ids
    undertrained: Ids
    tokens: list[str]

    @classmethod
    def open(cls, source: str | Path) -> "Table":
        """Raises `CheckpointError` or `TokenizerError` in one line."""
        checkpoint = Checkpoint.open(source, vocabulary=True)
        tokenizer = Tokenizer.from_directory(checkpoint.path)
        name = checkpoint.layout.input[0]
        rows = tensor_rows(checkpoint.tensors[name], f"{checkpoint.path.name} {name}")
        special = np.array(sorted(i for i in tokenizer.pieces if tokenizer.is_special(i) and i < rows.count), dtype=np.int64)
        touched_hardly = undertrained(checkpoint.read(name), tokenizer)
        tokens = [tokenizer.surface(int(i)).decode("utf-8", "replace") for i in touched_hardly[:SHOWN]]
        placeholders = np.array(
            [i for i, piece in tokenizer.pieces.items() if i < rows.count and PLACEHOLDER.fullmatch(piece)], dtype=np.int64
        )
        unused = np.setdiff1d(np.union1d(never_used(tokenizer, rows.count), placeholders), special)
        return cls(checkpoint, rows, special, unused, touched_hardly, tokens)
