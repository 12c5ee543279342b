"""Auto: try the cheap starts on text kept apart, let the model learn its new rows from the better one, and keep only what helps."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from regraft.evaluation import score_text
from regraft.graft import Graft, Rows
from regraft.method import Paper
from regraft.progress import console
from regraft.samples import everyday_english
from regraft.training import Training, train
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.constituent_mean import ConstituentMean
from regraft.vocab.initializers.merge import Merge
from regraft.vocab.live import load_tokenizer
from regraft.vocab.transplant import lay_out

VALIDATION_BYTES = 12_000
LARGEST_DRIFT = 1.02
Learned = tuple[Graft | None, dict[str, torch.Tensor]]


class Auto(Initializer):
    r"""The best start that text and a few minutes can give.

    1. One document in twenty of the training text is kept apart. Constituent mean and, where the tokenizer has merges, Merge are scored on
       it; the lower bits per byte wins.
    2. The new rows alone train on the rest for `minutes`, with the next-token loss: it reaches what no mix of old rows holds, how often a
       token occurs.
    3. The learned rows are kept if they are better on the text kept apart, and pulled back towards the start (by halves) while ordinary
       text that is cut as before costs over 2 % more than under the untouched model.

    So on the text kept apart it is never worse than the constituent mean. Without a language-model head it is Merge, or constituent mean.

    Parameters
    ----------
    minutes : time of learning. lr : peak learning rate of AdamW. block, batch_size : tokens in a block, blocks in a step.

    Returns rows (new tokens, d), or the graft of the start where nothing learned was better.
    """

    paper = Paper("regraft: starts that are measured before they are kept", "The regraft authors", 2026)
    summary = "the better cheap start, then rows learned for minutes, kept if better"
    needs: ClassVar[tuple[str, ...]] = ("text",)
    separate_head: ClassVar[bool] = True

    minutes: Annotated[float, Field(gt=0)] = 3.0
    lr: Annotated[float, Field(gt=0)] = 1e-3
    block: Annotated[int, Field(ge=16)] = 128
    batch_size: Annotated[int, Field(ge=1)] = 8

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        start = Merge() if target.tokenizer.spec["model"].get("merges") else ConstituentMean()
        if context.load_model is None or context.corpus is None:
            console.print(f"  auto: {start.name}, for there is no language-model head (or no text) to learn rows with", highlight=False)
            return start(source, target, context)
        graft, learned = context.remember(f"auto {self}", lambda: self.learn(source, target, context))
        if graft is not None:
            return graft
        return Rows(learned[source.role].to(source.table.dtype))

    def learn(self, source: Source, target: Target, context: Context) -> Learned:
        """The graft of the best start if nothing learned is better, else the learned rows by role."""
        trial = _Trial(source, target, context)
        starts: dict[str, Graft] = {"constituent-mean": ConstituentMean()(source, target, context)}
        if target.tokenizer.spec["model"].get("merges"):
            starts["merge"] = Merge()(source, target, context)
        costs = {name: trial.cost(graft) for name, graft in starts.items()}
        name = min(costs, key=lambda key: costs[key])
        first = trial.install(starts[name])
        training = Training(
            parameters="rows",
            minutes=self.minutes,
            lr=self.lr,
            block=self.block,
            batch_size=self.batch_size,
            accumulate=1,
            seed=context.seed,
        )
        train(trial.model, trial.tokenizer, trial.texts, training, new_ids=target.ids)
        learned = trial.rows()
        share = 1.0
        while share > 0.1:
            rows = {role: first[role] + share * (learned[role] - first[role]) for role in learned}
            trial.put(rows)
            after, drift = trial.score(), trial.drift()
            if drift <= LARGEST_DRIFT:
                break
            share /= 2
        kept = share > 0.1 and after < costs[name]
        said = f"{costs[name]:.3f} to {after:.3f} bits per byte on text kept apart, ordinary text {drift - 1:+.1%}"
        console.print(f"  auto: started with {name}, {'learned rows' if kept else 'learning did not help'} ({said})", highlight=False)
        return (None, rows) if kept else (starts[name], {})


class _Trial:
    """The model with the new vocabulary, and the texts by which a start is judged."""

    def __init__(self, source: Source, target: Target, context: Context) -> None:
        self.target = target
        self.model, old_tokenizer = context.model("auto")
        self.tokenizer = load_tokenizer(target.tokenizer)
        documents = context.texts("auto")
        self.validation, self.texts = keep_apart(documents)
        old, new = target.old_tokenizer, target.tokenizer
        self.ordinary = [text for text in everyday_english() if old.encode(text) == [int(target.source_ids[i]) for i in new.encode(text)]]
        self.before = score_text(self.model, old_tokenizer, self.ordinary).bits_per_byte if self.ordinary else 1.0
        self.old = {"input": self.model.get_input_embeddings().weight.detach().cpu().clone()}
        head = self.model.get_output_embeddings()
        if head.weight is not self.model.get_input_embeddings().weight:
            self.old["head"] = head.weight.detach().cpu().clone()
        self.model.resize_token_embeddings(len(target.source_ids), mean_resizing=False)

    def install(self, graft: Graft) -> dict[str, torch.Tensor]:
        """Lay out the tables with `graft`; the new rows by role."""
        tables = {"input": self.model.get_input_embeddings(), "head": self.model.get_output_embeddings()}
        with torch.no_grad():
            for role, table in self.old.items():
                tables[role].weight.copy_(lay_out(table, self.target, graft, len(self.target.source_ids)))
        return self.rows()

    def rows(self) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.target.ids)
        tables = {"input": self.model.get_input_embeddings(), "head": self.model.get_output_embeddings()}
        return {role: tables[role].weight.detach().cpu()[ids].clone() for role in self.old}

    def put(self, rows: dict[str, torch.Tensor]) -> None:
        tables: dict[str, Any] = {"input": self.model.get_input_embeddings(), "head": self.model.get_output_embeddings()}
        with torch.no_grad():
            for role, values in rows.items():
                tables[role].weight[torch.from_numpy(self.target.ids)] = values.to(tables[role].weight)

    def cost(self, graft: Graft) -> float:
        self.install(graft)
        return self.score()

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
