"""A K-Tokeniser on disk: plain JSON beside `tokenizer.json`, one file a type, each with its hash in the index. Nothing is pickled."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regraft.errors import TokenizerError
from regraft.output import atomic_file
from regraft.tokenizer import Tokenizer
from regraft.vocab.k_tokeniser.knowledge import Choices, Knowledge, SemanticType, vocabulary_text
from regraft.vocab.k_tokeniser.ontology import TYPE_NAME
from regraft.vocab.k_tokeniser.sufficient import DeltaPoint

FOLDER, INDEX, FREQUENCIES, TYPES = "k_tokeniser", "k_tokeniser.json", "frequencies.json", "types"
SCHEMA = 1


def save_knowledge(knowledge: Knowledge, directory: Path) -> None:
    """Write everything but the tokenizer's own files into `directory`/k_tokeniser."""
    folder = directory / FOLDER
    (folder / TYPES).mkdir(parents=True, exist_ok=True)
    for stale in (folder / TYPES).glob("*.json"):
        stale.unlink()
    types = []
    for kind in knowledge.types:
        curve = [asdict(point) for point in kind.curve]
        content = {"pieces": [[i, knowledge.tokenizer.pieces[i]] for i in kind.ids], "figures": kind.figures, "curve": curve}
        types.append({"name": kind.name, "sha256": _write(folder / TYPES / f"{kind.name}.json", content)})
    index = {
        "schema": SCHEMA,
        "base_size": knowledge.base_size,
        "base_merges": knowledge.base_merges,
        "total": knowledge.total,
        "choices": asdict(knowledge.choices),
        "types": types,
        "frequencies": _write(folder / FREQUENCIES, knowledge.frequencies),
        "vocabulary": hashlib.sha256(vocabulary_text(knowledge.tokenizer)).hexdigest(),
    }
    _write(folder / INDEX, index)


def load_knowledge(directory: Path) -> Knowledge:
    """Read what `save_knowledge` and the tokenizer wrote. Raises `TokenizerError`: a file that is missing, damaged or altered."""
    folder = directory / FOLDER
    if not (folder / INDEX).is_file():
        raise TokenizerError(f"{directory}: has no {FOLDER}/{INDEX}: give a directory made by `regraft adapt --ontology ...`")
    index = _parse(folder / INDEX)
    tokenizer = Tokenizer.from_directory(directory)
    try:
        if index["schema"] != SCHEMA:
            raise TokenizerError(f"{folder / INDEX}: schema {index['schema']} is not one that this version knows: use a newer regraft")
        if hashlib.sha256(vocabulary_text(tokenizer)).hexdigest() != index["vocabulary"]:
            raise TokenizerError(f"{directory}/tokenizer.json: its vocabulary is not the one the types were built for: restore the file")
        types = tuple(_load_type(folder, entry, tokenizer) for entry in index["types"])
        frequencies = {str(text): int(n) for text, n in _checked(folder / FREQUENCIES, index["frequencies"]).items()}
        return Knowledge(
            tokenizer,
            int(index["base_size"]),
            int(index["base_merges"]),
            types,
            frequencies,
            int(index["total"]),
            Choices(**index["choices"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{folder}: not a saved K-Tokeniser ({type(error).__name__}: {error}): build it again") from None


def _load_type(folder: Path, entry: dict[str, Any], tokenizer: Tokenizer) -> SemanticType:
    name = str(entry["name"])
    if not TYPE_NAME.match(name):
        raise TokenizerError(f"{folder / INDEX}: '{name}' is not a type name: restore the file")
    path = folder / TYPES / f"{name}.json"
    content = _checked(path, str(entry["sha256"]))
    for i, piece in content["pieces"]:
        if tokenizer.pieces.get(i) != piece:
            raise TokenizerError(f"{path}: id {i} is not '{piece}' in tokenizer.json: the files do not belong together")
    return SemanticType(
        name, tuple(int(i) for i, _ in content["pieces"]), content["figures"], tuple(DeltaPoint(**p) for p in content["curve"])
    )


def _write(path: Path, content: Any) -> str:
    """Write JSON (by rename) and return the SHA-256 of the file."""
    data = json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8")
    with atomic_file(path) as fresh:
        fresh.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _checked(path: Path, sha256: str) -> Any:
    """The parsed file, which must be the one that was saved."""
    if not path.is_file():
        raise TokenizerError(f"{path}: missing: the K-Tokeniser is incomplete, restore the file or build it again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise TokenizerError(f"{path}: altered since it was saved (its hash differs): restore the file or build it again")
    return _parse(path)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: cannot be read as JSON ({error}): restore the file or build it again") from None
