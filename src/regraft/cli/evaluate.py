"""`regraft evaluate`: what text costs a model, per byte."""

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
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Score text: bits per byte with an interval, tokens per byte, word and document, bytes per second."""
    from regraft.vocab.evaluate import evaluate as run

    report, figures = run(
        model,
        text,
        text_column=text_column,
        window=window,
        stride=stride,
        score_bytes=o.parse_score_bytes(score_bytes),
        generate=generate,
        seed=seed,
        device=device,
        dtype=dtype,
        dry_run=dry_run,
    )
    if not json_output:
        report.print()
    return figures
