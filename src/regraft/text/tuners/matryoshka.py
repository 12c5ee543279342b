"""Matryoshka: one encoder of all layers whose first dimensions are vectors too."""

from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MatryoshkaLoss, MultipleNegativesRankingLoss

from regraft.method import Paper
from regraft.text.fitting import Budget, fit
from regraft.text.sizes.exits import backbone_of, shape_of
from regraft.text.sizes.size import COUNT, keep, sizes_of
from regraft.text.tuner import Kind, Tuner


class Matryoshka(Tuner):
    r"""Sum over widths d of the loss of the first d dimensions at unit length (section 3); sentence-transformers' own `MatryoshkaLoss`.

    Parameters
    ----------
    dimensions : widths; by default those of Starbucks' diagonal. count : how many of these. scale : inverse temperature of the cosines.

    Returns the model, trained in place; its sizes are kept for `regraft text cut`.
    """

    paper = Paper("Matryoshka Representation Learning", "Kusupati et al.", 2022, "2205.13147")
    summary = "the first dimensions trained as vectors too, at full depth"
    takes: ClassVar[tuple[Kind, ...]] = ("scored", "pairs")

    dimensions: tuple[PositiveInt, ...] | None = None
    count: PositiveInt = COUNT
    scale: PositiveFloat = 20.0

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        full = shape_of(model)
        sizes = sizes_of(full, "width" if self.dimensions is None else [(full[0], one) for one in self.dimensions], self.count)
        kind = CoSENTLoss if "score" in examples.column_names else MultipleNegativesRankingLoss
        loss = MatryoshkaLoss(model, kind(model, scale=self.scale), [width for _, width in sizes])
        fit(model, loss, examples, budget, name=self.name)
        keep(backbone_of(model).config, sizes, normalize=True)
        return model
