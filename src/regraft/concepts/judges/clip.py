"""A CLIP model as judge: cosines of images with the concept's own images, and with the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from regraft.concepts.host.images import to_pil
from regraft.concepts.judges.judge import Judge, Scores
from regraft.errors import CheckpointError


@dataclass(frozen=True, eq=False)
class ClipJudge(Judge):
    """`references` : (m, width) image vectors of the concept. Of its accuracy nothing is known."""

    model: Any
    processor: Any
    references: torch.Tensor
    accuracy: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str, references: torch.Tensor, device: str = "cpu") -> "ClipJudge":
        """From a directory or Hub id. Raises `CheckpointError`."""
        from transformers import AutoModel, AutoProcessor

        try:
            model = AutoModel.from_pretrained(path, use_safetensors=True).eval().requires_grad_(False).to(device)
            processor = AutoProcessor.from_pretrained(path)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise CheckpointError(f"--judge {path}: no CLIP model can be opened there: {str(error).strip().splitlines()[0]}") from None
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise CheckpointError(f"--judge {path}: {type(model).__name__} does not put images and texts into one space: give a CLIP model")
        return cls(model, processor, _images(model, processor, references))

    def identity(self, images: torch.Tensor) -> Scores:
        """Mean cosine with the concept's images (CLIP-I)."""
        found = _images(self.model, self.processor, images) @ self.references.T
        return found.mean(1).cpu().numpy().astype(np.float64)

    def match(self, images: torch.Tensor, prompts: Sequence[str]) -> Scores:
        """Cosine with the prompt (CLIP-T)."""
        given = self.processor(text=list(prompts), return_tensors="pt", padding=True, truncation=True).to(self.model.device)
        told = normalize(_tensor(self.model.get_text_features(**given)), dim=-1)
        found = (_images(self.model, self.processor, images) * told).sum(1)
        return found.cpu().numpy().astype(np.float64)


def _images(model: Any, processor: Any, images: torch.Tensor) -> torch.Tensor:
    found = []
    for part in torch.split(images, 16):
        given = processor(images=to_pil(part), return_tensors="pt").to(model.device)
        found.append(normalize(_tensor(model.get_image_features(**given)), dim=-1))
    return torch.cat(found)


def _tensor(found: Any) -> torch.Tensor:
    """transformers 5 gives a record where earlier versions gave the vectors."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output
