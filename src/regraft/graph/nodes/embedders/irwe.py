"""Identity and position of a node at once, from random walks, for graphs that were never seen too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from regraft.errors import ParameterError
from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import Fitted, Kinds, NodeEmbedder
from regraft.graph.nodes.features import Shapes, Walked
from regraft.graph.nodes.network import Identity, Position
from regraft.method import Paper
from regraft.progress import progress_bar

CHUNK = 512  # nodes that are embedded at once


@dataclass(frozen=True, eq=False)
class Trained(Fitted):
    """Networks and what training has seen of shapes and degrees."""

    method: "Irwe"
    shapes: Shapes
    networks: nn.ModuleDict

    @torch.no_grad()
    def transform(self, graph: Graph) -> Kinds:
        seen = Seen.of(graph, self.method, self.shapes, self.seed + 1)
        self.networks.eval()
        identity, position = parts(self.networks)
        who = torch.cat([identity(seen.features[rows]) for rows in chunks(graph.size)]) if graph.size else torch.zeros(0, self.method.dim)
        where = torch.cat([position(*seen.tokens(rows, who)) for rows in chunks(graph.size)])
        return {"identity": who.numpy(), "position": where.numpy()}

    def tensors(self) -> dict[str, Tensor]:
        found = {f"network.{name}": value.contiguous() for name, value in self.networks.state_dict().items()}
        return found | {"patterns": torch.from_numpy(self.shapes.patterns), "bounds": torch.from_numpy(self.shapes.bounds)}


@dataclass(frozen=True, eq=False)
class Seen:
    """What the networks are given of a graph.

    Attributes
    ----------
    features : (n, width) shares of shapes, then of degrees. places : (n, dim). walks : (n, read, steps) nodes on some of its walks.
    """

    features: Tensor
    places: Tensor
    walks: Tensor

    @classmethod
    def of(cls, graph: Graph, method: "Irwe", shapes: Shapes, seed: int) -> "Seen":
        walked = Walked.of(graph, method.length, method.walks, seed)
        counts, degrees = walked.counts(shapes), walked.degrees(shapes)
        if method.features == "shapes":
            degrees = np.zeros_like(degrees)
        if method.features == "degrees":
            counts = np.full_like(counts, 1 / counts.shape[1])
        read = walked.walks.reshape(graph.size, method.walks, -1)[:, : method.read]
        parts = (np.concatenate([counts, degrees], 1), walked.places(method.dim, method.projection), read.astype(np.int64))
        return cls(*(torch.from_numpy(np.ascontiguousarray(one)) for one in parts))

    def tokens(self, rows: Tensor, who: Tensor) -> tuple[Tensor, Tensor]:
        """Identity beside place, of `rows`, and of all nodes on their walks; `who` (n, dim) are identities of all nodes."""
        both = torch.cat([who, self.places], 1)
        return both[rows], both[self.walks[rows]]


class Irwe(NodeEmbedder):
    """Identities come from the shapes of a node's walks, positions from where they go; both are learned in turns.

    length : steps of a walk. walks : of each node, for shapes and visits. read : of them the transformer reads. dim : of both vectors.
    bins : of degrees, at quantiles. heads, layers : of attention and of the transformer. alpha : weight of a node's features beside shapes.
    temperature, negatives : of the loss of positions. rounds : of both in turn. identity_steps, position_steps : of Adam in a round.
    batch : edges a step. rate : of Adam. joint : whether the loss of positions teaches identities as well. features : what a node's own
    are: "both", "shapes" of walks or "degrees". projection : seed of the rows that project visits.
    """

    kinds = ("identity", "position")
    inductive = True
    paper = Paper(
        "IRWE: Inductive Random Walk for Joint Inference of Identity and Position Network Embedding", "Qin, Yeung", 2024, arxiv="2401.00651"
    )
    summary = "roles from the shapes of walks, places from where they go"

    length: Annotated[int, Ge(1)] = 5
    walks: Annotated[int, Ge(1)] = 200
    read: Annotated[int, Ge(1)] = 5
    dim: Annotated[int, Ge(2)] = 64
    bins: Annotated[int, Ge(1)] = 20
    heads: Annotated[int, Ge(1)] = 4
    layers: Annotated[int, Ge(1)] = 2
    alpha: Annotated[float, Gt(0)] = 1.0
    temperature: Annotated[float, Gt(0)] = 1.0
    negatives: Annotated[int, Ge(1)] = 5
    rounds: Annotated[int, Ge(1)] = 40
    identity_steps: Annotated[int, Ge(1)] = 5
    position_steps: Annotated[int, Ge(0)] = 5
    batch: Annotated[int, Ge(1)] = 128
    rate: Annotated[float, Gt(0)] = 1e-3
    joint: bool = True
    features: Literal["both", "shapes", "degrees"] = "both"
    projection: int = 0

    def fit(self, graph: Graph, seed: int = 0) -> Trained:
        self.check()
        walked = Walked.of(graph, self.length, self.walks, seed + 1)
        shapes = walked.shapes(self.bins)
        torch.manual_seed(seed)
        trained = Trained(self, seed, shapes, self.networks(shapes))
        Lessons(self, graph, Seen.of(graph, self, shapes, seed + 1), trained.networks, seed).learn()
        return trained

    def check(self) -> None:
        """Raise `ParameterError` for settings that do not fit together."""
        if self.dim % self.heads:
            raise ParameterError(f"irwe: dim={self.dim} is not divided by heads={self.heads}")
        if self.read > self.walks:
            raise ParameterError(f"irwe: read={self.read} of walks={self.walks} walks: read no more than there are")

    def networks(self, shapes: Shapes) -> nn.ModuleDict:
        steps, width = self.length + 1, len(shapes.patterns) + (self.length + 1) * (len(shapes.bounds) + 1)
        identity = Identity(torch.from_numpy(shapes.patterns), width, self.dim, self.heads)
        return nn.ModuleDict({"identity": identity, "position": Position(self.dim, self.heads, self.layers, steps)})

    def restored(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], seed: int) -> Trained:
        shapes = Shapes(tensors["patterns"].numpy(), tensors["bounds"].numpy())
        networks = self.networks(shapes)
        networks.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")})
        return Trained(self, seed, shapes, networks)


class Lessons:
    """Both losses in turn on one graph (section 3.4)."""

    def __init__(self, method: Irwe, graph: Graph, seen: Seen, networks: nn.ModuleDict, seed: int) -> None:
        self.method, self.seen, self.networks = method, seen, networks
        self.draw = np.random.default_rng(seed)
        matrix = graph.adjacency.tocoo()
        self.edges = np.stack([matrix.row, matrix.col]).astype(np.int64)
        share = matrix.data / np.maximum(graph.adjacency.sum(1), 1e-12)[matrix.row]  # p of the edge: 1 / degree of its source
        self.likely = share / share.sum() if len(share) else share
        drawn = np.bincount(self.edges[1], weights=share, minlength=graph.size) ** 0.75
        self.noise = drawn / drawn.sum() if drawn.sum() else drawn

    def learn(self) -> None:
        method = self.method
        identity, position = parts(self.networks)
        roles = torch.optim.Adam(identity.parameters(), lr=method.rate)
        places = torch.optim.Adam((self.networks if method.joint else position).parameters(), lr=method.rate)
        self.networks.train()
        with progress_bar("learning from walks", method.rounds, "rounds") as bar:
            for number in range(method.rounds):
                for rows in self._rows(method.identity_steps):
                    self._step(roles, identity.loss(self.seen.features[rows], method.alpha))
                for _ in range(method.position_steps if self.edges.size else 0):
                    self._step(places, self.position_loss())
                bar.update(number + 1)

    def position_loss(self) -> Tensor:
        """Skip-gram with negatives over drawn edges: near nodes fit each other's context, drawn ones do not."""
        method, (identity, position) = self.method, parts(self.networks)
        chosen = self.draw.choice(self.edges.shape[1], size=method.batch, p=self.likely)
        drawn = self.draw.choice(len(self.noise), size=method.batch * method.negatives, p=self.noise)
        source, target = self.edges[:, chosen]
        nodes, place = np.unique(np.concatenate([source, target, drawn]), return_inverse=True)
        rows = torch.from_numpy(nodes)
        with torch.set_grad_enabled(method.joint):
            who = identity(self.seen.features)
        found = position(*self.seen.tokens(rows, who))
        context = position.context(found)
        at, to, off = torch.split(torch.from_numpy(place), [method.batch, method.batch, len(drawn)])
        near = (found[at] * context[to]).sum(1) / method.temperature
        far = (found[at].repeat_interleave(method.negatives, 0) * context[off]).sum(1) / method.temperature
        return -(logsigmoid(near).sum() + logsigmoid(-far).sum()) / method.batch

    def _rows(self, steps: int) -> Iterator[Tensor]:
        size = len(self.seen.features)
        for _ in range(steps):
            yield torch.from_numpy(self.draw.permutation(size)[: 8 * self.method.batch])

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def parts(networks: nn.ModuleDict) -> tuple[Identity, Position]:
    """Both networks, by their types."""
    identity, position = networks["identity"], networks["position"]
    assert isinstance(identity, Identity)
    assert isinstance(position, Position)
    return identity, position


def chunks(size: int) -> Iterator[Tensor]:
    """Numbers of nodes, some at a time."""
    yield from torch.split(torch.arange(size), CHUNK)
