"""`regraft probe syntax`: how much of a programming language's syntax each layer holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.probe.group import group
from regraft.cli.probe.spectrum import Kept


@o.options
class Code:
    """What code is probed."""

    code: Annotated[Path, typer.Option("--code", help="A folder of source files, or one file.")]
    language: Annotated[str | None, typer.Option(help="python, javascript or go; by how files end otherwise.")] = None
    functions: Annotated[int, typer.Option(min=1, help="At most so many functions a language.")] = 1500
    max_length: Annotated[int, typer.Option(min=1, help="Sub-tokens of a function, special ones included; longer ones are left out.")] = 256


@o.options
class Probing:
    """Which probes are trained."""

    layers: Annotated[str, typer.Option(help="all, or numbers: 0 the input, -1 the last."), o.Yaml(listed=True)] = "all"
    rank: Annotated[int, typer.Option(min=1, help="Dimensions of the projection.")] = 128
    ranks: Annotated[str | None, typer.Option(help="Sweep these on the best layer: 8,16,32,64."), o.Yaml(listed=True)] = None
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Probe layer 0 and the same model with random layers as well.")
    ] = True
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="field=value: epochs, patience, lr, batch, orthogonality, compat=released. Repeatable."),
    ] = None
    cache: Annotated[Path | None, typer.Option(help="Where states and finished probes are kept; the user's cache otherwise.")] = None


@verb(group=group)
def syntax(
    model: o.Model,
    *,
    code: Code,
    probing: Probing,
    kept: Kept,
    placement: o.Placement,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Rebuild syntax trees of unseen functions from each layer (AST-Probe), beside the input and random layers."""
    from regraft.method import resolve
    from regraft.method.settings_text import parse_settings
    from regraft.probe.syntax import Asked, probe_syntax

    method = resolve("probe", "ast-probe", {"rank": probing.rank} | parse_settings(probing.settings or []))
    asked = Asked(
        **vars(code) | vars(placement),
        layers=None if probing.layers.strip() == "all" else parse_list("--layers", probing.layers),
        ranks=parse_list("--ranks", probing.ranks) if probing.ranks else (),
        controls=probing.controls,
        cache=probing.cache,
    )
    report, figures = probe_syntax(model, method, asked, **vars(kept))
    if not json_output:
        report.print()
        if kept.out is not None:
            print(f"\n{kept.out}: report.html, figures.json, probe-*.safetensors")
    return figures


def parse_list(option: str, given: str) -> tuple[int, ...]:
    """`"0,3,6"`. Raises `ParameterError` for others."""
    from regraft.errors import ParameterError

    try:
        found = tuple(int(part) for part in given.split(","))
    except ValueError:
        raise ParameterError(f"{option} {given}: write numbers as 0,3,6") from None
    if option == "--ranks" and min(found) < 1:
        raise ParameterError(f"{option} {given}: ranks are 1 or more")
    return found
