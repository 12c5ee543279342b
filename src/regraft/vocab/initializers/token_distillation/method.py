"""Token distillation: new rows learn to leave behind the hidden states that the old spelling left."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BeforeValidator, Field
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from regraft.errors import CorpusError, ParameterError, TokenizerError
from regraft.graft import Graft, Rows
from regraft.language.model import kind_of
from regraft.method import Paper
from regraft.progress import Bar, console, progress_bar
from regraft.tokenizer.undertrained import undertrained
from regraft.vocab.change import without
from regraft.vocab.change.without import dispensable
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.constituent_exponential import ConstituentExponential
from regraft.vocab.initializers.constituent_mean import ConstituentMean
from regraft.vocab.initializers.merge import Merge
from regraft.vocab.initializers.token_distillation.generated import write_passages
from regraft.vocab.initializers.token_distillation.pairing import Passage, choose, passages
from regraft.vocab.initializers.token_distillation.student import Student, Teacher

STARTS = {"constituent-mean": ConstituentMean, "constituent-exponential": ConstituentExponential, "merge": Merge}
MOST_PASSAGES = 200_000
Ids = npt.NDArray[np.int64]
NONE: Ids = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Learned:
    """Rows (new and replaced tokens, d) of both tables, and the ids of the replaced ones."""

    input: torch.Tensor
    head: torch.Tensor
    replaced: Ids


def _numbers(value: Any) -> Any:
    """Write "5, 17" and 5 as numbers, so that a recipe or a shell can write them plainly."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return tuple(int(part) for part in value.split(",")) if isinstance(value, str) and re.fullmatch(r"[\d\s,]*\d", value) else value


