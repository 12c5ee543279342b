"""DefSent+: definitions predict their entry among all entries of a dictionary, whose vectors come from definitions as well."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer

from datasets import Dataset
from regraft.errors import CorpusError, ParameterError
from regraft.method import Paper
from regraft.progress import console, step
from regraft.text.fitting import Budget, fit
from regraft.text.lexical.dictionary import Dictionary, dictionary
from regraft.text.lexical.isotropy import Isotropy, Vectors, rescaled, transformed, uniformity
from regraft.text.loading import load
from regraft.text.tasks.files import open_any
from regraft.text.tasks.task import checked, encoder
from regraft.text.tuner import Kind, Tuner
from regraft.text.tuners.defsent.heads import Entries, Head, PoolingMode, Predict, dense_head, freeze, pooled_by, source_of

SHORTEST = 2  # tokens of a definition


class DefSentPlus(Tuner):
    r"""Cross-entropy of :math:`E\, head(u(x))` over all entries; :math:`E_e` is the mean vector of the definitions of e, and is frozen.

    In each round the encoder of the round before makes E, and the original model, with a new head, is trained onto it: entries may be of
    several words, and their vectors use more directions from round to round. Everything but E is trained; the head is dropped. The rounds
    share the steps of the budget. The rate falls linearly without a warm-up; AdamW with epsilon 1e-6.

    Parameters
    ----------
    rounds : by default 3 for a plain language model, 1 for what already is a sentence encoder.
    restart : every round trains the original model ("fresh"), or goes on with the one of the round before.
    entry_pooling : of definitions when E is made; "own" is the pooling of the encoder, which u always has.
    head : a dense layer with an activation between u and E: BERT's "pooler" (tanh), the first layer of the "mlm" head (GELU), an
        "identity" matrix without activation, or "none"; "auto" is the first of them that the checkpoint has.
    isotropy : done to E, not to u, from round `isotropy_from` on: center, standardize, whiten, ica; by default ICA for a plain language
        model with more entries than dimensions. scale : mean length of its rows then; by default as before.
    temperature : scores are cosines divided by it; by default they are dot products.
    synonyms : a definition of several entries has all of them as targets, equally ("share"), or the "first" alone.
    mask_entry : an entry's own name in its definition is masked (left out where the model has no mask token).
    later_lr : rate of rounds after the first, as a share of the first's.
    dev : task, by name or file, that a round has to be better on; else training ends with the round before.
    builder : another encoder, of the same width, that makes E in round 1.
    layers : how many of the last layers are trained, and nothing below them; by default everything.

    Returns the model, trained in place. Raises `CorpusError` for a dictionary of fewer than two entries that can be told apart.
    """

    name = "defsent-plus"
    paper = Paper(
        "DefSent+: Improving sentence embeddings of language models by projecting definition sentences into a quasi-isotropic or "
        "isotropic vector space of unlimited dictionary entries", "Liu", 2024, "2405.16153",
    )  # fmt: skip
    summary = "definitions predict their entry, whose vectors grow round by round"
    takes: ClassVar[tuple[Kind, ...]] = ("entries",)

    rounds: PositiveInt | None = None
    restart: Literal["fresh", "continue"] = "fresh"
    entry_pooling: PoolingMode = "own"
    head: Head = "auto"
    isotropy: Isotropy | None = None
    isotropy_from: PositiveInt = 3
    scale: PositiveFloat | None = None
    temperature: PositiveFloat | None = None
    synonyms: Literal["share", "first"] = "share"
    mask_entry: bool = False
    later_lr: PositiveFloat = 1.0
    dev: str = ""
    builder: str = ""
    layers: PositiveInt | None = None

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        rows = self.read(examples, model.tokenizer)
        dev = open_any(self.dev) if self.dev else None
        rounds = self.rounds or (3 if is_plain(model) else 1)
        if budget.steps < rounds:
            raise ParameterError(f"{budget.steps} steps for {rounds} rounds: give at least one step a round")
        score = dev.measure(encoder(model)).value if dev else 0.0
        original, done = copied(model), 0
        for number in range(1, rounds + 1):
            before = copied(model) if dev else {}
            with step(f"round {number}: {len(rows):,} entries, {len(rows.rows_of):,} definitions"):
                builder = self._builder(model) if number == 1 else model
                table = self.table(builder, rows, number, plain=is_plain(model))
            if self.restart == "fresh":
                model.load_state_dict(original)
            steps = budget.steps * number // rounds - budget.steps * (number - 1) // rounds
            rate = budget.lr * (self.later_lr if number > 1 else 1.0)
            own = replace(budget, steps=steps, lr=rate, warmup=0.0, weight_decay=0.0, curve=[])
            self.learn(model, rows, table, own, name=f"round-{number}")
            budget.curve.extend((done + at, loss) for at, loss in own.curve)
            done += steps
            if dev is not None:
                found = dev.measure(encoder(model)).value
                console.print(f"round {number}: {dev.name} {score:.4f} -> {found:.4f}", highlight=False)
                if not found > score:
                    model.load_state_dict(before)
                    break
                score = found
        return model.eval()

    def read(self, examples: Any, tokenizer: Any) -> Dictionary:
        """The dictionary without definitions of fewer than two tokens. Raises `CorpusError` where no two rows can be told apart."""
        given = list(zip(examples["entry"], examples["definition"], strict=True))
        texts = list({" ".join(text.split()) for _, text in given})
        counted = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        long = {text for text, ids in zip(texts, counted, strict=True) if len(ids) >= SHORTEST}
        found = dictionary(given, readable=long.__contains__, first_only=self.synonyms == "first")
        if len(texts) > len(long):
            console.print(f"{len(texts) - len(long):,} definitions of fewer than {SHORTEST} tokens: left out", highlight=False)
        if len(found) < 2:
            why = f"{len({name for name, _ in given}):,} entries, {len(long):,} definitions of two tokens or more"
            raise CorpusError(f"{why}: {len(found)} row can be told apart from others, and it needs two")
        return found

    def table(self, builder: SentenceTransformer, rows: Dictionary, number: int, *, plain: bool = False) -> Vectors:
        """E (entries, d) of round `number`, made by `builder` in evaluation mode."""
        vectors = self.vectors(builder, rows)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in uniformity(vectors).items())
        console.print(f"round {number}: entry vectors before any transformation: {figures}", highlight=False)
        return self.prepared(vectors, number, plain=plain)

    def vectors(self, builder: SentenceTransformer, rows: Dictionary) -> Vectors:
        """The mean vector of each entry's definitions (entries, d)."""
        builder.eval()
        found = encoder(pooled_by(builder, self.entry_pooling))(list(rows.rows_of), "text")
        return rows.averaged(checked(found, "entries"))

    def prepared(self, vectors: Vectors, number: int, *, plain: bool = False) -> Vectors:
        """`vectors` as round `number` is trained onto them."""
        kind: Isotropy = self.isotropy or ("ica" if plain and len(vectors) > vectors.shape[1] else "none")
        if kind != "none" and number >= self.isotropy_from:
            return rescaled(transformed(vectors, kind), self.scale or float(np.linalg.norm(vectors, axis=1).mean()))
        return rescaled(vectors, self.scale) if self.scale else vectors

    def learn(self, model: SentenceTransformer, rows: Dictionary, table: Vectors, budget: Budget, *, name: str) -> None:
        """Train `model` in place onto the fixed vectors `table` (entries, d), with a head of its own that is dropped."""
        learner = pooled_by(model)
        width = int(learner.get_embedding_dimension() or 0)
        if table.shape[1] != width:
            raise ParameterError(f"entry vectors have {table.shape[1]} dimensions and the encoder {width}: both must be the same")
        kept = np.flatnonzero(np.linalg.norm(table, axis=1) > 0)
        learned = rows.among(kept.tolist())
        head = dense_head(learner, self.head)
        if head is not None:
            learner.append(head.to(model.device))
        if self.layers is not None:
            freeze(model, self.layers)
        entries = Entries(torch.from_numpy(table[kept]).float().to(model.device), self.temperature)
        data = samples(learned, mask=(model.tokenizer.mask_token or "") if self.mask_entry else None)
        fit(learner, Predict(learner, entries), data, budget, name=name, arguments={"adam_epsilon": 1e-6})
        model.requires_grad_(True)
        model.eval()

    def _builder(self, model: SentenceTransformer) -> SentenceTransformer:
        return load(self.builder, device=str(model.device)) if self.builder else model


def is_plain(model: SentenceTransformer) -> bool:
    """Whether the checkpoint is a language model, not a sentence encoder."""
    path = Path(source_of(model))
    return not any((folder / "modules.json").is_file() for folder in (path, path.parent))


def copied(model: SentenceTransformer) -> Mapping[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def samples(rows: Dictionary, *, mask: str | None = None) -> Dataset:
    """Every definition once, with the rows of its entries as labels (-1 is none); `mask` takes the place of their names in it."""
    most = max(len(owners) for owners in rows.rows_of.values())
    found = []
    for text, owners in rows.rows_of.items():
        shown = text
        if mask is not None:
            names = sorted((name for row in owners for name in rows.names[row]), key=len, reverse=True)
            without = re.sub(rf"\b({'|'.join(map(re.escape, names))})\b", mask, text, flags=re.IGNORECASE)
            shown = " ".join(without.split()) or text
        found.append({"text": shown, "label": [*owners, *[-1] * (most - len(owners))]})
    return Dataset.from_list(found)
