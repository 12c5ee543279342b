"""Functions out of a folder of source code, and their split into training, validation and test by file.

Enters: files and folders. Leaves: distinct `Snippet`s with what was skipped and why. Two functions of one file never stand on two sides.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regraft.errors import CorpusError, InputError
from regraft.probe.probes.ast_probe.encoding import Code, Tree, encode
from regraft.probe.probes.ast_probe.grammar import LANGUAGES, Grammar
from regraft.progress import progress_bar

NOT_TEXT = "file is not UTF-8 text"
SHARES = {"train": 0.75, "valid": 0.1, "test": 0.15}


@dataclass(frozen=True)
class Snippet:
    """A tree of n + 1 tokens, its code (d, c, u), and the file (or other group) that it comes from."""

    tree: Tree
    code: Code
    tokens: tuple[str, ...]
    file: str

    @classmethod
    def of(cls, tree: Tree, file: str) -> "Snippet":
        return cls(tree, encode(tree), tree.tokens, file)


@dataclass
class Found:
    """Distinct functions of one language. `skipped` counts the others by reason; `files` of `files_there` were read."""

    language: str
    grammar: Grammar
    snippets: list[Snippet] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    files: int = 0
    files_there: int = 0


@dataclass(frozen=True)
class Split:
    """Three sides, with no file on two of them."""

    train: list[Snippet]
    valid: list[Snippet]
    test: list[Snippet]

    @property
    def all(self) -> list[Snippet]:
        return [*self.train, *self.valid, *self.test]


def source_files(code: Path, language: str | None = None) -> dict[str, list[Path]]:
    """Files of each language below `code`, or of `language` alone, by how their names end.

    A single file is taken for what `language` says. Raises `CorpusError` where there are none.
    """
    if language is not None:
        Grammar(language)
    wanted = [LANGUAGES[language]] if language else list(LANGUAGES.values())
    if code.is_file():
        known = language or next((one.name for one in wanted if code.suffix in one.endings), None)
        found = {known: [code]} if known else {}
    elif code.is_dir():
        below = sorted(path for path in code.rglob("*") if path.is_file() and not _hidden(path.relative_to(code)))
        found = {one.name: [path for path in below if path.suffix in one.endings] for one in wanted}
    else:
        raise CorpusError(f"{code}: no such file or folder: give --code a folder of source files")
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        endings = ", ".join(ending for one in wanted for ending in one.endings)
        raise CorpusError(f"{code}: no {language or 'source'} files there ({endings}): give another folder, or --language")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_functions(files: Sequence[Path], language: str, *, enough: int | None = None, seed: int = 0) -> Found:
    """Distinct functions of `files`, in an order drawn by `seed`, until `enough` are found."""
    found = Found(language, Grammar(language), files_there=len(files))
    seen: set[tuple[str, ...]] = set()
    with progress_bar(f"reading {language}", total=enough or len(files), unit="functions" if enough else "files") as bar:
        for number in np.random.default_rng(seed).permutation(len(files)):
            if enough is not None and len(found.snippets) >= enough:
                break
            before = len(found.snippets)
            found.files += 1
            for snippet in _functions(files[number], found):
                if snippet.tokens in seen:
                    found.skipped["another function has the same tokens"] += 1
                    continue
                seen.add(snippet.tokens)
                found.snippets.append(snippet)
            bar.advance(len(found.snippets) - before if enough else 1)
    return found


def _functions(path: Path, found: Found) -> Iterator[Snippet]:
    try:
        source = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        found.skipped[NOT_TEXT] += 1
        return
    for function in found.grammar.functions(source):
        if function.tree is None:
            found.skipped[function.skipped] += 1
        else:
            yield Snippet.of(function.tree, str(path))


def draw(snippets: Sequence[Snippet], count: int, seed: int = 0) -> list[Snippet]:
    """At most `count` of the snippets, without order among files lost to chance: the same for the same seed."""
    if len(snippets) <= count:
        return list(snippets)
    chosen = np.sort(np.random.default_rng(seed).choice(len(snippets), count, replace=False))
    return [snippets[number] for number in chosen]


def split_by_file(snippets: Sequence[Snippet], seed: int = 0) -> Split:
    """Three quarters to train on, a tenth to validate, the rest to test; each file goes where most is missing.

    Raises `InputError` for fewer than three files: nothing could be kept apart.
    """
    by_file: dict[str, list[Snippet]] = {}
    for snippet in snippets:
        by_file.setdefault(snippet.file, []).append(snippet)
    if len(by_file) < len(SHARES):
        raise InputError(
            f"functions come from {len(by_file)} file{'s' * (len(by_file) != 1)}: training, validation and test are kept apart by file, "
            f"so at least {len(SHARES)} files with functions are needed: give more code, or take more functions (--functions)"
        )
    sides: dict[str, list[Snippet]] = {side: [] for side in SHARES}
    names = sorted(by_file)
    for number in np.random.default_rng(seed).permutation(len(names)):
        emptiest = min(sides, key=lambda side: len(sides[side]) / SHARES[side])
        sides[emptiest] += by_file[names[number]]
    return Split(**sides)
