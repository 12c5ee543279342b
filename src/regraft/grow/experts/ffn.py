"""Feed-forward blocks of a model, found by the names of their parts and never by their shapes.

Enters: any `transformers` model, also one on the meta device. Leaves: one `FeedForward` a block, in the order of the layers: its keys (rows
of the first matrix; of a gated block those of the gate), the second factor of a gated block, and its values.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regraft.errors import CheckpointError, ParameterError

TAKEN = "gated (gate_proj, up_proj, down_proj), T5's, GPT-2's, BERT's, ViT's, BART's, GPT-NeoX's and GPT-J's blocks"


@dataclass(frozen=True)
class Pattern:
    """How an architecture names the parts of a block: paths below the block. `within`, `behind`: its dropouts, before and after the
    values.
    """

    key: str
    value: str
    act: str
    up: str | None = None
    within: str | None = None
    behind: str | None = None


PATTERNS = (
    Pattern("gate_proj", "down_proj", "act_fn", up="up_proj"),
    Pattern("wi_0", "wo", "act", up="wi_1", within="dropout"),
    Pattern("wi", "wo", "act", within="dropout"),
    Pattern("c_fc", "c_proj", "act", behind="dropout"),
    Pattern("intermediate.dense", "output.dense", "intermediate.intermediate_act_fn"),
    Pattern("fc1", "fc2", "activation_fn"),
    Pattern("dense_h_to_4h", "dense_4h_to_h", "act"),
    Pattern("fc_in", "fc_out", "act", behind="dropout"),
)


@dataclass(frozen=True)
class FeedForward:
    """One block, y = sum over neurons j of act(x . K_j + b_j) V_j + c, gated or not.

    Attributes
    ----------
    path : of the block in the model. block : the module there. pattern : the names of its parts.
    """

    path: str
    block: nn.Module
    pattern: Pattern

    def _part(self, name: str | None) -> Any:
        found: Any = None if name is None else self.block
        for step in (name or "").split("."):
            found = getattr(found, step, None) if step else found
        return found

    @property
    def key(self) -> Any:
        return self._part(self.pattern.key)

    @property
    def up(self) -> Any:
        return self._part(self.pattern.up)

    @property
    def value(self) -> Any:
        return self._part(self.pattern.value)

    @property
    def act(self) -> Any:
        return self._part(self.pattern.act)

    @property
    def width(self) -> int:
        """Neurons of the block."""
        return int(rows(self.key).shape[0])

    @property
    def dim(self) -> int:
        """Width of what enters and leaves."""
        return int(rows(self.key).shape[1])

    @property
    def whole(self) -> bool:
        """Whether the block holds nothing but the feed-forward: then its own forward pass can be replaced."""
        own = sum(p.numel() for p in self.block.parameters())
        parts = [part for part in (self.key, self.up, self.value) if part is not None]
        return own == sum(int(p.numel()) for part in parts for p in part.parameters())

    def beside(self, name: str) -> str:
        """The name in the model of something that lies beside the keys."""
        return ".".join(part for part in (self.path, self.pattern.key.rpartition(".")[0], name) if part)

    def neuron_dims(self) -> Iterator[tuple[str, int]]:
        """(name of a parameter of the model, which of its dimensions runs over neurons), of all that belong to neurons."""
        for name, part in ((self.pattern.key, self.key), (self.pattern.up, self.up)):
            if part is not None:
                yield f"{self.path}.{name}.weight", int(_transposed(part))
                yield from _adapters(f"{self.path}.{name}", part, "lora_B", 0)
                if part.bias is not None:
                    yield f"{self.path}.{name}.bias", 0
        yield f"{self.path}.{self.pattern.value}.weight", int(not _transposed(self.value))
        yield from _adapters(f"{self.path}.{self.pattern.value}", self.value, "lora_A", 1)


def _transposed(part: Any) -> bool:
    """Whether a linear map stores (in, out), as GPT-2's Conv1D does, where `nn.Linear` has (out, in)."""
    return type(getattr(part, "base_layer", part)).__name__ == "Conv1D"


def _adapters(path: str, part: nn.Module, factor: str, dim: int) -> Iterator[tuple[str, int]]:
    """The factors of LoRA on `part` that run over neurons: the second of what leaves to them, the first of what comes from them."""
    for name, _ in part.named_parameters():
        if name.startswith(f"{factor}."):
            yield f"{path}.{name}", dim


def rows(part: Any) -> torch.Tensor:
    """The matrix of a linear map as (out, in), a view."""
    return oriented(part, part.weight)


def oriented(part: Any, weight: torch.Tensor) -> torch.Tensor:
    """`weight`, stored as the linear map `part` stores its own, as (out, in)."""
    return weight.t() if _transposed(part) else weight


def find(model: nn.Module) -> list[FeedForward]:
    """Every feed-forward block of `model`, first layer first.

    Raises `CheckpointError` for a model that is a mixture of experts already, and for an architecture whose blocks have other names.
    """
    config = getattr(model, "config", None)
    if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise CheckpointError(f"{type(model).__name__}: is a mixture of experts already: take its dense model")
    found = []
    for path, module in model.named_modules():
        for pattern in PATTERNS:
            one = FeedForward(path, module, pattern)
            if _linear(one.key) and _linear(one.value) and (pattern.up is None or _linear(one.up)) and one.act is not None:
                found.append(one)
                break
    if not found:
        raise CheckpointError(f"{type(model).__name__}: no feed-forward block found that can be split: {TAKEN} can")
    return found


def _linear(part: Any) -> bool:
    weight = getattr(part, "weight", None)
    return isinstance(part, nn.Module) and isinstance(weight, torch.Tensor) and weight.ndim == 2 and not isinstance(part, nn.Embedding)


def choose(blocks: Sequence[FeedForward], layers: str, auto: Iterable[int]) -> list[int]:
    """Places of blocks: "auto" (those in `auto`), "all", or numbers with commas between, from 0. Raises `ParameterError`."""
    if layers in ("auto", "all"):
        return sorted(auto) if layers == "auto" else list(range(len(blocks)))
    try:
        wanted = sorted({int(one) for one in layers.split(",")})
    except ValueError:
        raise ParameterError(f"layers={layers}: write auto, all or numbers with commas between, such as 2,4") from None
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(blocks):
        raise ParameterError(f"layers={layers}: this model has layers 0 to {len(blocks) - 1}")
    return wanted


def check_divides(block: FeedForward, experts: int, top_k: int) -> None:
    """Raise `ParameterError`, with the nearest numbers that do, unless `experts` divide the block's neurons and `top_k` fits."""
    width = block.width
    if width % experts:
        valid = [n for n in range(2, width + 1) if width % n == 0]
        near = sorted(sorted(valid, key=lambda n: abs(n - experts))[:3])
        raise ParameterError(f"experts={experts} do not divide the {width} neurons of {block.path}: take {', '.join(map(str, near))}")
    if top_k > experts:
        raise ParameterError(f"top_k={top_k} of {experts} experts: take 1 to {experts}")
