"""The architecture that config.json describes, without weights: what of it is over the vocabulary, and what the files call its tensors.

Enters: a config, the names that files hold. Leaves: models on PyTorch's `meta` device (no memory), which of their tensors follow
`vocab_size` and in which dimension, and the library's own map between names on disk and names in memory.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from regraft.errors import CheckpointError

# how configs name the size of a vocabulary of text; types, entities, codes of sound and image have their own
FIELD = re.compile(r"((text|encoder|decoder|src|tgt|lm|(un)?padded)_)?vocab_size|vocab_size_per_layer_input|n_words")
STEP = 960  # rows by which the architecture is widened to see what follows: a multiple of what vocabularies are padded to
Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """What the library makes of a stored tensor: the parameter `name`, on its own, or with others (`packed`), such as experts."""

    name: str
    packed: bool = False


class Architecture:
    """The model of a config on the meta device.

    Attributes
    ----------
    config : the `transformers` config. model : the architecture, or None if it cannot be built without values.
    vocab_size : rows of the vocabulary that the config names, 0 if it names none.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], model_config: Any = None) -> None:
        self.directory, self._json = directory, config
        self.config = load_config(directory, config) if model_config is None else model_config
        self.model = self._built(self.config)
        size = getattr(text_config(self.config), "vocab_size", 0) or config.get("vocab_size", 0) or 0
        if type(size) is not int:
            raise CheckpointError(f"{directory}: vocab_size in config.json is {size!r}, not a number")
        self.vocab_size = size

    def _built(self, model_config: Any) -> Any:
        import transformers

        names = [name for name in self._json.get("architectures") or [] if isinstance(name, str)]
        cls = next((found for name in names if isinstance(found := getattr(transformers, name, None), type)), None)
        try:
            with torch.device("meta"):
                if cls is not None and issubclass(cls, transformers.PreTrainedModel):
                    return cls(model_config)
                return transformers.AutoModel.from_config(model_config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # a constructor that needs real values; a config that contradicts itself
            if isinstance(error, ValueError | AssertionError):
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                raise CheckpointError(f"{self.directory}: the architecture in config.json cannot be built: {reason}") from None
            return None

    @cached_property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Every parameter and buffer by name, tied ones under each of theirs."""
        if self.model is None:
            return {}
        return dict(self.model.named_parameters(remove_duplicate=False)) | dict(self.model.named_buffers(remove_duplicate=False))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of everything that a file may hold."""
        return {} if self.model is None else {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}

    @cached_property
    def over_vocabulary(self) -> dict[str, int]:
        """Names of the tensors that follow the size of the vocabulary -> the dimension in which they do; empty if that cannot be told.

        Found by building the architecture a second time for a larger vocabulary. Raises `CheckpointError` for a tensor that follows in
        another way than row by row.
        """
        if self.model is None or not self.vocab_size:
            return {}
        try:
            wider = Architecture(self.directory, self._json, resized(self.config, self.vocab_size, self.vocab_size + STEP))
        except CheckpointError:
            return {}
        found = {}
        for name, before in self.shapes.items():
            after = wider.shapes.get(name, before)
            if after != before:
                moved = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
                if len(before) != len(after) or len(moved) != 1 or after[moved[0]] - before[moved[0]] != STEP:
                    raise CheckpointError(
                        f"{self.directory}: {name} grows from {before} to {after} when the vocabulary grows by {STEP}: "
                        "only tensors with one row or column for each token can follow a new vocabulary"
                    )
                found[name] = moved[0]
        return found

    def names_of(self, stored: Iterable[str]) -> dict[str, Stored]:
        """What the library calls each stored tensor; those that it does not know are left out."""
        if self.model is None:
            return {}
        known, prefix = self.shapes, self.model.base_model_prefix
        try:
            from transformers.conversion_mapping import get_model_conversion_mapping
            from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
        except ImportError:  # other versions: as they are, or with the base model's prefix removed or added
            spellings = {n: (n, n.removeprefix(f"{prefix}."), f"{prefix}.{n}") for n in stored}
            return {n: Stored(next(s for s in tried if s in known)) for n, tried in spellings.items() if set(tried) & known.keys()}
        transforms = get_model_conversion_mapping(self.model)
        renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
        converters = [one for one in transforms if isinstance(one, WeightConverter)]
        found = {}
        for name in stored:
            new, pattern = rename_source_key(name, renamings, converters, prefix, known)
            if new not in known and name in known:
                new, pattern = rename_source_key(name, [], [], prefix, known)
            if new in known:
                found[name] = Stored(new, pattern is not None)
        return found


def load_config(directory: Path, config: Mapping[str, Any]) -> Any:
    """config.json of `directory`, whose content is `config`, as `transformers` reads it. Raises `CheckpointError` in one line."""
    import transformers  # seconds to import: only when a checkpoint is opened

    if "auto_map" in config and config.get("model_type") not in transformers.CONFIG_MAPPING:
        raise CheckpointError(f"{directory}: this model runs code of its own (auto_map in config.json), which regraft does not execute")
    try:
        return transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers reports a bad config through many exception types
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{directory}: config.json is not one that transformers {transformers.__version__} knows: {reason}") from None


def text_config(model_config: Any) -> Any:
    """The part of a config that describes the reader of text; the config itself where that is not clear."""
    try:
        return model_config.get_text_config()
    except ValueError:  # several of them
        return model_config


def vocabulary_fields(model_config: Any, size: int, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """(path, field) of every field of a config, at any depth, that names a vocabulary of `size`."""
    from transformers import PreTrainedConfig

    for key, value in vars(model_config).items():
        if isinstance(value, PreTrainedConfig):
            yield from vocabulary_fields(value, size, (*path, key))
        elif type(value) is int and value == size and FIELD.fullmatch(key):
            yield path, key


def resized(model_config: Any, old: int, new: int) -> Any:
    """A copy of a config whose fields for a vocabulary of size `old` say `new`."""
    model_config = copy.deepcopy(model_config)
    set_size(model_config, old, new)
    return model_config


def set_size(model_config: Any, old: int, new: int) -> None:
    """Let every field of a config for a vocabulary of size `old` say `new`, in place."""
    for path, key in list(vocabulary_fields(model_config, old)):
        part = model_config
        for name in path:
            part = getattr(part, name)
        setattr(part, key, new)


def with_size(config: Mapping[str, Any], model_config: Any, old: int, new: int) -> dict[str, Any]:
    """The JSON `config` with `new` in every field for a vocabulary of size `old`; one that was left to its default is written out."""
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    _set_json(changed, old, new)
    for path, key in vocabulary_fields(model_config, old):
        part = changed
        for name in path:
            part = part[name] if isinstance(part.get(name), dict) else part.setdefault(name, {})
        part[key] = new
    return changed


def _set_json(part: dict[str, Any], old: int, new: int) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            _set_json(value, old, new)
        elif type(value) is int and value == old and FIELD.fullmatch(key):
            part[key] = new
