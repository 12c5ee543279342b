"""Block influence: the layers that change the hidden state least are left out."""

from typing import Annotated

import torch
from annotated_types import Ge

from regraft.corpus.sampling import sample_texts
from regraft.errors import CorpusError, ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.plan import Plan
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.language.hidden_states import hidden_states
from regraft.method import Paper


class ShortGpt(DepthGrower):
    r"""Leaves out the layers of least block influence.

    :math:`\mathrm{BI}_l = 1 - \mathbb{E}\,\cos(x_l, x_{l+1})` over tokens, with x the hidden states before and behind the layer (eq. 1).
    The last state is read behind the final norm, as `transformers` gives it.

    tokens : how many tokens of the corpus are read. length : tokens of a text at most.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, old layers).

    Raises `ParameterError` for more layers than there are, `CorpusError` for text without a token.
    """

    paper = Paper("ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", "Men et al.", 2024, arxiv="2403.03853")
    summary = "the layers that change the hidden state least are left out"
    needs = ("corpus",)

    tokens: Annotated[int, Ge(1)] = 4096
    length: Annotated[int, Ge(1)] = 256

    def fit(self, source: LayerStack, context: Context) -> Gene:
        texts = sample_texts(context.texts(self.name), self.tokens * 8)
        model, tokenizer = context.live(source.checkpoint)
        sequences, room = [], self.tokens
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=min(self.length, room))["input_ids"]
            if ids:
                sequences.append(ids)
                room -= len(ids)
            if room <= 0:
                break
        if not sequences:
            raise CorpusError("short-gpt: the corpus holds no token to measure layers by: give more text")
        return Gene(source, {"block_influence": block_influence(model, sequences, source.depth)})

    def plan(self, gene: Gene, depth: int) -> Plan:
        count = gene.stack.depth
        if depth > count:
            raise ParameterError(
                f"short-gpt: --layers {depth}: it only leaves out, and the model has {count}: choose copy, stack or zero-block"
            )
        influence = gene.facts["block_influence"]
        kept = sorted(sorted(range(count), key=lambda layer: (-influence[layer], layer))[:depth])
        return Plan.copies(kept, count)


def block_influence(model: object, sequences: list[list[int]], depth: int) -> list[float]:
    """1 minus the mean cosine of each layer's input and output over all tokens, a figure a layer."""
    total, count = torch.zeros(depth, dtype=torch.float64), 0
    for _, states in hidden_states(model, sequences, layers=range(depth + 1)):
        total += torch.nn.functional.cosine_similarity(states[:-1], states[1:], dim=-1).double().sum(1)
        count += states.shape[1]
    return [float(value) for value in 1 - total / count]
