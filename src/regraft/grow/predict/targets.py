"""Targets: models that weights are predicted for, built on the meta device, and what of them is not predicted.

Enters: a `transformers` config (a YAML or JSON file of its fields, a directory with config.json, or a mapping). Leaves: the model without
weights, its graph, and fresh values of any of its tensors by the library's own initialization, one module at a time.
"""

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from torch import nn

from regraft.checkpoint.architecture import Architecture, load_config, text_config
from regraft.errors import CheckpointError
from regraft.grow.predict.graph import Graph, Shape
from regraft.grow.predict.hypernetwork.fitting import token_rows
from regraft.grow.predict.trace import first_names, trace
from regraft.language.loading import quiet

PROBE = 8  # tokens of the sentence that a language model is traced on
AUTO = ("AutoModelForCausalLM", "AutoModelForImageClassification", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModel")


@dataclass(frozen=True)
class Given:
    """Where a target was described; a `provenance.Source`."""

    root: Path
    digest: str
    id: str | None = None
    revision: str | None = None

    def source_hash(self) -> str:
        return self.digest


class Target:
    """A model on the meta device.

    Attributes
    ----------
    config : its `transformers` config. model : the module, without weights; `name` : what messages call it.
    """

    def __init__(self, config: Any, name: str = "") -> None:
        self.config, self.name = config, name or config.model_type
        with quiet():
            self.model = build(config, self.name)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every parameter by its first name."""
        return {name: tuple(one.shape) for name, one in self.model.named_parameters()}

    @cached_property
    def tied(self) -> dict[str, str]:
        """Further names of parameters -> the first."""
        return {name: first for name, first in first_names(self.model).items() if name != first}

    @cached_property
    def graph(self) -> Graph:
        """Traced on a blank input. Raises `CheckpointError` where it cannot be."""
        with quiet():
            return trace(self.model, (), blank_inputs(self.model))

    @property
    def parameters(self) -> int:
        return sum(one.numel() for one in self.model.parameters())

    @property
    def vocab_size(self) -> int:
        """0 for a model without a vocabulary."""
        return int(getattr(text_config(self.config), "vocab_size", 0) or 0)

    @property
    def initializer_range(self) -> float:
        return float(getattr(text_config(self.config), "initializer_range", None) or 0.02)

    @cached_property
    def kept_buffers(self) -> dict[str, Shape]:
        """Buffers that a checkpoint holds."""
        return {
            name: tuple(one.shape) for name, one in self.model.state_dict().items() if name not in self.shapes and name not in self.tied
        }

    def fresh(self, names: set[str], seed: int) -> dict[str, torch.Tensor]:
        """Values of the tensors `names` (of one module or of several) by the model's own initialization; class tokens are `token_rows`."""
        found: dict[str, torch.Tensor] = {}
        with torch.random.fork_rng(), torch.no_grad():
            for owner in sorted({name.rpartition(".")[0] for name in names}):
                torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {owner}".encode()).digest()[:8], "little"))
                values = initialized(self.model, self.model.get_submodule(owner))
                found |= {full: one for local, one in values.items() if (full := f"{owner}.{local}".lstrip(".")) in names}
            for name in sorted(names & self.graph.tokens):
                found[name] = token_rows(name, math.prod(self.shapes[name][:-1]), self.shapes[name][-1]).view(self.shapes[name])
        return found

    def with_buffers(self) -> nn.Module:
        """The module with every buffer in memory, for a forward pass with given parameters."""
        wanted = {name for name, one in self.model.named_buffers() if one.is_meta}
        for name, value in self.fresh(wanted, 0).items():
            owner, _, local = name.rpartition(".")
            self.model.get_submodule(owner)._buffers[local] = value
        model: nn.Module = self.model
        return model


def read_config(source: str | Path) -> tuple[Any, Given]:
    """The config of a target, and where it came from. Raises `CheckpointError` in one line: what, where, what to do."""
    path = Path(source)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        what = "has no config.json" if path.is_dir() else "no such file or directory"
        raise CheckpointError(f"{path}: {what}: give a YAML or JSON file of config fields with model_type, or a directory with config.json")
    text = file.read_bytes()
    try:
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{file}: not YAML or JSON ({reason})") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{file}: holds no fields: write `model_type: vit` and what differs from its defaults")
    root = path if path.is_dir() else path.parent
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return (load_config(path, fields) if path.is_dir() else config_of(fields, str(file))), Given(root.resolve(), digest)


