"""Guidance as a loss: a target's hidden layers are drawn to those of a guide, which is not trained and need not be.

    guidance = GuidanceLoss(target, guide)
    loss = cross_entropy(target(x), y) + guidance(x)

The target's features are those of its one forward pass before; the guide runs within `guidance(x)`.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regraft.errors import ParameterError
from regraft.grow.guide.distances import DISTANCES
from regraft.grow.guide.features import Recorder, flat, noise_like, uniform_map

Collision = Literal["last", "mean", "sum"]
Pairs = Literal["uniform"] | Mapping[str, str] | Sequence[tuple[str, str]]


class GuidanceLoss(nn.Module):
    """`weight` times the summed distances between layers of a guide and of a target.

    Parameters
    ----------
    target, guide : networks; neither becomes a part of this module, so that its parameters are nobody else's. The guide gets no gradient.
    map : "uniform" (guide layer i to target layer round(i (n_T - 1) / (n_G - 1))), or pairs of names (guide's, target's).
    distance : cka, rsa or ridge. weight : lambda. collision : what becomes of several guide layers that meet one of the target: the last
        one alone (as the released code has it), their mean, or their sum.
    guide_mode : eval, or train (statistics of the batch, dropout; its buffers then change). stop : steps after which there is no guidance.
    noise : the guide sees noise, the control that keeps its architecture and takes its input away. shuffle : it sees the batch in another
        order, the control that keeps both and takes the pairing away. tokens : flatten time into features, or compare each token.
    cache : how many batches' guide descriptions are kept, by the `key` that a call gives.

    Attributes
    ----------
    per_layer : distance of each pair of the last call.
    """

    def __init__(
        self,
        target: nn.Module,
        guide: nn.Module,
        *,
        map: Pairs = "uniform",
        distance: Literal["cka", "rsa", "ridge"] = "cka",
        weight: float = 1.0,
        collision: Collision = "last",
        guide_mode: Literal["eval", "train"] = "eval",
        stop: int | None = None,
        noise: bool = False,
        shuffle: bool = False,
        tokens: Literal["flatten", "each"] = "flatten",
        cache: int = 0,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ParameterError(f"distance={distance}: choose one of {', '.join(DISTANCES)}")
        if collision not in ("last", "mean", "sum"):
            raise ParameterError(f"collision={collision}: choose one of last, mean, sum")
        pairs = None if map == "uniform" else list(map.items() if isinstance(map, Mapping) else map)
        if pairs is not None and (not pairs or any(isinstance(one, str) or len(one) != 2 for one in pairs)):
            raise ParameterError(f"map={map!r}: give uniform, or pairs of names, the guide's first")
        self.pairs: list[tuple[str, str]] | None = pairs
        self.distance, self.weight, self.collision, self.stop = DISTANCES[distance], weight, collision, stop
        self.guide_mode, self.noise, self.shuffle, self.each = guide_mode, noise, shuffle, tokens == "each"
        self.steps, self.per_layer = 0, dict[str, float]()
        self._networks = (target, guide)  # in a tuple: no submodules of this one
        self._target = Recorder(target, None if pairs is None else [name for _, name in pairs])
        self._guide = Recorder(guide, None if pairs is None else [name for name, _ in pairs], detach=True)
        self._kept: OrderedDict[Hashable, dict[str, Tensor]] = OrderedDict()
        self._room = cache

    @property
    def active(self) -> bool:
        """Whether the next call guides: a weight, and steps left before `stop`."""
        return self.weight != 0 and (self.stop is None or self.steps < self.stop)

    def forward(self, *inputs: Any, mask: Tensor | None = None, key: Hashable = None, **named: Any) -> Tensor:
        """The guidance for the batch that the target has just seen; `inputs` are what the guide is run on.

        `mask` (B, T): 1 for tokens that are no padding. `key` names the batch, so that the guide need not see it again.
        Raises `ParameterError` where the target has not been run, or its batch was another one.
        """
        first = next(one for one in [*inputs, *named.values()] if isinstance(one, Tensor))
        if not self.active:
            self._target.seen = {}
            return torch.zeros((), device=first.device)
        self.steps += self.training
        features = self._target.take(len(first))
        described = self._described(inputs, named, mask, key, len(first))
        pairs = self._paired(list(described), list(features))
        total: list[Tensor] = []
        self.per_layer = {}
        for layer, guides in pairs.items():
            x = flat(features[layer], mask, each=self.each and features[layer].ndim == 3)
            apart = []
            for name in guides:
                if x.shape[:-1] != described[name].shape[:-1]:
                    raise ParameterError(f"{layer} and the guide's {name} differ in tokens: take tokens=flatten")
                apart.append(self.distance.between(x, described[name]).sum())
            whole = torch.stack(apart).mean() if self.collision == "mean" else torch.stack(apart).sum()
            self.per_layer[f"{guides[-1]} -> {layer}"] = float(whole.detach())
            total.append(whole)
        return self.weight * torch.stack(total).sum()

    def _described(self, inputs: Any, named: Any, mask: Tensor | None, key: Hashable, batch: int) -> dict[str, Tensor]:
        if key is not None and key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        guide = self._networks[1]
        before = guide.training
        guide.train(self.guide_mode == "train")
        order = torch.randperm(batch) if self.shuffle else None

        def shown(x: Any) -> Any:
            x = noise_like(x) if self.noise and x is not mask else x
            return x[order.to(x.device)] if order is not None and isinstance(x, Tensor) and len(x) == batch else x

        try:
            with torch.no_grad():
                guide(*[shown(x) for x in inputs], **{name: shown(x) for name, x in named.items()})
        finally:
            guide.train(before)
        features = self._guide.take(batch)
        found = {name: self.distance.describe(flat(one, mask, each=self.each and one.ndim == 3)) for name, one in features.items()}
        if key is not None and self._room:
            self._kept[key] = found
            if len(self._kept) > self._room:
                self._kept.popitem(last=False)
        return found

    def _paired(self, guides: list[str], targets: list[str]) -> dict[str, list[str]]:
        """Target layer -> the guide layers that draw it."""
        pairs = self.pairs
        if pairs is None:
            pairs = [(guides[i], targets[at]) for i, at in enumerate(uniform_map(len(guides), len(targets)))]
        found: dict[str, list[str]] = {}
        for guide, target in pairs:
            found[target] = [guide] if self.collision == "last" else [*found.get(target, []), guide]
        return found

    def remove(self) -> None:
        """Take the hooks out of both networks."""
        self._target.remove()
        self._guide.remove()
