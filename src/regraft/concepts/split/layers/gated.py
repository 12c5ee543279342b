r"""Linear layers as sums of rank-one components, some of which act on some examples only.

.. math:: W(c) = U \,\mathrm{diag}(g(c) \odot \sigma)\, V^\top

Enters: any `nn.Module` and patterns of names. Leaves: the same module with `GatedLinear` in the place of `nn.Linear`, and one `Gate` that
all of them read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from regraft.concepts.split.layers.partition import Partition
from regraft.errors import ParameterError

PATTERNS = ("*.attn*.to_q", "*.attn*.to_k", "*.attn*.to_v", "*.attn*.to_out.0", "*.ff.net.0.proj", "*.ff.net.2")  # of a diffusers DiT


class Gate:
    """What lets tailors through, one for all layers of a model.

    Attributes
    ----------
    partition : of the components. values : (B, tailors) or None, where all act. block : the only tailors that act, on the whole batch.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.held = False
        self.open()

    def open(self) -> None:
        """All components act on all examples."""
        self.values: Tensor | None = None
        self.block: slice | None = None

    def choose(self, *labels: Tensor) -> None:
        """By labels (B,), one tensor a family. A batch of one class multiplies that class's components alone."""
        known = [set(given.tolist()) for given in labels]
        if len(labels) == 1 and len(known[0]) == 1:
            self.values, self.block = None, self.partition.block(known[0].pop())
        else:
            self.values, self.block = self.partition.onehot(*labels), None

    @contextmanager
    def set(self, values: Tensor) -> Iterator[None]:
        """By weights (B, tailors), for what runs inside: soft gates (`Partition.soft`), or labels of a model that has none itself."""
        if values.ndim != 2 or values.shape[1] != self.partition.tailors:
            raise ParameterError(f"a gate of shape {tuple(values.shape)}: give (B, {self.partition.tailors})")
        before = self.values, self.block, self.held
        self.values, self.block, self.held = values, None, True
        try:
            yield
        finally:
            self.values, self.block, self.held = before

    def acted(self) -> Tensor | None:
        """(tailors,) which of them let through anything of the last batch; None: all."""
        if self.block is not None:
            found = torch.zeros(self.partition.tailors, dtype=torch.bool)
            found[self.block] = True
            return found
        return None if self.values is None else (self.values != 0).any(0)


class Components(nn.Module):
    """k rank-one matrices of (m, n): `U` (m, k), `S` (k,), `V` (n, k)."""

    def __init__(self, m: int, n: int, k: int) -> None:
        super().__init__()
        self.U, self.S, self.V = nn.Parameter(torch.zeros(m, k)), nn.Parameter(torch.zeros(k)), nn.Parameter(torch.zeros(n, k))

    @torch.no_grad()
    def fill(self, U: Tensor, S: Tensor, V: Tensor) -> None:
        self.U.copy_(U)
        self.S.copy_(S)
        self.V.copy_(V)


