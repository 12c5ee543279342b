"""The contract of a way to experts: what of a dense model changes, is added and is dropped, and how tokens route afterwards.

Enters: a dense model, live or on the meta device, with its parameters read by name when they are asked for. Leaves: `Grown`.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from regraft.grow.experts.ffn import FeedForward, find
from regraft.grow.experts.split import Split
from regraft.method import Method


@dataclass(frozen=True)
class Dense:
    """A dense model.

    Attributes
    ----------
    model : the architecture; its own values are not looked at. read : a parameter by its name in `model`. layers : its feed-forward blocks.
    """

    model: nn.Module
    read: Callable[[str], Tensor]

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def layers(self) -> list[FeedForward]:
        return find(self.model)


@dataclass(frozen=True)
class Grown:
    """What becomes of the model, by names of its parameters.

    Attributes
    ----------
    changed : new values of the same shape. added : new parameters. dropped : those that go. config : fields of a config.json of another
    architecture, or empty. split : what experts.json says, or None where the architecture itself routes. notes : what to know about it.
    """

    changed: Mapping[str, Tensor] = field(default_factory=dict)
    added: Mapping[str, Tensor] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    config: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None
    notes: tuple[str, ...] = ()


class ExpertGrower(Method):
    """Base of every way to experts.

    Returns, by `grow`, tensors and config of the model with experts, and what says how tokens go to them.

    Attributes
    ----------
    experts : how many a layer. top_k : how many of them a token takes. layers : auto, all, or numbers from 0 with commas between.
    """

    family = "expert-grower"

    experts: Annotated[int, Field(ge=2)] = 64
    top_k: Annotated[int, Field(ge=1)] = 16
    layers: str = "auto"

    @abstractmethod
    def grow(self, dense: Dense) -> Grown:
        """Raises `ParameterError` for layers, numbers or forms that the model cannot take, `CheckpointError` for an unknown
        architecture.
        """
