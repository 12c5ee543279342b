"""What `regraft probe syntax` does: AST-Probe over the layers of a model, on functions out of a folder of source code.

Enters: a checkpoint and a folder. Leaves: a report and its figures, and a directory where one is asked for. States and finished probes are
kept in a cache, so that a killed run goes on where it stopped.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
from safetensors.torch import save_file

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.errors import InputError
from regraft.language.loading import check_placement, load_both
from regraft.output import atomic_directory, check_output
from regraft.probe.probes.ast_probe.examples import Labels
from regraft.probe.probes.ast_probe.grammar import Grammar
from regraft.probe.probes.ast_probe.method import ASTProbe
from regraft.probe.probes.ast_probe.snippets import Found, read_functions, source_files
from regraft.probe.probes.ast_probe.states import Shape
from regraft.probe.probes.ast_probe.sweep import LEARNED, Study, Sweep, best
from regraft.probe.probes.ast_probe.train import ORTHOGONAL
from regraft.probe.probes.ast_probe.transfer import direct_transfer, mean_angle, random_angle
from regraft.probe.report.syntax_page import page
from regraft.progress import console, step
from regraft.report import Report, plain
from regraft.tokenizer import Tokenizer

CANDIDATES = 3  # functions are read until there are so many times the wanted ones to draw from


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is probed, and how.

    Attributes
    ----------
    code : a folder of source files, or one file. language : of them all; None goes by how names end. layers : None for all. ranks : swept
    on the best layer. functions : at most so many a language. max_length : sub-tokens of a function. cache : where states are kept.
    """

    code: Path
    language: str | None = None
    layers: tuple[int, ...] | None = None
    ranks: tuple[int, ...] = ()
    functions: int = 1500
    max_length: int = 256
    controls: bool = True
    cache: Path | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "auto"


def probe_syntax(
    source: str | Path, method: ASTProbe, asked: Asked, *, out: Path | None = None, overwrite: bool = False
) -> tuple[Report, dict[str, Any]]:
    """Probe `source`. Raises an `InputError` in one line for what cannot be read, parsed or probed."""
    start = time.perf_counter()
    if out is not None:
        check_output(out, overwrite=overwrite, sources=[path for path in (Path(source), asked.code) if path.is_dir()])
    check_placement(asked.dtype, asked.device)
    files = source_files(asked.code, asked.language)
    for language in files:
        Grammar(language)  # a missing wheel is said before the model is loaded
    checkpoint = Checkpoint.open(source)
    with step("loading the model"):
        model, tokenizer = load_both(checkpoint, Tokenizer.from_directory(checkpoint.path), asked.dtype, asked.device)
    shape = Shape.of(model)
    shape.layers(asked.layers)
    for rank in (method.rank, *asked.ranks):
        shape.check_rank(rank)
    cache = _cache(asked, checkpoint)
    studies, notes = [], [] if shape.reads_ahead else ["this model is causal: a token's state holds only what stands to its left"]
    for language, paths in files.items():
        try:
            studies.append(
                _study(method, model, tokenizer, read_functions(paths, language, enough=CANDIDATES * asked.functions), asked, cache)
            )
        except InputError as error:
            if len(files) == 1:
                raise InputError(f"{asked.code}: {error}") from None
            notes.append(f"{language} was left out: {error}")
            console.print(f"  {notes[-1]}", highlight=False, markup=False)
    if not studies:
        raise InputError(f"{asked.code}: no language could be probed: {'; '.join(notes)}")
    loose = [one for study in studies for one in (*study.layers, *study.ranks) if one.trained.off_orthogonal > ORTHOGONAL]
    if loose:
        which = ", ".join(sorted({f"layer {one.layer} ({one.layers}, rank {one.rank})" for one in loose}))
        notes.append(f"not orthogonal, so trained too short: {which}: give more functions, or --set epochs=40")
    pairs = _between(studies, method, asked, shape) if len(studies) > 1 else []
    figures: dict[str, Any] = {
        "model": checkpoint.path.name,
        "causal": not shape.reads_ahead,
        "method": vars(method),
        "languages": [study.to_dict() for study in studies],
        "between_languages": pairs,
        "notes": notes,
    }
    report = page(checkpoint.path.name, studies, pairs, notes)
    figures = dict(plain({"answer": report.lead, **figures}))
    if out is not None:
        _write(out, overwrite, checkpoint, report, figures, studies, method, asked, time.perf_counter() - start)
    return report, figures


