"""A checkpoint as a live `transformers` model: where it may run, whether it gives text a probability, and loading it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, ParameterError
from regraft.language.model import CAUSAL, MASKED
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer

DTYPES = ("auto", "float32", "bfloat16", "float16")


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no reports of `transformers` on what a checkpoint has beside the class that is loaded: ours say what is going on."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)


def check_placement(dtype: str, device: str) -> None:
    """Raise `ParameterError` unless models can be loaded as `dtype` on `device`. Asked before long work."""
    if dtype not in DTYPES:
        raise ParameterError(f"--dtype {dtype}: choose one of {', '.join(DTYPES)}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ParameterError(
            f"--device {device}: this machine has no such device ({reason}): choose cpu, or cuda, cuda:1, mps where there is one"
        ) from None


def load_model(checkpoint: Checkpoint, dtype: str = "auto", device: str = "cpu") -> Any:
    """The checkpoint as its own `transformers` class, in evaluation mode. `dtype` "auto" is float32 on a CPU, else the checkpoint's."""
    names = checkpoint.config.get("architectures") or []
    model_class = getattr(transformers, names[0], None) if names else None
    if model_class is None:
        raise CheckpointError(f"{checkpoint.path}: transformers has no class {names[0] if names else '(none named in config.json)'}")
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # ours says what is going on
    wanted = torch.float32 if dtype == "auto" and device == "cpu" else dtype
    return model_class.from_pretrained(checkpoint.path, dtype=wanted).to(device).eval()


def is_scorable(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint's own class gives text alone a probability: with a causal or masked language-model head, and no encoder."""
    name = (checkpoint.config.get("architectures") or [""])[0]
    return name in CAUSAL | MASKED and checkpoint.layout.kind != "encoder-decoder"


def load_both(checkpoint: Checkpoint, tokenizer: Tokenizer, dtype: str, device: str) -> tuple[Any, Any]:
    """The model and its tokenizer as `transformers` objects."""
    return load_model(checkpoint, dtype, device), load_tokenizer(tokenizer)
