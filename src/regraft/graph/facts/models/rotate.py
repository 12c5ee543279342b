"""Rotations, by PyKEEN."""

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from regraft.graph.facts.model import FactModel
from regraft.method import Paper

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory


class RotatE(FactModel):
    """A relation turns each complex number of the head towards the tail's.

    dim : complex numbers of a vector. loss : PyKEEN's "crossentropy", or "summedsoftplus" as `nfe` has it.
    """

    name = "rotate"
    paper = Paper("RotatE: Knowledge Graph Embedding by Relational Rotation in Complex Space", "Sun et al.", 2019, "1902.10197")
    summary = "baseline: a relation turns the head's complex numbers"

    dim: Annotated[int, Ge(1)] = 128
    loss: Literal["crossentropy", "summedsoftplus"] = "crossentropy"

    def build(self, triples: "CoreTriplesFactory", seed: int = 0) -> "Model":
        from pykeen.models import RotatE as Hosted

        import regraft.graph.facts.flows.loop  # noqa: F401  # the loss and the loop

        return Hosted(triples_factory=triples, embedding_dim=self.dim, loss=self.loss, random_seed=seed)
