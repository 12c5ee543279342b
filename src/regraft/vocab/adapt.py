"""The main job: a trained model gets a new vocabulary, and its user learns what that gained and cost.

Enters: a checkpoint and text. Leaves: a directory that opens in plain `transformers` (unless the start factorised the tables: then in
`regraft.export`), with the map of its new rows (`graft.npz`), its provenance (`regraft.json`) and a report
(`report.html`, `report.json`).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft import provenance
from regraft.checkpoint import Reshaped, Value, write
from regraft.errors import ParameterError
from regraft.graft.factors import KEY
from regraft.language.loading import check_placement
from regraft.language.model import LanguageModel
from regraft.language.precision import matmul_precision
from regraft.meter import Cost, metered
from regraft.method import resolve
from regraft.output import check_output
from regraft.progress import console, step
from regraft.report import Report
from regraft.training import Training, TrainingRun, train
from regraft.training.adapters import tied
from regraft.training.loop import check_fits
from regraft.training.trainable import will_train
from regraft.vocab.change.request import TokenizerRequest
from regraft.vocab.change.stored import mended_fields
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.job import Job, Stage
from regraft.vocab.report.adapt_report import adaptation_report
from regraft.vocab.transplant.elchat import ElChat, Repair, check_start, check_training, repair
from regraft.vocab.transplant.hull import share_outside
from regraft.vocab.transplant.installed import changed_tables, changed_tensors, check_writable, install, parted_head
from regraft.vocab.transplant.transplant import Transplant, full_graft, transplant

DEFAULT_METHOD = "constituent-mean"
SCORE_BYTES = 60_000


@dataclass(frozen=True)
class Adaptation:
    """What `adapt` did: where the checkpoint lies, the stages with their scores, and the report."""

    out: Path
    stages: list[Stage]
    training: TrainingRun | None
    transplant: Transplant
    report: Report
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """The stages with their scores, what training and ElChat did, and the trained tensors by their names on disk.

    `control` is the untouched model trained alike, with its old vocabulary.
    """

    stages: list[Stage] = field(default_factory=list)
    training: TrainingRun | None = None
    repair: Repair | None = None
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    control: Stage | None = None


def adapt(
    model: str | Path,
    *,
    corpus: Sequence[str | Path] = (),
    out: str | Path,
    extend: int | None = None,
    replace: str | Path | None = None,
    words: str | Path | None = None,
    trim: bool = False,
    ontology: Sequence[str] | None = None,
    route: str = "continued",
    widen_pretokenizer: bool = False,
    method: str = DEFAULT_METHOD,
    settings: Mapping[str, Any] | None = None,
    training: Training | None = None,
    elchat: ElChat | None = None,
    control: bool = False,
    source_text: Sequence[str | Path] | None = None,
    aids: Aids | None = None,
    text_column: str | None = None,
    held_out: float = 0.1,
    score: bool = True,
    score_bytes: int | None = SCORE_BYTES,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    pad_to_multiple_of: int = 1,
    state: str | Path | None = None,
    overwrite: bool = False,
) -> Adaptation:
    """Give `model` a new vocabulary and write the result to `out`.

    Parameters
    ----------
    model : a local checkpoint directory or a Hub id.
    corpus : files, folders or globs of text; documents are split by hash, and `held_out` of them are only ever scored. With an ontology it
        may be left out: concept names stand in for it, of which the held-out ones are not learned from.
    out : directory to write; appears whole or not at all.
    extend, replace, words, trim, ontology, route, widen_pretokenizer : see `TokenizerRequest`.
    method, settings : the start of the new rows (`regraft methods`) and its hyper-parameters.
    training : what to train afterwards, and for how long; None trains nothing.
    elchat : how the trained model is then mixed with the source, so that it forgets less; None leaves it as trained.
    control : train the untouched model alike too and score it, so that what the vocabulary gave parts from what the training gave.
    source_text : text in the model's own language for drift and replay; by default a page of everyday English.
    aids : what some methods need beside the corpus: a donor model, vectors, a dictionary, parallel text.
    score : load the model and score it before and after. Without it (and without `training`) only the tables are ever in memory.
    score_bytes : most bytes of each text to score, drawn by hash; None scores all of it.
    state : a directory for the state of training: the same call after a kill goes on from there. Removed at the end.
    device, dtype : where and how the model runs for scoring and training; the files keep their dtype.

    Raises
    ------
    InputError : anything that is wrong with the input, in one line; nothing is left behind.
    """
    out = Path(out)
    initializer: Initializer = resolve("initializer", method, settings)
    request = TokenizerRequest(
        extend=extend,
        replace=replace,
        words=words,
        trim=trim,
        ontology=ontology,
        start=initializer,
        route=route,
        widen_pretokenizer=widen_pretokenizer,
    )
    check_placement(dtype, device)
    if elchat is not None:
        check_training(training)
    if control and (training is None or not score):
        raise ParameterError("--control sets a trained model beside another: give --train, and let both be scored")
    if control and training is not None and _rows_alone(training):
        raise ParameterError("--control: only new rows train here, and the untouched model has none: train layers too (parameters=2x2)")
    if pad_to_multiple_of < 1:
        raise ParameterError(f"--pad-to-multiple-of {pad_to_multiple_of}: give 1 or more")
    check_output(out, overwrite=overwrite, sources=[Path(model)] if Path(model).exists() else [])
    with metered() as total:
        opened = request.open_corpus(corpus, held_out=held_out, text_column=text_column)
        replay = training is not None and training.replay > 0
        job = Job.prepare(
            model,
            opened,
            request,
            source_text=source_text,
            replay=replay,
            score_bytes=score_bytes,
            seed=seed,
            aids=aids,
            device=device,
            dtype=dtype,
        )
        if score:
            job.check_text()
        if training is not None:
            job.check_blocks(training)
        with step(f"starting {len(job.change.new_ids):,} rows with {initializer.name}"), matmul_precision(dtype, device):
            result = transplant(job.checkpoint, job.tokenizer, job.change, initializer, job.context, pad_to_multiple_of)
        if elchat is not None and training is not None:
            check_start(training, result)
        with matmul_precision(dtype, device):
            measured = measure(job, result, training, elchat, control=control, score=score, state=state)
    for note in job.context.notes:
        console.print(f"  {note}", highlight=False)
    stages, run = measured.stages, measured.training
    metrics = summarize(job, result, measured, total)
    report = adaptation_report(job, result, stages, run, initializer, metrics, measured.control)
    parameters = {"tokenizer": request.describe(), "training": training and asdict(training), "elchat": elchat and asdict(elchat)}
    run_record = provenance.record(
        job.checkpoint,
        "adapt",
        method=initializer.name,
        parameters=asdict(initializer) | parameters,
        seed=seed,
        corpus=job.corpus_record(),
        timings={"graft": result.cost.seconds, "total": total.seconds},
        metrics=metrics,
        notes=[*job.change.notes, *job.context.notes],
    )
    _write(job, result, measured.tensors, training, run, run_record, report, out, overwrite)
    if state is not None:
        shutil.rmtree(state, ignore_errors=True)
    return Adaptation(out, stages, run, result, report, metrics)


def measure(
    job: Job,
    result: Transplant,
    training: Training | None,
    elchat: ElChat | None = None,
    *,
    control: bool = False,
    score: bool,
    state: str | Path | None = None,
) -> Measured:
    """Score the untouched model, the grafted one, with `training` the trained one, and with `elchat` what is mixed of it and the source.

    With `control` the untouched model is trained alike and scored, too.
    """
    if not job.scorable:
        two = job.checkpoint.layout.kind == "encoder-decoder"
        why = "is an encoder-decoder, under which text alone has no likelihood" if two else "has no language-model head"
        if training is not None:
            raise ParameterError(f"{job.checkpoint.path} {why}, so there is nothing to train with: adapt it without --train")
        if score:
            console.print(f"  the model {why}: only tokenization is measured", style="yellow")
        return Measured()
    if not score and training is None:
        return Measured()
    model, old_tokenizer, new_tokenizer = job.load()
    if training is not None:  # before anything is scored
        check_fits(LanguageModel(model, old_tokenizer), training, job.replay or None)
    stages: list[Stage] = []

    def keep_score(name: str, what: str, tokenizer: Any, **options: Any) -> None:
        if score:
            with step(f"scoring the {what}"):
                stages.append(job.score(name, model, tokenizer, writing=True, **options))

    keep_score("untouched", "untouched model", old_tokenizer, new=False)
    beside = None
    if control and training is not None:
        beside = _control(job, model, old_tokenizer, training)
        model, old_tokenizer, new_tokenizer = job.load()
    install(model, result)
    keep_score("grafted", "new rows", new_tokenizer)
    if training is None:
        return Measured(stages)
    check_writable(model, job.checkpoint, will_train(model, training.parameters, job.change.new_ids, training.freeze_old_rows))
    run = train(
        model,
        new_tokenizer,
        list(job.corpus.documents("train")),
        training,
        new_ids=job.change.new_ids.tolist(),
        replay_texts=job.replay or None,
        on_evaluate=job.watcher(new_tokenizer),
        directory=state,
    )
    if run.stopped and training.steps is not None:
        said = f"  training ended after {run.steps} of {training.steps} steps: its {training.most_minutes:g} minutes were over"
        console.print(said, style="yellow", highlight=False)
    keep_score("trained", "trained model", new_tokenizer)
    repaired = None
    if elchat is not None:
        with step("mixing the trained model with the source (ElChat)"):
            repaired = repair(model, job, result, elchat)
        keep_score("mixed", "trained model mixed with the source", new_tokenizer)
    return Measured(stages, run, repaired, to_write(model, job, result, training), beside)


def _rows_alone(training: Training) -> bool:
    return training.parameters == "rows" or (training.parameters in ("embeddings", "2-stage") and training.freeze_old_rows)


def _control(job: Job, model: Any, tokenizer: Any, training: Training) -> Stage:
    """`model`, untouched, trained as the grafted one will be: the same parameters, without the new rows, which it has not."""
    alike = replace(training, evaluate_every=None)
    if training.freeze_old_rows:
        alike = replace(alike, freeze_old_rows=False, parameters="adapters" if training.parameters == "lora" else "marked")
        tables = {id(parameter) for parameter in will_train(model, "embeddings", (), False)}
        chosen = {id(parameter) for parameter in will_train(model, training.parameters, (), False)} - tables
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
    with step("training the untouched model alike, with its old vocabulary"):
        train(model, tokenizer, list(job.corpus.documents("train")), alike, replay_texts=job.replay or None)
    with step("scoring it"):
        return job.score("untouched, trained alike", model, tokenizer, new=False)


def to_write(model: Any, job: Job, result: Transplant, training: Training) -> dict[str, torch.Tensor]:
    """Tensors of the trained model to write: all that changed, or with ``lora_merge=False`` only what is not in the adapters."""
    if not training.keeps_adapters:
        return changed_tensors(model, job.checkpoint)
    if not training.lora_tables:
        return changed_tables(model, job.checkpoint)
    untied = job.checkpoint.layout.tied and not tied(model)
    return parted_head(model, job.checkpoint, result.input, result.bias) if untied else {}


def summarize(job: Job, result: Transplant, measured: Measured, total: Cost) -> dict[str, Any]:
    """Every figure of the run as plain numbers."""
    certificate = result.certificate
    return {
        "new_tokens": len(result.new_ids),
        "unreachable": len(job.change.unreachable),
        "rows": result.rows,
        "origins": result.origin_counts(),
        "rank": None if result.primitives is None else int(result.primitives.shape[0]),
        "fallback_rows": 0 if result.graft is None else len(result.graft.fallback),
        "in_hull": None if certificate is None else certificate.inside,
        "hull_slack": None if certificate is None else certificate.slack,
        "outside_hull": share_outside(result, job.checkpoint, job.tokenizer.vocab_size),
        "tokenization": tokenization(job),
        "coverage": None if job.change.companion is None else job.change.companion.measure(job.scored()),
        "stages": [stage.to_dict() for stage in measured.stages],
        "control": measured.control and measured.control.to_dict(),
        "training": measured.training and measured.training.to_dict(),
        "elchat": measured.repair and asdict(measured.repair),
        "graft_seconds": result.cost.seconds,
        "graft_peak_mb": result.cost.peak_mb,
        "seconds": total.seconds,
        "peak_mb": total.peak_mb,
    }


def tokenization(job: Job) -> dict[str, dict[str, float]]:
    """Tokens per byte of the scored texts under the old and the new tokenizer."""
    found = {}
    for name, texts in (("domain", job.domain), ("ordinary", job.ordinary)):
        size = sum(len(text.encode()) for text in texts)
        counts = [sum(map(len, tokenizer.encode_batch(texts))) for tokenizer in (job.tokenizer, job.change.tokenizer)]
        found[name] = {"bytes": size, "old_tokens_per_byte": counts[0] / max(1, size), "new_tokens_per_byte": counts[1] / max(1, size)}
    return found


def _write(
    job: Job,
    result: Transplant,
    trained: Mapping[str, torch.Tensor],
    training: Training | None,
    run: TrainingRun | None,
    run_record: dict[str, Any],
    report: Report,
    out: Path,
    overwrite: bool,
) -> None:
    graft = full_graft(result, job.change.source_ids, job.tokenizer.vocab_size)
    inside = job.checkpoint.path.relative_to(job.checkpoint.root)
    tensors: dict[str, Value] = {**result.tensors, **{name: value for name, value in trained.items() if name in job.checkpoint.tensors}}
    tensors |= {
        name: Reshaped(value) for name, value in tensors.items() if name in job.checkpoint.layout.others and isinstance(value, torch.Tensor)
    }
    config: dict[str, Any] = dict(mended_fields(job.checkpoint, job.change.tokenizer))
    if result.primitives is not None:
        tables = {*job.checkpoint.layout.input, *job.checkpoint.layout.head}
        tensors |= {name: Reshaped(value) for name, value in tensors.items() if name in tables and isinstance(value, torch.Tensor)}
        config |= {KEY: {"rank": int(result.primitives.shape[0])}}
    added = {name: trained.get(name, value) for name, value in result.added.items()}
    added |= {name: value for name, value in trained.items() if name not in job.checkpoint.tensors}  # such as a head that was parted
    parted = training is not None and training.untie
    if (parted and job.checkpoint.layout.tied) or (result.shared and not parted):
        config |= {"tie_word_embeddings": not parted}

    def finish(folder: Path) -> None:
        job.change.tokenizer.save(folder / inside)
        if job.change.companion is not None:
            job.change.companion.save_beside(folder / inside)
        if graft is not None:
            graft.save(folder / "graft.npz")
        np.save(folder / "origins.npy", result.origins, allow_pickle=False)
        if training is not None and not training.lora_merge and run is not None and run.adapters is not None:
            run.adapters.save(folder / "adapter")
        report.save_html(folder / "report.html")
        (folder / "report.json").write_text(json.dumps(report.to_json(), ensure_ascii=False), encoding="utf-8")

    with step(f"writing {out}"):
        write(
            job.checkpoint,
            out,
            tensors=tensors,
            config=config,
            ids=job.change.places,
            added=added,
            extra=finish,
            record=partial(provenance.save, run_record),
            overwrite=overwrite,
        )
