"""`regraft tables compress`: a table that is there, made smaller."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.options import Yaml
from regraft.cli.tables.group import group


@o.options
class Measuring:
    """How the small table is measured beside the plain one."""

    panel: ClassVar[str] = "Measuring"

    k: Annotated[int, typer.Option("--k", min=1, help="Nearest rows of which recall is measured.")] = 10
    queries: Annotated[int, typer.Option(min=1, help="Rows that ask, drawn by --seed.")] = 1000
    similarity: Annotated[str, typer.Option(help="What near means: cosine or inner (product)."), Yaml(choices=("cosine", "inner"))] = (
        "cosine"
    )
    also: Annotated[
        str | None,
        typer.Option("--also", help="Further budgets with commas between, measured for the picture and not written."),
        Yaml(about="further budgets to measure, with commas between", as_text=True),
    ] = None


@o.options
class Scored:
    """Text that a language model is scored on, before and after."""

    panel: ClassVar[str] = "Scoring"

    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Of a language model: text to score before and after. Files, folders, globs, tables. Repeatable."),
        Yaml(about="files, folders, patterns"),
    ] = None
    text_column: o.TextColumn = None
    score_bytes: o.ScoreBytes = "60000"


@verb(group=group)
def compress(
    table: Annotated[
        Path,
        typer.Argument(help="Vectors (.npy, .vec, .txt, .bin), a model2vec folder, or a model's directory.", metavar="TABLE"),
        Yaml(about="vectors, a model2vec folder, or a model's directory"),
    ],
    *,
    budget: Annotated[
        str,
        typer.Option("--budget", help="Most memory: a share of the float32 table (10%, 0.1), or a size (12MB)."),
        Yaml(about="10%, 0.1 or 12MB", as_text=True),
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory to write; appears whole or not at all.")],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="See `regraft methods --family table`; auto keeps the one with the best recall.",
            autocompletion=methods_of("table"),
        ),
    ] = "auto",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, field=value. Repeatable.")] = None,
    measuring: Measuring,
    scored: Scored,
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Make a table smaller after training, measure what it lost, and write it; of a model also a checkpoint that loads as before."""
    from typing import cast

    from regraft.errors import ParameterError
    from regraft.method import parse_settings
    from regraft.tables import compress as job

    if measuring.similarity not in ("cosine", "inner"):
        raise ParameterError(f"--similarity {measuring.similarity}: choose cosine or inner")
    done = job.compress(
        table,
        budget,
        method=method,
        settings=parse_settings(settings or []),
        out=out,
        also=[one.strip() for one in (measuring.also or "").split(",") if one.strip()],
        measuring=job.Measuring(k=measuring.k, queries=measuring.queries, similarity=cast(Any, measuring.similarity), seed=seed),
        text=job.Text(paths=scored.corpus, column=scored.text_column, score_bytes=o.parse_score_bytes(scored.score_bytes)),
        overwrite=overwrite,
    )
    if not json_output:
        done.report.print()
        print(f"\ntable:  {out}\nreport: {out / 'report.html'}")
    return done.figures
