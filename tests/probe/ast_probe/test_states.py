"""Hidden states of tokens: how tokens are spelled, averages that are the model's own, the cache, and the control with random layers."""

import pytest
import torch
import transformers

from regraft.datasets.models import encoder_folder
from regraft.errors import ParameterError
from regraft.language.model import special_ids
from regraft.probe.probes.ast_probe import states as module
from regraft.probe.probes.ast_probe.controls import layers_name, with_random_layers
from regraft.probe.probes.ast_probe.encoding import Tree
from regraft.probe.probes.ast_probe.snippets import Snippet
from regraft.probe.probes.ast_probe.states import Shape, Spelled, Speller, token_states
from toys import models as toys

LISTS = [("def", "cat", "(", "sat", ")", ":", "return", "hat"), ("cat",), ("mat", "+", "mat")]


def snippet(*tokens):
    return Snippet.of(Tree("top", tokens), "file")


SNIPPETS = [snippet(*tokens) for tokens in LISTS]


@pytest.fixture(scope="module")
def toy():
    return toys.llama(layers=2), toys.tokenizer()


@pytest.fixture(scope="module")
def minilm():
    return (
        transformers.AutoModel.from_pretrained(encoder_folder()).eval(),
        transformers.AutoTokenizer.from_pretrained(encoder_folder()),
    )  # fmt: skip


def test_a_space_stands_before_every_token_but_the_first_and_pure_spaces_are_dropped(toy):
    model, tokenizer = toy
    speller = Speller(model, tokenizer)
    assert (speller.before, speller.after) == special_ids(tokenizer)
    for one, spelled in zip(SNIPPETS, speller(SNIPPETS), strict=True):
        assert sorted(set(spelled.owners)) == list(range(len(one.tokens)))
        for number, token in enumerate(one.tokens):
            own = [piece for piece, owner in zip(spelled.ids, spelled.owners, strict=True) if owner == number]
            whole = tokenizer(" " * bool(number) + token, add_special_tokens=False)["input_ids"]
            assert own == [piece for piece in whole if tokenizer.decode([piece]).strip()]
    first, second = speller([snippet("cat", "cat")])[0].ids, tokenizer("cat", add_special_tokens=False)["input_ids"]
    assert list(first[: len(second)]) == second  # no space before the first
    assert list(first[len(second) :]) != second


def test_what_cannot_be_read_is_told_apart(minilm):
    speller = Speller(*minilm, longest=8)
    long, nothing, fine = speller([snippet(*"abcdefg"), snippet("x", "\u200b"), snippet(*"abcdef")])
    assert "--max-length" in long
    assert "no piece" in nothing
    assert isinstance(fine, Spelled)
    assert speller.sequence(fine)[0] == minilm[1].cls_token_id
    assert len(speller.sequence(fine)) == 8
    assert Speller(*minilm, longest=10**6).longest == 512


@pytest.mark.parametrize("kind", ["toy", "minilm"])
def test_states_are_the_models_own_averaged_over_sub_tokens(kind, request):
    model, tokenizer = request.getfixturevalue(kind)
    speller = Speller(model, tokenizer)
    spelled = speller(SNIPPETS)
    found = token_states(model, speller, spelled, [0, 2])
    start = 0
    for one, own in zip(SNIPPETS, spelled, strict=True):
        with torch.no_grad():
            ids = torch.tensor([speller.sequence(own)])
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, rows in found.items():
            inner = hidden[layer][0][len(speller.before) :]
            for number in range(len(one.tokens)):
                mine = [place for place, owner in enumerate(own.owners) if owner == number]
                torch.testing.assert_close(rows[start + number].float(), inner[mine].mean(0), atol=5e-3, rtol=2e-3)
        start += len(one.tokens)
    assert all(len(rows) == start and rows.dtype == torch.float16 for rows in found.values())


