"""Finding a checkpoint's files: a local directory or the Hub's cache, the folder of the transformer, its shards and their index.

Enters: what the user typed. Leaves: folders and parsed shards, or one line that says what is missing and what to do.
"""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from regraft.checkpoint.shards import Shard, read_shard
from regraft.errors import CheckpointError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.md"]
ADAPTER = "is a PEFT adapter without its base model: merge it first (`merge_and_unload`) and save the result"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def locate(path_or_id: str | Path, revision: str | None) -> tuple[Path, str | None]:
    """The directory of a local path or Hub id, and the Hub id if it was one."""
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        return path.resolve(), None
    if path.is_file():
        raise CheckpointError(f"{path}: is a file: give the directory that holds config.json and the weights")
    name = str(path_or_id)
    if not HUB_ID.fullmatch(name):
        raise CheckpointError(f"{name}: no such directory")
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=HUB_FILES)), name
    except HFValidationError:
        raise CheckpointError(f"{name}: no such directory, and not a Hub id either") from None
    except Exception as error:  # the Hub client raises its own, requests' and httpx's errors
        reason = type(error).__name__
        raise CheckpointError(
            f"{name}: no such directory, and neither the Hub nor its cache has it ({reason}): give a local path"
        ) from None


def transformer_folder(root: Path) -> Path:
    """`root`, or for a sentence-transformers folder the module that holds the transformer."""
    if not (root / "modules.json").is_file():
        return root
    modules = read_json(root / "modules.json", "", kind=list)
    for module in modules:
        if isinstance(module, dict) and str(module.get("type", "")).rsplit(".", 1)[-1] == "Transformer":
            folder = PurePosixPath(str(module.get("path", "")))
            if folder.is_absolute() or ".." in folder.parts:
                raise CheckpointError(f"{root / 'modules.json'}: module path {folder} leads out of the folder")
            return root / folder
    kinds = ", ".join(str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules if isinstance(module, dict)) or "none at all"
    raise CheckpointError(f"{root / 'modules.json'}: none of the modules ({kinds}) is a Transformer, whose vocabulary could change")


def read_json(path: Path, missing: str, kind: type = dict) -> Any:
    """A JSON object (or array) from a file; `missing` is the message when there is no file."""
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(missing) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, kind):
        raise CheckpointError(f"{path}: not a JSON {'object' if kind is dict else 'array'}")
    return data


def why_no_config(path: Path) -> str:
    """What a folder without config.json is, as far as can be told."""
    if (path / "adapter_config.json").is_file():
        return f"{path}: {ADAPTER}"
    return f"{path}: no config.json: not a Hugging Face checkpoint"


def read_shards(path: Path) -> tuple[dict[str, Shard], dict[str, Any] | None]:
    """The weight files of a folder by name, checked against their index, and the index if there is one."""
    if (path / SINGLE).is_file():
        return {SINGLE: read_shard(path / SINGLE)}, None
    if not (path / INDEX).is_file():
        raise CheckpointError(_why_no_weights(path))
    index = read_json(path / INDEX, "")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{path / INDEX}: has no weight_map: fetch it again")
    shards: dict[str, Shard] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{path / INDEX}: names a shard outside the folder: {name}")
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: shard {name} is missing (named in {INDEX}): fetch it again")
        shards[name] = read_shard(path / name)
    for tensor, name in weight_map.items():
        if tensor not in shards[name].tensors:
            raise CheckpointError(f"{path / name}: tensor {tensor} is missing (named in {INDEX}): fetch the shard again")
    stored = [tensor for shard in shards.values() for tensor in shard.tensors]
    if len(stored) != len(set(stored)):
        twice = next(tensor for tensor in stored if stored.count(tensor) > 1)
        raise CheckpointError(f"{path}: tensor {twice} is in two shards: the files do not belong together")
    return shards, index


def _why_no_weights(path: Path) -> str:
    names = [file.name for file in path.iterdir()]
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        return (
            f"{path}: weights only as pickle (.bin), which can run code and is not loaded: if you trust them, convert with "
            "`AutoModel.from_pretrained(DIR).save_pretrained(NEW)` (or the model's own class), or with the Hub's space safetensors/convert"
        )
    if any(name.endswith(".gguf") for name in names):
        return (
            f"{path}: weights only as GGUF: convert with `AutoModelForCausalLM.from_pretrained(DIR, gguf_file=FILE).save_pretrained(NEW)` "
            "and the tokenizer likewise (`pip install gguf` first)"
        )
    if "adapter_config.json" in names:
        return f"{path}: {ADAPTER}"
    return f"{path}: no {SINGLE} or {INDEX}: not a checkpoint, or not fetched completely"
