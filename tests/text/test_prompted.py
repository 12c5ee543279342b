"""Prompts without training: the tokens that are read and pooled are the paper's, whatever the padding, the batch or the length."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from regraft.errors import ParameterError
from regraft.method import resolve
from regraft.text.encode import save_encoder
from regraft.text.encoder import open_transformer
from regraft.text.loading import load
from regraft.text.modules.template import PLACEHOLDER_TOKEN, Template, cleaned
from regraft.text.reading.layers import blocks_of
from toys import models

TEXTS = ["the cat sat on a mat", 'who has "an old map"?', "hat", "that rat ran far past an old map of the land" * 3]
SIX = ["prompt-eol", "pretended-cot", "knowledge", "meta-eol", "echo", "token-prepending"]
LONG = {"max_tokens": 512}


def states_of(ids, layer=-1):
    with torch.no_grad():
        return models.llama().model.eval()(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "gpt2"
    models.gpt2().save_pretrained(folder)
    models.tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", [*SIX, "layers", "drop-first", "power-means", "elmo-mix", "chunk-and-pool"])
def test_a_text_alone_is_the_text_in_a_batch_also_where_positions_are_learned(name, gpt2_folder, llama_folder):
    settings = {"knowledge": {"before": 'the land "'}, "meta-eol": {"prompts": 'the {x}"|a cat {x}"'}}.get(name)
    for folder in (llama_folder, gpt2_folder):
        model = resolve("encoder", name, settings).build(folder)
        together = model.encode(TEXTS)
        for text, row in zip(TEXTS, together, strict=True):
            np.testing.assert_allclose(model.encode([text])[0], row, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "clean"),
    [("a cat", "a cat."), ("a cat.", "a cat."), ("a cat?", "a cat."), ('"a" cat', "'a' cat."), ("it's'", "it's'"), ("", "")],
)
def test_the_clean_up_is_the_same_in_the_tokenizer_and_in_the_template(given, clean, llama_folder):
    assert cleaned(given) == clean
    tokenizer = resolve("encoder", "prompt-eol").build(llama_folder).tokenizer
    assert tokenizer.decode(tokenizer(given)["input_ids"]) == f'This sentence : "{clean}" means in one word:"'


@pytest.mark.parametrize("joint", [False, True])
def test_prompt_eol_is_the_state_at_the_closing_quote(joint, llama_folder):
    found = resolve("encoder", "prompt-eol", {"joint": joint, "clean_up": False}).build(llama_folder).encode(TEXTS)
    tokenizer = models.tokenizer()
    for text, row in zip(TEXTS, found, strict=True):
        before, after = 'This sentence : "', '" means in one word:"'
        parts = [before + text + after] if joint else [before, text, after]
        ids = [number for part in parts for number in tokenizer(part)["input_ids"]]
        np.testing.assert_allclose(row, states_of(ids)[-1].numpy(), atol=2e-5)


def test_a_demonstration_stands_in_front_and_is_whole_or_not_there(llama_folder):
    model = resolve("encoder", "prompt-eol", {"example": "A cat.", "word": "Cat"}).build(llama_folder)
    ids = model.tokenizer("a hat")["input_ids"]
    assert model.tokenizer.decode(ids) == 'This sentence : "A cat." means in one word:"Cat". This sentence : "a hat." means in one word:"'
    with pytest.raises(ParameterError, match="set both"):
        resolve("encoder", "prompt-eol", {"word": "Cat"}).build(llama_folder)


@pytest.mark.parametrize("name", ["prompt-eol", "echo"])
def test_what_stands_around_a_text_survives_its_length(name, llama_folder):
    model = resolve("encoder", name).build(llama_folder, max_tokens=96)
    read = model.preprocess(["the cat sat " * 20_000])["input_ids"][0]
    said = model.tokenizer.decode(read)
    assert len(read) <= 96
    assert said.endswith('" means in one word:"') if name == "prompt-eol" else said.count("cat") >= 4
    assert np.isfinite(model.encode(["the cat sat " * 20_000])).all()
    with pytest.raises(ParameterError, match="max_tokens=8"):
        resolve("encoder", name).build(llama_folder, max_tokens=8).encode(["a"])


def test_a_bos_stays_first_and_an_end_token_does_not_follow_the_prompt(llama_folder, bert_folder):
    body = open_transformer(llama_folder)
    body.processor = models.tokenizer(adds_bos=True)
    ids = resolve("encoder", "prompt-eol").around(body).tokenizer("a hat")["input_ids"]
    assert ids[0] == models.tokenizer(adds_bos=True).bos_token_id
    ids = resolve("encoder", "prompt-eol").build(bert_folder).tokenizer("a hat")["input_ids"]
    assert ids[0] == 2
    assert 3 not in ids


def test_echo_pools_exactly_the_second_copy(llama_folder):
    text = "the cat sat on a mat"
    model = resolve("encoder", "echo").build(llama_folder)
    read = model[0].preprocess([text, "hat"])
    kept = read["input_ids"][0][read["pool_mask"][0].bool()]
    assert model.tokenizer.decode(kept).strip() == text
    assert read["pool_mask"][0].diff().ne(0).sum() <= 2  # one stretch
    ids = models.tokenizer()(f"Rewrite the sentence: {text}, rewritten sentence: {text}")["input_ids"]
    own = len(kept)
    np.testing.assert_allclose(model.encode([text])[0], states_of(ids)[-own:].mean(0).numpy(), atol=2e-5)


def test_echo_of_a_tuned_model_pools_the_end_token_too(llama_folder):
    model = resolve("encoder", "echo", {"template": "Query:{x}\nQuery again:{x}{eos}", "pooling": "lasttoken"}).build(llama_folder)
    read = model[0].preprocess(["a hat"])
    kept = read["input_ids"][0][read["pool_mask"][0].bool()]
    assert model.tokenizer.decode(kept) == "a hat<eos>"


def test_an_instruction_of_the_user_is_part_of_the_text(llama_folder):
    model = resolve("encoder", "echo").build(llama_folder)
    np.testing.assert_allclose(model.encode(["a mat"], prompt="the cat on "), model.encode(["the cat on a mat"]), atol=1e-6)


def test_meta_eol_of_equal_prompts_is_one_prompt(llama_folder):
    one = 'This sentence : "{x}" means in one word:"'
    eight = resolve("encoder", "meta-eol", {"prompts": "|".join([one] * 8)}).build(llama_folder).encode(TEXTS)
    np.testing.assert_allclose(eight, resolve("encoder", "prompt-eol", {"joint": True}).build(llama_folder).encode(TEXTS), atol=1e-5)


def test_token_prepending_carries_the_last_state_and_only_where_it_should(llama_folder):
    settings = {"start": 1, "stop": 3, "layer": 4}
    model = resolve("encoder", "token-prepending", settings).build(llama_folder)
    read = model[0].preprocess(["a hat", "that rat ran far"])
    at, last = read["placeholders"].int().argmax(1), read["attention_mask"].sum(1) - 1
    seen = []  # what each layer really reads
    with torch.no_grad(), model[0]._prepended(read["placeholders"], last):
        for block in blocks_of(model[0].body.model):
            block.register_forward_pre_hook(
                lambda _, args, named: seen.append(args[0] if args else named["hidden_states"]), with_kwargs=True
            )
        model[0].body({key: read[key] for key in ("input_ids", "attention_mask")})
    rows = torch.arange(2)
    for number, states in enumerate(seen):
        same = torch.allclose(states[rows, at], states[rows, last], atol=1e-6)
        assert same == (1 <= number < 3), number
    drawn = torch.randn(16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0][rows, at], drawn.expand(2, -1))


def test_token_prepending_with_start_at_stop_is_the_bare_placeholder(llama_folder):
    none = resolve("encoder", "token-prepending", {"start": 2, "stop": 2, "layer": 4}).build(llama_folder)
    read = none[0].preprocess(["a hat"])
    table = models.llama().model.embed_tokens.weight.detach()
    embedded = table[read["input_ids"]].clone()
    embedded[read["placeholders"]] = none[0].placeholder
    with torch.no_grad():
        states = models.llama().model(inputs_embeds=embedded, output_hidden_states=True).hidden_states[4][0, -1]
    np.testing.assert_allclose(none.encode(["a hat"])[0], states.numpy(), atol=1e-5)
    assert not np.allclose(
        none.encode(["a hat"]), resolve("encoder", "token-prepending", {"layer": 4}).build(llama_folder).encode(["a hat"])
    )
    assert PLACEHOLDER_TOKEN in none.tokenizer.get_vocab()


@pytest.mark.parametrize("layer", [0, 2, 4, -1, -3])
@pytest.mark.parametrize("final_norm", [False, True])
def test_a_layer_is_raw_or_through_the_norm_and_what_is_above_is_gone(layer, final_norm, llama_folder):
    model = resolve("encoder", "layers", {"layers": str(layer), "final_norm": final_norm}).build(llama_folder)
    full = models.llama().model.eval()
    number = layer if layer >= 0 else 6 + layer
    for text, row in zip(TEXTS, model.encode(TEXTS), strict=True):
        states = states_of(models.tokenizer()(text)["input_ids"], number)
        if final_norm and 0 < number < 5:
            states = full.norm(states).detach()
        np.testing.assert_allclose(row, states.mean(0).numpy(), atol=2e-5)
    assert len(blocks_of(model[0].model)) == min(5, number if final_norm and number else number + 1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("prompt-eol", {"layer": 3}),
        ("pretended-cot", {}),
        ("knowledge", {"final_norm": True, "layer": -2}),
        ("layers", {"layers": "first-last"}),
        ("layers", {"layers": "2"}),
        ("layers", {"layers": "all", "pooling": "weightedmean", "normalize": True}),
    ],
)
def test_stock_ways_open_in_plain_sentence_transformers(name, settings, llama_folder, tmp_path):
    save_encoder(llama_folder, tmp_path / "saved", method=name, settings=settings)
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(plain.encode(TEXTS), resolve("encoder", name, settings).build(llama_folder).encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("prompt-eol", {"joint": True}),
        ("meta-eol", {"normalize": True}),
        ("echo", {"layer": 3}),
        ("token-prepending", {"seed": 3}),
        ("drop-first", {"count": 2}),
        ("power-means", {"powers": "1,5,max"}),
        ("elmo-mix", {"layer_norm": True}),
        ("chunk-and-pool", {"overlap": 2}),
    ],
)
def test_ways_of_ours_open_with_load(name, settings, llama_folder, tmp_path):
    save_encoder(llama_folder, tmp_path / "saved", method=name, settings=settings, **LONG)
    again = load(tmp_path / "saved")
    np.testing.assert_allclose(again.encode(TEXTS), resolve("encoder", name, settings).build(llama_folder).encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("layers", {"layers": "9"}, "layers 0 to 5"),
        ("layers", {"layers": "first,9"}, "give numbers"),
        ("layers", {"layers": "1,2", "final_norm": True}, "of one layer only"),
        ("echo", {"template": "no place"}, "holds {x}"),
        ("token-prepending", {"stop": 5, "layer": 3}, "lies below"),
        ("token-prepending", {"template": "{x}"}, "no {p}"),
        ("power-means", {"powers": "1,2"}, "neither min nor max nor an odd"),
    ],
)
def test_what_does_not_fit_is_one_line(name, settings, said, llama_folder):
    with pytest.raises(ParameterError, match=said):
        resolve("encoder", name, settings).build(llama_folder)


def test_a_template_trains_with_the_library(llama_folder):
    model = resolve("encoder", "echo").build(llama_folder)
    assert isinstance(model[0], Template)
    out = model(model.preprocess(TEXTS))["sentence_embedding"]
    out.sum().backward()
    assert next(model.parameters()).grad is not None
