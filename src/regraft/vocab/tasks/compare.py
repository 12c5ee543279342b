"""Does a new vocabulary help on a user's own task? Every way beside the base tokenizer, on the same labels, in one table.

Enters: an encoder, ontologies, labelled data. Leaves: learning curves with intervals as a table, JSON and one HTML page. Runs are kept as
they end, so that an interrupted comparison goes on where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.comparison import Kept, save
from regraft.corpus import Corpus
from regraft.errors import ParameterError, TaskError
from regraft.language.loading import check_placement
from regraft.language.precision import matmul_precision
from regraft.method import resolve
from regraft.output import check_outside
from regraft.progress import console, step
from regraft.report import Report
from regraft.report.figures import learning_curves
from regraft.report.page import Section, terminal_tables
from regraft.tasks.kinds import TASKS
from regraft.tasks.labelled.examples import KINDS, LabelledData
from regraft.tasks.labelled.named import NAMED, open_named
from regraft.tasks.labelled.readers import open_labelled
from regraft.tasks.task import Task, check_encoder, quiet
from regraft.tokenizer import Tokenizer
from regraft.vocab.initializer import Aids
from regraft.vocab.k_tokeniser import KTokeniser, open_ontologies
from regraft.vocab.tasks.arms import BASE, K_TOKENISER, Arm, Subject, arm_names
from regraft.vocab.tasks.learning_curve import RUNS, Curves, Plan, Point

Row = dict[str, Any]


@dataclass(frozen=True)
class TaskComparison:
    """`rows` as `regraft compare --task --json` prints them (one an arm and share), what each vocabulary is, and the report."""

    data: LabelledData
    rows: list[Row]
    vocabularies: list[Row]
    points: list[Point]
    report: Report

    def to_dict(self) -> dict[str, Any]:
        return {"task": self.data.summary(), "rows": self.rows, "vocabularies": self.vocabularies}


def open_task(
    task: str,
    labels: str | Path | None = None,
    test_labels: str | Path | None = None,
    *,
    held_out: float = 0.2,
    text_column: str | None = None,
    label_column: str | None = None,
) -> LabelledData:
    """Labelled data by name, or of a kind from the user's own files. Raises `TaskError`."""
    if task in NAMED:
        if labels is not None or test_labels is not None:
            raise TaskError(f"--task {task} brings its own labels: leave --labels out, or say --task {NAMED[task][0]} for your own")
        return open_named(task)
    if task not in KINDS:
        raise TaskError(f"--task {task}: unknown; choose {', '.join(KINDS)} with --labels FILE, or one of {', '.join(NAMED)}")
    if labels is None:
        raise TaskError(f"--task {task} needs labelled examples: give --labels FILE, or name one of {', '.join(NAMED)}")
    kind = next(kind for kind in KINDS if kind == task)
    return open_labelled(kind, labels, test_labels, held_out=held_out, text_column=text_column, label_column=label_column)


def compare_on_task(
    model: str | Path,
    data: LabelledData,
    *,
    ontology: Sequence[str],
    methods: Sequence[str] | str = "all",
    plan: Plan | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    aids: Aids | None = None,
    device: str = "cpu",
    dtype: str = "auto",
) -> TaskComparison:
    """Fine-tune `model` on shares of `data` under every vocabulary, everything else equal, and measure each beside the base tokenizer.

    Parameters
    ----------
    model : an encoder; a local checkpoint directory or a Hub id.
    data : from `open_task`, `open_labelled`, `open_named`, or your own `LabelledData`.
    ontology : `name=source` of each semantic type; see `Ontology.open`.
    methods : arms (see `regraft.vocab.tasks.arms`), or "all"; base is always there.
    plan : shares of the labels, seeds, and how models are fine-tuned.
    settings : hyper-parameters of K-Tokeniser (phi, h0_count, delta_k, pieces ...).
    out : directory for `comparison.json`, `comparison.html` and finished runs; None keeps nothing.

    Raises an `InputError` with one line for a model that is no encoder, too few labels, an ontology without new pieces.
    """
    plan, names = plan or Plan(), arm_names(methods)
    check_placement(dtype, device)
    if dtype not in ("auto", "float32"):
        raise ParameterError(f"--dtype {dtype}: tasks are fine-tuned in float32: leave it out")
    if not ontology:
        raise ParameterError("--task needs --ontology name=path: the pieces that are compared are made of its words")
    checkpoint = Checkpoint.open(model, vocabulary=True)
    check_encoder(checkpoint)
    if out is not None:
        check_outside(out, [checkpoint.root])
    for share in plan.shares:
        data.size(share)
    ontologies = open_ontologies(ontology)
    for rows, title in (([data.summary()], "task"), ([found.summary() for found in ontologies], "ontologies")):
        console.print(*terminal_tables(Section("table", title, "", rows=rows), console))
    for note in data.notes:
        console.print(f"  {note}", style="yellow", highlight=False, markup=False)
    corpus = Corpus.from_texts([example.text for example in data.train], held_out=0.0, name=data.name)
    method = resolve("initializer", K_TOKENISER, settings)
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    subject = Subject(checkpoint, tokenizer, ontologies, method, corpus=corpus, aids=aids or Aids(ontology=tuple(ontology)))
    with step("building the vocabularies"):
        arms = [subject.arm(name) for name in names]
    task = TASKS[data.kind].of(data, plan.tuning.max_length)
    curves = Curves(subject, data, task, arms, plan, device)
    with matmul_precision(dtype, device):
        points = curves.run(Kept(Path(out) if out else None, RUNS))
    vocabularies = [vocabulary_row(arm, data) for arm in arms]
    report = task_report(checkpoint, data, task, plan, points, vocabularies)
    done = TaskComparison(data, [point.row() for point in points], vocabularies, points, report)
    if out:
        save(out, done.to_dict(), report)
    return done


