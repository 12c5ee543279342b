"""`regraft compare-tasks`: does a vocabulary help a model to learn from your labels?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of, tasks
from regraft.cli.options import Yaml
from regraft.errors import ParameterError
from regraft.method.settings_text import parse_budget, parse_settings

TASK_STEPS = "200"


@o.options
class Labels:
    """Labelled examples to fine-tune on."""

    panel: ClassVar[str] = "Labels"

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
class Tuning(o.Budget):
    """The same for every vocabulary."""

    train: Annotated[
        str | None,
        typer.Option("--train", help="Length of each fine-tuning: 200 for steps, the default, or 3epochs."),
        Yaml(about="length of each fine-tuning: 200 (steps) or 3epochs", pattern=r"^\d+(\.\d+)?( ?[a-z]+)?$", as_text=True),
    ] = None
    train_settings: Annotated[
        list[str] | None,
        typer.Option("--train-set", help="An option of fine-tuning, field=value: lr, batch_size ... Repeatable."),
        Yaml(about="options of fine-tuning: lr, batch_size ..."),
    ] = None


@verb("compare-tasks")
def compare_tasks(
    model: o.Model,
    *,
    task: Annotated[
        str,
        typer.Option(
            help="tagging, coding or classification, with --labels; or one of ncbi-disease, bc5cdr, trec-6, icd-10-chapters, "
            "icd-10-blocks, icd-10-notes.",
            autocompletion=tasks,
        ),
        Yaml(about="a named task, or tagging, coding, classification"),
    ],
    ontology: Annotated[
        list[str],
        typer.Option("--ontology", help="Make pieces from concept names: name=path; see `regraft adapt --help`. Repeatable."),
        Yaml(about="name=path of each ontology to make pieces of"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the page, the JSON and finished rows; the same call resumes there."),
        Yaml(about="directory for the page, the JSON and finished rows"),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Vocabularies, separated by commas, or all: base, added-words, default-rows, random-rows, k-tokeniser, or a start's name.",
            autocompletion=methods_of("initializer", listed=True),
        ),
        Yaml(about="names, or all", listed=True),
    ] = "all",
    labelled: Labels,
    budget: Tuning,
    resources: o.Aids,
    text_column: Annotated[str | None, typer.Option(help="Column of the text in tables.", rich_help_panel="Labels"), Yaml()] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of --labels that is only measured by; by default 0.2.", rich_help_panel="Labels"),
        Yaml(about="share of the labelled examples kept from training", ge=0, lt=1),
    ] = None,
    placement: o.Placement,
    showing: o.Showing,
) -> dict[str, Any]:
    """Fine-tune MODEL, an encoder, on growing shares of your labels under several vocabularies, side by side with intervals."""
    names, reading = [name.strip() for name in methods.split(",") if name.strip()], {"text_column": text_column, "held_out": held_out}
    return compare_on_labels(model, task, ontology, out, names, labelled, budget, resources, reading, placement, showing)


def compare_on_labels(
    model: str,
    task: str,
    ontology: list[str] | None,
    out: Path | None,
    methods: list[str],
    labelled: Labels,
    budget: o.Budget,
    resources: o.Aids,
    reading: Mapping[str, Any],
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
    settings, ontology = parse_settings(labelled.settings or []), ontology or []
    plan, names = Plan(shares=shares, seeds=labelled.seeds, first_seed=placement.seed, tuning=tuning), arm_names(methods)
    given = {name: value for name, value in reading.items() if value is not None}
    data = open_task(task, labelled.labels, labelled.test_labels, label_column=labelled.label_column, **given)
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


def show(report: Any, out: Path | None) -> None:
    report.print()
    if out:
        print(f"\nreport: {out / 'comparison.html'}")


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
