"""The contract of a way to train under a guide: a loss beside the task's, for any target and guide."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from regraft.method import Method

Extra = Callable[..., Tensor]


class Guide(Method):
    """Base of every way of guiding.

    Returns, by `loss`, a module that gives what is added to the task's loss.
    """

    family = "guide"

    @abstractmethod
    def loss(self, target: nn.Module, guide: nn.Module) -> Any:
        """A module whose call on a batch, after the target's pass, gives what is added to the task's loss; `per_layer` says of what."""
