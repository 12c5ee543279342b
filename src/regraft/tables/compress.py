"""What `regraft tables compress` does: a table that is there, made smaller within a budget, measured, and written.

Enters: vectors, a model2vec folder or a language model. Leaves: the small table in a folder that appears whole or not at all; of a language
model an ordinary checkpoint with the rows that the small table stands for, and the small table beside it.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from regraft import provenance
from regraft.checkpoint import Blocks, Checkpoint, write
from regraft.corpus import Corpus
from regraft.corpus.sampling import sample_texts, say_skipped
from regraft.errors import CorpusError, ParameterError
from regraft.evaluation import Score, paired_difference, score_text
from regraft.language.loading import is_scorable, load_model
from regraft.method import members
from regraft.output import atomic_directory, check_output
from regraft.progress import console, step
from regraft.report import Report
from regraft.tables.embedding import BESIDE, CompressedEmbedding, LargerTable
from regraft.tables.memory import WORD, parse_budget
from regraft.tables.quality import Similarity, Truth
from regraft.tables.report.compression import compression_report
from regraft.tables.sources import Given, open_table
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer

AUTO = "auto"
BLOCK = 1 << 14
SCORE_BYTES = 60_000
NOT_SETTINGS = ("num_embeddings", "embedding_dim", "mode", "padding_idx")


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How tables are measured: the `k` nearest of so many `queries`, by which `similarity`; drawn by `seed`."""

    k: int = 10
    queries: int = 1000
    similarity: Similarity = "cosine"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Text:
    """Text that a language model is scored on, before and after. `paths` : None scores nothing."""

    paths: Sequence[str | Path] | None = None
    column: str | None = None
    score_bytes: int | None = SCORE_BYTES

    def read(self, checkpoint: Checkpoint | None) -> list[str]:
        """The texts. Raises an `InputError` where the table belongs to no model that could be scored, or there is no text."""
        if self.paths is None:
            return []
        if checkpoint is None or not is_scorable(checkpoint):
            raise ParameterError("--corpus: what is compressed is no language model that could be scored: leave it out")
        corpus = Corpus.open(self.paths, held_out=0.0, text_column=self.column)
        say_skipped(corpus)
        texts = sample_texts(corpus.documents("all"), self.score_bytes)
        if not texts:
            raise CorpusError(f"{corpus.name}: no text to score")
        return texts


@dataclass(frozen=True, eq=False)
class Tried:
    """One method at one budget: its figures, and why there are none."""

    method: str
    budget: str
    figures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def row(self) -> dict[str, Any]:
        return {"method": self.method, "budget": self.budget, **self.figures, "error_said": self.error}


@dataclass(frozen=True)
class Compression:
    """What `compress` did: the figures as `--json` prints them, and the report."""

    figures: dict[str, Any]
    report: Report


def compress(
    path: str | Path,
    budget: str | float,
    *,
    method: str = AUTO,
    settings: Mapping[str, Any] | None = None,
    out: Path,
    also: Sequence[str] = (),
    measuring: Measuring = Measuring(),  # frozen
    text: Text = Text(),  # frozen
    overwrite: bool = False,
) -> Compression:
    """Write the table at `path` within `budget` (a share of its float32 size, or bytes) into `out`.

    Parameters
    ----------
    method : one that makes a table of one that is there, or "auto": all of them, of which the one with the best recall is kept.
    also : further budgets that are measured for the picture, and not written.

    Raises `InputError`s in one line: nothing there, a budget below the floor, settings that the method has not, `out` in the way.
    """
    methods = chosen_methods(method, settings or {})
    given = open_table(path)
    check_output(out, overwrite=overwrite, sources=[given.source.root] if given.source.root.is_dir() else [])
    rows, dim = given.weight.shape
    budgets = list(dict.fromkeys([str(budget), *also]))
    for one in budgets:
        parse_budget(one, rows * dim)
    texts = text.read(given.checkpoint)
    with step(f"searching {rows:,} x {dim} exactly"):
        truth = Truth.of(given.weight, given.words, **vars(measuring))
    best, tried = _best(methods, given.weight, budgets, truth, dict(settings or {}))
    figures = _figures(given, best, tried[0], measuring)
    done = Result(given, best, tried, truth.plain(), figures, texts)
    with step(f"writing {out}"):
        report = done.write(out, overwrite=overwrite)
    return Compression(done.figures | {"out": str(out)}, report)


