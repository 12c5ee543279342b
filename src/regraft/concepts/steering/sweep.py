"""The same prompts at several strengths: how much of the concept and how much of the rest of the prompt each shows.

Enters: a pipeline with concepts in it, prompts, unwanted phrases. Leaves: a row a strength, images, and what each word loses; all with the
same noise, so that strengths may be set beside each other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft import provenance
from regraft.concepts.concept import Concept, context_of, together
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.images import to_pil
from regraft.concepts.judges.judge import Judge, Scores, scores
from regraft.concepts.learn import source_of
from regraft.concepts.report.sweep import report_of
from regraft.concepts.steering.analysis import components_of, losses, shown_tokens
from regraft.concepts.steering.maps import attention_maps
from regraft.concepts.steering.methods.decor import Decor
from regraft.concepts.steering.places import Part, unwanted_rows
from regraft.concepts.steering.projection import basis
from regraft.concepts.steering.steering import FAMILY, steer
from regraft.errors import ParameterError
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
USUAL = Drawing(steps=25)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is swept. `prompts` : each drawn `copies` times a strength. `unwanted` : phrases. `method`, `settings` : of steering."""

    prompts: tuple[str, ...]
    unwanted: tuple[str, ...]
    strengths: tuple[float, ...] = STRENGTHS
    copies: int = 4
    method: str = "decor"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Swept:
    """`images` and `scores` by strength: (prompts x copies, 3, h, w), and arrays of as many. `rows` : their means, one a strength."""

    images: dict[float, torch.Tensor]
    scores: dict[float, dict[str, Scores]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        found = []
        for strength, judged in self.scores.items():
            row: dict[str, Any] = {"strength": strength}
            for name, values in judged.items():
                row[name] = float(values.mean())
                row[f"{name}_half_width"] = float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            found.append(row)
        return found


def sweep(pipeline: Any, concepts: Sequence[Concept], asked: Asked, how: Drawing = USUAL, judge: Judge | None = None) -> Swept:
    """Draw and judge every strength. `judge` : any object with `identity(images)` and `match(images, prompts)`, or None.

    Raises `ParameterError`: no strength, or one that the method refuses.
    """
    if not asked.strengths or not asked.prompts or asked.copies < 1:
        raise ParameterError("a sweep needs at least one strength, one prompt and one copy of each")
    prompts = [prompt for prompt in asked.prompts for _ in range(asked.copies)]
    said = [plain(prompt, concepts) for prompt in prompts]
    found = Swept({}, {})
    for strength in dict.fromkeys(asked.strengths):
        change = steer(asked.unwanted, strength, method=asked.method, settings=asked.settings)
        found.images[strength] = draw(pipeline, concepts, prompts, how, steer=change, told=f"strength {strength:g}")
        found.scores[strength] = scores(judge, found.images[strength], said)
    return found


def plain(prompt: str, concepts: Sequence[Concept]) -> str:
    """The prompt with known words in the place of the concepts'."""
    for one in concepts:
        if one.words():
            prompt = prompt.replace(one.word, getattr(one, "init", "") or one.word)
    return prompt


def write_sweep(
    pipeline: Any,
    concepts: Sequence[Concept],
    asked: Asked,
    how: Drawing = USUAL,
    judge: Judge | None = None,
    *,
    source: str,
    out: Path,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """The sweep as a directory: `images/STRENGTH/`, `sweep.json`, `report.html`, `regraft.json`. Raises `InputError`, `OutputError`."""
    check_output(out, overwrite=overwrite)
    method = resolve(FAMILY, asked.method, asked.settings)
    swept = sweep(pipeline, concepts, asked, how, judge)
    with step("looking at what the prompt holds"):
        inside = looked_into(pipeline, concepts, asked, swept, method)
    figures = {"rows": swept.rows, "lost": inside["lost"], "components": inside["components"]}
    report = report_of(asked, swept.rows, swept.images, judge, inside)
    with atomic_directory(out, overwrite=overwrite) as folder:
        for strength, images in swept.images.items():
            place = folder / "images" / f"{strength:g}"
            place.mkdir(parents=True)
            for number, image in enumerate(to_pil(images)):
                image.save(place / f"{number}.png")
        (folder / "sweep.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        report.save_html(folder / "report.html")
        given = asdict(method) | {"prompts": list(asked.prompts), "remove": list(asked.unwanted), "strengths": list(asked.strengths)}
        record = provenance.record(source_of(source), "concept sweep", method=method.name, parameters=given, seed=how.seed)
        provenance.save(record, folder)
    return report, {**figures, "out": str(out), "report": str(out / "report.html")}


def looked_into(pipeline: Any, concepts: Sequence[Concept], asked: Asked, swept: Swept, method: Any) -> dict[str, Any]:
    """Of the first prompt: what each word loses, its components, and where the U-Net looks, at the least and the greatest strength."""
    prompt = asked.prompts[0]
    ends = min(swept.images), max(swept.images)
    with together(pipeline, concepts), torch.no_grad():
        context = context_of(pipeline, concepts, [prompt])
        part: Part = getattr(method, "undesired", "words")
        unwanted = unwanted_rows(pipeline, asked.unwanted, part, caption=getattr(method, "caption", "{}")).embeds
        off = method.joint(unwanted) if isinstance(method, Decor) else basis(unwanted)
        names, places = shown_tokens(pipeline, prompt)
        maps = {}
        for strength in ends:
            change = steer(asked.unwanted, strength, method=asked.method, settings=asked.settings)
            looks = attention_maps(pipeline, swept.images[strength][:1], change(pipeline, [prompt], context))[0, places]
            maps[strength] = looks
        return {
            "prompt": prompt,
            "lost": losses(pipeline, prompt, context, off),
            "components": components_of(pipeline, prompt, context).rows()[:8],
            "tokens": names,
            "maps": maps,
        }
