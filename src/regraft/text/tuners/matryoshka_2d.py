"""2D Matryoshka: any depth by any width of one encoder, one of each drawn a step."""

from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, Matryoshka2dLoss, MultipleNegativesRankingLoss

from regraft.method import Paper
from regraft.text.fitting import Budget, fit
from regraft.text.sizes.exits import backbone_of, shape_of
from regraft.text.sizes.size import COUNT, keep, sizes_of
from regraft.text.tuner import Kind, Tuner


class Matryoshka2d(Tuner):
    r"""The loss at the last layer and at one layer drawn a step, each in one drawn width (section 3).

    By sentence-transformers' own `Matryoshka2dLoss`.

    A model whose layers are normalized beforehand (Llama, ModernBERT) is trained on exits without its final norm there, but is cut with it.

    Parameters
    ----------
    dimensions : widths; by default those of Starbucks' diagonal. count : how many of these. layers_per_step, dimensions_per_step : drawn a
    step; -1 for all. layer_weighting : "uniform", "linear" or "log" decay over layers. kl_weight, kl_temperature : of the divergence from
    the last layer. scale : inverse temperature of the cosines.

    Returns the model, trained in place; its sizes (every layer by every width) are kept for `regraft text cut`.
    """

    name = "matryoshka-2d"
    paper = Paper("2D Matryoshka Sentence Embeddings", "Li et al.", 2024, "2402.14776")
    summary = "a random depth and width a step, beside the last layer"
    takes: ClassVar[tuple[Kind, ...]] = ("scored", "pairs")

    dimensions: tuple[PositiveInt, ...] | None = None
    count: PositiveInt = COUNT
    layers_per_step: int = 1
    dimensions_per_step: int = 1
    layer_weighting: Literal["uniform", "linear", "log"] = "uniform"
    kl_weight: NonNegativeFloat = 1.0
    kl_temperature: NonNegativeFloat = 0.3
    scale: PositiveFloat = 20.0

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        depth, width = shape_of(model)
        wanted = "width" if self.dimensions is None else [(depth, one) for one in self.dimensions]
        widths = [one for _, one in sizes_of((depth, width), wanted, self.count)]
        kind = CoSENTLoss if "score" in examples.column_names else MultipleNegativesRankingLoss
        loss = Matryoshka2dLoss(
            model,
            kind(model, scale=self.scale),
            widths,
            n_layers_per_step=self.layers_per_step,
            n_dims_per_step=self.dimensions_per_step,
            kl_div_weight=self.kl_weight,
            kl_temperature=self.kl_temperature,
            layer_weighting=self.layer_weighting,
        )
        fit(model, loss, examples, budget, name=self.name)
        keep(backbone_of(model).config, [(n, d) for n in range(1, depth + 1) for d in widths], normalize=True)
        return model
