"""Change a taught word without learning: mix it with another, keep its first pieces, project words out of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from regraft import provenance
from regraft.concepts.concept import FACTS, load_concept
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.host.words import check_rows, rows_of
from regraft.concepts.kinds.word import FILE, WordConcept
from regraft.concepts.learning import moved
from regraft.errors import ParameterError
from regraft.output import atomic_directory, check_output


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is done to a word, in this order. `share` : of `mix`. `strength` : of `clean`. `pipeline` : whose rows `clean` means."""

    mix: str | None = None
    share: float = 0.5
    pieces: int | None = None
    clean: str | None = None
    strength: float = 1.0
    pipeline: str | None = None
    word: str | None = None


def edit(concept: str, asked: Edit, *, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the changed word to `out`. Raises `ParameterError`: not a word, nothing to do, shapes that do not mix."""
    check_output(out, overwrite=overwrite)
    before = word_at(concept)
    after = before
    if not any((asked.mix, asked.pieces, asked.clean, asked.word)):
        raise ParameterError("nothing to do: give --mix, --pieces, --clean or --word")
    if asked.mix:
        after = after.mixed(word_at(asked.mix), asked.share)
    if asked.pieces:
        after = after.truncated(asked.pieces)
    if asked.clean:
        if asked.pipeline is None:
            raise ParameterError("--clean says which words, --pipeline whose rows of them: give both")
        opened = open_pipeline(asked.pipeline)
        check_rows(opened, after.words())
        unwanted = rows_of(opened, asked.clean, option="--clean")
        cleaned = {key: projected(value, unwanted[key], asked.strength) for key, value in after.rows.items()}
        after = WordConcept(after.word, cleaned, after.init)
    after = WordConcept(asked.word or after.word, after.rows, after.init)
    facts = moved(before.rows, after.rows)
    with atomic_directory(out, overwrite=overwrite) as folder:
        after.save(folder)
        place = Path(concept) if Path(concept).is_file() else Path(concept) / FILE
        record = provenance.record(provenance.Given(place.resolve()), "concept edit", parameters=asdict(asked), metrics=facts)
        provenance.save(record, folder, [FILE, FACTS])
    return {"word": after.word, "pieces": len(next(iter(after.rows.values()))), **facts, "out": str(out)}


def projected(rows: torch.Tensor, unwanted: torch.Tensor, strength: float) -> torch.Tensor:
    """`rows` (n, width) without `strength` of their part in the span of `unwanted` (m, width)."""
    _, values, directions = torch.linalg.svd(unwanted, full_matrices=False)
    kept = directions[values > 1e-6 * values[0]]
    found: torch.Tensor = rows - strength * (rows @ kept.T) @ kept
    return found


def word_at(path: str) -> WordConcept:
    """The taught word at `path`. Raises `ParameterError`: a concept of another kind."""
    found = load_concept(path)
    if not isinstance(found, WordConcept):
        raise ParameterError(f"{path}: a {found.kind}, not a word of input rows: only words are mixed, shortened and cleaned")
    return found
