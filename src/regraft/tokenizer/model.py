"""A tokenizer as data: `tokenizer.json` as a dictionary, with the files that must stay in step with it.

Enters: a model directory or a `tokenizer.json`. Leaves: `Tokenizer`, which knows the bytes each token stands for, how its model spells raw
bytes, and how to encode text; surgery elsewhere in this package makes a new one and never touches the old.
"""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import tokenizers

from regraft.errors import TokenizerError
from regraft.tokenizer import files
from regraft.tokenizer.alphabet import WORD_MARKER, fallback_byte, fallback_piece, from_stand_ins, to_stand_ins

Algorithm = Literal["byte-bpe", "sentencepiece-bpe", "wordpiece", "unigram"]


class Tokenizer:
    """A `tokenizer.json` and its companion files. Treat it as frozen.

    Attributes
    ----------
    spec : the parsed `tokenizer.json`.
    companions : name -> content of the files beside it (`tokenizer_config.json`, `chat_template.jinja`, `vocab.txt`, ...).
    model_type : what the model's `config.json` beside it calls itself, or None; `transformers` picks a tokenizer class by it.
    algorithm : "byte-bpe", "sentencepiece-bpe" (with or without byte fallback), "wordpiece" or "unigram".
    """

    def __init__(
        self,
        spec: dict[str, Any],
        companions: Mapping[str, bytes] | None = None,
        *,
        where: str = "tokenizer.json",
        model_type: str | None = None,
    ) -> None:
        self.spec = spec
        self.companions = dict(companions or {})
        self.where = where
        self.model_type = model_type
        self.algorithm: Algorithm = _algorithm(spec, where)

    @classmethod
    def from_directory(cls, path: str | Path) -> "Tokenizer":
        """Read `tokenizer.json` and its companions from a directory (or a `tokenizer.json` itself, with the files beside it).

        Raises `TokenizerError` if there is none, if it is malformed, or if its model is of a kind that cannot be changed.
        """
        path = Path(path)
        file = path if path.is_file() else path / "tokenizer.json"
        if not file.is_file() and (kind := files.read_class(file.parent)) in files.WITHOUT_PIECES:
            raise TokenizerError(f"{path}: {kind} reads bytes or characters and has no pieces, so there is no vocabulary to change")
        if not file.is_file():
            raise TokenizerError(
                f"{path}: no tokenizer.json; make one with AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers >= 5"
            )
        try:
            spec = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise TokenizerError(f"{file}: not valid JSON ({error}); fetch the file again") from None
        companions = files.read_companions(file.parent)
        return cls.from_spec(spec, companions, where=str(file), model_type=files.read_model_type(file.parent))

    @classmethod
    def from_spec(
        cls,
        spec: dict[str, Any],
        companions: Mapping[str, bytes] | None = None,
        *,
        where: str = "tokenizer.json",
        model_type: str | None = None,
    ) -> "Tokenizer":
        """Build from a parsed `tokenizer.json`; checks that the `tokenizers` library accepts it."""
        tokenizer = cls(spec, companions, where=where, model_type=model_type)
        _ = tokenizer.backend
        return tokenizer

    def save(self, directory: str | Path) -> None:
        """Write `tokenizer.json` and the companions; remove tokenizer files there that are not this tokenizer's.

        Each file appears whole, and a hard link to another directory's file is broken, never written through.
        """
        contents = {"tokenizer.json": json.dumps(self.spec, ensure_ascii=False, indent=1).encode("utf-8"), **self.companions}
        files.write_companions(Path(directory), contents)

    def with_spec(self, spec: dict[str, Any], companions: Mapping[str, bytes] | None = None) -> "Tokenizer":
        """A new tokenizer with another spec and, unless given, the same companions."""
        companions = self.companions if companions is None else companions
        return Tokenizer.from_spec(spec, companions, where=self.where, model_type=self.model_type)

    @cached_property
    def backend(self) -> tokenizers.Tokenizer:
        """The `tokenizers` object, without the truncation and padding that the file may ask for."""
        spec = {**self.spec, "truncation": None, "padding": None}
        try:
            return tokenizers.Tokenizer.from_str(json.dumps(spec))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{self.where}: malformed: {str(error).splitlines()[0]}") from None

    # -- vocabulary ------------------------------------------------------------------------------------------------

    @property
    def model(self) -> dict[str, Any]:
        """The `model` part of the spec."""
        return cast("dict[str, Any]", self.spec["model"])

    @cached_property
    def model_vocab(self) -> dict[str, int]:
        """Pieces of the model alone, without added tokens that live outside it."""
        vocab = self.model["vocab"]
        return {piece: i for i, (piece, _) in enumerate(vocab)} if self.algorithm == "unigram" else dict(vocab)

    @cached_property
    def vocab(self) -> dict[str, int]:
        """Every token, the model's and the added ones -> id."""
        return dict(self.backend.get_vocab(with_added_tokens=True))

    @cached_property
    def pieces(self) -> dict[int, str]:
        """Id -> the string in the vocabulary (internal form: stand-ins, markers and all)."""
        inverse = {i: piece for piece, i in self.model_vocab.items()}
        inverse.update({i: token.content for i, token in self.backend.get_added_tokens_decoder().items()})
        return inverse

    @cached_property
    def vocab_size(self) -> int:
        """1 + the highest id, so holes count."""
        return 1 + max(self.pieces, default=-1)

    @cached_property
    def added(self) -> dict[int, tokenizers.AddedToken]:
        """Id -> added token, special or not."""
        return dict(self.backend.get_added_tokens_decoder())

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens."""
        return frozenset(i for i, token in self.added.items() if token.special)

    def is_special(self, token: int) -> bool:
        """Whether `token` is special."""
        return token in self.special_ids

    @cached_property
    def unknown_id(self) -> int | None:
        """The id that stands for text the model cannot write, or None."""
        if self.algorithm == "unigram":
            return cast("int | None", self.model.get("unk_id"))
        name = self.model.get("unk_token")
        return self.model_vocab.get(name) if name is not None else None

    @property
    def continuing_prefix(self) -> str:
        """What a piece inside a word begins with: `##` in WordPiece, usually nothing in BPE."""
        return self.model.get("continuing_subword_prefix") or ""

    @cached_property
    def byte_ids(self) -> dict[int, int]:
        """Byte value -> id of the token for that single byte (stand-ins or byte fallback); empty for models without."""
        if self.algorithm == "byte-bpe":
            pairs = ((byte, self.model_vocab.get(to_stand_ins(bytes([byte])))) for byte in range(256))
        elif self.model.get("byte_fallback"):
            pairs = ((byte, self.model_vocab.get(fallback_piece(byte))) for byte in range(256))
        else:
            return {}
        return {byte: i for byte, i in pairs if i is not None}

    def surface(self, token: int) -> bytes:
        """Bytes that a token stands for; a word-initial marker is a leading space, `##` is dropped. A hole in the ids gives b""."""
        piece = self.pieces.get(token)
        if piece is None:
            return b""
        if token in self.added:
            return piece.encode("utf-8", "surrogatepass")
        return self.piece_surface(piece)

    def piece_surface(self, piece: str) -> bytes:
        """As `surface`, for a model piece by its internal string."""
        suffix = self.model.get("end_of_word_suffix")
        if suffix:
            piece = piece.removesuffix(suffix)
        if self.continuing_prefix and piece != self.continuing_prefix:
            piece = piece.removeprefix(self.continuing_prefix)
        if self.algorithm == "byte-bpe":
            data = from_stand_ins(piece)
            return piece.encode("utf-8") if data is None else data
        if self.algorithm == "wordpiece":
            return piece.encode("utf-8")
        byte = fallback_byte(piece) if self.model.get("byte_fallback") else None
        return bytes([byte]) if byte is not None else piece.replace(WORD_MARKER, " ").encode("utf-8")

    def continues_word(self, token: int) -> bool:
        """Whether the token carries the prefix of pieces inside a word (`##ing`). Always False where words are marked by a space."""
        piece, prefix = self.pieces.get(token, ""), self.continuing_prefix
        return bool(prefix) and token not in self.added and piece.startswith(prefix) and piece != prefix

    # -- text ------------------------------------------------------------------------------------------------------

    def spell(self, surface: bytes, continues_word: bool = False) -> list[int]:
        """Old pieces of raw bytes, straight from the model: no pre-tokenizer, normalizer, special token or dummy space.

        Bytes that are not UTF-8 are spelled by byte tokens where the model has them. Text with a character that the model lacks is tried
        in its normalized form (a lower-casing model spells "The" as "the"); what it still cannot write is dropped. May be empty.
        """
        if self.algorithm == "byte-bpe":
            return [t.id for t in self.backend.model.tokenize(to_stand_ins(surface))]
        ids, complete = self._spell_text(surface, continues_word)
        if not complete and self.backend.normalizer is not None:
            plain = self.backend.normalizer.normalize_str(surface.decode("utf-8", "ignore"))
            if not surface.startswith(b" "):
                plain = plain.removeprefix(WORD_MARKER)
            ids, _ = self._spell_text(plain.replace(WORD_MARKER, " ").encode("utf-8"), continues_word)
        return [i for i in ids if i != self.unknown_id]

    def _spell_text(self, surface: bytes, continues_word: bool) -> tuple[list[int], bool]:
        """Ids of `surface`, and whether nothing in it was unknown."""
        ids: list[int] = []
        complete = True
        while surface:
            try:
                text, broken, surface = surface.decode("utf-8"), b"", b""
            except UnicodeDecodeError as error:
                text, broken = surface[: error.start].decode("utf-8"), surface[error.start : error.end]
                surface = surface[error.end :]
            if self.algorithm == "wordpiece":
                found = self._spell_words(text, continues_word and not ids)
            else:
                found = [token.id for token in self.backend.model.tokenize(text.replace(" ", WORD_MARKER))] if text else []
            complete &= self.unknown_id not in found
            ids += found + [self.byte_ids[byte] for byte in broken if byte in self.byte_ids]
        return ids, complete

    def _spell_words(self, text: str, continues_word: bool) -> list[int]:
        unknown = -1 if self.unknown_id is None else self.unknown_id
        ids: list[int] = []
        for position, word in enumerate(text.split(" ")):
            pieces = match_longest(word, self.model_vocab, self.continuing_prefix, inside=continues_word and position == 0)
            ids += [self.model_vocab.get(piece, unknown) for piece in pieces]
        return ids

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without special tokens added. Raises `TokenizerError` at a lone surrogate."""
        return self.backend.encode(checked(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, in threads."""
        return [e.ids for e in self.backend.encode_batch_fast([checked(t) for t in texts], add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, special tokens included."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def editable(self) -> dict[str, Any]:
        """A copy of the spec that may be changed; large lists are copied one level deep."""
        model = {k: copy.copy(v) for k, v in self.model.items()}
        return {**{k: copy.deepcopy(v) for k, v in self.spec.items() if k != "model"}, "model": model}


def checked(text: str) -> str:
    """`text`, or a `TokenizerError` that says where its first lone surrogate is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"lone surrogate U+{ord(text[error.start]):04X} at character {error.start}: not Unicode text; "
            "read the file with the right encoding, or replace it"
        ) from None
    return text


def match_longest(word: str, vocab: Mapping[str, int], prefix: str, inside: bool = False) -> list[str]:
    """WordPiece's greedy longest match, left to right; a character without any piece is returned as a piece that `vocab` lacks."""
    pieces, start = [], 0
    while start < len(word):
        mark = prefix if inside or start else ""
        end = len(word)
        while end > start + 1 and mark + word[start:end] not in vocab:
            end -= 1
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def parts(spec: Any) -> Iterable[dict[str, Any]]:
    """A pipeline part of the spec and all that it holds (a `Sequence` holds several), outermost first."""
    if isinstance(spec, dict):
        yield spec
        for name in ("pretokenizers", "normalizers", "decoders"):
            for inner in spec.get(name) or []:
                yield from parts(inner)


def _algorithm(spec: Any, where: str) -> Algorithm:
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise TokenizerError(f"{where}: malformed: no model with a vocabulary; is it a tokenizer.json of the tokenizers library?")
    kind = model.get("type") or _guess_type(model)
    if kind == "WordPiece":
        return "wordpiece"
    if kind == "Unigram":
        return "unigram"
    if kind == "BPE":
        byte_level = any(part.get("type") == "ByteLevel" for name in ("pre_tokenizer", "decoder") for part in parts(spec.get(name)))
        return "byte-bpe" if byte_level else "sentencepiece-bpe"
    raise TokenizerError(f"{where}: a {kind} model cannot be changed: only BPE, WordPiece and Unigram have pieces to add to")


def _guess_type(model: dict[str, Any]) -> str:
    # files of tokenizers < 0.10 do not name the type
    if "merges" in model:
        return "BPE"
    if isinstance(model["vocab"], list):
        return "Unigram"
    return "WordPiece" if "continuing_subword_prefix" in model else "WordLevel"
