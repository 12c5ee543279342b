"""Checkpoints whose tables are held as two factors: opened for training, and made ordinary again.

Enters: a directory that `adapt` wrote with a rank, or that `save_pretrained` wrote of a factorised model. Leaves: a `transformers` model
with factorised tables (`load_factorised`), or a directory that plain `transformers` opens (`export_dense`).
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from regraft import provenance
from regraft.checkpoint import Blocks, Checkpoint, Reshaped, Value, WriteReport, write
from regraft.errors import CheckpointError
from regraft.graft.factors import KEY, dense_blocks, install_factors
from regraft.progress import step

PRIMITIVES = ".primitives"


def open_factorised(path: str | Path) -> Checkpoint:
    """The checkpoint at `path`. Raises `CheckpointError` if it is ordinary, or its factors do not fit each other."""
    checkpoint = Checkpoint.open(path, factorised=True, vocabulary=True)
    layout = checkpoint.layout
    if not checkpoint.config.get(KEY):
        raise CheckpointError(f"{checkpoint.path}: its tables are not factorised: it opens in plain transformers as it is")
    for names in (layout.input, layout.head):
        shape = checkpoint.tensors[primitives_of(checkpoint, names)].shape if names else (layout.dim, 0)
        if len(shape) != 2 or shape[0] != checkpoint.tensors[names[0] if names else layout.input[0]].shape[1]:
            raise CheckpointError(f"{checkpoint.path}: primitives of shape {shape} do not fit {names[0]}: the files do not match")
    return checkpoint


def primitives_of(checkpoint: Checkpoint, table: tuple[str, ...]) -> str:
    """The stored name of the primitives of the table that is stored under the names `table`."""
    for name in table:
        found = name.rpartition(".")[0] + PRIMITIVES
        if found in checkpoint.tensors:
            return found
    raise CheckpointError(f"{checkpoint.path}: no primitives for {table[0]} in the files: they do not belong to this config.json")


def load_factorised(path: str | Path, dtype: str = "auto", device: str = "cpu") -> Any:
    """The model at `path` as its own `transformers` class, its tables still factorised, in evaluation mode.

    It trains, scores and saves (`save_pretrained`) like any other model; `densify` turns it into an ordinary one. `dtype` "auto" is
    that of the files. Raises `CheckpointError` if the checkpoint is ordinary, damaged, or of a class that transformers lacks.
    """
    checkpoint = open_factorised(path)
    layout = checkpoint.layout
    name = (checkpoint.config.get("architectures") or ["?"])[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise CheckpointError(f"{checkpoint.path}: transformers has no class {name}")
    config = transformers.AutoConfig.from_pretrained(checkpoint.path, local_files_only=True)
    delattr(config, KEY)
    wanted = checkpoint.tensors[layout.input[0]].torch_dtype if dtype == "auto" else getattr(torch, dtype)
    primitives = checkpoint.read(primitives_of(checkpoint, layout.input))
    head = (checkpoint.read(layout.head[0]), checkpoint.read(primitives_of(checkpoint, layout.head))) if layout.head else None
    bias = checkpoint.read(layout.bias[0]).reshape(-1) if layout.bias else None
    rest = {n: checkpoint.read(n) for n in checkpoint.tensors if n not in layout.names and not n.endswith(PRIMITIVES)}
    few = _shrink(config, primitives.shape[1])
    stand_ins = dict.fromkeys(layout.input, torch.zeros(few, primitives.shape[1], dtype=wanted))
    stand_ins |= dict.fromkeys(layout.head, torch.ones(few, primitives.shape[1], dtype=wanted))  # other values: not tied
    stand_ins |= {n: torch.zeros(*checkpoint.tensors[n].shape[:-1], few, dtype=wanted) for n in layout.bias}
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = model_class.from_pretrained(None, config=config, state_dict=rest | stand_ins, dtype=wanted)
    install_factors(model, checkpoint.read(layout.input[0]), primitives, head, bias)
    return model.to(device).eval()


def _shrink(config: Any, dim: int) -> int:
    """Let `config` ask for tables of a few rows, so that the dense ones are never made; returns how many."""
    text = config.get_text_config()
    few = max([int(i) for i in (getattr(text, "pad_token_id", None),) if isinstance(i, int)] + [0]) + 1
    for part in (config, text):
        part.vocab_size = few
        if getattr(part, "decoder_vocab_size", None) is not None:
            part.decoder_vocab_size = few
    return few


def export_dense(path: str | Path, out: str | Path, *, overwrite: bool = False) -> WriteReport:
    """Write the factorised checkpoint at `path` to `out` as an ordinary one with the tables ``F P``.

    Rows are multiplied block by block, so memory is that of the factors. Raises `CheckpointError` and `OutputError`.
    """
    checkpoint = open_factorised(path)
    tensors: dict[str, Value] = {}
    dropped: list[str] = []
    for names in (checkpoint.layout.input, checkpoint.layout.head):
        if names:
            tensors |= dict.fromkeys(names, Reshaped(_dense(checkpoint, names)))
            dropped += [n for n in (name.rpartition(".")[0] + PRIMITIVES for name in names) if n in checkpoint.tensors]
    config = {key: value for key, value in checkpoint.config.items() if key != KEY}
    record = provenance.record(checkpoint, "export", parameters={"rank": checkpoint.layout.dim})
    with step(f"writing {out}"):
        return write(
            checkpoint,
            out,
            tensors=tensors,
            files={"config.json": (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()},
            dropped=dropped,
            record=partial(provenance.save, record),
            overwrite=overwrite,
        )


def _dense(checkpoint: Checkpoint, names: tuple[str, ...]) -> Blocks:
    """The dense table, as blocks that are multiplied while they are written."""
    coordinates, primitives = checkpoint.tensors[names[0]], checkpoint.read(primitives_of(checkpoint, names))

    def blocks() -> Iterator[torch.Tensor]:
        yield from dense_blocks(checkpoint.read(names[0]), primitives)

    return Blocks((coordinates.shape[0], int(primitives.shape[1])), coordinates.torch_dtype, blocks)
