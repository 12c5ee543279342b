"""HyperOFA: sets as drawn, the loss by hand, a network that learns a known map, and rows in their places."""

import numpy as np
import pytest
import torch
from scipy import sparse

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.graft import Rows
from regraft.method import resolve
from regraft.vectors.tokens import Vectors
from regraft.vocab.change import replace
from regraft.vocab.initializer import Context
from regraft.vocab.initializers.hyper_ofa import HyperOFA, coordinate_network
from regraft.vocab.initializers.hyper_ofa.coordinate_network import CoordinateNetwork, WordSets, coordinate_loss
from regraft.vocab.mixing.word_space import WordSpace
from regraft.vocab.transplant.transplant import transplant
from toys.checkpoints import V, save_models
from toys.tokenizers import character_bpe
from toys.vocabularies import row_of, situation, word_tokenizer

SMALL = {"minutes": None, "hidden": 24, "layers": 1, "dropout": 0.0, "lr": 1e-2, "network_epochs": 40}
OLD_WORDS = [a + b + c for a in "bcdfghjk" for b in "aeiou" for c in "lmnpr"]
NEW_WORDS = [a + b + c for a in "stvw" for b in "aeiou" for c in "lm"]
OLD = word_tokenizer(" ".join(OLD_WORDS))
NEW = word_tokenizer(" ".join([*NEW_WORDS, "Bal", "unheard"]))


def sets():
    held = sparse.csr_matrix(np.array([[1, 2, 0, 0, 0], [0, 1, 1, 1, 3], [0, 0, 0, 0, 1]], dtype=np.float64))
    return WordSets(held, np.arange(10, dtype=np.float32).reshape(5, 2) + 1)


@pytest.mark.parametrize("at_once", [1, 12, 10_000])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(monkeypatch, at_once):
    torch.manual_seed(0)
    network, vectors, sizes = CoordinateNetwork(3, 4, 2, 5, 0.0), torch.randn(7, 6, 3), torch.tensor([1, 6, 2, 3, 6, 1, 4])

    def gradients(rows):
        network.zero_grad()
        coordinate_loss(rows, torch.linspace(-1, 1, 28).reshape(7, 4), 0.5, 0.5).backward()
        return rows.detach(), [parameter.grad.clone() for parameter in network.parameters()]

    whole = gradients(network(vectors, sizes))
    monkeypatch.setattr(coordinate_network, "VECTORS_AT_ONCE", at_once)
    torch.testing.assert_close(gradients(coordinate_network._in_parts(network, vectors, sizes)), whole, rtol=1e-4, atol=1e-6)


class TestSets:
    def test_each_token_has_the_vectors_of_its_words_once(self):
        random, words = np.random.default_rng(0), sets()
        orders = set()
        for _ in range(20):
            vectors, sizes = words.draw(np.array([1, 0]), 256, random, augment=False)
            assert sizes.tolist() == [4, 2]
            assert not vectors[1, 2:].any()
            assert sorted(vectors[0].tolist()) == words.matrix[1:5].tolist()
            assert sorted(vectors[1, :2].tolist()) == words.matrix[:2].tolist()
            orders.add(tuple(vectors[0, :, 0].tolist()))
        assert len(orders) > 5, "the order is not random"

    def test_at_most_so_many(self):
        vectors, sizes = sets().draw(np.array([0, 1, 2]), 3, np.random.default_rng(0), augment=False)
        assert sizes.tolist() == [2, 3, 1]
        assert vectors.shape == (3, 3, 2)

    def test_every_second_set_keeps_half_or_more(self):
        words = WordSets(sparse.csr_matrix(np.ones((1, 40))), np.ones((40, 1), dtype=np.float32))
        random = np.random.default_rng(0)
        sizes = np.array([words.draw(np.array([0]), 256, random, augment=True)[1].item() for _ in range(600)])
        assert sizes.min() >= 20
        assert 0.4 < (sizes == 40).mean() < 0.62
        assert 28 < sizes[sizes < 40].mean() < 32


class TestNetwork:
    def test_the_loss_by_hand(self):
        generator = torch.Generator().manual_seed(0)
        predicted, true = (torch.randn(5, 3, generator=generator) for _ in range(2))
        contrast, distance = 0.0, 0.0
        for i in range(5):
            scores = [float(torch.nn.functional.cosine_similarity(predicted[i], true[j], dim=0)) / 0.25 for j in range(5)]
            contrast -= np.log(np.exp(scores[i]) / np.sum(np.exp(scores))) / 5
            distance += float((predicted[i] - true[i]).abs().sum() / true[i].abs().sum()) / 5
        assert coordinate_loss(predicted, true, 0.1, 0.25).item() == pytest.approx(0.1 * contrast + 0.9 * distance, rel=1e-5)
        assert coordinate_loss(true, true, 0.0, 0.5).item() == 0

    def test_padding_does_not_matter(self):
        torch.manual_seed(0)
        network = CoordinateNetwork(2, 3, 2, 8, 0.4).eval()
        batch, alone = torch.randn(2, 5, 2), torch.tensor([3])
        together = network(batch, torch.tensor([3, 5]))
        torch.testing.assert_close(together[:1], network(batch[:1, :3], alone))


