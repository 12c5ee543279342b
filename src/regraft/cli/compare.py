"""`regraft compare`: every start of new rows beside the untouched model, on text."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.adapt import training_from
from regraft.cli.app import verb
from regraft.cli.compare_tasks import Labels, compare_on_labels, show
from regraft.cli.completion import methods_of, tasks
from regraft.cli.options import Yaml
from regraft.errors import ParameterError
from regraft.method.settings_text import parse_budget

SCORE_BYTES, FINALISTS = "10000", "5"
HELD_OUT = 0.1


@o.options
class OldLabels(Labels):
    """`compare --task` of earlier builds, which is `compare-tasks` now."""

    hidden: ClassVar[bool] = True

    task: Annotated[
        str | None,
        typer.Option(help="As `regraft compare-tasks --task`.", autocompletion=tasks),
        Yaml(about="fine-tune on this instead of scoring text: a named task, tagging, coding, classification"),
    ] = None


@o.options
class Budget(o.Budget):
    """The same for every method."""

    train: Annotated[
        str | None,
        typer.Option("--train", help="The same budget for every method: 20 for steps, or 1min; 0 trains nothing."),
        Yaml(about="budget of training: 2min, 200 (steps) or 2epochs", pattern=r"^\d+(\.\d+)?( ?[a-z]+)?$", as_text=True),
    ] = None


@o.options
class Reading:
    """What is read of the text, how much of it is scored, and what is then trained."""

    panel: ClassVar[str] = "Scoring"

    text_column: o.TextColumn = None
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of documents that is only ever scored; by default 0.1."),
        Yaml(about="share of documents kept from training", ge=0, lt=1),
    ] = None
    score_bytes: Annotated[
        str | None,
        typer.Option(help="Bytes of each text to score, drawn by hash, by default 10000; all scores everything."),
        Yaml(about="bytes of each text to score: 60000, 200k or all", as_text=True),
    ] = None
    finalists: Annotated[
        str | None, typer.Option(help="Train only so many starts, the best at step 0; by default 5. all trains every one.")
    ] = None


@verb()
def compare(
    model: o.Model,
    *,
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Text: files, folders, globs, tables, catalogues, - for stdin. Repeatable."),
        Yaml(about="files, folders, patterns"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the page, the JSON and finished rows; the same call resumes there."),
        Yaml(about="directory for the page, the JSON and finished rows"),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="Names of starts, separated by commas, or all.", autocompletion=methods_of("initializer", listed=True)),
        Yaml(about="names, or all", listed=True),
    ] = "all",
    change: o.Change,
    budget: Budget,
    resources: o.Resources,
    reading: Reading,
    placement: o.Placement,
    labelled: OldLabels,
    showing: o.Showing,
) -> dict[str, Any]:
    """Run many starts on the same tokenizer change: one table, one page, one row a method even where another fails."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if labelled.task is not None:
        refuse_beside_task(change, {"corpus": corpus, "source_text": resources.source_text})
        if reading.finalists is not None:
            raise ParameterError("--finalists is for comparisons on text: on a task every method is fine-tuned")
        part = {"text_column": reading.text_column, "held_out": reading.held_out}
        return compare_on_labels(model, labelled.task, change.ontology, out, names, labelled, budget, resources, part, placement, showing)
    if corpus is None:
        raise ParameterError("compare needs text to score: give --corpus PATH; labelled examples go to `regraft compare-tasks`")
    for name in ("labels", "test_labels", "label_column", "settings"):
        if getattr(labelled, name) is not None:
            option = "set" if name == "settings" else name.replace("_", "-")
            raise ParameterError(f"--{option} goes with --task, for which there is `regraft compare-tasks`")
    return compare_text(model, corpus, out, names, change, budget, resources, reading, placement, showing)


def compare_text(
    model: str,
    corpus: list[str],
    out: Path | None,
    methods: list[str],
    change: o.Change,
    budget: Budget,
    resources: o.Resources,
    reading: Reading,
    placement: o.Placement,
    showing: o.Showing,
) -> dict[str, Any]:
    """What text costs under every start."""
    from regraft.vocab.compare import compare as run
    from regraft.vocab.compare import starts
    from regraft.vocab.dry_run import estimate

    training = text_training(budget.train, budget.train_settings)
    held_out = HELD_OUT if reading.held_out is None else reading.held_out
    common: dict[str, Any] = {"corpus": corpus, "text_column": reading.text_column, "held_out": held_out, **vars(change)}
    if showing.dry_run:
        chosen = starts(methods, {})
        found = estimate(model, out=None, method=chosen[0].name, **common)
        found.report.print()
        return found.figures | {"methods": [start.name for start in chosen]}
    done = run(
        model,
        methods=methods,
        out=out,
        training=training,
        source_text=resources.source_text,
        aids=resources.aids(),
        score_bytes=o.parse_score_bytes(reading.score_bytes or SCORE_BYTES),
        finalists=finalists_from(reading.finalists or FINALISTS),
        **vars(placement),
        **common,
    )
    if not showing.json_output and done.report is not None:
        show(done.report, out)
    return {"rows": done.rows}


def text_training(budget: str | None, settings: list[str] | None) -> Any:
    """The `Training` that --train and --train-set ask for; without --train what `regraft.vocab.compare` does by itself.

    A number of steps is trained as gently as that; minutes and epochs have room for the whole rate.
    """
    from regraft.vocab.compare import DEFAULT_TRAINING, GENTLE

    length = str(DEFAULT_TRAINING.steps) if budget is None else budget
    gentle = [f"{name}={value}" for name, value in GENTLE.items()] if "steps" in parse_budget(length) else []
    return training_from(length, [*gentle, *(settings or [])], curve=budget is not None)


def finalists_from(text: str) -> int | None:
    """`"5"` -> 5, `"all"` -> None. Raises `ParameterError` for what is no number of starts."""
    if text.strip().lower() == "all":
        return None
    if not text.strip().isdigit() or not int(text):
        raise ParameterError(f"--finalists {text}: give how many starts to train, at least 1, or all; --train 0 trains none")
    return int(text)


def refuse_beside_task(change: o.Change, given: dict[str, Any]) -> None:
    """Raise `ParameterError` for an option that means nothing beside --task."""
    changes = {name: getattr(change, name) for name in ("extend", "replace", "words", "trim")}
    for name, value in (changes | given).items():
        if value:
            raise ParameterError(f"--{name.replace('_', '-')} does not go with --task: its vocabularies come from --ontology")
