"""What `regraft align fit` does: two tables and pairs in, a directory with the map and where its tables are out."""

import json
import operator
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft import provenance
from regraft.align.aligner import load_map
from regraft.align.linear import LinearAligner
from regraft.align.words.dictionary import Coverage, Pair, cover, identical_pairs, numeral_pairs, read_pairs
from regraft.align.words.tables import Table, open_table, reopen
from regraft.errors import InputError, ParameterError
from regraft.method import parameters, resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step

TABLES = "tables.json"
SEEDS = {"identical": identical_pairs, "numerals": numeral_pairs}


@dataclass(frozen=True, eq=False)
class WordMap:
    """A fitted map with its two tables."""

    aligner: LinearAligner
    source: Table
    target: Table


@dataclass(frozen=True, eq=False)
class BothTables:
    """The two tables as one input, for the record."""

    source: Table
    target: Table
    id: str | None = None
    revision: str | None = None

    @property
    def root(self) -> Path:
        return self.source.path

    def source_hash(self) -> str:
        return f"blake2b:{self.source.digest}+{self.target.digest}"


def check_pairs(aligner: LinearAligner, dictionary: Path | None, seeds: str | None) -> None:
    """Raises `ParameterError` where pairs are given in two ways, or in none to a map that needs them: before any table is read."""
    if dictionary is not None and seeds is not None:
        raise ParameterError("--dictionary and --seeds are both given: give the pairs in one way")
    if seeds is not None and seeds not in SEEDS:
        raise ParameterError(f"--seeds {seeds}: choose one of {', '.join(SEEDS)}")
    if dictionary is None and seeds is None and getattr(aligner, "mode", None) != "unsupervised":
        raise ParameterError(
            f"{aligner.name}: no pairs to learn from: give --dictionary or --seeds, or --method vecmap --set mode=unsupervised"
        )


def seed_pairs(source: Table, target: Table, dictionary: Path | None, seeds: str | None) -> list[Pair]:
    """Pairs of a dictionary file, or those that need none: words, or numerals, that are written alike. Raises `ParameterError` for none."""
    if dictionary is not None:
        return read_pairs(dictionary)
    if seeds is None:
        return []
    found = SEEDS[seeds](source.words, target.words)
    if not found:
        raise ParameterError(f"--seeds {seeds}: the two tables share none that are written alike: give --dictionary")
    return found


def fit_words(aligner: LinearAligner, source: Table, target: Table, pairs: list[Pair]) -> tuple[WordMap, Coverage]:
    """`aligner` fitted on the pairs that both tables know, with the whole tables. Raises `ParameterError` where none is known."""
    known = cover(pairs, source.index, target.index)
    whole = {"source": source.matrix, "target": target.matrix}
    if getattr(aligner, "mode", None) == "unsupervised":
        aligner.fit(None, None, **whole)  # type: ignore[arg-type]  # it says that it takes none
    elif not len(known.pairs):
        given = f"none of {len(pairs):,} pairs has vectors on both sides"
        raise ParameterError(f"{aligner.name}: {given}: give --dictionary with source word, target word in these languages, or --seeds")
    else:
        left, right = known.pairs.T
        aligner.fit(source.matrix[left], target.matrix[right], pairs=known.pairs, **whole)
    return WordMap(aligner, source, target), known


def fit(
    source: Path,
    target: Path,
    *,
    dictionary: Path | None,
    seeds: str | None,
    method: str,
    settings: dict[str, Any],
    out: Path,
    limit: int,
    latin: tuple[bool, bool] = (True, True),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Learn a map and write it into `out`, whole or not at all. Returns what was learned from, in figures."""
    check_output(out, overwrite=overwrite)
    aligner = word_aligner(method, settings)
    check_pairs(aligner, dictionary, seeds)
    with step("reading both tables"):
        left, right = open_table(source, limit, latin=latin[0]), open_table(target, limit, latin=latin[1])
    pairs = seed_pairs(left, right, dictionary, seeds)
    start = time.perf_counter()
    with step(f"fitting {aligner.name}"):
        found, known = fit_words(aligner, left, right, pairs)
    seconds = time.perf_counter() - start
    figures = {
        "method": aligner.name,
        "source_words": len(left.words),
        "target_words": len(right.words),
        "pairs": known.known_pairs,
        "pairs_given": known.all_pairs,
        "words": known.known_words,
        "words_given": known.all_words,
        "seconds": seconds,
    }
    notes = few_pairs(known, left) if known.all_pairs else []
    record = provenance.record(
        BothTables(left, right),
        "align fit",
        method=aligner.name,
        parameters=aligner.get_params(deep=False),
        seed=getattr(aligner, "seed", None),
        corpus=None if dictionary is None else {"path": str(dictionary), "sha256": provenance.sha256(dictionary)},
        timings={"fit": seconds},
        metrics={key: value for key, value in figures.items() if key not in ("method", "seconds")},
        notes=notes,
    )
    with atomic_directory(out, overwrite=overwrite) as folder:
        save_words(found, folder)
        provenance.save(record, folder, [path.name for path in sorted(folder.iterdir())])
    return figures | {"out": str(out), "notes": notes}


def few_pairs(known: Coverage, source: Table) -> list[str]:
    """What the user should know of the pairs."""
    dim = source.matrix.shape[1]
    distinct = min(len(np.unique(known.pairs[:, side])) for side in (0, 1)) if len(known.pairs) else 0
    if 0 < distinct < dim:
        return [f"{distinct} distinct words in pairs for {dim} dimensions: part of the map is open; give more pairs, or refine"]
    return []


def word_aligner(method: str, settings: dict[str, Any]) -> LinearAligner:
    """An aligner that maps tables of words. Raises `ParameterError` for one that does not."""
    found = resolve("aligner", method, settings)
    if not isinstance(found, LinearAligner):
        raise ParameterError(f"{found.name} does not map tables of words by pairs: `regraft methods --family aligner` says what it is for")
    return found


def seeded(method: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """`settings` with `seed` where the method has one and it is not set."""
    return {"seed": seed} | settings if "seed" in parameters(type(resolve("aligner", method))) else settings


def save_words(found: WordMap, folder: Path) -> None:
    """The map, and by what its tables are found again."""
    found.aligner.save_into(folder)
    tables = {"source": found.source.to_dict(), "target": found.target.to_dict()}
    (folder / TABLES).write_text(json.dumps(tables, indent=1, ensure_ascii=False), encoding="utf-8")


def load_words(folder: str | Path) -> WordMap:
    """A map that `fit` wrote, with its tables. Raises `InputError` where it is none, or a table is gone or changed."""
    folder = Path(folder)
    aligner = load_map(folder)
    try:
        about = json.loads((folder / TABLES).read_text("utf-8"))
        given = [dict(about[side]) for side in ("source", "target")]
        for one in given:
            operator.itemgetter("path", "limit", "latin", "digest")(one)  # are they there?
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: has no tables of words ({type(error).__name__}): give what `regraft align fit` wrote") from None
    source, target = (reopen(one) for one in given)
    return WordMap(aligner, source, target)
