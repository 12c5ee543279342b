"""A donor: another model whose vocabulary already has rows for the wanted tokens.

Enters: a checkpoint directory (decoder or encoder) and the tokens that need rows. Leaves: the donor's rows of those tokens, and of the
anchors, the tokens that donor and old model share; a map between the two spaces can be read off the anchors. Tables are read, no model
is loaded.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, ParameterError
from regraft.graft import Graft
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.overlap import match_tokens
from regraft.tokenizer.undertrained import undertrained
from regraft.vocab.change.stored import with_rows
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.mixing import fallback
from regraft.vocab.mixing.uncovered import report_uncovered

Ids = npt.NDArray[np.int64]
Role = Literal["input", "head"]


@dataclass(frozen=True)
class Bridge:
    """What donor and old model have in common, and what the donor knows of the new tokens.

    Attributes
    ----------
    anchors : (n, e) float32, the donor's rows of the tokens that both models have; no row is zero.
    anchor_ids : (n,) old ids of those tokens; an id may occur twice if the donor writes the token in two ways.
    rows : (f, e) float32, the donor's rows of the new tokens that it has.
    found : (f,) positions of those tokens among the new ones.
    missing : positions of the others: the donor lacks them, or has a row of zeros.
    """

    anchors: torch.Tensor
    anchor_ids: Ids
    rows: torch.Tensor
    found: Ids
    missing: Ids

    def complete(self, weights: sparse.csr_matrix, target: Target) -> Graft:
        """The graft of all new tokens: `weights` (f, old) for the found ones, the mean of the old pieces where those are empty."""
        lift = sparse.csr_matrix((np.ones(len(self.found)), (self.found, np.arange(len(self.found)))), shape=(len(target), len(self.found)))
        return fallback.complete(sparse.csr_matrix(lift @ weights), target)


@dataclass(frozen=True)
class Donor:
    """A donor's checkpoint and tokenizer."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer

    @classmethod
    def open(cls, path: str | Path) -> "Donor":
        """Open a local directory or a Hub id. Raises `CheckpointError` or `TokenizerError` in one line."""
        checkpoint = Checkpoint.open(path, vocabulary=True)
        tokenizer, _ = with_rows(checkpoint, Tokenizer.from_directory(checkpoint.path))
        return cls(checkpoint, tokenizer)

    @classmethod
    def of(cls, context: Context, method: str) -> "Donor":
        """The donor that the user gave with --donor, opened once per context."""
        path = context.aids.need("donor", method)
        return context.remember(f"donor {path}", lambda: cls.open(path))

    @cached_property
    def has_head(self) -> bool:
        """Whether the donor's head rows differ from its input rows."""
        return bool(self.checkpoint.layout.head)

    def table(self, role: Role = "input") -> torch.Tensor:
        """The donor's rows (vocab_size, e) in its dtype; a donor without a head of its own answers with its input rows."""
        return self._stored(role)[: self.tokenizer.vocab_size]

    def _stored(self, role: Role) -> torch.Tensor:
        """The same with its padding rows."""
        layout = self.checkpoint.layout
        return self.checkpoint.read(layout.head[0] if role == "head" and layout.head else layout.input[0])

    def bridge(self, source: Source, target: Target, context: Context, method: str, *, magikarp: bool = False) -> Bridge:
        """Anchors and wanted rows for one table of the model; with `magikarp`, no anchor is under-trained in the donor or the model.

        Raises `ParameterError` if donor and old model share no token or the donor has none of the new tokens, and `CheckpointError` if a
        row that is needed holds NaN or infinity. New tokens that it lacks are named in the notes.
        """
        table, where = self.table(source.role), self.checkpoint.path
        old_ids = match_tokens(source.tokenizer, self.tokenizer)
        shared = np.flatnonzero((old_ids >= 0) & (old_ids < source.vocab_size))
        anchors = _rows(table, shared, where)
        used = anchors.abs().amax(dim=1).gt(0).numpy() if len(shared) else np.zeros(0, dtype=bool)
        if not used.any():
            raise ParameterError(f"{method}: the donor {where} shares no token with the model: give a donor with a common script")
        if magikarp:
            used &= ~np.isin(shared, undertrained(self._stored(source.role), self.tokenizer))
            used &= ~np.isin(old_ids[shared], undertrained(source.table, source.tokenizer))
            if not used.any():
                raise ParameterError(f"{method}: every token that the donor {where} shares is under-trained: --set magikarp=false")
        donor_ids = match_tokens(self.tokenizer, target.tokenizer)[target.ids]
        rows = _rows(table, np.maximum(donor_ids, 0), where)
        has_row = (donor_ids >= 0) & rows.abs().amax(dim=1).gt(0).numpy()
        found, missing = np.flatnonzero(has_row), np.flatnonzero(~has_row)
        remedy = "give a donor whose tokenizer has them, or --replace by the donor's own"
        report_uncovered(missing, target, context, f"{method}: the donor {where} has no row", remedy)
        return Bridge(anchors[torch.from_numpy(used)], old_ids[shared[used]], rows[torch.from_numpy(found)], found, missing)


def _rows(table: torch.Tensor, ids: Ids, where: Path) -> torch.Tensor:
    """Rows `ids` of the donor's table in float32; `CheckpointError` if one is not finite."""
    rows = table[torch.from_numpy(ids)].to(torch.float32)
    finite = torch.isfinite(rows).all(dim=1)
    if not bool(finite.all()):
        row = int(ids[int((~finite).nonzero()[0])])
        raise CheckpointError(f"{where}: row {row} of the donor's table holds NaN or infinity: repair it or give another donor")
    return rows
