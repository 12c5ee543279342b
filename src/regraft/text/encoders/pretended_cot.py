"""Pretended chain of thought: PromptEOL behind a phrase that only claims that somebody thought."""

from regraft.method import Paper
from regraft.text.encoders.prompt_eol import PromptEol


class PretendedCot(PromptEol):
    r"""`After thinking step by step , this sentence : "{x}" means in one word:"` (section 3).

    Parameters
    ----------
    before, after, example, word, clean_up, layer, final_norm, joint, normalize : as of `prompt-eol`.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Simple Techniques for Enhancing Sentence Embeddings in Generative Language Models", "Zhang et al.", 2024, "2404.03921")
    summary = "prompt-eol behind a pretended thought"

    before: str = 'After thinking step by step , this sentence : "'
