"""The bidirectional switch: a later token moves earlier states and padding nothing, however it is switched; what can't is refused."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, BertConfig, GPTNeoConfig, LlamaConfig, MistralConfig, OPTConfig

from regraft.errors import CheckpointError, ParameterError
from regraft.method import resolve
from regraft.text.encode import encode, save_encoder
from regraft.text.loading import is_stock, load
from regraft.text.modules.bidirectional import additive_mask, check, fault, switch
from regraft.text.modules.decoder import append_eos, instructed
from toys import models

SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
WIDE = SMALL | {"intermediate_size": 32, "initializer_range": 0.3}
CONFIGS = {
    "llama": LlamaConfig(**WIDE),
    "window": MistralConfig(**WIDE, num_key_value_heads=2, sliding_window=4),
    "opt": OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=16, init_std=0.3),
}
NEO = GPTNeoConfig(
    vocab_size=60,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    attention_types=[[["global", "local"], 1]],
    window_size=4,
    initializer_range=0.3,
)


def live(config, code):
    torch.manual_seed(0)
    return AutoModel.from_config(config, attn_implementation=code).eval()


@pytest.mark.parametrize("code", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_causal_as_it_comes_and_bidirectional_by_its_config(name, code):
    model = live(CONFIGS[name].__class__.from_dict(CONFIGS[name].to_dict()), code)
    assert "a batch of one a later token moves no earlier state" in fault(model, "native")
    assert switch(model) == "config"
    ids = torch.arange(1, 9)[None].repeat(2, 1)
    changed, mask = ids.clone(), torch.ones_like(ids)
    changed[:, 5] = 40
    mask[1, 6:] = 0
    with torch.no_grad():
        before, after = (model(input_ids=one, attention_mask=mask).last_hidden_state for one in (ids, changed))
    assert ((before - after)[:, 4].norm(dim=-1) > 1e-3).all()  # padded or not
    with torch.no_grad():
        alone = model(input_ids=ids[:1, :6], attention_mask=mask[:1, :6]).last_hidden_state[0]
    np.testing.assert_allclose(before[1, :6].numpy(), alone.numpy(), atol=1e-5)


@pytest.mark.parametrize("code", ["sdpa", "eager"])
def test_the_additive_mask_holds_and_a_boolean_one_or_an_attribute_does_not(code):
    model = live(LlamaConfig(**WIDE), code)
    assert fault(model, "mask") is None
    for layer in model.layers:
        layer.self_attn.is_causal = False
    assert fault(model, "native") is not None  # a switch that people take, and that does not hold
    mask = torch.tensor([[1, 1, 0]])
    found = additive_mask(mask, torch.float16)
    assert found.shape == (1, 1, 3, 3)
    assert torch.equal(found[0, 0, 0] == 0, mask[0].bool())
    assert torch.isfinite(found).all()


def test_a_family_without_a_switch_in_its_config_takes_the_mask(llama_folder, tmp_path, monkeypatch):
    from transformers import masking_utils
    from transformers.models.llama import modeling_llama

    def deaf(config, **kwargs):
        return masking_utils.create_causal_mask(LlamaConfig(attn_implementation=config._attn_implementation), **kwargs)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", deaf)
    way = resolve("encoder", "nv-embed", {"pooling": "mean"})
    model = way.build(llama_folder)
    assert model[0].attention == "mask"
    assert not hasattr(model[0].model.config, "is_causal")
    model.save_pretrained(str(tmp_path / "m"))
    monkeypatch.undo()
    by_config = way.build(llama_folder)
    texts = ["the cat", "another hat and that rat ran"]
    np.testing.assert_allclose(load(tmp_path / "m").encode(texts), by_config.encode(texts), atol=1e-5)
    monkeypatch.setattr(modeling_llama, "create_causal_mask", deaf)
    with pytest.raises(CheckpointError, match="has no switch"):
        resolve("encoder", "nv-embed", {"pooling": "mean", "plain": True}).build(llama_folder)


def test_what_reads_both_ways_already_is_left_and_what_never_can_is_refused():
    bert = live(BertConfig(**WIDE), "sdpa")
    assert switch(bert) == "native"
    assert not hasattr(bert.config, "is_causal")
    with pytest.raises(CheckpointError, match="gpt_neo: it can't be made to read in both directions"):
        switch(live(NEO, "eager"))
    with pytest.raises(CheckpointError, match=r"should read in both directions \(config\), but in a batch of one"):
        check(live(LlamaConfig(**WIDE), "sdpa"), "config")


def test_eos_comes_after_truncation_whatever_the_tokenizer_adds(tmp_path):
    for adds_bos in (False, True):
        tokenizer = models.tokenizer(adds_bos).__class__.from_pretrained(str(_saved(models.tokenizer(adds_bos), tmp_path / str(adds_bos))))
        for _ in range(2):  # the second time nothing is left to do
            append_eos(tokenizer)
            ids = tokenizer("the cat sat on a mat", truncation=True, max_length=4)["input_ids"]
            assert len(ids) == 4
            assert ids.count(0) == 1
            assert ids[-1] == 0
    bare = models.tokenizer(separator=False)
    with pytest.raises(CheckpointError, match="no end-of-text token"):
        append_eos(bare)


def _saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def bos_folder(tmp_path):
    models.llama(layers=2).save_pretrained(tmp_path / "bos")
    models.tokenizer(True).save_pretrained(tmp_path / "bos")
    return tmp_path / "bos"


def test_an_instruction_is_read_and_not_pooled_and_the_released_count_leaks_its_last_token(bos_folder):
    text, task = "the cat sat", "find"
    kept = {}
    for compat in (None, "released"):
        body = resolve("encoder", "nv-embed", {"pooling": "mean", "compat": compat}).build(bos_folder)[0]
        features = body.preprocess([text, instructed(task, text)], prompt=None)
        by_prompt = body.preprocess([text], prompt=instructed(task))
        assert torch.equal(by_prompt["pooling_mask"][0], features["pooling_mask"][1])
        pieces = body.tokenizer.convert_ids_to_tokens(features["input_ids"][1])
        kept[compat] = [piece for piece, one in zip(pieces, features["pooling_mask"][1], strict=True) if one]
        assert torch.equal(features["pooling_mask"][0], features["attention_mask"][0])
    assert "".join(kept[None]).replace("Ġ", " ").strip() == text + "<eos>"
    assert kept["released"] == [":", *kept[None]]  # BOS is left out in place of the instruction's last token


def test_a_chat_template_is_no_part_of_a_text(bos_folder, tmp_path):
    tokenizer = models.tokenizer(True).__class__.from_pretrained(str(bos_folder))
    tokenizer.chat_template = "{% for message in messages %}the cat {{ message.content }} hat{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "chat")
    models.llama(layers=2).save_pretrained(tmp_path / "chat")
    way = resolve("encoder", "nv-embed", {"pooling": "mean", "instruction": "find"})
    model, plain = way.build(tmp_path / "chat"), way.build(bos_folder)
    model.save_pretrained(str(tmp_path / "saved"))
    for one in (model, load(tmp_path / "saved")):
        np.testing.assert_allclose(one.encode_query(["that rat"]), plain.encode_query(["that rat"]), atol=1e-6)


def test_the_instruction_moves_states_that_are_pooled_and_all_of_it_alone_is_eos(bos_folder):
    way = resolve("encoder", "nv-embed", {"pooling": "mean", "instruction": "find", "normalize": False})
    model = way.build(bos_folder)
    plain, other = model.encode(["the cat"]), model.encode(["the cat"], prompt_name="query")
    assert np.abs(plain - other).max() > 1e-3
    features = model[0](model[0].preprocess([""], prompt=model.prompts["query"]))
    np.testing.assert_allclose(model.encode([""], prompt_name="query")[0], features["token_embeddings"][0, -1].detach().numpy(), atol=1e-6)
    long = model.encode(["cat " * 5000], prompt_name="query")
    assert np.isfinite(long).all()


@pytest.mark.parametrize("pooling", ["mean", "eos"])
def test_plain_modules_open_in_sentence_transformers_and_give_the_same(pooling, llama_folder, tmp_path):
    texts = ["the cat", "another hat and that rat ran past an old map", ""]
    save_encoder(llama_folder, tmp_path / "m", method="nv-embed", settings={"pooling": pooling, "plain": True})
    assert is_stock(tmp_path / "m")
    ours = resolve("encoder", "nv-embed", {"pooling": pooling}).build(llama_folder).encode(texts)
    np.testing.assert_allclose(SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(texts), ours, atol=1e-6)


def test_a_head_of_random_numbers_encodes_nothing(llama_folder, tmp_path):
    (tmp_path / "t.txt").write_text("the cat\n")
    with pytest.raises(ParameterError, match="the head of nv-embed is not trained yet: train it first"):
        encode(llama_folder, [tmp_path / "t.txt"], out=tmp_path / "v.npy", method="nv-embed", settings={"latents": 4})
    assert not (tmp_path / "v.npy").exists()
    with pytest.raises(ParameterError, match="plain=true: pooling=latent is no module of sentence-transformers"):
        resolve("encoder", "nv-embed", {"plain": True})
    with pytest.raises(ParameterError, match="heads=5: the paper's form cuts the width 16 into heads"):
        resolve("encoder", "nv-embed", {"variant": "paper", "heads": 5}).build(llama_folder)
