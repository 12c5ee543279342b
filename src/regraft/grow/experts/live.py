"""Experts in a live model, whose parameters and file names stay what they are.

Enters: a `transformers` model and a `Split`. Leaves: the same model, which routes. Three ways: "masked" (the whole block is computed,
activations of other experts are zeroed), "grouped" (only what was chosen is computed), "dense" (as if nothing had happened).
Adapters come first: install on the adapted model, so that masks reach the adapters' activations too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regraft.errors import ParameterError
from regraft.grow.experts.block import Mode, RoutedBlock
from regraft.grow.experts.copies import CopiedBlock
from regraft.grow.experts.ffn import FeedForward, find
from regraft.grow.experts.split import FIELD, Split

PLACE = "_regraft_experts"


class Installed:
    """All split blocks of a model: `use` switches between the ways, `remove` takes everything out."""

    def __init__(self, model: nn.Module, split: Split) -> None:
        known = {one.path: one for one in find(model)}
        blocks = {layer.path: found for layer in split.layers if (found := _at(known, layer.path)) is not None}
        if lost := [layer.path for layer in split.layers if layer.path not in blocks]:
            raise ParameterError(f"{type(model).__name__} has no feed-forward block {lost[0]}: the split is of another model")
        odd = [path for path, one in blocks.items() if one.width % split.routing.experts]
        if odd and split.kind == "neurons":
            raise ParameterError(f"{odd[0]}: its {blocks[odd[0]].width} neurons are not {split.routing.experts} equal experts")
        self.split, self.mode = split, "dense"
        kind = CopiedBlock if split.kind == "copies" else RoutedBlock
        self.blocks: dict[str, RoutedBlock] = {path: kind(one, split.routing) for path, one in blocks.items()}
        self._hooks = [
            model.register_forward_pre_hook(self._see_mask, with_kwargs=True),
            model.register_forward_hook(self._add_loss),
        ]

    def use(self, mode: Mode) -> "Installed":
        """Route by "masked" or "grouped", or not at all ("dense"). Raises `ParameterError` where "grouped" cannot be."""
        for block in self.blocks.values():
            block.attach(mode)
        self.mode = mode
        return self

    def with_top_k(self, top_k: int) -> "Installed":
        """Let each token take `top_k` experts from now on. Raises `ParameterError` outside 1 to all."""
        if not 1 <= top_k <= self.split.routing.experts:
            raise ParameterError(f"top_k={top_k}: take 1 to {self.split.routing.experts}")
        self.split = self.split.with_top_k(top_k)
        for block in self.blocks.values():
            block.routing = self.split.routing
        return self

    def auxiliary_loss(self) -> Tensor | None:
        """Sum over blocks of the last pass's load-and-importance losses, times their weight; None without one."""
        losses = [block.loss for block in self.blocks.values() if block.loss is not None]
        return None if not losses else self.split.routing.auxiliary * torch.stack(losses).sum()

    def usage(self) -> dict[str, list[float]]:
        """Share of tokens, by block, that chose each expert since counting began; padding left out where the model was given a mask."""
        return {path: (b.counts * b.routing.top_k / b.counts.sum().clamp(min=1)).tolist() for path, b in self.blocks.items()}

    def count(self, *, on: bool = True) -> None:
        """Begin, or stop, to count which experts are chosen."""
        for block in self.blocks.values():
            block.counting = on
            block.counts.zero_() if on else None

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for block in self.blocks.values():
            block.detach()
            block.take_out()

    def _see_mask(self, module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        mask = named.get("attention_mask")
        for block in self.blocks.values():
            block.real = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def _add_loss(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        extra = self.auxiliary_loss() if module.training and self.split.routing.auxiliary else None
        if extra is not None and getattr(output, "loss", None) is not None:
            output.loss = output.loss + extra
        return output


def install(model: nn.Module, split: Split, mode: Mode = "masked") -> Installed:
    """Let `model`, whose neurons lie in the order of `split`, route. A second split takes the place of the first.

    `model` may be the split model with a head on it or without its own. Raises `ParameterError` for the split of another model.
    """
    if (before := installed(model)) is not None:
        before.remove()
    found = Installed(model, split).use(mode)
    object.__setattr__(model, PLACE, found)
    if (config := getattr(model, "config", None)) is not None:
        setattr(config, FIELD, split.to_dict(orders=False))
    return found


def installed(model: nn.Module) -> Installed | None:
    """What `install` left in `model`."""
    return getattr(model, PLACE, None)


def remove(model: nn.Module) -> None:
    """Take masks and routers out of `model`; neurons stay in the order that they have, which changes nothing that it computes."""
    if (before := installed(model)) is not None:
        before.remove()
        object.__delattr__(model, PLACE)
        if hasattr(model.config, FIELD):
            delattr(model.config, FIELD)


def _at(known: Mapping[str, FeedForward], path: str) -> FeedForward | None:
    """The block at `path`, also where the model has a prefix more, or less, than when it was split."""
    if path in known:
        return known[path]
    alike = [one for name, one in known.items() if name.endswith(f".{path}") or path.endswith(f".{name}")]
    return alike[0] if len(alike) == 1 else None
