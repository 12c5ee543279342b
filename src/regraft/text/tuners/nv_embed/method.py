"""NV-Embed's training: retrieval with the batch's negatives first, then every task with a row's own negatives only."""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer

from datasets import Dataset
from regraft.errors import CorpusError, ParameterError
from regraft.method import Paper
from regraft.progress import console
from regraft.text.examples import read_examples
from regraft.text.fitting import Budget, fit
from regraft.text.modules.cached_states import CachedStates, cache_states
from regraft.text.modules.decoder import instructed
from regraft.text.tasks.files import open_any
from regraft.text.tuner import Kind, Tuner
from regraft.text.tuners.nv_embed import lora
from regraft.text.tuners.nv_embed.blend import Row, dataset, from_labels, from_pairs, from_scores, texts_of, without
from regraft.text.tuners.nv_embed.loss import PolicyContrastive

Share = Annotated[float, Field(ge=0, le=1)]
Stage = tuple[str, list[Row], list[bool]]  # its name, its rows, whether a row takes the batch's negatives


class NVEmbed(Tuner):
    r"""InfoNCE on cosines, :math:`-\log \frac{e^{s(q, d^+)/\tau}}{e^{s(q, d^+)/\tau} + \sum_{d \in N} e^{s(q, d)/\tau}}`, in two stages.

    Stage 1, retrieval pairs: N is a query's own hard negatives and the other documents of the batch. Stage 2, all tasks mixed in every
    batch: its own hard negatives only, for documents of other rows are often of the same class; the optimizer starts again at a lower rate.
    Without retrieval pairs there is the second stage alone.

    Parameters
    ----------
    temperature : tau (not in the text that was read; inferred). negatives : of a query's own, at most.
    stages : "two"; "reversed"; one stage over all tasks, "in-batch" for every row, "own" for none, or "by-task", for retrieval rows only.
    first_share : of the steps, for stage 1 (20,000 of 38,000; inferred). lr_ratio : stage 2's rate by stage 1's (inferred).
    also : more examples of any kind, files or names with commas between; they join in stage 2.
    labels : labelled texts take another text of the class as positive ("examples"), or the class's name ("names").
    positive_score, negative_score : shares of the highest score from which on a scored pair is a positive, and is no negative
        (4 and 2.5 of 5).
    instruction, label_instruction, score_instruction : tasks of queries; the last two are symmetric and stand on both sides.
    against : evaluation tasks, names or files; training texts that are theirs are left out. near : share of a text's own BM25 score from
        which on it is theirs; 1 leaves out equal words only.
    trains : "lora" trains the head and adapters, by peft, and merges them; "head" trains what comes after the frozen backbone, over its
        states cached in half precision; "all" trains everything. With "lora" a killed training begins again.
    lora_r, lora_alpha, lora_dropout : rank, scale and dropout of the adapters.

    Returns the model, trained in place. Raises `CorpusError` for a row of stage 2 without negatives, labels of one class, no positive.
    """

    paper = Paper("NV-Embed: Improved Techniques for Training LLMs as Generalist Embedding Models", "Lee et al.", 2025, "2405.17428")
    summary = "two contrastive stages: in-batch negatives, then each example's own"
    takes: ClassVar[tuple[Kind, ...]] = ("pairs", "labelled", "scored")

    temperature: PositiveFloat = 0.05
    negatives: NonNegativeInt = 7
    stages: Literal["two", "reversed", "in-batch", "own", "by-task"] = "two"
    first_share: Share = 20 / 38
    lr_ratio: PositiveFloat = 0.75
    also: str = ""
    labels: Literal["examples", "names"] = "examples"
    positive_score: Share = 0.8
    negative_score: Share = 0.5
    instruction: str = ""
    label_instruction: str = ""
    score_instruction: str = ""
    against: str = ""
    near: Share = 0.9
    trains: Literal["lora", "head", "all"] = "lora"
    lora_r: PositiveInt = 16
    lora_alpha: PositiveFloat = 32
    lora_dropout: Share = 0.1

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        rows = self.rows(examples, budget.seed)
        stages = self.plan(rows)
        if self.instruction and not model.prompts.get("query"):
            model.prompts |= {"query": instructed(self.instruction)}  # queries are encoded as they were trained
        data = [(name, dataset(part, in_batch)) for name, part, in_batch in stages]
        with tempfile.TemporaryDirectory() if budget.state is None else nullcontext(str(budget.state)) as folder:
            learner = self._learner(model, data, Path(folder), budget)
            steps = self._steps(budget.steps, len(stages))
            for number, (name, part) in enumerate(data):
                state = None if self.trains == "lora" else budget.state  # that library opens no model with adapters inside
                own = replace(budget, steps=steps[number], lr=budget.lr * self.lr_ratio**number, state=state, curve=[])
                curve = fit(learner, PolicyContrastive(learner, self.temperature), part, own, name=name)  # a new optimizer each time
                budget.curve.extend((step + sum(steps[:number]), loss) for step, loss in curve)
        if self.trains == "lora":
            lora.merge(model[0].model)
        model.requires_grad_(True)
        return model.eval()

    def rows(self, examples: Dataset, seed: int) -> list[Row]:
        """All examples as rows, without what the evaluation tasks hold."""
        more = [read_examples([name.strip()], self.takes)[0] for name in self.also.split(",") if name.strip()]
        rows = [row for given in (examples, *more) for row in self._rows(given, seed)]
        if self.against:
            kept = without(rows, evaluation_texts(self.against), self.near)
            console.print(f"{len(rows) - len(kept):,} of {len(rows):,} rows hold a text of {self.against}: left out", highlight=False)
            if not kept:
                raise CorpusError(f"every row holds a text of {self.against}: nothing is left to train on")
            rows = kept
        return rows

    def _rows(self, examples: Dataset, seed: int) -> list[Row]:
        names = set(examples.column_names)
        if {"anchor", "positive"} <= names:
            return from_pairs(examples, self.instruction, self.negatives)
        if "label" in names:
            return from_labels(examples, self.label_instruction, self.negatives, how=self.labels, seed=seed)
        return from_scores(examples, self.score_instruction, self.negatives, positive=self.positive_score, negative=self.negative_score)

    def plan(self, rows: Sequence[Row]) -> list[Stage]:
        """The stages, in their order."""
        everything, retrieval = list(rows), [row for row in rows if row.retrieval]
        policy = {"in-batch": [True] * len(rows), "by-task": [row.retrieval for row in rows]}.get(self.stages, [False] * len(rows))
        if self.stages not in ("two", "reversed"):
            return [("one-stage", everything, policy)]
        second: Stage = ("stage-2", everything, policy)
        if not retrieval:
            console.print("no retrieval pairs: only the second stage, with own negatives", highlight=False)
            return [second]
        first: Stage = ("stage-1", retrieval, [True] * len(retrieval))
        return [first, second] if self.stages == "two" else [second, first]

    def _steps(self, steps: int, stages: int) -> list[int]:
        if stages == 1:
            return [steps]
        first = min(max(1, round(self.first_share * steps)), max(1, steps - 1))
        given = [first, max(1, steps - first)]
        return given if self.stages == "two" else given[::-1]

    def _learner(
        self, model: SentenceTransformer, data: Sequence[tuple[str, Dataset]], folder: Path, budget: Budget
    ) -> SentenceTransformer:
        """What is trained: the model itself, or its modules after the first one, over cached states."""
        body: Any = model[0]
        if self.trains == "all":
            return model
        if self.trains == "lora":
            lora.put_on(body.model, r=self.lora_r, alpha=self.lora_alpha, dropout=self.lora_dropout)
            return model
        head = list(model)[1:]
        if not any(True for module in head for _ in module.parameters()):
            raise ParameterError("nv-embed: trains=head: this encoder has nothing after its backbone to train: take dense=true, or lora")
        texts = [text for _, part in data for text in texts_of(part)]
        cache_states(body, texts, folder / "states.safetensors", key=_key(body), device=budget.device)
        return SentenceTransformer(modules=[CachedStates(folder / "states.safetensors"), *head], device=budget.device)


def evaluation_texts(tasks: str) -> list[str]:
    """Texts that tasks are scored on: sentences of pairs, test texts, queries (of retrieval, documents may be trained on)."""
    return [text for name in tasks.split(",") if name.strip() for text in open_any(name).texts]


def _key(body: Any) -> str:
    """What the states of a body hang on beside the texts."""
    return f"{body.model.config.to_json_string()} {getattr(body, 'attention', '')} {getattr(body, 'compat', '')} {body.max_seq_length}"
