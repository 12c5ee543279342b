"""Products of three complex vectors, by PyKEEN."""

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from regraft.graph.facts.model import FactModel
from regraft.method import Paper

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory


class ComplEx(FactModel):
    """The score is the real part of the products of head, relation and the tail's conjugate.

    dim : complex numbers of a vector. loss : PyKEEN's "crossentropy", or "summedsoftplus" as `nfe` has it.
    """

    name = "complex"
    paper = Paper("Complex Embeddings for Simple Link Prediction", "Trouillon et al.", 2016, "1606.06357")
    summary = "baseline: distmult in complex numbers, where relations have a direction"

    dim: Annotated[int, Ge(1)] = 128
    loss: Literal["crossentropy", "summedsoftplus"] = "crossentropy"

    def build(self, triples: "CoreTriplesFactory", seed: int = 0) -> "Model":
        from pykeen.models import ComplEx as Hosted

        import regraft.graph.facts.flows.loop  # noqa: F401  # the loss and the loop

        return Hosted(triples_factory=triples, embedding_dim=self.dim, loss=self.loss, random_seed=seed)
