"""Images of embeddings: a diffusion model that is conditioned on the vectors of a frozen encoder, and what it is good for.

`fit(pictures, embeddings)` leaves a diffusers pipeline; `pipeline(embeddings)` draws them; `draw_large(pipeline, grid)` puts a grid of
embeddings together to one large image.
"""

from regraft.concepts.decode.conditioner import EmbeddingConditioner
from regraft.concepts.decode.large import draw_large, slerp
from regraft.concepts.decode.pictures import Pictures
from regraft.concepts.decode.pipeline import EmbeddingToImagePipeline
from regraft.concepts.decode.training import fit

__all__ = ["EmbeddingConditioner", "EmbeddingToImagePipeline", "Pictures", "draw_large", "fit", "slerp"]
