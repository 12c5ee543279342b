"""Text in: files, folders, globs, tables, saved datasets, gettext catalogues, standard input.

Enters: paths. Leaves: documents, streamed and repeatable in a stable order, each on the training or the held-out side by a hash of its own
text, so that a document (and every copy of it) is on the same side whatever else is in the corpus.
"""

import glob
import hashlib
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from regraft.corpus.readers import UnreadableError, is_saved_dataset, read_documents
from regraft.errors import CorpusError, ParameterError
from regraft.progress import progress_bar

Split = Literal["train", "held-out", "all"]
HASH_RANGE = 1 << 64


@dataclass(frozen=True)
class TextFile:
    """One source of documents. `named`: the user wrote its path, rather than a folder or pattern that contains it."""

    path: Path
    label: str
    named: bool = False
    suffix: str | None = None


@dataclass
class _Tally:
    """Counts of one pass over documents. `content` adds up digests, so it depends on which documents there are and not on their order."""

    documents: int = 0
    size: int = 0
    held_documents: int = 0
    held_size: int = 0
    content: int = 0
    lowest: tuple[int, int, int] | None = None  # (key, documents, bytes) of the document with the lowest key, copies added up
    highest: tuple[int, int, int] | None = None
    surrogates: int = 0

    def add(self, digest: bytes, size: int, threshold: int) -> None:
        key = split_key(digest)
        self.documents += 1
        self.size += size
        self.content = (self.content + int.from_bytes(digest, "big")) % (1 << 256)
        if key < threshold:
            self.held_documents += 1
            self.held_size += size
        self.lowest = _extreme(self.lowest, (key, 1, size), sign=1)
        self.highest = _extreme(self.highest, (key, 1, size), sign=-1)

    def merge(self, other: "_Tally") -> None:
        self.documents += other.documents
        self.size += other.size
        self.held_documents += other.held_documents
        self.held_size += other.held_size
        self.content = (self.content + other.content) % (1 << 256)
        self.lowest = _extreme(self.lowest, other.lowest, sign=1)
        self.highest = _extreme(self.highest, other.highest, sign=-1)


def _extreme(old: tuple[int, int, int] | None, new: tuple[int, int, int] | None, sign: int) -> tuple[int, int, int] | None:
    if old is None or new is None:
        return old or new
    if old[0] == new[0]:
        return (old[0], old[1] + new[1], old[2] + new[2])
    return old if sign * old[0] < sign * new[0] else new


def document_digest(data: bytes) -> bytes:
    """256-bit BLAKE2b of a document's UTF-8 bytes."""
    return hashlib.blake2b(data, digest_size=32).digest()


def split_key(digest: bytes) -> int:
    """Where a document stands in [0, 2**64): it is held out when this is below ``held_out * 2**64``."""
    return int.from_bytes(digest[:8], "big")


