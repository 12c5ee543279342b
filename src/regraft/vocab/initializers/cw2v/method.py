"""CW2V: each new row is a convex mix of old rows, learned by skip-gram on text cut by the new tokenizer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy import sparse

from regraft.errors import CorpusError
from regraft.graft import Graft, iterate_blocks
from regraft.language.precision import fast_format
from regraft.method import Paper
from regraft.progress import console, progress_bar
from regraft.samples import everyday_english
from regraft.vectors.alignment import read_dictionary
from regraft.vectors.skipgram import SkipGrams
from regraft.vectors.word_alignment import read_bitext
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.cw2v.code_mixing import mix_by_alignment, mix_by_dictionary
from regraft.vocab.initializers.cw2v.perplexity import Perplexity
from regraft.vocab.initializers.cw2v.skipgram_training import Side, Vocabulary, loss_and_slopes, mean_loss, set_gradients
from regraft.vocab.initializers.cw2v.softmax_rows import Offsets, SoftmaxRows

EXTRACTED = 128  # rows whose weights are cut at a time
HEAD = "cw2v head"
HELD_OUT = 10  # one in so many lines of the training text decides between epochs
JUDGED_BYTES = 20_000  # of the text kept out, and as many of the old language, where perplexity decides
GOLDEN = (math.sqrt(5) - 1) / 2
Grafts = tuple[Graft, Graft]  # of the input table and of the head


class CW2V(Initializer):
    r"""Constrained Word2Vec: :math:`W_{new} = \mathrm{softmax}(A_1 A_2)\, W` and :math:`U_{new} = \mathrm{softmax}(B_1 B_2)\, U`.

    Pairs (c, o) within the window on text cut by the new tokenizer; loss
    :math:`-\log\sigma(\hat u_o \hat w_c) - \sum_k \log\sigma(-\hat u_k \hat w_c)`, K negatives from unigram^0.75 over the new vocabulary;
    Adam on the factors, old rows frozen. A tied model has one table in both roles. One line in ten, spread over the text, is kept out of
    training; the rows of each epoch, as they would be returned, are judged on it, and the best stay, the start among them (with fewer than
    ten lines the last). Tokens that the text never shows get the mean of their old pieces. Old rows of zeros (padding) get no weight; those
    of tokens that the new tokenizer drops do (for RoBERTa the paper mixes shared tokens alone).

    The paper's text is code-mixed: parts of each sentence stand in the old language, which ties new tokens to old ones. See `mix`.

    Parameters
    ----------
    r : rank of the factors (the paper: 1024; 64 is within minutes on a desktop).
    epochs, window, t, weight_decay : as in the paper's script for LLaMA; t is the subsampling constant on raw counts.
    batch, lr : pairs in a step, and the rate of Adam. The paper's script for RoBERTa has 8,192 and 3e-4; four times both learns as much
        from the same pairs (held-out loss 8.40 against 8.44, from 9.23, on 10,000 Vietnamese sentences) in a third of the time.
    K : negatives a pair.
    negatives : "standard", or "sum_inside" as released: :math:`-\log\sigma(-\sum_k \hat u_k \hat w_c)`.
    distinct : negatives of a batch are drawn without replacement, as released; nearly uniform where the vocabulary is small beside a batch.
    mix : "dictionary" replaces up to half of the words of each line by what ``--dictionary`` has for them, alone or in runs; "alignment"
        adds the target lines of ``--bitext`` with aligned spans replaced by the source's; see `code_mixing`.
    choose : by what the epoch is chosen: "loss" of the skip-grams, or "perplexity" of the model on the lines kept out and on text in the
        old language (of ``--bitext``, or everyday English), in bits per byte, both alike; the paper's, and slower.
    spread : share of the mean of all rows that "warm" mixes in.
    init : "warm" adds the log-weights of the constituent mean, mixed with a share `spread` of the mean of all rows, to the logits, and
        starts with :math:`A_1 = 0`; "centred" draws the factors from N(0, 0.02^2), near the mean of all rows; "released" from U[0, 1).
    keep : most old rows a new row keeps. Kept are the largest weights, up to a sum of 1 - 1e-6; what they lack to 1 goes to the mean of
        all old rows, so that rows stay in the convex hull and no row stores the whole vocabulary. How much the kept ones hold on average
        is noted.

    Returns a graft of shape (new tokens, old tokens). Raises `CorpusError` if the text has no pairs, `ParameterError` for a `mix` without
    its option, or with a dictionary that has no word of the text.
    """

    name: ClassVar[str] = "cw2v"
    paper = Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        "Mundra et al.",
        2024,
        "2407.05841",
    )
    summary = "convex mixes of old rows learned by skip-gram"
    needs: ClassVar[tuple[str, ...]] = ("text",)
    separate_head: ClassVar[bool] = True

    r: Annotated[int, Field(ge=1)] = 64
    epochs: Annotated[int, Field(ge=1)] = 5
    window: Annotated[int, Field(ge=1)] = 5
    K: Annotated[int, Field(ge=1)] = 5
    t: Annotated[float, Field(gt=0)] = 2.0
    lr: Annotated[float, Field(gt=0)] = 1.2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Annotated[int, Field(ge=1)] = 32_768
    negatives: Literal["standard", "sum_inside"] = "standard"
    distinct: bool = False
    mix: Literal["none", "dictionary", "alignment"] = "none"
    choose: Literal["loss", "perplexity"] = "loss"
    init: Literal["warm", "centred", "released"] = "warm"
    spread: Annotated[float, Field(gt=0, lt=1)] = 0.01
    keep: Annotated[int, Field(ge=1)] = 256

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        if source.role == "head" and HEAD in context.memory:
            return cast(Graft, context.memory[HEAD])  # learned together with the input rows
        input_graft, context.memory[HEAD] = self._learn(source, target, context)
        return input_graft if source.role == "input" else cast(Graft, context.memory[HEAD])

    def _learn(self, source: Source, target: Target, context: Context) -> Grafts:
        texts, apart = set_apart([line for text in context.texts(self.name) for line in text.splitlines() if line.strip()])
        lines = target.tokenizer.encode_batch(self._mixed(texts, context))
        if not any(len(line) > 1 for line in lines):
            raise CorpusError(f"{self.name}: the corpus has no two tokens in a line: give more text with --corpus")
        train = SkipGrams(lines, len(target.source_ids), self.window, self.t, self.K, distinct=self.distinct)
        seen = train.counts[target.ids] > 0
        if not seen.all():
            console.print(
                f"  {self.name}: {(~seen).sum()} new tokens never occur in the text: they take the mean of their old pieces", style="yellow"
            )
        generator = torch.Generator().manual_seed(context.seed)
        other = None if source.tied or source.partner is None else source.partner()
        given = self._side(other if other is not None and source.role == "head" else source.table, target, generator)
        sought = given if other is None else self._side(source.table if source.role == "head" else other, target, generator)
        vocabulary = Vocabulary(target.source_ids, target.ids)
        judge = self._judge(apart, target, context, train, given, sought)

        def attempt() -> tuple[float, Grafts]:
            learned = self._graft(given.mixes, target, seen)
            grafts = learned, learned if given is sought else self._graft(sought.mixes, target, seen)
            return judge(*grafts), grafts

        chosen = self._train(train, attempt, vocabulary, given, sought, np.random.default_rng(context.seed))
        if seen.any():
            kept = np.mean([graft.weights[seen].sum() for graft in chosen]) / seen.sum()
            context.notes.append(
                f"{self.name}: kept weights (keep={self.keep}) hold {kept:.1%} of a new row on average, the mean of the old rows the rest"
            )
        return chosen

    def _judge(
        self, apart: list[str], target: Target, context: Context, train: SkipGrams, given: Side, sought: Side
    ) -> Callable[[Graft, Graft], float]:
        """What the grafts of the input table and of the head are chosen by, lower is better; NaN where no text is held out."""
        if self.choose == "perplexity" and apart:
            return Perplexity(target, context, self.name, [small(apart), small(old_language(context))])
        check = SkipGrams(target.tokenizer.encode_batch(apart), len(target.source_ids), self.window, self.t, self.K)
        check.noise = train.noise
        checks = list(check.batches(np.random.default_rng(1), self.batch, most=self.batch))
        if not checks:
            context.notes.append(f"{self.name}: the text is too short to hold any of it out, so the rows of the last epoch are kept")
            return lambda *_: math.nan
        vocabulary = Vocabulary(target.source_ids, target.ids)

        def loss(input_graft: Graft, head_graft: Graft) -> float:
            one = replace(given, fixed=input_graft.apply(given.table))
            other = one if given is sought else replace(sought, fixed=head_graft.apply(sought.table))
            return mean_loss(checks, vocabulary, one, other, self.negatives)

        return loss

    def _mixed(self, lines: list[str], context: Context) -> list[str]:
        """The text to train on, code-mixed as asked."""
        if self.mix == "dictionary":
            return mix_by_dictionary(lines, read_dictionary(context.aids.need("dictionary", self.name)), context.seed)
        if self.mix == "alignment":
            return lines + mix_by_alignment(*read_bitext(*context.aids.need("bitext", self.name)), context.seed)
        return lines

    def _side(self, table: torch.Tensor, target: Target, generator: torch.Generator) -> Side:
        table = table.to(torch.float32)
        n, m = len(table), len(target)
        if self.init == "released":
            left, right = torch.rand(m, self.r, generator=generator), torch.rand(self.r, n, generator=generator)
        elif self.init == "centred":
            left, right = (0.02 * torch.randn(shape, generator=generator) for shape in ((m, self.r), (self.r, n)))
        else:
            left, right = torch.zeros(m, self.r), torch.randn(self.r, n, generator=generator)
        return Side(table, SoftmaxRows(table, left, right, self._offsets(table, target), fast_format()))

    def _offsets(self, table: torch.Tensor, target: Target) -> Offsets:
        """Log-weights of the warm start, relative to a row outside the spelling; rows of zeros (padding) are no old rows to mix."""
        zeros = table.abs().amax(dim=1) == 0
        excluded = (zeros & ~zeros.all()).nonzero()[:, 0]
        pieces = (
            Graft.uniform(target.pieces, len(table)).weights.tocoo()
            if self.init == "warm"
            else sparse.coo_matrix((len(target), len(table)))
        )
        values = np.log1p(pieces.data * (len(table) - len(excluded)) * (1 - self.spread) / self.spread)
        row, column = (torch.from_numpy(part.astype(np.int64)) for part in (pieces.row, pieces.col))
        return Offsets(row, column, torch.from_numpy(values), excluded)

    def _train(
        self,
        pairs: SkipGrams,
        attempt: Callable[[], tuple[float, Grafts]],
        vocabulary: Vocabulary,
        given: Side,
        sought: Side,
        random: np.random.Generator,
    ) -> Grafts:
        """Adam for `epochs` epochs; of the grafts of the start and of each epoch the lowest by `attempt`, the last where it gives NaN."""
        sides = [given] if given is sought else [given, sought]
        factors = [factor for side in sides for factor in (side.mixes.left, side.mixes.right)]
        optimizer = torch.optim.Adam(factors, lr=self.lr, weight_decay=self.weight_decay)
        best, kept = attempt()
        with progress_bar(self.name, total=self.epochs, unit="epochs") as bar:
            for _ in range(self.epochs):
                for batch in pairs.batches(random, self.batch):
                    loss, vectors = loss_and_slopes(batch, vocabulary, given, sought, self.negatives)
                    for part in vectors:
                        set_gradients(part)
                    optimizer.step()
                    bar.say(f"loss {loss:.3f}")
                bar.advance()
                judged, grafts = attempt()
                if not judged >= best:
                    best, kept = judged, grafts
        return kept

    def _graft(self, mixes: SoftmaxRows, target: Target, seen: npt.NDArray[np.bool_]) -> Graft:
        """The learned weights, cut to `keep` a row; what a row lacks to 1 goes to the mean of all old rows but those of zeros."""
        cut = [cut_weights(mixes.weights(torch.arange(len(target))[block]), self.keep) for block in iterate_blocks(len(target), EXTRACTED)]
        learned = sparse.vstack(cut).tocsr()
        rest = np.clip(1.0 - np.asarray(learned.sum(axis=1)).ravel(), 0.0, None)
        mean, zeros = np.ones(learned.shape[1]), set(mixes.offsets.excluded.tolist())
        mean[list(zeros)] = 0.0
        pieces = [[] if known else [p for p in spelled if p not in zeros] for known, spelled in zip(seen, target.pieces, strict=True)]
        unspelled = np.array([not known and not left for known, left in zip(seen, pieces, strict=True)])
        weights = sparse.diags(seen.astype(np.float64)) @ learned + Graft.uniform(pieces, len(mean)).weights
        return Graft(sparse.csr_matrix(weights), mean / mean.sum(), np.where(seen, rest, unspelled), np.flatnonzero(unspelled))


def set_apart(lines: list[str]) -> tuple[list[str], list[str]]:
    """`lines` to train on, and those kept out to choose the epoch: one in ten, spread over all of them; of fewer than ten none."""
    apart = set(spread_out(len(lines))[: len(lines) // HELD_OUT].tolist())
    return [line for i, line in enumerate(lines) if i not in apart], [lines[i] for i in sorted(apart)]


def old_language(context: Context) -> list[str]:
    """Text in the model's own language: the source side of the bitext, or everyday English."""
    return everyday_english() if context.aids.bitext is None else read_bitext(*context.aids.bitext)[0]


