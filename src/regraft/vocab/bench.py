"""Where starts of new rows are compared: the loaded model, whose tables are exchanged start by start, and the texts it is scored on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from regraft.comparison import Arm, Bench, Metric, Outcome, rank
from regraft.comparison.outcome import Row
from regraft.evaluation import Score, score_text
from regraft.evaluation.paired import Sample
from regraft.meter import metered
from regraft.progress import console
from regraft.training import Training, train
from regraft.vectors.files import open_vectors
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.job import Job, Stage
from regraft.vocab.transplant.hull import share_outside
from regraft.vocab.transplant.installed import install
from regraft.vocab.transplant.transplant import Transplant, transplant

UNTOUCHED = "untouched"
METRIC = Metric("bits_per_byte", amounts="document_bits", sizes="document_bytes")
QUALITY = (METRIC.name, METRIC.after, "ordinary_bits_per_byte", "greedy_hits")
FEW = 16


class StartBench(Bench):
    """The loaded model, whose tables are exchanged method by method and whose trained tensors are put back after each."""

    metric, reference, unit = METRIC, UNTOUCHED, "starts"

    def __init__(self, job: Job, training: Training | None, finalists: int | None) -> None:
        self.job, self.training, self.finalists = job, training, finalists
        self.model: Any = None
        self.measured: dict[str, Outcome] = {}  # by the digest of the tables
        self.tables: dict[str, Transplant] = {}  # of the starts that may be trained, by digest
        self.states: dict[bytes, Any] = {}  # of ordinary text, for all starts under which they are the same
        if job.scorable:
            self.model, self.old_tokenizer, self.new_tokenizer = job.load()
            self.untrained = {name: p.detach().clone() for name, p in self._outside_tables().items()}
        else:
            console.print("  the model has no language-model head: only tokenization and cost are compared", style="yellow")

    def budget(self, rows: Sequence[Row]) -> str:
        """How much was scored and trained on, in words."""
        said = f"{sum(len(text.encode()) for text in self.job.domain):,} bytes"
        if self.training is None or self.model is None:
            return said
        size = self.training.batch_size * self.training.accumulate * self.training.block
        length = {name: getattr(self.training, name) for name in ("steps", "minutes", "epochs")}
        spent = ", ".join(f"{value:g} {name}" for name, value in length.items() if value is not None)
        every = all(row[METRIC.after] is not None for row in rows[1:] if row["error"] is None)
        which = "all starts" if every else f"the best {self.finalists} at step 0"
        return f"{said}; {which} trained: {spent}, {size:,} tokens a step"

    def fingerprint(self, *, trained: bool) -> str:
        """Rows of another model, corpus, tokenizer change, aid or budget are not reused."""
        job = self.job
        parts = [
            job.checkpoint.source_hash(),
            job.corpus.sha256,
            json.dumps(job.change.tokenizer.spec["model"], sort_keys=True),
            repr(self.training if trained else None),
            job.dtype,
            *aid_stamps(job.aids),
        ]
        parts += [str(job.context.seed), *job.domain, *job.ordinary]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def baseline(self) -> Outcome:
        measured = Outcome(blank_row(UNTOUCHED) | {"tokens_per_byte": tokens_per_byte(self.job, new=False)})
        if self.model is not None:
            self.scored(measured, self.job.score(UNTOUCHED, self.model, self.old_tokenizer, new=False))
            measured.row["drift_bits_per_byte"] = 0.0
        return measured

    def scored(self, measured: Outcome, stage: Stage) -> None:
        measured.row |= stage_figures(stage)
        if stage.domain is not None:
            measured.sample = documents(stage.domain)

    def _outside_tables(self) -> dict[str, torch.nn.Parameter]:
        modules = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tables = {id(p) for module in modules if module is not None for p in module.parameters()}  # primitives of factorised ones too
        return {name: p for name, p in self.model.named_parameters() if id(p) not in tables}

    def _put_back(self) -> None:
        """Every parameter outside the tables as the files hold it, whatever the last method has trained."""
        with torch.no_grad():
            for name, parameter in self._outside_tables().items():
                parameter.copy_(self.untrained[name])

    @contextmanager
    def alone(self, measured: Outcome) -> Iterator[None]:
        """Whatever fails inside is the row's error, and the other methods go on; the model is put back."""
        try:
            with measured.alone():
                yield
        finally:
            if self.model is not None:
                self._put_back()

    def measure(self, arm: Arm) -> Outcome:
        """One method at step 0; trained too where all are, for then no tables need wait."""
        measured, result = self.make(arm.method)
        if result is not None:
            if self.finalists is None:
                self.train_tables(measured, result)
            self.keep_tables(measured, result)
        return measured

    def train(self, arm: Arm, outcome: Outcome) -> Outcome:
        """The row of the arm with its training. Tables that an earlier call has made are made and scored anew."""
        measured, result = outcome, self.tables.get(outcome.digest)
        if result is None:
            measured, result = self.make(arm.method)
        if result is not None:
            self.train_tables(measured, result)
        return measured

    def make(self, start: Initializer) -> tuple[Outcome, Transplant | None]:
        """The tables of `start` and what text costs under them, or what went wrong instead."""
        measured, result = Outcome(blank_row(start.name)), None
        context = replace(self.job.context, memory={}, notes=measured.notes)  # each method pays for what it learns, and nothing of it stays
        with self.alone(measured):
            with metered() as cost:
                result = transplant(self.job.checkpoint, self.job.tokenizer, self.job.change, start, context)
            measured.row |= {
                "seconds": cost.seconds,
                "peak_mb": cost.peak_mb,
                "in_hull": self.in_hull(result),
                "tokens_per_byte": tokens_per_byte(self.job, new=True),
            }
            measured.digest = result.digest()
            if self.model is not None:
                self.score(measured, result)
            self.measured.setdefault(measured.digest, measured)
        say(measured.notes)
        return measured, result if measured.row["error"] is None else None

    def keep_tables(self, measured: Outcome, result: Transplant) -> None:
        """Hold the tables of the best starts, as many as will be trained."""
        self.tables[measured.digest] = result
        room = self.finalists if self.training is not None and self.finalists is not None else 1
        if len(self.tables) > room:
            del self.tables[max(self.tables, key=lambda digest: rank(self.measured[digest].row, METRIC))]

    def score(self, measured: Outcome, result: Transplant) -> None:
        """Fill in what text costs at step 0; tables that were measured before are not measured again."""
        same = self.measured.get(measured.digest)
        if same is not None:  # starts often agree, as where a donor lacks all the new tokens
            take_figures(measured, same)
            return
        install(self.model, result)
        kept = self.states if self.reads_as_before(result) else None
        self.scored(measured, self.job.score(measured.row["method"], self.model, self.new_tokenizer, kept=kept))

    def reads_as_before(self, result: Transplant) -> bool:
        """Whether text without new tokens gives the untouched model's hidden states: no layer came with the rows, no old row is another."""
        checkpoint, source_ids = self.job.checkpoint, torch.from_numpy(self.job.change.source_ids)
        if result.layers or result.primitives is not None or checkpoint.layout.kind != "decoder":
            return False
        kept = torch.nonzero(source_ids >= 0).flatten()
        return torch.equal(result.input[kept], checkpoint.read(checkpoint.layout.input[0])[source_ids[kept]])

    def in_hull(self, result: Transplant) -> float | None:
        """Share of the new rows that are certain to be in the hull of the old ones; None if nothing is certain.

        Where no weights tell, all must be proved outside; the first few, that most often one of them is not: proofs are long in failing.
        """
        if result.certificate is not None:
            return result.certificate.inside
        table = self.job.checkpoint, self.job.tokenizer.vocab_size
        return 0.0 if share_outside(result, *table, sampled=FEW) == 1.0 == share_outside(result, *table) else None

    def train_tables(self, measured: Outcome, result: Transplant) -> None:
        """Bits per byte after the budget, and the curve: from step 0 to there, or what was measured of a small sample on the way."""
        if self.training is None or self.model is None:
            return
        same = self.measured[measured.digest]
        if same.row[METRIC.after] is not None:
            take_figures(measured, same)
            return
        with self.alone(measured):
            install(self.model, result)
            before = measured.row[METRIC.name]
            texts, replayed = self.job.corpus.documents("train"), self.job.replay or None
            watch = None if self.training.evaluate_every is None else self.job.watcher(self.new_tokenizer)
            new_ids = self.job.change.new_ids.tolist()
            run = train(self.model, self.new_tokenizer, texts, self.training, new_ids=new_ids, replay_texts=replayed, on_evaluate=watch)
            after = score_text(self.model, self.new_tokenizer, self.job.domain)
            ends = [(0.0, before), (run.seconds, after.bits_per_byte)]
            measured.curve = [(point.seconds, point.bits_per_byte) for point in run.curve] or ends
            measured.row[METRIC.after] = after.bits_per_byte
            if after.bits_per_byte > before:
                measured.notes.append(went_astray(measured.name, before, after.bits_per_byte, self.training))
                say(measured.notes[-1:])
            measured.sample = documents(after)
            self.measured[measured.digest] = measured


