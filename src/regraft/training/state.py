"""The state of a training run on disk, so that a killed run goes on as if nothing had happened.

Enters: trainable parameters, optimizer, counters. Leaves: one safetensors file whose header carries the counters as JSON; it is replaced
whole, so a kill leaves the last state or the one before.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from regraft.errors import OutputError
from regraft.output import atomic_file

FILE = "training.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_state(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, counters: Mapping[str, Any]
) -> None:
    """Write the state of `parameters` (by name), their moments, the random generators and `counters` (JSON-able) into `directory`.

    Raises `OutputError` if the disk refuses.
    """
    tensors: dict[str, torch.Tensor] = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in parameters.items():
        tensors[f"value.{name}"] = parameter.detach().contiguous()
        for moment in MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    try:
        with atomic_file(directory / FILE) as temporary:
            save_file(tensors, temporary, metadata={"counters": json.dumps(dict(counters))})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{directory}: the training state cannot be written ({error}): free space or choose another directory") from None


def load_state(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Put a saved state back and return its counters, or None if `directory` holds none.

    `identity` says what the run is (settings, data, parameters); a state saved with another ``counters["identity"]`` is refused.

    Raises `OutputError` if the state is of another run or damaged.
    """
    path = directory / FILE
    (directory / f"{FILE}.partial").unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            counters: dict[str, Any] = json.loads((file.metadata() or {})["counters"])
            differing = [key for key in identity if counters["identity"].get(key) != identity[key]]
            if differing:
                raise OutputError(
                    f"{path} is of another run (differs in {', '.join(differing)}): remove it to start anew, or repeat that run"
                )
            names = set(file.keys())
            for name, parameter in parameters.items():
                parameter.data.copy_(file.get_tensor(f"value.{name}"))
                moments = {m: file.get_tensor(f"{m}.{name}") for m in MOMENTS if f"{m}.{name}" in names}
                optimizer.state[parameter] = {m: t if m == "step" else t.to(parameter.device) for m, t in moments.items()}
            torch.set_rng_state(file.get_tensor("random.cpu"))
            if "random.cuda" in names and torch.cuda.is_available():
                torch.cuda.set_rng_state(file.get_tensor("random.cuda"))
    except (SafetensorError, KeyError, ValueError) as error:
        raise OutputError(f"{path}: not a training state, or a damaged one ({error}): remove it to start anew") from None
    return counters
