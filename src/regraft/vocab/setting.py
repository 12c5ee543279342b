"""One model, one change of its tokenizer, and what starts of new rows may learn from: what is adapted, compared and reproduced."""

from dataclasses import dataclass, field
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.language.loading import is_scorable, load_both, load_model
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.change import Change
from regraft.vocab.initializer import Aids, Context, Initializer
from regraft.vocab.transplant.installed import install
from regraft.vocab.transplant.transplant import transplant

Live = tuple[Any, Any]  # a model and its tokenizer, both as transformers has them


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`change` turns `tokenizer`, that of `checkpoint`, into the new one; `corpus` and `aids` are what starts may ask for.

    Models are loaded on `device` as `dtype` ("auto": float32 on a CPU, else the checkpoint's).
    """

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    change: Change
    corpus: Corpus | None = None
    aids: Aids = field(default_factory=Aids)
    device: str = "cpu"
    dtype: str = "auto"

    @property
    def scorable(self) -> bool:
        """Whether the model has a head that gives text a probability."""
        return is_scorable(self.checkpoint)

    def context_for(self, seed: int) -> Context:
        """What a start is given; the model itself only where it gives text a probability."""
        load = self.untouched if self.scorable else None
        return Context(corpus=self.corpus, seed=seed, aids=self.aids, load_model=load)

    def untouched(self) -> Live:
        """The model and its tokenizer as they were, fresh."""
        return load_both(self.checkpoint, self.tokenizer, self.dtype, self.device)

    def started(self, start: Initializer, seed: int = 0, live: Live | None = None) -> Live:
        """The model with the new vocabulary and `start`'s rows; `live`, if it has this vocabulary already, is overwritten."""
        model, tokenizer = live or (load_model(self.checkpoint, self.dtype, self.device), load_tokenizer(self.change.tokenizer))
        install(model, transplant(self.checkpoint, self.tokenizer, self.change, start, self.context_for(seed)))
        return model, tokenizer
