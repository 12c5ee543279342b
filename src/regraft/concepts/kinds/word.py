"""A word: rows of the text towers' input tables, in the file that diffusers, ComfyUI and A1111 load."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from regraft.concepts.concept import Concept
from regraft.concepts.host.pipeline import KEYS
from regraft.concepts.host.words import Rows
from regraft.errors import CheckpointError, ParameterError

FILE = "learned_embeds.safetensors"
A1111 = "emb_params"  # its name for the rows in a file that does not tell the word


@dataclass(frozen=True, eq=False)
class WordConcept(Concept):
    """`rows` by tower: (n, width) each, the pieces of `word`. `init` : the word they started from."""

    kind = "word"
    word: str
    rows: Rows
    init: str = ""

    def words(self) -> dict[str, Rows]:
        return {self.word: self.rows}

    def write(self, folder: Path) -> None:
        """One tensor under the word's name; for two towers one each under the names that SDXL's files use."""
        given = {key: value.detach().float().cpu().contiguous() for key, value in self.rows.items()}
        tensors = {self.word: next(iter(given.values()))} if len(given) == 1 else given
        save_file(tensors, folder / FILE, metadata={"format": "pt", "word": self.word})

    def facts(self) -> dict[str, Any]:
        return {"init": self.init, "towers": {key: list(value.shape) for key, value in self.rows.items()}}

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "WordConcept":
        found = cls.read_file(folder / FILE, facts["word"])
        if found.rows.keys() != facts["towers"].keys() and len(found.rows) == 1:
            found = cls(found.word, {next(iter(facts["towers"])): next(iter(found.rows.values()))})
        return cls(found.word, found.rows, facts.get("init", ""))

    @classmethod
    def read_file(cls, path: Path, word: str | None = None) -> "WordConcept":
        """Rows from a file of learned rows. Raises `CheckpointError`: a pickle, another kind of file, rows that are not finite."""
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path}: only .safetensors files are opened, never a pickle: save it again as one")
        try:
            tensors = load_file(path)
            with safe_open(path, "pt") as file:
                told = (file.metadata() or {}).get("word")
        except Exception as error:  # safetensors has an error class of its own
            raise CheckpointError(f"{path}: not a safetensors file that can be read ({error})") from None
        order = [*KEYS, *(key for key in tensors if key not in KEYS)]
        rows = {key: tensors[key].float().reshape(-1, tensors[key].shape[-1]) for key in order if key in tensors}
        if not rows or any(value.dim() != 2 or not bool(value.isfinite().all()) for value in rows.values()):
            raise CheckpointError(f"{path}: not a file of learned rows: each tensor must be (pieces, width) and finite")
        if set(rows) <= set(KEYS):
            return cls(word or told or f"<{path.stem}>", rows)
        if len(rows) > 1:
            raise CheckpointError(
                f"{path}: {len(rows)} tensors ({', '.join(sorted(rows)[:3])}, ...); a file of learned rows has one, or clip_l and clip_g"
            )
        key = next(iter(rows))
        return cls(word or told or (f"<{path.stem}>" if key == A1111 else key), {KEYS[0]: rows[key]})

    def truncated(self, count: int) -> "WordConcept":
        """Its first `count` pieces."""
        most = len(next(iter(self.rows.values())))
        if not 1 <= count <= most:
            raise ParameterError(f"{self.word} has {most} piece(s): {count} cannot be kept, give 1 to {most}")
        return WordConcept(self.word, {key: value[:count] for key, value in self.rows.items()}, self.init)

    def mixed(self, other: "WordConcept", share: float) -> "WordConcept":
        """Its rows, and `share` of another's in their place. Raises `ParameterError`: of other towers or another number of pieces."""
        shapes = [{key: tuple(value.shape) for key, value in one.rows.items()} for one in (self, other)]
        if shapes[0] != shapes[1]:
            raise ParameterError(f"{self.word} has rows of {shapes[0]}, {other.word} of {shapes[1]}: only rows of one shape mix")
        return WordConcept(self.word, {key: torch.lerp(value, other.rows[key], share) for key, value in self.rows.items()}, self.init)
