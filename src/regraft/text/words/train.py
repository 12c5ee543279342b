"""Vectors of the words of a corpus, measured after every pass, and written in formats that everything reads.

Enters: texts and a model. Leaves: a directory with `vectors.vec` (word2vec's text) or `vectors.npy` and `vectors.txt`, the curve, a page,
`regraft.json`. With a development task the vectors are those of the pass that did best on it, and training ends when it no longer improves.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regraft import provenance
from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report
from regraft.report.figures import training_curves
from regraft.text.tasks.files import open_any
from regraft.text.tasks.task import Task
from regraft.text.words.corpus import Cut, Words, read_words
from regraft.text.words.measuring import FEWEST, Coverage, mean_of_words, random_vectors, table
from regraft.text.words.model import Floats, WordModel
from regraft.text.words.trainer import Epoch, Fitted, fit
from regraft.vectors.tokens import Vectors

Format = Literal["text", "npy"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts become words. `min_count` : rarer words are dropped. `cut` : at what is no letter, or at spaces (segmented text)."""

    min_count: int = 5
    lowercase: bool = True
    cut: Cut = "letters"
    text_column: str | None = None

    def words(self, paths: Sequence[str | Path]) -> Words:
        """Raises `CorpusError` for texts that cannot be read, or too few words."""
        with step("reading words"):
            corpus = Corpus.open(paths, held_out=0.0, text_column=self.text_column)
            return read_words(corpus.documents(), min_count=self.min_count, lowercase=self.lowercase, cut=self.cut)

    def encode(self, words: Words, vectors: Floats) -> Any:
        return mean_of_words(table(words, vectors), lowercase=self.lowercase, cut=self.cut)

    def coverage(self, words: Words, tasks: Sequence[Task], dev: Task | None = None) -> list[Coverage]:
        """What of `tasks` is known, before any training. Raises `ParameterError` where too little of `dev` is."""
        encode = self.encode(words, np.ones((len(words.names), 1), np.float32))
        if dev is not None and not (found := Coverage.of(dev, encode)).enough:
            raise ParameterError(
                f"--dev {dev.name}: words of {found} are known to this corpus, fewer than {FEWEST}: give more text or another task"
            )
        return [Coverage.of(task, encode) for task in tasks]


@dataclass
class Watch:
    """Measures `tasks` after every pass, keeps the vectors that are best on `dev`, and says when `patience` passes brought nothing."""

    reading: Reading
    words: Words
    tasks: Sequence[Task] = ()
    dev: Task | None = None
    patience: int = 3
    snapshots: Path | None = None
    format: Format = "text"
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: tuple[float, int, Floats | None] = (-np.inf, 0, None)

    def __call__(self, epoch: Epoch, vectors: Floats) -> bool:
        encode = self.reading.encode(self.words, vectors)
        row: dict[str, Any] = {"epoch": epoch.number, "validation_loss": epoch.validation, "seconds": round(epoch.seconds, 3)}
        row |= {task.name: task.measure(encode).value for task in self.tasks}
        if self.snapshots is not None:
            self.snapshots.mkdir(exist_ok=True)
            write_vectors(table(self.words, vectors), self.snapshots / f"epoch-{epoch.number}", self.format)
        if self.dev is not None:
            found = row[f"dev:{self.dev.name}"] = self.dev.measure(encode).value
            if found > self.best[0]:
                self.best = (found, epoch.number, vectors.copy())
        self.rows.append(row)
        return self.dev is not None and epoch.number - self.best[1] >= self.patience

    def kept(self, fitted: Fitted) -> tuple[Floats, int]:
        """The vectors that count, and of which pass they are."""
        return (fitted.vectors, len(fitted.epochs)) if self.best[2] is None else (self.best[2], self.best[1])


@dataclass(frozen=True)
class Texts:
    """A corpus as the source of an output."""

    root: Path
    digest: str
    id: str | None = None
    revision: str | None = None

    def source_hash(self) -> str:
        return f"sha256:{self.digest}"


