"""SuSana losses: proto-triplet and ICNN terms beside the cross-entropy over prototypes."""

from typing import Annotated, Literal

from annotated_types import Ge

from regraft.bias.episodes.few_shot import Loss
from regraft.bias.episodes.losses import EpisodeLoss
from regraft.bias.priors.prototypical_network import TrainedByEpisodes
from regraft.method import Paper


class SusanaLosses(TrainedByEpisodes):
    """The mean of some losses of an episode (`regraft.bias.episodes.losses.EpisodeLoss`).

    terms : of cross, prototriplet, suppicnn, queryicnn and fullicnn, with commas. temperature : of cross. margin : of the proto-
    triplet. k : neighbours of ICNN. query_protos : queryicnn looks among prototypes. compat : "released" drops the nearest neighbour of
    a query too, and takes suppicnn with one shot.
    """

    paper = Paper(
        "SuSana Distancia is all you need: Enforcing class separability in metric learning via two novel distance-based loss functions for "
        "few-shot image classification",
        "Mendez-Ruiz et al.",
        2023,
        "2305.09062",
    )
    summary = "few shots: triplets with the hardest wrong prototype, clean neighbourhoods"

    terms: str = "cross,prototriplet"
    margin: float = 0.5
    temperature: float = 1.0
    k: Annotated[int, Ge(1)] = 4
    query_protos: bool = False
    compat: Literal["paper", "released"] = "paper"

    def loss(self) -> Loss:
        terms = tuple(one.strip() for one in self.terms.split(",") if one.strip())
        own = EpisodeLoss(
            terms, margin=self.margin, temperature=self.temperature, k=self.k, query_protos=self.query_protos, compat=self.compat
        )
        return lambda query, y, support, support_y: own(query, y, ref_emb=support, ref_labels=support_y)
