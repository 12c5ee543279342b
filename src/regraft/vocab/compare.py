"""Every start of new rows on the same tokenizer change, beside the untouched model, in one table.

Enters: a model, text, the names of methods. Leaves: one row a method, also where another failed, as a table, JSON and one HTML page. Rows
are kept as they finish, so that an interrupted comparison goes on where it stopped.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.evaluation import score_text
from regraft.meter import metered
from regraft.method import list_methods, resolve
from regraft.output import check_outside
from regraft.progress import console, progress_bar
from regraft.report import Report
from regraft.training import SHORT, Training, train
from regraft.vocab.compare_budget import affordable, shrunk
from regraft.vocab.compare_report import comparison_report
from regraft.vocab.compare_rows import KeptRows, Outcome, Row, fingerprint, rank, set_behind
from regraft.vocab.hull import share_outside
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.job import Job, Stage, TokenizerRequest
from regraft.vocab.live import check_placement, install, matmul_precision
from regraft.vocab.transplant import Transplant, transplant

UNTOUCHED = "untouched"
SCORE_BYTES = 40_000  # of each text, for each of some twenty methods twice; `adapt` scores more, for it scores one
DEFAULT_TRAINING = Training(steps=10, **SHORT)
QUALITY = ("bits_per_byte", "bits_per_byte_after", "ordinary_bits_per_byte", "greedy_hits")


@dataclass
class Comparison:
    """`rows` as `regraft compare --json` prints them, best first after the untouched model; `outcomes` has curves and notes by method.

    `share` is how much of the text and of each step `within` left.
    """

    rows: list[Row]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    report: Report | None = None
    share: float = 1.0


def compare(
    model: str | Path,
    *,
    corpus: Sequence[str | Path],
    methods: Sequence[str] | str = "all",
    out: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    training: Training | None = DEFAULT_TRAINING,
    within: float | None = None,
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
    within : minutes in which all should end on this machine. Where the whole would take longer, less held-out text is scored and smaller
        batches are trained on, alike for all methods; the notes say how much. None shrinks nothing.
    request : `extend`, `replace`, `words`, `trim`, `route`, `widen_pretokenizer`; see `TokenizerRequest`.

    score_bytes : of each text; None scores all.

    The other parameters are those of `adapt`. A method that fails has its message in `error`; the others go on.
    """
    began = time.perf_counter()
    chosen = starts(methods, settings or {})
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
        live = _Live(job, training, dtype, device)
        share = 1.0
        if within is not None and live.model is not None:
            share = live.shrink(chosen, kept, within, began)
        comparison, best = run_all(live, chosen, kept)
    comparison.share = share
    comparison.rows[1:] = sorted(comparison.rows[1:], key=rank)
    set_behind(comparison.rows, comparison.outcomes)
    comparison.report = comparison_report(live.job, comparison.rows, comparison.outcomes, best, live.budget())
    if out:
        Path(out, "comparison.json").write_text(
            json.dumps({"rows": comparison.rows, "share": share}, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        comparison.report.save_html(Path(out) / "comparison.html")
    return comparison


def run_all(live: "_Live", chosen: Sequence[Initializer], kept: KeptRows) -> tuple[Comparison, Transplant | None]:
    """Every method's row, kept as soon as it is there; also the tables of the best method measured here, to look at."""
    key = fingerprint(live.job, live.training, live.dtype)
    untouched = kept.found(key, UNTOUCHED) or kept.keep(key, UNTOUCHED, live.untouched())
    comparison = Comparison([untouched.row], {UNTOUCHED: untouched})
    best: tuple[tuple[bool, float], Transplant] | None = None
    with progress_bar("comparing", total=len(chosen), unit="methods") as bar:
        for start in chosen:
            bar.say(start.name)
            settings = f"{start.name} {start}"
            measured, result = kept.found(key, settings), None
            if measured is None:
                measured, result = live.measure(start)
                kept.keep(key, settings, measured)
            if result is not None and (best is None or rank(measured.row) < best[0]):
                best = (rank(measured.row), result)
            comparison.rows.append(with_drift(measured.row, untouched.row))
            comparison.outcomes[start.name] = measured
            bar.advance()
    return comparison, best and best[1]


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

    def __init__(self, job: Job, training: Training | None, dtype: str, device: str) -> None:
        self.job, self.training, self.dtype = job, training, dtype
        self.model: Any = None
        self.measured: dict[str, Outcome] = {}
        self.states: dict[bytes, Any] = {}  # of ordinary text, for all starts under which they are the same
        if job.scorable:
            self.model, self.old_tokenizer, self.new_tokenizer = job.load(dtype, device)
            self.untrained = {name: p.detach().clone() for name, p in self._outside_tables().items()}
        else:
            console.print("  the model has no language-model head: only tokenization and cost are compared", style="yellow")

    def shrink(self, chosen: Sequence[Initializer], kept: KeptRows, within: float, began: float) -> float:
        """Take from here on only the share of text and steps with which all of `chosen` end `within` minutes of `began`."""
        key = fingerprint(self.job, self.training, self.dtype)
        share = kept.share(key)
        if share is None:
            seconds = 60 * within - (time.perf_counter() - began)
            share = affordable(self.model, self.old_tokenizer, self.job, chosen, self.training, seconds)
            kept.keep_share(key, share)
        if share < 1:
            self.job, self.training = shrunk(self.job, self.training, share)
            console.print(f"  for all methods to end in {within:g} minutes here: {self.budget()}", highlight=False)
        return share

    def budget(self) -> str:
        """How much is scored and trained on, in words."""
        said = f"{sum(len(text.encode()) for text in self.job.domain):,} bytes"
        if self.training is None or self.model is None:
            return said
        size = self.training.batch_size * self.training.accumulate * self.training.block
        length = {name: getattr(self.training, name) for name in ("steps", "minutes", "epochs")}
        spent = ", ".join(f"{value:g} {name}" for name, value in length.items() if value is not None)
        return f"{said}; {spent}, {size:,} tokens a step"

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

    def measure(self, start: Initializer) -> tuple[Outcome, Transplant | None]:
        """One method: start, score, train, score; what went wrong instead, if something did."""
        measured = Outcome(blank_row(start.name))
        context = replace(self.job.context, memory={}, notes=measured.notes)  # each method pays for what it learns, and nothing of it stays
        try:
            with metered() as cost:
                result = transplant(self.job.checkpoint, self.job.tokenizer, self.job.change, start, context)
            measured.row |= {
                "seconds": cost.seconds,
                "peak_mb": cost.peak_mb,
                "in_hull": self.in_hull(result),
                "tokens_per_byte": tokens_per_byte(self.job, new=True),
            }
            if self.model is not None:
                self.score_and_train(measured, result)
            return measured, result
        except Exception as error:  # whatever it is, the other methods go on
            measured.row["error"] = f"{type(error).__name__}: {error}"
            return measured, None
        finally:
            for note in measured.notes:
                console.print(f"  {note}", highlight=False, markup=False)
            if self.model is not None:
                self._put_back()

    def score_and_train(self, measured: Outcome, result: Transplant) -> None:
        """Fill in what text costs before and after training; tables that were measured before are not measured again."""
        digest = result.digest()
        same = self.measured.get(digest)
        if same is not None:  # starts often agree, as where a donor lacks all the new tokens
            measured.row |= {name: same.row[name] for name in QUALITY}
            measured.curve, measured.document_bits, measured.document_bytes = same.curve, same.document_bits, same.document_bytes
            return
        install(self.model, result)
        kept = self.states if self.reads_as_before(result) else None
        self.scored(measured, self.job.score(measured.row["method"], self.model, self.new_tokenizer, kept=kept))
        if self.training is not None:
            self.train(measured)
        self.measured[digest] = measured

    def reads_as_before(self, result: Transplant) -> bool:
        """Whether text without new tokens gives the untouched model's hidden states: no layer came with the rows, no old row is another."""
        checkpoint, source_ids = self.job.checkpoint, torch.from_numpy(self.job.change.source_ids)
        if result.layers or result.primitives is not None or checkpoint.layout.kind != "decoder":
            return False
        kept = torch.nonzero(source_ids >= 0).flatten()
        return torch.equal(result.input[kept], checkpoint.read(checkpoint.layout.input[0])[source_ids[kept]])

    def in_hull(self, result: Transplant) -> float | None:
        """Share of the new rows that are certain to be in the hull of the old ones; None if nothing is certain."""
        if result.certificate is not None:
            return result.certificate.inside
        return 0.0 if share_outside(result, self.job.checkpoint, self.job.tokenizer.vocab_size) == 1.0 else None

    def train(self, measured: Outcome) -> None:
        """Bits per byte after the budget, and the curve: from step 0 to there, or what was measured of a small sample on the way."""
        assert self.training is not None
        new_ids = self.job.change.new_ids.tolist()
        texts = self.job.corpus.documents("train")
        watch = None if self.training.evaluate_every is None else self.job.watcher(self.new_tokenizer)
        run = train(
            self.model, self.new_tokenizer, texts, self.training, new_ids=new_ids, replay_texts=self.job.replay or None, on_evaluate=watch
        )
        after = score_text(self.model, self.new_tokenizer, self.job.domain)
        ends = [(0.0, measured.row["bits_per_byte"]), (run.seconds, after.bits_per_byte)]
        measured.curve = [(point.seconds, point.bits_per_byte) for point in run.curve] or ends
        measured.row["bits_per_byte_after"] = after.bits_per_byte
        measured.keep_documents(after)


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