def _study(method: ASTProbe, model: Any, tokenizer: Any, found: Found, asked: Asked, cache: Path) -> Study:
    sweep = Sweep.of(
        method, model, tokenizer, found.snippets, count=asked.functions, longest=asked.max_length, seed=asked.seed, cache=cache,
        before=found.skipped,
    )  # fmt: skip
    layers = sweep.layers(asked.layers, controls=asked.controls)
    chosen = best([one for one in layers if one.layers == LEARNED and (one.layer or len(layers) == 1)])
    ranks = sweep.ranks(chosen.layer, sorted(set(asked.ranks))) if asked.ranks else []
    return Study(found, sweep, layers, chosen, ranks)


def _between(studies: list[Study], method: ASTProbe, asked: Asked, shape: Shape) -> list[dict[str, Any]]:
    """For each ordered pair of languages, on the best layer of the first one's own: the angle, and F1 on top of the other's projection."""
    rows = []
    for own in studies:
        layer = own.best.layer
        for other in studies:
            if other is own:
                continue
            learned = other.sweep.probe(LEARNED, layer, method.rank).trained.probe
            train, valid, test = own.sweep.examples(LEARNED, layer)
            sizes = len(own.sweep.labels.constituents), len(own.sweep.labels.unary)
            with step(f"{own.language} on the projection of {other.language}"):
                moved = direct_transfer(learned, train, valid, sizes, own.sweep.schedule, seed=asked.seed, device=asked.device)
            outcome = own.sweep.outcome(LEARNED, layer, moved, valid, test)
            rows.append(
                {
                    "language": own.language,
                    "projection_of": other.language,
                    "layer": layer,
                    "mean_angle": mean_angle(own.best.trained.probe, learned),
                    "mean_angle_random": random_angle(shape.width, method.rank, asked.seed),
                    "f1_own": own.best.f1,
                    "f1_transferred": outcome.f1,
                    "interval": list(outcome.interval),
                }
            )
    return rows


def _cache(asked: Asked, checkpoint: Checkpoint) -> Path:
    """A folder for this checkpoint in this precision."""
    name = hashlib.sha256(f"{checkpoint.source_hash()} {asked.dtype} {asked.device}".encode()).hexdigest()[:16]
    return (asked.cache or Path(pooch.os_cache("regraft")) / "ast-probe") / name


def _write(
    out: Path,
    overwrite: bool,
    checkpoint: Checkpoint,
    report: Report,
    figures: Mapping[str, Any],
    studies: list[Study],
    method: ASTProbe,
    asked: Asked,
    seconds: float,
) -> None:
    """The page, the figures, the best probe of each language and `regraft.json`, in a directory that appears whole."""
    parameters = dict(plain({**vars(method), **{name: value for name, value in vars(asked).items() if name not in ("seed", "cache")}}))
    tokens = hashlib.sha256(repr([one.tokens for study in studies for one in study.sweep.split.all]).encode()).hexdigest()
    corpus = {"sha256": tokens, "path": str(asked.code), "functions": sum(len(study.sweep.split.all) for study in studies)}
    made = provenance.record(
        checkpoint, "probe", method=method.name, parameters=parameters, seed=asked.seed, corpus=corpus, metrics=figures,
        timings={"seconds": seconds},
    )  # fmt: skip
    with atomic_directory(out, overwrite=overwrite, sources=[checkpoint.root, *([asked.code] if asked.code.is_dir() else [])]) as folder:
        report.save_html(folder / "report.html")
        (folder / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        names = ["report.html", "figures.json"]
        for study in studies:
            names.append(f"probe-{study.language}.safetensors")
            tensors = {name: value.detach().cpu().contiguous() for name, value in study.best.trained.probe.named_parameters()}
            save_file(tensors, folder / names[-1], metadata=_about(study.sweep.labels, study.best.layer))
        provenance.save(made, folder, names)


def _about(labels: Labels, layer: int) -> dict[str, str]:
    """What belongs to the tensors of a probe: its layer, and the labels of the columns of V_c and V_u."""
    return {"layer": str(layer), "constituents": json.dumps(labels.constituents), "unary": json.dumps(labels.unary)}
