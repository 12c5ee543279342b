"""What is said of pictures of a concept while it is learned: sentences with a place for its word."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from regraft.concepts.host.pipeline import Tower, spelled, towers
from regraft.errors import CorpusError

Kind = Literal["object", "style", "face"]
MEDIA = ("photo", "picture", "rendering", "drawing", "depiction", "image")
LOOKS = ("", "good ", "bright ", "dark ", "clean ", "cropped ", "close-up ", "small ", "plain ")
LONGEST = 2  # pieces of a word that a tokenizer still knows


def templates(kind: Kind) -> list[str]:
    """Sentences with one ``{}``: of an object, of things painted in a style, or of a person's face."""
    if kind == "style":
        return [f"a {look}{medium} in the style of {{}}" for medium in (*MEDIA, "painting") for look in LOOKS]
    inside = "face of {} person" if kind == "face" else "{}"
    forms = [f"a {look}{medium} of {article} " + inside for medium in MEDIA for look in LOOKS for article in ("a", "the")]
    return [form.replace("a a", "a").replace("of a face", "of the face") for form in forms] if kind == "face" else forms


def known(pipeline: Any, sentences: Sequence[str], word: str) -> list[str]:
    """Those whose words the pipeline's tokenizers know, and that end before its last place when `word` stands in them."""
    found = [one for one in sentences if all(_is_known(pipeline, one, word, tower) for tower in towers(pipeline))]
    return found or ["{}"]


def _is_known(pipeline: Any, sentence: str, word: str, tower: Tower) -> bool:
    words = sentence.replace("{}", "").split()
    if any(len(spelled(pipeline, one, tower)) > LONGEST for one in words):
        return False
    return len(spelled(pipeline, sentence.format(word), tower)) + 2 <= int(tower.tokenizer(pipeline).model_max_length)


def read_templates(path: Path) -> list[str]:
    """Sentences from a file, one a line. Raises `CorpusError` for one without a single ``{}``."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        if line.count("{}") != 1 or line.replace("{}", "").count("{"):
            raise CorpusError(f"{path}, line {number}: a template has one {{}} where the word stands: {line!r}")
    if not lines:
        raise CorpusError(f"{path}: no template in it")
    return lines
