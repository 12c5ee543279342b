"""Inputs that people reported of tools that change vocabularies: each is right, or refused in a line that is true."""

import json

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from regraft.checkpoint import Checkpoint
from regraft.checkpoint.ids import move_ids, stored_ids
from regraft.errors import CheckpointError, EvaluationError, InputError, TokenizerError
from regraft.evaluation import score_text
from regraft.language.split import split_of
from regraft.language.tables import live_tables, resize
from regraft.training import Training
from regraft.vocab.adapt import adapt
from regraft.vocab.initializer import Aids

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(path, first=(), last=(), **names):
    backend = Backend(models.BPE())
    backend.decoder, backend.pre_tokenizer = decoders.ByteLevel(), pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=list(first), initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["the cat sat on the mat "] * 9, trainer)
    backend.add_special_tokens(list(last))
    made = t.PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    made.save_pretrained(path)
    return made


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("\n\n".join("zorflum quixbrak mabzor " * 8 + "the cat " * (i + 1) for i in range(40)))
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "few.txt"
    path.write_text("the cat sat\n\non the mat\n\nthe mat")
    return path


def save(model, path):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(path)


def extend(path, corpus, **options):
    return adapt(path, corpus=[corpus], out=path.with_name("new"), extend=5, score=False, **options)


def test_what_is_scored_is_the_model(tmp_path):
    tok = tokenizer(tmp_path, first=["</s>", "<pad>"], eos_token="</s>", pad_token="<pad>")
    config = t.OPTConfig(
        vocab_size=len(tok), hidden_size=64, word_embed_proj_dim=64, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    model, text = t.OPTForCausalLM(config).eval(), "the mat sat on the cat"
    ids = torch.tensor([[0, *tok(text).input_ids]])
    with torch.no_grad():
        nats = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
    assert score_text(model, tok, [text]).bits_per_byte == pytest.approx(nats / 0.693147 / len(text), rel=1e-4)
    assert split_of(model).path == "model.decoder"  # and not the model, which this class never calls


def test_a_model_that_reads_what_it_should_predict_has_no_likelihood(tmp_path):
    tok = tokenizer(tmp_path, first=["</s>"], eos_token="</s>")
    model = t.XLNetLMHeadModel(t.XLNetConfig(vocab_size=len(tok), d_model=32, n_layer=2, n_head=2, d_inner=32)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    with pytest.raises(EvaluationError, match="reads the tokens that it would have to predict"):
        score_text(model, tok, ["the cat sat"])


def gemma4(tok, **more):
    return t.Gemma4TextConfig(
        vocab_size=len(tok), **SIZES, num_key_value_heads=1, head_dim=16, global_head_dim=16, hidden_size_per_layer_input=8,
        layer_types=["sliding_attention", "full_attention"], num_kv_shared_layers=0, **more,
    )  # fmt: skip


def test_input_tables_of_each_layer_grow_by_the_same_graft(tmp_path, corpus):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<pad>", "<eos>", "<bos>"], pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
    save(t.Gemma4ForCausalLM(gemma4(tok, vocab_size_per_layer_input=len(tok))), old)
    graft = extend(old, corpus).transplant.graft
    new = t.AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    table = new.model.embed_tokens_per_layer.weight.detach()
    assert len(table) == len(new.model.embed_tokens.weight) == new.config.vocab_size_per_layer_input == len(tok) + 5
    assert torch.allclose(table[len(tok) :], graft.apply(table[: len(tok)]), atol=1e-6)


def test_a_second_head_that_lies_transposed_grows_by_columns(tmp_path, corpus):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["[PAD]", "[CLS]", "[SEP]", "[MASK]"], pad_token="[PAD]", mask_token="[MASK]")
    config = {"hidden_size": 64, "embedding_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    save(t.MobileBertForMaskedLM(t.MobileBertConfig(vocab_size=len(tok), **config, intra_bottleneck_size=16, true_hidden_size=16)), old)
    adapt(old, corpus=[corpus], out=tmp_path / "new", extend=5, score_bytes=300, source_text=[corpus])  # scored too
    assert t.MobileBertForMaskedLM.from_pretrained(tmp_path / "new").cls.predictions.dense.weight.shape == (48, len(tok) + 5)


def test_trimming_moves_every_stored_id(tmp_path, few):
    tok = tokenizer(tmp_path / "mbart", first=["<s>", "<pad>", "</s>"], last=["en_XX", "si_LK"], eos_token="</s>", pad_token="<pad>")
    si, sizes = tok.convert_tokens_to_ids("si_LK"), {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": si, "pad_token_id": 1}
    model = t.MBartForConditionalGeneration(t.MBartConfig(vocab_size=len(tok), d_model=32, **sizes, **heads))
    model.generation_config.forced_bos_token_id, model.generation_config.suppress_tokens = si, [si - 1]
    model.save_pretrained(tmp_path / "mbart")
    adapt(tmp_path / "mbart", corpus=[few], out=tmp_path / "mbart-new", trim=True, score=False)
    new = t.AutoTokenizer.from_pretrained(tmp_path / "mbart-new").convert_tokens_to_ids(["en_XX", "si_LK"])
    stored = json.loads((tmp_path / "mbart-new" / "generation_config.json").read_text())
    assert (stored["suppress_tokens"], stored["forced_bos_token_id"]) == ([new[0]], new[1])
    assert new[1] != si


def test_ids_are_found_at_any_depth_and_move():
    places = {7: 1, 9: 2}
    document = {
        "image_token_index": 7,
        "text_config": {"eos_token_id": [9, 7], "vocab_size": 10},
        "bad_words_ids": [[7, 9], [8]],
        "sequence_bias": [[[7], -1.0]],
        "forced_decoder_ids": [[1, 9]],
        "lang_to_id": {"<|en|>": 9},
        "codebook_pad_token_id": 7,
    }
    moved = move_ids(document, places)
    assert moved == {
        "image_token_index": 1,
        "text_config": {"eos_token_id": [2, 1], "vocab_size": 10},
        "bad_words_ids": [[1, 2]],
        "sequence_bias": [[[1], -1.0]],
        "forced_decoder_ids": [[1, 2]],
        "lang_to_id": {"<|en|>": 2},
        "codebook_pad_token_id": 7,
    }
    assert sorted(i for _, i in stored_ids(document)) == [7, 7, 7, 7, 8, 9, 9, 9, 9]


def test_an_id_that_is_no_token_keeps_its_row(tmp_path, few):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<eos>"], eos_token="<eos>")
    config = t.LlamaConfig(vocab_size=len(tok) + 8, **SIZES, eos_token_id=[0, len(tok) + 3], tie_word_embeddings=True, pad_token_id=None)
    save(t.LlamaForCausalLM(config), old)
    result = adapt(old, corpus=[few], out=tmp_path / "new", trim=True, score=False)
    new = t.AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    end = new.config.eos_token_id[1]
    before = t.AutoModelForCausalLM.from_pretrained(old).model.embed_tokens.weight[len(tok) + 3]
    assert end >= len(t.AutoTokenizer.from_pretrained(tmp_path / "new"))
    assert torch.equal(new.model.embed_tokens.weight[end], before)
    assert result.transplant.rows == end + 1


def test_a_post_processor_with_ids_of_another_tokenizer_is_mended(tmp_path, corpus):
    old = tmp_path / "old"
    base = tokenizer(old, last=["<|begin|>", "<|end|>"], bos_token="<|begin|>", eos_token="<|end|>")
    begin = base.bos_token_id
    template = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
    base.backend_tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    base.save_pretrained(old)
    config = t.LlamaConfig(vocab_size=len(base), **SIZES, bos_token_id=begin, eos_token_id=begin + 1)
    t.LlamaForCausalLM(config).save_pretrained(old)
    base.train_new_from_iterator(["the cat sat on the mat"] * 9, 260).save_pretrained(tmp_path / "small")
    adapt(old, corpus=[corpus], out=tmp_path / "new", replace=tmp_path / "small", score=False)
    new, model = t.AutoTokenizer.from_pretrained(tmp_path / "new"), t.AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    ids = new("cat", return_tensors="pt").input_ids
    assert int(ids[0, 0]) == new.convert_tokens_to_ids("<|begin|>") == model.config.bos_token_id
    model(ids)


def test_names_of_older_files_are_the_librarys_business(tmp_path, corpus):
    tok = tokenizer(tmp_path / "neox", first=["<|endoftext|>"], eos_token="<|endoftext|>")
    t.GPTNeoXForCausalLM(t.GPTNeoXConfig(vocab_size=len(tok), **SIZES)).save_pretrained(tmp_path / "neox")
    assert Checkpoint.open(tmp_path / "neox").layout.head == ("embed_out.weight",)
    extend(tmp_path / "neox", corpus)
    assert len(t.AutoModelForCausalLM.from_pretrained(tmp_path / "new").get_output_embeddings().weight) == len(tok) + 5


@pytest.mark.parametrize("parameters", ["rows", "2x2"])
def test_what_cannot_be_written_back_is_refused_before_training(tmp_path, corpus, parameters):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<eos>"], eos_token="<eos>")
    experts = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 1, "head_dim": 16}
    t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(vocab_size=len(tok), **SIZES, **experts)).save_pretrained(old)
    training = Training(steps=1, block=32, parameters=parameters, batch_size=1, accumulate=1)
    if parameters == "2x2":  # experts are packed in memory, and one tensor each in the files
        with pytest.raises(CheckpointError, match="cannot be written back: choose --train-set parameters=rows"):
            extend(old, corpus, training=training)
        assert not (tmp_path / "new").exists()
    else:
        assert extend(old, corpus, training=training).training.steps == 1


def test_an_added_token_past_the_table_is_no_wrong_tokenizer(tmp_path, corpus):
    old, named = tmp_path / "old", {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    tok = tokenizer(old, first=["<pad>", "<eos>", "<bos>"], last=["<image_soft_token>"], **named)
    config = t.Gemma3TextConfig(vocab_size=len(tok) - 1, **SIZES, num_key_value_heads=1, head_dim=16)
    t.Gemma3ForCausalLM(config).save_pretrained(old)
    result = extend(old, corpus)
    assert (result.transplant.rows, len(result.transplant.new_ids)) == (len(tok) + 5, 6)
    model = t.AutoModelForCausalLM.from_pretrained(old).eval()
    assert score_text(model, tok, ["the cat sat"]).bits_per_byte > 0
    with pytest.raises(EvaluationError, match=r"the text holds token .*image_soft_token.*but the model has"):
        score_text(model, tok, ["the <image_soft_token> sat"])
    plain = tokenizer(tmp_path / "plain", first=["<eos>"], eos_token="<eos>")
    t.LlamaForCausalLM(t.LlamaConfig(vocab_size=len(plain), **SIZES)).save_pretrained(tmp_path / "plain")
    adapt(
        tmp_path / "plain", replace=old, method="omp", aids=Aids(donor=old), corpus=[corpus], out=tmp_path / "other", score=False
    )  # fmt: skip


def mllama(rows, image):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_global_layers": 1, "attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14, "vision_output_dim": 32, "intermediate_layers_indices": [0], "max_num_tiles": 1}
    text = {"vocab_size": rows, **SIZES, "num_key_value_heads": 1, "cross_attention_layers": [1], "pad_token_id": 0}
    config = t.MllamaConfig(image_token_index=image, text_config=text, vision_config=vision | {"supported_aspect_ratios": [[1, 1]]})
    return t.MllamaForConditionalGeneration(config)


def test_rows_behind_the_vocabulary_stay_behind_it(tmp_path, corpus):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<eos>"], last=["<|image|>"], eos_token="<eos>")
    save(mllama(len(tok), tok.convert_tokens_to_ids("<|image|>")), old)
    extend(old, corpus)
    before, after = (t.MllamaForConditionalGeneration.from_pretrained(tmp_path / name) for name in ("old", "new"))
    assert torch.equal(after.get_input_embeddings().weight[-8:], before.get_input_embeddings().weight[-8:])
    assert len(after.get_output_embeddings().weight) == len(tok) + 5
    assert "vocab_size" not in json.loads((tmp_path / "new" / "config.json").read_text())  # none is invented


def test_a_token_whose_row_lies_behind_the_vocabulary_is_refused_in_a_true_line(tmp_path, corpus):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<eos>"], last=["<|image|>"], eos_token="<eos>")
    mllama(len(tok) - 1, len(tok) - 1).save_pretrained(old)
    with pytest.raises(InputError, match=r"token <\|image\|> has a row behind those of the text vocabulary .*which the head has not"):
        extend(old, corpus)


def test_a_dense_layer_is_no_head(tmp_path, corpus):
    old, names = tmp_path / "old", {"pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tok = tokenizer(old, first=list(names.values()), **names)
    save(t.DebertaV2ForMaskedLM(t.DebertaV2Config(vocab_size=len(tok) + 99, **SIZES, legacy=False)), old)
    layout = Checkpoint.open(old).layout
    assert (layout.tied, layout.head, layout.bias) == (True, (), ("lm_predictions.lm_head.bias",))
    adapt(old, corpus=[corpus], out=tmp_path / "new", extend=5, score_bytes=300, source_text=[corpus])


def test_two_tables_that_the_config_calls_tied_stay_two(tmp_path, corpus):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<eos>"], eos_token="<eos>")
    config = t.LlamaConfig(vocab_size=len(tok), **SIZES, tie_word_embeddings=False)
    save(t.LlamaForCausalLM(config), old)
    stored = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**stored, "tie_word_embeddings": True}))
    tensors = load_file(old / "model.safetensors")
    save_file(tensors, old / "model.safetensors", metadata={"format": "pt"})
    model = t.AutoModelForCausalLM.from_pretrained(old)
    before = {role: table.detach().clone() for role, table in live_tables(model).items()}
    resize(model, len(tok) + 4)
    assert live_tables(model).keys() == before.keys() == {"input", "head"}
    assert all(torch.equal(table[: len(tok)], before[role]) for role, table in live_tables(model).items())
    extend(old, corpus, method="cw2v", settings={"r": 4, "epochs": 1, "choose": "perplexity"})


