"""From a model to its graph: one forward pass recorded by `torch.export`, its operations read in order.

Enters: an untrained `nn.Module`, on the meta device or not, and the inputs of one call. Leaves: a `Graph`. What an operation does is read
from the operation itself, never from names of modules: a factor behind a reciprocal root is an RMSNorm's, cosine and sine make rotary
positions, a row that is concatenated is a class token. Nodes that join nothing new are dropped: both sides of GELU's own formula come from
the same place.
"""

import itertools
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.errors import CheckpointError
from regraft.grow.predict.fusion import fused
from regraft.grow.predict.graph import Graph, Node, Role, Slot

SUMS = {"add", "add_", "sub", "sub_", "rsub"}
PRODUCTS = {"mul", "mul_"}
JOINS = {"cat", "concat", "concatenate", "stack"}
ATTENTION = {"scaled_dot_product_attention", "softmax", "_softmax"}
MATRIX_PRODUCTS = {"matmul", "mm", "bmm"}
CONVOLUTIONS = {"conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
NORMS = {"layer_norm": "ln", "native_layer_norm": "ln", "group_norm": "ln", "batch_norm": "bn", "rms_norm": "rmsnorm"}
POOLS = {
    "max_pool1d": "max_pool", "max_pool2d": "max_pool", "avg_pool1d": "avg_pool", "avg_pool2d": "avg_pool",
    "adaptive_avg_pool1d": "glob_avg", "adaptive_avg_pool2d": "glob_avg",
}  # fmt: skip
LOOKUPS = {"embedding", "index", "index_select"}
REMEMBERED = {"rsqrt", "sigmoid", "hardsigmoid", "cos", "sin"}
LIKE_ANOTHER = {"type_as", "expand_as", "view_as", "reshape_as", "to"}  # the second input only lends its type or shape
FRESH = {"zeros_like", "ones_like", "full_like", "empty_like", "new_ones", "new_zeros", "new_full"}
SWAPS = {"t", "transpose", "permute", "numpy_T"}


@dataclass(frozen=True)
class Parameter:
    """A parameter on its way to the operation that uses it."""

    name: str
    transposed: bool = False
    offset: float = 0.0


@dataclass(frozen=True)
class Value:
    """What an operation gave: the nodes that it comes from, and operations since them that say what the next one is."""

    nodes: frozenset[int] = field(default_factory=frozenset)
    since: frozenset[str] = field(default_factory=frozenset)


def trace(model: nn.Module, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Graph:
    """The graph of `model` in evaluation mode on the inputs `args` and `kwargs`.

    Raises `CheckpointError` where the model cannot be traced, naming the operation.
    """
    was_training = model.training
    try:
        with torch.no_grad():
            program = torch.export.export(model.eval(), args, dict(kwargs or {}))
    except Exception as error:  # torch.export reports through many types
        raise CheckpointError(f"{type(model).__name__}: its graph cannot be traced: {_why(error)}") from None
    finally:
        model.train(was_training)
    owners = first_names(model)
    signature = program.graph_signature
    parameters = {placeholder: owners[name] for placeholder, name in signature.inputs_to_parameters.items()}
    reader = _Reader(parameters, frozenset(signature.inputs_to_buffers) | frozenset(signature.inputs_to_lifted_tensor_constants))
    for node in program.graph.nodes:
        reader.read(node)
    return fused(reader.graph())


def first_names(model: nn.Module) -> dict[str, str]:
    """Every parameter's name -> the first name of the same parameter: tied ones have several."""
    found: dict[int, str] = {}
    return {name: found.setdefault(id(one), name) for name, one in model.named_parameters(remove_duplicate=False)}


class _Reader:
    """Reads operations one by one; `values` is what each gave."""

    def __init__(self, parameters: Mapping[str, str], constants: frozenset[str]) -> None:
        self.parameters, self.constants = parameters, constants
        self.values: dict[Any, Parameter | Value] = {}
        self.nodes: list[Node] = [Node("input")]
        self.edges: dict[tuple[int, int], None] = {}  # in order
        self.rotary: set[int] = set()
        self.tokens: set[str] = set()
        self.owned: set[str] = set()

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), tuple(self.edges), frozenset(self.tokens - self.owned))

    def read(self, node: Any) -> None:
        if node.op == "placeholder":
            name = self.parameters.get(node.name)
            inputs = frozenset() if node.name in self.constants else frozenset({0})
            self.values[node] = Value(inputs) if name is None else Parameter(name)
        elif node.op == "call_function":
            self.values[node] = self._called(node, _name(node.target))

    def _called(self, node: Any, name: str) -> Parameter | Value:
        if name in FRESH:
            return Value()
        given = [self.values[one] for one in node.all_input_nodes[: 1 if name in LIKE_ANOTHER else None]]
        parameters = [one for one in given if isinstance(one, Parameter)]
        flowing = [one for one in given if isinstance(one, Value)]
        if parameters:
            used = self._used(node, name, parameters, flowing)
            if used is not None:
                return used
        if name in ATTENTION:
            return self._add(Node("msa"), flowing)
        if name in POOLS or (name == "mean" and not _over_channels(node)):
            return self._add(Node(POOLS.get(name, "glob_avg")), flowing)
        if name in ("cos", "sin") and not _met(flowing).nodes:
            return self._rotated()
        if name in SUMS | PRODUCTS | JOINS:
            return self._met_in(name, flowing)
        met = _met(flowing)
        return replace(met, since=met.since | ({name} & REMEMBERED))

    def _used(self, node: Any, name: str, parameters: list[Parameter], flowing: list[Value]) -> Parameter | Value | None:
        """What an operation that reads parameters gives; None where it is one of those that need no more than their inputs."""
        at = [self.values.get(one) if isinstance(one, torch.fx.Node) else one for one in node.args]
        if name in ("linear", "addmm") or (name in MATRIX_PRODUCTS and flowing):
            return self._dense(name, at)
        if name in CONVOLUTIONS:
            return self._convolution(node, name, at)
        if name in NORMS:
            return self._owner(
                NORMS[name], [("scale", one) if place == 0 else ("bias", one) for place, one in enumerate(parameters)], flowing
            )
        if name in LOOKUPS and isinstance(at[0], Parameter):
            return self._owner("pos_enc", [("table", at[0])], flowing)
        if not flowing and len(parameters) == 1:
            return _on_its_way(node, name, parameters[0])
        if name in SUMS and len(parameters) == 1:
            grid = len(node.args[at.index(parameters[0])].meta["val"].shape) > 2
            return self._owner("pos_enc" if grid else "bias", [("grid" if grid else "bias", parameters[0])], flowing)
        if name in PRODUCTS and len(parameters) == 1:
            norm = "rsqrt" in _met(flowing).since
            return self._owner("rmsnorm" if norm else "cse", [("scale" if norm else "vector", parameters[0])], flowing)
        if name in JOINS:
            self.tokens |= {one.name for one in parameters}
        return None

    def _dense(self, name: str, at: list[Any]) -> Value | None:
        """``x W^T + b`` (linear) or ``b + x W`` (addmm, matmul): a node of the weight, then one of the bias."""
        bias, x, weight = at[:3] if name == "addmm" else (at[2] if len(at) > 2 else None, *at[:2])
        if not isinstance(weight, Parameter):
            return None
        if name != "linear":
            weight = replace(weight, transposed=not weight.transposed)
        return self._biased(self._owner("conv", [("weight", weight)], [one for one in (x,) if isinstance(one, Value)]), bias)

    def _convolution(self, node: Any, name: str, at: list[Any]) -> Value | None:
        x, weight, bias = (*at, None)[:3] if len(at) > 1 else (*at, None, None)
        if not isinstance(weight, Parameter):
            return None
        weight = replace(weight, transposed=weight.transposed or "transpose" in name)
        numbers = dict(zip(("stride", "padding", "dilation", "groups"), node.args[3:7], strict=False))
        dilation = numbers.get("dilation", 1)
        dilated = any(one > 1 for one in (dilation if isinstance(dilation, Sequence) else [dilation]) if isinstance(one, int))
        operation = "dil_conv" if dilated else "sep_conv" if numbers.get("groups", 1) not in (1,) else "conv"
        return self._biased(self._owner(operation, [("weight", weight)], [one for one in (x,) if isinstance(one, Value)]), bias)

    def _biased(self, value: Value, bias: Any) -> Value:
        return self._owner("bias", [("bias", bias)], [value]) if isinstance(bias, Parameter) else value

    def _owner(self, operation: str, parameters: Iterable[tuple[Role, Parameter]], flowing: list[Value]) -> Value:
        """A node of parameters. One that another node owns already, as a tied head's, only lends its shape."""
        slots = [Slot(one.name, role, one.transposed, one.offset) for role, one in parameters]
        new = tuple(slot for slot in slots if slot.name not in self.owned)
        self.owned |= {slot.name for slot in new}
        return self._add(Node(operation, new, None if new else slots[0]), flowing)

    def _add(self, node: Node, flowing: list[Value]) -> Value:
        number = len(self.nodes)
        self.nodes.append(node)
        for before in sorted(_met(flowing).nodes) or [0]:  # what comes from nothing but constants starts at the input
            self.edges[before, number] = None
        return Value(frozenset({number}))

    def _rotated(self) -> Value:
        """The node of rotary positions: one for cosine and sine together, and for all layers that share them."""
        if not self.rotary:
            self.rotary |= self._add(Node("rot_emb"), []).nodes
        return Value(frozenset(self.rotary))

    def _met_in(self, name: str, flowing: list[Value]) -> Value:
        sources = {one.nodes for one in flowing if one.nodes}
        met = _met(flowing)
        if len(sources) < 2 or any(nodes <= self.rotary for nodes in sources) or (name in PRODUCTS and "rsqrt" in met.since):
            return met
        if name in PRODUCTS:
            return self._add(Node("cse" if "sigmoid" in met.since or "hardsigmoid" in met.since else "gate"), flowing)
        return self._add(Node("sum" if name in SUMS else "concat"), flowing)


