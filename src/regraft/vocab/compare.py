"""Every start of new rows on the same tokenizer change, beside the untouched model, in one table.

Enters: a model, text, the names of methods. Leaves: one row a method, also where another failed, as a table, JSON and one HTML page. First
every start is made and scored, then the best of them are trained. Rows are kept as they finish, so that an interrupted comparison goes on
where it stopped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.evaluation import score_text
from regraft.language.loading import check_placement
from regraft.language.precision import matmul_precision
from regraft.meter import metered
from regraft.method import list_methods, resolve
from regraft.output import check_outside
from regraft.progress import console, progress_bar
from regraft.report import Report
from regraft.training import SHORT, Training, train
from regraft.vocab.change.request import TokenizerRequest
from regraft.vocab.compare_rows import KeptRows, Outcome, Row, best_starts, fingerprint, rank, set_behind
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.job import Job, Stage
from regraft.vocab.report.compare_report import comparison_report
from regraft.vocab.transplant.hull import share_outside
from regraft.vocab.transplant.installed import install
from regraft.vocab.transplant.transplant import Transplant, transplant

UNTOUCHED = "untouched"
SCORE_BYTES = 10_000  # of each text, for each of some twenty methods; `adapt` scores more, for it scores one
FINALISTS = 5
FEW = 16
GENTLE = {"lr": 5e-4, "warmup": 0.3}  # in ten steps; at twice the rate some go astray, and then the order of the starts is chance
DEFAULT_TRAINING = Training(steps=10, **SHORT | GENTLE)


@dataclass
class Comparison:
    """`rows` as `regraft compare --json` prints them, best first after the untouched model; `outcomes` has curves and notes by method."""

    rows: list[Row]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    report: Report | None = None


def compare(
    model: str | Path,
    *,
    corpus: Sequence[str | Path],
    methods: Sequence[str] | str = "all",
    out: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    training: Training | None = DEFAULT_TRAINING,
    finalists: int | None = FINALISTS,
    source_text: Sequence[str | Path] | None = None,
    aids: Aids | None = None,
    text_column: str | None = None,
    held_out: float = 0.1,
    score_bytes: int | None = SCORE_BYTES,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    **request: Any,
) -> Comparison:
    """Run `methods` on one tokenizer change and measure each beside the untouched model.

    Parameters
    ----------
    methods : names, or "all".
    out : directory for `comparison.json`, `comparison.html` and the rows of finished methods; None keeps nothing.
    settings : hyper-parameters by method name.
    training : the same small budget for every method; None leaves `bits_per_byte_after` empty.
    finalists : how many starts are trained: the best at step 0, by bits per byte; None trains all. The rows of the others have no figure
        after training and come behind.
    request : `extend`, `replace`, `words`, `trim`, `route`, `widen_pretokenizer`; see `TokenizerRequest`.

    score_bytes : of each text; None scores all.

    The other parameters are those of `adapt`. A method that fails has its message in `error`; the others go on.
    """
    chosen = starts(methods, settings or {})
    if finalists is not None and finalists < 1:
        raise ParameterError(f"finalists={finalists}: train at least one start, or none at all with training=None (--train 0)")
    check_placement(dtype, device)
    if out is not None:
        check_outside(out, [Path(model)] if Path(model).exists() else [])
    job = Job.prepare(
        model,
        Corpus.open(corpus, held_out=held_out, text_column=text_column),
        TokenizerRequest(**request),
        source_text=source_text,
        replay=training is not None and training.replay > 0,
        score_bytes=score_bytes,
        seed=seed,
        aids=aids,
        device=device,
        dtype=dtype,
    )
    job.check_text()
    if job.scorable and training is not None:
        job.check_blocks(training)
    kept = KeptRows(Path(out) if out else None)
    with matmul_precision(dtype, device):
        live = _Live(job, training, finalists, dtype, device)
        comparison = run_all(live, chosen, kept)
    comparison.rows[1:] = sorted(comparison.rows[1:], key=rank)
    set_behind(comparison.rows, comparison.outcomes)
    best = None if len(comparison.rows) < 2 else live.tables.get(comparison.outcomes[comparison.rows[1]["method"]].digest)
    comparison.report = comparison_report(job, comparison.rows, comparison.outcomes, best, live.budget(comparison.rows))
    if out:
        Path(out, "comparison.json").write_text(json.dumps({"rows": comparison.rows}, indent=1, ensure_ascii=False), encoding="utf-8")
        comparison.report.save_html(Path(out) / "comparison.html")
    return comparison


def run_all(live: "_Live", chosen: Sequence[Initializer], kept: KeptRows) -> Comparison:
    """Every method's row, kept as soon as it is there: first all starts, then the training of the best."""
    key, key_trained = (fingerprint(live.job, training, live.dtype) for training in (None, live.training))
    outcomes = {UNTOUCHED: kept.found(key, UNTOUCHED) or kept.keep(key, UNTOUCHED, live.untouched())}
    by_name = {start.name: start for start in chosen}
    settings = {name: f"{name} {start}" for name, start in by_name.items()}

    def keep(measured: Outcome) -> Outcome:  # at step 0 a row is the same whatever the training
        name, trained = measured.row["method"], measured.row["bits_per_byte_after"] is not None
        return kept.keep(key_trained if trained else key, settings[name], measured)

    with progress_bar("comparing", total=len(chosen), unit="methods") as bar:
        for name, start in by_name.items():
            bar.say(name)
            found = kept.found(key_trained, settings[name]) or kept.found(key, settings[name])
            outcomes[name] = found or keep(live.measure(start))
            bar.advance()
    final = best_starts([outcomes[name] for name in by_name], live.finalists) if live.training is not None else []
    with progress_bar("training the best", total=len(final), unit="starts") as bar:
        for name in final:
            bar.say(name)
            if outcomes[name].row["bits_per_byte_after"] is None:
                outcomes[name] = keep(live.trained(by_name[name], outcomes[name]))
            bar.advance()
    rows = [with_drift(outcome.row, outcomes[UNTOUCHED].row) for outcome in outcomes.values()]
    return Comparison(rows, outcomes)


