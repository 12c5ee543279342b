"""`regraft adapt`: a trained model gets a new vocabulary."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.options import Yaml
from regraft.method.settings_text import parse_budget, parse_settings


@o.options
class Start:
    """How new rows start."""

    panel: ClassVar[str] = "How new rows start"

    method: Annotated[
        str,
        typer.Option(help="How new rows start; see `regraft methods`.", autocompletion=methods_of("initializer")),
        Yaml(about="how new rows start; `regraft methods` lists them"),
    ] = "constituent-mean"
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyper-parameter, field=value. Repeatable."),
        Yaml(about="the method's parameters"),
    ] = None


@o.options
class Learning(o.Budget):
    """How long is trained, how, and what is done afterwards against forgetting."""

    control: Annotated[
        bool,
        typer.Option("--control", help="Train the untouched model alike too: what the vocabulary gave, and what the training."),
        Yaml(about="train the untouched model alike too, to set beside"),
    ] = False
    elchat: Annotated[
        bool,
        typer.Option("--elchat", help="After training, mix the weights with the source's, so that the model forgets less."),
        Yaml(about="after training, mix the weights with the source's"),
    ] = False
    elchat_settings: Annotated[
        list[str] | None,
        typer.Option("--elchat-set", help="An option of --elchat, field=value: method=slerp|linear, outer, inner, rows, special."),
        Yaml(about="options of elchat: method, outer, inner, rows, special"),
    ] = None


@o.options
class Reading:
    """What is read of the corpus, and how much of it is scored."""

    panel: ClassVar[str] = "Scoring"

    text_column: o.TextColumn = None
    held_out: o.HeldOut = 0.1
    score: Annotated[
        bool,
        typer.Option("--score/--no-score", help="Load the model and score it before and after."),
        Yaml(about="load the model and score it before and after"),
    ] = True
    score_bytes: o.ScoreBytes = "60000"


@o.options
class Writing:
    """What is written, and what is kept on the way."""

    panel: ClassVar[str] = "Machine"

    pad_to_multiple_of: Annotated[
        int, typer.Option(min=1, help="Round the table's rows up to a multiple of this; 8 suits GPUs."), Yaml(gt=0)
    ] = 1
    state: Annotated[
        Path | None,
        typer.Option(rich_help_panel="Training", help="Keep the state of training here; the same call after a kill goes on from it."),
        Yaml(about="directory for the state of training, to go on from after a kill"),
    ] = None


@verb()
def adapt(
    model: o.Model,
    *,
    out: Annotated[Path, typer.Option(help="Directory to write; appears whole or not at all."), Yaml(about="directory to write")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus", help="Text: files, folders, globs, tables, catalogues, - for stdin. Repeatable. Optional with --ontology."
        ),
        Yaml(about="files, folders, patterns; may be left out with ontology"),
    ] = None,
    change: o.Change,
    start: Start,
    learning: Learning,
    resources: o.Resources,
    reading: Reading,
    writing: Writing,
    placement: o.Placement,
    overwrite: o.Overwrite = False,
    showing: o.Showing,
) -> dict[str, Any]:
    """Give MODEL a new vocabulary: an ordinary checkpoint, a report, and the map of its new rows."""
    from regraft.vocab.adapt import adapt as run
    from regraft.vocab.dry_run import estimate

    training = training_from(learning.train, learning.train_settings)
    elchat = elchat_from(learning.elchat, learning.elchat_settings, training)
    common: dict[str, Any] = {
        "corpus": corpus or [],
        "out": out,
        "method": start.method,
        "settings": parse_settings(start.settings or []),
        "text_column": reading.text_column,
        "held_out": reading.held_out,
        "overwrite": overwrite,
        **vars(change),
    }
    if showing.dry_run:
        found = estimate(model, **common)
        found.report.print()
        return found.figures
    done = run(
        model,
        training=training,
        elchat=elchat,
        control=learning.control,
        source_text=resources.source_text,
        aids=resources.aids(),
        score=reading.score,
        score_bytes=o.parse_score_bytes(reading.score_bytes),
        **vars(placement),
        **vars(writing),
        **common,
    )
    if not showing.json_output:
        done.report.print()
        print(f"\ncheckpoint: {done.out}\nreport:     {done.out / 'report.html'}")
    return {"out": str(done.out), "report": str(done.out / "report.html"), **done.metrics}


def training_from(budget: str | None, settings: list[str] | None, *, curve: bool = True) -> Any:
    """The `Training` that --train and --train-set ask for, by default `SHORT`, with a `curve` of about six points; None without --train.

    Adapters on the tables change old rows too: who asks for them does not get `SHORT`'s frozen ones.
    """
    from regraft.errors import ParameterError
    from regraft.method import configure
    from regraft.training import SHORT, Training

    if budget is None:
        if settings:
            raise ParameterError("--train-set needs a budget: give --train 2min or --train 200")
        return None
    length = parse_budget(budget)
    if not next(iter(length.values())):
        return None
    every = max(next(iter(length.values())) / 5, 1 if "steps" in length else 0.1) if curve and "epochs" not in length else None
    asked = parse_settings(settings or [])
    frozen = not (asked.get("parameters") == "lora" and asked.get("lora_tables"))
    return configure(Training, SHORT | {"freeze_old_rows": frozen, "evaluate_every": every} | length | asked)


def elchat_from(wanted: bool, settings: list[str] | None, training: Any) -> Any:
    """The `ElChat` that --elchat and --elchat-set ask for after `training`; None without --elchat."""
    from regraft.errors import ParameterError
    from regraft.method import configure
    from regraft.vocab.transplant.elchat import ElChat, check_training

    if not wanted:
        if settings:
            raise ParameterError("--elchat-set is for what --elchat does: add --elchat")
        return None
    check_training(training)
    return configure(ElChat, parse_settings(settings or []))
