"""Cut: an encoder that was trained at several sizes, used at one of them."""

from pathlib import Path

from pydantic import NonNegativeInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.encoders.as_is import AsIs
from regraft.text.sizes.cutting import cut_to, sizes_kept
from regraft.text.sizes.exits import shape_of


class Cut(Encoder):
    r"""First dimensions of the pooled states after the first layers, at unit length: :math:`e^{(n)}_{:d} / \lVert e^{(n)}_{:d} \rVert`.

    Layers above are dropped, and not only skipped. `regraft text cut` writes the same as a checkpoint.

    Parameters
    ----------
    layers : n; 0 for all. dimensions : d; 0 for all. untrained : cut also where the model was not trained at that size, as a baseline.

    Returns vectors (n, d). Raises `ParameterError` that names the nearest sizes for one that was not trained.
    """

    paper = Paper("Starbucks: Improved Training for 2D Matryoshka Embeddings", "Zhuang et al.", 2024, "2410.13230")
    summary = "the first layers and dimensions of a model that was trained at that size"

    layers: NonNegativeInt = 0
    dimensions: NonNegativeInt = 0
    untrained: bool = False

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        model = AsIs().build(source, max_tokens=max_tokens, device=device, dtype=dtype)
        full = shape_of(model)
        size = self.layers or full[0], self.dimensions or full[1]
        normalize = True
        if not self.untrained:
            own = sizes_kept(model, str(source))
            own.check(size)
            normalize = own.normalize
        return cut_to(model, size, normalize=normalize)

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "mean", normalize=True)