def small(lines: Sequence[str], most: int = JUDGED_BYTES) -> list[str]:
    """Lines of up to `most` bytes in all, at least one, spread over all `lines`."""
    order = spread_out(len(lines)).tolist()
    sizes = np.cumsum([len(lines[i].encode()) for i in order])
    return [lines[i] for i in sorted(order[: max(1, int(np.searchsorted(sizes, most, side="right")))])]


def spread_out(count: int) -> npt.NDArray[np.int64]:
    """0 to count - 1 in an order of which any beginning is spread evenly over them, in step with no pattern in them: by the fractions of
    the golden ratio's multiples."""
    return np.argsort(np.arange(1, count + 1) * GOLDEN % 1)


def cut_weights(weights: torch.Tensor, keep: int, mass: float = 1 - 1e-6) -> sparse.csr_matrix:
    """The largest of each row's `weights` (u, n), at most `keep`, until they sum to `mass`; float64, not renormalized."""
    total = weights.sum(dim=1, keepdim=True, dtype=torch.float64)  # sums of float32 weights miss 1 by more than the hull allows
    top, columns = weights.topk(min(keep, weights.shape[1]), dim=1)
    top = top / total
    needed = (top.cumsum(dim=1) - top < mass) & (top > 0)
    rows, places = needed.nonzero(as_tuple=True)
    data = (top[rows, places].numpy(), (rows.numpy(), columns[rows, places].numpy()))
    return sparse.coo_matrix(data, shape=tuple(weights.shape)).tocsr()
