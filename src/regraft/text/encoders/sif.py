"""SIF: a mean of word vectors in which rare words count more, without the direction that all sentences share."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from regraft.corpus import Corpus
from regraft.errors import InputError, ParameterError
from regraft.language.loading import check_placement
from regraft.method import Paper
from regraft.text.encoder import Encoder
from regraft.text.reading.after import append, fit_after
from regraft.vectors.files import open_vectors

UNKNOWN = "[UNK]"
FITTED_ON = 20_000  # texts that the common direction is taken from
TABLES = (".npy", ".vec", ".bin", ".txt")


class Sif(Encoder):
    r""":math:`v_s = \frac{1}{|s|}\sum_{w \in s} \frac{a}{a + p(w)} v_w`, then :math:`v_s - u u^\top v_s` (algorithm 1).

    The source is a file of word vectors, or a checkpoint, whose input table of tokens is then taken. Weights go into the table and u into a
    linear layer, so that the result is stock.

    Parameters
    ----------
    a : smoothing, useful from 3e-5 to 3e-3. counts : file of `word count` lines from a large corpus; words that are not in it weigh 1.
        Without it words in the order of their frequency are taken to follow Zipf's law by rank (ours). lowercase : of word vectors only.
    fit : texts (file) whose first right singular vector, uncentered, is u: the frozen form. Without it nothing is removed; the transductive
        form, as released, is `--after remove-first`, which takes u from the encoded texts themselves. directions : how many are removed.
    normalize : vectors of length 1.

    A word without a vector counts in :math:`|s|` and adds nothing, which changes no cosine.

    Returns vectors (n, d) in the width of the table.
    """

    paper = Paper(
        "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", "Arora et al.", 2017, url="https://openreview.net/forum?id=SyK00v5xx"
    )
    summary = "word vectors weighted by rarity, without their common direction"

    a: Annotated[float, Field(gt=0)] = 1e-3
    counts: Path | None = None
    lowercase: bool = True
    fit: Path | None = None
    directions: Annotated[int, Field(ge=0)] = 1
    normalize: bool = False

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        if Path(source).suffix not in TABLES:
            return super().build(source, max_tokens=max_tokens, device=device, dtype=dtype)
        check_placement(dtype, device)
        vectors = open_vectors(source)
        table = np.concatenate([vectors.matrix, np.zeros((1, vectors.matrix.shape[1]), np.float32)])
        words = list(dict.fromkeys([*vectors.words, UNKNOWN]))
        if len(words) != len(table):
            raise ParameterError(f"{source}: words that stand there twice, or {UNKNOWN}: remove them first")
        tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        if self.lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        return self._over(tokenizer, table, words).to(device).eval()

    def around(self, body: Transformer) -> SentenceTransformer:
        model: Any = body.model
        table = model.get_input_embeddings().weight.detach().float().cpu().numpy()
        tokenizer = body.tokenizer
        assert tokenizer is not None
        return self._over(
            tokenizer.backend_tokenizer, table, [str(one) for one in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        )

    def _over(self, tokenizer: Tokenizer, table: np.ndarray, words: list[str]) -> SentenceTransformer:
        weights = np.ones(len(table), np.float32)
        weights[: len(words)] = self.a / (self.a + self._shares(words))
        static = StaticEmbedding(tokenizer, embedding_weights=torch.from_numpy(table * weights[:, None]))
        model = SentenceTransformer(modules=[static, *([Normalize()] if self.normalize else [])], device="cpu")
        if self.fit is None:
            return model
        if not self.fit.exists():
            raise ParameterError(f"fit={self.fit}: there is no such file")
        texts = [text for text, _ in zip(Corpus.open([self.fit], held_out=0.0).documents(), range(FITTED_ON), strict=False)]
        return append(model, fit_after(np.asarray(model.encode(texts, show_progress_bar=False)), "remove-first", self.directions))

    def _shares(self, words: list[str]) -> np.ndarray:
        """p(w) of each word; 0 for words that were not counted."""
        if self.counts is None:
            ranks = 1.0 / np.arange(1, len(words) + 1)
            return np.asarray(ranks / ranks.sum())
        try:
            lines = [line.split() for line in self.counts.read_text("utf-8").splitlines() if line.strip()]
            counted = {line[0]: float(line[1]) for line in lines}
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"counts={self.counts}: not a file of 'word count' lines ({error})") from None
        total = sum(counted.values())
        return np.array([counted.get(word, 0.0) / total for word in words])
