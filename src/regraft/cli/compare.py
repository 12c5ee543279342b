"""`regraft compare`: every start of new rows beside the untouched model, on text or on a task."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.adapt import training_from
from regraft.cli.app import Device, DryRun, Dtype, Json, Seed, verb
from regraft.errors import ParameterError
from regraft.method.settings_text import parse_budget, parse_settings

TASK_STEPS = "200"
SCORE_BYTES, FINALISTS = "10000", "5"
HELD_OUT = 0.1


@verb()
def compare(
    model: o.Model,
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", help="Text: files, folders, globs, tables, catalogues, - for stdin. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the page, the JSON and finished rows; the same call resumes there.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="Names of starts, separated by commas, or all. With --task also base, added-words, default-rows, random-rows."),
    ] = "all",
    extend: o.Extend = None,
    replace: o.Replace = None,
    words: o.Words = None,
    trim: o.Trim = False,
    ontology: o.Ontologies = None,
    route: o.Route = "continued",
    widen_pretokenizer: o.Widen = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="Fine-tune on labelled examples instead of scoring text: tagging, coding or classification with --labels, or one of "
            "ncbi-disease, bc5cdr, trec-6, icd-10-chapters, icd-10-blocks, icd-10-notes. Needs --ontology."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labelled examples: CoNLL, BRAT folder, or JSONL to tag; CSV, TSV or JSONL to code or classify.")
    ] = None,
    test_labels: Annotated[
        Path | None, typer.Option(help="Examples to measure by; without it a share of --labels is held out by hash.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels in tables (labels, or label to classify).")] = None,
    shares: Annotated[str, typer.Option(help="Percentages of the labels to train on, ascending.")] = "5,10,20,50,100",
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tunings of each vocabulary at each share.")] = 3,
    settings: o.Settings = None,
    train: Annotated[
        str | None,
        typer.Option(
            "--train", help="The same budget for every method: 1min, or 20 for steps; 0 trains nothing. With --task: 200, 3epochs."
        ),
    ] = None,
    train_settings: o.TrainSettings = None,
    source_text: o.SourceText = None,
    donor: o.Donor = None,
    vectors: o.Vectors = None,
    source_vectors: o.SourceVectors = None,
    dictionary: o.Dictionary = None,
    bitext: o.Bitext = None,
    text_column: o.TextColumn = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of documents that is only ever scored; by default 0.1, of labelled examples 0.2.")
    ] = None,
    score_bytes: Annotated[
        str | None, typer.Option(help="Bytes of each text to score, drawn by hash, by default 10000; all scores everything.")
    ] = None,
    finalists: Annotated[
        str | None, typer.Option(help="Train only so many starts, the best at step 0; by default 5. all trains every one.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Run many starts on the same tokenizer change: one table, one page, one row a method even where another fails."""
    from regraft.vocab.initializer import Aids

    change: dict[str, Any] = {"extend": extend, "replace": replace, "words": words, "trim": trim}
    files: dict[str, Any] = {
        "donor": donor,
        "vectors": vectors,
        "source_vectors": source_vectors,
        "dictionary": dictionary,
        "bitext": bitext,
    }
    names = [name.strip() for name in methods.split(",") if name.strip()]
    placed: dict[str, Any] = {"device": device, "dtype": dtype, "out": out}
    if task is not None:
        refuse_beside_task(change | {"corpus": corpus, "source_text": source_text})
        if finalists is not None:
            raise ParameterError("--finalists is for comparisons on text: on a task every method is fine-tuned")
        return compare_tasks(
            model,
            task,
            {"labels": labels, "test_labels": test_labels, "text_column": text_column, "label_column": label_column, "held_out": held_out},
            {"shares": parse_shares(shares), "seeds": seeds, "first_seed": seed, "tuning": fine_tuning_from(train, train_settings)},
            {"ontology": ontology or [], "methods": names, "settings": parse_settings(settings or []), **placed},
            Aids(ontology=tuple(ontology or ()), **files),
            dry_run=dry_run,
            json_output=json_output,
        )
    from regraft.vocab.compare import compare as run
    from regraft.vocab.compare import starts
    from regraft.vocab.dry_run import estimate

    if corpus is None:
        raise ParameterError("compare needs text to score: give --corpus PATH, or labelled examples with --task")
    for name, value in (("labels", labels), ("test-labels", test_labels), ("label-column", label_column), ("set", settings)):
        if value is not None:
            raise ParameterError(f"--{name} goes with --task: say which with --task tagging, coding, classification or a named one")
    change |= {"ontology": ontology, "route": route, "widen_pretokenizer": widen_pretokenizer}
    training = text_training(train, train_settings)
    reading: dict[str, Any] = {"corpus": corpus, "text_column": text_column, "held_out": HELD_OUT if held_out is None else held_out}
    if dry_run:
        chosen = starts(names, {})
        found = estimate(model, out=None, method=chosen[0].name, **reading, **change)
        found.report.print()
        return found.figures | {"methods": [start.name for start in chosen]}
    done = run(
        model,
        methods=names,
        training=training,
        source_text=source_text,
        aids=Aids(**files),
        score_bytes=o.parse_score_bytes(score_bytes or SCORE_BYTES),
        finalists=finalists_from(finalists or FINALISTS),
        seed=seed,
        **placed,
        **reading,
        **change,
    )
    if not json_output and done.report is not None:
        show(done.report, out)
    return {"rows": done.rows}


def compare_tasks(
    model: str,
    task: str,
    reading: dict[str, Any],
    planned: dict[str, Any],
    arguments: dict[str, Any],
    aids: Any,
    *,
    dry_run: bool,
    json_output: bool,
) -> dict[str, Any]:
    """The same comparison on labelled examples; `reading` are the options of the labels, `planned` those of `Plan`."""
    from regraft.checkpoint import Checkpoint
    from regraft.tasks.task import check_encoder
    from regraft.vocab.tasks.arms import arm_names
    from regraft.vocab.tasks.compare import compare_on_task, open_task
    from regraft.vocab.tasks.learning_curve import Plan

    plan, names = Plan(**planned), arm_names(arguments["methods"])
    if reading["held_out"] is None:
        del reading["held_out"]
    data = open_task(task, **reading)
    if dry_run:
        check_encoder(Checkpoint.open(model, vocabulary=True))
        steps = [plan.tuning.length(data.size(share)) for share in plan.shares]
        found = data.summary() | {
            "methods": names,
            "runs": len(names) * len(steps) * plan.seeds,
            "steps": len(names) * plan.seeds * sum(steps),
        }
        if not json_output:
            for name, value in found.items():
                print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
        return found
    done = compare_on_task(model, data, plan=plan, aids=aids, **arguments)
    if not json_output:
        show(done.report, arguments["out"])
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


def refuse_beside_task(options: dict[str, Any]) -> None:
    """Raise `ParameterError` for an option that means nothing beside --task."""
    for name, value in options.items():
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
