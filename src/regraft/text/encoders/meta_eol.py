"""MetaEOL: the mean over several prompts, each of which asks for another side of the text in one word."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.modules.template import MeanOfRows, Template
from regraft.text.reading.layers import read_layer

TASKS = (
    'In this task, you name the general topic of a text, such as sports, politics or science. The topic of this text : "{x}" in one word:"',
    'In this task, you judge whether a text states a fact or gives an opinion. For this text : "{x}" fact or opinion in one word:"',
    'In this task, you rate a product by what a review says. The rating that this review : "{x}" gives in one word:"',
    'In this task, you find the emotion of a text. The emotion that this text : "{x}" shows in one word:"',
    'In this task, you find a sentence of the same meaning. The meaning of this sentence : "{x}" in one word:"',
    'In this task, you replace a sentence by a synonym that fits its context. A synonym of this sentence : "{x}" in one word:"',
    'In this task, you pull the key fact out of a text. The key fact of this text : "{x}" in one word:"',
    'In this task, you find the main entity of a text and how it stands to others. The main entity of this text : "{x}" in one word:"',
)


class MetaEol(Encoder):
    r"""Plain mean of the last-token states of several prompts: :math:`e = \frac{1}{8}\sum_k h^{(k)}_{-1}` (section 3), at the cost of all.

    Parameters
    ----------
    prompts : templates with `{x}`, between `|`; none takes eight of ours on the paper's kinds of tasks: topic, opinion or fact, rating,
        emotion, same meaning, synonym, key fact, main entity.
    clean_up, layer, final_norm, normalize : as of `prompt-eol`.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Meta-Task Prompting Elicits Embeddings from Large Language Models", "Lei et al.", 2024, "2402.18458")
    summary = "mean over eight prompts on different sides of a text"
    stock = False

    prompts: str | None = None
    clean_up: bool = True
    layer: int | None = None
    final_norm: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        read_layer(body, self.layer, final_norm=self.final_norm)
        templates = TASKS if self.prompts is None else self.prompts.split("|")
        model = pooled(Template(body, templates, clean_up=self.clean_up), "lasttoken", normalize=self.normalize)
        return SentenceTransformer(modules=[*list(model)[:2], MeanOfRows(), *list(model)[2:]], device="cpu")
