"""Multi-granular quantized embeddings: product codes in which frequent ids choose among more centroids."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.codes.bitmap import Bitmap
from regraft.tables.codes.learned import Codebooks, bits_of, looked_up, parts_of
from regraft.tables.codes.packing import pack, packed_bytes, packed_words, unpack_rows
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.frequency import frequent_ids
from regraft.tables.memory import Memory


class MgqeEmbedding(CompressedEmbedding):
    r"""Part j of a row is the centroid :math:`K_{j,c}` nearest to that part of a row q, which is there in training only (MGQE, section 3).

    counts : (n,), how often each id occurs. parts : p; the largest divisor of d at most p is taken; the budget decides, 4 is the paper's.
    centroids : K for the `top` share of ids, exactly, by frequency; few : how many of them the others may choose.
    weight : of the loss :math:`\overline{(v - \mathrm{sg}(q))^2}`, which moves centroids only. coded : whether it is as it serves.
    seed : of the draw between equal counts. mode, padding_idx : as `nn.EmbeddingBag`.

    Gradients go straight through to q. `export` codes every row anew with running statistics, those that training never met too. Returns
    rows (m, d) of float32. Serving takes K d words, 2 words for 32 ids (who is frequent, and how many before), and codes of 8 and 6
    bits; training n d more.
    """

    name = "mgqe"
    counts_rows = True
    paper = Paper("Learning Multi-granular Quantized Embeddings for Large-Vocab Categorical Features in Recommender Systems", "Kang et al.",
                  2020, arxiv="2002.08530")  # fmt: skip
    summary = "product codes, finer ones for frequent ids"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        counts: torch.Tensor,
        *,
        parts: int = 4,
        centroids: Annotated[int, Ge(2)] = 256,
        few: Annotated[int, Ge(2)] = 64,
        top: float = 0.1,
        weight: float = 1.0,
        coded: bool = False,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        if counts.shape != (num_embeddings,) or few > centroids:
            raise ParameterError(
                f"mgqe: counts {tuple(counts.shape)}, few={few}: one for each of {num_embeddings} ids; few up to {centroids}"
            )
        self.parts, self.centroids, self.few, self.top = parts_of(embedding_dim, parts), centroids, few, top
        self.weight, self.coded, self.seed = weight, coded, seed
        bound = math.sqrt(1 / num_embeddings)
        self.books = Codebooks(embedding_dim, self.parts, centroids, bound)
        high = _high(num_embeddings, top)
        frequent = frequent_ids(counts, high, seed)
        self.frequent = Bitmap(num_embeddings)
        self.frequent.fill(frequent)
        if coded:
            for name, rows, many in (("fine", high, centroids), ("coarse", num_embeddings - high, few)):
                self.register_buffer(name, torch.zeros(packed_bytes(rows * self.parts, bits_of(many)), dtype=torch.uint8))
        else:
            self.query = uniform(num_embeddings, embedding_dim, bound)
        self._loss: torch.Tensor | float = 0.0

    fine: torch.Tensor
    coarse: torch.Tensor

    @classmethod
    def words(cls, rows: int, dim: int, *, parts: int = 4, centroids: int = 256, few: int = 64, top: float = 0.1, **_: Any) -> float:
        taken, high = parts_of(dim, parts), _high(rows, top)
        codes = packed_words(high * taken, bits_of(centroids)) + packed_words((rows - high) * taken, bits_of(few))
        return centroids * dim + Bitmap.words(rows) + codes

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("parts", 1, dim)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        frequent, rank = self._standing(ids)
        if self.coded:
            return looked_up(self.books.keys, self._stored(ids, frequent, rank))
        query = nn.functional.embedding(ids, self.query)
        found = looked_up(self.books.keys, self._nearest(query.detach(), frequent))
        self._loss = self.weight * (found - query.detach()).square().sum() / max(1, found.numel()) if self.training else 0.0
        return query + (found - query).detach() if self.training else found

    def _nearest(self, query: torch.Tensor, frequent: torch.Tensor) -> torch.Tensor:
        """Codes (m, p); the others than frequent ids see the first centroids alone."""
        with torch.no_grad():
            scores = self.books.scores(query)
            beyond = torch.arange(self.centroids, device=query.device) >= self.few
            return scores.masked_fill((~frequent).view(-1, 1, 1) & beyond, -torch.inf).argmax(2)

    def _standing(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether ids are frequent, and their place among those that are as they are."""
        frequent, above = self.frequent(ids)
        return frequent, torch.where(frequent, above, ids - above)

    def _stored(self, ids: torch.Tensor, frequent: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
        codes = torch.empty(len(ids), self.parts, dtype=torch.int64, device=ids.device)
        for mine, stored, many in ((frequent, self.fine, self.centroids), (~frequent, self.coarse, self.few)):
            codes[mine] = unpack_rows(stored, rank[mine], self.parts, bits_of(many))
        return codes

    @torch.no_grad()
    def export(self) -> Self:
        """The same table with codes instead of q."""
        if self.coded:
            return self
        settings = self.config() | {"coded": True, "counts": torch.ones(self.num_embeddings)}
        table = type(self)(**settings)
        was = self.training
        self.eval()
        table.load_state_dict({k: v for k, v in self.state_dict().items() if k != "query"}, strict=False)
        fine, coarse = [], []
        for ids in torch.split(torch.arange(self.num_embeddings, device=self.query.device), 65536):
            frequent, _ = self._standing(ids)  # the order of ids is the order of either kind
            codes = self._nearest(self.query[ids], frequent)
            fine.append(codes[frequent])
            coarse.append(codes[~frequent])
        table.fine.copy_(pack(torch.cat(fine), bits_of(self.centroids)))
        table.coarse.copy_(pack(torch.cat(coarse), bits_of(self.few)))
        self.train(was)
        return table.train(was)

    def extra_loss(self) -> torch.Tensor | float:
        return self._loss

    def memory(self) -> Memory:
        """As it serves, also before `export`; in training the rows q, and statistics of scores."""
        high = _high(self.num_embeddings, self.top)
        low, fine, coarse = self.num_embeddings - high, bits_of(self.centroids), bits_of(self.few)
        codes = packed_words(high * self.parts, fine) + packed_words(low * self.parts, coarse)
        kept = {"centroids": self.books.keys.numel(), "frequency": Bitmap.words(self.num_embeddings)}
        training = {} if self.coded else kept | {"rows": self.query.numel(), "statistics": 2 * self.parts * self.centroids}
        return Memory(kept | {"codes": codes}, training)


def _high(rows: int, top: float) -> int:
    if not 0 <= top <= 1:
        raise ParameterError(f"mgqe: top={top}: give a share of the ids")
    return math.floor(rows * top)