@dataclass
class Corpus:
    """Documents with a train / held-out split. Build one with `Corpus.open` or `Corpus.from_texts`.

    Attributes
    ----------
    size_bytes : bytes of all documents as UTF-8.
    sha256 : hash of the set of documents (with copies counted); the order of files and documents does not matter.
    skipped : (path, why) of what could not be read as text.
    notes : one line each, on what the user should know about the split.
    """

    files: list[TextFile]
    texts: list[str]
    held_out: float
    text_column: str | None = None
    name: str = "corpus"
    size_bytes: int = 0
    sha256: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _threshold: int = 0
    _counts: dict[str, tuple[int, int]] = field(default_factory=dict)  # side -> (documents, bytes)
    _spools: list[IO[bytes]] = field(default_factory=list)  # temporary files live as long as the corpus

    @classmethod
    def open(cls, paths: Sequence[str | Path], *, held_out: float = 0.1, text_column: str | None = None) -> "Corpus":
        """Read every document once: find what cannot be read, count, hash and split. Nothing is kept in memory.

        Parameters
        ----------
        paths : files, folders (searched through; hidden names left out), glob patterns, saved `datasets` directories, or "-" for standard
            input. Text is UTF-8, or UTF-16/32 with a byte order mark, gzipped or not. A text file's documents are the blocks between
            blank lines, or its lines when it has no blank line.
        held_out : share of documents to hold out, in [0, 1).
        text_column : the text column of tables; "text" by default.

        Raises `CorpusError`: a path that does not exist, a pattern without a match, a named table without the column, no text at all.
        """
        spools: list[IO[bytes]] = []
        files, skipped = _find(paths, text_column, spools)
        corpus = cls(files, [], _checked_share(held_out), text_column, name=_short_name(paths), skipped=skipped, _spools=spools)
        corpus._scan()
        return corpus

    @classmethod
    def from_texts(cls, texts: Iterable[str], *, held_out: float = 0.1, name: str = "texts") -> "Corpus":
        """A corpus of texts in memory, one document each; empty ones are left out. Raises `CorpusError` when none is left."""
        kept = [text for text in texts if text and not text.isspace()]
        corpus = cls([], kept, _checked_share(held_out), name=name)
        corpus._scan()
        return corpus

    def documents(self, split: Split = "all") -> Iterator[str]:
        """The documents of one side, in the same order each time. Raises `CorpusError` if a file has changed so that it can't be read."""
        if split not in ("train", "held-out", "all"):
            raise ParameterError(f"split '{split}': choose train, held-out or all")
        for file in self._sources():
            try:
                for text, digest, _ in _digested(self._raw(file), _Tally()):
                    if split == "all" or (split_key(digest) < self._threshold) == (split == "held-out"):
                        yield text
            except UnreadableError as error:
                raise CorpusError(f"{file.label if file else self.name}: changed while in use ({error.why})") from None

    def rows(self) -> Iterator[str]:
        """All documents, and "" for each row of a table that is empty or cannot be UTF-8: one for each row, in the order of the files."""
        for file in self.files:
            try:
                for text in read_documents(file.path, self.text_column, file.suffix, empty=True):
                    yield "" if any("\ud800" <= letter <= "\udfff" for letter in text) else text
            except UnreadableError as error:
                raise CorpusError(f"{file.label}: changed while in use ({error.why})") from None

    def count(self, split: Split = "all") -> int:
        """How many documents one side has."""
        return self._counts[split][0]

    def bytes_of(self, split: Split = "all") -> int:
        """How many bytes of UTF-8 one side has."""
        return self._counts[split][1]

    def _sources(self) -> list[TextFile | None]:
        return [*self.files] or [None]

    def _raw(self, file: TextFile | None) -> Iterator[str]:
        return iter(self.texts) if file is None else read_documents(file.path, self.text_column, file.suffix)

    def _scan(self) -> None:
        self._threshold = math.ceil(self.held_out * HASH_RANGE)
        total = _Tally()
        readable: list[TextFile] = []
        with progress_bar("Reading the corpus", total=max(len(self.files), 1), unit="files") as bar:
            for file in self._sources():
                tally = _Tally()  # a file that turns out unreadable half-way counts for nothing
                label = file.label if file else self.name
                try:
                    for _, digest, size in _digested(self._raw(file), tally):
                        tally.add(digest, size, self._threshold)
                except UnreadableError as error:
                    if error.malformed and file is not None and file.named:
                        raise CorpusError(f"{label}: {error.why}") from None
                    self.skipped.append((label, error.why))
                    continue
                finally:
                    bar.advance()
                    bar.say(f"{total.documents + tally.documents:,} documents")
                if tally.surrogates:
                    self.skipped.append(
                        (label, f"{tally.surrogates} {_plural(tally.surrogates)} with lone surrogates, which UTF-8 cannot hold")
                    )
                if file is not None and tally.documents:
                    readable.append(file)
                total.merge(tally)
        if not total.documents:
            raise CorpusError(_nothing(self.name, self.skipped))
        self.files = readable
        self._settle(total)

    def _settle(self, total: _Tally) -> None:
        """Fix the counts; in a corpus so small that one side came out empty, move the one document that is nearest to the border."""
        held, held_size = total.held_documents, total.held_size
        assert total.lowest is not None
        assert total.highest is not None
        distinct = total.lowest[0] != total.highest[0]
        if self.held_out > 0 and not distinct:
            side = "held-out" if held else "training"
            self.notes.append(f"{self.name}: a single document, all of it on the {side} side; separate documents with blank lines")
        elif self.held_out > 0 and held == 0:
            key, held, held_size = total.lowest
            self._threshold = key + 1
            self.notes.append(f"{self.name}: only {total.documents} documents, none held out by hash: one was held out anyway")
        elif self.held_out > 0 and held == total.documents:
            key, kept, kept_size = total.highest
            self._threshold, held, held_size = key, total.documents - kept, total.size - kept_size
            self.notes.append(f"{self.name}: only {total.documents} documents, all held out by hash: one was kept for training")
        self.size_bytes = total.size
        self.sha256 = hashlib.sha256(f"{total.documents} {total.content:064x}".encode()).hexdigest()
        self._counts = {
            "all": (total.documents, total.size),
            "held-out": (held, held_size),
            "train": (total.documents - held, total.size - held_size),
        }


