"""A diffusion transformer that comes apart: diffusers' own DiT, whose linear layers are factorised and gated by the class label.

Enters: sizes and names of classes, or a folder. Leaves: a `Split`, whose `pipeline()` is diffusers' DiTPipeline.
"""

import copy
import dataclasses
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from regraft.concepts.split.layers.gated import PATTERNS, Gate, factorise, hollow
from regraft.concepts.split.layers.partition import Partition
from regraft.errors import CheckpointError, ParameterError

ABOUT, FACTORS = "split.json", "factors.safetensors"
IMAGENET_NULL = 1000  # what DiTPipeline calls "no class", whatever the model's classes are
TABLE = "class_embedder.embedding_table.weight"


@dataclass(frozen=True)
class Shape:
    """Sizes of a DiT. `width` = `heads` x size of a head; `side` and `channels` are those of its images or latents."""

    side: int
    channels: int
    layers: int = 4
    heads: int = 4
    width: int = 96
    patch: int = 2
    learn_sigma: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads or self.side % self.patch:
            raise ParameterError(
                f"width {self.width} must be a multiple of heads {self.heads}, and images of {self.side} of patch {self.patch}"
            )

    def config(self, classes: int) -> dict[str, Any]:
        return {
            "num_attention_heads": self.heads,
            "attention_head_dim": self.width // self.heads,
            "in_channels": self.channels,
            "out_channels": self.channels * (2 if self.learn_sigma else 1),
            "num_layers": self.layers,
            "sample_size": self.side,
            "patch_size": self.patch,
            "num_embeds_ada_norm": classes,
        }


class Labels:
    """A hook before a DiT's forward: labels outside its classes become its null class, and the gate follows the labels."""

    def __init__(self, classes: int, gate: Gate | None) -> None:
        self.classes, self.gate = classes, gate

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(args) > 2:
            args, kwargs = (*args[:2], *args[3:]), {**kwargs, "class_labels": args[2]}
        labels = kwargs["class_labels"]
        known = (labels >= 0) & (labels < self.classes)
        strange = labels[~known & (labels != self.classes) & (labels != IMAGENET_NULL)]
        if len(strange):
            warnings.warn(f"class {int(strange[0])} was never learned (there are {self.classes}): learngenes alone draw it", stacklevel=2)
        labels = torch.where(known, labels, self.classes)
        if self.gate is not None and not self.gate.held:
            self.gate.choose(labels)
        return args, {**kwargs, "class_labels": labels}


class PixelDecoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is not typed
    """In the place of a VAE where a model draws pixels: gives back what it is given."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(()))  # tells a pipeline its device

    def decode(self, z: Tensor) -> Any:
        from diffusers.models.autoencoders.vae import DecoderOutput

        return DecoderOutput(sample=z)


@dataclass(frozen=True, eq=False)
class Split:
    """A transformer with what belongs to it.

    Attributes
    ----------
    transformer : diffusers' DiT. gate : of its layers; None for a plain one. names : of its classes, in the order of ids; the id behind
        them is no class. patterns : of the layers that are factorised. scheduler : of noise. vae : None where it draws pixels.
    """

    transformer: Any
    gate: Gate | None
    names: tuple[str, ...]
    patterns: tuple[str, ...]
    scheduler: Any
    vae: Any = None

    @property
    def partition(self) -> Partition | None:
        return None if self.gate is None else self.gate.partition

    @property
    def parameters(self) -> int:
        return sum(one.numel() for one in self.transformer.parameters())

    def pipeline(self) -> Any:
        """diffusers' DiTPipeline. Ask it for `output_type="np"`, or images in shades of grey by "pil"."""
        labels = dict(enumerate(self.names))
        found = DiTPipeline(self.transformer, self.vae or PixelDecoder(), self.scheduler, labels)
        found.set_progress_bar_config(disable=True)
        return found


def scheduler_for(*, pixels: bool) -> Any:
    """Squared-cosine noise in 1,000 steps. Of pixels what a step predicts is held within -1 and 1."""
    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=pixels)


