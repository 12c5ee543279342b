"""Which texts of a corpus are scored, and what is said of those that are not read."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from regraft.corpus import Corpus
from regraft.progress import console
from regraft.samples import everyday_english


def say_skipped(corpus: Corpus, shown: int = 3) -> None:
    """Tell the user which files of the corpus were not read, and what is odd about its split."""
    if corpus.skipped:
        first = "; ".join(f"{path}: {why}" for path, why in corpus.skipped[:shown])
        more = f"; and {len(corpus.skipped) - shown} more" if len(corpus.skipped) > shown else ""
        console.print(f"skipped {len(corpus.skipped)} files of the corpus ({first}{more})", style="yellow", highlight=False, markup=False)
    for note in corpus.notes:
        console.print(note, style="yellow", highlight=False, markup=False)


def sample_texts(texts: Iterable[str], limit: int | None) -> list[str]:
    """Whole texts up to `limit` bytes in all (at least one), in an order that depends only on each text; without a limit all, as given."""
    if limit is None:
        return list(texts)
    chosen: list[str] = []
    size = 0
    for text in sorted(texts, key=lambda text: hashlib.blake2b(text.encode(), digest_size=8).digest()):
        bytes_here = len(text.encode())
        if not chosen or size + bytes_here <= limit:
            chosen.append(text)
            size += bytes_here
    return chosen


def open_source_text(paths: Sequence[str | Path] | None, held_out: float) -> Corpus:
    """Text in the model's own language, on which drift is measured: `paths`, or a page of everyday English that ships with regraft."""
    return (
        Corpus.open(paths, held_out=held_out)
        if paths
        else Corpus.from_texts(everyday_english(), held_out=held_out, name="everyday English")
    )
