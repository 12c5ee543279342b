"""What share of a transplant's new rows is proved to be outside the convex hull of the old ones."""

import numpy as np
import torch

from regraft.checkpoint import Checkpoint
from regraft.graft.hull import membership
from regraft.vocab.transplant.transplant import Transplant

SAMPLED = 512  # rows that are asked about where there are more


def share_outside(result: Transplant, checkpoint: Checkpoint, vocab_size: int, sampled: int = SAMPLED) -> float | None:
    """Share of the new rows, or of `sampled` spread among them, that are proved to be outside the hull of the old ones.

    Output biases count where there are any. 0 where weights certify all rows; None where there are no new rows, or where the start also
    changed other layers, cut the tables or made one of them, so that the old rows or hidden states are no longer the old ones.
    """
    if not len(result.new_ids) or result.layers or result.primitives is not None or result.shared:
        return None
    if result.certificate is not None and result.certificate.inside == 1.0:
        return 0.0
    layout = checkpoint.layout
    table = checkpoint.read((layout.head or layout.input)[0])[:vocab_size]
    places = np.unique(np.linspace(0, len(result.new_ids) - 1, sampled).astype(np.int64))
    ids = torch.from_numpy(result.new_ids[places])
    rows = (result.input if result.head is None else result.head)[ids].to(torch.float32)
    if result.bias is not None:
        old_bias = checkpoint.read(layout.bias[0]).reshape(-1)[:vocab_size]
        table, rows = torch.cat([table, old_bias[:, None]], dim=1), torch.cat([rows, result.bias[ids, None].to(torch.float32)], dim=1)
    return float(membership(rows, table, bias=result.bias is not None).outside.mean())
