"""Masked-autoencoder pre-training at several sizes, before `starbucks`."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveInt
from sentence_transformers import SentenceTransformer

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.progress import console
from regraft.text.fitting import Budget, fit
from regraft.text.sizes.autoencoder import Guard, MaskedAutoencoder, with_head
from regraft.text.sizes.exits import shape_of
from regraft.text.sizes.masking import Windows
from regraft.text.sizes.size import COUNT, sizes_of
from regraft.text.tuner import Kind, Tuner

Rate = Annotated[float, Field(gt=0, lt=1)]


class StarbucksSmae(Tuner):
    r"""Mean over sizes of :math:`(MLM + MAE) / 2` (SMAE).

    MLM predicts masked words from :math:`h^{(n)}_{:d}`; MAE predicts them by a decoder of one layer that has the [CLS] slice and a text
    with more words masked. Starts from a checkpoint with a masked-LM head and learns from texts. Whole words are masked, the encoder's
    among the decoder's; of a text that is too long a random window is read. Steps whose gradients are not finite are left out. Train the
    result by `starbucks`.

    Parameters
    ----------
    sizes, count : as for `starbucks`. encoder_rate, decoder_rate : shares of tokens masked (0.2 and 0.4 as in the released script; its
    command line says 0.15 and 0.3). warmup : share of the steps, then a cosine falls to 0. weight_decay : of all parameters.

    Returns the model, its transformer trained in place; head and decoder are dropped. The model is not cut yet.
    """

    name = "starbucks-smae"
    paper = Paper("Starbucks: Improved Training for 2D Matryoshka Embeddings", "Zhuang et al.", 2024, "2410.13230")
    summary = "pre-training: masked words from every size, and from its [CLS] alone"
    takes: ClassVar[tuple[Kind, ...]] = ("texts",)

    sizes: str | tuple[tuple[int, int], ...] = "diagonal"
    count: PositiveInt = COUNT
    encoder_rate: Rate = 0.2
    decoder_rate: Rate = 0.4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: NonNegativeFloat = 1e-3

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        if self.encoder_rate > self.decoder_rate:
            raise ParameterError(f"encoder_rate {self.encoder_rate} above decoder_rate {self.decoder_rate}: the decoder sees less")
        sizes = sizes_of(shape_of(model), self.sizes, self.count)
        windows = Windows(model.tokenizer, int(model.max_seq_length or 512))
        loss = MaskedAutoencoder(model, with_head(model), sizes, encoder_rate=self.encoder_rate, decoder_rate=self.decoder_rate)
        guard = Guard(loss)
        budget = replace(budget, warmup=self.warmup, weight_decay=self.weight_decay)
        fit(
            model, loss, examples, budget, name=self.name, arguments={"lr_scheduler_type": "cosine"}, callbacks=[guard], preprocess=windows
        )  # fmt: skip
        if guard.skipped:
            console.print(f"  {guard.skipped} of {budget.steps} steps left out: their gradients were not finite", highlight=False)
        return model