def _met(values: Iterable[Value]) -> Value:
    values = list(values)
    return Value(
        frozenset(itertools.chain.from_iterable(one.nodes for one in values)),
        frozenset(itertools.chain.from_iterable(one.since for one in values)),
    )


def _on_its_way(node: Any, name: str, one: Parameter) -> Parameter:
    """A parameter that is viewed, cast or shifted, and not used yet."""
    if name in SWAPS and len(node.meta["val"].shape) == 2:
        return replace(one, transposed=not one.transposed)
    if name in SUMS:
        return replace(one, offset=one.offset + sum(a for a in node.args if isinstance(a, int | float)))
    return one


def _over_channels(node: Any) -> bool:
    """Whether a mean is over the last dimension alone, as in a norm."""
    last = len(node.args[0].meta["val"].shape) - 1
    return len(node.args) > 1 and list(node.args[1]) in ([-1], [last])


def _name(target: Any) -> str:
    packet = getattr(target, "overloadpacket", None)
    return str(getattr(packet, "__name__", getattr(target, "__name__", target)))


def _why(error: Exception) -> str:
    """The line of the model that failed, and why."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "torch" not in Path(one.filename).parts]
    where = next((one for one in reversed(frames) if one.line and one.name != trace.__name__), None)
    return f"{reason}" if where is None else f"{where.line.strip() if where.line else ''} ({Path(where.filename).name}): {reason}"
