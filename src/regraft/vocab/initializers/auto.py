"""Auto: try the starts that can be had on text kept apart, let the model learn from the best one, and keep only what helps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from regraft.errors import CorpusError, EvaluationError, RegraftError
from regraft.evaluation import score_text
from regraft.graft import Graft, Rows
from regraft.language.model import kind_of
from regraft.language.tables import live_tables, resize, rows_of
from regraft.method import Paper, resolve
from regraft.progress import console
from regraft.samples import everyday_english
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.training import SHORT, Training, train
from regraft.training.trainable import select
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.transplant.transplant import lay_out

VALIDATION_BYTES = 12_000
LARGEST_DRIFT = 1.02
SHARES = (1.0, 0.5, 0.25, 0.125)
LAST_RESORT = "constituent-mean"
# start -> what the user must have given for it, and its settings; all are grafts, so that trying one costs little more than scoring it
CANDIDATES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    LAST_RESORT: ((), {}),
    "merge": ((), {}),
    "omp": (("donor",), {}),
    "focus": (("vectors",), {"auxiliary": "vectors"}),
    "wechsel": (("vectors", "source_vectors"), {}),
    "trans-tokenizer": (("bitext",), {}),
}
Start = dict[str, Graft]  # by role; without "head" the input table's graft serves the head too
State = dict[str, torch.Tensor]
ROLES = ("input", "head", "bias")  # what learns new rows
Learned = tuple[Start, State]


class Auto(Initializer):
    r"""The best start that text and a few steps of learning can give.

    1. One document in twenty of the training text is kept apart (of a single document its end). Constituent mean, Merge where the tokenizer
       has merges, and the starts for which the user gave a donor, vectors or parallel text are scored on it; the lowest bits per byte wins
       among those under which ordinary text that is cut as before costs at most 2 % more than under the untouched model; where no
       such text is cut as before, all of it is measured, and learning may cost it 2 % more than the start did.
    2. From there the new rows and the outer layers (the first two and last two, with the final norm) train on the rest for `steps`. Rows
       alone learn how often a token occurs, which no mix of old rows holds; the layers learn to read pieces of more than one character.
       Old rows stay as they are.
    3. What was learned is kept if it is better on the text kept apart, and pulled back towards the start (by halves) while ordinary
       text is over its limit. Where the rest does not fill a block, nothing is learned.

    So on the text kept apart it is never worse than the constituent mean, unless that itself is over the limit on ordinary text; if all
    starts are, it is taken. Ordinary text is ``--source-text``, or the everyday English that ships. Without a language-model head it is
    Merge, or constituent mean.

    Parameters
    ----------
    steps : of learning. minutes : where learning ends if its steps take longer; then it is said. lr : peak learning rate of AdamW.
    block, batch_size : tokens in a block, blocks in a step.
    layers : train the outer layers too; without them only the new rows move, at a fraction of the gain.

    Returns rows (new tokens, d) with the layers that were trained with them, or the graft of the start where nothing learned was better.
    """

    paper = Paper("regraft: starts that are measured before they are kept", "The regraft authors", 2026)
    summary = "the best start at hand, then rows and outer layers learned from there"
    needs: ClassVar[tuple[str, ...]] = ("text",)
    separate_head: ClassVar[bool] = True

    steps: Annotated[int, Field(ge=1)] = 32
    minutes: Annotated[float, Field(gt=0)] = 10.0
    lr: Annotated[float, Field(gt=0)] = SHORT["lr"]
    block: Annotated[int, Field(ge=16)] = SHORT["block"]
    batch_size: Annotated[int, Field(ge=1)] = SHORT["batch_size"]
    layers: bool = True

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        if context.load_model is None or context.corpus is None or not context.corpus.count("train"):
            start: Initializer = resolve("initializer", "merge" if has_merges(target) else LAST_RESORT)
            console.print(f"  auto: {start.name}, since without a language-model head and text no rows can be learned", highlight=False)
            return start(source, target, context)
        best, learned = context.remember(f"auto {self}", lambda: self.learn(source, target, context))
        if not learned:
            return graft_for(source.role, best)
        layers = {name: tensor for name, tensor in learned.items() if name not in ROLES}
        values = learned[source.role].to(source.table.dtype)
        return Rows(values, learned.get("bias"), origin="learned", layers=layers, beside=graft_for("input", best))

    def learn(self, source: Source, target: Target, context: Context) -> Learned:
        """The best start, and what was learned from it: new rows by role, layers by name; nothing if nothing learned was better."""
        trial = _Trial(source, target, context, layers=self.layers)
        costs, starts = compare_starts(trial, source, target, context)
        best, over = choose(trial, costs, starts)
        trial.install(starts[best])
        kept, outcome = self.improve(trial, costs[best], context.seed)
        tried = ", ".join(f"{name} {cost:.3f}" for name, cost in sorted(costs.items(), key=lambda item: item[1]))
        if over:
            tried += "; ordinary text over its limit: " + ", ".join(f"{name} {drift - 1:+.1%}" for name, drift in over.items())
        console.print(f"  auto: {best} is the start (bits per byte of text kept apart: {tried}); {outcome}", highlight=False)
        return starts[best], kept

    def improve(self, trial: "_Trial", bar: float, seed: int) -> tuple[State, str]:
        """What is kept of `steps` of learning from the state that `trial` is in, and how that came; nothing if it does not beat `bar`."""
        first = trial.state()
        training = Training(
            parameters="2x2" if self.layers else "rows",
            objective="mlm" if kind_of(trial.model) == "masked" else "clm",
            steps=self.steps,
            most_minutes=self.minutes,
            **SHORT | {"lr": self.lr, "block": self.block, "batch_size": self.batch_size},
            seed=seed,
        )
        try:
            run = train(trial.model, trial.tokenizer, trial.texts, training, new_ids=trial.target.ids)
            kept, after, drift = settle(trial, first, trial.state(), bar)
        except (CorpusError, EvaluationError) as error:  # less text than a block, or rows that learned their way to no number
            return {}, f"nothing is learned: {error}"
        if not kept:
            return {}, "learning did not help and is left out"
        ended = f" (of {self.steps}: {self.minutes:g} minutes were over)" if run.stopped else ""
        ordinary = f"{drift - 1:+.1%}" if trial.ordinary else "not measured, for there is none"
        return kept, f"{run.steps} steps{ended} of learning gave {after:.3f}, ordinary text {ordinary}"


def compare_starts(trial: "_Trial", source: Source, target: Target, context: Context) -> tuple[dict[str, float], dict[str, Start]]:
    """Bits per byte on the text kept apart, and the grafts, of every start that this change and the user's aids allow.

    One that fails, or whose logits are not finite, is left out; raises its error if no other is left.
    """
    costs: dict[str, float] = {}
    starts: dict[str, Start] = {}
    sources = trial.sources(source)
    for name, (needed, settings) in CANDIDATES.items():
        if any(getattr(context.aids, field) is None for field in needed) or (name == "merge" and not has_merges(target)):
            continue
        initializer = resolve("initializer", name, settings)
        roles = sources if initializer.separate_head else ["input"]
        try:
            start = {role: initializer(sources[role], target, context) for role in roles}
            trial.install(start)
            costs[name], starts[name] = trial.score(), start
        except RegraftError as error:
            console.print(f"  auto: {name} is left out: {error}", highlight=False)
            failure = error
    if not costs:
        raise failure
    return costs, starts


def choose(trial: "_Trial", costs: Mapping[str, float], starts: Mapping[str, Start]) -> tuple[str, dict[str, float]]:
    """The cheapest start that leaves ordinary text within its limit, and what ordinary text costs under those passed over.

    If none does it is constituent mean, or what ordinary text bears best where even that was left out.
    """
    over: dict[str, float] = {}
    for name in sorted(costs, key=costs.__getitem__):
        trial.install(starts[name])
        drift = trial.drift()
        if drift <= trial.limit:
            trial.limit = LARGEST_DRIFT if trial.alike else drift * LARGEST_DRIFT
            return name, over
        over[name] = drift
    return min(over, key=lambda name: (name != LAST_RESORT, over[name])), over


def settle(trial: "_Trial", first: State, learned: State, bar: float) -> tuple[State, float, float]:
    """The largest share of what was learned that beats `bar` and leaves ordinary text within its limit (nothing if none does), its cost
    on the text kept apart, and that of ordinary text against the untouched model's."""
    after = drift = float("nan")
    for share in SHARES:
        mixed = {name: first[name] + share * (learned[name] - first[name]) for name in learned}
        trial.put(mixed)
        drift = trial.drift()
        if drift <= trial.limit:
            after = trial.score()
            return (mixed if after < bar else {}), after, drift
    return {}, after, drift