class GatedLinear(nn.Module):
    """`nn.Linear` of (m, n) by components; the bias is everybody's. Called with (B, ..., n), gives (B, ..., m)."""

    def __init__(self, m: int, n: int, gate: Gate, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.gate = n, m, gate
        self.learngenes = Components(m, n, gate.partition.learngenes)
        self.tailors = Components(m, n, gate.partition.tailors)
        self.bias = nn.Parameter(torch.zeros(m)) if bias else None

    def factors(self, block: slice | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """U (m, k), S (k,), V (n, k): learngenes, and `block` of the tailors (all)."""
        shared, own = self.learngenes, self.tailors
        block = slice(None) if block is None else block
        return (
            torch.cat([shared.U, own.U[:, block]], 1),
            torch.cat([shared.S, own.S[block]]),
            torch.cat([shared.V, own.V[:, block]], 1),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        U, S, V = self.factors(self.gate.block)
        values = self.gate.values
        if values is not None:
            if len(values) != len(hidden_states):
                raise ParameterError(f"a gate of {len(values)} examples for a batch of {len(hidden_states)}")
            ones = values.new_ones(len(values), self.gate.partition.learngenes)
            S = S * torch.cat([ones, values.to(S)], 1)
            S = S.reshape(len(S), *[1] * (hidden_states.ndim - 2), -1)
        return linear((hidden_states @ V) * S, U, self.bias)

    @torch.no_grad()
    def weight(self, block: slice | None = None) -> Tensor:
        """(m, n) dense matrix of the learngenes and `block` of the tailors (all)."""
        U, S, V = self.factors(block)
        return (U * S) @ V.T

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def matching(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Linear]:
    """`nn.Linear` modules by name that any of `patterns` (as of files) fits. Raises `ParameterError` for a model that has none."""
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(fnmatchcase(name, one) for one in patterns)
    }
    if not found:
        raise ParameterError(f"{type(model).__name__} has no linear layer called {' or '.join(patterns)}: give --patterns of its names")
    return found


def factorise(model: nn.Module, partition: Partition, patterns: Sequence[str] = PATTERNS, *, shuffled: bool = True, seed: int = 0) -> Gate:
    """Put components in the place of the weights of `model` that `patterns` name: their singular value decomposition.

    Of random weights this is a start for training, of trained ones a start from what is known. `shuffled` : components change places before
    they are divided, so that learngenes do not get the large singular values alone (inferred; False keeps them in order). With as many
    components as the matrices have, and an open gate, the model computes what it did.

    Raises `ParameterError`: no layer fits, or matrices with fewer components than `partition` asks for.
    """
    layers = matching(model, patterns)
    for one in layers.values():
        partition.check_fits(min(one.weight.shape))
    gate, generator = Gate(partition), torch.Generator().manual_seed(seed)
    for name, layer in layers.items():
        placed = _placed(model, name, layer, gate)
        fill(placed, layer.weight.detach(), generator if shuffled else None)
    return gate


def hollow(model: nn.Module, partition: Partition, patterns: Sequence[str]) -> Gate:
    """The same without values, to load them into."""
    gate = Gate(partition)
    for name, layer in matching(model, patterns).items():
        _placed(model, name, layer, gate)
    return gate


def gated(model: nn.Module) -> dict[str, GatedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, GatedLinear)}


def _placed(model: nn.Module, name: str, layer: nn.Linear, gate: Gate) -> GatedLinear:
    new = GatedLinear(layer.out_features, layer.in_features, gate, bias=layer.bias is not None)
    if layer.bias is not None:
        new.bias = layer.bias
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new.to(layer.weight))
    return new


@torch.no_grad()
def fill(layer: GatedLinear, weight: Tensor, generator: torch.Generator | None) -> None:
    """Give `layer` the largest components of `weight` (m, n), in an order by chance where there is a `generator`."""
    U, S, Vh = torch.linalg.svd(weight.float(), full_matrices=False)
    rank, first = layer.gate.partition.rank, layer.gate.partition.learngenes
    order = torch.arange(rank) if generator is None else torch.randperm(rank, generator=generator)
    U, S, V = U[:, order], S[order], Vh.T[:, order]
    layer.learngenes.fill(U[:, :first], S[:first], V[:, :first])
    layer.tailors.fill(U[:, first:], S[first:], V[:, first:])


@torch.no_grad()
def decay(layers: Sequence[GatedLinear], amount: float) -> None:
    """Shrink components that acted on the last batch by `amount`: those that did not get no gradient, and no decay either."""
    for layer in layers:
        acted = layer.gate.acted()
        for part, mask in ((layer.learngenes, None), (layer.tailors, acted)):
            for parameter in (part.U, part.S, part.V):
                if parameter.requires_grad and parameter.numel():
                    keep: Any = 1 - amount if mask is None else 1 - amount * mask.to(parameter)
                    parameter.mul_(keep)


class SoftGate(nn.Module):
    r"""A gate that is learned: weights of all tailors, which sum to 1, from an embedding of the condition (DivControl, section 3).

    .. math:: \alpha = \mathrm{softmax}(\mathrm{MLP}(e))

    `by` : a weight for each "component" or for each "block". Called with (B, d), gives (B, tailors), for `Gate.set`.
    """

    def __init__(self, dim: int, partition: Partition, hidden: int = 256, by: str = "component") -> None:
        super().__init__()
        self.partition = partition
        sizes = [blocks * size if by == "component" else blocks for blocks, size in partition.families]
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, size)) for size in sizes)

    def forward(self, *conditions: Tensor) -> Tensor:
        """Embeddings (B, d), one tensor a family of tailors."""
        return self.partition.soft(*(head(one).softmax(-1) for head, one in zip(self.heads, conditions, strict=True)))
