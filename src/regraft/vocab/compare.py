"""Every start of new rows on the same tokenizer change, beside the untouched model, in one table.

Enters: a model, text, the names of methods. Leaves: one row a method, also where another failed, as a table, JSON and one HTML page. First
every start is made and scored, then the best of them are trained. Rows are kept as they finish, so that an interrupted comparison goes on
where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regraft.comparison import Arm, Kept, Outcome, ranked, run, save
from regraft.comparison.outcome import Row
from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.language.loading import check_placement
from regraft.language.precision import matmul_precision
from regraft.method import list_methods, resolve
from regraft.output import check_outside
from regraft.report import Report
from regraft.training import SHORT, Training
from regraft.vocab.bench import METRIC, UNTOUCHED, StartBench
from regraft.vocab.change.request import TokenizerRequest
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.job import Job
from regraft.vocab.report.compare_report import comparison_report

SCORE_BYTES = 10_000  # of each text, for each of some twenty methods; `adapt` scores more, for it scores one
FINALISTS = 5
GENTLE = {"lr": 5e-4, "warmup": 0.3}  # in ten steps; at twice the rate some go astray, and then the order of the starts is chance
DEFAULT_TRAINING = Training(steps=10, **SHORT | GENTLE)
ROWS = "rows.jsonl"


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

    Notes
    -----
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
    with matmul_precision(dtype, device):
        bench = StartBench(job, training, finalists)
        arms = [Arm(start.name, start) for start in chosen]
        outcomes = run(bench, arms, finalists if training is not None else 0, Kept(Path(out) if out else None, ROWS))
    rows = ranked([with_drift(outcome.row, outcomes[UNTOUCHED].row) for outcome in outcomes.values()], outcomes, METRIC)
    best = None if len(rows) < 2 else bench.tables.get(outcomes[rows[1]["method"]].digest)
    report = comparison_report(job, rows, outcomes, best, bench.budget(rows))
    if out:
        save(out, {"rows": rows}, report)
    return Comparison(rows, outcomes, report)


def starts(methods: Sequence[str] | str, settings: Mapping[str, Mapping[str, Any]]) -> list[Initializer]:
    """The named initializers, or all of them."""
    if methods == "all" or list(methods) == ["all"]:
        names = [cls.name for cls in list_methods("initializer")]
    else:
        names = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    if not names:
        raise ParameterError("--methods names no method: give names separated by commas, or all; `regraft methods` lists them")
    return [resolve("initializer", name, settings.get(name)) for name in names]


def with_drift(row: Row, untouched: Row) -> Row:
    """The row with its change on ordinary text against the untouched model's."""
    if row.get("ordinary_bits_per_byte") is None or untouched.get("ordinary_bits_per_byte") is None:
        return row
    return row | {"drift_bits_per_byte": row["ordinary_bits_per_byte"] - untouched["ordinary_bits_per_byte"]}
