"""A frozen backbone's hidden states on disk, in half precision: what a head is trained over where a CPU can't afford the backbone.

Enters: a transformer and texts. Leaves: one safetensors file, and an input module that looks texts up in it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sentence_transformers.base.modules.input_module import InputModule
from torch.nn.utils.rnn import pad_sequence

from regraft.errors import CorpusError, EvaluationError
from regraft.output import atomic_file
from regraft.progress import progress_bar

BLOCK = 32  # texts at once, of about the same length


def cache_states(body: Any, texts: Sequence[str], path: Path, *, key: str = "", device: str = "cpu") -> Path:
    """Write the last hidden states that `body`, a `Transformer` or `Decoder`, gives every text to `path`; 1 KB a token at d = 512.

    `key` names the body; a file of the same key and texts that is there already is kept. Raises `EvaluationError` for states that are not
    finite in float16.
    """
    texts = list(dict.fromkeys(texts))
    digest = hashlib.sha256(json.dumps([key, texts]).encode()).hexdigest()
    if path.is_file() and _digest(path) == digest:
        return path
    states, pooled = _states(body, texts, device)
    starts = torch.tensor([0, *(len(one) for one in states)]).cumsum(0)
    tensors = {"states": torch.cat(states), "pooled": torch.cat(pooled), "starts": starts}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        save_file(tensors, partial, metadata={"digest": digest, "texts": json.dumps(texts)})
    return path


@torch.no_grad()
def _states(body: Any, texts: list[str], device: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """States (T, d) in float16 and pooling mask (T,) of each text, in the order of the texts."""
    body.to(device).eval()
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    states, pooled = ([torch.empty(0)] * len(texts) for _ in range(2))
    with progress_bar("hidden states", total=len(texts), unit="texts") as bar:
        for start in range(0, len(order), BLOCK):
            places = order[start : start + BLOCK]
            given = body.preprocess([texts[at] for at in places])
            given = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in given.items()}
            found = body(given)
            real = found["attention_mask"].bool().cpu()
            half = found["token_embeddings"].to("cpu", torch.float16)
            if not torch.isfinite(half[real]).all():
                raise EvaluationError("some hidden states are not finite in half precision: train without the cache (trains=lora)")
            mask = found.get("pooling_mask", found["attention_mask"]).to("cpu", torch.uint8)
            for row, at in enumerate(places):
                states[at], pooled[at] = half[row][real[row]].clone(), mask[row][real[row]].clone()
            bar.advance(len(places))
    return states, pooled


def _digest(path: Path) -> str | None:
    found: str | None = (_open(path).metadata() or {}).get("digest")
    return found


def _open(path: str | Path) -> Any:
    return safe_open(path, framework="pt")


class CachedStates(InputModule):
    """Takes the place of a model's first module: a text's states come from the file at `path`, in blocks of a batch.

    Raises `CorpusError` for a text that is not in it.
    """

    config_keys = ["path"]  # noqa: RUF012  # as the library declares it
    save_in_root = False
    tokenizer = None  # type: ignore[assignment]  # nothing is cut into tokens here

    def __init__(self, path: str | Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs
        self.path = str(path)
        self._file = _open(path)
        self._rows = {text: row for row, text in enumerate(json.loads(self._file.metadata()["texts"]))}
        self._starts = self._file.get_tensor("starts").tolist()
        self.dimension = self._file.get_slice("states").get_shape()[1]

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        texts = [f"{prompt or ''}{text}" for text in inputs]
        missing = next((text for text in texts if text not in self._rows), None)
        if missing is not None:
            raise CorpusError(f"no cached states of {missing[:60]!r}: cache it first")
        rows = [self._rows[text] for text in texts]
        spans = [slice(self._starts[row], self._starts[row + 1]) for row in rows]
        states, pooled = (
            pad_sequence([self._file.get_slice(name)[span] for span in spans], batch_first=True) for name in ("states", "pooled")
        )
        lengths = torch.tensor([span.stop - span.start for span in spans])
        mask = (torch.arange(states.shape[1])[None] < lengths[:, None]).long()
        ids = torch.tensor(rows)[:, None].expand(-1, states.shape[1])
        return {"input_ids": ids, "attention_mask": mask, "pooling_mask": pooled.long(), "token_embeddings": states.float()}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return features

    def get_embedding_dimension(self) -> int:
        return int(self.dimension)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
