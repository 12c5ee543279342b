"""`regraft grow predict`: weights for a model that was never trained."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.grow.group import group


@verb(group=group)
def predict(
    config: Annotated[
        str,
        typer.Argument(
            help="What to build: a YAML or JSON file of config fields with model_type, or a directory with config.json.", metavar="CONFIG"
        ),
    ],
    *,
    hypernet: Annotated[Path, typer.Option("--hypernet", help="A hypernetwork's file, from `regraft grow hypernet`.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the model.")],
    vocabulary: Annotated[
        str, typer.Option("--vocabulary", help="Rows of a vocabulary past the decoder's reach: draw, chunks (nodes of their own) or tile.")
    ] = "draw",
    tile: Annotated[bool, typer.Option("--tile", help="Accept tensors that repeat what was predicted.")] = False,
    noise: Annotated[float, typer.Option(help="Share of a tiled tensor's deviation that is added as noise.")] = 0.0,
    untie: Annotated[bool, typer.Option("--untie", help="Predict a tied head on its own.")] = False,
    dtype: Annotated[str, typer.Option(help="Precision of the files: float32, bfloat16, float16.")] = "float32",
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Predict every weight of an untrained model by a hypernetwork: an ordinary model directory, ready to be fine-tuned."""
    from regraft.grow.predict.predict import Options
    from regraft.grow.predict.predict import predict as run
    from regraft.report import Report

    options = Options(vocabulary=vocabulary, tile=tile, noise=noise, untie=untie, dtype=dtype, seed=seed)  # type: ignore[arg-type]  # checked there
    done = run(config, hypernet, options, out=out, overwrite=overwrite, dry_run=dry_run)
    if not json_output:
        kinds = ", ".join(f"{number} {how}" for how, number in done["tensors"].items())
        report = Report("Predicted weights", f"{done['parameters']:,} parameters in {done['nodes']} nodes: {kinds}.")
        report.add_table("Tensors", done["rows"])
        report.print()
        for note in done["notes"]:
            print(f"note: {note}")
        print(f"would write {done['bytes'] / 1e6:,.1f} MB to {out}" if dry_run else f"written to {out} in {done['seconds']:.1f} s")
    return done
