"""A hypernetwork as one safetensors file: its weights, and in the header its method, settings and how it was trained."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from regraft.errors import CheckpointError, OutputError, ParameterError
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.method import resolve
from regraft.output import atomic_file

FORMAT = "regraft hypernetwork 1"


def save(network: Hypernet, path: Path, record: Mapping[str, Any]) -> None:
    """Write `network` to `path`, whole or not at all. `record` is kept in the header. Raises `OutputError`."""
    predictor = network.predictor
    settings = dataclasses.asdict(predictor)
    about = {"method": predictor.name, "settings": settings, "record": dict(record)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    try:
        with atomic_file(path) as partial:
            save_file(tensors, partial, {"format": FORMAT, "about": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: the hypernetwork cannot be written ({error}): choose another file") from None


def load(path: str | Path) -> tuple[Hypernet, dict[str, Any]]:
    """The hypernetwork of a file, in evaluation mode, and its record.

    Tensors that this network has no place for are left out, as the released decoder's unused layer is. Raises `CheckpointError`: no such
    file, not a hypernetwork, tensors that are missing, of other shapes or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: train a hypernetwork with `regraft grow hypernet`")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: not a hypernetwork (its header does not say so): give a file that `regraft grow hypernet` made"
                )
            about = json.loads(header["about"])
            network = Hypernet(resolve("weight-predictor", about["method"], about["settings"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        record = dict(about["record"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, ParameterError) as error:
        raise CheckpointError(f"{path}: cannot be read as a hypernetwork ({error}): fetch or train it again") from None
    for name, own in network.state_dict().items():
        if name not in tensors or tensors[name].shape != own.shape:
            raise CheckpointError(f"{path}: {name} is missing or of another shape: the file does not hold what its header says")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite: train it again, with a lower lr")
    network.load_state_dict(tensors, strict=False)
    return network.eval(), record
