"""Texts to vectors by an encoder's directory: sentence-transformers where it has modules, else a transformer and a pooling.

Enters: a directory and texts. Leaves: rows (n, d), float32. Weights are read from safetensors only; no code of a model runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.errors import CheckpointError, ParameterError
from regraft.progress import progress_bar

Pooling = Literal["mean", "cls"]
BATCH = 64


class TextEncoder:
    """An encoder on the CPU or elsewhere; `pooling` is for directories that name none themselves ("cls": the first token, as in the paper).

    Raises `CheckpointError` for a directory that no encoder can be opened from, `ParameterError` where a package is missing.
    """

    def __init__(self, folder: Path, *, pooling: Pooling = "mean", device: str = "cpu") -> None:
        self.folder, self.pooling, self.device = folder, pooling, device
        self.name = folder.resolve().name
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise CheckpointError(f"{folder}: no encoder there (config.json or modules.json): give the directory of a saved one")
        self.modules = (folder / "modules.json").is_file()
        try:
            self._open()
        except ModuleNotFoundError as error:
            raise ParameterError(f"{folder} needs the package '{error.name}': pip install 'regraft[text]'") from None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: cannot be opened as an encoder ({' '.join(str(error).split())[:200]})") from None

    def _open(self) -> None:
        if self.modules:
            from sentence_transformers import SentenceTransformer

            self.model: Any = SentenceTransformer(
                str(self.folder), device=self.device, local_files_only=True, model_kwargs={"use_safetensors": True}
            )
            return
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        model = AutoModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True, dtype="float32")
        self.model = model.to(self.device).eval()

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Rows of `texts`, (n, d), in their order. Raises `ParameterError` for no texts."""
        if not texts:
            raise ParameterError(f"{self.name}: no texts to encode: give at least one")
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))  # texts of a length together need little padding
        parts = []
        with progress_bar(f"encoding with {self.name}", len(texts), "texts") as bar:
            for start in range(0, len(texts), BATCH):
                batch = [texts[place] for place in order[start : start + BATCH]]
                parts.append(self._rows(batch))
                bar.advance(len(batch))
        found = np.concatenate(parts)
        rows = np.empty_like(found)
        rows[order] = found
        return rows

    def _rows(self, texts: list[str]) -> npt.NDArray[np.float32]:
        if self.modules:
            return np.asarray(self.model.encode(texts, batch_size=BATCH, show_progress_bar=False), dtype=np.float32)
        import torch

        most = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 512), 512)
        given = self.tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            states = self.model(**given).last_hidden_state
        if self.pooling == "cls":
            return np.asarray(states[:, 0].cpu().numpy(), dtype=np.float32)
        mask = given["attention_mask"][..., None].to(states.dtype)
        return np.asarray(((states * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy(), dtype=np.float32)