@pytest.mark.parametrize("name", ["peut-être", "c'est-à-dire", "Île-de-France", "New York"])
def test_an_added_word_comes_back_as_it_was_or_is_named(tmp_path, corpus, name):
    old = tmp_path / "old"
    tok = tokenizer(old, first=["<eos>"], eos_token="<eos>")
    t.LlamaForCausalLM(t.LlamaConfig(vocab_size=len(tok), **SIZES)).save_pretrained(old)
    (tmp_path / "words.txt").write_text(name, encoding="utf-8")
    options = {"corpus": [corpus], "out": tmp_path / "new", "words": tmp_path / "words.txt", "score": False}
    if name == "New York":
        adapt(old, **options)
        new = t.AutoTokenizer.from_pretrained(tmp_path / "new")
        assert new.decode(new(f"in {name} now").input_ids) == f"in {name} now"
    else:  # the decoder of byte-level tokenizers takes each letter of Latin-1 for a byte
        with pytest.raises(TokenizerError, match=f"'{name}' is left out: as one token it would be decoded as"):
            adapt(old, **options)


def test_words_on_a_tokenizer_that_marks_every_stretch(tmp_path, corpus):
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyzNY.()", "▁n", "ow", "▁now"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    backend = Backend(models.BPE(vocab=vocab, merges=[("▁", "n"), ("o", "w"), ("▁n", "ow")], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    old = t.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    old.save_pretrained(tmp_path / "old")
    t.LlamaForCausalLM(t.LlamaConfig(vocab_size=len(old), **SIZES)).save_pretrained(tmp_path / "old")
    (tmp_path / "words.txt").write_text("నేను\nబాగున్నాను\nNew York\n", encoding="utf-8")
    adapt(tmp_path / "old", corpus=[corpus], out=tmp_path / "new", words=tmp_path / "words.txt", score=False)
    new = t.AutoTokenizer.from_pretrained(tmp_path / "new")
    for text in ("నేను బాగున్నాను now", "in New York now", "(New York)."):
        assert new.decode(new(text).input_ids) == text
    assert new("now in a bow").input_ids == old("now in a bow").input_ids
