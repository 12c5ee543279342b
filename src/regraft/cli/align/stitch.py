"""`regraft align stitch`: a head trained on one text encoder reads another."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.align.group import group
from regraft.cli.app import verb
from regraft.cli.options import Device, Json, Overwrite, Seed, options


@options
class Texts:
    """What is read."""

    data: Annotated[Path, typer.Option("--data", help="Labelled texts: .jsonl, .csv or .tsv with a text and a label column.")]
    test: Annotated[Path | None, typer.Option("--test", help="Labelled texts to test by; default a fifth of --data, by hash.")] = None
    text_column: Annotated[str | None, typer.Option(help="Name of the text column; default text.")] = None
    label_column: Annotated[str | None, typer.Option(help="Name of the label column; default label.")] = None
    anchors: Annotated[str, typer.Option(help="How many training texts to draw, or a file with one text a line.")] = "384"
    decoder_anchors: Annotated[Path | None, typer.Option(help="Partners of the anchors for DECODER, line by line (translations).")] = None


@options
class Heads:
    """How heads are trained and read."""

    steps: Annotated[str, typer.Option(help="Before the similarities: none, center or whiten, by the anchors.")] = "center"
    pooling: Annotated[str, typer.Option(help="Of a plain transformer: mean or cls.")] = "mean"
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a head.")] = 5
    hidden: Annotated[int | None, typer.Option(min=1, help="Width of a head; default its input's.")] = None
    seeds: Annotated[int, typer.Option(min=1, help="Heads a cell.")] = 3


@verb(group=group)
def stitch(
    encoder: Annotated[Path, typer.Argument(help="Directory of the encoder that is read without training.", metavar="ENCODER")],
    decoder: Annotated[Path, typer.Argument(help="Directory of the encoder that the head is trained on.", metavar="DECODER")],
    *,
    texts: Texts,
    heads: Heads,
    out: Annotated[Path | None, typer.Option(help="Directory for anchors, figures and report; appears whole.")] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "cpu",
    json_output: Json = False,
) -> dict[str, Any]:
    """A classifier of DECODER's vectors reads ENCODER's: absolute, relative to shared anchors, and through an orthogonal map."""
    from regraft.align.stitch import Asked
    from regraft.align.stitch import stitch as run
    from regraft.align.stitching import HeadSettings
    from regraft.errors import ParameterError

    if heads.pooling not in ("mean", "cls"):
        raise ParameterError(f"--pooling {heads.pooling}: choose mean or cls")
    head = HeadSettings(hidden=heads.hidden, epochs=heads.epochs)
    given: dict[str, Any] = {"steps": heads.steps, "pooling": heads.pooling, "seeds": heads.seeds, **vars(texts)}
    report, figures = run(encoder, decoder, Asked(head=head, seed=seed, device=device, **given), out, overwrite=overwrite)
    if not json_output:
        report.print()
        if out is not None:
            print(f"\n{out}: anchors.json, stitching.json, report.html")
    return figures
