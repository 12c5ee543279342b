"""Translations, by PyKEEN."""

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from regraft.graph.facts.model import FactModel
from regraft.method import Paper

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory


class TransE(FactModel):
    """A relation is a translation of the head's vector to the tail's.

    dim : of a vector. norm : 1 or 2, of the distance. loss : PyKEEN's "crossentropy", or "summedsoftplus" as `nfe` has it.
    """

    name = "transe"
    paper = Paper(
        "Translating Embeddings for Modeling Multi-relational Data", "Bordes et al.", 2013, url="https://papers.nips.cc/paper/5071"
    )
    summary = "baseline: a relation moves the head's vector to the tail's"

    dim: Annotated[int, Ge(1)] = 256
    norm: Annotated[int, Ge(1), Le(2)] = 1
    loss: Literal["crossentropy", "summedsoftplus"] = "crossentropy"

    def build(self, triples: "CoreTriplesFactory", seed: int = 0) -> "Model":
        from pykeen.models import TransE as Hosted

        import regraft.graph.facts.flows.loop  # noqa: F401  # the loss and the loop

        return Hosted(triples_factory=triples, embedding_dim=self.dim, scoring_fct_norm=self.norm, loss=self.loss, random_seed=seed)
