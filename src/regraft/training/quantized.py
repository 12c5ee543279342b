"""Linear layers whose frozen weights are held in NF4, and the way back to full precision.

Enters: a model. Leaves: the same model with its linear layers in NF4 while it trains, its full-precision weights on disk meanwhile. A layer
makes its weight again for each product, forward and backward, and keeps nothing of it: memory follows the codes.
"""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from regraft.errors import OutputError
from regraft.training.nf4 import NF4Weight, dequantize, quantize


class NF4Linear(nn.Linear):
    """``y = x W^T + b`` with W (out, in) frozen in NF4. `dequantized()` gives W; `weight` only its type.

    Gradients flow to x and to nothing else here. peft takes it for a linear layer.
    """

    def __init__(self, weight: torch.Tensor, bias: nn.Parameter | None = None) -> None:
        nn.Module.__init__(self)  # nn.Linear's would draw a full weight first
        self.out_features, self.in_features = weight.shape
        held = quantize(weight)
        self.shape, self.dtype = held.shape, weight.dtype
        self.register_buffer("qweight", held.codes)  # the name by which peft finds a quantized layer's device
        self.register_buffer("scales", held.scales)
        self.register_buffer("tops", held.tops)
        self.register_buffer("offset", held.offset)
        self.bias = bias  # type: ignore[assignment]  # None or a parameter, as in nn.Linear

    @property
    def held(self) -> NF4Weight:
        """The weight as it is kept."""
        return NF4Weight(self.qweight, self.scales, self.tops, self.offset, self.shape)  # type: ignore[arg-type]

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """A stand-in (out, in) with the weight's first dtype and its device, but not its values: NaN, and no update (a merge) can be
        written to it.
        """
        return torch.full((), torch.nan, dtype=self.dtype, device=self.tops.device).expand(self.shape)  # type: ignore[arg-type]

    def dequantized(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weight (out, in) that this layer computes with."""
        return dequantize(self.held, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Products (..., out) of x (..., in), in x's dtype or autocast's."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        product: torch.Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """x W^T, with W made from its codes again on the way back instead of being saved on the way there."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: NF4Linear) -> torch.Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.dequantized(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient @ ctx.layer.dequantized(gradient.dtype), None


@dataclass
class Quantization:
    """Which layers of `model` are held in NF4; `suspend` gives it its full-precision weights back, `resume` takes them away again.

    Attributes
    ----------
    layers : by name, the ordinary layer and the NF4 one that stands in for it.
    error : root mean square of ``W - dequantized(W)`` over all held weights, divided by that of W.
    """

    model: nn.Module
    layers: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    error: float = 0.0
    _folder: Any = None

    @classmethod
    def of(cls, model: nn.Module, spare: Collection[nn.Module]) -> "Quantization":
        """Hold every linear layer of `model` in NF4, but those in `spare` and those that share their weight with another module.

        bitsandbytes' layer is taken where the weights are on a GPU and it is installed, `NF4Linear` elsewhere. The ordinary weights go
        to a temporary directory (set TMPDIR to choose its disk), from where `suspend` reads them.

        Raises `ParameterError` for a weight with NaN or infinity (the model is as it was), `OutputError` if the disk refuses.
        """
        owners: dict[int, int] = {}
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
        quantization = cls(model, _folder=tempfile.TemporaryDirectory(prefix="regraft-"))
        lost = kept = 0.0
        try:
            for name, module in list(model.named_modules()):
                if not is_linear(module) or module in spare or owners[id(module.weight)] > 1:
                    continue
                weight = _matrix(module)
                layer = nf4_layer(weight, getattr(module, "bias", None))
                lost += float((weight.float() - held_weight(layer)).square().sum())
                kept += float(weight.float().square().sum())
                quantization.layers[name] = (module, layer)
                quantization._put_away(name, module)
                quantization._place(name, layer, instead_of=module)
        except BaseException:
            quantization.close()
            raise
        quantization.error = (lost / kept) ** 0.5 if kept else 0.0
        return quantization

    @property
    def parameters(self) -> int:
        """How many weights are held in NF4."""
        return sum(layer.in_features * layer.out_features for _, layer in self.layers.values())

    def suspend(self) -> None:
        """Put the ordinary layers back in the places of the NF4 ones, with the weights they had; the NF4 ones are kept for `resume`."""
        for name, (module, layer) in self.layers.items():
            path = self._path(name)
            if path.exists() and module.weight.numel() == 0:
                weight = load_file(path)["weight"]
                module.weight.data = weight.to(layer_device(layer))
            self._place(name, module, instead_of=layer)

    def resume(self) -> None:
        """Undo `suspend`: what happened to the ordinary weights meanwhile is forgotten."""
        for name, (module, layer) in self.layers.items():
            module.weight.data = torch.empty(0, dtype=module.weight.dtype, device=module.weight.device)
            self._place(name, layer, instead_of=module)

    def close(self) -> None:
        """Full precision for good; the files on disk go."""
        self.suspend()
        self.layers.clear()
        self._folder.cleanup()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.safetensors"

    def _put_away(self, name: str, module: Any) -> None:
        weight = module.weight
        try:
            save_file({"weight": weight.detach().cpu().contiguous()}, self._path(name))
        except Exception as error:  # safetensors has an exception type of its own for a full disk
            raise OutputError(
                f"{self._folder.name}: the full-precision weights cannot be put away ({error}): free space there or set TMPDIR"
            ) from None
        weight.data = torch.empty(0, dtype=weight.dtype, device=weight.device)

    def _place(self, name: str, new: nn.Module, *, instead_of: nn.Module) -> None:
        """Put `new` where `instead_of` is: under its own name, or inside an adapter that has wrapped it since."""
        place = self.model.get_submodule(name)
        if place is not instead_of and place is not new:
            if isinstance(getattr(place, "fan_in_fan_out", None), bool):
                place.fan_in_fan_out = not isinstance(new, nn.Linear)  # type: ignore[assignment]  # which way the weight lies, for merging
            place.base_layer = new
            return
        parent, _, own = name.rpartition(".")
        setattr(self.model.get_submodule(parent), own, new)


def nf4_layer(weight: torch.Tensor, bias: nn.Parameter | None) -> nn.Module:
    """A frozen NF4 layer for `weight` (out, in): bitsandbytes' on a GPU where it is installed, else `NF4Linear`."""
    if weight.device.type != "cuda":
        return NF4Linear(weight, bias)
    try:
        import bitsandbytes
    except ImportError:
        return NF4Linear(weight, bias)
    return bitsandbytes_layer(bitsandbytes, weight, bias)


def bitsandbytes_layer(library: Any, weight: torch.Tensor, bias: nn.Parameter | None) -> nn.Module:
    """The same by `library`, bitsandbytes: its kernels never write the weight out. It computes in the weight's dtype."""
    rows, columns = weight.shape
    layer: nn.Module = library.nn.Linear4bit(
        columns, rows, bias=bias is not None, compute_dtype=weight.dtype, compress_statistics=True, quant_type="nf4", device="meta"
    )
    settings = {"requires_grad": False, "compress_statistics": True, "quant_type": "nf4", "blocksize": 64}
    layer.weight = library.nn.Params4bit(weight.detach().cpu(), **settings)
    layer.bias = bias  # type: ignore[assignment]
    return layer.to(weight.device)  # moving is what quantizes


def held_weight(layer: Any) -> torch.Tensor:
    """The weight (out, in), float32, that an NF4 layer computes with."""
    if isinstance(layer, NF4Linear):
        return layer.dequantized()
    import bitsandbytes

    weight: torch.Tensor = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight.float()


def is_linear(module: nn.Module) -> bool:
    """Whether `module` is a matrix product as `transformers` writes it: `nn.Linear`, or GPT-2's Conv1D with the matrix lying down."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _matrix(module: Any) -> torch.Tensor:
    weight: torch.Tensor = module.weight.detach()
    return weight if isinstance(module, nn.Linear) else weight.T


def layer_device(layer: nn.Module) -> torch.device:
    """Where a layer's numbers are."""
    return next(t.device for t in (*layer.buffers(), *layer.parameters()))
