"""A model that reads old and new tokens at once, so that it can teach itself the new ones.

Enters: the old model, a graft of the new rows. Leaves: the same model with the new rows behind its old ones. Old rows do not move, so the
old spelling of a text still gives the old hidden states (the teacher), and the new spelling the student's.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regraft.graft import Graft
from regraft.language.model import LanguageModel
from regraft.language.tables import head_of, live_tables, resize
from regraft.training.trainable import Trainable, select
from regraft.vocab.initializer import Target
from regraft.vocab.initializers.token_distillation.chunk_likelihood import chunk_distances, openers, read
from regraft.vocab.initializers.token_distillation.pairing import Passage

Ids = npt.NDArray[np.int64]
KEPT = 512 << 20  # bytes of hidden states that a teacher keeps


class Student:
    """`model` with rows for `target`'s new tokens, which begin as `start` says; those of an untied head as `head_start` says, if given.

    Attributes
    ----------
    places : (new vocabulary,) the row of each new id in the student's tables.
    lacking : the rows that no new id has: old tokens that are dropped or replaced.
    language_model : the model, split where the vocabulary starts.
    """

    def __init__(self, model: Any, tokenizer: Any, target: Target, start: Graft, head_start: Graft | None = None) -> None:
        self.target, self.columns = target, start.shape[1]
        first = self.columns
        old = {role: table.detach()[:first].cpu().clone() for role, table in live_tables(model).items()}
        resize(model, first + len(target))
        with torch.no_grad():
            for role, table in live_tables(model).items():
                if role != "bias":
                    graft = (head_start or start) if role == "head" else start
                    flat = graft.apply(old[role].reshape(first, -1)).reshape(len(target), *old[role].shape[1:])
                    table[first : first + len(target)] = flat.to(table)
        self.places = np.where(target.source_ids >= 0, target.source_ids, first)
        self.places[target.ids] = first + np.arange(len(target))
        self.lacking = torch.from_numpy(np.setdiff1d(np.arange(first + len(target)), self.places))
        self.model = model.eval()
        self.language_model = LanguageModel(model, tokenizer)
        self.prefix = self.language_model.prefix

    @cached_property
    def opens(self) -> torch.Tensor:
        """Which rows of the tables begin a word, shape (rows,)."""
        return openers(self.target, self.columns)

    def train_rows(self) -> Trainable:
        """Freeze all but the new rows; their parameters are named "rows" and, for an untied head, "head_rows"."""
        return select(self.model, "rows", np.arange(self.columns, self.columns + len(self.target)))

    def hidden(self, sequences: Sequence[Ids], layer: int = -1) -> list[torch.Tensor]:
        """Hidden states (length, d) of `layer` for each sequence of row numbers, behind the document prefix, which is left out."""
        lengths = [len(s) for s in sequences]
        skip, width = len(self.prefix), max(lengths) + len(self.prefix)
        ids, mask = np.zeros((len(sequences), width), dtype=np.int64), np.zeros((len(sequences), width), dtype=np.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : skip + len(sequence)] = [*self.prefix, *sequence]
            mask[row, : skip + len(sequence)] = 1
        device = self.language_model.device
        states = self.language_model.hidden(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device), layer)
        return [states[row, skip : skip + length] for row, length in enumerate(lengths)]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (n, rows) over the new vocabulary of hidden states (n, d); minus infinity in the rows that it lacks."""
        logits = self.language_model.logits(states)
        return logits.index_fill(1, self.lacking.to(logits.device), -torch.inf) if len(self.lacking) else logits

    def chunk_distance(self, teacher: Sequence[torch.Tensor], states: Sequence[torch.Tensor], batch: Sequence[Passage]) -> torch.Tensor:
        """Mean divergence over the chunks of `batch`, from the states (length, d) of both spellings; 0 where there is no chunk."""
        with torch.no_grad():
            given = [
                read(self.language_model.logits(h)[:, : self.columns], p.old, self.opens[: self.columns])
                for h, p in zip(teacher, batch, strict=True)
            ]
        learned = [read(self.logits(h), self.places[p.new], self.opens) for h, p in zip(states, batch, strict=True)]
        distances = chunk_distances(given, learned, batch)
        return distances.mean() if len(distances) else torch.cat(list(states)).sum() * 0

    def rows(self, role: str) -> torch.Tensor:
        """The new rows of the input table, or of the head, as they are now. Shape (m, d)."""
        table = head_of(self.model) if role == "head" else self.model.get_input_embeddings()
        weight: torch.Tensor = table.weight
        return weight.detach()[self.columns : self.columns + len(self.target)].cpu().clone()


class Teacher:
    """What the old spelling of a passage leaves in `layer`: at the positions that are compared, or with `whole` at all.

    With `keep` it is computed once for each passage, until 512 MiB are full: later epochs then cost the student's pass alone.
    """

    def __init__(self, student: Student, layer: int = -1, *, keep: bool = False, whole: bool = False) -> None:
        self.student, self.layer, self.whole = student, layer, whole
        self._room = KEPT if keep else 0
        self._kept: dict[int, torch.Tensor] = {}

    def __call__(self, batch: Sequence[Passage]) -> torch.Tensor:
        """Hidden states (positions of all passages, d); the passages must live as long as the teacher."""
        return torch.cat(self.each(batch))

    def each(self, batch: Sequence[Passage]) -> list[torch.Tensor]:
        """The same, passage by passage."""
        unknown = [passage for passage in batch if id(passage) not in self._kept]
        found = dict(zip(map(id, unknown), self._read(unknown), strict=True)) if unknown else {}
        states = [found[id(p)] if id(p) in found else self._kept[id(p)] for p in batch]
        for name, held in found.items():
            if held.nbytes <= self._room:
                self._kept[name] = held
                self._room -= held.nbytes
        return states

    def _read(self, batch: Sequence[Passage]) -> list[torch.Tensor]:
        with torch.inference_mode():
            states = self.student.hidden([p.old for p in batch], self.layer)
            return [h if self.whole else h[p.old_at] for h, p in zip(states, batch, strict=True)]