def chosen_methods(method: str, settings: Mapping[str, Any]) -> list[type[CompressedEmbedding]]:
    """The classes that `method` names. Raises `ParameterError` for none, one that only trains, or settings for several."""
    able: dict[str, Any] = {one.name: one for one in members("table") if getattr(one, "learns_from", False)}
    if method == AUTO:
        if settings:
            raise ParameterError("--set belongs to one method: name it with --method")
        return list(able.values())
    slug = method.strip().lower().replace("_", "-")
    if slug not in able:
        raise ParameterError(f"--method {method}: no method that compresses a table that is there: choose {', '.join(able)}, or auto")
    return [able[slug]]


def _best(
    methods: Sequence[type[CompressedEmbedding]], weight: torch.Tensor, budgets: Sequence[str], truth: Truth, settings: dict[str, Any]
) -> tuple[CompressedEmbedding, list[Tried]]:
    """The table with the best recall at the first budget, and what was tried, its own first. Raises `ParameterError` where none fits."""
    kept: CompressedEmbedding | None = None
    first, others = None, []
    for budget in budgets:
        for cls in methods:
            try:
                table, one = _try(cls, weight, budget, truth, settings)
            except ParameterError as error:
                if len(methods) == 1 and budget == budgets[0]:
                    raise
                others.append(Tried(cls.name, budget, error=str(error)))
                continue
            if budget == budgets[0] and (first is None or _rank(one) > _rank(first)):
                others += [] if first is None else [first]
                kept, first = table, one
            else:
                others.append(one)
    if kept is None or first is None:
        raise ParameterError(f"--budget {budgets[0]}: no method can do that: {'; '.join(str(one.error) for one in others[: len(methods)])}")
    return kept, [first, *others]


def _rank(tried: Tried) -> tuple[float, float, float]:
    """Recall decides; of equals the smaller error, then the smaller table."""
    return (tried.figures["recall"], -tried.figures["error"], -tried.figures["bytes"])


def _try(
    cls: type[CompressedEmbedding], weight: torch.Tensor, budget: str, truth: Truth, settings: dict[str, Any]
) -> tuple[CompressedEmbedding, Tried]:
    with step(f"{cls.name} at {budget}"):
        start = time.perf_counter()
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LargerTable)  # raised here instead
            table = cls.from_table(weight, budget, **settings)
        seconds = time.perf_counter() - start
        memory = table.memory()
        if memory.serving_words > parse_budget(budget, weight.numel()):
            left = memory.ratio(*weight.shape)
            raise ParameterError(
                f"{cls.name} at {budget}: too little of this table is alike, {left:.0%} of it is left. Lower similarity, raise tolerance "
                "or take a smaller block with --set, or take another method"
            )
        size = {"share": memory.ratio(*weight.shape), "bytes": memory.serving_bytes}
        return table, Tried(cls.name, budget, size | truth.measure(table) | {"seconds": seconds})


def _figures(given: Given, table: CompressedEmbedding, tried: Tried, measuring: Measuring) -> dict[str, Any]:
    rows, dim = given.weight.shape
    settings = {name: value for name, value in table.config().items() if name not in NOT_SETTINGS}
    return {
        "source": str(given.path),
        "rows": rows,
        "dim": dim,
        "plain_bytes": rows * dim * WORD,
        "method": tried.method,
        "settings": settings,
        "parts": {name: round(words * WORD) for name, words in table.memory().serving.items()},
        "budget": tried.budget,
        **tried.figures,
        "k": measuring.k,
        "queries": min(measuring.queries, rows),
        "similarity": measuring.similarity,
    }


