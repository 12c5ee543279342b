"""The files of a tokenizer on disk: which names belong to it, and how they are written without touching what they are linked to."""

import json
from pathlib import Path

from regraft.errors import OutputError
from regraft.output import atomic_file

TEXT_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
# the same vocabulary in formats that are not written here: stale as soon as the vocabulary changes
BINARY_FILES = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.model",
    "source.spm",
    "target.spm",
    "tiktoken.model",
    "tekken.json",
    "qwen.tiktoken",
)


WITHOUT_PIECES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer", "MyT5Tokenizer")


def read_class(directory: Path) -> str | None:
    """The class that tokenizer_config.json in `directory` names, if it does."""
    try:
        config = json.loads((directory / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return None
    name = config.get("tokenizer_class") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def read_companions(directory: Path) -> dict[str, bytes]:
    """Name -> content of the tokenizer files in `directory` other than `tokenizer.json`."""
    return {name: (directory / name).read_bytes() for name in (*TEXT_FILES, *BINARY_FILES) if (directory / name).is_file()}


def read_model_type(directory: Path) -> str | None:
    """The `model_type` of the model's `config.json` in `directory`, if it has one."""
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return config.get("model_type") if isinstance(config, dict) else None


def write_companions(directory: Path, contents: dict[str, bytes]) -> None:
    """Write each file by rename, so that a hard-linked original keeps its content, and remove tokenizer files not in `contents`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with atomic_file(directory / name) as fresh:
                fresh.write_bytes(content)
        for name in (*TEXT_FILES, *BINARY_FILES):
            if name not in contents:
                (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{directory}: cannot write the tokenizer: {error.strerror or error}") from None
