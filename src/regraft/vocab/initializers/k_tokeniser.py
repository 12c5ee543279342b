"""K-Tokeniser: subwords from an ontology, each starting as the mean of the old pieces that used to spell it."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from regraft.corpus import Corpus
from regraft.graft import Graft
from regraft.method import Paper
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import Change
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.k_tokeniser import Ontology, build

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class KTokeniserStart(Initializer):
    r"""K-Tokeniser: the parameters of its pieces and its choices, and its start of the new rows.

    The tokenizer itself is changed with `--ontology name=path`, once for each semantic type; see `regraft.vocab.k_tokeniser`. A new piece
    that the old tokenizer spells :math:`p_1, \dots, p_k` gets :math:`\frac{1}{k} \sum_i E_{p_i}`.

    Parameters
    ----------
    merges : merges of knowledge BPE per word, M.
    longest : characters of the longest piece of the greedy cut.
    syllables_from : a first piece of at least so many characters is split into pseudo-syllables.
    truncate : count n-grams that run past a word's end as the suffix they are cut to, as the released tables do.
    delta_k : the k of the delta-sufficient set whose size is kept. The paper shows k = 1 to 10 without saying which.
    pieces : how many candidates to keep: a share of the delta-sufficient set, a number, or either by type ({drugs: 10000, signs: 0.3}).
    h0_count : q of the threshold below which no type knows a word: :math:`h_0 = -q \log_2 q` with q = h0_count / TF.
    phi : roll-back threshold of the sentence step: 0 always takes the base tokenizer, 1 never rolls back, in between a sentence whose
        relative saving of tokens is at least phi, or negative, goes back to base. The paper tries 0, 0.035, 0.065 and 1.
    unit : what is rolled back as a whole: a sentence found in the text, or each text as given.
    lowercase : look words up in lower case. By default True for WordPiece (the paper) and False for byte-level BPE, where a decoder must
        give the text back as it was.
    compat : "released" follows the released code where it parts from the intent: pieces are cut off in alphabetical order, pieces inside a
        word always score 1, a piece is word-initial when its first letter is the word's, words are not lower-cased and only r > phi rolls
        back (the last two as in its ICD variant).

    Returns a graft of shape (new tokens, old tokens) with rows that sum to 1, as constituent-mean does.
    """

    name = "k-tokeniser"
    paper = Paper("Infusing clinical knowledge into tokenisers for language models", "Hasan et al.", 2024, "2406.14312")
    summary = "subwords of concept names, each the mean of its old pieces"
    needs: ClassVar[tuple[str, ...]] = ("ontology",)

    merges: Annotated[int, Field(ge=0)] = 20
    longest: Annotated[int, Field(ge=1)] = 5
    syllables_from: Annotated[int, Field(ge=2)] = 4
    truncate: bool = True
    delta_k: Annotated[int, Field(ge=1, le=10)] = 1
    pieces: Count | Share | dict[str, Count | Share] = 1.0
    h0_count: Annotated[int, Field(ge=1)] = 1000
    phi: Annotated[float, Field(ge=0)] = 1.0
    unit: Literal["sentence", "text"] = "sentence"
    lowercase: bool | None = None
    compat: Literal["released"] | None = None

    def change(self, tokenizer: Tokenizer, corpus: Corpus | None, ontologies: Sequence[Ontology]) -> Change | None:
        """The tokenizer with the pieces of `ontologies`; None where there are none."""
        return build(tokenizer, ontologies, self) if ontologies else None

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        context.aids.need("ontology", self.name)
        return Graft.uniform(target.pieces, columns=source.vocab_size)
