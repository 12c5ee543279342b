"""The contract of an encoder: how a model as it is turns texts into vectors. What it gives is a `SentenceTransformer`, the host's own type.

Enters: a checkpoint directory or Hub id. Leaves: a model with `encode`, `save_pretrained`, and everything else that library does with one.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError
from regraft.language.loading import check_placement, quiet
from regraft.method import Method
from regraft.text.modules.around import Around

LONGEST = 512  # tokens of a text that are read, where the model itself has no limit below


class Encoder(Method):
    """Base of every way of encoding. A subclass says in `around` what is set around the transformer.

    Attributes
    ----------
    stock : whether all modules are sentence-transformers' own, so that a saved model loads there; else `regraft.text.load` opens it.
    """

    family = "encoder"
    stock: ClassVar[bool] = True

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        """The encoder over the checkpoint `source`, in evaluation mode on `device`.

        Parameters
        ----------
        max_tokens : longest input, what the method puts around a text included; by default the model's own, at most 512.
        dtype : "auto" is float32 on a CPU, else the checkpoint's own.

        Raises `CheckpointError` for a source that is no transformer, `ParameterError` for a device or type that cannot be had.
        """
        body = open_transformer(source, max_tokens=max_tokens, device=device, dtype=dtype)
        return self.around(body).to(device).eval()

    @abstractmethod
    def around(self, body: Transformer) -> SentenceTransformer:
        """Modules around `body`, the transformer of the checkpoint with its tokenizer."""


def pooled(body: Transformer | Around, mode: Any, *, normalize: bool = False, include_prompt: bool = True) -> SentenceTransformer:
    """`body`, the library's pooling of that `mode`, and unit length if asked."""
    modules: list[torch.nn.Module] = [body, Pooling(_width(body), mode, include_prompt=include_prompt)]
    return SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])], device="cpu")


def open_transformer(source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> Transformer:
    """The transformer of a checkpoint without its heads, as sentence-transformers' first module.

    Texts are read as they are: the library would set the chat template of an instruct model, system prompt and all, around each of them.
    A tokenizer without a padding token (most decoders) pads with the end-of-text token; the mask covers it. Raises `CheckpointError`.
    """
    check_placement(dtype, device)
    path = Checkpoint.open(source).path
    wanted = torch.float32 if dtype == "auto" and device == "cpu" else dtype
    try:
        with quiet():
            body: Transformer = Transformer(str(path), model_kwargs={"dtype": wanted})
    except (OSError, ValueError, ImportError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path}: sentence-transformers cannot open it ({' '.join(str(error).split())[:200]})") from None
    body.modality_config = {"text": body.modality_config["text"]}
    body.input_formatter.supported_modalities = ["text"]
    tokenizer: Any = body.tokenizer
    if getattr(tokenizer, "pad_token", None) is None:
        if tokenizer.eos_token is None:
            raise CheckpointError(f"{path}: its tokenizer has neither a padding nor an end-of-text token: give it one first")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # positions then count from the first token in every model
    own = body.max_seq_length or LONGEST
    body.max_seq_length = min(own, max_tokens or LONGEST)
    return body


def _width(body: Transformer | Around) -> int:
    return int(body.get_embedding_dimension())
