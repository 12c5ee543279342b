"""Pages of split models: what was learned, what a part of it costs, and how ways to learn new classes compare."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.comparison import Metric, Outcome, tables_of
from regraft.concepts.split.images.drawing import Sampling, draw, sheet
from regraft.concepts.split.images.judge import Judge
from regraft.concepts.split.layers.cost import cost_of
from regraft.concepts.split.model import Split
from regraft.report import Report
from regraft.report.figures import dots, training_curves

ERROR = "squared error of the noise"
RIGHT = Metric("right", "high", amounts="taken", sizes="images")
Curve = Sequence[tuple[float, float]]


def parts_of(split: Split, judge: Judge | None, how: Sampling) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row and images for each way to draw: as it is, with tailors of the next class, with learngenes alone."""
    classes, ways = len(split.names), dict[str, list[int] | None]({"own tailors": None})
    if split.gate is not None and how.guidance <= 1:
        if classes > 1:
            ways["tailors of the next class"] = [(one + 1) % classes for one in range(classes)]
        ways["learngenes alone"] = [-1] * classes
    rows, images = [], {}
    for way, tailors in ways.items():
        drawn = images[way] = draw(split, how, tailors=tailors)
        row: dict[str, Any] = {"drawn with": way if split.gate is not None else "the whole model"}
        if judge is not None:
            row |= {"right": float(judge.right(drawn).mean())}
            row |= {"distance": float(judge.distances(drawn).mean())} if how.each > 1 else {}
        rows.append(row)
    return rows, images


def costs(models: Mapping[str, Split]) -> list[dict[str, Any]]:
    """Sizes, and what one image of one class takes."""
    found = []
    for name, split in models.items():
        cost = cost_of(split)
        rank = None if split.partition is None else split.partition.active
        found.append(
            {"model": name, "classes": len(split.names), "active_rank": rank, "parameters": cost.parameters, "mb": cost.megabytes,
             "megaflops": cost.megaflops}
        )  # fmt: skip
    return found


def report_of_training(
    split: Split, rows: Sequence[Mapping[str, Any]], images: Mapping[str, Any], curve: Curve, judge: Judge | None
) -> Report:
    """The page of a model that was trained."""
    lead = f"{len(split.names)} classes, drawn from the same noise with what is their own."
    if judge is not None and "right" in rows[0]:
        lead = f"{rows[0]['right']:.1%} of what was drawn is taken for its class. "
        if len(rows) > 1:
            lead += "; ".join(f"{row['drawn with']}: {row['right']:.1%}" for row in rows[1:]) + ". "
        lead += f"The judge, fitted on images that were held out, is right on {judge.accuracy:.1%} of the others."
    report = Report("Classes apart", lead)
    for way, drawn in images.items():
        report.add_html(f"Drawn with {way}" if split.gate is not None else "Drawn", sheet(dict(zip(split.names, drawn, strict=True))))
    if len(curve) > 1:
        report.add_figure("How it learned", training_curves({"loss": curve}, x_title="steps", y_title=ERROR))
    report.add_table(
        "What acts", rows, "right: share of drawn images taken for their class; distance: Fréchet, to images that were held out."
    )
    report.add_table("Size and cost", costs({"model": split}), "megaflops: one pass for one image of one class.")
    return report


def report_of_extraction(whole: Split, part: Split, images: Any, *, dense: bool) -> Report:
    """The page of a part."""
    rows = costs({"before": whole, "after": part})
    before, after = rows
    what = "an ordinary DiT of diffusers" if dense else "learngenes and tailors"
    lead = f"{', '.join(part.names)} of {len(whole.names)} classes, as {what}: {after['mb']:.2f} of {before['mb']:.2f} MB, "
    lead += f"{after['megaflops']:.1f} of {before['megaflops']:.1f} megaflops a pass. Nothing was trained."
    if dense:
        lead += " Draw without guidance: it holds no other class, and none at all."
    report = Report("A part of a split model", lead)
    report.add_html("Drawn", sheet(dict(zip(part.names, images, strict=True))))
    report.add_table("Size and cost", rows, "megaflops: one pass for one image of one class.")
    return report


def report_of_comparison(
    about: str, rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome], sheets: Mapping[str, Any], names: Sequence[str]
) -> Report:
    """The page of a comparison. `sheets` : images (classes, n, C, H, W) by method."""
    scored = [row for row in rows if row[RIGHT.name] is not None]
    best = max(scored, key=lambda row: row[RIGHT.name])
    report = Report("New classes", f"{best['method']} draws {best[RIGHT.name]:.1%} of the classes that are asked for. {about}")
    report.add_figure(
        "How many images are of the class asked for",
        dots(scored, RIGHT.name, x_title="share of images"),
        "The line is full fine-tuning. The axis begins near the values.",
    )
    if sheets:
        rows_of_images = {name: images.flatten(0, 1) for name, images in sheets.items()}
        report.add_html("What they draw", sheet(rows_of_images, names), "First seed, from the same noise; real ones above.")
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure("How they learn", training_curves(curves, x_title="steps", y_title=ERROR), "First seed.")
    caption = "right: share of drawn images taken for their class; distance: Fréchet, to real images that nothing was trained on. "
    caption += "Means over seeds; behind_first with half its 95 % interval over images and seeds."
    for table in tables_of(rows, outcomes, RIGHT, caption):
        report.add_table(**table)
    return report
