"""Starbucks representation learning: a few sizes of one encoder, all of them trained at every step."""

from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Normalize

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.text.fitting import Budget, fit
from regraft.text.sizes.exits import backbone_of, shape_of
from regraft.text.sizes.losses import RetrievalLoss, SimilarityLoss, SizesLoss
from regraft.text.sizes.size import COUNT, keep, sizes_of
from regraft.text.tuner import Kind, Tuner


class Starbucks(Tuner):
    r"""Sum over sizes (n, d) of the loss after layer n in d dimensions, and of a divergence from the full size (SRL).

    :math:`L = \ell_{(N, D)} + \sum_{(n, d) \neq (N, D)} [\ell_{(n, d)} + \lambda' KL_{(n, d)}]`, uniform weights, every size at every step,
    from one forward pass. Similarity (scored pairs, or pairs with negatives): cosines of cut vectors; KL over their coordinates,
    :math:`\lambda' = 0.3 \lambda`. Retrieval (pairs with negatives): inner products, best with `--pooling first`; KL over the scores of all
    passages of the batch, :math:`\lambda' = \lambda`. A model whose layers are normalized beforehand (Llama, ModernBERT) has its final norm
    put after every exit (INFERRED).

    Parameters
    ----------
    sizes : "diagonal", "grid", "depth", "width", or "2,32 4,64"; kept with the model, for `regraft text cut`. count : how many the diagonal
    has. variant : "similarity" or "retrieval". scale : inverse temperature of the cosines. temperature : tau of the inner products.
    kl_weight : lambda. detach_teacher : the full size learns nothing from the divergence. weights : one a size, as they are listed, the
    full one last where it is not listed. sizes_per_step : so many sizes drawn a step beside the full one; 0 for all. chunk : texts a pass,
    where memory is short. compat : "released" leaves the teacher of the similarity variant attached and ignores weights, as the paper's
    code does; its author calls the first not intended.

    Returns the model, trained in place; of the retrieval variant without a scaling to unit length.
    """

    paper = Paper("Starbucks: Improved Training for 2D Matryoshka Embeddings", "Zhuang et al.", 2024, "2410.13230")
    summary = "a few sizes in depth and width, all trained at every step from one pass"
    takes: ClassVar[tuple[Kind, ...]] = ("scored", "pairs")

    sizes: str | tuple[tuple[int, int], ...] = "diagonal"
    count: PositiveInt = COUNT
    variant: Literal["similarity", "retrieval"] = "similarity"
    scale: PositiveFloat = 20.0
    temperature: PositiveFloat = 1.0
    kl_weight: NonNegativeFloat = 1.0
    detach_teacher: bool = True
    weights: tuple[NonNegativeFloat, ...] | None = None
    sizes_per_step: NonNegativeInt = 0
    chunk: PositiveInt | None = None
    compat: Literal["paper", "released"] = "paper"

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        loss = self.loss(model, examples.column_names)
        fit(model, loss, examples, budget, name=self.name)
        keep(backbone_of(model).config, list(loss.weights), normalize=self.variant == "similarity")
        return model

    def loss(self, model: SentenceTransformer, columns: list[str]) -> SizesLoss:
        """The loss for examples with these columns. A scaling to unit length at the end of a retrieval model is taken away."""
        released = self.compat == "released"
        sizes = sizes_of(shape_of(model), self.sizes, self.count)
        options: dict[str, Any] = {
            "weights": None if released else self.weights,
            "per_step": self.sizes_per_step,
            "chunk": self.chunk,
            "kl_weight": self.kl_weight,
        }
        if self.variant == "similarity":
            base = CoSENTLoss if "score" in columns else MultipleNegativesRankingLoss
            detach = self.detach_teacher and not released
            return SimilarityLoss(model, sizes, base(model, scale=self.scale), detach=detach, **options)
        if "score" in columns:
            raise ParameterError("variant=retrieval learns from pairs (anchor, positive, negatives), not from scored pairs")
        if isinstance(model[-1], Normalize):
            del model[-1]
        model.similarity_fn_name = "dot"
        return RetrievalLoss(model, sizes, temperature=self.temperature, detach=self.detach_teacher, **options)
