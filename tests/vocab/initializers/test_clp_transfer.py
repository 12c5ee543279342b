import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from regraft.errors import ParameterError
from regraft.graft import Graft, Rows
from regraft.vocab.initializers import clp_transfer
from regraft.vocab.initializers.clp_transfer import ClpTransfer
from toys.vocabularies import cosine, row_of, situation, word_tokenizer

OLD = word_tokenizer("cat dog tree house")
NEW = word_tokenizer("katze dog tree haus")


def save_donor(folder, tokenizer, shift=0.3):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=8, n_layer=1, n_head=2, n_positions=8))
    table = torch.randn(tokenizer.vocab_size, 8, generator=torch.Generator().manual_seed(1)) + shift
    model.get_input_embeddings().weight.data.copy_(table)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return table.numpy()


@pytest.fixture
def donor(tmp_path):
    return tmp_path / "donor", save_donor(tmp_path / "donor", NEW)


def by_hand(table, target, word, clip=False):
    """Weights over old ids: cosine to each shared token that is not special, over their sum."""
    anchors = [i for i in np.flatnonzero(target.source_ids >= 0).tolist() if not NEW.is_special(i)]
    weights = np.array([cosine(table[NEW.vocab[word]], table[i]) for i in anchors])
    weights = np.maximum(weights, 0) if clip else weights
    return dict(zip(target.source_ids[anchors].tolist(), weights / weights.sum(), strict=True))


@pytest.mark.parametrize("clip", [False, True])
def test_weights_are_cosines_over_their_sum(donor, clip):
    source, target, context = situation(OLD, NEW, donor=donor[0])
    graft = ClpTransfer(clip=clip)(source, target, context)
    for word in ("katze", "haus"):
        expected = {i: weight for i, weight in by_hand(donor[1], target, word, clip).items() if weight}
        assert dict(graft.explain(row_of(target, word), top=999)) == pytest.approx(expected, abs=1e-5)
    assert graft.certificate().slack < 1e-9 or not clip
    assert np.allclose(graft.weights.sum(axis=1), 1)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_blocks_give_the_same_rows(donor, monkeypatch, clip, bias):
    source, target, context = situation(OLD, NEW, donor=donor[0], bias=bias)
    graft = ClpTransfer(clip=clip)(source, target, context)
    monkeypatch.setattr(clp_transfer, "DENSE_WEIGHTS", 10)
    rows = ClpTransfer(clip=clip)(source, target, context)
    assert isinstance(graft, Graft)
    assert isinstance(rows, Rows)
    assert torch.allclose(rows.values, graft.apply(source.table), atol=1e-5)
    assert not bias or torch.allclose(rows.bias, graft.apply(source.bias), atol=1e-5)


def test_cosines_that_cancel_out_leave_a_token_to_its_pieces(tmp_path):
    """ "dog" is nearly opposite to "tree" as "katze" sees them: weights of 25 and -24; "haus" has the same side of both."""
    table = save_donor(tmp_path / "donor", NEW)
    table[:] = 0
    for word, vector in {"dog": (1, 0), "tree": (-0.96, 0.28), "katze": (1, 0), "haus": (0.6, 0.8)}.items():
        table[NEW.vocab[word], :2] = vector
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "donor")
    model.get_input_embeddings().weight.data.copy_(torch.from_numpy(table))
    model.save_pretrained(tmp_path / "donor")
    source, target, context = situation(OLD, NEW, donor=tmp_path / "donor")
    graft = ClpTransfer()(source, target, context)
    cancelled, kept = row_of(target, "katze"), row_of(target, "haus")
    pieces = target.pieces[cancelled]
    assert dict(graft.explain(cancelled)) == pytest.approx({i: pieces.count(i) / len(pieces) for i in set(pieces)})
    assert set(dict(graft.explain(kept))) == {OLD.vocab["dog"], OLD.vocab["tree"]}


def test_a_donor_that_lacks_a_token_leaves_it_to_its_pieces(tmp_path):
    save_donor(tmp_path / "small", word_tokenizer("katze dog tree"))
    source, target, context = situation(OLD, NEW, donor=tmp_path / "small")
    graft = ClpTransfer()(source, target, context)
    row = row_of(target, "haus")
    assert dict(graft.explain(row)) == pytest.approx(dict.fromkeys(target.pieces[row], 1 / 4))


@pytest.mark.parametrize("most", [clp_transfer.DENSE_WEIGHTS, 10])
def test_tokens_that_the_donor_lacks_are_said_once_and_refused_where_they_are_all(tmp_path, monkeypatch, most):
    monkeypatch.setattr(clp_transfer, "DENSE_WEIGHTS", most)
    save_donor(tmp_path / "small", word_tokenizer("katze dog tree"))
    source, target, context = situation(OLD, NEW, donor=tmp_path / "small")
    for _ in ("input", "head"):
        ClpTransfer()(source, target, context)
    (note,) = context.notes
    assert "for 1 of the 2 new tokens ('haus'): they take the mean of their old pieces" in note
    save_donor(tmp_path / "old", word_tokenizer("dog tree"))
    with pytest.raises(ParameterError, match=r"for 2 of the 2 new tokens .*give a donor with the new tokenizer"):
        ClpTransfer()(*situation(OLD, NEW, donor=tmp_path / "old"))


def test_bad_input(tmp_path, donor):
    with pytest.raises(ParameterError, match="--donor"):
        ClpTransfer()(*situation(OLD, NEW))
    save_donor(tmp_path / "nan", NEW, shift=float("nan"))
    with pytest.raises(ParameterError, match="row 0 of the donor's table holds NaN"):
        ClpTransfer()(*situation(OLD, NEW, donor=tmp_path / "nan"))
    save_donor(tmp_path / "zero", NEW)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "zero")
    model.get_input_embeddings().weight.data.zero_()
    model.save_pretrained(tmp_path / "zero")
    with pytest.raises(ParameterError, match="shares no token"):
        ClpTransfer()(*situation(OLD, NEW, donor=tmp_path / "zero"))
