"""Rows of a comparison as they are measured, kept in a file, and told apart.

Enters: what was measured of each method. Leaves: a file from which an interrupted comparison goes on, and for every row how far it is
behind the first, with an interval over the scored documents.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regraft.evaluation import Score
from regraft.evaluation.paired import Sample, paired_effect
from regraft.training import Training
from regraft.vectors.files import open_vectors
from regraft.vocab.initializer import Aids
from regraft.vocab.job import Job

Row = dict[str, Any]
QUALITY = ("bits_per_byte", "bits_per_byte_after", "ordinary_bits_per_byte", "greedy_hits")


@dataclass
class Outcome:
    """A row with what does not fit in a table: the `curve` of training, `notes`, the bits and bytes of each held-out document, and the
    `digest` of the tables that were measured.
    """

    row: Row
    curve: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    document_bits: list[float] = field(default_factory=list)
    document_bytes: list[int] = field(default_factory=list)
    digest: str = ""

    def take_figures(self, other: "Outcome") -> None:
        """What was measured of another method with the same tables."""
        self.row |= {name: other.row[name] for name in QUALITY}
        self.curve, self.document_bits, self.document_bytes = other.curve, other.document_bits, other.document_bytes

    def keep_documents(self, score: Score) -> None:
        self.document_bits, self.document_bytes = score.document_bits.tolist(), score.document_bytes.tolist()

    @property
    def sample(self) -> Sample:
        return Sample.of(self.document_bits, np.array(self.document_bytes))


class KeptRows:
    """Finished methods in `rows.jsonl`, by method with its settings; reused when the fingerprint `key` is the same."""

    def __init__(self, folder: Path | None) -> None:
        self.path = folder and folder / "rows.jsonl"
        self.lines: list[dict[str, Any]] = []
        if self.path and self.path.is_file():
            self.lines = [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def found(self, key: str, settings: str) -> Outcome | None:
        """What was measured of a method that did not fail."""
        for line in reversed(self.lines):
            if line["key"] == key and line.get("settings") == settings and line["row"]["error"] is None:
                given = {name: line[name] for name in ("row", "notes", "document_bits", "document_bytes", "digest") if name in line}
                return Outcome(curve=[(float(x), float(y)) for x, y in line.get("curve", [])], **given)
        return None

    def keep(self, key: str, settings: str, measured: Outcome) -> Outcome:
        line = {"key": key, "settings": settings, **asdict(measured)}
        self.lines.append(line)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return measured


def fingerprint(job: Job, training: Training | None, dtype: str) -> str:
    """Identifies a comparison: rows of another model, corpus, tokenizer change, aid or budget are not reused; without `training`, those at
    step 0."""
    parts = [
        job.checkpoint.source_hash(),
        job.corpus.sha256,
        json.dumps(job.change.tokenizer.spec["model"], sort_keys=True),
        repr(training),
        dtype,
        *aid_stamps(job.context.aids),
    ]
    parts += [str(job.context.seed), *job.domain, *job.ordinary]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def aid_stamps(aids: Aids) -> list[str]:
    """Every aid by its path, a file by its size and time too, so that a changed one counts as another, and vectors in memory by content."""
    stamps = []
    for name, given in vars(aids).items():
        for one in given if isinstance(given, tuple) else (given,):
            if not isinstance(one, str | Path | None):
                stamps.append(f"{name} {open_vectors(one).digest()}")
                continue
            stat = Path(one).stat() if one is not None and Path(one).is_file() else None
            stamps.append(f"{name} {one} {stat and (stat.st_size, stat.st_mtime_ns)}")
    return stamps


def rank(row: Row) -> tuple[bool, bool, float]:
    """Best first: trained rows by bits per byte after training, behind them the others by that at step 0; failures last."""
    before, after = row["bits_per_byte"], row["bits_per_byte_after"]
    value = after if after is not None else before
    return before is None, after is None, value if value is not None else row["drift_bits_per_byte"] or 0.0


def best_starts(measured: Sequence[Outcome], count: int | None) -> list[str]:
    """Names of the best starts at step 0, best first: `count` of them, or all. Starts with the same tables count as one."""
    scored = sorted((one for one in measured if one.row["bits_per_byte"] is not None), key=lambda one: one.row["bits_per_byte"])
    distinct = list(dict.fromkeys(one.digest for one in scored))[:count]
    return [one.row["method"] for one in scored if one.digest in distinct]


def set_behind(rows: Sequence[Row], measured: Mapping[str, Outcome]) -> None:
    """Write into each row how many bits per byte it is `behind_first`, with a 95 % interval in which hard documents cancel.

    The first is the first scored row after the untouched model's. Rows are compared in what they are ranked by, over the same documents;
    where the first was trained, those that were not are not compared.
    """
    first = next((row for row in rows[1:] if measured[row["method"]].document_bits), None)
    if first is None or len(measured[first["method"]].document_bits) < 2:
        return
    best, trained = measured[first["method"]].sample, first["bits_per_byte_after"] is not None
    for row in rows:
        other_stage = row is not rows[0] and trained and row["bits_per_byte_after"] is None
        if row is first or other_stage or not measured[row["method"]].document_bits:
            continue
        effect = paired_effect(best, measured[row["method"]].sample)
        row |= {"behind_first": effect.effect, "behind_first_low": effect.low, "behind_first_high": effect.high}
