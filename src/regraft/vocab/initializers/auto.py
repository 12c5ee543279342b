"""Auto: try the starts that can be had on text kept apart, let the model learn from the best one, and keep only what helps."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from regraft.errors import RegraftError
from regraft.evaluation import score_text
from regraft.graft import Graft, Rows
from regraft.language_model import kind_of
from regraft.method import Paper, resolve
from regraft.progress import console
from regraft.samples import everyday_english
from regraft.training import SHORT, Training, train
from regraft.training.trainable import select
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.live import live_tables, load_tokenizer
from regraft.vocab.transplant import lay_out

VALIDATION_BYTES = 12_000
LARGEST_DRIFT = 1.02
SHARES = (1.0, 0.5, 0.25, 0.125)
# start -> what the user must have given for it; all are grafts, so that trying one costs little more than scoring it
CANDIDATES: dict[str, tuple[str, ...]] = {
    "constituent-mean": (),
    "merge": (),
    "omp": ("donor",),
    "focus": ("vectors",),
    "wechsel": ("vectors", "source_vectors", "dictionary"),
    "trans-tokenizer": ("bitext",),
}
State = dict[str, torch.Tensor]
Learned = tuple[Graft | None, State]


class Auto(Initializer):
    r"""The best start that text and a few minutes can give.

    1. One document in twenty of the training text is kept apart. Constituent mean, Merge where the tokenizer has merges, and the starts for
       which the user gave a donor, vectors or parallel text are scored on it; the lowest bits per byte wins.
    2. From there the new rows and the outer layers (the first two and last two, with the final norm) train on the rest for `minutes`. Rows
       alone learn how often a token occurs, which no mix of old rows holds; the layers learn to read pieces of more than one character.
       Old rows stay as they are.
    3. What was learned is kept if it is better on the text kept apart, and pulled back towards the start (by halves) while ordinary
       text that is cut as before costs over 2 % more than under the untouched model.

    So on the text kept apart it is never worse than the constituent mean. Without a language-model head it is Merge, or constituent mean.

    Parameters
    ----------
    minutes : time of learning. lr : peak learning rate of AdamW. block, batch_size : tokens in a block, blocks in a step.
    layers : train the outer layers too; without them only the new rows move, at a fraction of the gain.

    Returns rows (new tokens, d) with the layers that were trained with them, or the graft of the start where nothing learned was better.
    """

    paper = Paper("regraft: starts that are measured before they are kept", "The regraft authors", 2026)
    summary = "the best start at hand, then rows and outer layers learned for minutes"
    needs: ClassVar[tuple[str, ...]] = ("text",)
    separate_head: ClassVar[bool] = True

    minutes: Annotated[float, Field(gt=0)] = 3.0
    lr: Annotated[float, Field(gt=0)] = SHORT["lr"]
    block: Annotated[int, Field(ge=16)] = SHORT["block"]
    batch_size: Annotated[int, Field(ge=1)] = SHORT["batch_size"]
    layers: bool = True

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        if context.load_model is None or context.corpus is None:
            start: Initializer = resolve("initializer", "merge" if has_merges(target) else "constituent-mean")
            console.print(f"  auto: {start.name}, for there is no language-model head (or no text) to learn rows with", highlight=False)
            return start(source, target, context)
        graft, learned = context.remember(f"auto {self}", lambda: self.learn(source, target, context))
        if graft is not None:
            return graft
        layers = {name: tensor for name, tensor in learned.items() if name not in ("input", "head", "bias")}
        return Rows(learned[source.role].to(source.table.dtype), learned.get("bias"), origin="learned", layers=layers)

    def learn(self, source: Source, target: Target, context: Context) -> Learned:
        """The graft of the best start if nothing learned is better, else what was learned: new rows by role, layers by name."""
        trial = _Trial(source, target, context, layers=self.layers)
        costs, grafts = compare_starts(trial, source, target, context)
        best = min(costs, key=lambda name: costs[name])
        trial.install(grafts[best])
        first = trial.state()
        training = Training(
            parameters="2x2" if self.layers else "rows",
            objective="mlm" if kind_of(trial.model) == "masked" else "clm",
            minutes=self.minutes,
            **SHORT | {"lr": self.lr, "block": self.block, "batch_size": self.batch_size},
            seed=context.seed,
        )
        run = train(trial.model, trial.tokenizer, trial.texts, training, new_ids=target.ids)
        kept, after, drift = settle(trial, first, trial.state(), costs[best])
        tried = ", ".join(f"{name} {cost:.3f}" for name, cost in sorted(costs.items(), key=lambda item: item[1]))
        outcome = (
            f"{run.steps} steps of learning gave {after:.3f}, ordinary text {drift - 1:+.1%}"
            if kept
            else "learning did not help and is left out"
        )
        console.print(f"  auto: {best} is best on text kept apart (bits per byte: {tried}); {outcome}", highlight=False)
        return (None, kept) if kept else (grafts[best], {})


def compare_starts(trial: "_Trial", source: Source, target: Target, context: Context) -> tuple[dict[str, float], dict[str, Graft]]:
    """Bits per byte on the text kept apart, and the graft, of every start that this change and the user's aids allow."""
    costs: dict[str, float] = {}
    grafts: dict[str, Graft] = {}
    for name, needed in CANDIDATES.items():
        if any(getattr(context.aids, field) is None for field in needed) or (name == "merge" and not has_merges(target)):
            continue
        try:
            started = resolve("initializer", name)(source, target, context)
        except RegraftError as error:
            console.print(f"  auto: {name} is left out: {error}", highlight=False)
            continue
        if isinstance(started, Graft):
            grafts[name] = started
            trial.install(started)
            costs[name] = trial.score()
    return costs, grafts


