"""HyperOFA: a network learns from the old rows what row the words around a token ask for."""

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from regraft.graft import Rows
from regraft.graft.moments import mean_and_std
from regraft.method import Paper
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.initializers.hyper_ofa.coordinate_network import NetworkTraining, WordSets, learn_rows
from regraft.vocab.mixing.fallback import complete, empty_rows, redraw
from regraft.vocab.mixing.word_space_start import WordSpaceStart


class HyperOFA(WordSpaceStart):
    r"""As `OFA`, but the row of a token is predicted: :math:`e_t = h_\theta(\{W_w : w \ni t\})`, not mixed.

    :math:`h_\theta` is a BiLSTM over the vectors of the words that hold the token, in random order. It learns from the old tokens that
    words hold, on batches of 128, by :math:`\lambda\,L_c + (1 - \lambda)\,L_1`: InfoNCE over the batch by cosine at temperature *T*, and
    the L1 distance over the true row's L1 norm (both are our reading of the paper's terms). In training, every second set keeps a random
    50 to 100 % of its words. A twentieth of the old tokens is kept from training; how near their rows come is said in the notes. An untied
    head has a network of its own.

    Parameters
    ----------
    layers, hidden, dropout : of the BiLSTM; the paper takes 2 to 4 layers of 800 or 1600, which asks for a GPU.
    max_vectors : words of a token that are read, a random choice of more.
    lambda_ : :math:`\lambda`, [0, 1].
    T : temperature of InfoNCE; the paper takes 0.5 for RoBERTa and 0.25 for XLM-R.
    lr, decay, decay_every : of Adam; the rate is multiplied by `decay` every `decay_every` epochs.
    network_epochs : passes over the old tokens (the number is ours).
    minutes : stop after this time (ours, so that a desktop finishes; the notes say how far it came), or None for all epochs.
    rank, split, copy, auxiliary, keys, spellings, fallback : as in `OFA`.
    source_languages, target_languages : as in `OFA`.
    bias : "zero" (a copy keeps its own), or "mixed": the mean of the token's old pieces.
    dim, epochs, window, negative, min_count : of the word vectors trained on the corpus, as in `OFA`.

    Returns rows of shape (new tokens, d), or (new tokens, rank). Raises what `OFA` raises.
    """

    name: ClassVar[str] = "hyper-ofa"
    paper = Paper(
        "HYPEROFA: Expanding LLM Vocabulary to New Languages via Hypernetwork-Based Embedding Initialization",
        "Özeren et al.",
        2025,
        "2504.21018",
    )
    summary = "rows predicted by a network from the words that hold a token"
    needs: ClassVar[tuple[str, ...]] = ("vectors",)
    separate_head: ClassVar[bool] = True

    layers: Annotated[int, Field(ge=1)] = 2
    hidden: Annotated[int, Field(ge=1)] = 800
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    max_vectors: Annotated[int, Field(ge=1)] = 256
    lambda_: Annotated[float, Field(ge=0, le=1)] = 0.1
    T: Annotated[float, Field(gt=0)] = 0.5
    lr: Annotated[float, Field(gt=0)] = 1e-4
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    decay_every: Annotated[int, Field(ge=1)] = 10
    network_epochs: Annotated[int, Field(ge=1)] = 100
    minutes: Annotated[float, Field(gt=0)] | None = 2.0

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        found = self.align(source, target, context)
        weights = found.copying(source.vocab_size)
        others = complete(weights, target)  # copies, and the constituent mean for the rest
        covered = found.covered
        bias = None
        if source.bias is not None:
            bias = others.apply(source.bias)
            if self.bias == "zero":
                bias[torch.from_numpy(found.copies < 0)] = 0.0
        mixed = np.setdiff1d(np.arange(len(target)), covered)
        started = Rows(others.apply(source.table), bias, origin="learned", combined=mixed)
        uncovered = empty_rows(weights)
        if self.fallback == "normal" and len(uncovered):
            started = replace(started, values=redraw(others, uncovered, source, context, *mean_and_std(source.table)).values)
        if len(covered):
            known, wanted = WordSets(found.old.held, found.old.matrix), WordSets(found.new.held, found.new.matrix)
            seed = 2 * context.seed + (source.role == "head")
            predicted, near, epochs = learn_rows(known, source.table, found.candidates, wanted, target.ids[covered], self._training, seed)
            started.values[torch.from_numpy(covered)] = predicted.to(started.values.dtype)
            context.notes.append(
                f"{self.name}: cosine of predicted to true {source.role} rows, on old tokens kept from training: {near:.3f}, "
                f"after {epochs:.1f} of {self.network_epochs} epochs"
            )
        return started

    @property
    def _training(self) -> NetworkTraining:
        return NetworkTraining(**{name: getattr(self, name) for name in NetworkTraining.__dataclass_fields__})
