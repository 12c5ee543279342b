"""`regraft text explain`: which named concepts make two texts near."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group


@verb(group=group)
def explain(
    model: Annotated[
        str, typer.Argument(help="A model trained by sesa, or a knowledge base (.jsonl), which esa is made of.", metavar="MODEL")
    ],
    *,
    query: Annotated[list[str] | None, typer.Option("--query", help="Text of one side; repeated: its fields.")] = None,
    document: Annotated[list[str] | None, typer.Option("--document", help="Text of the other side; repeated: its fields.")] = None,
    query_concept: Annotated[list[str] | None, typer.Option(help="A concept that the query is known to have. Repeatable.")] = None,
    document_concept: Annotated[list[str] | None, typer.Option(help="A concept that the document is known to have. Repeatable.")] = None,
    known: Annotated[str, typer.Option(help="Known concepts: max (beside what the text says) or alone.")] = "max",
    fields: Annotated[str, typer.Option(help="Several texts of a side: max or add, concept by concept.")] = "max",
    top: Annotated[int, typer.Option(help="Concepts that are shown.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", help="The .html page to write.")] = None,
    device: o.Device = "cpu",
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Say why two texts are near: what each named concept adds to their cosine."""
    from regraft.errors import ParameterError
    from regraft.text.explain import Side
    from regraft.text.explain import explain as run
    from regraft.text.explicit.vectors import Fields, Known

    for name, given, accepted in (("known", known, get_args(Known)), ("fields", fields, get_args(Fields))):
        if given not in accepted:
            raise ParameterError(f"--{name} {given}: choose {' or '.join(accepted)}")
    report, figures = run(
        model,
        Side(query or (), query_concept or ()),
        Side(document or (), document_concept or ()),
        top=top,
        fields=fields,  # type: ignore[arg-type]  # checked above
        known=known,  # type: ignore[arg-type]  # checked above
        out=out,
        device=device,
    )
    if not json_output:
        report.print()
        if out is not None:
            print(f"page: {out}")
    return figures