def test_encoder_decoders_are_read_through_their_encoder():
    config = transformers.T5Config(vocab_size=304, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    assert Shape.of(model) == Shape(last=2, width=16, reads_ahead=True)
    speller = Speller(model, toys.tokenizer())
    assert token_states(model, speller, speller(SNIPPETS), [2])[2].shape == (12, 16)
    random = with_random_layers(model)
    assert layers_name(model) == "encoder.block"
    torch.testing.assert_close(random.shared.weight, model.shared.weight)


def test_states_are_kept_and_read_again(toy, tmp_path, monkeypatch):
    model, tokenizer = toy
    speller = Speller(model, tokenizer)
    spelled = speller(SNIPPETS)
    first = token_states(model, speller, spelled, [0, 1], folder=tmp_path)
    passes = []
    real = module.hidden_states
    monkeypatch.setattr(module, "hidden_states", lambda *a, **k: passes.append(k["layers"]) or real(*a, **k))
    again = token_states(model, speller, spelled, [1, 2], folder=tmp_path)
    assert passes == [[2]]
    torch.testing.assert_close(again[1], first[1], atol=0, rtol=0)
    token_states(model, speller, spelled[:2], [1], folder=tmp_path)
    assert passes == [[2], [1]]  # other snippets
    damaged = next(tmp_path.rglob("layer-1.safetensors"))
    damaged.write_bytes(b"xx")
    token_states(model, speller, spelled, [1], folder=tmp_path)
    token_states(model, speller, spelled[:2], [1], folder=tmp_path)
    assert passes == [[2], [1], [1]]


def test_values_beyond_float16_are_kept_as_bfloat16(toy, monkeypatch):
    model, tokenizer = toy
    speller = Speller(model, tokenizer)
    spelled = speller(SNIPPETS)
    real = module.hidden_states
    monkeypatch.setattr(module, "hidden_states", lambda *a, **k: ((n, states * 1e6) for n, states in real(*a, **k)))
    found = token_states(model, speller, spelled, [2])[2]
    assert found.dtype == torch.bfloat16
    assert torch.isfinite(found.float()).all()


def test_the_shape_is_asked_of_the_model(toy, minilm):
    assert Shape.of(toy[0]) == Shape(last=2, width=16, reads_ahead=False)
    shape = Shape.of(minilm[0])
    assert shape == Shape(last=6, width=384, reads_ahead=True)
    assert shape.layers() == list(range(7))
    assert shape.layers((-1, 3, 6, 0)) == [6, 3, 0]
    for layer in (7, -8):
        with pytest.raises(ParameterError, match=f"--layers {layer}: the model has hidden states 0 to 6"):
            shape.layers((layer,))
    with pytest.raises(ParameterError, match="rank 385 is above the model's width of 384"):
        shape.check_rank(385)


def test_random_layers_keep_the_embeddings_and_nothing_learned_above(minilm):
    model, tokenizer = minilm
    random, again = with_random_layers(model, seed=1), with_random_layers(model, seed=1)
    assert layers_name(model) == "encoder.layer"
    for (name, value), (_, other), (_, same) in zip(
        model.named_parameters(), random.named_parameters(), again.named_parameters(), strict=True
    ):
        torch.testing.assert_close(other, same, atol=0, rtol=0)
        if not name.startswith("encoder.layer"):
            torch.testing.assert_close(other, value, atol=0, rtol=0)
        elif "LayerNorm" not in name:
            assert not torch.allclose(other, value, atol=1e-3), name
    weight = random.encoder.layer[2].output.dense.weight
    assert float(weight.detach().std()) == pytest.approx(model.config.initializer_range, rel=0.1)
    speller = Speller(model, tokenizer)
    spelled = speller(SNIPPETS)
    own, other = (token_states(one, speller, spelled, [0, 3]) for one in (model, random))
    torch.testing.assert_close(own[0], other[0], atol=0, rtol=0)
    assert not torch.allclose(own[3].float(), other[3].float(), atol=0.1)
    state = torch.random.get_rng_state()
    with_random_layers(model, seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
