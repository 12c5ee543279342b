"""Mean: every new token starts as the mean of all old rows."""

from regraft.graft import Graft
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class Mean(Initializer):
    r"""Mean of the whole table: :math:`e = \mu = \frac{1}{n}\sum_i E_i`.

    New tokens are neither likely nor unlikely and cannot be told apart. Inside the convex hull, so greedy decoding of old text stays.

    Returns a graft of shape (new tokens, old tokens), each row with weight 1/n everywhere (stored once).
    """

    paper = Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        "Mundra et al.",
        2024,
        "2407.05841",
    )
    summary = "mean of all old rows"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        return Graft.mean(len(target), source.vocab_size)
