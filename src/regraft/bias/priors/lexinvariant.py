"""A language model that does not know its symbols: random rows, drawn for each sequence."""

from regraft.bias.lexinvariant.tables import Rows
from regraft.bias.priors.plain_language_model import SymbolModel
from regraft.method import Paper


class Lexinvariant(SymbolModel):
    r"""The plain model with rows :math:`E_v \sim N(0, I)` for each sequence, at its input and readout (section 2).

    rows : "gaussian" as in the paper, or "orthonormal", which narrow models learn sooner from, for at most `hidden` symbols.
    """

    share = 1.0
    paper = Paper("Lexinvariant Language Models", "Huang et al.", 2023, "2305.16349")
    summary = "a language model whose rows are drawn anew for each sequence"

    rows: Rows = "gaussian"
