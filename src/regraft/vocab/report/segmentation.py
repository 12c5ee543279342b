"""Tokens shown as marked-up text: how two tokenizers cut a sentence, and which old tokens lie nearest to the new ones.

Enters: pieces as bytes. Leaves: HTML fragments for `Report.add_html`, all text escaped. Spaces are visible, bytes that are no whole
character are shown in hexadecimal, and new pieces are both coloured and underlined.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from regraft.report import escape

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\u3000": "□"}
DOTTED_CIRCLE = "\u25cc"  # carries a combining mark that starts a piece


@dataclass(frozen=True)
class Segmentation:
    """One sentence cut by one tokenizer: `pieces` are the surface bytes, `new` the positions of pieces the old vocabulary lacks."""

    name: str
    pieces: Sequence[bytes]
    new: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Neighbors:
    """A new token and its nearest old ones, as (bytes, similarity), nearest first."""

    token: bytes
    nearest: Sequence[tuple[bytes, float]]


def segmentation_html(samples: Sequence[Sequence[Segmentation]]) -> str:
    """Samples under each other; each is one sentence cut by several tokenizers, one line a tokenizer."""
    legend = (
        '<p class="legend"><span class="piece new">new piece</span> <span class="piece">old</span><span class="piece odd">pieces</span> '
        '<span class="piece">x<i>·</i>y</span> a space '
        '<span class="piece"><span class="hex">E1 BA</span></span> bytes of a character that was cut</p>'
    )
    return legend + "".join(f'<div class="sample">{"".join(map(_line, sample))}</div>' for sample in samples)


def nearest_html(rows: Sequence[Neighbors]) -> str:
    """A table of new tokens with their nearest old tokens and the similarity of each."""
    lines = []
    for row in rows:
        near = "".join(f'<span class="neighbor">{piece_html(piece)}<small>{value:.2f}</small></span>' for piece, value in row.nearest)
        lines.append(f"<tr><td>{piece_html(row.token, new=True)}</td><td>{near or '–'}</td></tr>")
    head = '<thead><tr><th scope="col">new token</th><th scope="col">nearest old tokens, with cosine similarity</th></tr></thead>'
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def piece_html(surface: bytes, *, new: bool = False, odd: bool = False) -> str:
    """One piece as a coloured span."""
    kind = "piece new" if new else "piece odd" if odd else "piece"
    return f'<span class="{kind}">{visible_html(surface)}</span>'


def visible_html(surface: bytes) -> str:
    """Bytes as escaped HTML: spaces and controls visible, bytes that are not UTF-8 in hexadecimal."""
    shown: list[str] = []
    position = 0
    while position < len(surface):
        try:
            shown.append(_characters_html(surface[position:].decode(), first=position == 0))
            break
        except UnicodeDecodeError as error:
            shown.append(_characters_html(surface[position : position + error.start].decode(), first=position == 0))
            shown.append(_hex(surface[position + error.start : position + error.end]))
            position += error.end
    return "".join(shown)


def _line(cut: Segmentation) -> str:
    spans = "<wbr>".join(piece_html(piece, new=i in cut.new, odd=i % 2 == 1) for i, piece in enumerate(cut.pieces))
    name = f'<div class="sample-name"><b>{escape(cut.name)}</b> {len(cut.pieces):,} pieces</div>'
    return f'<div class="sample-line">{name}<div class="pieces" dir="auto">{spans}</div></div>'


def _characters_html(text: str, first: bool) -> str:
    shown = []
    for index, character in enumerate(text):
        category = unicodedata.category(character)
        if character in VISIBLE:
            shown.append(f"<i>{VISIBLE[character]}</i>")
        elif category in ("Cc", "Cf", "Zl", "Zp", "Cn", "Co"):  # invisible, or without a glyph: say which it is
            shown.append(f'<span class="hex">U+{ord(character):04X}</span>')
        elif first and index == 0 and category.startswith("M"):
            shown.append(DOTTED_CIRCLE + character)
        else:
            shown.append(escape(character))
    return "".join(shown)


def _hex(data: bytes) -> str:
    return f'<span class="hex">{data.hex(" ").upper()}</span>' if data else ""
