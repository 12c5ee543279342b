"""Zip-tie: a new token is tied to the pieces that used to spell it, with a choice of weights and row length."""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import sparse

from regraft.graft import Graft
from regraft.method import Paper
from regraft.tokenizer.scripts import script_of
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.constituent_exponential import exponential_weights


class ZipTie(Initializer):
    r"""Zip-tie embedding: :math:`E_t = \sum_i w_i E_{p_i}` over the old tokenizer's pieces of the bare surface form of *t*.

    The surface form loses the word-initial marker's dummy space and keeps a real one; input rows and head rows each come from their own
    table, a head bias from the pieces' biases. Rows meant for padding are never tied.

    Parameters
    ----------
    weights : "mean" (the paper), "exp_last" (input rows weigh the last piece most, head rows the first), "exp_first" (the other way
        round) or "sum" (weights 1; for comparison, far outside the hull).
    norm : "none", or "match_script": scale each row to the median norm of the old rows whose tokens are written in the same script,
        without special tokens, ids that no token has, and rows of zeros, which say nothing about text.
        On a tied table longer rows also raise the new tokens' logits, which makes text dearer: see the reproduction.
    tie : False, or "average": input table and head of an untied model become one, :math:`(E + U) / 2`, from which new rows are started
        too. An experiment: every old row changes, so what the model knew suffers until it is trained. Tied models stay as they are.

    Returns a graft of shape (new tokens, old tokens); rows sum to 1 unless `weights` is "sum" or `norm` rescales them.
    """

    paper = Paper("Bailong: Bilingual Transfer Learning based on QLoRA and Zip-tie Embedding", "Chen & Li", 2024, "2404.00862")
    summary = "tied to the pieces that used to spell it; optional norm matching"
    separate_head: ClassVar[bool] = True

    weights: Literal["mean", "exp_last", "exp_first", "sum"] = "mean"
    norm: Literal["none", "match_script"] = "none"
    tie: Literal[False, "average"] = False

    def share(self, table: torch.Tensor, read_head: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        return read_head().add_(table).div_(2) if self.tie == "average" else None

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        graft = Graft.from_ragged(target.pieces, source.vocab_size, self._weights(source, target), normalize=self.weights != "sum")
        return match_script_norm(graft, source, target) if self.norm == "match_script" else graft

    def _weights(self, source: Source, target: Target) -> list[list[float]] | None:
        if self.weights in ("mean", "sum"):
            return None
        last_heaviest = (self.weights == "exp_last") == (source.role == "input")
        return [exponential_weights(len(p), 2.0, "last" if last_heaviest else "first") for p in target.pieces]


def match_script_norm(graft: Graft, source: Source, target: Target) -> Graft:
    """Scale each row of `graft` to the median norm of the old rows of its script (of all scripts, where its own is new).

    Special tokens, ids without a token and rows of zeros do not count.
    """
    tokenizer = source.tokenizer
    lengths = torch.linalg.vector_norm(source.table.to(torch.float32), dim=1).numpy()
    written = [i for i in sorted(tokenizer.pieces) if lengths[i] > 0 and not tokenizer.is_special(i)]
    if not written:
        return graft
    norms, scripts = lengths[written], np.array([script_of(tokenizer.surface(i)) for i in written])
    medians = {script: float(np.median(norms[scripts == script])) for script in np.unique(scripts)}
    overall = float(np.median(norms))
    wanted = np.array([medians.get(script_of(surface), overall) for surface in target.surfaces])
    actual = torch.linalg.vector_norm(graft.apply(source.table.to(torch.float32)), dim=1).numpy()
    scale = np.where(actual > 0, wanted / np.maximum(actual, 1e-12), 1.0)
    share = None if graft.share is None else graft.share * scale
    return Graft(sparse.csr_matrix(sparse.diags(scale) @ graft.weights), graft.shared, share, graft.fallback)
