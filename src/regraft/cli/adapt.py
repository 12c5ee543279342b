"""`regraft adapt`: a trained model gets a new vocabulary."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import Device, DryRun, Dtype, Json, Overwrite, Seed, verb
from regraft.method.settings_text import parse_budget, parse_settings


@verb()
def adapt(
    model: o.Model,
    out: Annotated[Path, typer.Option(help="Directory to write; appears whole or not at all.")],
    corpus: o.OptionalCorpusPaths = None,
    extend: o.Extend = None,
    replace: o.Replace = None,
    words: o.Words = None,
    trim: o.Trim = False,
    ontology: o.Ontologies = None,
    route: o.Route = "continued",
    widen_pretokenizer: o.Widen = False,
    method: Annotated[str, typer.Option(help="How new rows start; see `regraft methods`.")] = "constituent-mean",
    settings: o.Settings = None,
    train: o.Train = None,
    train_settings: o.TrainSettings = None,
    elchat: Annotated[
        bool, typer.Option("--elchat", help="After training, mix the weights with the source's, so that the model forgets less.")
    ] = False,
    elchat_settings: Annotated[
        list[str] | None,
        typer.Option("--elchat-set", help="An option of --elchat, field=value: method=slerp|linear, outer, inner, rows, special."),
    ] = None,
    source_text: o.SourceText = None,
    donor: o.Donor = None,
    vectors: o.Vectors = None,
    source_vectors: o.SourceVectors = None,
    dictionary: o.Dictionary = None,
    bitext: o.Bitext = None,
    text_column: o.TextColumn = None,
    held_out: o.HeldOut = 0.1,
    score: Annotated[bool, typer.Option("--score/--no-score", help="Load the model and score it before and after.")] = True,
    score_bytes: o.ScoreBytes = "60000",
    pad_to_multiple_of: Annotated[int, typer.Option(min=1, help="Round the table's rows up to a multiple of this; 8 suits GPUs.")] = 1,
    state: Annotated[Path | None, typer.Option(help="Keep the state of training here; the same call after a kill goes on from it.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Give MODEL a new vocabulary: an ordinary checkpoint, a report, and the map of its new rows."""
    from regraft.vocab.adapt import adapt as run
    from regraft.vocab.dry_run import estimate
    from regraft.vocab.initializer import Aids

    training = training_from(train, train_settings)
    repair = elchat_from(elchat, elchat_settings, training)
    chosen = parse_settings(settings or [])
    arguments: dict[str, Any] = {
        "extend": extend,
        "replace": replace,
        "words": words,
        "trim": trim,
        "ontology": ontology,
        "route": route,
        "widen_pretokenizer": widen_pretokenizer,
    }
    if dry_run:
        found = estimate(
            model,
            corpus=corpus or [],
            out=out,
            text_column=text_column,
            held_out=held_out,
            method=method,
            settings=chosen,
            overwrite=overwrite,
            **arguments,
        )
        found.report.print()
        return found.figures
    done = run(
        model,
        corpus=corpus or [],
        out=out,
        method=method,
        settings=chosen,
        training=training,
        elchat=repair,
        source_text=source_text,
        aids=Aids(donor=donor, vectors=vectors, source_vectors=source_vectors, dictionary=dictionary, bitext=bitext),
        text_column=text_column,
        held_out=held_out,
        score=score,
        score_bytes=o.parse_score_bytes(score_bytes),
        seed=seed,
        device=device,
        dtype=dtype,
        pad_to_multiple_of=pad_to_multiple_of,
        state=state,
        overwrite=overwrite,
        **arguments,
    )
    if not json_output:
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
