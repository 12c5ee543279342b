"""Experts in live models: what is exact by construction, on every architecture that tests have."""

import copy

import pytest
import torch
import transformers

from regraft.errors import CheckpointError, ParameterError
from regraft.grow.experts import install, installed, to_dense, to_emoe
from regraft.grow.experts.ffn import find, rows
from regraft.grow.experts.grouped import Stack, experts_forward
from regraft.grow.experts.growers.emoe import EMoE
from regraft.grow.experts.growers.upcycle import Upcycle
from regraft.method import resolve
from toys.checkpoints import MODELS, V, outputs

IDS = torch.randint(3, V, (2, 12), generator=torch.Generator().manual_seed(0))
SPLIT = ["llama", "qwen3", "gemma3", "gpt2", "bert-mlm", "roberta-mlm", "t5", "bart", "marian"]
GROUPED = ["llama", "qwen3", "gemma3", "gpt2", "bert-mlm", "t5"]


def toy(name):
    torch.manual_seed(0)
    model = MODELS[name](transformers).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def vit():
    config = transformers.ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    return transformers.ViTModel(config).eval()


@pytest.mark.parametrize("name", SPLIT)
def test_with_all_experts_on_the_model_is_the_dense_one(name):
    model = toy(name)
    dense, before = outputs(model, IDS), copy.deepcopy(model.state_dict())
    found = to_emoe(model, EMoE(experts=4, top_k=4, layers="all"))
    assert (outputs(model, IDS) - dense).abs().max() < 1e-5
    found.with_top_k(2)
    routed = outputs(model, IDS)
    assert (routed - dense).abs().max() > 1e-3
    found.use("dense")
    assert (outputs(model, IDS) - dense).abs().max() < 1e-5
    assert model.state_dict().keys() == before.keys()
    to_dense(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert installed(model) is None
    assert torch.equal(outputs(model, IDS), dense)


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("gate", ["average-key", "learned"])
def test_grouped_products_compute_what_masks_do(name, gate):
    model = toy(name)
    found = to_emoe(model, EMoE(experts=4, top_k=2, layers="all", gate=gate))
    masked = outputs(model, IDS)
    found.use("grouped")
    assert (outputs(model, IDS) - masked).abs().max() < 1e-5
    found.use("masked")
    assert torch.equal(outputs(model, IDS), masked)


def test_a_vision_transformer_too():
    model, images = vit(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        dense = model(images).last_hidden_state
        found = to_emoe(model, EMoE(experts=4, top_k=4, layers="all"))
        assert torch.allclose(model(images).last_hidden_state, dense, atol=1e-6)
        masked = found.with_top_k(1) and model(images).last_hidden_state
        found.use("grouped")
        assert torch.allclose(model(images).last_hidden_state, masked, atol=1e-6)


def test_grouped_is_refused_where_the_feed_forward_is_no_module():
    with pytest.raises(ParameterError, match="no module of its own"):
        to_emoe(toy("bart"), EMoE(experts=4, top_k=2, layers="all"), mode="grouped")


@pytest.mark.parametrize("aligned", [8, 3])
def test_experts_sum_to_the_dense_block(aligned):
    torch.manual_seed(0)
    x, keys, ups, values = torch.randn(7, 8), torch.randn(4 * aligned, 8), torch.randn(4 * aligned, 8), torch.randn(8, 4 * aligned)
    bias = torch.randn(4 * aligned)
    act = torch.nn.functional.silu
    dense = (act(x @ keys.T + bias) * (x @ ups.T)) @ values.T
    stack = Stack(
        keys.view(4, -1, 8), values.view(8, 4, -1).transpose(0, 1), ups.view(4, -1, 8), bias.view(4, -1)
    )  # fmt: skip
    each = sum(experts_forward(x, stack, torch.full((7, 1), i), None, act) for i in range(4))
    assert torch.allclose(each, dense, atol=1e-4)
    everyone = experts_forward(x, stack, torch.arange(4).repeat(7, 1), None, act)
    assert torch.allclose(everyone, dense, atol=1e-4)
    weights = torch.rand(7, 2)
    picked = torch.tensor([[0, 3]]).repeat(7, 1)
    some = experts_forward(x, stack, picked, weights, act)
    wanted = sum(experts_forward(x, stack, picked[:, [i]], None, act) * weights[:, [i]] for i in (0, 1))
    assert torch.allclose(some, wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "bert-mlm", "gpt2"])
def test_the_average_gate_scores_by_the_mean_of_raw_keys(name):
    model = toy(name)
    found = to_emoe(model, EMoE(experts=4, top_k=1, layers="all"))
    block = next(iter(found.blocks.values()))
    x = torch.randn(5, block.ffn.dim)
    key, seen = block.ffn.key, {}
    keep = lambda module, given, output: seen.update(x=given[0], out=output)  # noqa: E731
    with key.register_forward_hook(keep), torch.no_grad():
        key(x)
    block._x, block._keys = seen["x"], seen["out"]
    by_gate = x @ block.gate_rows().T
    assert torch.allclose(block._scores(torch.empty(0)), by_gate, atol=1e-5)
    assert torch.allclose(block.gate_rows()[1], rows(key)[block.ffn.width // 4 : block.ffn.width // 2].mean(0), atol=1e-6)


def test_gates_follow_the_keys_and_no_gradient_goes_to_what_was_not_chosen():
    model = toy("llama")
    found = to_emoe(model, EMoE(experts=4, top_k=1, layers="1"))
    (block,) = found.blocks.values()
    found.count()
    model.train()
    logits = model(input_ids=IDS[:1, :1]).logits
    logits.sum().backward()
    taken = int(block.counts.argmax())
    gradient = block.ffn.value.weight.grad.view(16, 4, -1).abs().sum((0, 2))
    assert gradient[taken] > 0
    assert gradient.sum() == gradient[taken]
    for mode in ("masked", "grouped"):
        found.use(mode)
        before = block.gate_rows().clone()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        assert not torch.allclose(block.gate_rows(), before)
        assert torch.allclose(block.gate_rows(), rows(block.ffn.key).view(4, -1, 16).mean(1))
    assert not any("gate_rows" in name or "router" in name for name, _ in model.named_parameters())


def test_a_deep_copy_routes_by_its_own_weights():
    model = toy("llama")
    to_emoe(model, EMoE(experts=4, top_k=2, layers="all"), mode="grouped")
    other = copy.deepcopy(model)
    before = outputs(other, IDS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(outputs(other, IDS), before)
    assert installed(other).blocks.keys() == installed(model).blocks.keys()


def test_the_tutel_preset_and_padding():
    model = toy("bert-mlm")
    found = to_emoe(model, EMoE(experts=4, top_k=2, layers="all", preset="tutel"))
    routing = found.split.routing
    assert (routing.noise, routing.capacity, routing.auxiliary, routing.dropout) == (1.0, 1.5, 0.01, 0.1)
    assert EMoE(experts=4, top_k=2).routing.capacity is None
    mask = torch.ones_like(IDS)
    mask[:, 6:] = 0
    model.train()
    torch.manual_seed(0)
    plain = model(input_ids=IDS, attention_mask=mask, labels=IDS).loss
    extra = found.auxiliary_loss()
    assert extra > 0
    for block in found.blocks.values():
        block.routing = block.routing.__class__(**{**vars(block.routing), "auxiliary": 0.0})
    torch.manual_seed(0)
    without = model(input_ids=IDS, attention_mask=mask, labels=IDS).loss
    assert torch.allclose(plain, without + extra)
    model.eval()
    found.count()
    model(input_ids=IDS, attention_mask=mask)
    assert all(block.counts.sum() == 2 * int(mask.sum()) for block in found.blocks.values())


@pytest.mark.parametrize("name", ["bert-mlm", "gpt2", "t5", "llama"])
@pytest.mark.parametrize("gate", ["softmax", "learned"])
def test_copies_start_as_the_dense_model(name, gate):
    model = toy(name)
    dense = outputs(model, IDS)
    to_emoe(model, Upcycle(experts=3, top_k=2, layers="all", form="copies", gate=gate))
    assert (outputs(model, IDS) - dense).abs().max() < 1e-5
    model.train()
    inputs = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    model(input_ids=IDS, **inputs).logits.square().sum().backward()
    fresh = [p for n, p in model.named_parameters() if "expert_copies" in n]
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in fresh) > len(fresh) / 2


def test_an_adapter_above_is_masked_too_and_grouped_is_refused():
    peft = pytest.importorskip("peft")
    model = toy("llama")
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["gate_proj", "down_proj"], init_lora_weights=False))
    with torch.no_grad():
        dense = adapted(input_ids=IDS).logits
        found = to_emoe(adapted, EMoE(experts=4, top_k=4, layers="all"))
        assert (adapted(input_ids=IDS).logits - dense).abs().max() < 1e-5
        found.with_top_k(2)
        assert (adapted(input_ids=IDS).logits - dense).abs().max() > 1e-4
    with pytest.raises(ParameterError, match="adapter"):
        found.use("grouped")


def test_bad_input_is_one_line():
    model = toy("llama")
    small = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    mixtral = transformers.MixtralConfig(**small, num_attention_heads=2, num_key_value_heads=2)
    with pytest.raises(ParameterError, match=r"experts=5 do not divide the 24 neurons .*: take 4, 6, 8|take 3, 4, 6"):
        to_emoe(model, EMoE(experts=5, top_k=2, layers="all"))
    with pytest.raises(ParameterError, match="top_k=9 of 4"):
        to_emoe(model, EMoE(experts=4, top_k=9, layers="all"))
    with pytest.raises(ParameterError, match="layers 0 to 1"):
        to_emoe(model, EMoE(experts=4, top_k=2, layers="7"))
    with pytest.raises(ParameterError, match="write auto"):
        to_emoe(model, EMoE(experts=4, top_k=2, layers="last"))
    with pytest.raises(CheckpointError, match="mixture of experts already"):
        find(transformers.MixtralForCausalLM(mixtral))
    with pytest.raises(CheckpointError, match="no feed-forward block"):
        find(toy("modernbert-mlm"))
    split = to_emoe(model, EMoE(experts=4, top_k=2, layers="all")).split
    with pytest.raises(ParameterError, match="of another model"):
        install(toy("gpt2"), split)
    with pytest.raises(ParameterError, match="no experts are installed"):
        to_dense(toy("gpt2"))
    assert isinstance(resolve("expert-grower", "emoe", {"experts": 4, "top_k": 2}), EMoE)
