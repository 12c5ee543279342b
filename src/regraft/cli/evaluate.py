"""`regraft evaluate`: what text costs a model, per byte."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.options import Yaml


@o.options
class Scoring:
    """What is read, and how it is scored."""

    panel: ClassVar[str] = "Scoring"

    text_column: o.TextColumn = None
    window: Annotated[int, typer.Option(min=2, help="Longest window in tokens.")] = 1024
    stride: Annotated[int | None, typer.Option(min=1, help="Tokens a window advances; default half the window.")] = None
    score_bytes: o.ScoreBytes = "all"
    generate: Annotated[bool, typer.Option("--generate", help="Also measure bytes written per second and per decoding step.")] = False


@o.options
class Pairs:
    """What is translated, and how it is asked for."""

    panel: ClassVar[str] = "Translation"

    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Also translate: sources and references, TSV, CSV or JSONL; chrF."),
        Yaml(about="a TSV, CSV or JSONL file of sources and references, to translate"),
    ] = None
    bitext: Annotated[tuple[Path, Path] | None, typer.Option("--bitext", help="The same as two files of parallel lines."), Yaml()] = None
    examples: Annotated[
        int, typer.Option(min=1, help="Pairs that a prompt shows; they are not scored."), Yaml(about="pairs that a prompt shows", gt=0)
    ] = 5
    template: Annotated[
        str,
        typer.Option(help="A pair in a prompt: {source}, and {reference} at the end."),
        Yaml(about="how a prompt writes a pair: {source}, and {reference} at the end"),
    ] = "{source} = {reference}"
    sentences: Annotated[
        int | None,
        typer.Option(min=1, help="Translate so many, drawn by --seed; default all."),
        Yaml(about="how many pairs to translate", gt=0),
    ] = None


@verb()
def evaluate(
    model: o.Model,
    *,
    text: Annotated[
        list[str],
        typer.Option("--text", help="Text to score: files, folders, globs, tables, - for stdin. Repeatable."),
        Yaml(about="files, folders, patterns"),
    ],
    scoring: Scoring,
    pairs: Pairs,
    placement: o.Placement,
    showing: o.Showing,
) -> dict[str, Any]:
    """Score text: bits per byte with an interval, tokens per byte, word and document, bytes per second; on request chrF of translations."""
    from regraft.errors import ParameterError
    from regraft.evaluation.checkpoint import Translating
    from regraft.evaluation.checkpoint import evaluate as run

    if pairs.pairs is not None and pairs.bitext is not None:
        raise ParameterError("--pairs and --bitext are both given: give the pairs in one way")
    given = pairs.pairs or pairs.bitext
    asked: dict[str, Any] = {"examples": pairs.examples, "template": pairs.template, "sentences": pairs.sentences}
    report, figures = run(
        model,
        text,
        translating=None if given is None else Translating(pairs=given, **asked),
        dry_run=showing.dry_run,
        **vars(scoring) | {"score_bytes": o.parse_score_bytes(scoring.score_bytes)},
        **vars(placement),
    )
    if not showing.json_output:
        report.print()
    return figures
