"""The contract of a model of facts: an ordinary PyKEEN model, with the settings that it is trained with."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from regraft.method import Method

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory


class FactModel(Method):
    """Base of every model of facts.

    loop : PyKEEN's training loop for it: "onevsall" (ours: each fact against all entities), "LCWA" (each head and relation with all its
        tails) or "sLCWA" (against drawn negatives).
    inverse : whether each relation is learned backwards as well, so that only tails are predicted.

    Returns, by `build`, what `pykeen.pipeline` trains and PyKEEN's evaluator judges.
    """

    family = "fact-model"
    loop: ClassVar[str] = "onevsall"
    inverse: ClassVar[bool] = True

    @abstractmethod
    def build(self, triples: "CoreTriplesFactory", seed: int = 0) -> "Model":
        """An untrained PyKEEN model of the entities and relations of `triples`."""
