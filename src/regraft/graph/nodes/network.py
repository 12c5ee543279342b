"""The networks of IRWE: identities from the shapes of walks, positions from the walks themselves.

Sources: the paper, section 3, as far as it could be read; shapes of layers are this library's choice and are settings of the method.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class Identity(nn.Module):
    """An encoder of anonymous walks, and attention of a node's features to them.

    patterns : (shapes, length + 1). features : width of a node's features. dim : of its vector.
    """

    def __init__(self, patterns: Tensor, features: int, dim: int, heads: int) -> None:
        super().__init__()
        self.shapes: Tensor
        steps = patterns.shape[1]
        self.register_buffer("shapes", one_hot(patterns.long(), steps).flatten(1).float(), persistent=False)
        self.encode, self.decode = two_layers(steps * steps, dim, dim), two_layers(dim, dim, steps * steps)
        self.query, self.again = two_layers(features, dim, dim), two_layers(dim, dim, features)
        self.key, self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        """(n, dim) identities of nodes with `features` (n, width), the first columns of which are shares of shapes."""
        codes = self.encode(self.shapes)
        query = self.query(features)
        split = (self.heads, query.shape[1] // self.heads)
        asked = query.unflatten(1, split).transpose(0, 1)  # (heads, n, d)
        keys, values = (layer(codes).unflatten(1, split).transpose(0, 1) for layer in (self.key, self.value))
        often = torch.log(features[:, : len(codes)] + 1e-4)  # what a node walks often it hears more
        weights = torch.softmax(asked @ keys.transpose(1, 2) / math.sqrt(split[1]) + often, dim=2)
        mixed: Tensor = self.out((weights @ values).transpose(0, 1).flatten(1)) + query
        return mixed

    def loss(self, features: Tensor, alpha: float) -> Tensor:
        """Shapes and features come back: mean squared length of what is missing of a shape, and `alpha` times that of a node."""
        shapes = (torch.sigmoid(self.decode(self.encode(self.shapes))) - self.shapes).square().sum(1).mean()
        found: Tensor = shapes + alpha * (self.again(self(features)) - features).square().sum(1).mean()
        return found


class Position(nn.Module):
    """A transformer over the nodes of a walk, and attention over the walks of a node."""

    def __init__(self, dim: int, heads: int, layers: int, steps: int) -> None:
        super().__init__()
        self.token = two_layers(2 * dim, dim, dim)
        self.step = nn.Parameter(torch.randn(steps, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.walk = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.query, self.read = two_layers(2 * dim, dim, dim), nn.MultiheadAttention(dim, heads, batch_first=True)
        self.context = two_layers(dim, dim, dim)

    def forward(self, own: Tensor, tokens: Tensor) -> Tensor:
        """(n, dim) positions. own : (n, 2 dim) identity and place of the nodes. tokens : (n, walks, steps, 2 dim) on their walks."""
        found = self.token(tokens) + self.step
        walked = self.walk(found.flatten(0, 1))[:, 0].unflatten(0, found.shape[:2])
        query = self.query(own).unsqueeze(1)
        read: Tensor = (self.read(query, walked, walked, need_weights=False)[0] + query).squeeze(1)
        return read
