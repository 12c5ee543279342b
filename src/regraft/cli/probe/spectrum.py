"""`regraft probe spectrum`: RankMe and its kin, of a table, a file of rows, or hidden states."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.probe.group import group


@o.options
class Read:
    """What is read as rows, and how."""

    key: Annotated[str | None, typer.Option("--key", help="The tensor of a .safetensors, or the column of lists of a .parquet.")] = None
    layer: Annotated[
        int | None, typer.Option(help="Hidden states of this layer instead of the table: 0 the input, -1 the last. Needs --text.")
    ] = None
    text: Annotated[list[str] | None, typer.Option("--text", help="Text for --layer: files, folders, globs, tables. Repeatable.")] = None
    text_column: o.TextColumn = None
    pool: Annotated[str, typer.Option(help="With --layer: mean (a row a text) or tokens (a row a token).")] = "mean"
    limit: Annotated[int, typer.Option(min=1, help="With --layer: at most so many rows.")] = 25_600
    leave_out: Annotated[str | None, typer.Option("--leave-out", help="Row numbers not to measure: 0,1,2, or a file of them.")] = None
    every_row: Annotated[
        bool, typer.Option("--every-row", help="Of a table, leave out neither special tokens nor those that cannot occur.")
    ] = False
    samples: Annotated[
        str | None, typer.Option("--samples", help="Which sample each row is a view of: a file of whole numbers. For LiDAR and alignment.")
    ] = None
    draws: Annotated[int, typer.Option(min=0, help="Draws of rows for intervals; 0 for none.")] = 50
    exact: Annotated[bool, typer.Option("--exact", help="Singular values of the rows in memory, not of their Gram matrix.")] = False

    def reading(self, placement: o.Placement) -> Any:
        """The job's own words for all of this."""
        from regraft.errors import ParameterError
        from regraft.probe.spectrum.describe import Reading

        if self.pool not in ("mean", "tokens"):
            raise ParameterError(f"--pool {self.pool}: choose mean or tokens")
        given = vars(self) | vars(placement) | {"text": tuple(self.text or ())}
        ids = parse_numbers(given.pop("samples"), "--samples")
        return Reading(**given | {"leave_out": parse_numbers(self.leave_out), "sample_ids": ids})


@o.options
class Kept:
    """Where the page and the figures go."""

    out: Annotated[Path | None, typer.Option(help="Directory for the page, the figures and regraft.json.")] = None
    overwrite: o.Overwrite = False


@verb(group=group)
def spectrum(
    source: Annotated[
        str, typer.Argument(help="A checkpoint directory or Hub id, or a .npy, .safetensors or .parquet of rows.", metavar="SOURCE")
    ],
    *,
    read: Read,
    kept: Kept,
    placement: o.Placement,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Measure the rank and spread of rows: RankMe, alpha-ReQ, NESum, IsoScore and others, each with an interval and how to read it."""
    from regraft.probe.spectrum.describe import describe

    report, figures = describe(source, read.reading(placement), **vars(kept))
    if not json_output:
        report.print()
    return figures


@verb(group=group)
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more runs of one method and one size.", metavar="RUN1 RUN2 ...")],
    *,
    ordered: Annotated[
        str,
        typer.Option(help="smallest or largest: runs stand in order of a swept value; of a plateau that end is taken. no: the highest."),
    ] = "no",
    read: Read,
    kept: Kept,
    placement: o.Placement,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Choose a run without labels: the highest RankMe, with intervals; runs that do not compare are refused."""
    from regraft.errors import ParameterError
    from regraft.probe.spectrum.describe import compare as run

    if ordered not in ("no", "smallest", "largest"):
        raise ParameterError(f"--ordered {ordered}: choose no, smallest or largest")
    report, figures = run(runs, read.reading(placement), ordered=ordered, **vars(kept))  # type: ignore[arg-type]  # checked above
    if not json_output:
        report.print()
    return figures


def parse_numbers(given: str | None, option: str = "--leave-out") -> tuple[int, ...]:
    """`"0,1,2"`, or a file with numbers apart by spaces, commas or lines. Raises `ParameterError` for others."""
    from regraft.errors import ParameterError

    if given is None:
        return ()
    try:
        text = Path(given).read_text("utf-8") if Path(given).is_file() else given
        return tuple(int(part) for part in text.replace(",", " ").split())
    except (OSError, ValueError):
        raise ParameterError(f"{option} {given}: write whole numbers as 0,1,2, or give a file of them") from None
