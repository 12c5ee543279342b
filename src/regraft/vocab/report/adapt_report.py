"""The report of one adaptation: what was gained, what it cost, and what the new tokens look like."""

from typing import Any

from regraft.evaluation import paired_difference
from regraft.report import Report
from regraft.report.figures import training_curves
from regraft.training import TrainingRun
from regraft.vocab.initializer import Initializer
from regraft.vocab.job import Job, Stage
from regraft.vocab.report.figures import token_lengths
from regraft.vocab.report.segmentation import nearest_html, segmentation_html
from regraft.vocab.report.views import nearest_old_tokens, sample_segmentations
from regraft.vocab.transplant.transplant import Transplant

Row = dict[str, Any]


def adaptation_report(
    job: Job,
    result: Transplant,
    stages: list[Stage],
    run: TrainingRun | None,
    initializer: Initializer,
    metrics: dict[str, Any],
    control: Stage | None = None,
) -> Report:
    """Tables, plots and marked-up samples of one adaptation."""
    report = Report(f"{job.checkpoint.path.name}: {len(result.new_ids):,} new tokens", lead(metrics, stages, control))
    if stages:
        report.add_table("What text costs", stage_rows([*stages, *([control] if control else [])]), stage_caption(job))
    report.add_table("Tokenization of held-out text", tokenization_rows(metrics))
    if job.change.companion is not None:
        job.change.companion.report(report, job.scored(), metrics["coverage"])
    report.add_table("Where the rows came from", origin_rows(metrics, initializer), origin_caption(metrics))
    if run is not None and run.footprint is not None:
        report.add_table("What trained", training_rows(run), training_caption(run))
    if metrics["elchat"] is not None:
        report.add_table("What ElChat mixed with the source", repair_rows(metrics["elchat"]), "Counted is what differed from the source.")
    if run is not None and len(run.curve) > 1:
        untouched = stages[0].domain.bits_per_byte if stages and stages[0].domain else None
        curve = [(point.step, point.bits_per_byte) for point in run.curve]
        report.add_figure(
            "Training",
            training_curves({initializer.name: curve}, untouched=untouched, x_title="steps of training"),
            f"Bits per byte of a small held-out sample; {run.steps:,} steps took {run.seconds:,.0f} s.",
        )
    if len(result.new_ids):
        report.add_html("Before and after", segmentation_html(sample_segmentations(job)), "Held-out passages as each tokenizer cuts them.")
        report.add_figure("Length of the new pieces", token_lengths([job.change.tokenizer.surface(int(i)) for i in result.new_ids]))
        report.add_html("Nearest old tokens", nearest_html(nearest_old_tokens(job, result)), "By cosine of input rows, before training.")
    if notes := [*job.change.notes, *job.context.notes]:
        report.add_table("Notes", [{"note": note} for note in notes])
    return report


def lead(metrics: dict[str, Any], stages: list[Stage], control: Stage | None = None) -> str:
    """The answer in one sentence, then how sure it is."""
    cut = metrics["tokenization"]["domain"]
    saved = 1 - cut["new_tokens_per_byte"] / cut["old_tokens_per_byte"] if cut["old_tokens_per_byte"] else 0.0
    said = f"{metrics['new_tokens']:,} new tokens spell text that was held out in {saved:.1%} fewer tokens"
    old, new = (stages[0].domain, stages[-1].domain) if len(stages) > 1 else (None, None)
    if old is None or new is None:
        return f"{said}."
    first, last, before, after = stages[0], stages[-1], old.bits_per_byte, new.bits_per_byte
    said += f", and it costs the model {after:.3f} bits per byte where the untouched one needs {before:.3f} ({after / before - 1:+.1%})."
    difference, low, high = paired_difference(new, old)
    sure = "more" if low > 0 else "less" if high < 0 else None
    said += f" The difference is {difference:+.3f}, with a 95 % interval from {low:+.3f} to {high:+.3f} over documents"
    said += ": " + (f"it costs {sure}" if sure else "this text does not say whether it costs more or less") + "."
    if control is not None and control.domain is not None:
        gap, low, high = paired_difference(new, control.domain)
        beside = control.domain.bits_per_byte
        said += f" Trained alike with its old vocabulary it needs {beside:.3f}; the words make {gap:+.3f} ({low:+.3f} to {high:+.3f})."
    if first.ordinary and last.ordinary:
        ordinary = last.ordinary.bits_per_byte / first.ordinary.bits_per_byte - 1
        said += f" Ordinary text costs {abs(ordinary):.1%} {'more' if ordinary > 0 else 'less'}."
    return said