def config_of(fields: Mapping[str, Any], where: str = "config") -> Any:
    """A `transformers` config from its fields. Raises `CheckpointError`: an unknown model_type or field, a value that it refuses."""
    left = dict(fields)
    kind = left.pop("model_type", None)
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        said = (
            "names no model_type" if kind is None else f"model_type {kind!r} is not one that transformers {transformers.__version__} knows"
        )
        raise CheckpointError(f"{where}: {said}: write `model_type: vit`, gpt2, llama, ...")
    if (classes := left.get("num_labels")) is not None and (type(classes) is not int or classes < 1):
        raise CheckpointError(f"{where}: num_labels: {classes}: how many classes there are, 1 or more")
    try:
        plain = transformers.AutoConfig.for_model(kind)
        unknown = [name for name in left if not hasattr(plain, name)]
        if unknown:
            raise CheckpointError(f"{where}: {kind} has no field '{unknown[0]}'")
        return transformers.AutoConfig.for_model(kind, **left)
    except CheckpointError:
        raise
    except Exception as error:  # transformers reports a bad config through many exception types
        raise CheckpointError(f"{where}: not a config that {kind} takes: {' '.join(str(error).split())[:300]}") from None


def build(config: Any, name: str) -> Any:
    """The model of `config` on the meta device: of its `architectures`, else the language model or classifier of its type."""
    names = [one for one in getattr(config, "architectures", None) or [] if isinstance(one, str)]
    if (near := nearest_width(config)) and not getattr(config, "head_dim", None) and not getattr(config, "d_kv", None):
        raise CheckpointError(f"{name}: a width of {config.hidden_size} does not divide among its heads{near}")
    try:
        with torch.device("meta"):
            if (cls := next((found for one in names if (found := getattr(transformers, one, None))), None)) is not None:
                return cls(config).eval()
            auto = next(getattr(transformers, one) for one in AUTO if type(config) in getattr(transformers, one)._model_mapping)
            return auto.from_config(config, trust_remote_code=False).eval()
    except StopIteration:
        raise CheckpointError(f"{name}: transformers has no model for {type(config).__name__}") from None
    except Exception as error:  # a config that contradicts itself
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{name}: the model of this config cannot be built: {reason}{nearest_width(config)}") from None


def nearest_width(config: Any) -> str:
    """The nearest widths that the heads divide, where the config's is not one of them."""
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1 or width % heads == 0:
        return ""
    low = width // heads * heads
    return f": nearest widths for {heads} heads: {' or '.join(str(one) for one in (low, low + heads) if one)}"


def blank_inputs(model: Any) -> dict[str, Any]:
    """The inputs of one call, on the meta device: one image, or a short sentence."""
    config = model.config
    if getattr(model, "main_input_name", "input_ids") == "pixel_values":
        size, channels = getattr(config, "image_size", 224) or 224, getattr(config, "num_channels", 3)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return {"pixel_values": torch.zeros(1, channels, height, width, device="meta")}
    length = min(PROBE, getattr(text_config(config), "max_position_embeddings", None) or PROBE)
    ids = torch.zeros(1, length, dtype=torch.long, device="meta")
    inputs: dict[str, Any] = {"input_ids": ids}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    if hasattr(config, "use_cache"):
        inputs["use_cache"] = False  # a cache is an object that cannot be traced
    return inputs


def initialized(model: Any, module: nn.Module) -> dict[str, torch.Tensor]:
    """Fresh values of a module's own parameters and buffers, as the model's class initializes them.

    Raises `CheckpointError` for a tensor that it leaves unset.
    """
    blank = copy.copy(module)
    empty = {local: _unset(one) for local, one in module._parameters.items() if one is not None}
    buffers = {local: _unset(one) if one.is_meta else one.clone() for local, one in module._buffers.items() if one is not None}
    blank.__dict__["_parameters"] = {local: nn.Parameter(one, requires_grad=False) for local, one in empty.items()}
    blank.__dict__["_parameters"] |= {local: None for local, one in module._parameters.items() if one is None}
    blank.__dict__["_buffers"] = buffers | {local: None for local, one in module._buffers.items() if one is None}
    if hasattr(model, "_init_weights"):
        model._init_weights(blank)
    elif callable(reset := getattr(blank, "reset_parameters", None)):
        reset()
    values = {local: one.detach() for local, one in [*blank._parameters.items(), *blank._buffers.items()] if one is not None}
    for local, one in values.items():
        if one.is_floating_point() and one.isnan().any():
            if one.ndim < 2:
                raise CheckpointError(f"{type(module).__name__}.{local}: {type(model).__name__} does not say how it starts")
            one.normal_(std=0.02)
    return values


def _unset(one: torch.Tensor) -> torch.Tensor:
    return torch.full(one.shape, float("nan")) if one.is_floating_point() else torch.zeros(one.shape, dtype=one.dtype)


def names_differ(target: Target) -> str | None:
    """A tensor that `transformers` keeps under another name on disk, which a file with names in memory would lose; None: there is none."""
    described = Architecture.__new__(Architecture)
    described.model, described.config = target.model, target.config
    names = [*target.shapes, *target.kept_buffers]
    stored = described.names_of(names)
    return next((name for name in names if name not in stored or stored[name].name != name or stored[name].packed), None)


def as_json(config: Any) -> str:
    """A config as text that is equal for equal configs."""
    return json.dumps(config.to_diff_dict(), sort_keys=True, default=str)
