"""The two ways in which a vocabulary writes raw bytes: the printable stand-ins of byte-level BPE, and `<0xE4>` tokens of byte fallback."""

import re

WORD_MARKER = "\u2581"  # SentencePiece's visible space


def _stand_ins() -> dict[int, str]:
    """Byte value -> printable character, as byte-level BPE has it: printable Latin-1 stands for itself, the rest is shifted past U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for shift, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(0x100 + shift)
    return table


BYTE_TO_CHARACTER = _stand_ins()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
_TO_CHARACTERS = [BYTE_TO_CHARACTER[byte] for byte in range(256)]
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>\Z")


def to_stand_ins(data: bytes) -> str:
    """Raw bytes as byte-level BPE writes them in its vocabulary."""
    return "".join(map(_TO_CHARACTERS.__getitem__, data))


def from_stand_ins(piece: str) -> bytes | None:
    """The bytes of a byte-level piece, or None if `piece` has a character that stands for no byte."""
    try:
        return bytes(map(CHARACTER_TO_BYTE.__getitem__, piece))
    except KeyError:
        return None


def fallback_byte(piece: str) -> int | None:
    """The byte value of a byte-fallback piece such as `<0xE4>`, else None."""
    match = _FALLBACK.match(piece)
    return int(match.group(1), 16) if match else None


def fallback_piece(byte: int) -> str:
    """The byte-fallback piece of a byte value."""
    return f"<0x{byte:02X}>"


def is_whole_text(data: bytes) -> bool:
    """Whether `data` is valid UTF-8, so that it begins and ends at character borders."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_inside_character(data: bytes) -> bool:
    """Whether `data` lies within the encoding of a single character (and is not all of it)."""
    lead, rest = data[0], data[1:]
    if any(byte & 0xC0 != 0x80 for byte in rest):
        return False
    if lead & 0xC0 == 0x80:
        return len(data) <= 3
    length = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0
    return len(data) < length