def words(
    corpus: Sequence[str | Path],
    model: WordModel,
    *,
    out: Path,
    reading: Reading | None = None,
    tasks: Sequence[str] = (),
    dev: str | None = None,
    patience: int = 3,
    snapshots: bool = False,
    format: Format = "text",
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Learn vectors of the words of `corpus` and write them to `out`.

    Parameters
    ----------
    tasks : names or files, measured after every pass. dev : the task that training is ended by, after `patience` passes without gain.
    snapshots : write the vectors of every pass too.

    Raises an `InputError` in one line for a corpus, model or task that does not fit, before anything is trained.
    """
    reading, start = reading or Reading(), time.perf_counter()
    check_output(out, overwrite=overwrite, sources=sources_of(corpus))
    opened, dev_task = [open_any(name) for name in tasks], open_any(dev) if dev else None
    if dev_task is not None and dev_task.name in [task.name for task in opened]:
        raise ParameterError(f"--dev {dev}: training is ended by this task, so it cannot be among those it is measured by (--tasks)")
    found = reading.words(corpus)
    covered = reading.coverage(found, opened, dev_task)
    opened = [task for task, one in zip(opened, covered, strict=True) if one.enough]
    with atomic_directory(out, overwrite=overwrite, sources=sources_of(corpus)) as temporary:
        watch = Watch(reading, found, opened, dev_task, patience, temporary / "snapshots" if snapshots else None, format)
        fitted = fit(model, found, seed=seed, workers=workers, after=watch)
        vectors, epoch = watch.kept(fitted)
        file = write_vectors(table(found, vectors), temporary / "vectors", format)
        if fitted.pieces is not None:  # of the last pass
            write_vectors(Vectors(model.piece_names(found), fitted.pieces, name="pieces"), temporary / "pieces", format)
        random = reading.encode(found, random_vectors(found, vectors.shape[1]))
        lowest = {task.name: task.measure(random).value for task in opened}
        figures: dict[str, Any] = {
            "model": model.name,
            "settings": str(model),
            "words": found.total,
            "vocabulary": len(found.names) - 1,
            "dimensions": int(vectors.shape[1]),
            "epoch": epoch,
            "words_per_second": round(fitted.words_per_second),
            "tasks": {name: watch.rows[epoch - 1][name] for name in lowest},
            "random": lowest,
            "known": {one.task: one.known for one in covered},
            "notes": [*([fitted.diverged] if fitted.diverged else []), *(one.note for one in covered if not one.enough)],
            "curve": watch.rows,
        }
        report = _report(model, figures, dev_task, covered)
        report.save_html(temporary / "training.html")
        (temporary / "curve.json").write_text(json.dumps(watch.rows, indent=1), encoding="utf-8")
        made = provenance.record(
            Texts(Path(corpus[0]), found.sha256), "text words", method=model.name,
            parameters={"model": str(model), "reading": asdict(reading), "workers": workers, "dev": dev},
            seed=seed, corpus={"sha256": found.sha256, "words": found.total},
            timings={"all": round(time.perf_counter() - start, 3)}, metrics={"tasks": figures["tasks"], "random": lowest},
        )  # fmt: skip
        provenance.save(made, temporary, [file.name])
    return report, figures | {"out": str(out / file.name), "seconds": round(time.perf_counter() - start, 1)}


def sources_of(corpus: Sequence[str | Path]) -> list[Path]:
    """Files and folders of `corpus`, which no output may lie in or replace."""
    return [path for path in map(Path, corpus) if path.exists()]


def write_vectors(vectors: Vectors, stem: Path, format: Format) -> Path:
    """`stem`.vec in word2vec's text format (full float32), or `stem`.npy with its words, a line each, in `stem`.txt. The file written."""
    if format == "npy":
        np.save(stem.with_name(stem.name + ".npy"), vectors.matrix, allow_pickle=False)
        stem.with_name(stem.name + ".txt").write_text("".join(f"{word}\n" for word in vectors.words), encoding="utf-8")
        return stem.with_name(stem.name + ".npy")
    file = stem.with_name(stem.name + ".vec")
    with file.open("w", encoding="utf-8", newline="\n") as out:
        out.write(f"{len(vectors.words)} {vectors.dim}\n")
        for word, row in zip(vectors.words, vectors.matrix.tolist(), strict=True):
            out.write(f"{word} {' '.join(f'{number:.9g}' for number in row)}\n")
    return file


def _report(model: WordModel, figures: dict[str, Any], dev: Task | None, covered: Sequence[Coverage]) -> Report:
    told = [
        f"{one.task} {figures['tasks'][one.task]:.3f} (random {figures['random'][one.task]:.3f}; {one} known)"
        for one in covered
        if one.enough
    ]
    lead = f"{figures['vocabulary']:,} words by {model.name} from {figures['words']:,} words of text, pass {figures['epoch']}"
    report = Report("Word vectors", ". ".join(["; ".join([lead, *told]), *figures["notes"]]) + ".")
    rows = figures["curve"]
    losses = [(float(row["epoch"]), row["validation_loss"]) for row in rows if row["validation_loss"] is not None]
    measured = [name for name in rows[0] if name not in ("epoch", "validation_loss", "seconds")]
    if measured:
        curves = {name: [(float(row["epoch"]), float(row[name])) for row in rows] for name in measured}
        report.add_figure("Tasks", training_curves(curves, x_title="passes", y_title="score"))
    if losses:
        curve = training_curves({"validation": losses}, x_title="passes", y_title="loss")
        report.add_figure(
            "Validation loss", curve, "Logged, and not what training is ended by: it is lowest elsewhere than tasks are highest."
        )
    report.add_table("Passes", rows, f"Kept: pass {figures['epoch']}{f', the best on {dev.name}' if dev else ''}.")
    return report
