"""Every start on every kind of model: {decoder, encoder, encoder-decoder} x {tied, untied} x {extend, replace}, none left out unsaid.

A decoder with an output bias is an untied kind of its own; the other tokenizer of "replace" has its special tokens at other ids.

A start that needs something (text, a model that speaks, a donor, vectors, parallel text, an ontology) is given it in miniature. A cell that
a start refuses is in `REFUSED` with the error it must give.
"""

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
from toy_vocabularies import write_vectors

from regraft.checkpoint import Checkpoint, write
from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.evaluation import pseudo_likelihood
from regraft.graft import ORIGINS
from regraft.language.loading import is_scorable, load_both, load_model
from regraft.method import list_methods, resolve
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import Change, replace
from regraft.vocab.change.change import kept_ids
from regraft.vocab.initializer import Aids, Context, Source, Target
from regraft.vocab.transplant.installed import install
from regraft.vocab.transplant.transplant import transplant

D, PADDING = 16, 8
SPECIAL = ["<unk>", "<s>", "</s>", "<mask>", "<pad>"]
SYLLABLES = [consonant + vowel for vowel in "aeio" for consonant in "bdfgklmnprst"]
WORDS = [a + b for a in ("ba", "de", "fi", "go", "ka", "le") for b in ("ma", "ne", "pi", "ro", "sa", "te")]  # new in `extend`
OTHERS = [a + b for a in ("ma", "pe", "ro", "ta") for b in ("bi", "do", "ga", "le", "ki")]  # and in `replace`
SIZES = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 4}

# quick, but each does what it does: methods not named here run as they come
SETTINGS = {
    "auto": {"minutes": 0.002, "block": 16, "batch_size": 2},
    "cw2v": {"r": 4, "epochs": 1, "batch": 256},
    "focus": {"dim": 8, "epochs": 1, "min_count": 1},
    "hyper-ofa": {"layers": 1, "hidden": 8, "network_epochs": 2},
    "omp": {"k": 4},
    "common-interpolation": {"k": 4},
    "token-distillation": {"snippets": 2, "length": 8, "batch_size": 4, "minutes": None},
    "wechsel": {"k": 3},
}
# (method, kind of model, tied or not; None: either) -> why it says no
REFUSED = {
    ("token-distillation", "encoder-decoder", None): (
        ParameterError,
        "learns from the model itself, and this checkpoint has no language-model head",
    ),
}
METHODS = [cls.name for cls in list_methods("initializer")]
KINDS = ["decoder", "encoder", "encoder-decoder"]
MODELS = [*((kind, tied) for kind in KINDS for tied in (True, False)), ("decoder with bias", False)]


@pytest.fixture(autouse=True)
def _few_masks(monkeypatch):
    """A masked model is asked for 4,000 tokens to score a text, a minute a cell on a busy machine; what is tested here is not the score."""
    monkeypatch.setattr(pseudo_likelihood, "AFFORDABLE", 200)


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


def refusal(method, kind, tied):
    return REFUSED.get((method, kind, tied)) or REFUSED.get((method, kind, None))


CELLS = [(method, kind, tied, how) for method in METHODS for kind, tied in MODELS for how in ("extend", "replace")]


@pytest.mark.parametrize(("method", "kind", "tied", "how"), CELLS)
def test_every_start_on_every_kind_of_model(checkpoints, aids, tmp_path, method, kind, tied, how):
    checkpoint, old, change = checkpoints[kind, tied], old_tokenizer(), change_of(how)
    initializer = resolve("initializer", method, SETTINGS.get(method, {}))
    start = partial(transplant, checkpoint, old, change, initializer, context_of(checkpoint, aids, how, method))
    if (refused := refusal(method, kind, tied)) is not None:
        with pytest.raises(refused[0], match=refused[1]):
            start()
        return
    result = start()
    check_rows(checkpoint, old, change, result)
    check_head(checkpoint, old, change, result, initializer, tied)
    check_files(checkpoint, change, result, tmp_path / "out")


