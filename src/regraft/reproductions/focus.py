"""FOCUS, tested again: rows of a new language's tokenizer mixed from shared tokens, against random rows, the default, and WECHSEL.

The paper exchanges XLM-R's tokenizer for ones of single languages, with fastText vectors of hundreds of MB of text, and trains on. Here
SmolLM2-135M gets a Vietnamese tokenizer in place of its own, and all vectors are trained on the 10,000 sentences at hand (10 epochs: at the
paper's 3 all vectors of so little text are alike). What is expected was declared below before any run: directions from the paper.
"""

from regraft.language.precision import precision
from regraft.method import resolve
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings
from regraft.reproductions.harness.vocab.starts import exchange
from regraft.vocab.initializer import Initializer
from regraft.vocab.initializers.focus import Focus
from regraft.vocab.initializers.wechsel import Wechsel

RANDOM, DEFAULT = "univariate", "transformers-default"
BEFORE = {
    RANDOM: Declared("step 0: FOCUS beats random rows by at least 0.2 bit", "univariate (N(mu, sigma))", Expectation(high=-0.2)),
    DEFAULT: Declared("step 0: FOCUS beats the library's default", DEFAULT, Expectation(high=0.0)),
    "wechsel": Declared("step 0: FOCUS is not worse than WECHSEL", "wechsel", Expectation(high=0.0)),
}
AFTER = {
    RANDOM: Declared("after the same training FOCUS is still ahead of random rows by 0.02 bit", "univariate", Expectation(high=-0.02)),
    DEFAULT: Declared("after the same training FOCUS is still ahead of the library's default", DEFAULT, Expectation(high=0.0)),
}
NOTE = "Tokens that both tokenizers have are copied under every start; all vectors know 10,000 sentences a language."


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 15 processor minutes in full, 1 with `quick`."""
    starts: dict[str, Initializer] = {"focus": Focus(epochs=10), "wechsel": Wechsel()}
    starts |= {name: resolve("initializer", name) for name in (RANDOM, DEFAULT)}
    run, contest = exchange(quick, starts, ["focus", RANDOM, DEFAULT], BEFORE, AFTER, NOTE)
    return Findings(Focus.paper, run.claims, {"precision": precision(), **contest.extra}, contest.tables, contest.figures)
