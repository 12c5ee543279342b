"""A recurrent network over word vectors, or their mean: the text encoder of SESA, to be trained first."""

import string
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import LSTM, Pooling, Transformer, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from regraft.errors import ParameterError
from regraft.language.loading import check_placement
from regraft.method import Paper
from regraft.text.encoder import LONGEST, Encoder
from regraft.text.encoders.sif import TABLES
from regraft.text.explicit.knowledge import KnowledgeBase
from regraft.text.modules.sesa.gru import GRU
from regraft.vectors.files import open_vectors

PADDING = "[PAD]"
CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU}


class Rnn(Encoder):
    r"""The last state of an LSTM or GRU over the word vectors of a text: :math:`h_t = \mathrm{cell}(x_t, h_{t-1})`, :math:`e = h_T`.

    The source says where the word vectors come from: a file of them, a checkpoint (rows of its input table that are whole words), or a
    knowledge base, whose words then get random vectors. Words stand between spaces; one without a vector is passed over. The paper's
    sizes could not be read; all are INFERRED.

    Parameters
    ----------
    cell : "lstm", "gru", or "mean", the average of the word vectors. hidden : d_h. layers : of the network. width : d_w of random vectors.
    words : at most so many of a knowledge base. update : the word vectors are trained too. bidirectional : states of both directions,
        averaged over the tokens.

    Returns vectors (n, d_h), 2 d_h in both directions, d_w of "mean". With "gru" `regraft.text.load` opens what is saved.
    """

    paper = Paper("SESA: Supervised Explicit Semantic Analysis", "Bogdanova and Yazdani", 2017, "1708.03246")
    summary = "last state of an LSTM or GRU over word vectors; to be trained first"

    cell: Literal["lstm", "gru", "mean"] = "lstm"
    hidden: PositiveInt = 200
    layers: PositiveInt = 1
    width: PositiveInt = 128
    words: PositiveInt = 30_000
    update: bool = True
    bidirectional: bool = False

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        suffix = Path(source).suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            check_placement(dtype, device)
            return self.over([thing.text for thing in KnowledgeBase.open(source).things], max_tokens).to(device).eval()
        if suffix not in TABLES:
            return super().build(source, max_tokens=max_tokens, device=device, dtype=dtype)
        check_placement(dtype, device)
        vectors = open_vectors(source)
        rows = torch.from_numpy(vectors.matrix).float()
        return self._stack(list(vectors.words), rows, lowercase=False, max_tokens=max_tokens).to(device).eval()

    def over(self, texts: list[str], max_tokens: int | None = None, seed: int = 0) -> SentenceTransformer:
        """The encoder over the words of `texts`, the most frequent first, with random vectors."""
        spelled = (word.strip(string.punctuation) for text in texts for word in text.lower().split())
        words = [word for word, _ in Counter(filter(None, spelled)).most_common(self.words)]
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randn(len(words), self.width, generator=draw) / self.width**0.5
        return self._stack(words, rows, lowercase=True, max_tokens=max_tokens)

    def around(self, body: Transformer) -> SentenceTransformer:
        model, tokenizer = body.model, body.tokenizer
        rows = model.get_input_embeddings().weight.detach().float().cpu()  # type: ignore[operator]  # a transformer's
        words = whole_words(tokenizer)
        return self._stack(list(words), rows[list(words.values())], lowercase=False, max_tokens=body.max_seq_length)

    def _stack(self, words: list[str], rows: torch.Tensor, *, lowercase: bool, max_tokens: int | None) -> SentenceTransformer:
        if len(set(words)) != len(words) or PADDING in words:
            raise ParameterError(f"word vectors in which a word stands twice, or {PADDING}: remove them first")
        # a tokenizer of transformers would fit here too, but takes no `task`, which training and `encode_query` give
        tokenizer = WhitespaceTokenizer([PADDING, *words], stop_words=[], do_lower_case=lowercase)
        table = torch.cat([torch.zeros(1, rows.shape[1]), rows])
        first = WordEmbeddings(tokenizer, table, update_embeddings=self.update, max_seq_length=max_tokens or LONGEST)
        if self.cell == "mean":
            return SentenceTransformer(modules=[first, Pooling(table.shape[1], "mean")], device="cpu")
        network = CELLS[self.cell](table.shape[1], self.hidden, num_layers=self.layers, bidirectional=self.bidirectional)
        pooling = Pooling(network.get_embedding_dimension(), "mean" if self.bidirectional else "lasttoken")
        return SentenceTransformer(modules=[first, network, pooling], device="cpu")


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Tokens that are a word by themselves, with their ids. Raises `ParameterError` where there is none."""
    special = set(tokenizer.all_special_ids)
    tokens = {token: id_ for token, id_ in sorted(tokenizer.get_vocab().items(), key=lambda one: one[1]) if id_ not in special}
    begins = next((sign for sign in ("\u0120", "\u2581") if any(token.startswith(sign) for token in tokens)), "")
    pairs = [(token.removeprefix(begins), id_) for token, id_ in tokens.items() if token.startswith(begins) and not token.startswith("##")]
    words: dict[str, int] = {}
    for word, id_ in pairs:
        if any(letter.isalnum() for letter in word) and (word.isascii() or begins != "\u0120"):  # bytes are no letters
            words.setdefault(word, id_)
    if not words:
        raise ParameterError("no token of this tokenizer is a word by itself: give a file of word vectors")
    return words