def check_rows(checkpoint, old, change, result):
    """Copied rows are the old ones bit for bit, new ones are numbers, rows of padding the mean."""
    layout, vocab = checkpoint.layout, len(change.source_ids)
    kept, new = np.flatnonzero(change.source_ids >= 0), torch.from_numpy(change.new_ids)
    assert len(new) >= 20
    for table, name in ((result.input, layout.input[0]), (result.head, (layout.head or ("",))[0])):
        if table is None:
            continue
        stored = checkpoint.read(name)
        assert torch.equal(table[torch.from_numpy(kept)], stored[torch.from_numpy(change.source_ids[kept])])
        assert torch.isfinite(table).all()
        assert table.dtype == stored.dtype
        torch.testing.assert_close(table[vocab:], stored[: old.vocab_size].mean(0).expand(len(table) - vocab, -1))
        assert table[new].std() < 20 * stored.std()
    if result.bias is not None:
        stored = checkpoint.read(layout.bias[0]).reshape(-1)
        assert torch.equal(result.bias[torch.from_numpy(kept)], stored[torch.from_numpy(change.source_ids[kept])])
        assert torch.isfinite(result.bias).all()
    counts = result.origin_counts()
    assert counts["copied"] == len(kept)
    assert sum(counts.values()) == len(kept) + len(new)
    assert {ORIGINS[code] for code in result.origins[change.new_ids]} <= {"combined", "sampled", "learned"}


def check_head(checkpoint, old, change, result, initializer, tied):
    """An untied head has rows of its own, made from its own table; rows inside the hull never outrank all old ones."""
    assert (result.head is None) == tied
    new = torch.from_numpy(change.new_ids)
    if not tied:
        assert not torch.equal(result.head[new], result.input[new])
    head = result.input if tied else result.head
    if result.graft is not None and not initializer.separate_head and not tied:
        stored = checkpoint.read(checkpoint.layout.head[0])
        torch.testing.assert_close(head[new], result.graft.apply(stored[: old.vocab_size]), rtol=1e-6, atol=1e-6)
    if result.certificate is not None and result.certificate.inside == 1.0:
        stored = checkpoint.read((checkpoint.layout.input if tied else checkpoint.layout.head)[0])[: old.vocab_size]
        states = torch.randn(200, D, generator=torch.Generator().manual_seed(2))
        old_bias, bias = torch.zeros(old.vocab_size), torch.zeros(len(head))
        if result.bias is not None:
            old_bias, bias = checkpoint.read(checkpoint.layout.bias[0]).reshape(-1)[: old.vocab_size], result.bias
        best = (states @ stored.T + old_bias).amax(1)
        assert ((states @ head[new].T + bias[new]).amax(1) <= best + 1e-4).all()


def check_files(checkpoint, change, result, out):
    """Plain transformers opens what is written, as tied as it was, and computes what the model in memory does."""
    write(checkpoint, out, tensors=result.tensors, extra=change.tokenizer.save)
    model, info = getattr(transformers, checkpoint.config["architectures"][0]).from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    model.eval()
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    assert torch.equal(table, result.input)
    assert (head.weight is table) == (result.head is None)
    assert torch.equal(head.weight, result.input if result.head is None else result.head)
    in_memory = load_model(checkpoint)
    install(in_memory, result)
    ids = torch.from_numpy(change.new_ids[:12]).unsqueeze(0)
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    with torch.no_grad():
        here, there = in_memory(**inputs).logits, model(**inputs).logits
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
    again = Tokenizer.from_directory(out)
    assert again.encode(texts("extend")[0]) == change.tokenizer.encode(texts("extend")[0])


def test_the_table_has_a_row_for_every_start_and_no_stale_exception():
    assert {method for method, *_ in CELLS} == {cls.name for cls in list_methods("initializer")}
    assert len(CELLS) == 14 * len(METHODS)
    assert {method for method, *_ in REFUSED} <= set(METHODS)
    assert set(SETTINGS) <= set(METHODS)


@pytest.mark.parametrize("method", [cls.name for cls in list_methods("initializer") if cls.needs and cls.name != "auto"])
def test_without_what_it_needs_it_says_which_option_to_give(checkpoints, method):
    """`auto` alone does with what it gets."""
    change, old = change_of("extend"), old_tokenizer()
    checkpoint = checkpoints["decoder", True]
    table = checkpoint.read(checkpoint.layout.input[0])[: old.vocab_size]
    target = Target(change.new_ids, change.tokenizer, change.source_ids, old)
    initializer = resolve("initializer", method, SETTINGS.get(method, {}))
    with pytest.raises(ParameterError, match=r"needs (text|--[a-z-]+)|learns from the model itself") as caught:
        initializer(Source(table, old), target, Context())
    needs = type(initializer).needs
    assert any(f"--{need.replace('_', '-')}" in str(caught.value) or need in ("text", "model") for need in needs)
