"""AutoDim: how wide the rows of each field must be, found by mixing tables of several widths."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import batch_norm, embedding

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.memory import Memory
from regraft.tables.stages import Quality, Stage
from regraft.tables.widths.by_field import by_field, fields_of, starts_of

TINY = 1e-5  # of a variance, as batch norm has it
COOLED, COOLING = 0.01, 0.00005 / 2000  # the least temperature, and how much it falls for an example


class AutoDimEmbedding(CompressedEmbedding):
    r"""Section 3: a row of field f is :math:`\sum_c p_{f,c}\,\mathrm{BN}(E_c[i]\,W_{f,c} + b_{f,c})` over widths c, with
    :math:`p_f = \mathrm{softmax}((\log\mathrm{softmax}\,\alpha_f + g)/\tau)`, g of a Gumbel distribution. Weights learn on batches of
    training, :math:`\alpha` on those of validation, to first order; then each field keeps the width of its greatest :math:`\alpha`, and
    training goes on.

    share : of the plain table's words that it may take in the end; the budget decides. Where the widths found take more, those that
        :math:`\alpha` misses least for a word saved are made narrower (ours; the method itself does not promise a size).
    fields : how many ids each field has; None is one field of all. widths : of each field, once they are found; a field of the full width,
        or that would be no smaller, has plain rows.
    candidates : c; by default powers of two from 2 to d. scaled : whether the gradient of each :math:`\alpha_f` is divided by its mean
        absolute value, so that a short search decides (ours). anew : whether the last stage starts from first weights, not those found.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`n_f c_f + c_f d + d` words a field; while it searches all candidates' tables, about 2 n d.
    """

    name = "auto-dim"
    layout = "fused"
    paper = Paper("AutoDim: Field-aware Embedding Dimension Search in Recommender Systems", "Zhao et al.", 2021, arxiv="2006.14827")
    summary = "a width for each field, found by mixing tables of several widths"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("search", 0.5, searches=True), Stage("retrain"))

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        share: float = 1.0,
        fields: Sequence[int] | None = None,
        widths: Sequence[int] | None = None,
        candidates: Sequence[int] | None = None,
        scaled: bool = True,
        anew: bool = False,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.sizes = fields_of(self.name, fields, num_embeddings)
        self.fields = None if fields is None else self.sizes
        self.candidates = _candidates(candidates, embedding_dim)
        self.share, self.scaled, self.anew = share, scaled, anew
        self.register_buffer("starts", starts_of(self.sizes), persistent=False)
        self.widths = None if widths is None else tuple(widths)
        bound, count, dim = math.sqrt(1 / num_embeddings), len(self.sizes), embedding_dim
        if self.widths is not None:
            self.stages = (Stage("retrain", fresh=anew),)  # type: ignore[misc]  # of this very table
            self._whole_words(self.sizes, dim, self.widths)
            self.tables = nn.ParameterList(uniform(rows, width, bound) for rows, width in zip(self.sizes, self.widths, strict=True))
            self.maps = nn.ModuleDict({str(f): nn.Linear(width, dim) for f, width in enumerate(self.widths) if width < dim})
            return
        self.tables = nn.ParameterList(uniform(num_embeddings, width, bound) for width in self.candidates)
        self.weights = nn.ParameterList(
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(count * width, dim)).view(count, width, dim)) for width in self.candidates
        )
        self.biases = nn.Parameter(torch.zeros(len(self.candidates), count, dim))
        self.register_buffer("means", torch.zeros(len(self.candidates), count, dim))
        self.register_buffer("variances", torch.ones(len(self.candidates), count, dim))
        self.alphas = nn.Parameter(torch.zeros(count, len(self.candidates)))
        self.alphas.register_hook(self._evened)  # type: ignore[no-untyped-call]
        self.seen, self._examples = 0, 0

    starts: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor

    @staticmethod
    def _whole_words(sizes: Sequence[int], dim: int, widths: Sequence[int]) -> float:
        if len(widths) != len(sizes) or not all(1 <= width <= dim for width in widths):
            raise ParameterError(f"auto-dim: widths {list(widths)[:8]}: one from 1 to {dim} for each of {len(sizes)} fields")
        return sum(_words(rows, width, dim) for rows, width in zip(sizes, widths, strict=True))

    @classmethod
    def words(
        cls,
        rows: int,
        dim: int,
        *,
        share: float = 1.0,
        fields: Sequence[int] | None = None,
        widths: Sequence[int] | None = None,
        candidates: Sequence[int] | None = None,
        **_: Any,
    ) -> float:
        """Of widths that are found; before, the most that they will take: a share, less than the plain table, not below the least."""
        sizes = fields_of(cls.name, fields, rows)
        if widths is not None:
            return cls._whole_words(sizes, dim, widths)
        if not 0 <= share <= 1:
            raise ParameterError(f"auto-dim: share={share}: give a share of the plain table's words, in (0, 1]")
        narrow = _candidates(candidates, dim)[0]
        return max(sum(_stored(size, narrow, dim)[1] for size in sizes), min(math.floor(share * rows * dim), rows * dim - 1))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("share", 0.0, 1.0, whole=False)

    # rows

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if self.widths is not None:
            return by_field(ids, self.starts, self._narrow, self.embedding_dim)
        self._examples = len(ids) // len(self.sizes)
        shares = self.shares()
        return by_field(ids, self.starts, lambda field, own: self._mixed(field, own, shares[field]), self.embedding_dim)

    def _narrow(self, field: int, ids: torch.Tensor) -> torch.Tensor:
        found = embedding(ids, self.tables[field])
        return self.maps[str(field)](found) if str(field) in self.maps else found

    def _mixed(self, field: int, ids: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Rows of `ids` within a field: those of all widths, each column normalised, by their shares (candidates,)."""
        ids = ids + self.starts[field]
        learning = self.training and len(ids) > 1  # one row has no variance
        wide = [embedding(ids, table) @ self.weights[place][field] + self.biases[place, field] for place, table in enumerate(self.tables)]
        normal = [batch_norm(one, self.means[place, field], self.variances[place, field], training=learning, eps=TINY)
                  for place, one in enumerate(wide)]  # fmt: skip
        return torch.stack([share * one for share, one in zip(shares, normal, strict=True)]).sum(0)

    def temperature(self) -> float:
        return max(COOLED, 1 - COOLING * self.seen)

    def shares(self) -> torch.Tensor:
        """p (fields, candidates); with noise in training alone."""
        logs = torch.log_softmax(self.alphas, 1)
        if self.training:
            logs = logs - torch.log(torch.empty_like(logs).exponential_())
        return torch.softmax(logs / self.temperature(), 1)

    # the search

    def _evened(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient / (gradient.abs().mean(1, keepdim=True) + 1e-12) if self.scaled else gradient

    def architecture(self) -> list[nn.Parameter]:
        return [self.alphas] if self.widths is None else []

    def begin(self, stage: str, steps: int) -> None:
        self.seen = 0

    def after_step(self) -> None:
        if self.widths is None:
            self.seen += self._examples

    def advance(self, stage: str, quality: Quality) -> "CompressedEmbedding":
        return self.export()

    def chosen(self) -> tuple[int, ...]:
        """The candidate of each field: that of its greatest alpha, narrower where there is no room."""
        logs, dim = torch.log_softmax(self.alphas.detach(), 1), self.embedding_dim
        room = self.words(self.num_embeddings, dim, share=self.share, fields=self.fields, candidates=self.candidates)
        taken = [[_stored(size, width, dim)[1] for width in self.candidates] for size in self.sizes]
        best = logs.argmax(1).tolist()
        while sum(words[place] for words, place in zip(taken, best, strict=True)) > room:
            ways = [
                (float(logs[field, best[field]] - logs[field, other]) / (words[best[field]] - words[other]), field, other)
                for field, words in enumerate(taken)
                for other in range(best[field])
                if words[other] < words[best[field]]
            ]
            _, field, other = min(ways)
            best[field] = other
        return tuple(self.candidates[place] for place in best)

    @torch.no_grad()
    def export(self) -> "AutoDimEmbedding":
        """Fields of the widths found; what normalises columns goes into their maps."""
        if self.widths is not None:
            return self
        chosen, dim = self.chosen(), self.embedding_dim
        widths = tuple(_stored(size, width, dim)[0] for size, width in zip(self.sizes, chosen, strict=True))
        table = AutoDimEmbedding(**self.config() | {"widths": widths}).to(self.alphas.device)
        if self.anew:
            return table.train(self.training)
        for field, width in enumerate(chosen):
            place, start = self.candidates.index(width), int(self.starts[field])
            rows = self.tables[place][start : start + self.sizes[field]]
            spread = (self.variances[place, field] + TINY).sqrt()
            weight, bias = self.weights[place][field] / spread, (self.biases[place, field] - self.means[place, field]) / spread
            if str(field) in table.maps:
                table.tables[field].copy_(rows)
                table.maps[str(field)].load_state_dict({"weight": weight.T, "bias": bias})
            else:
                table.tables[field].copy_(rows @ weight + bias)
        return table.train(self.training)

    def memory(self) -> Memory:
        """As it serves, before the search the most that it will take; in the search tables and maps of all candidates."""
        if self.widths is not None:
            return Memory({"rows": sum(one.numel() for one in self.tables), "maps": sum(one.numel() for one in self.maps.parameters())})
        limit = self.words(self.num_embeddings, self.embedding_dim, share=self.share, fields=self.fields, candidates=self.candidates)
        rows = sum(one.numel() for one in self.tables)
        statistics = self.means.numel() + self.variances.numel()
        return Memory(
            {"at most": limit}, {"rows": rows, "maps": sum(p.numel() for p in self.parameters()) - rows, "statistics": statistics}
        )


def _candidates(given: Sequence[int] | None, dim: int) -> tuple[int, ...]:
    """Widths to choose from, narrowest first."""
    found = tuple(sorted({*(2**power for power in range(1, dim.bit_length()) if 2**power <= dim), dim})) if given is None else tuple(given)
    if not found or list(found) != sorted(set(found)) or not 1 <= found[0] <= found[-1] <= dim:
        raise ParameterError(f"auto-dim: candidates {list(found)[:8]}: give rising widths from 1 to {dim}")
    return found


def _words(rows: int, width: int, dim: int) -> int:
    return rows * width + (width * dim + dim if width < dim else 0)


def _stored(rows: int, width: int, dim: int) -> tuple[int, int]:
    """The width at which a field of candidate `width` is stored, and its words: plain rows where a map makes it no smaller."""
    narrow = rows * width + width * dim + dim
    return (width, narrow) if width < dim and narrow < rows * dim else (dim, rows * dim)
