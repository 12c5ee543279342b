"""Knowledge enhancement: PromptEOL behind a sentence that says what matters in a sentence."""

from regraft.method import Paper
from regraft.text.encoders.prompt_eol import PromptEol


class Knowledge(PromptEol):
    r"""A sentence on subjects and actions as the essence, then `this sentence : "{x}" means in one word:"` (section 3).

    Parameters
    ----------
    before, after, example, word, clean_up, layer, final_norm, joint, normalize : as of `prompt-eol`.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Simple Techniques for Enhancing Sentence Embeddings in Generative Language Models", "Zhang et al.", 2024, "2404.03921")
    summary = "prompt-eol behind a sentence on what carries the meaning"

    before: str = (
        "The essence of a sentence is often captured by its main subjects and actions, while descriptive terms provide additional but less "
        'central details. With this in mind , this sentence : "'
    )
