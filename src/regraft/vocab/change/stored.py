"""What a vocabulary's change means for the files around it: ids that are stored, tokens without a row, ids whose height means something.

Enters: a checkpoint, its tokenizer, a change. Leaves: the same change with every stored id accounted for, or one line that refuses.
"""

import dataclasses
import json
import re
from collections.abc import Iterator

import numpy as np

from regraft.checkpoint import Checkpoint
from regraft.checkpoint.ids import stored_ids
from regraft.errors import CheckpointError, TokenizerError
from regraft.tokenizer import Tokenizer
from regraft.vocab.change.change import Change

ROLE = re.compile(r"(?:.*\.)?(?:forced_)?(bos|eos|pad|unk|sep|cls|mask)_token_id")
POOLS_AT_HIGHEST = re.compile(r"(Aimv2|Owlv2|OwlViT|MetaClip2|Sam3LiteText)")  # of an attention over text, the state at its highest id
POOLS_BY_DEFAULT = re.compile(r"(CLIP|GroupViT|XCLIP)")  # the same, where eos_token_id is still the 2 of early configs


def ids_of(checkpoint: Checkpoint) -> Iterator[tuple[str, int]]:
    """(file and field, id) of every id that the checkpoint's JSON files store."""
    for name, document in checkpoint.id_files().items():
        yield from ((f"{name}: {path}", i) for path, i in stored_ids(document))


def with_rows(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[Tokenizer, list[int]]:
    """`tokenizer` without added tokens past the table, and their ids: no text may have taught the model anything of them.

    Raises `CheckpointError` where a piece of the tokenizer's model is past the table: then the two do not belong together.
    """
    rows = checkpoint.layout.rows
    past = sorted(i for i in tokenizer.pieces if i >= rows)
    if not past:
        return tokenizer, []
    pieces = [i for i in past if i not in tokenizer.added]
    if pieces:
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer has {tokenizer.vocab_size} ids but the table only {rows} rows: wrong tokenizer?"
        )
    behind = max(checkpoint.layout.behind.values(), default=0)
    if behind or checkpoint.config.get("additional_vocab_size"):
        raise CheckpointError(
            f"{checkpoint.path}: token {tokenizer.pieces[past[0]]} has a row behind those of the text vocabulary ({rows}), which the head "
            "has not; moving it is not supported"
        )
    gone = {tokenizer.added[i].content for i in past}
    spec = tokenizer.editable()
    spec["added_tokens"] = [token for token in spec.get("added_tokens") or [] if token["content"] not in gone]
    if tokenizer.algorithm == "unigram":
        spec["model"]["vocab"] = [entry for entry in spec["model"]["vocab"] if entry[0] not in gone]
    else:
        spec["model"]["vocab"] = {piece: i for piece, i in spec["model"]["vocab"].items() if piece not in gone}
    return tokenizer.with_spec(spec), past


def follow_stored(checkpoint: Checkpoint, old: Tokenizer, change: Change, past: list[int]) -> Change:
    """`change` with the places of all stored ids, rows of their own for tokens without one (`past`), and notes of both.

    An id whose token the new tokenizer lacks is moved to the token of the same role (end of text, padding), else its row is kept behind
    the vocabulary: it means there what it meant. Raises the errors of `check_heights`.
    """
    check_heights(checkpoint, old, change)
    rows, notes = checkpoint.layout.rows, list(change.notes)
    source = np.where(change.source_ids < rows, change.source_ids, -1)
    if past:
        named = ", ".join(change.tokenizer.pieces.get(i, str(i)) for i in past[:3])
        notes.append(f"{len(past)} added tokens had no row in the model's table and get one of their own: {named}")
    places = {int(i): new for new, i in enumerate(source.tolist()) if i >= 0}
    moved = any(i != new for i, new in places.items())
    carried: list[int] = []
    lists: dict[str, int] = {}
    for path, i in sorted(ids_of(checkpoint), key=lambda item: item[1]):
        if i in places or i in past or (not moved and i < rows):
            continue
        if i >= rows:
            grown = len(source) - rows
            if moved or grown > i - rows:
                notes.append(f"{path} is {i}, past the table of {rows} rows: it stays {i}, whatever token that is now")
            continue
        if re.search(r"suppress_tokens|words_ids|sequence_bias|forced_decoder_ids", path):
            lists[path] = lists.get(path, 0) + 1
            continue
        role = ROLE.fullmatch(path.partition(": ")[2])
        same = special(change.tokenizer, role.group(1)) if role and i in old.pieces else None
        if same is not None and same in change.tokenizer.vocab:
            places[i] = change.tokenizer.vocab[same]
            notes.append(f"{path} was {old.pieces.get(i, i)}, which the new tokenizer lacks: it is now {same}")
        else:
            places[i] = len(source) + len(carried)
            carried.append(i)
            notes.append(
                f"{path} is {old.pieces.get(i, f'id {i}, which is no token')}: its row is kept as {places[i]}, behind the new tokens"
            )
    notes += [f"{path}: {count} ids of tokens that are gone were left out" for path, count in lists.items()]
    source = np.concatenate([source, np.array(carried, dtype=np.int64)])
    return dataclasses.replace(change, source_ids=source, notes=notes, places=places if moved or carried else None)


def special(tokenizer: Tokenizer, role: str) -> str | None:
    """The token that a tokenizer's config gives a role ("eos"), or None."""
    try:
        value = json.loads(tokenizer.companions.get("tokenizer_config.json", b"{}")).get(f"{role}_token")
    except (ValueError, AttributeError):
        return None
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def check_heights(checkpoint: Checkpoint, old: Tokenizer, change: Change) -> None:
    """Raise `TokenizerError` in families where a new id, by its height alone, would mean something else than text."""
    name = (checkpoint.config.get("architectures") or [""])[0]
    highest = change.tokenizer.vocab_size - 1
    generation = checkpoint.id_files().get("generation_config.json", {})
    bound = generation.get("no_timestamps_token_id")
    if type(bound) is int and len(change.new_ids) and int(change.new_ids.max()) > bound:
        raise TokenizerError(
            f"{checkpoint.path}: ids above no_timestamps_token_id ({bound}) are time stamps, so text tokens cannot be added behind them"
        )
    if POOLS_AT_HIGHEST.match(name):
        end = special(change.tokenizer, "eos")
        if end is None or change.tokenizer.vocab.get(end) != highest:
            raise TokenizerError(
                f"{checkpoint.path}: {name} reads a text at its highest id, which must stay the end of text: new ids would be higher"
            )
    text = checkpoint.layout.architecture and checkpoint.layout.architecture.config.get_text_config()
    inside = getattr(text, "vocab_size_per_layer_input", None)
    if type(inside) is int and inside < checkpoint.layout.rows and highest >= inside:
        raise TokenizerError(
            f"{checkpoint.path}: ids from {inside} on are images and sound (vocab_size_per_layer_input), so text "
            "tokens cannot be added behind them"
        )


def mended_fields(checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, int]:
    """Fields of config.json that must say now what they left to the height of ids."""
    name = (checkpoint.config.get("architectures") or [""])[0]
    end = special(tokenizer, "eos")
    if POOLS_BY_DEFAULT.match(name) and end in tokenizer.vocab and _ends(checkpoint) == 2:
        return {"eos_token_id": tokenizer.vocab[end]}
    return {}


def _ends(checkpoint: Checkpoint) -> int | None:
    architecture = checkpoint.layout.architecture
    value = getattr(architecture.config.get_text_config(), "eos_token_id", None) if architecture else None
    return value if type(value) is int else None
