"""Low-rank weights beside those of the U-Net (LoRA), in files that diffusers, ComfyUI and A1111 load, with a scale at drawing."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from regraft.concepts.concept import Concept
from regraft.concepts.host.words import Rows
from regraft.concepts.kinds.word import WordConcept
from regraft.errors import CheckpointError, ParameterError

FILE, A1111 = "pytorch_lora_weights.safetensors", "lora_a1111.safetensors"


@dataclass(frozen=True, eq=False)
class AdapterConcept(Concept):
    """A word and an adapter.

    Attributes
    ----------
    tensors : by the names of diffusers' file, such as ``unet.[layer].to_q.lora.down.weight``. scale : how much of it is added at drawing.
    rows : by tower, (n, width) each, what the word stands for; none where prompts call the concept by a word that is known already.
    init : the word it is a case of.
    """

    kind = "adapter"
    word: str
    tensors: Mapping[str, torch.Tensor]
    scale: float = 1.0
    rows: Rows = field(default_factory=dict)
    init: str = ""

    def words(self) -> dict[str, Rows]:
        return {self.word: self.rows} if self.rows else {}

    def scaled(self, scale: float) -> "AdapterConcept":
        """The same with another scale: 0 is the pipeline as it was."""
        return replace(self, scale=scale)

    @contextmanager
    def installed(self, pipeline: Any) -> Iterator[Any]:
        """The pipeline with the adapter beside those that are active in it. Raises `ParameterError`: it was made for another U-Net."""
        with added(pipeline, lambda name: self._load(pipeline, name)) as name:
            for layer in layers(pipeline):
                layer.set_scale(name, self.scale)
            yield pipeline

    def _load(self, pipeline: Any, name: str) -> None:
        given = dict(self.tensors)
        try:
            if all(key.startswith("unet.") for key in given):
                pipeline.load_lora_into_unet(given, network_alphas=None, unet=pipeline.unet, adapter_name=name, _pipeline=pipeline)
            else:
                pipeline.load_lora_weights(given, adapter_name=name)
        except (RuntimeError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0]
            raise ParameterError(
                f"the adapter of {self.word} does not fit this pipeline ({first}): give the one it was learned on"
            ) from None

    def write(self, folder: Path) -> None:
        """`pytorch_lora_weights.safetensors` by diffusers' own call, the same for other programs, and the word's rows where it has some."""
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_state_dict_to_kohya, convert_unet_state_dict_to_peft

        if self.rows:
            WordConcept(self.word, self.rows, self.init).write(folder)
        given = {key.removeprefix("unet."): value.detach().float().cpu().contiguous() for key, value in self.tensors.items()}
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=given, weight_name=FILE)
        others = convert_state_dict_to_kohya(convert_unet_state_dict_to_peft({f"unet.{key}": value for key, value in given.items()}))
        save_file({key: value.contiguous() for key, value in others.items()}, folder / A1111, {"format": "pt"})

    def facts(self) -> dict[str, Any]:
        return {"init": self.init, "scale": self.scale, "towers": {key: list(value.shape) for key, value in self.rows.items()}}

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "AdapterConcept":
        word = WordConcept.read(folder, facts) if facts["towers"] else None
        try:
            tensors = load_file(folder / FILE)
        except Exception as error:  # safetensors has an error class of its own
            raise CheckpointError(f"{folder / FILE}: not an adapter that can be read ({error})") from None
        if not tensors or not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise CheckpointError(f"{folder / FILE}: not an adapter: its tensors must be there and finite")
        return cls(facts["word"], tensors, facts["scale"], word.rows if word else {}, facts.get("init", ""))


@contextmanager
def added(pipeline: Any, load: Callable[[str], Any]) -> Iterator[str]:
    """The pipeline with an adapter that `load(name)` puts in, beside those that are active already; and without it again afterwards."""
    before = [(layer, list(layer.active_adapters)) for layer in layers(pipeline)]
    taken = getattr(pipeline.unet, "peft_config", {})
    name = next(f"concept_{number}" for number in range(len(taken) + 1) if f"concept_{number}" not in taken)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are what is meant
            load(name)
        active = {id(layer): names for layer, names in before}
        for layer in layers(pipeline):
            own = [name] if name in _adapters(layer) else []
            layer.set_adapter([*active.get(id(layer), []), *own])
        for key, value in _parameters(pipeline):
            if f".{name}." in key:
                value.requires_grad_(False)
        yield name
    finally:
        if before:
            pipeline.delete_adapters(name)
            for layer, names in before:
                layer.set_adapter(names)
        else:
            pipeline.unload_lora_weights()
            if hasattr(pipeline.unet, "_hf_peft_config_loaded"):
                del pipeline.unet._hf_peft_config_loaded


def layers(pipeline: Any) -> list[Any]:
    """Layers of the pipeline that have adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [layer for part in _parts(pipeline) for layer in part.modules() if isinstance(layer, BaseTunerLayer)]


def _adapters(layer: Any) -> set[str]:
    return {name for kind in layer.adapter_layer_names for name in getattr(layer, kind)}


def _parts(pipeline: Any) -> Sequence[Any]:
    named = (getattr(pipeline, part, None) for part in ("unet", "text_encoder", "text_encoder_2"))
    return [part for part in named if part is not None]


def _parameters(pipeline: Any) -> Iterator[tuple[str, Any]]:
    for part in _parts(pipeline):
        yield from part.named_parameters()
