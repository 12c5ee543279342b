"""`regraft evaluate`: what text costs a model, per byte."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import Device, DryRun, Dtype, Json, Seed, verb


@verb()
def evaluate(
    model: o.Model,
    text: Annotated[list[str], typer.Option("--text", help="Text to score: files, folders, globs, tables, - for stdin. Repeatable.")],
    text_column: o.TextColumn = None,
    window: Annotated[int, typer.Option(min=2, help="Longest window in tokens.")] = 1024,
    stride: Annotated[int | None, typer.Option(min=1, help="Tokens a window advances; default half the window.")] = None,
    score_bytes: o.ScoreBytes = "all",
    generate: Annotated[bool, typer.Option("--generate", help="Also measure bytes written per second and per decoding step.")] = False,
    pairs: Annotated[Path | None, typer.Option("--pairs", help="Also translate: sources and references, TSV, CSV or JSONL; chrF.")] = None,
    bitext: Annotated[tuple[Path, Path] | None, typer.Option("--bitext", help="The same as two files of parallel lines.")] = None,
    examples: Annotated[int, typer.Option(min=1, help="Pairs that a prompt shows; they are not scored.")] = 5,
    template: Annotated[str, typer.Option(help="A pair in a prompt: {source}, and {reference} at the end.")] = "{source} = {reference}",
    sentences: Annotated[int | None, typer.Option(min=1, help="Translate so many, drawn by --seed; default all.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Score text: bits per byte with an interval, tokens per byte, word and document, bytes per second; on request chrF of translations."""
    from regraft.errors import ParameterError
    from regraft.evaluation.checkpoint import evaluate as run

    if pairs is not None and bitext is not None:
        raise ParameterError("--pairs and --bitext are both given: give the pairs in one way")
    report, figures = run(
        model,
        text,
        text_column=text_column,
        window=window,
        stride=stride,
        score_bytes=o.parse_score_bytes(score_bytes),
        generate=generate,
        pairs=pairs or bitext,
        examples=examples,
        template=template,
        sentences=sentences,
        seed=seed,
        device=device,
        dtype=dtype,
        dry_run=dry_run,
    )
    if not json_output:
        report.print()
    return figures
