"""The page of one taught concept: was anything learned, what it was taught by, what it draws, how the loss went."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from regraft.concepts.method import Learned, Lesson
from regraft.concepts.report.sheets import sheet, strip
from regraft.report import Report
from regraft.report.figures import training_curves


def report_of(
    lesson: Lesson,
    learned: Learned,
    detected: str,
    drawn: Mapping[str, torch.Tensor],
    prompts: Sequence[str],
    figures: Mapping[str, Any],
) -> Report:
    """The page. `drawn` : images by the word that stood in the prompts."""
    lead = (
        f"{detected[:1].upper()}{detected[1:]}. {learned.parameters:,} numbers were learned from {len(lesson.pictures.images)} picture(s)"
    )
    lead += f"; {learned.stopped}." if learned.stopped else "."
    report = Report(f"The concept {lesson.word}", " ".join([lead, *(f"{note}." for note in lesson.pictures.notes)]))
    if drawn:
        caption = "Each column has the same noise. The first row is what the pipeline draws of the word that learning began with."
        report.add_html("What it draws", sheet(drawn, [one.format(lesson.word) for one in prompts]), caption)
    report.add_html("What it was taught by", strip(lesson.pictures.images[:12]))
    if len(learned.curve) > 1:
        caption = "Each point is the mean over the steps since the last; which moments of noise were drawn makes most of its ups and downs."
        report.add_figure(
            "How the loss went", training_curves({"loss": learned.curve}, x_title="steps", y_title="loss", height=320), caption
        )
    report.add_table("In numbers", [dict(figures)])
    return report
