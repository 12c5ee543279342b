"""`regraft text words`: vectors of the words of a corpus, by one of eight models or by all beside each other."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group


@o.options
class Texts:
    """How the corpus is read."""

    min_count: Annotated[int, typer.Option(min=1, help="Rarer words get no vector.")] = 5
    lowercase: Annotated[bool, typer.Option("--lowercase/--cased", help="Read words in lower case, or as they are written.")] = True
    cut: Annotated[str, typer.Option(help="letters: words are runs of letters or digits; spaces: the text is segmented already.")] = (
        "letters"
    )
    text_column: o.TextColumn = None


@o.options
class Measuring:
    """What vectors are measured by."""

    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            help="words, simlex, semantic, syntactic, synonyms, trec, mr, sts ... or files. By default none; to compare words,simlex,trec.",
        ),
    ] = ""
    dev: Annotated[str | None, typer.Option("--dev", help="End training by this task and keep its best pass.")] = None
    patience: Annotated[int, typer.Option(min=1, help="Passes without gain on --dev that end training.")] = 3


@o.options
class Training:
    """How the run goes, and what of it is written."""

    format: Annotated[str, typer.Option(help="text: word2vec's vectors.vec; npy: vectors.npy and vectors.txt.")] = "text"
    snapshots: Annotated[bool, typer.Option("--snapshots", help="Write the vectors of every pass too.")] = False
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training; with more than one no two runs give the same numbers.")] = 1
    seed: o.Seed = 0


@verb(group=group)
def words(
    corpus: Annotated[list[str], typer.Argument(help="Texts: files, folders, globs, tables.", metavar="CORPUS ...")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the vectors, or for the comparison.")],
    model: Annotated[
        str | None, typer.Option("--model", help="See `regraft methods --family word-model`; skipgram unless --compare is given.")
    ] = None,
    compare: Annotated[str | None, typer.Option("--compare", help="Models beside each other: names with commas, or all.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the model (of all that have it, to compare), field=value. Repeatable.")
    ] = None,
    texts: Texts,
    measuring: Measuring,
    training: Training,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Learn vectors of words from plain text, and see after every pass what they are worth."""
    from regraft.errors import ParameterError
    from regraft.method import parse_settings, resolve
    from regraft.text.words.train import Reading
    from regraft.text.words.train import words as run

    for name, given, known in (("cut", texts.cut, ("letters", "spaces")), ("format", training.format, ("text", "npy"))):
        if given not in known:
            raise ParameterError(f"--{name} {given}: choose {' or '.join(known)}")
    reading, given_settings = Reading(**vars(texts)), parse_settings(settings or [])
    tasks = [name.strip() for name in measuring.tasks.split(",") if name.strip()]
    watched: dict[str, Any] = {"dev": measuring.dev, "patience": measuring.patience, "seed": training.seed, "workers": training.threads}
    if compare is not None:
        own = {"model": model is not None, "snapshots": training.snapshots, "format": training.format != "text", "overwrite": overwrite}
        if given_too := [f"--{name}" for name, there in own.items() if there]:
            raise ParameterError(f"{given_too[0]} is for one model and --compare for several: give one of the two")
        from regraft.text.words.compare import compare as beside

        done = beside(corpus, compare, settings=given_settings, out=out, reading=reading, tasks=tasks, **watched)
        if not json_output:
            done.report.print()
        return {"rows": done.rows, "advice": done.advice}
    report, figures = run(
        corpus, resolve("word-model", model or "skipgram", given_settings), out=out, reading=reading, tasks=tasks, **watched,
        snapshots=training.snapshots, format=training.format, overwrite=overwrite,  # type: ignore[arg-type]  # a word that was asked above
    )  # fmt: skip
    if not json_output:
        report.print()
        print(f"{figures['out']}: {figures['vocabulary']:,} words, {figures['words_per_second']:,} words a second")
    return figures
