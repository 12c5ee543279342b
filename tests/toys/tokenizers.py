"""Tokenizers of a few hand-written pieces, so that every spelling can be worked out by hand."""

import json

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from regraft.tokenizer import Tokenizer
from regraft.vocab.initializer import Target

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def byte_bpe(merges=(), bos=False) -> Tokenizer:
    """Byte-level BPE: <s>, </s>, 256 bytes, and what `merges` ("a b" pairs) make. With `bos` it puts <s> first."""
    pairs = [tuple(merge.split(" ")) for merge in merges]
    pieces = dict.fromkeys(["<s>", "</s>", *BYTES, *(a + b for a, b in pairs)])
    backend = Backend(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrapped(backend)


def fallback_bpe(merges=(), extra=()) -> Tokenizer:
    """SentencePiece-style BPE: <unk>, <s>, </s>, 256 fallback bytes, the marker, letters, `extra` characters, and what `merges` make."""
    pairs = [tuple(merge.split(" ")) for merge in merges]
    pieces = dict.fromkeys(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS, *extra])
    pieces |= dict.fromkeys(a + b for a, b in pairs)
    model = models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    return wrapped(backend)


def character_bpe(merges, letters=LETTERS) -> Tokenizer:
    """BPE over letters without bytes, small enough for tiny tables: <unk>, <s>, </s>, the marker, `letters`, and what `merges` make."""
    pairs = [tuple(merge.split(" ")) for merge in merges]
    pieces = dict.fromkeys(["<unk>", "<s>", "</s>", "▁", *letters, *(a + b for a, b in pairs)])
    backend = Backend(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=pairs, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    return wrapped(backend)


def wordpiece(words) -> Tokenizer:
    """Lower-casing WordPiece of [PAD], [UNK], [CLS], [SEP], [MASK] and `words`."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backend = Backend(models.WordPiece(vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([AddedToken(token, special=True) for token in pieces[:5]])
    return wrapped(backend)


def wrapped(backend: Backend) -> Tokenizer:
    config = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}).encode()
    return Tokenizer.from_spec(json.loads(backend.to_str()), {"tokenizer_config.json": config})


def target(old: Tokenizer, new: Tokenizer, pieces=None) -> Target:
    """The tokens of `new` that `old` lacks (in the order of `pieces`, if given), as an initializer gets them."""
    fresh = [piece for piece in sorted(new.vocab, key=new.vocab.get) if piece not in old.vocab]
    source_ids = np.array([old.vocab.get(new.pieces.get(i, ""), -1) for i in range(new.vocab_size)], dtype=np.int64)
    ids = np.array([new.vocab[piece] for piece in pieces or fresh], dtype=np.int64)
    return Target(ids=ids, tokenizer=new, source_ids=source_ids, old_tokenizer=old)
