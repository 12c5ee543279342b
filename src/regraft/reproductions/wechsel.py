"""WECHSEL, tested again: rows of a new language's tokenizer mixed by aligned word vectors, against random rows and the library's default.

The paper exchanges the tokenizers of RoBERTa and GPT-2, with fastText vectors of two languages and an online dictionary, and trains on for
days. Here SmolLM2-135M gets a Vietnamese tokenizer in place of its own; the vectors are trained on 10,000 sentences of either language, the
dictionary is the paper's. What is expected was declared below before any run: directions from the paper.
"""

from regraft.language.precision import precision
from regraft.method import resolve
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings
from regraft.reproductions.harness.vocab.starts import exchange
from regraft.vocab.initializers.wechsel import Wechsel

RANDOM, DEFAULT = "univariate", "transformers-default"
BEFORE = {
    RANDOM: Declared("step 0: WECHSEL beats random rows by at least 0.2 bit", "univariate (N(mu, sigma))", Expectation(high=-0.2)),
    DEFAULT: Declared("step 0: WECHSEL beats the library's default", DEFAULT, Expectation(high=0.0)),
}
AFTER = {
    RANDOM: Declared("after the same training WECHSEL is still ahead of random rows by 0.02 bit", "univariate", Expectation(high=-0.02)),
    DEFAULT: Declared("after the same training WECHSEL is still ahead of the library's default", DEFAULT, Expectation(high=0.0)),
}
NOTE = "Tokens that both tokenizers have are copied under every start; word vectors know 10,000 sentences a language."


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 15 processor minutes in full, 1 with `quick`."""
    starts = {"wechsel": Wechsel(), RANDOM: resolve("initializer", RANDOM), DEFAULT: resolve("initializer", DEFAULT)}
    run, contest = exchange(quick, starts, list(starts), BEFORE, AFTER, NOTE)
    return Findings(Wechsel.paper, run.claims, {"precision": precision(), **contest.extra}, contest.tables, contest.figures)
