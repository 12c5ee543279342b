"""Batches for models that give text no probability: padded text for encoders, images for vision models.

Enters: documents, or a file or folder of images. Leaves: a function from a step to what the model takes, in one order a seed.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.errors import CorpusError, InputError, ParameterError
from regraft.grow.depth.learned.objectives import Batches

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def rows_of(step: int, size: int, count: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which of `count` examples are read at `step`: a new order every pass."""
    first = step * size
    picked: list[int] = []
    for number in range(first, first + size):
        turn, position = divmod(number, count)
        if position == 0 or not picked:
            order = np.random.default_rng([seed, 1, turn]).permutation(count)
        picked.append(int(order[position]))
    return np.asarray(picked)


def text_batches(tokenizer: Any, texts: Sequence[str], length: int, size: int, seed: int) -> tuple[Batches, str]:
    """Documents cut to `length` tokens and padded; with an id of what is read. Raises `CorpusError` where there is no token."""
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise CorpusError("the corpus holds no text to learn from: give more of it")
    if tokenizer.pad_token_id is None:
        raise ParameterError("the tokenizer has no padding token, so texts of different length cannot be read together")

    def batch(step: int) -> dict[str, torch.Tensor]:
        chosen = [kept[row] for row in rows_of(step, size, len(kept), seed)]
        found = tokenizer(chosen, padding=True, truncation=True, max_length=length, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in found}

    return batch, hashlib.sha256("\0".join(kept).encode()).hexdigest()[:16]


def image_batches(pixels: torch.Tensor, labels: torch.Tensor | None, size: int, seed: int) -> tuple[Batches, str]:
    """Of `pixels` (n, channels, height, width), as the model takes them, and their `labels` (n,)."""

    def batch(step: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(rows_of(step, size, len(pixels), seed))
        return {"pixel_values": pixels[rows]} | ({} if labels is None else {"labels": labels[rows]})

    return batch, hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16]


def read_images(given: str, model: Path, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Pixels (n, channels, height, width) and labels, if there are.

    `given` is an .npz file with ``pixel_values``, as the model takes them, and perhaps ``labels``; an .npy file with pixels alone; or a
    folder of pictures, which the checkpoint's image processor makes ready. `shape` is (channels, image size) of the model.

    Raises `InputError` in one line.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return _pictures(path, model), None
    try:
        loaded = np.load(path, allow_pickle=False)
        pixels = loaded if isinstance(loaded, np.ndarray) else loaded["pixel_values"]
        labels = None if isinstance(loaded, np.ndarray) or "labels" not in loaded else torch.from_numpy(loaded["labels"]).long()
    except FileNotFoundError:
        raise InputError(f"images={given}: no such file or folder") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"images={given}: cannot be read ({error}): give an .npz file with pixel_values, or a folder") from None
    found = torch.from_numpy(np.asarray(pixels)).float()
    if found.ndim != 4 or found.shape[1] != shape[0] or not len(found):
        raise InputError(f"images={given}: an array {tuple(found.shape)}; the model reads (images, {shape[0]}, {shape[1]}, {shape[1]})")
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"images={given}: holds values that are not finite")
    if labels is not None and len(labels) != len(found):
        raise InputError(f"images={given}: {len(labels)} labels for {len(found)} images")
    return found, labels


def _pictures(folder: Path, model: Path) -> torch.Tensor:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"images={folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    try:
        from PIL import Image
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(model, local_files_only=True)  # type: ignore[no-untyped-call]
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"images={folder}: the model's image processor cannot be opened ({reason}): give an .npz file with pixel_values"
        ) from None
    made = []
    for start in range(0, len(files), 64):
        opened = [Image.open(path).convert("RGB") for path in files[start : start + 64]]
        made.append(processor(opened, return_tensors="pt")["pixel_values"])
    return torch.cat(made)
