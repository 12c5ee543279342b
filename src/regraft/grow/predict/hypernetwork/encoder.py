"""The encoder of GHN-3: a Graphormer over the nodes of a target (section 2.3).

Enters: a `Batch`. Leaves: one vector a node. Distances between nodes, both ways, are embedded and become a bias on attention once, for the
first layer; later layers use the same bias. Only the pairs of distances that occur are embedded, not every pair of nodes.
"""

import math

import torch
from torch import nn
from torch.nn.functional import softmax

from regraft.grow.predict.graph import FARTHEST, OPERATIONS
from regraft.grow.predict.hypernetwork.features import MOST_EDGES, SPATIAL, Batch, channels

EDGE_VALUES = 257
PADDED = -(2.0**15)
SIZES = 0.05  # deviation of what sizes are embedded as: small, so that models of all widths start alike, those never seen among them


class Encoder(nn.Module):
    """`L` pre-norm layers of width `d` with `H` heads; `layer_norm` adds a last norm. Returns (m, n, d)."""

    def __init__(self, d: int, L: int, H: int, *, classes: tuple[int, ...] = (), layer_norm: bool = True) -> None:
        super().__init__()
        sizes = len(channels(classes)) + 1
        self.operation = nn.Embedding(len(OPERATIONS), d)
        self.channels_out, self.channels_in = nn.Embedding(sizes, d // 4), nn.Embedding(sizes, d // 4)
        self.height, self.width = nn.Embedding(len(SPATIAL) + 1, d // 4), nn.Embedding(len(SPATIAL) + 1, d // 4)
        self.arrive, self.leave = nn.Embedding(MOST_EDGES + 1, d), nn.Embedding(MOST_EDGES + 1, d)
        self.depth = nn.Embedding(FARTHEST + 1, d)
        self.edge = nn.Embedding(EDGE_VALUES, d, padding_idx=0, _weight=sinusoids(EDGE_VALUES, d))
        self.edge_bias = nn.Sequential(nn.Linear(2 * d, d), nn.ReLU(), nn.Linear(d, H))
        self.layers = nn.ModuleList(Layer(d, H) for _ in range(L))
        self.norm = nn.LayerNorm(d) if layer_norm else nn.Identity()
        for table in (self.operation, self.depth):  # what tells nodes of one model apart
            nn.init.normal_(table.weight)
        for table in (self.channels_out, self.channels_in, self.height, self.width, self.arrive, self.leave):
            nn.init.normal_(table.weight, std=SIZES)

    def forward(self, batch: Batch) -> torch.Tensor:
        tables = (self.channels_out, self.channels_in, self.height, self.width)
        x = self.operation(batch.operation) + torch.cat([table(batch.shape[..., i]) for i, table in enumerate(tables)], dim=-1)
        x = x + self.arrive(batch.arrive) + self.leave(batch.leave) + self.depth(batch.depth)
        bias = self.edge_bias(self.edge(batch.values).flatten(1))[batch.pairs]  # (m, n, n, H)
        bias = bias.movedim(-1, 1).masked_fill(~batch.mask[:, None, None, :], PADDED)
        for layer in self.layers:
            x = layer(x, bias)
        out: torch.Tensor = self.norm(x)
        return out


class Layer(nn.Module):
    """Attention with a bias on its logits, then a perceptron of four times the width; both after a norm and added to what came in."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        m, n, d = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(m, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = softmax(q @ k.mT * (d // self.heads) ** -0.5 + bias, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(m, n, d))
        out: torch.Tensor = x + self.mlp(self.norm_mlp(x))
        return out


def sinusoids(rows: int, d: int) -> torch.Tensor:
    """(rows, d) sines and cosines of geometric periods, row 0 zero."""
    place = torch.arange(rows)[:, None] * torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
    table = torch.stack([place.sin(), place.cos()], dim=-1).flatten(1)[:, :d]
    table[0] = 0
    return table
