"""Which experts a token takes: scores to a choice, by rule and within capacity, and what keeps experts evenly used.

Enters: scores (tokens, experts) in float32. Leaves: the chosen experts (tokens, k), or weights (tokens, experts) with zeros elsewhere.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from regraft.grow.experts.split import Rule

PROJECTED, TEMPERATURE, HIGHEST = 256, 0.5, math.log(100)  # of the cosine router: width, start and highest log of its scale


def chosen(scores: Tensor, k: int, rule: Rule = "top") -> Tensor:
    """Indices (tokens, k) of the experts that `rule` keeps: the highest scores, the lowest, any, or any but the highest."""
    if rule == "random":
        return torch.rand_like(scores).topk(k, dim=-1).indices
    if rule == "not-top":  # random ones first of those behind the top k
        draw = torch.rand_like(scores)
        return draw.scatter_add(-1, scores.topk(k, dim=-1).indices, torch.full_like(draw, -2.0)).topk(k, dim=-1).indices
    return scores.topk(k, dim=-1, largest=rule == "top").indices


def spread(picked: Tensor, experts: int, weights: Tensor | None = None) -> Tensor:
    """Weights (tokens, experts): those of the `picked` experts (tokens, k), 1 each by default, and 0 elsewhere."""
    filled = torch.ones_like(picked, dtype=torch.float32) if weights is None else weights
    return torch.zeros(*picked.shape[:-1], experts, dtype=filled.dtype, device=picked.device).scatter(-1, picked, filled)


def within_capacity(scores: Tensor, picked: Tensor, capacity: float, real: Tensor | None = None) -> Tensor:
    """Which choices (tokens, k) find room where an expert takes ceil(capacity * k * tokens / experts) tokens; surest tokens first.

    `real` (tokens,): padding takes no room and is never counted. First choices of all tokens come before second ones.
    """
    tokens, k = picked.shape
    counted = torch.ones(tokens, dtype=torch.bool, device=scores.device) if real is None else real.reshape(-1).bool()
    experts = scores.shape[-1]
    room = math.ceil(capacity * k * int(counted.sum()) / experts)
    sure = scores.amax(-1).masked_fill(~counted, -torch.inf).argsort(descending=True, stable=True)
    queue = nn.functional.one_hot(picked[sure].t().reshape(-1), experts) * counted[sure].repeat(k)[:, None]
    place = (queue.cumsum(0) * queue).sum(-1).view(k, tokens).t()
    fits = torch.empty_like(picked, dtype=torch.bool)
    fits[sure] = place <= room
    return fits


def load_and_importance(scores: Tensor, k: int, noise: float, real: Tensor | None = None) -> Tensor:
    """Mean of the squared coefficients of variation of importance (summed probabilities) and load (chance to be chosen under noise)."""
    kept = scores if real is None else scores[real.reshape(-1).bool()]
    importance = kept.softmax(-1).sum(0)
    deviation = max(noise, 1e-2) / scores.shape[-1]
    threshold = kept.topk(k, dim=-1).values[:, -1:]
    load = torch.special.ndtr((kept - threshold) / deviation).sum(0)
    return (_variation(importance) + _variation(load)) / 2


def _variation(amounts: Tensor) -> Tensor:
    return (amounts.std(correction=0) / amounts.mean().clamp(min=1e-12)).square()


class CosineRouter(nn.Module):
    """The learned gate: cosines of projected tokens with one direction an expert, times a learned scale of at most 100.

    Weights of the chosen experts are their softmax times k, so that even ones are the 1 of the average gate (inferred: the sources at
    hand do not say how the authors weight them).
    """

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, PROJECTED, bias=False)
        self.directions = nn.Parameter(torch.empty(experts, PROJECTED).normal_(0, 0.01))
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (tokens, experts) of tokens (tokens, d), in float32."""
        found = normalize(self.projection(x).float(), dim=-1) @ normalize(self.directions.float(), dim=-1).t()
        return found * self.temperature.clamp(max=HIGHEST).exp()


def seeded_router(dim: int, experts: int, seed: int) -> dict[str, Tensor]:
    """Parameters of a new cosine router, by name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(CosineRouter(dim, experts).state_dict())


class SoftmaxRouter(nn.Module):
    """The gate of Mixtral: softmax over the chosen logits, the same before top-k and after it once it is divided by its sum."""

    def __init__(self, dim: int, experts: int, deviation: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, dim).normal_(0, deviation))

    def forward(self, x: Tensor) -> Tensor:
        return x.float() @ self.weight.float().t()
