"""Unconditional diffusion: an image like those that were seen, whatever the embedding."""

import numpy as np

from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples
from regraft.concepts.decode.pictures import Rows
from regraft.method import Paper


class Unconditional(EmbeddingDecoder):
    """The same U-Net and training; its one token is always the null token."""

    paper = Paper("Denoising diffusion probabilistic models", "Ho et al.", 2020, "2006.11239")
    summary = "baseline: the same diffusion model without a condition"

    def conditions(self, examples: Examples) -> tuple[Rows, tuple[int, ...]]:
        return np.zeros((len(examples.pictures), 1), dtype=np.float32), (1,)