def _digested(texts: Iterator[str], tally: _Tally) -> Iterator[tuple[str, bytes, int]]:
    """(text, digest, bytes) of each document; those with lone surrogates (JSON can spell them) are only counted."""
    for text in texts:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            tally.surrogates += 1
            continue
        yield text, document_digest(data), len(data)


def _checked_share(held_out: float) -> float:
    if not 0 <= held_out < 1:
        raise ParameterError(f"held-out share {held_out}: give a number from 0 up to, not including, 1")
    return float(held_out)


def _plural(count: int) -> str:
    return "document" if count == 1 else "documents"


def _short_name(paths: Sequence[str | Path], limit: int = 3) -> str:
    shown = ", ".join("standard input" if str(path) == "-" else str(path) for path in paths[:limit])
    return shown + (f" and {len(paths) - limit} more" if len(paths) > limit else "")


def _nothing(name: str, skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return f"{name}: the corpus has no text; give files with at least one line that is not blank"
    shown = "; ".join(f"{path}: {why}" for path, why in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"{name}: the corpus has no text that can be read ({shown}{more}); give UTF-8 text, JSON lines, CSV, Parquet or gettext files"


def _find(paths: Sequence[str | Path], text_column: str | None, spools: list[IO[bytes]]) -> tuple[list[TextFile], list[tuple[str, str]]]:
    """Every file once, sorted by its full path, and what was passed over."""
    if not paths:
        raise CorpusError("no corpus: give --corpus one or more files, folders or patterns")
    found: dict[str, TextFile] = {}
    skipped: list[tuple[str, str]] = []
    for given in paths:
        for file in _expand(str(given), text_column, spools):
            key = os.path.realpath(file.path)
            if not (file.path.is_file() or is_saved_dataset(file.path)):
                skipped.append((file.label, "not a regular file"))
            elif key not in found or file.named:
                found[key] = file
    return [found[key] for key in sorted(found)], skipped


def _expand(given: str, text_column: str | None, spools: list[IO[bytes]]) -> Iterator[TextFile]:
    path = Path(given).expanduser()
    if given == "-":
        yield TextFile(_spool(sys.stdin.buffer, spools), "standard input", named=True, suffix=".jsonl" if text_column else ".txt")
    elif path.is_dir() and not is_saved_dataset(path):
        yield from (TextFile(inside, str(inside)) for inside in _walk(path))
    elif path.is_fifo():
        with path.open("rb") as pipe:
            yield TextFile(_spool(pipe, spools), given, named=True, suffix=".jsonl" if text_column else ".txt")
    elif path.exists():
        yield TextFile(path, given, named=True)
    elif glob.has_magic(given):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # absolute patterns, too
        if not matches:
            raise CorpusError(f"{given}: the pattern matches nothing; check it, and quote it so that the shell leaves it alone")
        for match in map(Path, matches):
            inside = _walk(match) if match.is_dir() and not is_saved_dataset(match) else [match]
            yield from (TextFile(item, str(item)) for item in inside)
    else:
        raise CorpusError(f"{given}: no such file or folder; check the path given as corpus")


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder; a saved dataset counts as one; hidden names are left out and links to folders not followed."""
    for place, names, files in os.walk(folder):
        if is_saved_dataset(Path(place)):
            names.clear()
            yield Path(place)
            continue
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def _spool(stream: IO[bytes], spools: list[IO[bytes]]) -> Path:
    """Copy a stream that can be read only once to a temporary file, which is removed with the corpus."""
    file = tempfile.NamedTemporaryFile(prefix="regraft-")  # noqa: SIM115  # closed, and so removed, with the corpus
    shutil.copyfileobj(stream, file)
    file.flush()
    spools.append(file)
    return Path(file.name)
