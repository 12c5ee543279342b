"""Toy tokenizers, one of each kind that families use, with special tokens first and others last.

Enters: text. Leaves: fast tokenizers. The first five tokens are padding, begin, end, unknown and mask; the last ones are extra special
tokens, as of images; in between are the pieces.
"""

import json
import random

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

FIRST = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
EXTRA = 60
ORDINARY = "the cat sat on the mat and the dog ran to an old map of the land where a rat had a hat".split()  # noqa: SIM905
DOMAIN = "zorflum quixbrak mabzor flumquix brakmab zorquix".split()  # noqa: SIM905
OTHER = "the dog and a cat ran past the old hat of a man who had the map then sat under tall trees".split()  # noqa: SIM905
# parts of class names -> the kind of tokenizer of that family's own checkpoints; the first that fits
FAMILIES = {
    "unigram": "albert xlm t5 mbart pegasus camembert rembert bigbird xlnet xglm m2m nllb marian plbart seamless fnet udop reformer",
    "byte-bpe": "modernbert eurobert roberta debertafor",
    "wordpiece": "bert electra funnel layoutlm tapas mpnet ernieform ernieforc prophetnet nystrom mra yoso roformer blipforc gitfor",
    "sentencepiece-bpe": "gemma mistralfor mixtral llavaforc llavanext vipllava phi3 persimmon fuyu zamba idefics minicpm3 chameleon",
}
KINDS = ("byte-bpe", "sentencepiece-bpe", "unigram", "wordpiece")


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(words) for _ in range(draw.randint(6, 14))) for _ in range(count)]


def corpus() -> str:
    """Documents of ordinary words and of words that no toy tokenizer knows."""
    pairs = zip(sentences(ORDINARY, 120, 1), sentences(DOMAIN, 120, 2), strict=True)
    return "\n\n".join(f"{a} {b}" for a, b in pairs)


def few() -> str:
    """Documents that use only some of the pieces."""
    return "\n\n".join(sentences(ORDINARY[:7], 30, 3))


def kind_for(class_name: str) -> str:
    """The kind of tokenizer that the family's own checkpoints have."""
    name = class_name.lower()
    return next((kind for kind, parts in FAMILIES.items() if any(part in name for part in parts.split())), "byte-bpe")


def toy(kind: str, words: list[str] = ORDINARY, extra_first: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of `kind` learned on `words`; with `extra_first` its extra tokens stand before the pieces, so that all ids differ."""
    special = [*FIRST, *(_extra() if extra_first else [])]
    texts = [*sentences(words, 200, 0), "abcdefghijklmnopqrstuvwxyz"]
    if kind == "byte-bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(
            texts,
            trainers.BpeTrainer(vocab_size=290 + len(special), special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
    elif kind == "sentencepiece-bpe":
        backend = _sentencepiece_bpe(texts, special)
    elif kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        backend.train_from_iterator(
            texts, trainers.UnigramTrainer(vocab_size=90 + len(special), special_tokens=special, unk_token="<unk>", show_progress=False)
        )
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    else:
        backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
        backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        backend.train_from_iterator(
            texts, trainers.WordPieceTrainer(vocab_size=110 + len(special), special_tokens=special, show_progress=False)
        )
        backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    if not extra_first:
        backend.add_special_tokens(_extra())
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    if kind == "wordpiece":
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def _extra() -> list[str]:
    return [f"<|extra_{number}|>" for number in range(EXTRA)]


def _sentencepiece_bpe(texts: list[str], special: list[str]) -> Tokenizer:
    """As Llama 2's: a mark before the text, bytes for what has no piece, merges over marks and letters."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=70, special_tokens=[], show_progress=False))
    vocab = learner.get_vocab()
    merges = json.loads(learner.to_str())["model"]["merges"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(vocab, key=vocab.get)]
    backend = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=[tuple(pair) for pair in merges],
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    backend.add_special_tokens(special)
    backend.normalizer = learner.normalizer
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend
