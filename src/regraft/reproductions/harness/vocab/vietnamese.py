"""The Vietnamese setting of several reproductions: SmolLM2-135M hardly knows the language. The text is the data set ``en-vi-wikipedia``."""

from regraft import datasets
from regraft.progress import step
from regraft.reproductions.harness.vocab.setting import Setting, Texts

DATA = "en-vi-wikipedia"


def vietnamese_setting(pieces: int, *, sentences: int, vietnamese: int, english: int) -> Setting:
    """`pieces` new ones by continued training on `sentences` of 10,000 sentences; so many held-out sentences of each language."""
    with step("reading the text"):
        text = {name: read_lines(name) for name in ("vi.train", "en.train", "vi.valid", "en.valid")}
    texts = Texts(
        language="Vietnamese",
        data=DATA,
        target=text["vi.train"][:sentences],
        english=text["en.train"],
        target_held_out=text["vi.valid"][:vietnamese],
        english_held_out=text["en.valid"][:english],
    )
    return Setting.prepare(pieces, texts)


def read_lines(file: str) -> list[str]:
    """The sentences of one file of the data set."""
    return datasets.fetch(DATA, file).read_text(encoding="utf-8").splitlines()
