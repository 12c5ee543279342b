"""LoGAH: a low-rank decoder, so that a small hypernetwork reaches wide models without copying."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from regraft.grow.predict.hypernetwork.decoder import Decoder, Layout, LowRank
from regraft.grow.predict.predictor import Predictor
from regraft.method import Paper


class Logah(Predictor):
    r"""Low-rank graph hypernetwork.

    A node's vector :math:`h \in R^d` becomes :math:`z = M_3 \sigma(M_2 \sigma(M_1 h))`, read as :math:`2r \times r`, then
    :math:`y = M_4 \sigma(z)` of :math:`2r \times K`, read as :math:`A, B \in R^{K \times r}` (section 3.2, equation 5). A tensor of
    (out, in, height, width) is the product of the first ``out * height`` rows of A and ``in * width`` rows of B. A vector of c channels
    asks for 2c rows: scales, then biases.

    Parameters
    ----------
    r : rank; about d / 2. K : the largest ``out * height`` or ``in * width``.
    layout : "view" re-reads memory as the released code does (row i of A is entries i r to i r + r - 1 of y), "transpose" transposes y.
    clip : "K": a channel count may be as large as K allows; "max_shape": as the released code, tensors wider than `max_shape` are tiled.
    max_shape : that limit, 2048 in every published command.
    """

    name: ClassVar[str] = "logah"
    paper = Paper(
        "LoGAH: Predicting 774-Million-Parameter Transformers using Graph HyperNetworks with 1/100 Parameters",
        "Zhou et al.",
        2024,
        "2405.16287",
    )
    summary = "low-rank decoder: weights of wide and deep models without tiling"
    sizes: ClassVar[dict[str, dict[str, int]]] = {
        "T": {"r": 32, "L": 3, "d": 64, "H": 8},
        "S": {"r": 90, "L": 5, "d": 128, "H": 16},
        "B": {"r": 128, "L": 5, "d": 256, "H": 16},
        "L": {"r": 256, "L": 12, "d": 256, "H": 16},
    }

    r: Annotated[int | None, Field(ge=1)] = None
    K: Annotated[int, Field(ge=2)] = 32768
    layout: Layout = "view"
    clip: Literal["K", "max_shape"] = "K"
    max_shape: Annotated[int, Field(ge=1)] = 2048

    def decoder(self) -> Decoder:
        limit: Any = self.max_shape if self.clip == "max_shape" else None
        return LowRank(self.of("d"), self.of("r"), self.K, layout=self.layout, max_shape=limit)