def space(words, seed=0, dim=6):
    rng = np.random.default_rng(seed)
    letters = {letter: rng.normal(size=dim) for letter in "abcdefghijklmnopqrstuvwxyz"}
    vectors = np.array([np.sum([letters[letter] for letter in word], axis=0) for word in words], dtype=np.float32)
    return WordSpace.of_vectors(Vectors(list(words), vectors))


def task(role="input", linear=True, **kwargs):
    """A table that is a linear map of its words' vectors, so that there is something to learn."""
    source, target, context = situation(OLD, NEW, **kwargs)
    words = space([*OLD_WORDS, *NEW_WORDS])
    context.memory["word space words"] = words
    if linear:
        mapping = np.random.default_rng(5).normal(size=(6, 6)) / 5
        rows = dict(zip(words.words, words.matrix @ mapping, strict=True))
        for word in OLD_WORDS:
            source.table[OLD.vocab[word]] = torch.from_numpy(rows[word]).float()
    else:
        rows = {}
    return source, target, context, rows


def cosines(values, target, rows):
    found = torch.stack([values[row_of(target, word)] for word in NEW_WORDS])
    true = torch.from_numpy(np.stack([rows[word] for word in NEW_WORDS])).float()
    return torch.nn.functional.cosine_similarity(found, true)


class TestRows:
    def test_it_learns_what_words_say_of_rows(self):
        source, target, context, rows = task()
        learned = HyperOFA(**SMALL)(source, target, context)
        assert isinstance(learned, Rows)
        assert cosines(learned.values, target, rows).mean() > 0.8
        untrained = HyperOFA(**SMALL | {"network_epochs": 1, "lr": 1e-9})(*task()[:3])
        assert cosines(untrained.values, target, rows).mean() < 0.5
        near = float(context.notes[-1].rsplit(": ", 1)[1].split(",")[0])
        assert near > 0.8
        assert context.notes[-1].endswith("after 40.0 of 40 epochs")
        assert "predicted to true input rows" in context.notes[-1]

    def test_it_stops_in_time_and_says_how_far_it_came(self):
        source, target, context, _ = task()
        HyperOFA(**SMALL | {"minutes": 1e-9})(source, target, context)
        assert context.notes[-1].endswith("after 0.5 of 40 epochs")  # the first of two batches is always done

    def test_copies_and_tokens_without_words(self):
        source, target, context, _ = task()
        learned = HyperOFA(**SMALL | {"network_epochs": 1})(source, target, context).values
        assert torch.equal(learned[row_of(target, "Bal")], source.table[OLD.vocab["bal"]])
        row = row_of(target, "unheard")
        torch.testing.assert_close(learned[row], source.table[target.pieces[row]].mean(0))
        drawn = HyperOFA(**SMALL | {"network_epochs": 1, "fallback": "normal"})(source, target, context).values
        assert not torch.equal(drawn[row], learned[row])
        assert torch.equal(drawn[row_of(target, "sal")], learned[row_of(target, "sal")])

    def test_seeds_and_roles(self):
        import dataclasses

        source, target, context, _ = task()
        start = HyperOFA(**SMALL | {"network_epochs": 1})
        state = torch.random.get_rng_state()
        one, two = start(source, target, context).values, start(source, target, context).values
        assert torch.equal(one, two)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert not torch.equal(start(dataclasses.replace(source, role="head"), target, context).values, one)
        assert not torch.equal(start(source, target, dataclasses.replace(context, seed=1)).values, one)

    def test_biases(self):
        source, target, context, _ = task(bias=True)
        zero, copy = HyperOFA(**SMALL | {"network_epochs": 1})(source, target, context).bias, row_of(target, "Bal")
        assert zero[copy] == source.bias[OLD.vocab["bal"]]
        assert zero.count_nonzero() == 1
        mixed = HyperOFA(**SMALL | {"network_epochs": 1, "bias": "mixed"})(source, target, context).bias
        assert mixed[row_of(target, "Bal")] == source.bias[OLD.vocab["bal"]]

    def test_bad_settings(self):
        for field, value in {"hidden": 0, "dropout": 1.0, "lambda_": 1.5, "T": 0, "decay": 0, "network_epochs": 0}.items():
            with pytest.raises(ParameterError, match=field):
                resolve("initializer", "hyper-ofa", {field: value})
        with pytest.raises(ParameterError, match="hyper-ofa needs --vectors"):
            HyperOFA()(*situation(OLD, NEW))


@pytest.mark.parametrize("name", ["llama", "llama-tied", "bert-mlm"])
def test_coordinates_of_every_table(tmp_path, name):
    save_models(tmp_path)
    checkpoint = Checkpoint.open(tmp_path / name)
    merges = [f"{consonant} {vowel}" for vowel in "aeiou" for consonant in "bcdfghjklmnpqrstvwxyz"][: V - 30]
    old = character_bpe(merges)
    change = replace(old, character_bpe([*merges[:30], "z a", "za za", "b z"], letters="zyxwvutsrqponmlkjihgfedcba"))
    context = Context()
    context.memory["word space words"] = space(["baza", "zaza", "zabe", "bibo", "cabe", "dudu"])
    result = transplant(checkpoint, old, change, HyperOFA(**SMALL | {"network_epochs": 1, "rank": 5}), context)
    assert result.graft is None
    assert result.input.shape[1] == 5
    assert (result.head is not None) == (name == "llama") == (result.head_primitives is not None)
    heads = [note for note in context.notes if "head rows" in note]
    assert len(heads) == (name == "llama")
