"""Approximate likelihood matching: chunks by hand, nothing where both spellings agree, and rows that learn from it in both tables."""

import math

import numpy as np
import pytest
import torch
from test_token_distillation import FAST, TEXTS, change, context, old, source_of, target_of  # noqa: F401  # fixtures too

from regraft.errors import ParameterError
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.initializer import Context
from regraft.vocab.initializers.constituent_mean import ConstituentMean
from regraft.vocab.initializers.token_distillation import TokenDistillation
from regraft.vocab.initializers.token_distillation.chunk_likelihood import chunk_distances, divergence, openers, read
from regraft.vocab.initializers.token_distillation.pairing import Passage, passages
from regraft.vocab.initializers.token_distillation.student import Student, Teacher
from toys import models as tiny_models


def test_divergence_is_that_of_two_coins_and_nothing_where_they_are_one():
    given, learned = torch.tensor([-3.0, -250.0, -0.01, 0.0]), torch.tensor([-7.0, -40.0, -0.02, -5.0], requires_grad=True)
    found = divergence(given, learned)
    for nats, own, value in zip(given[:3].tolist(), learned[:3].tolist(), found.tolist(), strict=False):
        p, q = math.exp(nats / 100), math.exp(own / 100)
        assert value == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)), rel=1e-3)
    assert (found >= 0).all()
    assert not divergence(given, given).any()
    found.sum().backward()
    assert torch.isfinite(learned.grad).all()


def test_likelihoods_are_summed_up_to_each_place():
    logits, rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), np.array([5, 2, 0, 3])
    opens = torch.tensor([True, False, False, True, False, False])
    up_to, opening = read(logits, rows, opens)
    p = torch.log_softmax(logits, 1)
    torch.testing.assert_close(up_to, torch.stack([torch.tensor(0.0), p[0, 2], p[0, 2] + p[1, 0], p[0, 2] + p[1, 0] + p[2, 3]]))
    torch.testing.assert_close(opening.exp(), p[:, [0, 3]].exp().sum(1))


def test_a_chunk_runs_from_end_to_end_and_on_where_no_word_begins():
    ids = np.arange(5)
    passage = Passage(ids, ids[:3], np.array([1, 2, 4]), np.array([0, 1, 2]))
    old_up_to, new_up_to = torch.tensor([0.0, -1, -3, -4, -9]), torch.tensor([0.0, -5, -6])
    open_, shut = math.log(0.5), math.log(0.05)
    new_opening = torch.tensor([-0.3, -0.2, -0.1])
    both = chunk_distances([(old_up_to, torch.full((5,), open_))], [(new_up_to, new_opening)], [passage])
    expected = divergence(torch.tensor([-2 + open_, -6 + open_]), torch.tensor([-5 - 0.2, -1 - 0.1]))
    torch.testing.assert_close(both, expected)
    joined = chunk_distances([(old_up_to, torch.tensor([open_, shut, shut, open_, open_]))], [(new_up_to, new_opening)], [passage])
    torch.testing.assert_close(joined, divergence(torch.tensor([-8 + open_]), torch.tensor([-6 - 0.1])))
    assert len(chunk_distances([(old_up_to, torch.full((5,), shut))], [(new_up_to, new_opening)], [passage])) == 0


def student_of(old, change, values=None):  # noqa: F811
    target = target_of(old, change)
    student = Student(tiny_models.llama(), load_tokenizer(old), target, ConstituentMean()(source_of(old), target, Context()))
    if values is not None:
        with torch.no_grad():
            student.model.get_input_embeddings().weight[student.columns :] = values
    return student


def far(student, found):
    with torch.no_grad():
        states = student.hidden([student.places[p.new] for p in found])
        return float(student.chunk_distance(Teacher(student, whole=True).each(found), states, found))


def test_text_without_new_tokens_is_apart_by_what_the_new_rows_draw_alone(old, change, monkeypatch):  # noqa: F811
    student, target = student_of(old, change), target_of(old, change)
    plain = [p for p in passages(target, tiny_models.texts(30, seed=9), 12) if not np.isin(p.new, target.ids).any()]
    assert plain
    assert far(student, plain) > 1e-7
    new = torch.arange(student.columns, student.columns + len(target))
    monkeypatch.setattr(student, "logits", lambda states: student.language_model.logits(states).index_fill(1, new, -torch.inf))
    assert far(student, plain) < 1e-9


def test_words_begin_with_white_space(old, change):  # noqa: F811
    target = target_of(old, change)
    opens = openers(target, old.vocab_size)
    assert len(opens) == old.vocab_size + len(target)
    assert opens[old.encode("a cat")[1]]
    assert not opens[old.encode("cat")[0]]
    surfaces = [change.tokenizer.surface(int(token)) for token in target.ids]
    assert opens[old.vocab_size :].tolist() == [surface.startswith(b" ") for surface in surfaces]


@pytest.fixture
def words_begin_anywhere(monkeypatch):
    """The random model gives white space a tenth of the chance, at most."""
    monkeypatch.setattr("regraft.vocab.initializers.token_distillation.chunk_likelihood.LEAST_OPENING", 0.0)


@pytest.mark.usefixtures("words_begin_anywhere")
def test_rows_learn_to_give_chunks_the_old_spelling_s_likelihood(old, change):  # noqa: F811
    target = target_of(old, change)
    rows = TokenDistillation(**FAST, loss="alm", lr=0.01, epochs=40)(source_of(old), target, context(old)).values
    found = [p for p in passages(target, TEXTS, 12) if np.isin(p.new, target.ids).any()]
    before, after = far(student_of(old, change), found), far(student_of(old, change, rows), found)
    assert 0 < after < 0.8 * before


@pytest.mark.usefixtures("words_begin_anywhere")
def test_an_untied_head_learns_from_likelihoods_alone(old, change, monkeypatch):  # noqa: F811
    asked = []
    step = TokenDistillation.step
    monkeypatch.setattr(TokenDistillation, "step", lambda self, *given: asked.append(given[3]) or step(self, *given))
    method, aids = TokenDistillation(**FAST, loss="alm", lr=0.01), context(old, tied=False)
    head = source_of(old, False, "head")
    learned = method(head, target_of(old, change), aids).values
    assert asked
    assert not any(asked)  # no cross-entropy
    assert not torch.allclose(learned, ConstituentMean()(head, target_of(old, change), Context()).apply(head.table), atol=1e-6)


def test_a_batch_without_a_chunk_teaches_nothing(old, change, monkeypatch):  # noqa: F811
    monkeypatch.setattr("regraft.vocab.initializers.token_distillation.chunk_likelihood.LEAST_OPENING", 1.0)
    target = target_of(old, change)
    start = ConstituentMean()(source_of(old), target, Context()).apply(source_of(old).table)
    rows = TokenDistillation(**FAST, loss="alm", lr=0.02)(source_of(old), target, context(old)).values
    torch.testing.assert_close(rows, start)


def test_a_masked_model_has_no_next_token_to_compare(old, change):  # noqa: F811
    masked = Context(corpus=context(old).corpus, load_model=lambda: (tiny_models.bert(), load_tokenizer(old)))
    with pytest.raises(ParameterError, match="loss=alm compares likelihoods of the next token, which BertForMaskedLM does not predict"):
        TokenDistillation(**FAST, loss="alm")(source_of(old), target_of(old, change), masked)
