"""Teach a pipeline a concept, say whether anything was learned, and keep it.

Enters: a pipeline, a folder of pictures, a new word and one that it is a case of. Leaves: a directory with the concept in a file that other
programs load, a page, and `regraft.json`. A run that was stopped goes on when the same call is made again.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from regraft import provenance
from regraft.concepts.concept import FACTS, Concept
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.captions import Kind, known, read_templates
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.images import read_pictures, side_of
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.host.words import check_word
from regraft.concepts.measures import Detected, context_cosine, detect, losses
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.report.taught import report_of
from regraft.concepts.toy import NAME, WEIGHTS
from regraft.errors import ParameterError
from regraft.meter import metered
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

TOLD = ("method", "word", "verdict", "learned", "notes", "stopped")  # what the page says in words
PLAIN = "a photo of a {}"
PREVIEW = (PLAIN, "a drawing of the {}", "a {} on a white background", "a {} on a red background", "two of {}", "a {} in the snow")


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What a concept is taught from, as the user gives it: a pipeline by path or name, a folder of `images`, the new `word`, and `init`.

    kind : object, style or face. templates : a file of captions with ``{}``. crop : take the middle square of each image.
    """

    pipeline: str
    images: Path
    word: str
    init: str
    kind: Kind = "object"
    templates: Path | None = None
    crop: bool = False
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def lesson(self) -> Lesson:
        """Everything opened and checked. Raises `InputError`."""
        pipeline = open_pipeline(self.pipeline, device=self.device, dtype=self.dtype)
        check_word(pipeline, self.word)
        sentences = None if self.templates is None else read_templates(self.templates)
        pictures = read_pictures(self.images, side_of(pipeline), crop=self.crop)
        return Lesson(pipeline, pictures, self.word, self.init, self.kind, sentences)


@dataclass(frozen=True)
class Taught:
    """The concept, the figures as `--json` prints them, and the page."""

    concept: Concept
    figures: dict[str, Any]
    report: Report


def learn(
    materials: Materials,
    method: str,
    *,
    out: Path,
    settings: Mapping[str, Any] = {},
    plan: Plan | None = None,
    drawing: Drawing | None = None,
    preview: int = 4,
    overwrite: bool = False,
) -> Taught:
    """Teach by `method` and write the concept to `out`. `preview` : prompts that are drawn for the page.

    Raises `InputError`: a pipeline, pictures or words that cannot be used; `OutputError`: `out` is in the way.
    """
    plan = plan or Plan()
    check_output(out, overwrite=overwrite, sources=[materials.images])
    way: ConceptMethod = resolve("concept-method", method, settings)
    with step("opening the pipeline"):
        lesson = materials.lesson()
    state = _state(out, lesson, way, plan)
    with metered() as cost:
        learned = way.learn(lesson, replace(plan, state=state))
    found = detected(lesson, learned)
    prompts = known(lesson.pipeline, PREVIEW, lesson.init)[:preview]
    drawn = _drawn(lesson, learned, prompts, drawing or Drawing(steps=25))
    about = _figures(lesson, learned, found, way, plan) | {"seconds": round(cost.seconds, 2), "peak_mb": round(cost.peak_mb)}
    report = report_of(lesson, learned, str(found), drawn, prompts, {k: v for k, v in about.items() if k not in TOLD})
    with atomic_directory(out, overwrite=overwrite, sources=[materials.images]) as folder:
        learned.concept.save(folder)
        report.save_html(folder / "report.html")
        given = asdict(way) | {"word": lesson.word, "init": lesson.init, "kind": lesson.kind}
        record = provenance.record(
            source_of(materials.pipeline),
            "concept learn",
            method=way.name,
            parameters=given,
            seed=plan.seed,
            corpus={"sha256": _digest(lesson)},
            metrics={k: v for k, v in about.items() if isinstance(v, float | int | bool)},
            notes=lesson.pictures.notes + ([learned.stopped] if learned.stopped else []),
        )
        provenance.save(record, folder, [path.name for path in folder.iterdir() if path.suffix == ".safetensors" or path.name == FACTS])
    shutil.rmtree(state, ignore_errors=True)
    return Taught(learned.concept, {**about, "out": str(out), "report": str(out / "report.html")}, report)


def detected(lesson: Lesson, learned: Learned) -> Detected:
    """Whether the pictures' loss fell from that of the initial word, on noise that is the same for both."""
    with step("measuring what was learned"):
        diffusion = Diffusion(lesson.pipeline, lesson.pictures.images)
        before = losses(lesson.pipeline, [], diffusion, PLAIN.format(lesson.init))
        return detect(before, losses(lesson.pipeline, [learned.concept], diffusion, PLAIN.format(lesson.word)))


def source_of(pipeline: str) -> provenance.Given:
    """The pipeline as `regraft.json` names it: its path, and a hash of the names, sizes and headers of its files."""
    path = WEIGHTS if pipeline == NAME else Path(pipeline).expanduser()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []:
        if file.is_file():
            digest.update(f"{file.name} {file.stat().st_size}".encode())
            with file.open("rb") as opened:
                digest.update(opened.read(1 << 20))
    return provenance.Given(path.resolve() if path.exists() else Path(pipeline), digest=f"sha256:{digest.hexdigest()}", id=pipeline)


def _state(out: Path, lesson: Lesson, way: ConceptMethod, plan: Plan) -> Path:
    """Where a stopped run of just this kind keeps its state: a hidden folder beside `out`."""
    given = [_digest(lesson), str(way), str(plan), lesson.word, lesson.init, lesson.kind, list(lesson.captions())]
    name = hashlib.sha256(json.dumps(given).encode()).hexdigest()[:12]
    out = out.expanduser().resolve()
    return out.with_name(f".{out.name}.{name}.learning")


def _digest(lesson: Lesson) -> str:
    return hashlib.sha256(lesson.pictures.images.numpy().tobytes()).hexdigest()


def _drawn(lesson: Lesson, learned: Learned, prompts: Sequence[str], how: Drawing) -> dict[str, torch.Tensor]:
    if not prompts:
        return {}
    asked = {lesson.init: [], lesson.word: [learned.concept]}
    return {
        word: draw(lesson.pipeline, concepts, [prompt.format(word) for prompt in prompts], how, told=f"drawing {word}")
        for word, concepts in asked.items()
    }


def _figures(lesson: Lesson, learned: Learned, found: Detected, way: ConceptMethod, plan: Plan) -> dict[str, Any]:
    if not torch.isfinite(torch.tensor([found.after])):
        raise ParameterError(f"{way.name}: what was learned draws no numbers: lower lr, or use --dtype float32")
    sentences = known(lesson.pipeline, [sentence for sentence in PREVIEW if not sentence.endswith("{}")], lesson.init)
    return {
        "method": way.name,
        "word": lesson.word,
        "learned": found.learned,
        "verdict": str(found),
        "loss_before": found.before,
        "loss_after": found.after,
        "steps": plan.steps if plan.steps is not None else way.steps,
        "parameters": learned.parameters,
        "context_cosine": context_cosine(lesson.pipeline, learned.concept, lesson.init, sentences),
        **learned.facts,
        "notes": list(lesson.pictures.notes),
        "stopped": learned.stopped,
    }