def went_astray(name: str, before: float, after: float, training: Training) -> str:
    return (
        f"{name}: training made it worse, {before:.3f} to {after:.3f} bits per byte. A short training can go astray: another --seed or a "
        f"lower rate (--train-set lr={training.lr / 2:g}) tells whether the start is to blame"
    )


def documents(score: Score) -> Sample:
    """Bits and bytes of each document."""
    return Sample.of_scores([score])


def take_figures(measured: Outcome, other: Outcome) -> None:
    """Fill in what was measured of another method with the same tables."""
    measured.row |= {name: other.row[name] for name in QUALITY}
    measured.curve, measured.sample = other.curve, other.sample


def say(notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"  {note}", highlight=False, markup=False)


def blank_row(method: str) -> Row:
    names = (
        METRIC.name,
        METRIC.after,
        "drift_bits_per_byte",
        "tokens_per_byte",
        "greedy_hits",
        "in_hull",
        "seconds",
        "peak_mb",
        "behind_first",
        "behind_first_low",
        "behind_first_high",
        "error",
    )
    return {"method": method, **dict.fromkeys(names)}


def stage_figures(stage: Stage) -> Row:
    return {
        METRIC.name: stage.domain and stage.domain.bits_per_byte,
        "ordinary_bits_per_byte": stage.ordinary and stage.ordinary.bits_per_byte,
        "greedy_hits": stage.greedy_hits,
    }


def tokens_per_byte(job: Job, *, new: bool) -> float:
    tokenizer = job.change.tokenizer if new else job.tokenizer
    return sum(map(len, tokenizer.encode_batch(job.domain))) / max(1, sum(len(text.encode()) for text in job.domain))


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
