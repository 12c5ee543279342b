"""Entities as distributions, by normalizing flows."""

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from regraft.graph.facts.model import FactModel
from regraft.method import Paper

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory


class NFE(FactModel):
    r"""An entity is an invertible map of one random variable, and so a distribution; a relation is another map, put after it.

    score = gamma - D(g_r after g_h, g_t). variant : 1, Gaussians and their squared 2-Wasserstein distance; 2, a slope on each side of 0 and
    the expected squared gap; 3, Gaussians and KL(composed || tail); "point", without uncertainty; "spread", scales alone; "translation",
    places moved alone (TransE with squared distance). dim : of each part, of which an entity has 2, 3, 2, 1, 1, 1. gamma : a score's
    start; with each fact against all entities the prior of its log odds. The authors' values: 1, 0, 14 for variants 1, 2, 3 on WN18RR,
    2, 1, 2 on FB15k-237, 8, 7, 11 on YAGO3-10. compat : "released" multiplies a head's place in variant 3 by the relation's scale before
    softplus, as the authors' code does; "paper" by the scale itself. loss : the paper's, or PyKEEN's "crossentropy", which has no use for
    gamma. Scales of 0 are not ruled out: such a relation has no inverse.
    """

    name = "nfe"
    paper = Paper("Knowledge Graph Embedding by Normalizing Flows", "Xiao, He, Cao", 2023, "2409.19977")
    summary = "entities as distributions made by flows, with a spread for each answer"

    dim: Annotated[int, Ge(1)] = 128
    variant: Literal[1, 2, 3, "point", "spread", "translation"] = 2
    gamma: float = 4.0
    compat: Literal["paper", "released"] = "paper"
    loss: Literal["summedsoftplus", "crossentropy"] = "summedsoftplus"

    def build(self, triples: "CoreTriplesFactory", seed: int = 0) -> "Model":
        from regraft.graph.facts.flows.interaction import Nfe as Hosted

        return Hosted(
            triples_factory=triples,
            embedding_dim=self.dim,
            variant=self.variant,
            gamma=self.gamma,
            compat=self.compat,
            loss=self.loss,
            random_seed=seed,
        )
