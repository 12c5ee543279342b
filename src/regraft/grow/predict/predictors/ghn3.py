"""GHN-3: the dense decoder that LoGAH replaces; tensors wider than it are tiled."""

from typing import Annotated, ClassVar

from pydantic import Field

from regraft.grow.predict.hypernetwork.decoder import Decoder, Dense
from regraft.grow.predict.predictor import Predictor
from regraft.method import Paper


class GHN3(Predictor):
    """Graph hypernetwork with a dense decoder.

    Every tensor is cut out of ``max_shape x max_shape x kernel x kernel`` predicted entries, and repeated where it is larger. The decoder's
    last layer has ``8 d max_shape^2`` weights, so its size grows with d^3 where `max_shape` is d.

    Parameters
    ----------
    max_shape : channels that are predicted; None: d, as published. kernel : largest kernel, 16 as published.
    """

    name: ClassVar[str] = "ghn3"
    paper = Paper("Can We Scale Transformers to Predict Parameters of Diverse ImageNet Models?", "Knyazev et al.", 2023, "2303.04143")
    decoder_serves_vectors: ClassVar[bool] = False
    summary = "dense decoder of GHN-3, the baseline: wide tensors are tiled"
    sizes: ClassVar[dict[str, dict[str, int]]] = {
        "T": {"L": 3, "d": 64, "H": 8},
        "S": {"L": 5, "d": 128, "H": 16},
        "B": {"L": 5, "d": 256, "H": 16},
        "L": {"L": 12, "d": 256, "H": 16},
    }

    max_shape: Annotated[int | None, Field(ge=1)] = None
    kernel: Annotated[int, Field(ge=1)] = 16

    def decoder(self) -> Decoder:
        return Dense(self.of("d"), size=self.max_shape, kernel=self.kernel)