def starts(methods: Sequence[str] | str, settings: Mapping[str, Mapping[str, Any]]) -> list[Initializer]:
    """The named initializers, or all of them."""
    if methods == "all" or list(methods) == ["all"]:
        names = [cls.name for cls in list_methods("initializer")]
    else:
        names = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    if not names:
        raise ParameterError("--methods names no method: give names separated by commas, or all; `regraft methods` lists them")
    return [resolve("initializer", name, settings.get(name)) for name in names]


class _Live:
    """The loaded model, whose tables are exchanged method by method and whose trained tensors are put back after each."""

    def __init__(self, job: Job, training: Training | None, finalists: int | None, dtype: str, device: str) -> None:
        self.job, self.training, self.finalists, self.dtype = job, training, finalists, dtype
        self.model: Any = None
        self.measured: dict[str, Outcome] = {}  # by the digest of the tables
        self.tables: dict[str, Transplant] = {}  # of the starts that may be trained, by digest
        self.states: dict[bytes, Any] = {}  # of ordinary text, for all starts under which they are the same
        if job.scorable:
            self.model, self.old_tokenizer, self.new_tokenizer = job.load(dtype, device)
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
        every = all(row["bits_per_byte_after"] is not None for row in rows[1:] if row["error"] is None)
        which = "all starts" if every else f"the best {self.finalists} at step 0"
        return f"{said}; {which} trained: {spent}, {size:,} tokens a step"

    def untouched(self) -> Outcome:
        measured = Outcome(blank_row(UNTOUCHED) | {"tokens_per_byte": tokens_per_byte(self.job, new=False)})
        if self.model is not None:
            self.scored(measured, self.job.score(UNTOUCHED, self.model, self.old_tokenizer, new=False))
            measured.row["drift_bits_per_byte"] = 0.0
        return measured

    def scored(self, measured: Outcome, stage: Stage) -> None:
        measured.row |= stage_figures(stage)
        if stage.domain is not None:
            measured.keep_documents(stage.domain)

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
            yield
        except Exception as error:
            measured.row["error"] = f"{type(error).__name__}: {error}"
        finally:
            if self.model is not None:
                self._put_back()

    def measure(self, start: Initializer) -> Outcome:
        """One method at step 0; trained too where all are, for then no tables need wait."""
        measured, result = self.make(start)
        if result is not None:
            if self.finalists is None:
                with self.alone(measured):
                    self.train(measured, result)
            self.keep_tables(measured, result)
        return measured

    def trained(self, start: Initializer, measured: Outcome) -> Outcome:
        """The row of `start` with its training. Tables that an earlier call has made are made and scored anew."""
        result = self.tables.get(measured.digest)
        if result is None:
            measured, result = self.make(start)
        if result is not None:
            with self.alone(measured):
                self.train(measured, result)
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
            del self.tables[max(self.tables, key=lambda digest: rank(self.measured[digest].row))]

    def score(self, measured: Outcome, result: Transplant) -> None:
        """Fill in what text costs at step 0; tables that were measured before are not measured again."""
        same = self.measured.get(measured.digest)
        if same is not None:  # starts often agree, as where a donor lacks all the new tokens
            measured.take_figures(same)
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

    def train(self, measured: Outcome, result: Transplant) -> None:
        """Bits per byte after the budget, and the curve: from step 0 to there, or what was measured of a small sample on the way."""
        if self.training is None or self.model is None:
            return
        same = self.measured[measured.digest]
        if same.row["bits_per_byte_after"] is not None:
            measured.take_figures(same)
            return
        install(self.model, result)
        before = measured.row["bits_per_byte"]
        texts, replayed = self.job.corpus.documents("train"), self.job.replay or None
        watch = None if self.training.evaluate_every is None else self.job.watcher(self.new_tokenizer)
        new_ids = self.job.change.new_ids.tolist()
        run = train(self.model, self.new_tokenizer, texts, self.training, new_ids=new_ids, replay_texts=replayed, on_evaluate=watch)
        after = score_text(self.model, self.new_tokenizer, self.job.domain)
        ends = [(0.0, before), (run.seconds, after.bits_per_byte)]
        measured.curve = [(point.seconds, point.bits_per_byte) for point in run.curve] or ends
        measured.row["bits_per_byte_after"] = after.bits_per_byte
        if after.bits_per_byte > before:
            measured.notes.append(
                f"{measured.row['method']}: training made it worse, {before:.3f} to {after.bits_per_byte:.3f} bits per byte. A short "
                f"training can go astray: another --seed or a lower rate (--train-set lr={self.training.lr / 2:g}) tells whether the start "
                "is to blame"
            )
            say(measured.notes[-1:])
        measured.keep_documents(after)
        self.measured[measured.digest] = measured


def say(notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"  {note}", highlight=False, markup=False)


def with_drift(row: Row, untouched: Row) -> Row:
    """The row with its change on ordinary text against the untouched model's."""
    if row.get("ordinary_bits_per_byte") is None or untouched.get("ordinary_bits_per_byte") is None:
        return row
    return row | {"drift_bits_per_byte": row["ordinary_bits_per_byte"] - untouched["ordinary_bits_per_byte"]}


def blank_row(method: str) -> Row:
    names = (
        "bits_per_byte",
        "bits_per_byte_after",
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
        "bits_per_byte": stage.domain and stage.domain.bits_per_byte,
        "ordinary_bits_per_byte": stage.ordinary and stage.ordinary.bits_per_byte,
        "greedy_hits": stage.greedy_hits,
    }


def tokens_per_byte(job: Job, *, new: bool) -> float:
    tokenizer = job.change.tokenizer if new else job.tokenizer
    return sum(map(len, tokenizer.encode_batch(job.domain))) / max(1, sum(len(text.encode()) for text in job.domain))
