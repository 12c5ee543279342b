"""What the layers of any network put out, recorded by hooks: pre-activation features of every parametrised layer, the logits left out.

Enters: an `nn.Module`, or names of its modules. Leaves: after each forward pass, features in the order of their computation, batch axis
first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.errors import ParameterError

POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
LAYERS = (
    nn.Linear, nn.modules.conv._ConvNd, *POOLS, nn.RNNBase, nn.MultiheadAttention, nn.LayerNorm, nn.TransformerDecoderLayer,
)  # fmt: skip
BY_NAME = ("Conv1D",)  # linear maps of `transformers`


class Recorder:
    """Hooks on a network. `seen` : name -> output of the last forward pass, logits included, in the order of computation."""

    def __init__(self, network: nn.Module, layers: Sequence[str] | None = None, *, detach: bool = False) -> None:
        known = dict(network.named_modules())
        if layers is not None and (lost := [name for name in layers if name not in known]):
            raise ParameterError(f"{type(network).__name__} has no module '{lost[0]}'")
        inside = {id(part) for one in known.values() if isinstance(one, nn.MultiheadAttention) for part in one.modules() if part is not one}
        chosen = {
            name: one
            for name, one in known.items()
            if (
                name in layers
                if layers is not None
                else (isinstance(one, LAYERS) or type(one).__name__ in BY_NAME) and id(one) not in inside
            )
        }
        if not chosen:
            raise ParameterError(f"{type(network).__name__} has no layer to compare by")
        self.named, self.detach, self.seen = layers is not None, detach, dict[str, Tensor]()
        self._hooks = [one.register_forward_hook(self._record(name)) for name, one in chosen.items()]

    def _record(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple | list) else output
            if not isinstance(found, Tensor):
                found = getattr(found, "last_hidden_state", None)
            if found is None or found.ndim < 2:
                return
            if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and not module.batch_first and found.ndim == 3:
                found = found.transpose(0, 1)
            self.seen.pop(name, None)  # a module that is run twice keeps its last output, at its last place
            self.seen[name] = found.detach().clone() if self.detach else found.clone()  # the next module may work in place

        return hook

    def take(self, batch: int) -> dict[str, Tensor]:
        """Features of the last pass, without the last one unless names were given, each (batch, ...); nothing is kept behind.

        Raises `ParameterError` where there was no pass, or an output has no axis of the batch's size.
        """
        seen, self.seen = self.seen, {}
        if not seen:
            raise ParameterError("no features: run the target on the batch before its guidance is asked for")
        names = list(seen) if self.named or len(seen) == 1 else list(seen)[:-1]
        found = {}
        for name in names:
            one = seen[name]
            if one.shape[0] != batch and one.ndim >= 3 and one.shape[1] == batch:
                one = one.transpose(0, 1)
            if one.shape[0] != batch:
                raise ParameterError(f"{name}: puts out {tuple(one.shape)}, which has no axis of {batch} examples")
            found[name] = one
        return found

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def flat(features: Tensor, mask: Tensor | None, *, each: bool = False) -> Tensor:
    """Features (B, ...) as (B, p), or with `each` tokens (B, T, d) as (T, B, d); tokens that `mask` (B, T) has 0 for are zeros."""
    if mask is not None and features.ndim >= 3 and features.shape[:2] == mask.shape:
        features = features * mask.to(features.dtype).view(*mask.shape, *[1] * (features.ndim - 2))
    return features.transpose(0, 1) if each else features.flatten(1)


def uniform_map(guide: int, target: int) -> list[int]:
    """For each guide layer the target layer: round(i (n_T - 1) / (n_G - 1)), Python's rounding; a single one guides the first."""
    if guide == 1:
        return [0]
    return [min(target - 1, round(i * (target - 1) / (guide - 1))) for i in range(guide)]


@torch.no_grad()
def noise_like(x: Any) -> Any:
    """Clipped Gaussian noise in the range of `x`, or random ids up to its largest."""
    if not isinstance(x, Tensor):
        return x
    if not x.is_floating_point():
        return torch.randint_like(x, 0, int(x.max()) + 1)
    return torch.randn_like(x).mul_(x.std()).add_(x.mean()).clamp_(x.min(), x.max())
