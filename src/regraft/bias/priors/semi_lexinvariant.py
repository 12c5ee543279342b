"""A language model that does not always know its symbols: some rows are random in each sequence."""

from typing import Annotated

from annotated_types import Ge, Le

from regraft.bias.priors.plain_language_model import SymbolModel
from regraft.method import Paper


class SemiLexinvariant(SymbolModel):
    """The plain model, where in each sequence a share of the symbols has random rows in training; it is judged with all learned ones.

    share : of symbols, about 0.2 in the paper. Random rows are as long as learned ones on average.
    """

    paper = Paper("Lexinvariant Language Models", "Huang et al.", 2023, "2305.16349")
    summary = "a language model some of whose rows are random in each sequence: the regulariser"

    share: Annotated[float, Ge(0), Le(1)] = 0.2