def graft_for(role: str, start: Start) -> Graft:
    """The graft of `start` for one table; an output bias goes with the head, further tables with the input table."""
    return start.get("head", start["input"]) if role in ("head", "bias") else start["input"]


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
        same = [t for t in context.ordinary or everyday_english() if old.encode(t) == [int(target.source_ids[i]) for i in new.encode(t)]]
        self.alike = bool(same)  # else what ordinary text costs depends on how it is cut, too
        chosen = same or list(context.ordinary or everyday_english())
        self.ordinary = [chosen[i] for i in within(chosen)]
        self.limit = LARGEST_DRIFT if self.alike else float("inf")
        self.before = score_text(self.model, old_tokenizer, self.ordinary).bits_per_byte if self.ordinary else 1.0
        self.rows = rows_of(self.model)
        self.old = {role: table.detach().cpu().clone() for role, table in live_tables(self.model).items()}
        resize(self.model, len(target.source_ids))
        self.layers = self._outer_layers() if layers else {}

    def _outer_layers(self) -> State:
        """The live parameters outside the tables that train, by their names in the model."""
        trainable = select(self.model, "2x2", self.target.ids, freeze_old_rows=True)
        chosen = {id(parameter) for parameter in trainable.parameters.values()}
        trainable.finish()
        tables = {id(table) for table in live_tables(self.model).values()}
        return {name: p for name, p in self.model.named_parameters() if id(p) in chosen and id(p) not in tables}

    def sources(self, source: Source) -> dict[str, Source]:
        """`source` for the input table, and for the head where that is a table of its own."""
        found = {"input": replace(source, role="input", table=self.old["input"][: source.vocab_size], partner=None)}
        if "head" in self.old:
            found["head"] = replace(source, role="head", table=self.old["head"][: source.vocab_size], partner=None)
        return found

    def install(self, start: Start) -> None:
        """Lay out the tables with the grafts of `start`."""
        live = live_tables(self.model)
        with torch.no_grad():
            for role, table in live.items():  # an idle output bias may have become the head's own
                graft = graft_for(role, start)
                table.copy_(lay_out(self.old[role], self.target, graft, len(self.target.source_ids), self.rows))

    def state(self) -> State:
        """A copy of all that trains: new rows by role, other parameters by name."""
        ids = torch.from_numpy(self.target.ids)
        rows = {role: table.detach().cpu()[ids].clone() for role, table in live_tables(self.model).items() if role in ROLES}
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
        """Cost of ordinary text against the untouched model's: of what is cut as before, else of all of it."""
        return score_text(self.model, self.tokenizer, self.ordinary).bits_per_byte / self.before if self.ordinary else 1.0


def keep_apart(documents: Sequence[str], share: int = 20, most: int = VALIDATION_BYTES) -> tuple[list[str], list[str]]:
    """(validation, training): every `share`-th document of a seeded shuffle, at most `most` bytes of them, and all others.

    A document that is alone is cut in two, so that neither side is empty: its end, half of it at most, is validation.
    """
    if len(documents) == 1:
        text = documents[0]
        cut = max(len(text) // 2, len(text) - most // 4)  # a character has at most 4 bytes
        return [text[cut:]], [text[:cut]]
    order = np.random.default_rng(0).permutation(len(documents))[: max(1, len(documents) // share)].tolist()
    validation = [order[i] for i in within([documents[i] for i in order], most)]
    apart = set(validation)
    return [documents[i] for i in validation], [text for i, text in enumerate(documents) if i not in apart]


def within(texts: Sequence[str], most: int = VALIDATION_BYTES) -> list[int]:
    """Which of `texts`, the first of them always, fit in `most` bytes together."""
    chosen: list[int] = []
    size = 0
    for index, text in enumerate(texts):
        if not chosen or size + len(text.encode()) <= most:
            chosen.append(index)
            size += len(text.encode())
    return chosen
