"""The baseline on symbols: a language model with a table of its own."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import cross_entropy

from regraft.bias.learning import fit, learned_numbers
from regraft.bias.lexinvariant.model import LexinvariantConfig, LexinvariantLM
from regraft.bias.lexinvariant.tables import Rows
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class SymbolModel(Prior):
    """A causal decoder with rotary positions, whose readout has the rows of its input. Its `share` of symbols has random rows.

    rows : how random rows are drawn, "gaussian" or "orthonormal". hidden : width d. layers, heads : of it. rate : AdamW's.
    """

    kinds = ("symbols",)
    share = 0.0
    rows: Rows = "gaussian"

    hidden: Annotated[int, Ge(1)] = 64
    layers: Annotated[int, Ge(1)] = 2
    heads: Annotated[int, Ge(1)] = 4
    rate: Annotated[float, Gt(0)] = 3e-3

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        config = LexinvariantConfig(
            task.classes, self.hidden, self.layers, self.heads, task.x.shape[1], share=self.share, rows=self.rows
        )  # fmt: skip
        model = LexinvariantLM(config)
        curve = fit(model, task, plan, next_symbol, rate=self.rate)
        nats, right, asked = judged(model, task, plan.seed)
        scores = (nats if task.metric.name == "nats" else right).sum(1) / asked.sum(1)
        facts = {}
        if asked.all():
            quarter = asked.shape[1] // 4
            facts = {"nats_first_quarter": float(nats[:, :quarter].mean()), "nats_last_quarter": float(nats[:, -quarter:].mean())}
        return Learned(scores, learned_numbers(model), model, curve, facts)


class PlainLanguageModel(SymbolModel):
    """A learned row a symbol, for the input and for the readout."""

    plain_of = ("symbols",)
    paper = Paper("Attention Is All You Need", "Vaswani et al.", 2017, "1706.03762")
    summary = "baseline on symbols: a language model with learned rows"


def next_symbol(output: Any, y: Tensor) -> Tensor:
    """Cross entropy where y is no -100."""
    return cross_entropy(output.logits.flatten(0, 1), y.flatten(), ignore_index=-100)


@torch.no_grad()
def judged(model: LexinvariantLM, task: Task, seed: int = 0, block: int = 64) -> tuple[npt.NDArray[np.float64], ...]:
    """Nats, right answers, and what was asked for, each (held-out sequences, length); 0 where nothing was. One draw a sequence.

    A model with some learned rows is judged with all of them.
    """
    model.eval()  # type: ignore[no-untyped-call]
    found = []
    share = 0.0 if model.words is not None else None
    for at in range(0, len(task.x_test), block):
        x, y = task.x_test[at : at + block], task.y_test[at : at + block]
        seeds = torch.arange(at, at + len(x)) + (seed + 1) * 2**32
        logits, asked = model(x, seeds=seeds, share=share).logits, y >= 0
        nats = cross_entropy(logits.mT, y, ignore_index=-100, reduction="none")
        found.append((nats.double(), ((logits.argmax(-1) == y) & asked).double(), asked.double()))
    return tuple(torch.cat(parts).numpy() for parts in zip(*found, strict=True))
