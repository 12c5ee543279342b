"""DefSent: definitions predict their entry by the language model's own frozen head."""

from dataclasses import replace
from typing import Any, ClassVar

from sentence_transformers import SentenceTransformer

from datasets import Dataset
from regraft.errors import CorpusError
from regraft.method import Paper
from regraft.progress import console
from regraft.text.fitting import Budget, fit
from regraft.text.tuner import Kind, Tuner
from regraft.text.tuners.defsent.heads import Predict, freeze, language_head, pooled_by


class DefSent(Tuner):
    r"""Cross-entropy of :math:`head(u(x))` with the entry's token, for entries that are one token of the model (section 3).

    u is the encoder's own pooling of the definition x. The language model's head (all of a masked-LM head; a decoder's output matrix) and
    the embeddings are frozen, the output matrix as a copy of its own. Entries of several tokens are left out. The rate is constant after
    the warm-up.

    Returns the model, its layers trained in place. Raises `CheckpointError` for a checkpoint without a language-model head, `CorpusError`
    where no entry is one token.
    """

    name = "defsent"
    paper = Paper("DefSent: Sentence Embeddings using Definition Sentences", "Tsukagoshi, Sasano and Takeda", 2021, "2105.04339")
    summary = "definitions predict their one-token entry by the frozen language-model head"
    takes: ClassVar[tuple[Kind, ...]] = ("entries",)

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        tokenizer: Any = model.tokenizer
        pieces = {entry: one_piece(tokenizer, entry) for entry in set(examples["entry"])}
        pairs = dict.fromkeys(zip(examples["entry"], examples["definition"], strict=True))
        rows = [{"text": text, "label": [pieces[entry]]} for entry, text in pairs if pieces[entry] is not None]
        kept = sum(piece is not None for piece in pieces.values())
        if kept < 2:
            raise CorpusError(f"{kept} of {len(pieces):,} entries is one token of this model, it needs two: take method defsent-plus")
        console.print(f"{kept:,} of {len(pieces):,} entries are one token of this model; the others are left out", highlight=False)
        head, learner = language_head(model), pooled_by(model)
        freeze(model)
        budget = replace(budget, weight_decay=0.0)
        arguments = {"lr_scheduler_type": "constant_with_warmup"}
        fit(learner, Predict(learner, head), Dataset.from_list(rows), budget, name=self.name, arguments=arguments)
        model.requires_grad_(True)
        return model.eval()


def one_piece(tokenizer: Any, entry: str) -> int | None:
    """The id of an entry that is one token, as a word inside a text or at its start; None for other entries."""
    for form in (f" {entry.strip()}", entry.strip()):
        ids = tokenizer(form, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            return int(ids[0])
    return None
