"""`regraft compare`: every start of new rows beside the untouched model, on text or on a task."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.adapt import training_from
from regraft.cli.app import verb
from regraft.cli.options import Yaml
from regraft.errors import ParameterError
from regraft.method.settings_text import parse_budget, parse_settings

TASK_STEPS = "200"
SCORE_BYTES, FINALISTS = "10000", "5"
HELD_OUT = 0.1


@o.options
class Labels:
    """Labelled examples to fine-tune on, instead of text to score."""

    task: Annotated[
        str | None,
        typer.Option(
            help="Fine-tune on labelled examples instead of scoring text: tagging, coding or classification with --labels, or one of "
            "ncbi-disease, bc5cdr, trec-6, icd-10-chapters, icd-10-blocks, icd-10-notes. Needs --ontology."
        ),
        Yaml(about="fine-tune on this instead of scoring text: a named task, tagging, coding, classification"),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(help="Labelled examples: CoNLL, BRAT folder, or JSONL to tag; CSV, TSV or JSONL to code or classify."),
        Yaml(about="labelled examples to train on"),
    ] = None
    test_labels: Annotated[
        Path | None,
        typer.Option(help="Examples to measure by; without it a share of --labels is held out by hash."),
        Yaml(about="labelled examples to measure by"),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the labels in tables (labels, or label to classify)."),
        Yaml(about="label column of tables"),
    ] = None
    shares: Annotated[
        str,
        typer.Option(help="Percentages of the labels to train on, ascending."),
        Yaml(about="percentages of the labels: 5,10,20,50,100", as_text=True),
    ] = "5,10,20,50,100"
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Fine-tunings of each vocabulary at each share."),
        Yaml(about="fine-tunings of each vocabulary at each share", gt=0),
    ] = 3
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyper-parameter, field=value. Repeatable."),
        Yaml(about="with a task, hyper-parameters of K-Tokeniser"),
    ] = None


@o.options
class Budget(o.Budget):
    """The same for every method."""

    train: Annotated[
        str | None,
        typer.Option(
            "--train", help="The same budget for every method: 1min, or 20 for steps; 0 trains nothing. With --task: 200, 3epochs."
        ),
        Yaml(about="budget of training: 2min, 200 (steps) or 2epochs", pattern=r"^\d+(\.\d+)?( ?[a-z]+)?$", as_text=True),
    ] = None


@o.options
class Reading:
    """What is read of the text or the labels, how much of it is scored, and what is then trained."""

    text_column: o.TextColumn = None
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of documents that is only ever scored; by default 0.1, of labelled examples 0.2."),
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
        typer.Option(help="Names of starts, separated by commas, or all. With --task also base, added-words, default-rows, random-rows."),
        Yaml(about="names, or all", listed=True),
    ] = "all",
    change: o.Change,
    labelled: Labels,
    budget: Budget,
    resources: o.Resources,
    reading: Reading,
    placement: o.Placement,
    showing: o.Showing,
) -> dict[str, Any]:
    """Run many starts on the same tokenizer change: one table, one page, one row a method even where another fails."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if labelled.task is not None:
        refuse_beside_task(change, {"corpus": corpus, "source_text": resources.source_text})
        if reading.finalists is not None:
            raise ParameterError("--finalists is for comparisons on text: on a task every method is fine-tuned")
        return compare_tasks(model, out, names, change, labelled, budget, resources, reading, placement, showing)
    if corpus is None:
        raise ParameterError("compare needs text to score: give --corpus PATH, or labelled examples with --task")
    for name in ("labels", "test_labels", "label_column", "settings"):
        if getattr(labelled, name) is not None:
            option = "set" if name == "settings" else name.replace("_", "-")
            raise ParameterError(f"--{option} goes with --task: say which with --task tagging, coding, classification or a named one")
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


def compare_tasks(
    model: str,
    out: Path | None,
    methods: list[str],
    change: o.Change,
    labelled: Labels,
    budget: Budget,
    resources: o.Resources,
    reading: Reading,
    placement: o.Placement,
    showing: o.Showing,
) -> dict[str, Any]:
    """What labelled examples teach a model under every vocabulary."""
    from regraft.checkpoint import Checkpoint
    from regraft.tasks.task import check_encoder
    from regraft.vocab.tasks.arms import arm_names
    from regraft.vocab.tasks.compare import compare_on_task, open_task
    from regraft.vocab.tasks.learning_curve import Plan

    shares, tuning = parse_shares(labelled.shares), fine_tuning_from(budget.train, budget.train_settings)
    settings, ontology = parse_settings(labelled.settings or []), change.ontology or []
    plan, names = Plan(shares=shares, seeds=labelled.seeds, first_seed=placement.seed, tuning=tuning), arm_names(methods)
    held_out = {} if reading.held_out is None else {"held_out": reading.held_out}
    data = open_task(
        str(labelled.task),
        labelled.labels,
        labelled.test_labels,
        text_column=reading.text_column,
        label_column=labelled.label_column,
        **held_out,
    )
    if showing.dry_run:
        check_encoder(Checkpoint.open(model, vocabulary=True))
        steps = [plan.tuning.length(data.size(share)) for share in plan.shares]
        found = data.summary() | {
            "methods": names,
            "runs": len(names) * len(steps) * plan.seeds,
            "steps": len(names) * plan.seeds * sum(steps),
        }
        if not showing.json_output:
            for name, value in found.items():
                print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
        return found
    aids, placed = resources.aids(tuple(ontology)), {"device": placement.device, "dtype": placement.dtype}
    done = compare_on_task(model, data, plan=plan, aids=aids, ontology=ontology, methods=methods, settings=settings, out=out, **placed)
    if not showing.json_output:
        show(done.report, out)
    return done.to_dict()


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


def show(report: Any, out: Path | None) -> None:
    report.print()
    if out:
        print(f"\nreport: {out / 'comparison.html'}")


def refuse_beside_task(change: o.Change, given: dict[str, Any]) -> None:
    """Raise `ParameterError` for an option that means nothing beside --task."""
    changes = {name: getattr(change, name) for name in ("extend", "replace", "words", "trim")}
    for name, value in (changes | given).items():
        if value:
            raise ParameterError(f"--{name.replace('_', '-')} does not go with --task: its vocabularies come from --ontology")


def parse_shares(text: str) -> tuple[float, ...]:
    """`"5,10,100"` -> (0.05, 0.1, 1.0)."""
    try:
        return tuple(float(part.strip().removesuffix("%")) / 100 for part in text.split(",") if part.strip())
    except ValueError:
        raise ParameterError(f"--shares {text}: write percentages with commas between them, such as 5,10,20,50,100") from None


def fine_tuning_from(budget: str | None, settings: list[str] | None) -> Any:
    """The `FineTuning` that --train and --train-set ask for."""
    from regraft.method import configure
    from regraft.tasks.fine_tuning import FineTuning

    text = (budget or TASK_STEPS).strip().lower()
    length = parse_budget(text)
    if "minutes" in length or not next(iter(length.values())):
        raise ParameterError(f"--train {budget}: tasks are fine-tuned for a number of steps (200) or epochs (3epochs)")
    return configure(FineTuning, length | parse_settings(settings or []))
