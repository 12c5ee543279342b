"""The contract of how a model that knows some classes learns others: two backbones enter, a model that is ready to learn leaves."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.layers.gated import matching
from regraft.concepts.split.model import TABLE, Split
from regraft.method import Method


@dataclass(frozen=True, eq=False)
class Backbones:
    """The same transformer twice: `plain`, and `gated` with learngenes and tailors, trained on the same images for as many steps."""

    plain: Split
    gated: Split


@dataclass(frozen=True, eq=False)
class Ready:
    """`split` with new classes, whose learning parameters ask for a gradient; `rates` : multiples of the rate by name."""

    split: Split
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def trainable(self) -> int:
        return sum(one.numel() for one in self.split.transformer.parameters() if one.requires_grad)


class ClassLearner(Method):
    """Base of every way to learn new classes.

    Returns, by `begin`, a model with vectors of the new classes that are trained by all alike, and parameters of its own.

    Parameters
    ----------
    lr : rate of AdamW.
    """

    family = "class-splitter"
    lr: float = 2e-3

    @abstractmethod
    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        """Make ready to learn the classes of `pictures`, with `budget` trainable parameters in the matrices where the method can choose."""


def learning(split: Split, *parts: str) -> Split:
    """`split`, where only vectors of classes learn, and parameters whose names have one of `parts`."""
    for name, one in split.transformer.named_parameters():
        one.requires_grad_(name.endswith(TABLE) or any(part in name for part in parts))
    return split


def shapes(split: Split) -> list[tuple[int, int]]:
    """(m, n) of the matrices of a plain model that are factorised."""
    return [(one.out_features, one.in_features) for one in matching(split.transformer, split.patterns).values()]


def adapter(split: Split, budget: int, **settings: Any) -> Split:
    """`split` with peft's low-rank adapters of as many ranks as the budget pays: (m + n) parameters a rank and matrix."""
    from peft import LoraConfig, inject_adapter_in_model

    each = sum(m + n for m, n in shapes(split))
    rank = max(1, round(budget / each))
    names: Sequence[str] = list(matching(split.transformer, split.patterns))
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(names), **settings), split.transformer)
    return learning(split, "lora_")
