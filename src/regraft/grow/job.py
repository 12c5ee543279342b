"""The job of every kind of growth: a checkpoint in another size, trained for a while if asked, measured before and after.

Enters: a checkpoint, a method, a size, text. Leaves: an ordinary checkpoint with `regraft.json` and a report, which appears whole or not at
all, and figures.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.corpus.sampling import sample_texts, say_skipped
from regraft.errors import CorpusError, ParameterError
from regraft.evaluation import Score, score_text
from regraft.grow.grower import Context, Grower, Grown
from regraft.grow.report.growth import growth_report
from regraft.language.loading import check_placement, is_scorable, load_model
from regraft.language.precision import matmul_precision
from regraft.meter import metered
from regraft.output import atomic_directory, check_output, workplace
from regraft.progress import console, step
from regraft.report import Report
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.training import Training, TrainingRun, train

SCORE_BYTES = 30_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A checkpoint, and the text that it is measured and trained on.

    Attributes
    ----------
    checkpoint : what grows. corpus : text, or None: then nothing is scored or trained. scored : held-out documents.
    """

    checkpoint: Checkpoint
    corpus: Corpus | None
    scored: list[str]
    context: Context

    @classmethod
    def prepare(
        cls,
        model: str | Path,
        corpus: Sequence[str | Path] | None,
        context: Context,
        *,
        held_out: float = 0.1,
        text_column: str | None = None,
        score_bytes: int | None = SCORE_BYTES,
    ) -> "Job":
        """Open `model` and draw the text to score. Raises `InputError`s in one line, before any work."""
        check_placement(context.dtype, context.device)
        checkpoint = Checkpoint.open(model)
        opened = None if not corpus else Corpus.open(corpus, held_out=held_out, text_column=text_column)
        scored: list[str] = []
        if opened is not None:
            say_skipped(opened)
            scored = sample_texts(opened.documents("held-out"), score_bytes)
            if not scored:
                raise CorpusError(f"{opened.name}: nothing is held out to score: separate documents with blank lines, or raise --held-out")
        return cls(checkpoint=checkpoint, corpus=opened, scored=scored, context=dataclasses.replace(context, corpus=opened))

    @property
    def scorable(self) -> bool:
        """Whether there is text, and the model gives text a probability."""
        return bool(self.scored) and is_scorable(self.checkpoint)

    def tokenizer(self) -> Any:
        return load_tokenizer(Tokenizer.from_directory(self.checkpoint.path))

    def score(self, model: Any) -> Score:
        """What the held-out text costs under `model`, in bits per byte."""
        with matmul_precision(self.context.dtype, self.context.device):
            return score_text(model, self.tokenizer(), self.scored)

    def check_training(self, training: Training | None) -> None:
        """Raise an error in one line if `training` cannot be done. Asked before long work."""
        if training is None:
            return
        if self.corpus is None:
            raise ParameterError("training needs text: give some with --corpus")
        if not is_scorable(self.checkpoint):
            raise ParameterError(
                f"{self.checkpoint.path} has no language-model head, so there is nothing to train with: grow it without --train"
            )

    def trained(self, model: Any, training: Training, only: Sequence[str] | None = None, state: Path | None = None) -> TrainingRun:
        """Train `model` in place on the documents that are not scored; with `only`, just the parameters of these names."""
        assert self.corpus is not None
        if only is not None:
            wanted = set(only)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in wanted)
            training = dataclasses.replace(training, parameters="marked")
        texts = list(self.corpus.documents("train"))
        with matmul_precision(self.context.dtype, self.context.device):
            return train(model, self.tokenizer(), texts, training, directory=state)


@dataclasses.dataclass(frozen=True)
class Growth:
    """What `grow` did: the figures as `--json` prints them, and the report."""

    figures: dict[str, Any]
    report: Report


