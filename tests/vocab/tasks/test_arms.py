import numpy as np
import pytest
import torch

from regraft.errors import OntologyError, ParameterError
from regraft.vocab.k_tokeniser import Ontology
from regraft.vocab.tasks import ARMS, Subject
from regraft.vocab.tasks.arms import arm_names
from toys.ontologies import DRUGS, SIGNS, SMALL


@pytest.mark.parametrize("name", ARMS[1:])
def test_old_rows_stay_and_new_ones_are_as_the_start_says(subject, checkpoint, name):
    arm = subject.arm(name)
    tables, old = subject.tables(arm, 0), checkpoint.read("embeddings.word_embeddings.weight")
    count = subject.tokenizer.vocab_size
    assert torch.equal(tables.input[:count], old[:count])
    new = tables.input[torch.from_numpy(arm.change.new_ids)]
    assert len(new) == arm.new_tokens > 10
    if name in ("added-words", "default-rows"):
        torch.testing.assert_close(new, old[:count].mean(0).expand_as(new), atol=1e-3, rtol=0)
    elif name == "random-rows":
        assert not torch.equal(tables.input, subject.tables(arm, 1).input)  # each seed draws its own
        assert new.std() == pytest.approx(float(old.std()), rel=0.2)
    else:
        for place in (0, len(new) // 2, len(new) - 1):
            token = int(arm.change.new_ids[place])
            pieces = subject.tokenizer.spell(arm.change.tokenizer.surface(token), arm.change.tokenizer.continues_word(token))
            torch.testing.assert_close(new[place], old[pieces].mean(0))
        assert torch.equal(tables.input, subject.tables(arm, 1).input)


def test_added_words_are_whole_words_of_the_ontologies(subject):
    arm = subject.arm("added-words")
    tokenizer = arm.change.tokenizer
    words = {tokenizer.pieces[int(i)] for i in arm.change.new_ids}
    assert words <= {word for name in (*DRUGS, *SIGNS) for word in name.split()}
    assert arm.new_tokens <= len(subject.pieces.new_ids)
    some = sorted(words)[0]
    assert len(tokenizer.encode(f"the {some}")) == 1 + len(tokenizer.encode("the"))


def test_fewer_words_can_be_asked_for(subject):
    few = Subject(subject.checkpoint, subject.tokenizer, subject.ontologies, SMALL, words=5)
    assert few.arm("added-words").new_tokens == 5


def test_any_start_can_be_an_arm(subject):
    arm = subject.arm("merge")
    assert np.array_equal(arm.change.new_ids, subject.pieces.new_ids)
    assert arm.encoder is subject.arm("k-tokeniser").encoder


def test_base_has_nothing_new(subject):
    arm = subject.arm("base")
    assert arm.new_tokens == 0
    assert subject.tables(arm, 0) is None
    assert arm.encoder("the patient", add_special_tokens=False)["input_ids"] == subject.tokenizer.encode("the patient")


def test_base_comes_first_and_once():
    assert arm_names("all") == list(ARMS)
    assert arm_names(["k_tokeniser", "Base", "merge", "k-tokeniser"]) == ["base", "k-tokeniser", "merge"]


@pytest.mark.parametrize(
    ("names", "said"), [([], "nothing to compare"), (["base"], "nothing to compare"), (["k-token"], "did you mean k-tokeniser")]
)
def test_unknown_arms_are_named(names, said):
    with pytest.raises(ParameterError, match=said):
        arm_names(names)


def test_ontology_of_known_words_is_refused(subject):
    known = Subject(subject.checkpoint, subject.tokenizer, [Ontology.from_phrases("known", ["a", "the the"])], SMALL)
    for name in ("k-tokeniser", "added-words"):
        with pytest.raises(OntologyError, match="known=phrases"):
            known.arm(name)
