"""Donors: anchors and rows by token, not by id; what is missing is named; broken rows are refused."""

import numpy as np
import pytest
import torch

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, ParameterError
from regraft.graft import Graft
from regraft.vocab.initializer import Context
from regraft.vocab.mixing.donor import Donor
from toys.donors import DONOR_WORDS, NEW_WORDS, OLD_WORDS, SHARED, edit_table, save_model, task


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), OLD_WORDS)


@pytest.fixture
def donor(tmp_path):
    return save_model(tmp_path, DONOR_WORDS, dim=6, seed=1)


def bridge(model, words, donor, role="input"):
    source, target, context = task(model, words, donor, role)
    return Donor.of(context, "omp").bridge(source, target, context, "omp"), source, target


@pytest.mark.parametrize("role", ["input", "head"])
def test_anchors_and_rows_are_those_of_the_same_tokens_in_the_table_of_that_role(model, donor, role):
    found, source, target = bridge(model, NEW_WORDS, donor, role)
    layout = Checkpoint.open(donor).layout
    table = Checkpoint.open(donor).read(layout.head[0] if role == "head" else layout.input[0])
    old = source.tokenizer.vocab
    for word in SHARED[::7]:
        place = found.anchor_ids.tolist().index(old[word])
        assert torch.equal(found.anchors[place], table[DONOR_WORDS.index(word)])
    assert [target.surfaces[i].decode() for i in found.found] == NEW_WORDS
    assert torch.equal(found.rows, table[[DONOR_WORDS.index(word) for word in NEW_WORDS]])
    assert len(found.missing) == 0


def test_pieces_inside_words_are_not_anchors_of_whole_words(model, tmp_path):
    donor = save_model(tmp_path, ["[UNK]", "##ab", "##a", "aa", "adh"], dim=6)
    found, source, _ = bridge(model, ["adh"], donor)
    words = [source.tokenizer.pieces[i] for i in found.anchor_ids]
    assert "##a" in words
    assert "aa" in words
    assert "ab" not in words


def test_encoder_donor_answers_for_the_head_with_its_only_table(model, tmp_path):
    donor = save_model(tmp_path, DONOR_WORDS, dim=6, encoder=True)
    head, table = bridge(model, NEW_WORDS, donor, "head")[0], bridge(model, NEW_WORDS, donor)[0]
    assert torch.equal(head.rows, table.rows)


def test_tokens_that_the_donor_lacks_take_the_mean_of_their_pieces_and_are_named(model, donor):
    source, target, context = task(model, [*NEW_WORDS[:4], "jij", "gghi"], donor)
    found = Donor.of(context, "omp").bridge(source, target, context, "omp")
    assert len(found.missing) == 2
    (note,) = context.notes
    assert "no row for 2 of the 6 new tokens" in note
    assert "'jij'" in note
    assert note.endswith("they take the mean of their old pieces")
    weights = Graft.copy_of(np.arange(len(found.found)), source.vocab_size).weights
    graft = found.complete(weights, target)
    rows = graft.apply(source.table)
    for row in found.missing.tolist():
        expected = source.table[target.pieces[row]].mean(0)
        torch.testing.assert_close(rows[row], expected)
    assert torch.equal(rows[torch.from_numpy(found.found)], source.table[: len(found.found)])


def test_zero_rows_count_as_missing_and_are_no_anchors(model, donor):
    wanted, anchor = DONOR_WORDS.index(NEW_WORDS[1]), DONOR_WORDS.index("ab")
    edit_table(donor, lambda table: table[[wanted, anchor]].zero_())
    edit_table(donor, lambda table: table[wanted].zero_())
    edit_table(donor, lambda table: table[anchor].zero_())
    found, source, _ = bridge(model, NEW_WORDS, donor)
    assert found.missing.tolist() == [1]
    assert source.tokenizer.vocab["ab"] not in found.anchor_ids.tolist()


def test_donor_without_any_wanted_token_is_refused_with_numbers_and_names(model, donor):
    with pytest.raises(ParameterError, match=r"no row for 2 of the 2 new tokens \('gghi', 'jij'\)|no row for 2 of the 2"):
        bridge(model, ["jij", "gghi"], donor)


def test_donor_without_a_shared_token_is_refused(model, tmp_path):
    donor = save_model(tmp_path, ["<none>", *NEW_WORDS], dim=6)
    with pytest.raises(ParameterError, match="shares no token"):
        bridge(model, NEW_WORDS, donor)


def test_row_with_nan_is_refused_by_number(model, donor):
    edit_table(donor, lambda table: table[DONOR_WORDS.index(NEW_WORDS[2])].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=f"row {DONOR_WORDS.index(NEW_WORDS[2])} of the donor's table holds NaN"):
        bridge(model, NEW_WORDS, donor)


def test_donor_is_asked_for_by_its_option_and_opened_once(model, donor):
    with pytest.raises(ParameterError, match="omp needs --donor"):
        Donor.of(Context(), "omp")
    _, _, context = task(model, NEW_WORDS, donor)
    assert Donor.of(context, "omp") is Donor.of(context, "landmark-pca")
