"""Label-conditional diffusion: an image from its class."""

import numpy as np

from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples
from regraft.concepts.decode.pictures import Rows
from regraft.errors import InputError
from regraft.method import Paper


class LabelConditional(EmbeddingDecoder):
    """The same U-Net and training; its one token is a learned one of the image's class. Raises `InputError` where images have no labels."""

    paper = Paper("Classifier-free diffusion guidance", "Ho, Salimans", 2022, "2207.12598")
    summary = "baseline: an image from a token of its class"
    needs = ("labels",)

    def conditions(self, examples: Examples) -> tuple[Rows, tuple[int, ...]]:
        if examples.labels is None:
            raise InputError("label-conditional needs labels of the images: give them by --labels")
        return np.eye(len(examples.classes), dtype=np.float32)[examples.labels], (len(examples.classes),)