def vocabulary_row(arm: Arm, data: LabelledData) -> Row:
    """What an arm's tokenizer does to the test texts: tokens per word, and the share of words that it cuts into new tokens."""
    texts = [example.text for example in data.test]
    with quiet():  # texts past the model's length are none of its business here
        ids = arm.encoder(texts, add_special_tokens=False)["input_ids"]
    words = sum(len(text.split()) for text in texts)
    new = frozenset() if arm.change is None else frozenset(arm.change.new_ids.tolist())
    tokens = sum(map(len, ids))
    row: Row = {
        "method": arm.name,
        "new tokens": arm.new_tokens,
        "tokens per word": tokens / max(1, words),
        "new among tokens": sum(i in new for row in ids for i in row) / max(1, tokens),
        "texts changed": sum(not new.isdisjoint(row) for row in ids) / max(1, len(texts)),
    }
    if isinstance(arm.encoder, KTokeniser):
        covered = arm.encoder.coverage(texts)
        row |= {"sentences rolled back": covered.rolled_back / max(1, covered.sentences)}
    return row


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def task_report(
    checkpoint: Checkpoint, data: LabelledData, task: Task, plan: Plan, points: Sequence[Point], vocabularies: Sequence[Row]
) -> Report:
    """Scores and differences by share, the learning curves, and what each vocabulary does to the texts."""
    names = list(dict.fromkeys(point.arm for point in points))
    report = Report(f"{checkpoint.path.name} on {data.name}: {len(names) - 1} vocabularies beside the base tokenizer", lead(points, plan))
    by_arm = {name: [point for point in points if point.arm == name] for name in names}
    scores = [{"method": name, **{percent(point.share): point.f1 for point in by_arm[name]}} for name in names]
    best: Any = {percent(share): "high" for share in plan.shares}
    seeds = f"{plan.seeds} seed{'s' if plan.seeds > 1 else ''}"
    caption = f"{task.metric} on {len(data.test):,} test examples by share of {len(data.train):,} labelled ones; mean of {seeds}."
    report.add_table(task.metric, scores, caption, best=best)
    gaps = [{"method": name, **{percent(point.share): gap(point) for point in by_arm[name]}} for name in names if name != BASE]
    report.add_table("Difference to base", gaps, "With 95 % intervals: paired bootstrap over test examples and seeds.")
    curves = {name: [(float(point.examples), point.f1, *point.interval) for point in by_arm[name]] for name in names}
    report.add_figure("Learning curves", learning_curves(curves, reference=BASE, y_title=task.metric), caption)
    report.add_table("Vocabularies", vocabularies, "On the test texts.")
    tuning = plan.tuning
    length = f"{tuning.epochs:g} epochs" if tuning.epochs is not None else f"{tuning.steps} steps at every share"
    how = f"{length}, {tuning.batch_size} examples a step, learning rate {tuning.lr:g}; same head, order and steps for all."
    report.add_table("Task", [data.summary()], how)
    return report


def gap(point: Point) -> str:
    effect = point.effect
    return "" if effect is None else f"{effect.effect:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]"


def lead(points: Sequence[Point], plan: Plan) -> str:
    """Which arm differs from base beyond chance, and where."""
    sides: dict[str, list[str]] = {"above": [], "below": []}
    for point in points:
        if point.effect is None:
            continue
        side = "above" if point.effect.low > 0 else "below" if point.effect.high < 0 else None
        if side:
            sides[side].append(f"{point.arm} at {percent(point.share)} ({point.effect.effect:+.3f})")
    said = [f"{side} the base tokenizer beyond chance: {', '.join(found)}" for side, found in sides.items() if found]
    if not said:
        return "No vocabulary differs from the base tokenizer beyond chance at any share of the labels."
    return "; ".join(said).capitalize() + "."