@dataclass(frozen=True)
class Result:
    """A table that was chosen, with what is known of it, ready to be written."""

    given: Given
    table: CompressedEmbedding
    tried: list[Tried]
    plain: dict[str, float | None]
    figures: dict[str, Any]
    texts: list[str]

    def write(self, out: Path, *, overwrite: bool) -> Report:
        """Write into `out`, whole or not at all, and return the page."""
        checkpoint = self.given.checkpoint
        if checkpoint is None:
            with atomic_directory(out, overwrite=overwrite) as folder:
                self.table.save(folder)
                if self.given.words is not None:
                    (folder / "words.txt").write_text("\n".join(" ".join(word.split()) for word in self.given.words) + "\n", "utf-8")
                report = self.page(folder)
                provenance.save(self.record(), folder, [path.name for path in sorted(folder.iterdir())])
            return report
        name, pages = self.given.table_name, []
        stored = checkpoint.tensors[name].torch_dtype
        before = self.score(checkpoint)

        def beside(folder: Path) -> None:
            inside = folder / checkpoint.path.relative_to(checkpoint.root)
            (inside / BESIDE).mkdir()
            self.table.save(inside / BESIDE)
            self.add_scores(before, self.score(Checkpoint.open(inside, vocabulary=True)))
            pages.append(self.page(folder))

        def record(folder: Path, names: Sequence[str]) -> None:
            provenance.save(self.record(), folder, names)

        tensors = {name: Blocks(tuple(self.given.weight.shape), stored, self.blocks(stored))}
        self.figures["stored_bytes"] = checkpoint.tensors[name].nbytes
        if not checkpoint.layout.tied:
            console.print("the head is a table of its own and stays as it is", style="yellow", highlight=False)
        write(checkpoint, out, tensors=tensors, extra=beside, record=record, overwrite=overwrite)
        return pages[0]

    def blocks(self, dtype: torch.dtype) -> Callable[[], Iterator[torch.Tensor]]:
        """The rows that the table stands for, in `dtype`, block by block."""

        def made() -> Iterator[torch.Tensor]:
            with torch.no_grad():
                for ids in torch.split(torch.arange(self.table.num_embeddings), BLOCK):
                    yield self.table(ids).to(dtype)

        return made

    def score(self, checkpoint: Checkpoint) -> Score | None:
        """What the text costs under `checkpoint`."""
        if not self.texts:
            return None
        with step(f"scoring under {checkpoint.path.name}"):
            model, tokenizer = load_model(checkpoint, "auto", "cpu"), load_tokenizer(Tokenizer.from_directory(checkpoint.path))
            return score_text(model, tokenizer, self.texts)

    def add_scores(self, before: Score | None, after: Score | None) -> None:
        """Bits per byte before and after, and their difference with its paired interval."""
        if before is None or after is None:
            return
        difference, low, high = paired_difference(after, before)
        self.figures["before"] = {"bits_per_byte": before.bits_per_byte, "interval": list(before.interval())}
        self.figures["after"] = {"bits_per_byte": after.bits_per_byte, "interval": list(after.interval())}
        self.figures["difference"] = {"bits_per_byte": difference, "interval": [low, high]}

    def page(self, folder: Path) -> Report:
        report = compression_report(self.figures, [one.row() for one in self.tried], self.plain)
        report.save_html(folder / "report.html")
        return report

    def record(self) -> dict[str, Any]:
        return provenance.record(
            self.given.source,
            "tables compress",
            method=self.figures["method"],
            parameters=self.figures["settings"] | {"budget": self.figures["budget"]},
            timings={"compress": self.figures["seconds"]},
            metrics={name: value for name, value in self.figures.items() if name not in ("method", "settings", "budget", "seconds")},
        )
