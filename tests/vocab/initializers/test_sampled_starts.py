"""Starts that draw their rows: moments of many draws, seeds, and what transformers itself does."""

import math

import numpy as np
import pytest
import torch
import transformers

from regraft.graft.moments import covariance, mean_and_std
from regraft.method import resolve
from regraft.vocab.initializer import Context, Source
from toys import models as tiny_models
from toys.tokenizers import byte_bpe, target

D = 12
SAMPLED = ["normal", "univariate", "multivariate", "transformers-default"]


def source(tokenizer, role="input", **fields) -> Source:
    table = 0.4 + torch.randn(tokenizer.vocab_size, D, generator=torch.Generator().manual_seed(0))
    return Source(table=table, tokenizer=tokenizer, role=role, **fields)


class TestSampled:
    OLD = byte_bpe()
    MANY = 40_000

    def big_target(self, count):
        aim = target(self.OLD, byte_bpe(["a b"]))
        return type(aim)(ids=np.arange(count), tokenizer=aim.tokenizer, source_ids=aim.source_ids, old_tokenizer=self.OLD)

    def draw(self, name, origin, count=MANY, seed=0, **settings):
        return resolve("initializer", name, settings)(origin, self.big_target(count), Context(seed=seed))

    def test_multivariate_has_the_covariance_c_sigma(self):
        origin = source(self.OLD)
        for c in (1.0, 0.01):
            rows = self.draw("multivariate", origin, c=c).values.to(torch.float64)
            mean, _ = mean_and_std(origin.table)
            sigma = c * covariance(origin.table, mean)
            scale = torch.outer(sigma.diagonal(), sigma.diagonal()).sqrt()
            found = torch.cov(rows.T, correction=0)
            assert float(((found - sigma) / scale).abs().max()) < 5 * math.sqrt(2 / self.MANY)
            error = (rows.mean(0) - mean) / (sigma.diagonal() / self.MANY).sqrt()
            assert float(error.abs().max()) < 5

    def test_multivariate_of_deficient_rank_stays_in_the_span(self):
        origin = Source(table=torch.randn(4, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64), tokenizer=self.OLD)
        rows = self.draw("multivariate", origin, 50, c=1.0).values
        centered = origin.table - origin.table.mean(0)
        basis = torch.linalg.svd(centered, full_matrices=False).Vh[:3]
        away = rows - origin.table.mean(0)
        torch.testing.assert_close(away @ basis.T @ basis, away, rtol=0, atol=1e-6)
        assert float(away.norm(dim=1).min()) > 0

    def test_multivariate_without_spread_is_the_mean(self):
        origin = source(self.OLD)
        torch.testing.assert_close(self.draw("multivariate", origin, 3, c=0).values, origin.table.mean(0).expand(3, D))

    def test_univariate_has_the_spread_of_each_dimension_and_no_more(self):
        generator = torch.Generator().manual_seed(1)
        skew = torch.randn(D, D, generator=generator)
        origin = Source(table=torch.randn(258, D, generator=generator) @ skew, tokenizer=self.OLD)
        rows = self.draw("univariate", origin).values.to(torch.float64)
        mean, std = mean_and_std(origin.table)
        assert float(((rows.mean(0) - mean) / std).abs().max()) < 5 / math.sqrt(self.MANY)
        torch.testing.assert_close(rows.std(0), std, rtol=5 / math.sqrt(2 * self.MANY), atol=0)
        off_diagonal = torch.corrcoef(rows.T) - torch.eye(D, dtype=torch.float64)
        assert float(off_diagonal.abs().max()) < 6 / math.sqrt(self.MANY)

    def test_normal_takes_the_models_initializer_range(self):
        origin = source(self.OLD, initializer_range=0.05)
        rows = self.draw("normal", origin).values
        assert float(rows.std()) == pytest.approx(0.05, rel=0.01)
        assert abs(float(rows.mean())) < 0.001
        assert float(self.draw("normal", origin, std=2.0).values.std()) == pytest.approx(2.0, rel=0.01)
        assert not self.draw("normal", origin, 3, std=0).values.any()

    @pytest.mark.parametrize("name", SAMPLED)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_draws_follow_the_seed_the_table_and_the_dtype(self, name, dtype):
        origin = source(self.OLD)
        origin = Source(table=origin.table.to(dtype), tokenizer=self.OLD)
        rows = self.draw(name, origin, 5).values
        assert rows.dtype == dtype
        assert rows.shape == (5, D)
        assert torch.equal(rows, self.draw(name, origin, 5).values)
        if not (name == "transformers-default" and dtype == torch.bfloat16):  # its tremor is below the precision
            assert not torch.equal(rows, self.draw(name, origin, 5, seed=1).values)
            head = Source(table=origin.table, tokenizer=self.OLD, role="head")
            assert not torch.equal(rows, self.draw(name, head, 5).values)


class TestTransformersDefault:
    COUNT = 2000

    def start(self, table, **fields):
        tokenizer = byte_bpe()
        aim = target(tokenizer, byte_bpe(["a b"]))
        aim = type(aim)(ids=np.arange(self.COUNT), tokenizer=aim.tokenizer, source_ids=aim.source_ids, old_tokenizer=tokenizer)
        return resolve("initializer", "transformers-default")(Source(table=table, tokenizer=tokenizer, **fields), aim, Context())

    def resized(self, model):
        torch.manual_seed(0)
        old = model.get_input_embeddings().weight.shape[0]
        model.resize_token_embeddings(old + self.COUNT)
        head = model.get_output_embeddings()
        return model.get_input_embeddings().weight.detach()[old:], None if head.bias is None else head.bias.detach()[old:]

    def test_rows_like_resize_token_embeddings(self):
        model = tiny_models.llama()
        old = model.get_input_embeddings().weight.detach().clone()
        ours, (theirs, _) = self.start(old), self.resized(model)
        assert ours.bias is None
        assert float((ours.values - old.mean(0)).abs().max()) < 1e-4
        assert float((theirs - old.mean(0)).abs().max()) < 1e-4
        torch.testing.assert_close((ours.values - old.mean(0)).std(0), (theirs - old.mean(0)).std(0), rtol=0.15, atol=0)

    @pytest.mark.parametrize("tied", [True, False])
    def test_biases_like_resize_token_embeddings(self, tied):
        config = transformers.BertConfig(
            vocab_size=120, hidden_size=D, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=tied
        )
        model = transformers.BertForMaskedLM(config)
        bias = torch.randn(120) + 1
        with torch.no_grad():
            model.get_output_embeddings().bias.copy_(bias)
        ours = self.start(model.get_input_embeddings().weight.detach().clone(), bias=bias, tied=tied)
        torch.testing.assert_close(ours.bias, self.resized(model)[1], rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.bias, torch.full((self.COUNT,), 0.0 if tied else float(bias.mean())), rtol=0, atol=1e-6)
