"""Every start of new rows on the same tokenizer change, beside the untouched model, in one table.

Enters: a model, text, the names of methods. Leaves: one row a method, also where another failed, as a table, JSON and one HTML page. Rows
are kept as they finish, so that an interrupted comparison goes on where it stopped.
"""

import hashlib
import json
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
from regraft.report.figures import bars, token_lengths, trade_off, training_curves
from regraft.report.segmentation import nearest_html, segmentation_html
from regraft.training import SHORT, Training, train
from regraft.vocab.hull import share_outside
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.job import Job, Stage, TokenizerRequest
from regraft.vocab.live import check_placement, install, matmul_precision
from regraft.vocab.transplant import Transplant, transplant
from regraft.vocab.vector_files import open_vectors
from regraft.vocab.views import nearest_old_tokens, sample_segmentations

UNTOUCHED = "untouched"
SCORE_BYTES = 40_000  # of each text, for each of some twenty methods twice; `adapt` scores more, for it scores one
DEFAULT_TRAINING = Training(steps=10, **SHORT)
Row = dict[str, Any]


@dataclass
class Comparison:
    """`rows` as `regraft compare --json` prints them, best first after the untouched model; `curves` of training and `notes` by method."""

    rows: list[Row]
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    report: Report | None = None


def compare(
    model: str | Path,
    *,
    corpus: Sequence[str | Path],
    methods: Sequence[str] | str = "all",
    out: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    training: Training | None = DEFAULT_TRAINING,
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
    request : `extend`, `replace`, `words`, `trim`, `route`, `widen_pretokenizer`; see `TokenizerRequest`.

    score_bytes : of each text; None scores all.

    The other parameters are those of `adapt`. A method that fails has its message in `error`; the others go on.
    """
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
    kept = KeptRows(Path(out) if out else None, fingerprint(job, training, dtype))
    with matmul_precision(dtype, device):
        comparison, best = run_all(_Live(job, training, dtype, device), chosen, kept)
    comparison.rows[1:] = sorted(comparison.rows[1:], key=rank)
    comparison.report = comparison_report(job, comparison, best)
    if out:
        Path(out, "comparison.json").write_text(json.dumps({"rows": comparison.rows}, indent=1, ensure_ascii=False), encoding="utf-8")
        comparison.report.save_html(Path(out) / "comparison.html")
    return comparison


def run_all(live: "_Live", chosen: Sequence[Initializer], kept: "KeptRows") -> tuple[Comparison, Transplant | None]:
    """Every method's row, kept as soon as it is there; also the tables of the best method measured here, to look at."""
    comparison = Comparison([kept.row(UNTOUCHED) or kept.keep(UNTOUCHED, live.untouched())])
    best: tuple[tuple[bool, float], Transplant] | None = None
    with progress_bar("comparing", total=len(chosen), unit="methods") as bar:
        for start in chosen:
            bar.say(start.name)
            settings = f"{start.name} {start}"
            row, result, curve, notes = kept.row(settings), None, kept.curve(settings), kept.notes(settings)
            if row is None:
                row, result, curve = live.measure(start)
                notes = live.notes[start.name]
                kept.keep(settings, row, curve, notes)
            if result is not None and (best is None or rank(row) < best[0]):
                best = (rank(row), result)
            comparison.rows.append(with_drift(row, comparison.rows[0]))
            if curve:
                comparison.curves[start.name] = curve
            if notes:
                comparison.notes[start.name] = notes
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


def rank(row: Row) -> tuple[bool, float]:
    """Best first: by bits per byte after training where measured, else at step 0; failures last."""
    after = row["bits_per_byte_after"]
    value = after if after is not None else row["bits_per_byte"]
    return (value is None, value if value is not None else row["drift_bits_per_byte"] or 0.0)


class _Live:
    """The loaded model, whose tables are exchanged method by method and whose trained tensors are put back after each."""

    def __init__(self, job: Job, training: Training | None, dtype: str, device: str) -> None:
        self.job, self.training = job, training
        self.model: Any = None
        self.measured: dict[str, tuple[Row, list[tuple[float, float]]]] = {}
        self.notes: dict[str, list[str]] = {}
        self.states: dict[bytes, Any] = {}  # of ordinary text, for all starts under which they are the same
        if job.scorable:
            self.model, self.old_tokenizer, self.new_tokenizer = job.load(dtype, device)
            self.untrained = {name: p.detach().clone() for name, p in self._outside_tables().items()}
        else:
            console.print("  the model has no language-model head: only tokenization and cost are compared", style="yellow")

    def untouched(self) -> Row:
        row = blank_row(UNTOUCHED) | {"tokens_per_byte": tokens_per_byte(self.job, new=False)}
        if self.model is not None:
            stage = self.job.score(UNTOUCHED, self.model, self.old_tokenizer, new=False)
            row |= stage_figures(stage) | {"drift_bits_per_byte": 0.0}
        return row

    def _outside_tables(self) -> dict[str, torch.nn.Parameter]:
        modules = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tables = {id(p) for module in modules if module is not None for p in module.parameters()}  # primitives of factorised ones too
        return {name: p for name, p in self.model.named_parameters() if id(p) not in tables}

    def _put_back(self) -> None:
        """Every parameter outside the tables as the files hold it, whatever the last method has trained."""
        with torch.no_grad():
            for name, parameter in self._outside_tables().items():
                parameter.copy_(self.untrained[name])

    def measure(self, start: Initializer) -> tuple[Row, Transplant | None, list[tuple[float, float]]]:
        """One row: start, score, train, score; what went wrong instead, if something did."""
        row = blank_row(start.name)
        curve: list[tuple[float, float]] = []
        context = replace(self.job.context, memory={}, notes=[])  # each method pays for what it learns, and nothing of it stays
        try:
            with metered() as cost:
                result = transplant(self.job.checkpoint, self.job.tokenizer, self.job.change, start, context)
            row |= {
                "seconds": cost.seconds,
                "peak_mb": cost.peak_mb,
                "in_hull": self.in_hull(result),
                "tokens_per_byte": tokens_per_byte(self.job, new=True),
            }
            if self.model is not None:
                digest = result.digest()
                if digest not in self.measured:  # starts often agree, as where a donor lacks all the new tokens
                    install(self.model, result)
                    kept = self.states if self.reads_as_before(result) else None
                    row |= stage_figures(self.job.score(start.name, self.model, self.new_tokenizer, kept=kept))
                    after = None
                    if self.training is not None:
                        after, curve = self.train(row["bits_per_byte"])
                    quality = ("bits_per_byte", "ordinary_bits_per_byte", "greedy_hits")
                    self.measured[digest] = {name: row[name] for name in quality} | {"bits_per_byte_after": after}, curve
                figures, curve = self.measured[digest]
                row |= figures
            return row, result, curve
        except Exception as error:  # whatever it is, the other methods go on
            return row | {"error": f"{type(error).__name__}: {error}"}, None, curve
        finally:
            self.notes[start.name] = context.notes
            for note in context.notes:
                console.print(f"  {note}", highlight=False, markup=False)
            if self.model is not None:
                self._put_back()

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

    def train(self, before: float) -> tuple[float, list[tuple[float, float]]]:
        """Bits per byte after the budget, and the curve: from `before` to there, or what was measured of a small sample on the way."""
        assert self.training is not None
        new_ids = self.job.change.new_ids.tolist()
        texts = self.job.corpus.documents("train")
        watch = None if self.training.evaluate_every is None else self.job.watcher(self.new_tokenizer)
        run = train(
            self.model, self.new_tokenizer, texts, self.training, new_ids=new_ids, replay_texts=self.job.replay or None, on_evaluate=watch
        )
        after = score_text(self.model, self.new_tokenizer, self.job.domain).bits_per_byte
        seen = [(point.seconds, point.bits_per_byte) for point in run.curve]
        return after, seen or [(0.0, before), (run.seconds, after)]


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


def fingerprint(job: Job, training: Training | None, dtype: str) -> str:
    """Identifies a comparison: rows of another model, corpus, tokenizer change, aid or budget are not reused."""
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


class KeptRows:
    """Rows of finished methods in `rows.jsonl`, by method with its settings; reused when the fingerprint is the same."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self.path, self.key = folder and folder / "rows.jsonl", key
        self.found: dict[str, dict[str, Any]] = {}
        if self.path and self.path.is_file():
            for line in self.path.read_text("utf-8").splitlines():
                entry = json.loads(line)
                if entry["key"] == key and entry["row"]["error"] is None:
                    self.found[entry.get("settings", "")] = entry

    def row(self, settings: str) -> Row | None:
        return self.found[settings]["row"] if settings in self.found else None

    def curve(self, settings: str) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in self.found.get(settings, {}).get("curve", [])]

    def notes(self, settings: str) -> list[str]:
        return [str(note) for note in self.found.get(settings, {}).get("notes", [])]

    def keep(self, settings: str, row: Row, curve: Sequence[tuple[float, float]] = (), notes: Sequence[str] = ()) -> Row:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            entry = {"key": self.key, "settings": settings, "row": row, "curve": list(curve), "notes": list(notes)}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        return row


def comparison_report(job: Job, comparison: Comparison, result: Transplant | None) -> Report:
    """The table, the plots and the samples of a comparison."""
    new = len(job.change.new_ids)
    report = Report(f"{job.checkpoint.path.name}: {len(comparison.rows) - 1} ways to start {new:,} new tokens", comparison_lead(comparison))
    untouched = comparison.rows[0]["bits_per_byte"]
    best = {"bits_per_byte": "low", "bits_per_byte_after": "low", "seconds": "low", "peak_mb": "low"}
    report.add_table("Methods", comparison.rows, "Per byte of held-out text; drift is the change on ordinary text.", best=best)  # type: ignore[arg-type]
    if comparison.notes:
        notes = [{"method": name, "note": note} for name, said in comparison.notes.items() for note in said]
        report.add_table("Notes", notes, "What the methods had to say.")
    if untouched is not None:
        report.add_figure(
            "Quality against length", trade_off(comparison.rows), "Lower left is better; larger marks drift more on ordinary text."
        )
        report.add_figure("Step 0", bars({row["method"]: row["bits_per_byte"] for row in comparison.rows}, title="bits per byte"))
    if comparison.curves:
        report.add_figure(
            "Training",
            training_curves(comparison.curves, untouched=untouched),
            "Bits per byte of held-out text against time; of a small sample of it where it is also measured between the ends.",
        )
    report.add_html("Before and after", segmentation_html(sample_segmentations(job)), "Held-out passages as each tokenizer cuts them.")
    report.add_figure("Length of the new pieces", token_lengths([job.change.tokenizer.surface(int(i)) for i in job.change.new_ids]))
    if result is not None:
        report.add_html(
            "Nearest old tokens", nearest_html(nearest_old_tokens(job, result)), "By cosine of input rows, best method, before training."
        )
    return report


def comparison_lead(comparison: Comparison) -> str:
    """Which method came first, and against what."""
    reference, ranked = comparison.rows[0], [row for row in comparison.rows[1:] if row["bits_per_byte"] is not None]
    if not ranked or reference["bits_per_byte"] is None:
        return "No method could be scored."
    after = ranked[0]["bits_per_byte_after"]
    said = f"{ranked[0]['method']} comes first with {ranked[0]['bits_per_byte']:.3f} bits per byte at step 0"
    said += f" and {after:.3f} after training" if after is not None else ""
    return said + f"; the untouched model needs {reference['bits_per_byte']:.3f}."
