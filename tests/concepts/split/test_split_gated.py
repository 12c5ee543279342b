"""Factorised, gated layers: equal to dense ones, exact zeros where a class is absent, parts that are whole again."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiTPipeline, DiTTransformer2DModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from regraft.concepts.split import Partition, SoftGate, dense, extract, factorise, load, merged, without
from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.drawing import Sampling, draw
from regraft.concepts.split.layers.cost import cost_of, dense_flops, factor_flops, factor_parameters
from regraft.concepts.split.layers.gated import Gate, GatedLinear, decay, gated
from regraft.concepts.split.model import Shape, Split, copied, fresh, save, split_of
from regraft.concepts.split.objective import noise_loss
from regraft.errors import CheckpointError, ParameterError

SHAPE = Shape(side=4, channels=1, layers=2, heads=2, width=16)
NAMES = ("a", "b", "c")
LABELS = torch.tensor([0, 2, 1, 2, 3])


def small(**settings):
    return fresh(SHAPE, NAMES, **{"learngenes": 7, "tailors": 3, **settings})


@pytest.fixture
def split():
    return small()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return {"hidden_states": torch.randn(5, 1, 4, 4), "timestep": torch.tensor([0, 10, 400, 900, 999]), "class_labels": LABELS}


def linear(learngenes=4, families=((3, 2),), n=12, m=16):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(n, m))
    return model, factorise(model, Partition(learngenes, families), ["0"])


class TestLayer:
    @pytest.mark.parametrize("middle", [(), (5,), (2, 3)])
    def test_each_example_of_a_mixed_batch_has_its_own_matrix(self, middle):
        model, gate = linear()
        x, labels = torch.randn(4, *middle, 12), torch.tensor([2, 0, 3, 2])
        gate.choose(labels)
        found = model(x)
        for place, label in enumerate(labels.tolist()):
            weight = model[0].weight(gate.partition.block(label))
            torch.testing.assert_close(found[place], x[place] @ weight.T + model[0].bias, atol=1e-6, rtol=1e-5)

    def test_an_open_gate_at_full_rank_is_the_layer_it_was(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16))
        before = copy.deepcopy(model)
        factorise(model, Partition(4, ((4, 2),)), ["0"])
        x = torch.randn(3, 12)
        torch.testing.assert_close(model(x), before(x), atol=1e-6, rtol=1e-5)

    def test_absent_tailors_get_exactly_no_gradient_and_no_decay(self):
        model, gate = linear()
        gate.choose(torch.tensor([0, 2, 0]))
        model(torch.randn(3, 12)).square().sum().backward()
        tailors, block = model[0].tailors, gate.partition.block(1)
        for one in (tailors.U.grad[:, block], tailors.S.grad[block], tailors.V.grad[:, block]):
            assert (one == 0).all()
        assert (tailors.U.grad[:, gate.partition.block(0)] != 0).any()
        before = copy.deepcopy(model[0])
        decay([model[0]], 0.1)
        assert torch.equal(tailors.U[:, block], before.tailors.U[:, block])
        torch.testing.assert_close(tailors.S[gate.partition.block(2)], 0.9 * before.tailors.S[gate.partition.block(2)])
        torch.testing.assert_close(model[0].learngenes.V, 0.9 * before.learngenes.V)

    def test_a_batch_of_one_class_is_the_mixed_batch(self):
        model, gate = linear()
        x = torch.randn(3, 12)
        gate.choose(torch.tensor([1, 1, 1]))
        assert gate.block == slice(2, 4)
        alone = model(x)
        with gate.set(gate.partition.onehot(torch.tensor([1, 1, 1]))):
            torch.testing.assert_close(model(x), alone, atol=1e-6, rtol=1e-5)
        assert gate.block == slice(2, 4)

    def test_soft_gates(self):
        partition = Partition(4, ((3, 2),))
        labels = torch.tensor([1, 0])
        onehot = nn.functional.one_hot(labels, 3).float()
        assert torch.equal(partition.soft(onehot), partition.onehot(labels))
        soft = SoftGate(5, partition)(torch.randn(2, 5))
        assert soft.shape == (2, 6)
        torch.testing.assert_close(soft.sum(1), torch.ones(2))
        by_block = SoftGate(5, partition, by="block")(torch.randn(2, 5))
        torch.testing.assert_close(by_block[:, ::2], by_block[:, 1::2])
        model, gate = linear()
        with gate.set(soft):
            model(torch.randn(2, 12)).sum().backward()
        assert (model[0].tailors.S.grad != 0).all()

    def test_a_soft_gate_learns(self):
        model, gate = linear()
        head = SoftGate(5, gate.partition)
        with gate.set(head(torch.randn(2, 5))):
            model(torch.randn(2, 12)).square().sum().backward()
        assert all((one.grad != 0).any() for one in head.parameters())

    def test_two_families_of_tailors(self):
        model, gate = linear(learngenes=2, families=((2, 3), (2, 1)))
        assert gate.partition.rank == 10
        assert gate.partition.active == 6
        gate.choose(torch.tensor([1, 0]), torch.tensor([0, 1]))
        assert gate.values.tolist() == [[0, 0, 0, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0, 1]]
        assert gate.partition.block(1, family=1) == slice(7, 8)
        x = torch.randn(2, 12)
        U, S, V = model[0].factors()
        weight = (U * S * torch.cat([torch.ones(2), gate.values[1]])) @ V.T
        torch.testing.assert_close(model(x)[1], weight @ x[1] + model[0].bias, atol=1e-6, rtol=1e-5)

    def test_what_does_not_fit_is_said(self):
        with pytest.raises(ParameterError, match="at most 2 a class"):
            linear(learngenes=4, families=((4, 3),))
        with pytest.raises(ParameterError, match="no linear layer called"):
            factorise(nn.Sequential(nn.ReLU()), Partition(1, ((1, 1),)), ["*"])
        model, gate = linear()
        with pytest.raises(ParameterError, match="give \\(B, 6\\)"), gate.set(torch.ones(2, 5)):
            pass
        with gate.set(torch.ones(2, 6)), pytest.raises(ParameterError, match="2 examples for a batch of 3"):
            model(torch.randn(3, 12))
        with pytest.raises(ParameterError, match="1 labels for 2 families"):
            Partition(1, ((1, 1), (1, 1))).onehot(torch.tensor([0]))

    def test_components_are_shuffled_or_in_order(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16))
        values = torch.linalg.svdvals(model[0].weight)
        factorise(model, Partition(4, ((4, 2),)), ["0"], shuffled=False)
        torch.testing.assert_close(model[0].learngenes.S, values[:4])
        mixed, _ = linear(families=((4, 2),))
        assert not torch.allclose(mixed[0].learngenes.S, values[:4])
        torch.testing.assert_close(torch.cat([mixed[0].learngenes.S, mixed[0].tailors.S]).sort(descending=True)[0], values)


class TestTransformer:
    def test_all_six_matrices_of_each_block_are_gated_by_one_gate(self, split):
        layers = gated(split.transformer)
        assert len(layers) == 12
        assert {layer.gate for layer in layers.values()} == {split.gate}
        assert {name.split(".", 2)[2] for name in layers} == {
            "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2",
        }  # fmt: skip

    def test_a_mixed_batch_is_each_class_by_itself(self, split, batch):
        with torch.no_grad():
            found = split.transformer(**batch).sample
            for place in range(5):
                alone = split.transformer(**{key: one[place : place + 1] for key, one in batch.items()}).sample
                torch.testing.assert_close(found[place], alone[0], atol=1e-5, rtol=1e-4)

    def test_it_is_the_plain_model_while_the_gate_is_open(self, batch):
        plain = fresh(SHAPE, NAMES, learngenes=None)
        whole = split_of(fresh(SHAPE, NAMES, learngenes=None), Partition(7, ((3, 3),)))
        with torch.no_grad(), whole.gate.set(torch.ones(5, 9)):
            torch.testing.assert_close(whole.transformer(**batch).sample, plain.transformer(**batch).sample, atol=1e-5, rtol=1e-4)

    def test_labels_are_not_dropped_inside(self, split, batch):
        split.transformer.train()
        with torch.no_grad():
            assert torch.equal(split.transformer(**batch).sample, split.transformer(**batch).sample)

    def test_no_class_is_learngenes_alone(self, split, batch):
        split.transformer(**{**batch, "class_labels": torch.full((5,), 3)})
        assert split.gate.block == slice(0, 0)
        split.transformer(batch["hidden_states"], batch["timestep"], torch.full((5,), 1000))
        assert split.gate.block == slice(0, 0)
        with pytest.warns(UserWarning, match="class 7 was never learned"):
            split.transformer(**{**batch, "class_labels": torch.full((5,), 7)})
        assert split.gate.block == slice(0, 0)

    def test_an_absent_class_gets_no_gradient_from_the_loss(self, split):
        images = torch.randn(4, 1, 4, 4)
        noise_loss(split.transformer, split.scheduler, images, torch.tensor([0, 2, 0, 2]), torch.Generator().manual_seed(0)).backward()
        block = split.gate.partition.block(1)
        for layer in gated(split.transformer).values():
            assert (layer.tailors.U.grad[:, block] == 0).all()
            assert (layer.tailors.S.grad[block] == 0).all()
            assert (layer.learngenes.S.grad != 0).any()

    def test_a_copy_has_a_gate_of_its_own(self, split, batch):
        other = copied(split)
        split.transformer(**batch)
        other.transformer(**{**batch, "class_labels": torch.full((5,), 1)})
        assert other.gate is not split.gate
        assert split.gate.block is None
        assert all(layer.gate is other.gate for layer in gated(other.transformer).values())

    def test_variances_learn_and_are_left_out_of_the_image(self):
        split = fresh(Shape(side=4, channels=1, layers=1, heads=2, width=16, learn_sigma=True), NAMES, learngenes=7, tailors=3)
        images = torch.rand(16, 1, 4, 4) * 2 - 1
        loss = noise_loss(split.transformer, split.scheduler, images, torch.arange(16) % 3, torch.Generator().manual_seed(0))
        loss.backward()
        assert (split.transformer.proj_out_2.weight.grad.reshape(2, 2, 2, 16)[..., 1, :] != 0).any()
        assert draw(split, Sampling(2, steps=2)).shape == (3, 2, 1, 4, 4)

    def test_guidance_of_the_pipeline_finds_this_models_null_class(self, split):
        images = split.pipeline()([0, 1], guidance_scale=3.0, num_inference_steps=2, output_type="pt").images
        assert images.shape == (2, 1, 4, 4)
        assert torch.isfinite(images).all()


class TestParts:
    def test_a_part_draws_bit_for_bit_what_the_whole_draws(self, split):
        part = extract(split, ["c", "a"])
        assert part.names == ("c", "a")
        how = Sampling(2, steps=3)
        assert torch.equal(draw(part, how), draw(split, how, classes=[2, 0]))

    def test_without_a_class_no_other_changes(self, split):
        left = without(split, "b")
        assert left.names == ("a", "c")
        assert torch.equal(draw(left, Sampling(2, steps=3)), draw(split, Sampling(2, steps=3), classes=[0, 2]))

    def test_dense_is_an_ordinary_dit_of_the_active_rank(self, split, tmp_path):
        one = dense(split, "b")
        assert one.gate is None
        torch.testing.assert_close(draw(one, Sampling(2, steps=3)), draw(split, Sampling(2, steps=3), classes=[1]), atol=1e-5, rtol=1e-4)
        assert torch.linalg.matrix_rank(one.transformer.transformer_blocks[0].ff.net[0].proj.weight) == 7 + 3
        save(one, tmp_path)
        plain = DiTTransformer2DModel.from_pretrained(tmp_path / "transformer")
        pipeline = DiTPipeline(plain, one.pipeline().vae, one.scheduler)
        pipeline.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        found = pipeline([0, 0], guidance_scale=1.0, generator=noise, num_inference_steps=3, output_type="pt").images * 2 - 1
        torch.testing.assert_close(found, draw(one, Sampling(2, steps=3))[0])

    def test_a_pipeline_with_a_vae_opens_in_plain_diffusers(self, tmp_path):
        torch.manual_seed(0)
        vae = AutoencoderKL(1, 1, ("DownEncoderBlock2D",), ("UpDecoderBlock2D",), (8,), norm_num_groups=4, latent_channels=1, sample_size=4)
        split = small(vae=vae)
        save(split, tmp_path / "whole")
        assert torch.equal(draw(load(tmp_path / "whole"), Sampling(1, steps=2)), draw(split, Sampling(1, steps=2)))
        save(dense(split, "a"), tmp_path / "one")
        pipeline = DiTPipeline.from_pretrained(tmp_path / "one")
        images = pipeline(
            [0], guidance_scale=1.0, generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="pt"
        ).images
        torch.testing.assert_close(images * 2 - 1, draw(split, Sampling(1, steps=2), classes=[0])[0], atol=1e-5, rtol=1e-4)

    def test_taken_apart_and_put_together_it_is_the_same(self, split):
        again = merged(extract(split, ["a", "b"]), extract(split, ["c"]))
        assert again.names == NAMES
        for key, one in split.transformer.state_dict().items():
            assert torch.equal(one, again.transformer.state_dict()[key]), key

    def test_what_does_not_belong_together_stays_apart(self, split):
        with pytest.raises(ParameterError, match="'a' is there already"):
            merged(split, extract(split, ["a"]))
        other = small(seed=1)
        with pytest.raises(ParameterError, match="same learngenes"):
            merged(extract(split, ["a"]), extract(other, ["b"]))
        with pytest.raises(ParameterError, match="3 and 2 components"):
            merged(split, renewed(split, ["d"], tailors=2))
        with pytest.raises(ParameterError, match="the model has a, b, c"):
            extract(split, ["x"])
        with pytest.raises(ParameterError, match="each once"):
            extract(split, ["a", "a"])
        with pytest.raises(ParameterError, match="plain model has no learngenes"):
            extract(fresh(SHAPE, NAMES, learngenes=None), ["a"])

    def test_new_classes_keep_the_learngenes_and_can_begin_as_an_old_one(self, split):
        new = renewed(split, ["d", "e"], like=[2, None], seed=3)
        for name, layer in gated(new.transformer).items():
            old = gated(split.transformer)[name]
            assert torch.equal(layer.learngenes.U, old.learngenes.U)
            assert torch.equal(layer.tailors.V[:, :3], old.tailors.V[:, 6:])
            assert not torch.equal(layer.tailors.V[:, 3:], old.tailors.V[:, :3])
        assert torch.equal(draw(new, Sampling(1, steps=2), classes=[0]), draw(split, Sampling(1, steps=2), classes=[2]))

    def test_saved_and_opened_it_is_the_same(self, split, tmp_path):
        save(split, tmp_path)
        again = load(tmp_path)
        assert again.names == NAMES
        assert again.partition == split.partition
        assert torch.equal(draw(again, Sampling(1, steps=2)), draw(split, Sampling(1, steps=2)))

    def test_a_damaged_folder_is_refused(self, split, tmp_path):
        with pytest.raises(CheckpointError, match=r"no split\.json"):
            load(tmp_path)
        save(split, tmp_path)
        (tmp_path / "transformer" / "factors.safetensors").write_bytes(b"nothing")
        with pytest.raises(CheckpointError, match="cannot be opened"):
            load(tmp_path)


class TestCost:
    def test_parameters_are_the_formula(self, split):
        layers = gated(split.transformer).values()
        shapes = [(layer.out_features, layer.in_features) for layer in layers]
        found = sum(one.numel() for layer in layers for name, one in layer.named_parameters() if name != "bias")
        assert found == factor_parameters(shapes, split.partition.rank)
        assert sum(layer.bias.numel() for layer in layers) == sum(m for m, _ in shapes)

    def test_pytorch_counts_what_the_formula_says(self, split):
        shapes = [(layer.out_features, layer.in_features) for layer in gated(split.transformer).values()]
        plain = Split(**{**vars(fresh(SHAPE, NAMES, learngenes=None))})
        tokens, saved = 4, (cost_of(plain).megaflops - cost_of(split).megaflops) * 1e6
        assert saved == pytest.approx(dense_flops(shapes, tokens) - factor_flops(shapes, split.partition, tokens), abs=0.5)

    def test_a_part_is_smaller_by_the_tailors_it_lost(self, split):
        shapes = [(layer.out_features, layer.in_features) for layer in gated(split.transformer).values()]
        lost = cost_of(split).parameters - cost_of(extract(split, ["a"])).parameters
        assert lost == factor_parameters(shapes, 2 * 3) + 2 * 2 * 16  # and a row a block in tables of classes


def test_cross_attention_is_factorised_too():
    torch.manual_seed(0)
    block = nn.Sequential(BasicTransformerBlock(16, 2, 8, cross_attention_dim=12, activation_fn="gelu-approximate"))
    x, text = torch.randn(2, 4, 16), torch.randn(2, 3, 12)
    before = block[0](x, encoder_hidden_states=text)
    gate = factorise(nn.ModuleDict({"blocks": block}), Partition(6, ((2, 3),)))
    assert len(gated(block)) == 4 + 4 + 2
    gate.choose(torch.tensor([0, 1]))
    found = block[0](x, encoder_hidden_states=text)
    assert not torch.allclose(found, before)
    gate.choose(torch.tensor([1, 1]))
    torch.testing.assert_close(block[0](x, encoder_hidden_states=text)[1], found[1], atol=1e-5, rtol=1e-4)


def test_a_gate_is_for_any_module():
    gate = Gate(Partition(2, ((2, 1),)))
    layer = GatedLinear(3, 4, gate, bias=False)
    layer.learngenes.fill(torch.randn(3, 2), torch.ones(2), torch.randn(4, 2))
    assert layer(torch.randn(5, 4)).shape == (5, 3)
    assert np.linalg.matrix_rank(layer.weight().numpy()) == 2
