"""Ids of tokens that files store: which fields hold them, at any depth, and how they follow a vocabulary whose ids move.

Enters: a JSON document, where each old id is now. Leaves: the document with its ids moved.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

ID_FILES = ("generation_config.json", "processor_config.json", "preprocessor_config.json")
# fields of one id, or of lists of them, lists of lists, or maps of names to them
ID_FIELD = re.compile(
    r".*_token_(id|index|ids|indices|id_list)|(begin_)?suppress_tokens|(bad|force)_words_ids|stop_token_ids|forced_decoder_ids|"
    r"sequence_bias|(lang|task|speaker)\w*_to_id|lang_code_to_id|(pad|bos|eos|unk|mask|cls|sep|image|video|audio)_index|lang_id"
)
OTHER_IDS = re.compile(r"(codebook|codec|semantic|coarse|fine)_.*")  # of other vocabularies
PAIRS = {"forced_decoder_ids": 1, "sequence_bias": 0}  # lists of pairs, of which one side is an id, or ids
LISTS = re.compile(r"(begin_)?suppress_tokens|(bad|force)_words_ids|sequence_bias|forced_decoder_ids")  # entries that may go


def move_ids(document: Mapping[str, Any], places: Mapping[int, int]) -> dict[str, Any]:
    """`document` with every id that it stores moved to ``places[id]``; one that is not in `places` stays, or leaves its list.

    Only lists of what must or must not be written lose entries: a token that is gone can neither be written nor kept from it.
    """
    return {key: _moved(key, value, places) for key, value in document.items()}


def stored_ids(document: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """(path of the field, id) of every id that `document` stores."""
    if not isinstance(document, Mapping):
        return
    for key, value in document.items():
        here = f"{path}.{key}" if path else key
        if ID_FIELD.fullmatch(key) and not OTHER_IDS.fullmatch(key):
            yield from ((here, i) for i in _ids_in(value, PAIRS.get(key)))
        else:
            yield from stored_ids(value, here)


def _ids_in(value: Any, side: int | None = None) -> Iterator[int]:
    if type(value) is int:
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _ids_in(entry[side] if side is not None and isinstance(entry, list) and len(entry) == 2 else entry)
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _ids_in(entry)


def _moved(key: str, value: Any, places: Mapping[int, int]) -> Any:
    if ID_FIELD.fullmatch(key) and not OTHER_IDS.fullmatch(key):
        return _follow(value, places, PAIRS.get(key), bool(LISTS.fullmatch(key)))
    if isinstance(value, Mapping):
        return move_ids(value, places)
    return value


def _follow(value: Any, places: Mapping[int, int], side: int | None, may_go: bool) -> Any:
    if type(value) is int:
        return places.get(value, value)
    if isinstance(value, Mapping):
        return {name: _follow(entry, places, None, may_go) for name, entry in value.items()}
    if not isinstance(value, list):
        return value
    moved = []
    for entry in value:
        pair = side is not None and isinstance(entry, list) and len(entry) == 2
        ids = set(_ids_in(entry[side] if pair else entry))
        if may_go and not ids <= places.keys():
            continue
        if pair:
            moved.append([_follow(part, places, None, may_go) if number == side else part for number, part in enumerate(entry)])
        else:
            moved.append(_follow(entry, places, None, may_go))
    return moved
