"""`regraft bias bases`: class vectors that are nearly orthogonal to each other, certified."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.bias.group import group


@verb(group=group)
def bases(
    *,
    classes: Annotated[int, typer.Option("--classes", help="How many vectors; with --grow, how many more.")],
    dim: Annotated[int, typer.Option("--dim", help="Their dimension; with --grow, that of the file.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")],
    alpha: Annotated[float | None, typer.Option("--alpha", help="Greatest cosine allowed. Default: as small as the steps come to.")] = None,
    generator: Annotated[
        str, typer.Option("--generator", help="auto, orthogonal, simplex, hinge (the paper's), squared-hinge, p-norm, random.")
    ] = "auto",
    signed: Annotated[bool, typer.Option("--signed", help="Bound the cosine itself, not its absolute value.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of descent at most.", min=1)] = None,
    grow: Annotated[Path | None, typer.Option("--grow", help="Keep the rows of this file, and add to them.")] = None,
    store: Annotated[str, typer.Option("--store", help="float32, float16 or int8.")] = "float32",
    seed: o.Seed = 42,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Make unit vectors, one a class, whose greatest cosine is certified beside the Welch bound."""
    from regraft.bias.equiangular.bases import Bases, grow_bases, make_bases
    from regraft.errors import OutputError, ParameterError

    if generator not in (known := ("auto", "orthogonal", "simplex", "hinge", "squared-hinge", "p-norm", "random")):
        raise ParameterError(f"--generator {generator}: choose {', '.join(known)}")
    if out.is_dir() or out.suffix != ".safetensors":
        raise OutputError(f"--out {out}: name a file that ends in .safetensors")
    if grow is not None:
        found = grow_bases(Bases.load(grow), classes, alpha=alpha, steps=steps, seed=seed)
    else:
        found = make_bases(classes, dim, alpha=alpha, generator=generator, signed=signed, steps=steps, seed=seed)  # type: ignore[arg-type]
    found.save(out, store)
    facts = Bases.load(out).facts
    if not json_output:
        print(
            f"{facts['classes']:,} vectors in {facts['dim']:,} dimensions: greatest cosine {facts['greatest_cosine']:.4f}, mean "
            f"{facts['mean_cosine']:.4f}; no set is below {facts['bound']:.4f} (Welch), random rows have {facts['random_cosine']:.4f}"
        )
        print(out)
    return facts