def fresh(
    shape: Shape,
    names: tuple[str, ...],
    *,
    learngenes: int | None = 48,
    tailors: int = 8,
    patterns: tuple[str, ...] = PATTERNS,
    shuffled: bool = True,
    vae: Any = None,
    seed: int = 0,
) -> Split:
    """A DiT that has learned nothing. `learngenes=None` : a plain one, that is not factorised."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = DiTTransformer2DModel(**shape.config(len(names)))
    scheduler = scheduler_for(pixels=vae is None)
    plain = Split(transformer, None, names, patterns, scheduler, vae)
    return split_of(
        plain, None if learngenes is None else Partition.by_class(learngenes, len(names), tailors), shuffled=shuffled, seed=seed
    )


def copied(split: Split) -> Split:
    """A copy that shares nothing that learns."""
    transformer, gate = copy.deepcopy((split.transformer, split.gate))
    return dataclasses.replace(split, transformer=transformer, gate=gate)


def bare(split: Split) -> Split:
    """A copy that reads no labels, to be made another."""
    found = copied(split)
    found.transformer._forward_pre_hooks.clear()
    found.transformer._forward_pre_hooks_with_kwargs.clear()
    return found


def split_of(plain: Split, partition: Partition | None, *, shuffled: bool = True, seed: int = 0) -> Split:
    """`plain`, whose transformer is changed in place: factorised by `partition` (None: as it is), labels read by `Labels`."""
    gate = None if partition is None else factorise(plain.transformer, partition, plain.patterns, shuffled=shuffled, seed=seed)
    return attached(dataclasses.replace(plain, gate=gate))


def attached(split: Split) -> Split:
    """Labels are read before each forward, and dropped nowhere inside: diffusers would drop them in each block for itself."""
    for module in split.transformer.modules():
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    split.transformer.register_forward_pre_hook(Labels(len(split.names), split.gate), with_kwargs=True)
    return split


def rebuilt(split: Split, names: tuple[str, ...], partition: Partition | None, state: dict[str, Tensor]) -> Split:
    """A new model of the shape of `split` with other classes and components, and the values `state`."""
    config = {key: value for key, value in split.transformer.config.items() if not key.startswith("_")}
    transformer = DiTTransformer2DModel(**{**config, "num_embeds_ada_norm": len(names)})
    gate = None if partition is None else hollow(transformer, partition, split.patterns)
    transformer.load_state_dict(state)
    return attached(dataclasses.replace(split, transformer=transformer.eval(), gate=gate, names=names))


def save(split: Split, folder: Path) -> list[str]:
    """Write `split` into `folder`; names of the files of weights. A plain one is written as diffusers does, with `model_index.json` where
    there is a VAE.
    """
    place = folder / "transformer"
    about: dict[str, Any] = {"names": split.names, "patterns": split.patterns, "partition": None}
    if split.gate is None:
        split.transformer.save_pretrained(place)
        weights = "transformer/diffusion_pytorch_model.safetensors"
        if split.vae is not None:
            split.pipeline().save_pretrained(folder)
    else:
        split.transformer.save_config(place)
        save_file({name: one.contiguous() for name, one in split.transformer.state_dict().items()}, place / FACTORS)
        about["partition"] = dataclasses.asdict(split.gate.partition)
        weights = f"transformer/{FACTORS}"
    split.scheduler.save_pretrained(folder / "scheduler")
    if split.vae is not None:
        split.vae.save_pretrained(folder / "vae")
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [weights]


def load(folder: str | Path) -> Split:
    """What `save` wrote. Raises `CheckpointError`: nothing of that kind there, or files that do not fit each other."""
    folder = Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        names, patterns = tuple(about["names"]), tuple(about["patterns"])
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        vae = AutoencoderKL.from_pretrained(folder / "vae") if (folder / "vae").is_dir() else None
        if about["partition"] is None:
            transformer = DiTTransformer2DModel.from_pretrained(folder / "transformer")
            return attached(Split(transformer.eval(), None, names, patterns, scheduler, vae))
        partition = Partition(about["partition"]["learngenes"], tuple(about["partition"]["families"]))
        transformer = DiTTransformer2DModel.from_config(DiTTransformer2DModel.load_config(folder / "transformer"))
        gate = hollow(transformer, partition, patterns)
        transformer.load_state_dict(load_file(folder / "transformer" / FACTORS))
        return attached(Split(transformer.eval(), gate, names, patterns, scheduler, vae))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: no {Path(error.filename or ABOUT).name}: give a folder that `regraft concept split` wrote"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be opened as a split model ({str(error).splitlines()[0]})") from None