class TokenDistillation(Initializer):
    r"""Distil multi-token spellings into single rows.

    Passages of `length` old tokens are read twice by the same frozen model: in the old spelling (teacher) and with new tokens (student).
    The new rows minimize :math:`L_{MSE} = \mathrm{mean}_j \lVert h^{new}_j - h^{old}_{i(j)} \rVert^2 / d` over the last hidden states at
    all positions where a token of each ends at the same byte: every unmerged token, and the last piece of each merged one.

    With `ce`, :math:`\alpha L_{CE}` joins, the student's next-token cross-entropy over the new vocabulary with
    :math:`\alpha = sg(L_{MSE} / L_{CE})`: it is what teaches a row its part as a head row. It is on for an untied head, whose rows nothing
    else reaches, unless `head` says otherwise.

    `loss` may compare what follows from those states instead: logits of the old vocabulary by their mean squared difference
    ("logits-mse"), the distributions over it, :math:`\mathrm{mean}_j KL(p^{old} \| p^{new})` ("logits-kl"), or what both spellings say of
    the chunks between shared ends ("alm": approximate likelihood matching, `chunk_likelihood`), which teaches head rows too.

    One passage serves every new token in it (the original reads one passage per token): passages are taken until each token has been seen
    in `snippets` of them, so a batch holds many new tokens and cost grows with text, not with tokens.

    Parameters
    ----------
    snippets, length : passages a token wants to be seen in, and their length in old tokens.
    snippets_from : "corpus"; "model" (the model writes them, each beginning with a token's old spelling); or "both": it writes what the
        corpus lacks.
    temperature : of that writing; 1 draws from the model's own distribution.
    replace_ids : ids of old tokens ("5, 17") whose rows are learned anew as well, from what the other spelling of their bytes leaves; or
        "undertrained": those that `regraft.tokenizer.undertrained` finds and that passages show.
    magikarp : leave out passages in which the old spelling has an under-trained token, which cannot teach what it never learned.
    head : rows of an untied head: "ce" learns them, "start" keeps their first values, "zero" makes them zero. A tied head is the table.
    start : "constituent-mean", "constituent-exponential" or "merge".
    loss : "hidden-mse", "logits-mse", "logits-kl" or "alm".
    layer : whose hidden states "hidden-mse" compares: -1 the last, counted as in ``hidden_states`` of `transformers`.
    lr, weight_decay, batch_size, epochs : of AdamW.
    minutes : where it ends if its passages take longer (ours, so that a desktop finishes); then it is said. None: never.

    Returns rows (new tokens, d); old rows never move, but those of `replace_ids`. Needs a language model, and text unless the model writes
    it. A masked one has no next token, so its head rows keep their first values.
    Raises `CorpusError` if no passage shows a wanted token, `TokenizerError` for an id that cannot be replaced, `ParameterError` for `ce`
    or written passages with a masked model, and for `layer` where logits are compared, `EvaluationError` for an encoder-decoder and for a
    layer that the model does not have.
    """

    paper = Paper("Token Distillation: Attention-aware Input Embeddings For New Tokens", "Dobler et al.", 2025, "2505.20133")
    summary = "learns rows that leave behind what the old spelling left"
    separate_head: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text", "model")

    snippets: Annotated[int, Field(ge=1)] = 100
    length: Annotated[int, Field(ge=4)] = 50
    start: Literal["constituent-mean", "constituent-exponential", "merge"] = "constituent-mean"
    snippets_from: Literal["corpus", "model", "both"] = "corpus"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    replace_ids: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | Literal["undertrained"], BeforeValidator(_numbers)] = ()
    magikarp: bool = False
    loss: Literal["hidden-mse", "logits-mse", "logits-kl", "alm"] = "hidden-mse"
    layer: int = -1
    ce: bool = False
    head: Literal["ce", "start", "zero"] = "ce"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 16
    epochs: Annotated[int, Field(ge=1)] = 1
    minutes: Annotated[float, Field(gt=0)] | None = 3.0

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        learned = context.remember(f"token-distillation {self}", lambda: self.learn(source, target, context))
        values = (learned.head if source.role == "head" else learned.input).to(source.table.dtype)
        return Rows(values[: len(target)], origin="learned", replaced=learned.replaced, replacements=values[len(target) :])

    def learn(self, source: Source, target: Target, context: Context) -> Learned:
        """New rows of both tables, and of the tokens to replace behind them."""
        if self.layer != -1 and self.loss != "hidden-mse":
            raise ParameterError(f"{self.name}: layer={self.layer} goes with loss=hidden-mse: logits follow from the last layer alone")
        weak = undertrained(source.table, source.tokenizer) if self.magikarp or self.replace_ids == "undertrained" else NONE
        aim = replacing(target, self.ids_to_replace(source, weak))
        model, tokenizer = context.model(self.name)
        if (self.ce or self.loss == "alm") and kind_of(model) == "masked":
            asked = "ce=true teaches" if self.ce else "loss=alm compares likelihoods of"
            raise ParameterError(f"{self.name}: {asked} the next token, which {type(model).__name__} does not predict: leave it out")
        chosen = self.gather(aim, model, tokenizer, context, weak if self.magikarp else NONE)
        if self.replace_ids == "undertrained":
            aim = replacing(target, shown(chosen, aim.ids[len(target) :]))
        student = Student(model, tokenizer, aim, self.start_of(source, "input", aim, context), self.start_of(source, "head", aim, context))
        first_head = student.rows("head")
        trainable = student.train_rows()
        speaks = student.language_model.kind == "decoder"
        learns_head = speaks and "head_rows" in trainable.parameters and self.head == "ce"
        try:
            use_ce = self.ce or (learns_head and self.loss != "alm")
            self.distil(student, list(trainable.parameters.values()), chosen, context.seed, use_ce=use_ce)
        finally:
            trainable.finish()
        head = student.rows("head")
        if "head_rows" in trainable.parameters and not learns_head:
            head = torch.zeros_like(first_head) if self.head == "zero" else first_head
        return Learned(student.rows("input"), head, aim.ids[len(target) :])

    def start_of(self, source: Source, role: Literal["input", "head"], aim: Target, context: Context) -> Graft:
        """The start of one table's rows."""
        graft = STARTS[self.start]()(replace(source, role=role), aim, context)
        assert isinstance(graft, Graft)
        return graft

    def ids_to_replace(self, source: Source, weak: Ids) -> Ids:
        """Old ids whose rows are learned anew."""
        if self.replace_ids != "undertrained":
            return np.unique(np.array(self.replace_ids, dtype=np.int64))
        return np.array(dispensable(source.tokenizer, weak.tolist()), dtype=np.int64)

    def gather(self, aim: Target, model: Any, tokenizer: Any, context: Context, weak: Ids) -> list[Passage]:
        """Passages from the corpus and the model; none whose old spelling has a token of `weak`."""
        chosen: list[Passage] = []
        if self.snippets_from != "model":
            found = (p for p in passages(aim, context.texts(self.name), self.length) if not np.isin(p.old, weak).any())
            chosen = choose(found, aim.ids, self.snippets, np.random.default_rng(context.seed), MOST_PASSAGES)
        if self.snippets_from != "corpus":
            seen = Counter(token for p in chosen for token in np.unique(p.new).tolist())
            wanted = {token: max(0, self.snippets - seen[token]) for token in aim.ids.tolist()}
            written = write_passages(model, tokenizer, aim, wanted, self.length, temperature=self.temperature, seed=context.seed)
            chosen += [p for p in written if not np.isin(p.old, weak).any()]
        if not chosen:
            where = "the model wrote" if self.snippets_from == "model" else "the corpus shows"
            raise CorpusError(f"{self.name}: {where} none of the new tokens: give text that does, or --set snippets_from=both")
        return chosen

    def distil(self, student: Student, parameters: list[torch.nn.Parameter], chosen: list[Passage], seed: int, *, use_ce: bool) -> None:
        """Run AdamW over the passages; the rate falls linearly to zero over the last tenth, by passages."""
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        batches = list(batch_by_length(chosen, self.batch_size, self.epochs, seed))
        teacher = Teacher(student, self.layer, keep=self.epochs > 1, whole=self.loss == "alm")
        began = time.perf_counter()
        with progress_bar("distilling", total=len(batches), unit="batches") as bar:
            for number, batch in enumerate(batches):
                done = number / len(batches)
                if self.minutes is not None and time.perf_counter() - began >= 60 * self.minutes:
                    console.print(
                        f"  {self.name}: {self.minutes:g} minutes were over after {number} of {len(batches)} batches", highlight=False
                    )
                    break
                for group in optimizer.param_groups:
                    group["lr"] = self.lr * min(1.0, 10 * (1 - done))
                self.step(student, teacher, batch, use_ce, bar)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                bar.advance()

    def step(self, student: Student, teacher: Teacher, batch: list[Passage], use_ce: bool, bar: Bar) -> None:
        """Add the gradient of one batch's loss."""
        new = [student.places[p.new] for p in batch]
        states = student.hidden(new, self.layer)
        if self.loss == "alm":
            loss = distance = student.chunk_distance(teacher.each(batch), states, batch)
        else:
            seen = torch.cat([h[p.new_at] for h, p in zip(states, batch, strict=True)])
            loss = distance = self.distance(student, teacher(batch), seen)
        if use_ce:
            targets = torch.from_numpy(np.concatenate([ids[1:] for ids in new])).to(seen.device)
            last = states if self.layer == -1 else student.hidden(new)
            logits = student.logits(torch.cat([h[:-1] for h in last]))
            nats = cross_entropy(logits.float(), targets)
            loss = distance + (distance / nats).detach() * nats
        loss.backward()  # type: ignore[no-untyped-call]
        bar.say(f"{self.loss} {distance.item():.4f}")

    def distance(self, student: Student, teacher: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """How far the student's states (positions, d) are from the teacher's, by `loss`."""
        if self.loss == "hidden-mse":
            return (seen - teacher).square().mean()
        with torch.no_grad():
            wanted = student.language_model.logits(teacher)[:, : student.columns].float()
        found = student.language_model.logits(seen)[:, : student.columns].float()
        if self.loss == "logits-mse":
            return (found - wanted).square().mean()
        return kl_div(log_softmax(found, 1), log_softmax(wanted, 1), log_target=True, reduction="batchmean")


def replacing(target: Target, old_ids: Ids) -> Target:
    """`target` with the tokens of `old_ids` behind its own, by an old tokenizer that spells them in other pieces.

    Raises `TokenizerError` for an id that is no piece, cannot be spelled otherwise, or is not in the new vocabulary.
    """
    if not len(old_ids):
        return target
    places = {int(old): new for new, old in enumerate(target.source_ids.tolist()) if old >= 0}
    old = target.old_tokenizer
    for token in old_ids.tolist():
        if token in old.pieces and token not in places:
            raise TokenizerError(f"id {token} ({old.pieces[token]!r}) is not in the new vocabulary: there is no row to replace")
    speller = without(old, old_ids.tolist())
    again = np.array([places[i] for i in old_ids.tolist()], dtype=np.int64)
    source_ids = target.source_ids.copy()
    source_ids[again] = -1
    return Target(np.concatenate([target.ids, again]), target.tokenizer, source_ids, speller)


def shown(chosen: list[Passage], ids: Ids) -> Ids:
    """Those of `ids` that a passage shows in the new spelling."""
    seen = np.unique(np.concatenate([p.new for p in chosen]))
    return ids[np.isin(ids, seen)]


def batch_by_length(chosen: list[Passage], size: int, epochs: int, seed: int) -> Iterator[list[Passage]]:
    """Batches of passages of like length, in random order, `epochs` times over."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(chosen))
        pools = [sorted(order[i : i + 32 * size], key=lambda k: len(chosen[k].new)) for i in range(0, len(order), 32 * size)]
        batches = [pool[i : i + size] for pool in pools for i in range(0, len(pool), size)]
        for number in rng.permutation(len(batches)):
            yield [chosen[k] for k in batches[number]]
