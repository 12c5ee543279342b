"""Text shorter than one block is refused by name, and before the work begins."""

import pytest

from regraft.errors import CorpusError
from regraft.training import QLORA, Training, train
from regraft.vocab.adapt import adapt
from toys.models import llama, texts, tokenizer


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What `adapt` is called with, and a corpus of about 15,000 tokens."""
    root = tmp_path_factory.mktemp("short")
    llama().save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")
    (root / "corpus.txt").write_text("\n\n".join(texts(800, seed=3)), encoding="utf-8")
    (root / "words.txt").write_text("zorquix", encoding="utf-8")
    return {"model": root / "model", "corpus": [root / "corpus.txt"], "words": root / "words.txt", "out": root / "out"}


@pytest.fixture(autouse=True)
def _begun(monkeypatch):
    def begun(*_):
        raise AssertionError("rows are being started")

    monkeypatch.setattr("regraft.vocab.adapt.transplant", begun)


PAPER = Training(**QLORA, steps=1)


def test_half_a_page_of_english_is_no_block_of_the_paper(job):
    message = r"^the replay text .*everyday English\) has \d+ tokens, less than one block of 2048: .*--source-text"
    with pytest.raises(CorpusError, match=message):
        adapt(**job, training=PAPER)
    with pytest.raises(AssertionError, match="rows are being started"):
        adapt(**job, training=PAPER, source_text=job["corpus"])
    assert not job["out"].exists()


def test_a_single_document_is_scored_and_leaves_none_to_replay(job, tmp_path):
    (tmp_path / "one.txt").write_text("the cat sat on a mat " * 100, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"^the replay text .* has 0 tokens"):
        adapt(**job, training=Training(steps=1, block=16, replay=0.1), source_text=[tmp_path / "one.txt"])


def test_a_corpus_below_a_block(job, tmp_path):
    (tmp_path / "small.txt").write_text("\n\n".join(texts(40)), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"small\.txt: the text to train on has \d+ tokens, less than one block of 2048: .*--corpus"):
        adapt(**job | {"corpus": [tmp_path / "small.txt"]}, training=PAPER)


def test_training_itself_names_the_replay_text():
    with pytest.raises(CorpusError, match=r"^the replay text has \d+ tokens, less than one block of 64"):
        train(llama(), tokenizer(), texts(80), Training(steps=1, block=64, replay=0.1), replay_texts=["the cat"])
