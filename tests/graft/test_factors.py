"""Tables as coordinates times primitives: the split against other solvers, modules against dense models, and the way through files."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy.sparse.linalg import svds
from torch import nn

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.export import export_dense, load_factorised
from regraft.graft.factors import KEY, FactorisedEmbedding, dense, densify, factorise, factorise_model, install_factors, is_factorised
from regraft.training import Training, train
from regraft.training.adapters import untie
from toys import models as tiny_models
from toys.checkpoints import MODELS, D, V, edit_json, load, outputs, refusal, save_models, stored_again

RANK = 6
IDS = torch.arange(3, 20)[None]


def a_table(n=400, d=24, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (0.5 + torch.randn(n, d, generator=generator) * torch.linspace(3, 0.1, d)).to(dtype)


class TestSplit:
    @pytest.mark.parametrize("split", ["paper", "balanced"])
    @pytest.mark.parametrize("rank", [1, 5, 23])
    def test_the_product_is_the_best_table_of_its_rank(self, rank, split):
        table = a_table()
        found = factorise(table, rank, split)
        u, s, vt = svds(table.double().numpy(), k=rank)
        np.testing.assert_allclose(dense(found.coordinates, found.primitives), u * s @ vt, atol=1e-5)
        # Eckart-Young: the error is the tail of the singular values
        error = (table.double() - dense(found.coordinates, found.primitives).double()).square().sum()
        assert error.item() == pytest.approx(found.singular_values[rank:].square().sum().item(), rel=1e-5)
        np.testing.assert_allclose(found.singular_values, np.linalg.svd(table.double().numpy(), compute_uv=False), rtol=1e-8)

    def test_agrees_with_scikit_learn(self):
        decomposition = pytest.importorskip("sklearn.decomposition").TruncatedSVD(7, algorithm="arpack")
        table = a_table().double()
        coordinates = decomposition.fit_transform(table.numpy())
        found = factorise(table, 7)
        np.testing.assert_allclose(dense(found.coordinates, found.primitives), coordinates @ decomposition.components_, atol=1e-8)
        assert found.singular_values[:7].numpy() == pytest.approx(decomposition.singular_values_)

    def test_the_full_rank_gives_the_table_back(self):
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 0.15)):
            table = a_table(dtype=dtype)
            found = factorise(table, 24)
            assert found.coordinates.dtype == found.primitives.dtype == dtype
            torch.testing.assert_close(dense(found.coordinates, found.primitives), table, atol=tolerance, rtol=0)

    def test_which_factor_carries_the_singular_values(self):
        table = a_table(dtype=torch.float64)
        paper, balanced = factorise(table, 8), factorise(table, 8, "balanced")
        values = torch.diag(paper.singular_values[:8])
        for found, left, right in ((paper, torch.eye(8).double(), values**2), (balanced, values, values)):
            torch.testing.assert_close(found.coordinates.T @ found.coordinates, left, atol=1e-9, rtol=1e-9)
            torch.testing.assert_close(found.primitives @ found.primitives.T, right, atol=1e-9, rtol=1e-9)
        assert paper.coordinates.square().mean().sqrt().item() == pytest.approx(len(table) ** -0.5)

    def test_it_is_not_centred(self):
        table = torch.ones(50, 4) + 0.01 * a_table(50, 4)
        assert factorise(table, 1).coordinates.std() < 0.2 * factorise(table, 1).coordinates.abs().mean()

    def test_directions_that_a_table_lacks(self):
        table = a_table()
        table[:, 10:] = table[:, :14] * 0.5
        found = factorise(table, 20)
        assert torch.isfinite(found.coordinates).all()
        torch.testing.assert_close(dense(found.coordinates, found.primitives), table, atol=1e-4, rtol=0)
        assert not factorise(torch.zeros(5, 3), 2).coordinates.any()

    def test_blocks_do_not_matter(self, monkeypatch):
        whole = factorise(a_table(), 5)
        monkeypatch.setattr("regraft.graft.factors.BLOCK", 37)
        parts = factorise(a_table(), 5)
        torch.testing.assert_close(dense(parts.coordinates, parts.primitives), dense(whole.coordinates, whole.primitives))

    @pytest.mark.parametrize("rank", [0, -1, 25])
    def test_ranks_that_no_table_has(self, rank):
        with pytest.raises(ParameterError, match=f"rank={rank}: the table has 400 rows of 24 numbers: choose 1 to 24"):
            factorise(a_table(), rank)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    stored_again(root / "t5", root / "t5-untied", {"lm_head.weight": "shared.weight"}, tie_word_embeddings=False)
    tensors = load_file(root / "t5-untied" / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(tensors["shared.weight"].shape, generator=torch.Generator().manual_seed(4))
    save_file(tensors, root / "t5-untied" / "model.safetensors", metadata={"format": "pt"})
    return root


@pytest.mark.parametrize("name", [*MODELS, "t5-untied"])
class TestEveryArchitecture:
    def test_the_full_rank_leaves_its_outputs(self, models, name):
        model = load(models / name)
        before = outputs(model, IDS)
        factorise_model(model, D)
        assert is_factorised(model)
        torch.testing.assert_close(outputs(model, IDS), before, atol=1e-5, rtol=1e-4)

    def test_it_equals_the_dense_model_of_the_product(self, models, name):
        """Logits with the factors, with F P put in by hand, and after `densify`."""
        model, by_hand = load(models / name), load(models / name)
        with torch.no_grad():
            embedding, head = by_hand.get_input_embeddings(), by_hand.get_output_embeddings()
            tables = [embedding] if head is None or head.weight is embedding.weight else [embedding, head]
            for table in tables:
                u, s, vt = torch.linalg.svd(table.weight.double(), full_matrices=False)
                table.weight.copy_((u[:, :RANK] * s[:RANK]) @ vt[:RANK])
        factorise_model(model, RANK, "balanced")
        low = outputs(model, IDS)
        torch.testing.assert_close(low, outputs(by_hand, IDS), atol=1e-5, rtol=1e-4)
        densify(model)
        assert not is_factorised(model)
        torch.testing.assert_close(outputs(model, IDS), low, atol=1e-5, rtol=1e-4)
        head = model.get_output_embeddings()
        if head is not None:
            assert (head.weight is model.get_input_embeddings().weight) == (len(tables) == 1)

    def test_saved_loaded_and_exported_it_is_the_same_model(self, models, name, tmp_path):
        model = load(models / name)
        factorise_model(model, RANK)
        low = outputs(model, IDS)
        model.save_pretrained(tmp_path / "factorised")
        again = load_factorised(tmp_path / "factorised")
        assert torch.equal(outputs(again, IDS), low)
        assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in model.parameters())
        export_dense(tmp_path / "factorised", tmp_path / "dense")
        plain = load(tmp_path / "dense")  # as transformers opens it, no weight missing
        torch.testing.assert_close(outputs(plain, IDS), low, atol=1e-5, rtol=1e-4)
        assert KEY not in json.loads((tmp_path / "dense" / "config.json").read_text())
        assert not [tensor for tensor in Checkpoint.open(tmp_path / "dense").tensors if "primitives" in tensor]
        with pytest.raises(RuntimeError, match="mismatch"):
            getattr(transformers, type(model).__name__).from_pretrained(tmp_path / "factorised")

    def test_its_factors_are_all_that_it_keeps_of_its_tables(self, models, name):
        model = load(models / name)
        head = model.get_output_embeddings()
        tables = 1 if head is None or head.weight is model.get_input_embeddings().weight else 2
        before = sum(p.numel() for p in model.parameters())
        factorise_model(model, RANK)
        assert sum(p.numel() for p in model.parameters()) == before - tables * (V * D - RANK * (V + D))


class TestTraining:
    def run(self, model, **settings):
        training = Training(
            **{"steps": 2, "parameters": "embeddings", "block": 16, "batch_size": 2, "accumulate": 1, "lr": 1e-2} | settings
        )
        return train(model, tiny_models.tokenizer(), tiny_models.texts(40), training, new_ids=[290, 291, 292])

    @pytest.mark.parametrize("tied", [True, False])
    def test_both_factors_train_and_stay_shared(self, tied):
        model = tiny_models.llama(tied=tied)
        factorise_model(model, 4, "balanced")
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        before = [p.detach().clone() for p in (embedding.weight, embedding.primitives, head.right)]
        run = self.run(model)
        assert run.trainable_parameters == (1 if tied else 2) * 4 * (tiny_models.ROWS + 16)
        after = [embedding.weight, embedding.primitives, head.right]
        assert all((a != b).any() for a, b in zip(after, before, strict=True))
        assert (head.weight is embedding.weight) == (head.right is embedding.primitives) == tied

    def test_new_rows_alone(self):
        model = tiny_models.llama()
        factorise_model(model, 4)
        embedding = model.get_input_embeddings()
        weight, primitives = embedding.weight.detach().clone(), embedding.primitives.detach().clone()
        assert self.run(model, parameters="rows").trainable_parameters == 3 * 4
        moved = (embedding.weight != weight).any(dim=1)
        assert moved.nonzero()[:, 0].tolist() == [290, 291, 292]
        assert torch.equal(embedding.primitives, primitives)
        assert model.get_input_embeddings() is embedding

    @pytest.mark.parametrize("settings", [{"parameters": "2x2"}, {"parameters": "all"}, {"objective": "mtp"}, {"precision": "bf16"}])
    def test_other_ways_to_train(self, settings):
        model = tiny_models.llama()
        factorise_model(model, 4)
        run = self.run(model, steps=12, **settings)
        assert run.losses[-1].bits_per_byte < run.losses[0].bits_per_byte

    def test_a_masked_model(self):
        torch.manual_seed(0)
        tokenizer = tiny_models.wordpiece()
        config = transformers.BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, pad_token_id=0
        )
        model = transformers.BertForMaskedLM(config)
        factorise_model(model, 4, "balanced")
        pad = model.get_input_embeddings().weight[0].detach().clone()
        bias = model.cls.predictions.bias.detach().clone()
        training = Training(steps=3, parameters="embeddings", objective="mlm", block=16, batch_size=4, accumulate=1, lr=1e-2)
        train(model, tokenizer, tiny_models.texts(60), training)
        assert model.cls.predictions.bias is model.get_output_embeddings().bias
        assert (model.cls.predictions.bias != bias).any()
        assert pad.shape == (4,)

    def test_the_padding_row_gets_no_gradient_from_being_looked_up(self):
        inner = nn.Embedding(10, 8, padding_idx=2)
        module = FactorisedEmbedding(nn.Parameter(torch.randn(10, 3)), nn.Parameter(torch.randn(3, 8)), inner)
        module(torch.tensor([[1, 2, 2, 5]])).sum().backward()
        assert module.weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [1, 5]

    def test_adapters_on_factors_are_refused(self):
        model = tiny_models.llama(tied=False)
        factorise_model(model, 4)
        with pytest.raises(ParameterError, match="low rank already"):
            self.run(model, parameters="lora", lora_tables=True)
        assert self.run(model, parameters="lora").steps == 2

    def test_untied_it_has_two_pairs_of_factors(self):
        model = tiny_models.llama()
        factorise_model(model, 4)
        untie(model)
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        assert torch.equal(head.right, embedding.primitives)
        assert head.right is not embedding.primitives
        self.run(model)
        assert (head.right != embedding.primitives).any()


class TestFiles:
    @pytest.fixture
    def folder(self, models, tmp_path):
        model = load(models / "llama")
        factorise_model(model, RANK)
        model.save_pretrained(tmp_path / "f")
        return tmp_path / "f"

    def test_several_shards(self, models, tmp_path):
        model = load(models / "llama")
        factorise_model(model, RANK)
        model.save_pretrained(tmp_path / "f", max_shard_size="20KB")
        assert len(list((tmp_path / "f").glob("*.safetensors"))) > 1
        export_dense(tmp_path / "f", tmp_path / "d")
        torch.testing.assert_close(outputs(load(tmp_path / "d"), IDS), outputs(model, IDS), atol=1e-5, rtol=1e-4)
        index = json.loads((tmp_path / "d" / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == set(Checkpoint.open(tmp_path / "d").tensors)
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in Checkpoint.open(tmp_path / "d").tensors.values())

    def test_the_dtype_of_the_files(self, models, tmp_path):
        model = load(models / "qwen2").to(torch.bfloat16)
        factorise_model(model, RANK)
        model.save_pretrained(tmp_path / "f")
        assert load_factorised(tmp_path / "f").get_input_embeddings().primitives.dtype == torch.bfloat16
        assert load_factorised(tmp_path / "f", dtype="float32").get_input_embeddings().primitives.dtype == torch.float32
        export_dense(tmp_path / "f", tmp_path / "d")
        assert Checkpoint.open(tmp_path / "d").tensors["model.embed_tokens.weight"].dtype == "BF16"

    def test_an_ordinary_checkpoint_is_told_apart(self, models, folder):
        assert "not factorised" in refusal(load_factorised, models / "llama")
        assert "not factorised" in refusal(export_dense, models / "llama", folder.parent / "out")
        assert f"regraft export {folder}" in refusal(Checkpoint.open, folder)

    def test_damaged_factors(self, folder, tmp_path):
        file = folder / "model.safetensors"
        good = load_file(file)
        lost = {name: tensor for name, tensor in good.items() if not name.endswith("primitives")}
        save_file(lost, file, metadata={"format": "pt"})
        assert "no primitives for model.embed_tokens.weight" in refusal(export_dense, folder, tmp_path / "out")
        short = {name: tensor[:-1].clone() if name.endswith("primitives") else tensor for name, tensor in good.items()}
        save_file(short, file, metadata={"format": "pt"})
        assert "do not fit model.embed_tokens.weight" in refusal(load_factorised, folder)
        save_file(good, file, metadata={"format": "pt"})
        edit_json(folder / "config.json", **{KEY: {"rank": RANK + 1}})
        assert "7 hidden dimensions" in refusal(load_factorised, folder)
        assert not (tmp_path / "out").exists()

    def test_it_moves_and_copies(self, folder):
        import copy

        model = load_factorised(folder)
        twin = copy.deepcopy(model).to(torch.float64)
        assert twin.get_output_embeddings().right.dtype == torch.float64
        assert outputs(twin, IDS).dtype == torch.float64

    def test_it_writes_text_as_the_dense_model_does(self, folder, tmp_path):
        export_dense(folder, tmp_path / "d")
        written = [m.generate(IDS, max_new_tokens=8, do_sample=False).tolist() for m in (load_factorised(folder), load(tmp_path / "d"))]
        assert written[0] == written[1]
        assert len(written[0][0]) > IDS.shape[1]

    def test_factors_of_another_size_take_the_place_of_the_first(self, models):
        model = load(models / "bert-mlm")
        factorise_model(model, RANK)
        install_factors(model, torch.randn(V + 9, 5), torch.randn(5, D), bias=torch.randn(V + 9))
        assert outputs(model, IDS).shape[-1] == V
        assert model.config.vocab_size == model.get_output_embeddings().out_features == V + 9
        densify(model)
        model.resize_token_embeddings(V + 12, mean_resizing=False)
        assert model(IDS).logits.shape[-1] == V + 12
