"""How much of a model trains, in numbers and in memory.

Enters: a model and what trains in it. Leaves: a `Footprint`. Activations are not counted: they follow the batch, not the choice of what
trains.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from regraft.training.quantized import Quantization

MOMENTS = 2  # AdamW keeps a mean and a mean square for each trained number


@dataclass(frozen=True)
class Footprint:
    """Numbers and bytes while training.

    Attributes
    ----------
    trained, total : numbers that train, and all there are, adapters included; a weight held in NF4 counts as the number it stands for.
    trained_bytes : of the trained numbers, their gradients and AdamW's two moments.
    frozen_bytes : of everything else.
    full_bytes : what training every number of the model in its own dtype would take: weights, gradients and moments, no adapters.
    quantized, quantized_bytes : numbers held in NF4, and the bytes that hold them.
    quantization_error : root mean square of what quantization took off those weights, over that of the weights.
    """

    trained: int
    total: int
    trained_bytes: int
    frozen_bytes: int
    full_bytes: int
    quantized: int = 0
    quantized_bytes: int = 0
    quantization_error: float = 0.0

    @property
    def share(self) -> float:
        """Trained numbers / all numbers, adapters included on both sides."""
        return self.trained / self.total

    @property
    def memory_share(self) -> float:
        """Bytes of what trains / all bytes."""
        return self.trained_bytes / (self.trained_bytes + self.frozen_bytes)

    @property
    def bits_per_quantized(self) -> float:
        """Bits a quantized number takes; 0 without any."""
        return 8 * self.quantized_bytes / self.quantized if self.quantized else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """Lines of a table."""
        lines = {
            "numbers that train": f"{self.trained:,} of {self.total:,} ({self.share:.2%})",
            "memory of what trains (values, gradients, moments)": f"{self.trained_bytes / 2**20:,.1f} MiB ({self.memory_share:.1%} of all)",
            "memory of what is frozen": f"{self.frozen_bytes / 2**20:,.1f} MiB",
            "memory if all of it trained": f"{self.full_bytes / 2**20:,.1f} MiB",
        }
        if self.quantized:
            lines["held in NF4"] = f"{self.quantized:,} numbers, {self.bits_per_quantized:.3f} bits each"
            lines["what NF4 took off them (relative root mean square)"] = f"{self.quantization_error:.2%}"
        return [{"what": what, "value": value} for what, value in lines.items()]


def full_training(model: nn.Module) -> tuple[int, int]:
    """Numbers of `model`, and the bytes that training all of them takes. Asked before anything is quantized or adapted."""
    return sum(p.numel() for p in model.parameters()), (2 + MOMENTS) * _bytes(model.parameters())


def footprint(
    model: nn.Module, trained: Mapping[str, nn.Parameter], full: tuple[int, int], quantization: Quantization | None = None
) -> Footprint:
    """The footprint of `model` as it stands ready to train `trained`; `full` is what `full_training` said of it before."""
    layers = [] if quantization is None else [layer for _, layer in quantization.layers.values()]
    held = [t for layer in layers for t in held_tensors(layer)]
    counted = {id(t) for t in (*trained.values(), *held)}
    rest = [t for t in (*model.parameters(), *model.buffers()) if id(t) not in counted]
    return Footprint(
        trained=sum(p.numel() for p in trained.values()),
        total=full[0] + sum(p.numel() for name, p in trained.items() if "lora_" in name),
        trained_bytes=(2 + MOMENTS) * _bytes(trained.values()),
        frozen_bytes=_bytes([*held, *rest]),
        full_bytes=full[1],
        quantized=0 if quantization is None else quantization.parameters,
        quantized_bytes=_bytes(held),
        quantization_error=0.0 if quantization is None else quantization.error,
    )


def held_tensors(layer: nn.Module) -> list[Tensor]:
    """What holds the weight of a layer in NF4: our buffers, or bitsandbytes' packed parameter and its state."""
    state = getattr(getattr(layer, "weight", None), "quant_state", None)
    if state is None:
        return list(layer.buffers())  # a bias belongs to the ordinary layer
    return [layer.weight, state.absmax, state.offset, state.state2.absmax]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
