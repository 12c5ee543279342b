"""`regraft align fit`: a map between two tables of words."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.align import options as a
from regraft.cli.align.group import group
from regraft.cli.app import verb
from regraft.cli.completion import methods_of


@verb(group=group)
def fit(
    source: a.Source,
    target: a.Target,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the map.")],
    pairs: a.Pairs,
    method: Annotated[
        str, typer.Option("--method", help="See `regraft methods --family aligner`.", autocompletion=methods_of("aligner"))
    ] = "procrustes",
    settings: a.Settings = None,
    tables: a.Tables,
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Learn a map from the words of X to those of Y, from a dictionary, from words written alike, or (vecmap) from nothing."""
    from regraft.align.words.fit import fit as run
    from regraft.align.words.fit import seeded
    from regraft.method import parse_settings

    figures = run(
        source,
        target,
        dictionary=pairs.dictionary,
        seeds=pairs.seeds,
        method=method,
        settings=seeded(method, parse_settings(settings or []), seed),
        out=out,
        limit=tables.limit,
        latin=(tables.source_latin, tables.target_latin),
        overwrite=overwrite,
    )
    if not json_output:
        known, given = (f"{figures[key]:,}" for key in ("pairs", "pairs_given"))
        words = f"{figures['words']:,} of {figures['words_given']:,} source words"
        pairs_said = f"from {known} of {given} pairs ({words})" if figures["pairs_given"] else "without pairs"
        print(f"{figures['method']}: learned {pairs_said} in {figures['seconds']:.1f} s: {figures['out']}")
        for note in figures["notes"]:
            print(note)
    return figures
