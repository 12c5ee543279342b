"""`regraft compare`: every start of new rows beside the untouched model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.adapt import training_from
from regraft.cli.app import Device, DryRun, Dtype, Json, Seed, verb


@verb()
def compare(
    model: o.Model,
    corpus: o.CorpusPaths,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the page, the JSON and finished rows; the same call resumes there.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Names of starts, separated by commas, or all.")] = "all",
    extend: o.Extend = None,
    replace: o.Replace = None,
    words: o.Words = None,
    trim: o.Trim = False,
    route: o.Route = "continued",
    widen_pretokenizer: o.Widen = False,
    train: Annotated[
        str, typer.Option("--train", help="The same budget for every method: 1min, or 20 for steps; 0 trains nothing.")
    ] = "10",
    train_settings: o.TrainSettings = None,
    source_text: o.SourceText = None,
    text_column: o.TextColumn = None,
    held_out: o.HeldOut = 0.1,
    score_bytes: o.ScoreBytes = "60000",
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Run many starts on the same tokenizer change: one table, one page, one row a method even where another fails."""
    from regraft.vocab.compare import compare as run
    from regraft.vocab.compare import starts
    from regraft.vocab.dry_run import estimate

    training = training_from(train, train_settings)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    arguments: dict[str, Any] = {
        "extend": extend,
        "replace": replace,
        "words": words,
        "trim": trim,
        "route": route,
        "widen_pretokenizer": widen_pretokenizer,
    }
    if dry_run:
        chosen = starts(names, {})
        found = estimate(model, corpus=corpus, out=None, text_column=text_column, held_out=held_out, method=chosen[0].name, **arguments)
        found.report.print()
        return found.figures | {"methods": [start.name for start in chosen]}
    done = run(
        model,
        corpus=corpus,
        methods=names,
        out=out,
        training=training,
        source_text=source_text,
        text_column=text_column,
        held_out=held_out,
        score_bytes=o.parse_score_bytes(score_bytes),
        seed=seed,
        device=device,
        dtype=dtype,
        **arguments,
    )
    if not json_output and done.report is not None:
        done.report.print()
        if out:
            print(f"\nreport: {out / 'comparison.html'}")
    return {"rows": done.rows}
