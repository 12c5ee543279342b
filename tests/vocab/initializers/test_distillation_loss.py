"""Token distillation's loss by hand: what cross-entropy weighs, over which tokens it runs, and from where each table starts."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from regraft.corpus import Corpus
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.change import add_words, extend
from regraft.vocab.change.trim import trim
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.initializers.constituent_exponential import ConstituentExponential
from regraft.vocab.initializers.constituent_mean import ConstituentMean
from regraft.vocab.initializers.token_distillation import TokenDistillation
from regraft.vocab.initializers.token_distillation.method import replacing
from regraft.vocab.initializers.token_distillation.pairing import passages
from regraft.vocab.initializers.token_distillation.student import Student, Teacher
from regraft.vocab.transplant.installed import live_tables
from toys import models as tiny_models

TEXTS = [f"{text} flumzor quixzor" for text in tiny_models.texts(40, seed=2)]
BAR = SimpleNamespace(say=lambda _: None)


@pytest.fixture(scope="module")
def old():
    named = {"tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>"}).encode()}
    return Tokenizer.from_spec(json.loads(tiny_models.tokenizer().backend_tokenizer.to_str()), named)


def target_of(old, change):
    return Target(change.new_ids, change.tokenizer, change.source_ids, old)


def source_of(old, role="input"):
    model = tiny_models.llama(tied=False)
    return Source(live_tables(model)[role].detach()[: old.vocab_size], old, role=role, tied=False)


def trimmed(old):
    """The vocabulary without the tokens that a short text does not use, and with two of its own."""
    shorter = trim(old, ["the cat sat"])
    change = add_words(shorter.tokenizer, ["flumzor", "quixzor"])
    source_ids = np.where(change.source_ids >= 0, shorter.source_ids[np.maximum(change.source_ids, 0)], -1)
    assert len(shorter.source_ids) < old.vocab_size
    return Target(change.new_ids, change.tokenizer, source_ids, old)


def replaced(old):
    """The vocabulary extended, and the row of " cat" learned anew."""
    return replacing(target_of(old, extend(old, TEXTS, 8)), np.array([old.encode("a cat")[1]]))


@pytest.mark.parametrize("make", [trimmed, replaced])
def test_the_gradient_is_that_of_distance_and_cross_entropy_over_the_new_vocabulary_with_a_constant_ratio(old, make):
    """Both tables': alpha = 1 would leave out the ratio, and a ratio with a gradient of its own would leave twice the distance's."""
    target = make(old)
    student = Student(tiny_models.llama(tied=False), load_tokenizer(old), target, ConstituentMean()(source_of(old), target, Context()))
    chosen = list(passages(target, TEXTS, 12))[:6]
    parameters = list(student.train_rows().parameters.values())
    teacher = Teacher(student)
    TokenDistillation().step(student, teacher, chosen, True, BAR)

    new = [student.places[p.new] for p in chosen]
    states = student.hidden(new)
    distance = (torch.cat([h[p.new_at] for h, p in zip(states, chosen, strict=True)]) - teacher(chosen)).square().mean()
    logits = student.language_model.logits(torch.cat([h[:-1] for h in states]))
    present = np.unique(student.places)
    assert len(present) == len(target.tokenizer.pieces) < logits.shape[1]
    asked = torch.from_numpy(np.searchsorted(present, np.concatenate([ids[1:] for ids in new])))
    nats = -logits[:, present].log_softmax(1)[torch.arange(len(asked)), asked].mean()
    alpha = distance.item() / nats.item()
    assert not 0.5 < alpha < 2
    for parameter, near, next_token in zip(
        parameters,
        torch.autograd.grad(distance, parameters, retain_graph=True, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(nats, parameters),
        strict=True,
    ):
        torch.testing.assert_close(parameter.grad, near + alpha * next_token, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("first", ["input", "head"])
def test_an_untied_head_begins_with_the_start_of_its_own(old, first):
    """Exponential weights have the last piece in front for input rows, the first for head rows, whichever table is asked for first."""
    target = target_of(old, extend(old, TEXTS, 8))
    context = Context(corpus=Corpus.from_texts(TEXTS, held_out=0), load_model=lambda: (tiny_models.llama(tied=False), load_tokenizer(old)))
    method = TokenDistillation(snippets=2, length=12, minutes=None, start="constituent-exponential", head="start", lr=1e-12)
    for role in (first, "head" if first == "input" else "input"):
        source = source_of(old, role)
        expected = ConstituentExponential()(source, target, Context()).apply(source.table)
        torch.testing.assert_close(method(source, target, context).values, expected, rtol=1e-5, atol=1e-6)