def stage_rows(stages: list[Stage]) -> list[Row]:
    """One line a figure, one column a stage."""
    figures: dict[str, dict[str, Any]] = {}
    for stage in stages:
        for text, score in (("held-out text", stage.domain), ("ordinary text", stage.ordinary)):
            if score is not None:
                low, high = score.interval()
                figures.setdefault(f"{text}: bits per byte", {})[stage.name] = f"{score.bits_per_byte:.3f}"
                figures.setdefault(f"{text}: 95% interval", {})[stage.name] = f"{low:.3f} to {high:.3f}"
                figures.setdefault(f"{text}: tokens per word", {})[stage.name] = f"{score.tokens_per_word:.3f}"
                figures.setdefault(f"{text}: tokens per document", {})[stage.name] = f"{score.tokens_per_document:,.1f}"
                figures.setdefault(f"{text}: bytes read per second", {})[stage.name] = f"{score.bytes_per_second:,.0f}"
        if stage.writing is not None:
            figures.setdefault("held-out text: bytes written per second", {})[stage.name] = f"{stage.writing.bytes_per_second:,.0f}"
            figures.setdefault("held-out text: bytes per decoding step", {})[stage.name] = f"{stage.writing.bytes_per_step:.2f}"
            figures.setdefault("held-out text: characters per decoding step", {})[stage.name] = f"{stage.writing.characters_per_step:.2f}"
        if stage.greedy_hits is not None:
            figures.setdefault("ordinary text: greedy hits", {})[stage.name] = f"{stage.greedy_hits:,} of {stage.greedy_positions:,}"
    return [{"figure": name} | {stage.name: values.get(stage.name) for stage in stages} for name, values in figures.items()]


def stage_caption(job: Job) -> str:
    size = sum(len(text.encode()) for text in job.domain)
    return (
        f"Held-out text, {size:,} bytes in {len(job.domain):,} documents; lower is better. Greedy hits: positions of ordinary text, cut as "
        "before, at which a new token would be the model's first choice."
    )


def tokenization_rows(metrics: dict[str, Any]) -> list[Row]:
    rows = []
    for name, cut in metrics["tokenization"].items():
        old, new = cut["old_tokens_per_byte"], cut["new_tokens_per_byte"]
        change = f"{new / old - 1:+.1%}" if old else None
        rows.append({"text": name, "bytes": cut["bytes"], "tokens per byte before": old, "tokens per byte after": new, "change": change})
    return rows


def training_rows(run: TrainingRun) -> list[Row]:
    """Groups of trained parameters, and what they are in numbers and memory of the model with its adapters."""
    groups = [{"what": group.name, "value": f"{group.parameters:,} ({group.share:.2%} of all)"} for group in run.groups]
    rows = groups + ([] if run.footprint is None else run.footprint.rows())
    if run.merged is not None and run.curve:
        before, after = run.curve[-1].bits_per_byte, run.merged
        rows.append({"what": "small held-out sample, adapters beside NF4 weights", "value": f"{before:.4f} bits per byte"})
        rows.append({"what": "the same, merged into full precision", "value": f"{after:.4f} bits per byte ({after - before:+.4f})"})
    return rows


def training_caption(run: TrainingRun) -> str:
    said = "Memory is that of weights, gradients and AdamW's moments; activations follow the batch."
    if run.footprint is not None and run.footprint.quantized:
        said += (
            " Adapters learned beside quantized weights and were merged into the full-precision ones, so the written model also has what "
            "quantization had taken off."
        )
    return said


def repair_rows(repair: dict[str, int]) -> list[Row]:
    """How much lies between the trained model and the source, or is the source's again."""
    figures = {
        "weights outside the tables, mixed": repair["weights"],
        "old rows, mixed": repair["rows"],
        "rows of special tokens, as in the source": repair["special_rows"],
    }
    return [{"what": what, "value": f"{value:,}"} for what, value in figures.items()]


def origin_rows(metrics: dict[str, Any], initializer: Initializer) -> list[Row]:
    hull, outside = metrics["in_hull"], metrics["outside_hull"]
    figures = {
        "started with": initializer.name,
        **{f"rows {origin}": count for origin, count in metrics["origins"].items()},
        "new tokens without a spelling (took the mean row)": metrics["fallback_rows"],
        "new tokens that no text produces": metrics["unreachable"],
        "new rows inside the convex hull": None if hull is None else f"{hull:.1%}, worst slack {metrics['hull_slack']:.1e}",
        "new rows proved outside it": None if outside is None else f"{outside:.1%}",
    }
    if metrics["rank"] is not None:
        figures["every row is cut to rank"] = metrics["rank"]
    return [{"what": what, "value": value} for what, value in figures.items()]


def origin_caption(metrics: dict[str, Any]) -> str:
    if metrics["in_hull"] == 1.0:
        return "As started, before training, every new row is a convex mix of old ones: no hidden state can rank it above all of them."
    if metrics["in_hull"] is None and not metrics["outside_hull"]:
        return "These rows carry no weights, so nothing is certain of the convex hull of the old rows."
    return "Rows outside the convex hull of the old ones can outrank every old token; the count of greedy hits shows whether they do."