def grow(
    job: Job,
    method: Grower,
    size: Any,
    *,
    out: str | Path,
    training: Training | None = None,
    new_only: bool = False,
    score: bool = True,
    overwrite: bool = False,
) -> Growth:
    """Write `job.checkpoint` at `size` to `out` by `method`.

    Parameters
    ----------
    training : what the grown model is then trained for; None trains nothing. new_only : train just what is new.
    score : measure the untouched and the grown model on held-out text, if there is text.
    """
    out = Path(out)
    check_output(out, overwrite=overwrite, sources=[job.checkpoint.root])
    job.check_training(training)
    method.check(job.checkpoint, size, out, job.context)
    if new_only and training is None:
        raise ParameterError("--new-only says what is trained: give a budget with --train or --steps")
    scores: dict[str, Score] = {}
    run = None
    with metered() as total, workplace(out) as work:
        measured = score and job.scorable
        if measured:
            with step("scoring the untouched model"):
                scores["untouched"] = job.score(load_model(job.checkpoint, job.context.dtype, job.context.device))
        with metered() as growing, step(f"growing with {method.name}"):
            grown = method.grow(job.checkpoint, size, work / "grown", job.context)
        model = method.open(grown.out, job.context) if measured or training is not None else None
        if measured:
            with step("scoring the grown model"):
                scores["grown"] = job.score(model)
        if training is not None:
            run = job.trained(model, training, grown.new if new_only else None, job.context.state)
            if measured:
                with step("scoring the trained model"):
                    scores["trained"] = job.score(model)
            grown = dataclasses.replace(grown, out=_saved(model, grown.out, work / "trained"))
        job.context.notes.extend(linked_note(grown.out, job.checkpoint))
        for note in job.context.notes:
            console.print(f"  {note}", highlight=False, markup=False)
        figures = _figures(job, method, grown, scores, run) | {"seconds_to_grow": growing.seconds}
        report = growth_report(job.checkpoint.path.name, method, grown, scores, run, figures)
        _complete_record(job, grown.out, figures, training, new_only)
        report.save_html(grown.out / "report.html")
        with atomic_directory(out, overwrite=overwrite, sources=[job.checkpoint.root]) as temporary:
            for path in grown.out.iterdir():
                path.rename(temporary / path.name)
    return Growth(figures | {"out": str(out), "report": str(out / "report.html"), "seconds": round(total.seconds, 2)}, report)


def linked_note(folder: Path, source: Checkpoint) -> list[str]:
    """What to know of files of `folder` that are the source's own under a second name."""
    linked = [path for path in folder.rglob("*.safetensors") if path.stat().st_nlink > 1]
    if not linked:
        return []
    return [f"{len(linked)} files of weights are hard links to those of {source.path}: copy them before you change them in place"]


def _saved(model: Any, grown: Path, out: Path) -> Path:
    """The trained model in the files' own types, with everything else that lies in `grown`."""
    checkpoint = Checkpoint.open(grown)
    dtype = max((info.torch_dtype for info in checkpoint.tensors.values() if info.torch_dtype.is_floating_point), key=lambda t: t.itemsize)
    out.mkdir()
    for path in grown.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
            shutil.copy2(path, out / path.name)
    model.to(dtype).save_pretrained(out)
    return out


def _figures(job: Job, method: Grower, grown: Grown, scores: dict[str, Score], run: TrainingRun | None) -> dict[str, Any]:
    before, after = (_parameters(Checkpoint.open(path)) for path in (job.checkpoint.path, grown.out))
    figures: dict[str, Any] = {"method": method.name, "parameters_before": before, "parameters": after, **grown.facts}
    for name, one in scores.items():
        figures[name] = {"bits_per_byte": one.bits_per_byte, "interval": list(one.interval(job.context.seed))}
    if run is not None:
        figures["training"] = {"steps": run.steps, "tokens": run.tokens, "seconds": run.seconds}
    return figures


def _parameters(checkpoint: Checkpoint) -> int:
    import math

    return sum(math.prod(info.shape) for info in checkpoint.tensors.values())


def _complete_record(job: Job, folder: Path, figures: dict[str, Any], training: Training | None, new_only: bool) -> None:
    """Add what happened after the growth to regraft.json, and the hashes of the files as they are now."""
    path = folder / provenance.FILE
    about = json.loads(path.read_text("utf-8"))
    hashes = about.pop("files")
    about["metrics"] |= {name: value for name, value in figures.items() if name not in about["metrics"]}
    about["seed"] = job.context.seed
    about["notes"] += job.context.notes
    if job.corpus is not None:
        about["corpus"] = {"name": job.corpus.name, "sha256": job.corpus.sha256, "bytes": job.corpus.size_bytes}
    if training is not None:  # the weights are others now
        about["method"]["parameters"] |= {"training": dataclasses.asdict(training), "new_only": new_only}
        written = [*(name for name in hashes if not name.endswith(".safetensors")), *(one.name for one in folder.glob("*.safetensors"))]
        hashes = {name: provenance.sha256(folder / name) for name in written if (folder / name).is_file()}
    path.write_text(json.dumps(about | {"files": hashes}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
