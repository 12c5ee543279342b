"""Rows for classes: what a text tower says of their names, in blocks of one or more rows a class; searched, saved, read.

Works with the models of transformers whose text tower stands beside the part that sees: CLIP, CLIPSeg, OWL-ViT.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from regraft.concepts.search.core import Found
from regraft.errors import CheckpointError, ParameterError
from regraft.output import atomic_file


def clip_of(model: Any) -> Any:
    """The part of a model that has both towers."""
    return next((part for name in ("clip", "owlvit") if (part := getattr(model, name, None)) is not None), model)


@dataclass(frozen=True, eq=False)
class ClassRows:
    """Rows of classes.

    Attributes
    ----------
    names : of the classes. rows : (rows, width). owner : (rows,) the class of each row. phrases : they started from, one a row.
    """

    names: list[str]
    rows: torch.Tensor
    owner: torch.Tensor
    phrases: list[str]

    @classmethod
    def of_phrases(cls, model: Any, tokenizer: Any, names: Sequence[str], phrases: Sequence[str] = ("a photo of a {}",)) -> "ClassRows":
        """One row for each class and phrase, by a single call of the model's text tower. Raises `ParameterError`: no name, or no ``{}``."""
        if not names or not phrases or any(one.count("{}") != 1 for one in phrases):
            raise ParameterError(f"classes {list(names)} and phrases {list(phrases)}: give names, and phrases with one {{}} each")
        told = [phrase.format(name) for name in names for phrase in phrases]
        given = tokenizer(told, padding="max_length", truncation=True, return_tensors="pt")
        device = next(model.parameters()).device
        with torch.no_grad():
            rows = clip_of(model).get_text_features(given["input_ids"].to(device), given["attention_mask"].to(device)).pooler_output
        return cls(list(names), rows, torch.arange(len(names), device=device).repeat_interleave(len(phrases)), told)

    def found(self, by: Found) -> "ClassRows":
        """The same classes with searched rows."""
        return replace(self, rows=by.rows)

    def scores(self, by_row: torch.Tensor) -> torch.Tensor:
        """Scores (..., rows) as scores of classes (..., classes): the best of a class's rows."""
        return by_class(by_row, self.owner, len(self.names))

    def save(self, path: Path) -> None:
        """One safetensors file."""
        told = {"names": json.dumps(self.names), "phrases": json.dumps(self.phrases)}
        with atomic_file(path) as place:
            save_file({"rows": self.rows.detach().float().cpu().contiguous(), "owner": self.owner.cpu().contiguous()}, place, metadata=told)

    @classmethod
    def read(cls, path: Path, model: Any | None = None) -> "ClassRows":
        """What `save` wrote. Raises `CheckpointError`: another kind of file, or rows of another width than `model` reads."""
        try:
            tensors = load_file(path)
            with safe_open(path, "pt") as file:
                told = file.metadata() or {}
            found = cls(json.loads(told["names"]), tensors["rows"], tensors["owner"], json.loads(told["phrases"]))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path}: not a file of class rows ({type(error).__name__}: {error})") from None
        width = None if model is None else int(clip_of(model).text_projection.out_features)
        if width is not None and found.rows.shape[1] != width:
            raise CheckpointError(
                f"{path}: rows of width {found.rows.shape[1]}; this model reads {width}: they were searched for another one"
            )
        return found


def by_class(scores: torch.Tensor, owner: torch.Tensor, classes: int) -> torch.Tensor:
    """The best score of each class's rows, (..., rows) to (..., classes)."""
    if scores.shape[-1] == classes and bool((owner == torch.arange(classes, device=owner.device)).all()):
        return scores
    index = owner.expand(scores.shape)
    return scores.new_full((*scores.shape[:-1], classes), -torch.inf).scatter_reduce(-1, index, scores, "amax")
