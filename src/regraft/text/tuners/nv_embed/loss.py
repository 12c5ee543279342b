"""InfoNCE with a policy a row: whose documents are its negatives, its own alone or those of the whole batch too."""

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from torch.nn.functional import cross_entropy, normalize


def info_nce(
    queries: torch.Tensor,
    documents: torch.Tensor,
    in_batch: torch.Tensor,
    query_ids: torch.Tensor,
    document_ids: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    r"""Mean over rows of :math:`-\log \frac{e^{s(q, d^+)/\tau}}{e^{s(q, d^+)/\tau} + \sum_{d \in N} e^{s(q, d)/\tau}}`, s the cosine.

    Parameters
    ----------
    queries : (batch, d). documents : (batch, k, d), the positive first, then the row's own negatives.
    in_batch : (batch,), whether documents of the other rows are in N too.
    query_ids, document_ids : (batch,) and (batch, k), equal for equal texts; -1 where there is no document. Of the other rows, what is the
        positive's text or the query's, and everything that belongs to the same query, is no negative.

    A row that is not `in_batch` hangs on no other row.
    """
    rows, k, _ = documents.shape
    scores = normalize(queries, dim=-1) @ normalize(documents, dim=-1).flatten(0, 1).T / temperature
    ids = document_ids.flatten()
    owner = torch.arange(rows, device=scores.device).repeat_interleave(k)
    own = owner[None] == torch.arange(rows, device=scores.device)[:, None]
    known = (ids[None] == document_ids[:, :1]) | (ids[None] == query_ids[:, None]) | (query_ids[owner][None] == query_ids[:, None])
    allowed = (ids >= 0)[None] & (own | (in_batch[:, None] & ~known))
    return cross_entropy(scores.masked_fill(~allowed, -torch.inf), torch.arange(rows, device=scores.device) * k)


class PolicyContrastive(nn.Module):
    """`info_nce` as a loss of sentence-transformers.

    Columns are the query, the positive, the negatives; the column `label` holds, a row, the policy (1 in-batch, 0 own negatives only), the
    query's id and the documents' ids.
    """

    def __init__(self, model: SentenceTransformer, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor) -> torch.Tensor:
        queries, *documents = (self.model(features)["sentence_embedding"] for features in sentence_features)
        return info_nce(queries, torch.stack(documents, dim=1), labels[:, 0] == 1, labels[:, 1], labels[:, 2:], self.temperature)