def settle(trial: "_Trial", first: State, learned: State, bar: float) -> tuple[State, float, float]:
    """The largest share of what was learned that beats `bar` and leaves ordinary text within its limit (nothing if none does), its cost
    on the text kept apart, and that of ordinary text against the untouched model's."""
    after = drift = float("nan")
    for share in SHARES:
        mixed = {name: first[name] + share * (learned[name] - first[name]) for name in learned}
        trial.put(mixed)
        drift = trial.drift()
        if drift <= LARGEST_DRIFT:
            after = trial.score()
            return (mixed if after < bar else {}), after, drift
    return {}, after, drift


def has_merges(target: Target) -> bool:
    return bool(target.tokenizer.spec["model"].get("merges"))


class _Trial:
    """The model with the new vocabulary, and the texts by which a start is judged."""

    def __init__(self, source: Source, target: Target, context: Context, *, layers: bool) -> None:
        self.target = target
        self.model, old_tokenizer = context.model("auto")
        self.tokenizer = load_tokenizer(target.tokenizer)
        self.validation, self.texts = keep_apart(context.texts("auto"))
        old, new = target.old_tokenizer, target.tokenizer
        self.ordinary = [text for text in everyday_english() if old.encode(text) == [int(target.source_ids[i]) for i in new.encode(text)]]
        self.before = score_text(self.model, old_tokenizer, self.ordinary).bits_per_byte if self.ordinary else 1.0
        self.old = {role: table.detach().cpu().clone() for role, table in live_tables(self.model).items()}
        self.model.resize_token_embeddings(len(target.source_ids), mean_resizing=False)
        self.layers = self._outer_layers() if layers else {}

    def _outer_layers(self) -> State:
        """The live parameters outside the tables that train, by their names in the model."""
        trainable = select(self.model, "2x2", self.target.ids, freeze_old_rows=True)
        chosen = {id(parameter) for parameter in trainable.parameters.values()}
        trainable.finish()
        tables = {id(table) for table in live_tables(self.model).values()}
        return {name: p for name, p in self.model.named_parameters() if id(p) in chosen and id(p) not in tables}

    def install(self, graft: Graft) -> None:
        """Lay out the tables with `graft`."""
        live = live_tables(self.model)
        with torch.no_grad():
            for role, table in self.old.items():
                live[role].copy_(lay_out(table, self.target, graft, len(self.target.source_ids)))

    def state(self) -> State:
        """A copy of all that trains: new rows by role, other parameters by name."""
        ids = torch.from_numpy(self.target.ids)
        rows = {role: table.detach().cpu()[ids].clone() for role, table in live_tables(self.model).items()}
        return rows | {name: parameter.detach().cpu().clone() for name, parameter in self.layers.items()}

    def put(self, state: Mapping[str, torch.Tensor]) -> None:
        live: dict[str, Any] = live_tables(self.model)
        with torch.no_grad():
            for name, values in state.items():
                if name in self.layers:
                    self.layers[name].copy_(values)
                else:
                    live[name][torch.from_numpy(self.target.ids)] = values.to(live[name])

    def score(self) -> float:
        return score_text(self.model, self.tokenizer, self.validation).bits_per_byte

    def drift(self) -> float:
        """Cost of ordinary text against the untouched model's; 1 where no such text is cut as before."""
        return score_text(self.model, self.tokenizer, self.ordinary).bits_per_byte / self.before if self.ordinary else 1.0


def keep_apart(documents: Sequence[str], share: int = 20, most: int = VALIDATION_BYTES) -> tuple[list[str], list[str]]:
    """(validation, training): every `share`-th document of a seeded shuffle, at most `most` bytes of them, and all others."""
    order = np.random.default_rng(0).permutation(len(documents))
    validation: list[int] = []
    size = 0
    for index in order[: max(1, len(documents) // share)].tolist():
        if not validation or size + len(documents[index].encode()) <= most:
            validation.append(index)
            size += len(documents[index].encode())
    apart = set(validation)
    return [documents[i] for i in validation], [text for i, text in enumerate(documents) if i not in apart]
