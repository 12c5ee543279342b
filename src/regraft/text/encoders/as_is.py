"""As is: a sentence-transformers model with its own pooling, or the mean of any other checkpoint."""

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.language.loading import check_placement
from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.loading import load


class AsIs(Encoder):
    """What the `modules.json` of the directory says; where there is none, the mean over the last hidden states.

    A chat template that the tokenizer of such a checkpoint has is not applied.

    Returns vectors (n, d) in the width that the last module gives.
    """

    paper = Paper("Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", "Reimers and Gurevych", 2019, "1908.10084")
    summary = "the model's own pooling; of a model without one, the mean"

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        if not (Path(source) / "modules.json").is_file():
            return super().build(source, max_tokens=max_tokens, device=device, dtype=dtype)
        check_placement(dtype, device)
        model = load(source, device=device)
        if max_tokens is not None:
            model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)
        return model.eval()

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "mean")
