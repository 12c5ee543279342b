"""PromptEOL: a causal model is asked to say the sentence in one word; its state before that word is the vector."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.modules.template import TEXT, Template
from regraft.text.reading.layers import read_layer
from regraft.text.reading.prompted import put_around


class PromptEol(Encoder):
    r"""`This sentence : "{x}" means in one word:"`; the vector is the hidden state at the closing quote (section 3).

    Parameters
    ----------
    before, after : what stands around the text. clean_up : end the text in a full stop, write single quotes for double ones.
    example, word : a demonstration in front (in-context learning): a sentence in the same prompt, answered by that word.
    layer : hidden states of which layer, 0 to N or from -1 back; none is the last one, after the final norm. Layers 85 to 95 % of the way
        up are often better than the last. final_norm : read a layer below the last through the final norm, and not raw.
    joint : tokenize prompt and text as one string, as the paper does, by a module of ours. By default the prompt is a part of the
        tokenizer, so that the saved encoder is stock; the tokens are then those of the text by itself, and differ where a token would reach
        across the border (`."` in byte-level BPE, the space that SentencePiece puts before a first word).
    normalize : vectors of length 1.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Scaling Sentence Embeddings with Large Language Models", "Jiang et al.", 2023, "2307.16645")
    summary = "state of the last token of a prompt that asks for one word"

    before: str = 'This sentence : "'
    after: str = '" means in one word:"'
    example: str = ""
    word: str = ""
    clean_up: bool = True
    layer: int | None = None
    final_norm: bool = False
    joint: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        if bool(self.example) != bool(self.word):
            raise ParameterError("a demonstration is a sentence and a word: set both, example and word")
        shown = f'{self.before}{self.example}{self.after}{self.word}". ' if self.example else ""
        read_layer(body, self.layer, final_norm=self.final_norm)
        if self.joint:
            return pooled(
                Template(body, [shown + self.before + TEXT + self.after], clean_up=self.clean_up), "lasttoken", normalize=self.normalize
            )
        return pooled(put_around(body, shown + self.before, self.after, clean_up=self.clean_up), "lasttoken", normalize=self.normalize)
