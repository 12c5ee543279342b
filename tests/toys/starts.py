"""What every start is tried on: models of each kind, two changes of their tokenizer, and all that a start may ask for."""

import json
import random
from functools import cache, partial

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.language.loading import is_scorable, load_both
from regraft.method import list_methods
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import Change, replace
from regraft.vocab.change.change import kept_ids
from regraft.vocab.initializer import Aids, Context
from toys.vocabularies import write_vectors

D, PADDING = 16, 8
SPECIAL = ["<unk>", "<s>", "</s>", "<mask>", "<pad>"]
SYLLABLES = [consonant + vowel for vowel in "aeio" for consonant in "bdfgklmnprst"]
WORDS = [a + b for a in ("ba", "de", "fi", "go", "ka", "le") for b in ("ma", "ne", "pi", "ro", "sa", "te")]  # new in `extend`
OTHERS = [a + b for a in ("ma", "pe", "ro", "ta") for b in ("bi", "do", "ga", "le", "ki")]  # and in `replace`
SIZES = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 4}

# quick, but each does what it does: methods not named here run as they come
SETTINGS = {
    "auto": {"steps": 2, "block": 16, "batch_size": 2},
    "cw2v": {"r": 4, "epochs": 1, "batch": 256},
    "focus": {"dim": 8, "epochs": 1, "min_count": 1},
    "hyper-ofa": {"layers": 1, "hidden": 8, "network_epochs": 2},
    "omp": {"k": 4},
    "common-interpolation": {"k": 4},
    "token-distillation": {"snippets": 2, "length": 8, "batch_size": 4, "minutes": None},
    "wechsel": {"k": 3},
}
METHODS = [cls.name for cls in list_methods("initializer")]
KINDS = ["decoder", "encoder", "encoder-decoder"]
MODELS = [*((kind, tied) for kind in KINDS for tied in (True, False)), ("decoder with bias", False)]


def tokenizer_of(words, reverse=False):
    """BPE over letters: specials, the marker, letters, syllables, and the words and marked words that merges make of them."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [(s[0], s[1]) for s in SYLLABLES]
    for word in words:
        merges += [(word[:2], word[2:])]
    merges += [("▁", piece) for piece in [*SYLLABLES[:12], *words]]
    first = [*SPECIAL, "▁", *letters]
    pieces = dict.fromkeys([*(first[::-1] if reverse else first), *(a + b for a, b in merges)])
    backend = Backend(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    named |= {"bos_token": "<s>", "pad_token": "<pad>"}
    return Tokenizer.from_spec(json.loads(backend.to_str()), {"tokenizer_config.json": json.dumps(named).encode()})


@cache
def old_tokenizer():
    return tokenizer_of([])


@cache
def change_of(how):
    old = old_tokenizer()
    if how == "extend":
        new = tokenizer_of(WORDS)
        spec = new.editable()  # old ids first
        order = [*sorted(old.model_vocab, key=old.model_vocab.get), *(p for p in new.model_vocab if p not in old.model_vocab)]
        spec["model"]["vocab"] = {piece: i for i, piece in enumerate(order)}
        new = new.with_spec(spec)
        return Change(new, kept_ids(old, new))
    return replace(old, tokenizer_of(OTHERS, reverse=True))


def texts(how, count=60):
    draw, words = random.Random(1), WORDS if how == "extend" else OTHERS
    return [" ".join(draw.choices([*words, *SYLLABLES], k=12)) for _ in range(count)]


def built(kind, rows):
    if kind == "decoder":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=rows, **SIZES, **IDS, tie_word_embeddings=False))
    if kind == "decoder with bias":
        return transformers.PhiForCausalLM(transformers.PhiConfig(vocab_size=rows, **SIZES, **IDS, tie_word_embeddings=False))
    if kind == "encoder":
        return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=rows, **SIZES, pad_token_id=4, tie_word_embeddings=False))
    config = {"d_model": D, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=rows, **config, pad_token_id=4, eos_token_id=2))


def saved(folder, kind, tied, tokenizer, seed=0):
    """A model of `kind` with values everywhere, some rows of padding, and its tokenizer."""
    torch.manual_seed(seed)
    model = built(kind, tokenizer.vocab_size + PADDING)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            model.get_output_embeddings().bias.sub_(5)  # all below the zero that some starts give to new tokens
    if tied and kind != "encoder-decoder":
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(folder)
    if not tied and kind == "encoder-decoder":  # as T5 1.1 is stored
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    tokenizer.save(folder)
    return Checkpoint.open(folder)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    found = {(kind, tied): saved(root / f"{kind}-{tied}", kind, tied, old_tokenizer()) for kind, tied in MODELS}
    for (kind, tied), checkpoint in found.items():
        assert (checkpoint.layout.kind, checkpoint.layout.tied) == (kind.removesuffix(" with bias"), tied)
        assert bool(checkpoint.layout.bias) == (kind in ("encoder", "decoder with bias"))
    return found


@pytest.fixture(scope="module")
def aids(tmp_path_factory):
    """Everything that a start may ask for, by kind of change."""
    found = {}
    for how in ("extend", "replace"):
        root = tmp_path_factory.mktemp(how)
        saved(root / "donor", "decoder", False, change_of(how).tokenizer, seed=3)
        draw, new = np.random.default_rng(5), WORDS if how == "extend" else OTHERS
        vector = {word: draw.normal(size=6).round(3).tolist() for word in [*SYLLABLES, *new]}
        old_text = [" ".join(word[i : i + 2] for word in text.split() for i in (0, 2) if word[i : i + 2]) for text in texts(how)]
        for name, lines in (("source.txt", old_text), ("target.txt", texts(how))):
            (root / name).write_text("\n".join(lines), encoding="utf-8")
        (root / "dictionary.txt").write_text("\n".join(f"{s}\t{s}" for s in SYLLABLES), encoding="utf-8")
        found[how] = Aids(
            donor=root / "donor",
            vectors=write_vectors(root / "target.vec", vector),
            source_vectors=write_vectors(root / "source.vec", {word: vector[word] for word in SYLLABLES}),
            dictionary=root / "dictionary.txt",
            bitext=(root / "source.txt", root / "target.txt"),
            ontology=("words=somewhere",),
        )
    return found


def context_of(checkpoint, aids, how, method):
    """As a job makes it. `auto`, which needs text alone, gets no more: the starts that it would try beside have cells of their own."""
    load = partial(load_both, checkpoint, old_tokenizer(), "float32", "cpu") if is_scorable(checkpoint) else None
    return Context(
        corpus=Corpus.from_texts(texts(how), held_out=0), seed=1, aids=Aids() if method == "auto" else aids[how], load_model=load
    )
