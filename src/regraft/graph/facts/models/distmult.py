"""Products of three vectors, by PyKEEN."""

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from regraft.graph.facts.model import FactModel
from regraft.method import Paper

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory


class DistMult(FactModel):
    """The score is the sum of the products of head, relation and tail, coordinate by coordinate.

    dim : of a vector. loss : PyKEEN's "crossentropy", or "summedsoftplus" as `nfe` has it.
    """

    name = "distmult"
    paper = Paper("Embedding Entities and Relations for Learning and Inference in Knowledge Bases", "Yang et al.", 2015, "1412.6575")
    summary = "baseline: sum of the products of head, relation and tail"

    dim: Annotated[int, Ge(1)] = 256
    loss: Literal["crossentropy", "summedsoftplus"] = "crossentropy"

    def build(self, triples: "CoreTriplesFactory", seed: int = 0) -> "Model":
        from pykeen.models import ERModel
        from torch.nn.init import uniform_

        from regraft.graph.facts.flows.interaction import ProductInteraction

        start = {"shape": self.dim, "initializer": uniform_, "initializer_kwargs": {"a": -0.1, "b": 0.1}}
        return ERModel(  # PyKEEN's class of that name keeps entities at norm 1, which this loss cannot do with
            triples_factory=triples,
            interaction=ProductInteraction,
            entity_representations_kwargs=start,
            relation_representations_kwargs=start,
            loss=self.loss,
            random_seed=seed,
        )
