"""The toy pipeline's tokenizer: a `CLIPTokenizer` with one piece for each word it was taught, and letters for all others."""

import json
import string
from pathlib import Path
from typing import Any

from regraft.concepts.toy.pictures import BACKGROUNDS, CATEGORY, FOREGROUNDS, TEMPLATES, WORDS

SPARE = ("sks", "cat", "dog", "person", "face")  # in the vocabulary, in no caption
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 20


def known_words() -> list[str]:
    """Every word of the captions, and the spare ones, sorted."""
    plain = " ".join(TEMPLATES).replace("{}", "") + " on a background"
    return sorted({*plain.split(), *FOREGROUNDS, *BACKGROUNDS, *WORDS, CATEGORY, *SPARE})


def make_tokenizer(folder: Path) -> Any:
    """The tokenizer, from files written to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = list(string.ascii_lowercase + string.digits + "<>-_.,!'|")
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=1, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False, special_tokens=[]
    )
    trained.train_from_iterator(known_words(), trainer)
    spelled = json.loads(trained.to_str())["model"]
    whole = [token for token in spelled["vocab"] if token not in letters]
    tokens = [*letters, *[f"{letter}</w>" for letter in letters]]
    tokens += [token for token in whole if token not in tokens]
    vocab = {token: place for place, token in enumerate([*tokens, START, END])}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in spelled["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=LENGTH,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )
