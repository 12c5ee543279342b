"""ESA: each dimension is a concept of a knowledge base, described by its texts; nothing is trained."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.errors import ParameterError
from regraft.language.loading import check_placement
from regraft.method import Paper
from regraft.text.encoder import Encoder
from regraft.text.explicit.esa import fit_esa
from regraft.text.explicit.knowledge import KnowledgeBase
from regraft.text.modules.sesa.esa import ExplicitSemantics


class Esa(Encoder):
    r""":math:`s(t)_k = \sum_w (1 + \log tf_t(w)) \log(K/df_w) A_{w,k}`; A is the TF-IDF of the concepts' texts, columns of length 1.

    The source is a knowledge base (`regraft.text.explicit.knowledge`); a concept's text is its name, its own text and those of its objects.

    Parameters
    ----------
    window, drop : a word's concepts, by falling weight, are cut behind the first `window` of them that fall by less than `drop` of its
        highest weight; a window of 0 keeps all. min_objects : concepts of fewer objects are no dimension. rare : what becomes of their
        objects: "drop", or they count for the "parent". ancestors : objects count for broader concepts too.

    Returns vectors (n, K) without negative numbers. Raises `ParameterError` for a source that is no knowledge base.
    """

    paper = Paper(
        "Computing Semantic Relatedness using Wikipedia-based Explicit Semantic Analysis", "Gabrilovich and Markovitch", 2007,
        url="https://www.ijcai.org/Proceedings/07/Papers/259.pdf",
    )  # fmt: skip
    summary = "named concepts of a knowledge base by TF-IDF, untrained"
    stock = False

    window: NonNegativeInt = 100
    drop: Annotated[float, Field(ge=0, le=1)] = 0.05
    min_objects: PositiveInt = 1
    rare: Literal["drop", "parent"] = "drop"
    ancestors: bool = True

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        check_placement(dtype, device)
        base = KnowledgeBase.open(source)
        return self.over(base).to(device).eval()

    def over(self, base: KnowledgeBase) -> SentenceTransformer:
        """The encoder over a knowledge base that is open."""
        if self.ancestors:
            base = base.propagated()
        if self.min_objects > 1:
            base = base.pruned(self.min_objects, self.rare)
        space = fit_esa(base.articles(), window=self.window, drop=self.drop)
        return SentenceTransformer(modules=[ExplicitSemantics(space, base.names)], device="cpu")

    def around(self, body: Transformer) -> SentenceTransformer:
        raise ParameterError("esa: the source is a knowledge base, a .jsonl of objects with id, text and concepts, not a model")
