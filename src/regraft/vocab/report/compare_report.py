"""What a comparison shows: the table, who came first and how surely, plots, and samples of the text."""

from collections.abc import Mapping, Sequence

from regraft.comparison import Outcome, tables_of
from regraft.comparison.outcome import Row
from regraft.report import Report
from regraft.report.figures import bars, training_curves
from regraft.vocab.bench import METRIC
from regraft.vocab.job import Job
from regraft.vocab.report.figures import token_lengths, trade_off
from regraft.vocab.report.segmentation import nearest_html, segmentation_html
from regraft.vocab.report.views import nearest_old_tokens, sample_segmentations
from regraft.vocab.transplant.transplant import Transplant

HIDDEN = ("ordinary_bits_per_byte",)  # drift says it


def comparison_report(job: Job, rows: Sequence[Row], measured: Mapping[str, Outcome], result: Transplant | None, budget: str) -> Report:
    """The table, the plots and the samples of a comparison; `result` is the best method's, to look at."""
    new = len(job.change.new_ids)
    report = Report(f"{job.checkpoint.path.name}: {len(rows) - 1} ways to start {new:,} new tokens", comparison_lead(rows))
    caption = f"Per byte of held-out text ({budget}); drift is the change on ordinary text; ± is half the 95 % interval over documents."
    for table in tables_of(rows, measured, METRIC, caption, HIDDEN):
        report.add_table(**table)
    untouched = rows[0]["bits_per_byte"]
    if untouched is not None:
        report.add_figure("Quality against length", trade_off(rows), "Lower left is better; larger marks drift more on ordinary text.")
        report.add_figure("Step 0", bars({row["method"]: row["bits_per_byte"] for row in rows}, title="bits per byte"))
    curves = {row["method"]: measured[row["method"]].curve for row in rows if measured[row["method"]].curve}
    if curves:
        report.add_figure(
            "Training",
            training_curves(curves, untouched=untouched),
            "Bits per byte of held-out text against time; of a small sample of it where it is also measured between the ends.",
        )
    report.add_html("Before and after", segmentation_html(sample_segmentations(job)), "Held-out passages as each tokenizer cuts them.")
    report.add_figure("Length of the new pieces", token_lengths([job.change.tokenizer.surface(int(i)) for i in job.change.new_ids]))
    if result is not None:
        report.add_html(
            "Nearest old tokens", nearest_html(nearest_old_tokens(job, result)), "By cosine of input rows, best method, before training."
        )
    return report


def comparison_lead(rows: Sequence[Row]) -> str:
    """Which method came first, against what, and which others this much text cannot tell from it."""
    reference, ranked = rows[0], [row for row in rows[1:] if row["bits_per_byte"] is not None]
    if not ranked or reference["bits_per_byte"] is None:
        return "No method could be scored."
    after = ranked[0]["bits_per_byte_after"]
    said = f"{ranked[0]['method']} comes first with {ranked[0]['bits_per_byte']:.3f} bits per byte at step 0"
    said += f" and {after:.3f} after training" if after is not None else ""
    said += f"; the untouched model needs {reference['bits_per_byte']:.3f}."
    near = [row["method"] for row in ranked[1:] if row["behind_first_low"] is not None and row["behind_first_low"] <= 0]
    return said + (f" This text does not tell it from {', '.join(near)}." if near else "")
