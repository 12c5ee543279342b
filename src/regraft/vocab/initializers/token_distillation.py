"""Token distillation: new rows learn to leave behind the hidden states that the old spelling left."""

import time
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from regraft.errors import CorpusError
from regraft.graft import Graft, Rows
from regraft.method import Paper
from regraft.progress import Bar, progress_bar
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.constituent_exponential import ConstituentExponential
from regraft.vocab.initializers.constituent_mean import ConstituentMean
from regraft.vocab.initializers.merge import Merge
from regraft.vocab.pairing import Passage, choose, passages
from regraft.vocab.student import Student

STARTS = {"constituent-mean": ConstituentMean, "constituent-exponential": ConstituentExponential, "merge": Merge}
MOST_PASSAGES = 200_000
Learned = dict[str, torch.Tensor]


class TokenDistillation(Initializer):
    r"""Distil multi-token spellings into single rows.

    Passages of `length` old tokens are read twice by the same frozen model: in the old spelling (teacher) and with new tokens (student).
    The new rows minimize :math:`L_{MSE} = \mathrm{mean}_j \lVert h^{new}_j - h^{old}_{i(j)} \rVert^2 / d` over the last hidden states at
    all positions where a token of each ends at the same byte: every unmerged token, and the last piece of each merged one.

    With `ce`, :math:`\alpha L_{CE}` joins, the student's next-token cross-entropy with :math:`\alpha = sg(L_{MSE} / L_{CE})`: it is what
    teaches a row its part as a head row. It is always on for an untied head, whose rows nothing else reaches.

    One passage serves every new token in it (the original reads one passage per token): passages are taken until each token has been seen
    in `snippets` of them, so a batch holds many new tokens and cost grows with text, not with tokens.

    Parameters
    ----------
    snippets, length : passages a token wants to be seen in, and their length in old tokens.
    start : "constituent-mean", "constituent-exponential" or "merge".
    lr, weight_decay, batch_size, epochs : of AdamW.
    minutes : stop after this time (ours, so that a desktop finishes), or None for all passages.

    Returns rows (new tokens, d); old rows never move. Needs text and a decoder.
    """

    paper = Paper("Token Distillation: Attention-aware Input Embeddings For New Tokens", "Dobler et al.", 2025, "2505.20133")
    summary = "learns rows that leave behind what the old spelling left"
    separate_head: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("text", "model")

    snippets: Annotated[int, Field(ge=1)] = 100
    length: Annotated[int, Field(ge=4)] = 50
    start: Literal["constituent-mean", "constituent-exponential", "merge"] = "constituent-mean"
    ce: bool = False
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 16
    epochs: Annotated[int, Field(ge=1)] = 1
    minutes: Annotated[float, Field(gt=0)] | None = 5.0

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        learned = context.remember(f"token-distillation {self}", lambda: self.learn(source, target, context))
        values = learned["head" if source.role == "head" else "input"]
        return Rows(values.to(source.table.dtype), origin="learned")

    def learn(self, source: Source, target: Target, context: Context) -> Learned:
        """New rows of both tables."""
        found = passages(target, context.texts(self.name), self.length)
        chosen = choose(found, target.ids, self.snippets, np.random.default_rng(context.seed), MOST_PASSAGES)
        if not chosen:
            raise CorpusError(f"{self.name}: the corpus shows none of the new tokens: give text that does")
        start = STARTS[self.start]()(source, target, context)
        assert isinstance(start, Graft)
        model, tokenizer = context.model(self.name)
        student = Student(model, tokenizer, target, start)
        trainable = student.train_rows()
        try:
            self.distil(
                student, list(trainable.parameters.values()), chosen, context.seed, use_ce=self.ce or "head_rows" in trainable.parameters
            )
        finally:
            trainable.finish()
        return {"input": student.rows("input"), "head": student.rows("head")}

    def distil(self, student: Student, parameters: list[torch.nn.Parameter], chosen: list[Passage], seed: int, *, use_ce: bool) -> None:
        """Run AdamW over the passages; the rate falls linearly to zero over the last tenth, by passages or by the clock."""
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        batches = list(batch_by_length(chosen, self.batch_size, self.epochs, seed))
        began = time.perf_counter()
        with progress_bar("distilling", total=len(batches), unit="batches") as bar:
            for number, batch in enumerate(batches):
                done = number / len(batches)
                if self.minutes is not None:
                    done = max(done, (time.perf_counter() - began) / (60 * self.minutes))
                if done >= 1:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = self.lr * min(1.0, 10 * (1 - done))
                self.step(student, batch, use_ce, bar)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                bar.advance()

    def step(self, student: Student, batch: list[Passage], use_ce: bool, bar: Bar) -> None:
        """Add the gradient of one batch's loss."""
        with torch.inference_mode():
            teacher = torch.cat([h[p.old_at] for h, p in zip(student.hidden([p.old for p in batch]), batch, strict=True)])
        new = [student.places[p.new] for p in batch]
        states = student.hidden(new)
        seen = torch.cat([h[p.new_at] for h, p in zip(states, batch, strict=True)])
        distance = (seen - teacher.clone()).square().mean()
        loss = distance
        if use_ce:
            targets = torch.from_numpy(np.concatenate([ids[1:] for ids in new])).to(seen.device)
            logits = student.language_model.logits(torch.cat([h[:-1] for h in states]))
            nats = cross_entropy(logits.float(), targets)
            loss = distance + (distance / nats).detach() * nats
        loss.backward()  # type: ignore[no-untyped-call]
        bar.say(f"mean squared distance {distance.item():.4f}")


def batch_by_length(chosen: list[Passage], size: int, epochs: int, seed: int) -> Iterator[list[Passage]]:
    """Batches of passages of like length, in random order, `epochs` times over."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(chosen))
        pools = [sorted(order[i : i + 32 * size], key=lambda k: len(chosen[k].new)) for i in range(0, len(order), 32 * size)]
        batches = [pool[i : i + size] for pool in pools for i in range(0, len(pool), size)]
        for number in rng.permutation(len(batches)):
            yield [chosen[k] for k in batches[number]]
