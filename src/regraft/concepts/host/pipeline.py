"""A text-to-image pipeline of diffusers, opened and encoded: Stable Diffusion 1, 2 and XL.

Enters: a directory, a single file, a Hub id, or `toy-t2i`. Leaves: the frozen pipeline, its text towers, and what it makes of prompts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from regraft.concepts.toy import NAME, WEIGHTS
from regraft.errors import CheckpointError

KEYS = ("clip_l", "clip_g")  # what the files of SDXL call its two towers


@dataclass(frozen=True)
class Tower:
    """A text encoder and its tokenizer. `key` : its name in files of learned words; `part` : of the pipeline's attribute."""

    key: str
    part: str
    encoder: Any

    @property
    def width(self) -> int:
        return int(self.table.shape[1])

    @property
    def table(self) -> torch.Tensor:
        """The input rows (vocabulary, width)."""
        return self.encoder.get_input_embeddings().weight.detach()  # type: ignore[no-any-return]

    def tokenizer(self, pipeline: Any) -> Any:
        """The pipeline's tokenizer of this tower, as it is now."""
        return getattr(pipeline, self.part.replace("text_encoder", "tokenizer"))


@dataclass(frozen=True)
class Conditioning:
    """What a U-Net reads of prompts: `embeds` (n, length, width), and `pooled` (n, width) where the pipeline has it (XL)."""

    embeds: torch.Tensor
    pooled: torch.Tensor | None = None

    def __getitem__(self, rows: Any) -> "Conditioning":
        return Conditioning(self.embeds[rows], None if self.pooled is None else self.pooled[rows])

    def detach(self) -> "Conditioning":
        return Conditioning(self.embeds.detach(), None if self.pooled is None else self.pooled.detach())

    def with_embeds(self, embeds: torch.Tensor) -> "Conditioning":
        return replace(self, embeds=embeds)

    def arguments(self) -> dict[str, torch.Tensor]:
        """As a pipeline takes them."""
        given = {"prompt_embeds": self.embeds}
        return given if self.pooled is None else {**given, "pooled_prompt_embeds": self.pooled}


def open_pipeline(name: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The frozen pipeline. Raises `CheckpointError`: nothing there, not a text-to-image pipeline with CLIP towers, weights as a pickle."""
    with quiet():
        from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

    path = WEIGHTS if str(name) == NAME else Path(name)
    try:
        with quiet():
            if path.is_file():
                kind = StableDiffusionXLPipeline if path.stat().st_size > 6e9 else StableDiffusionPipeline
                pipeline = kind.from_single_file(str(path), dtype=dtype)
            else:
                pipeline = DiffusionPipeline.from_pretrained(str(path if path.exists() else name), dtype=dtype, use_safetensors=True)
    except Exception as error:  # diffusers raises whatever its reader did
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{name}: no pipeline of diffusers can be opened there: {first}") from None
    check(pipeline, str(name))
    return frozen(pipeline.to(device))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the hosts' warnings and progress bars: image processing falls back without torchvision, which nothing here uses."""
    import diffusers
    import transformers

    both = (transformers.utils.logging, diffusers.utils.logging)
    before = [one.get_verbosity() for one in both]
    for one in both:
        one.set_verbosity_error()
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one, level in zip(both, before, strict=True):
            one.set_verbosity(level)


def check(pipeline: Any, name: str) -> None:
    """Raises `CheckpointError` for a pipeline without CLIP towers or without a U-Net."""
    if getattr(pipeline, "text_encoder", None) is None:
        raise CheckpointError(f"{name}: {type(pipeline).__name__} has no text encoder, so there is no word to teach or to take out")
    odd = [part for part in ("text_encoder", "text_encoder_2", "text_encoder_3") if not _is_clip(getattr(pipeline, part, None))]
    if odd or getattr(pipeline, "unet", None) is None:
        what = f"its {odd[0]} is {type(getattr(pipeline, odd[0])).__name__}" if odd else "it has no U-Net"
        raise CheckpointError(f"{name}: {what}: words are taught to Stable Diffusion 1, 2 and XL (CLIP towers and a U-Net)")


def _is_clip(encoder: Any) -> bool:
    return encoder is None or type(encoder).__name__.startswith("CLIPText")


def frozen(pipeline: Any) -> Any:
    """The same pipeline, every part in evaluation and without gradients, and silent."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def towers(pipeline: Any) -> list[Tower]:
    """The text towers in the order in which their outputs are joined."""
    parts = [part for part in ("text_encoder", "text_encoder_2") if getattr(pipeline, part, None) is not None]
    keys = KEYS if len(parts) == 2 else KEYS[1:] if parts == ["text_encoder_2"] else KEYS[:1]
    return [Tower(key, part, getattr(pipeline, part)) for key, part in zip(keys, parts, strict=True)]


def encode(pipeline: Any, prompts: Sequence[str]) -> Conditioning:
    """What the pipeline's own `encode_prompt` makes of `prompts`; gradients pass."""
    found = pipeline.encode_prompt(
        prompt=list(prompts), device=pipeline.unet.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return Conditioning(found[0], found[2] if len(found) > 2 else None)


def pieces(pipeline: Any, prompt: str, tower: Tower) -> list[int]:
    """Ids of a prompt by one tower, padded and cut as `encode` reads them."""
    tokenizer = tower.tokenizer(pipeline)
    told = pipeline.maybe_convert_prompt(prompt, tokenizer) if hasattr(pipeline, "maybe_convert_prompt") else prompt
    given = tokenizer(told, padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
    return list(given["input_ids"])


def content(pipeline: Any, prompt: str, tower: Tower) -> int:
    """How many places of a prompt are read: its start, its pieces, and its first end."""
    ids = pieces(pipeline, prompt, tower)
    return ids.index(tower.tokenizer(pipeline).eos_token_id) + 1


def spelled(pipeline: Any, phrase: str, tower: Tower) -> list[int]:
    """Ids of a phrase by one tower, without start and end."""
    return list(tower.tokenizer(pipeline)(phrase, add_special_tokens=False)["input_ids"])
