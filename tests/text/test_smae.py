"""Masked autoencoder over sizes: nested whole words, the sliced head, the [CLS] put in, one encoder pass, a killed run, refusals."""

import copy
import json

import pytest
import torch
from torch.nn.functional import cross_entropy

from datasets import Dataset
from regraft.errors import CheckpointError, ParameterError
from regraft.method import resolve
from regraft.text.fitting import Budget
from regraft.text.sizes.autoencoder import Guard, MaskedAutoencoder, with_head
from regraft.text.sizes.masking import NO_WORD, Windows, masked_words, replaced
from regraft.text.sizes.size import sizes_of
from regraft.text.train import train
from toys.models import texts

SIZES = sizes_of((5, 16))


@pytest.fixture(scope="module")
def encoder(bert_folder):
    model = resolve("encoder", "mean").build(bert_folder)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture(scope="module")
def autoencoder(encoder):
    return MaskedAutoencoder(encoder, with_head(encoder).eval(), SIZES)


def windows(model, count=6, longest=64):
    return Windows(model.tokenizer, longest)(texts(count, 5))


def test_masked_words_are_whole_nested_and_as_many_as_the_rates_say():
    torch.manual_seed(0)
    words = torch.arange(40).repeat_interleave(3)[None].repeat(50, 1)
    words = torch.cat([torch.full((50, 1), NO_WORD), words, torch.full((50, 2), NO_WORD)], 1)
    few, many = masked_words(words, (0.2, 0.4))
    assert (few & ~many).sum() == 0
    assert (few.sum(1) == 24).all()
    assert (many.sum(1) == 48).all()
    assert not few[words == NO_WORD].any()
    by_word = many[:, 1:-2].reshape(50, 40, 3)
    assert (by_word.all(2) == by_word.any(2)).all()
    assert len({tuple(row) for row in few.tolist()}) == 50
    one = masked_words(torch.tensor([[NO_WORD, 0, NO_WORD]]), (0.01,))[0]
    assert one.tolist() == [[False, True, False]]


def test_eight_tenths_become_the_mask():
    torch.manual_seed(0)
    ids, at = torch.full((100, 100), 7), torch.rand(100, 100) < 0.5
    out = replaced(ids, at, 4, 1000)
    assert (out[~at] == 7).all()
    share = [(out[at] == 4).float().mean(), (out[at] == 7).float().mean()]
    assert share == [pytest.approx(0.8, abs=0.02), pytest.approx(0.1, abs=0.02)]


def test_a_long_text_is_read_in_windows(encoder):
    torch.manual_seed(0)
    [text] = [" ".join(texts(20, 3))]
    read = Windows(encoder.tokenizer, 16)
    found = [read([text, "cat"]) for _ in range(8)]
    assert all(one["input_ids"].shape == (2, 16) for one in found)
    assert len({tuple(one["input_ids"][0].tolist()) for one in found}) > 1
    assert found[0]["input_ids"][0, 0] == encoder.tokenizer.cls_token_id
    assert found[0]["input_ids"][0, -1] == encoder.tokenizer.sep_token_id
    assert found[0]["word_ids"][0, 0] == found[0]["word_ids"][0, -1] == NO_WORD
    assert found[0]["word_ids"][0, 1] == 0
    whole = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    inside = found[1]["input_ids"][0, 1:-1].tolist()
    assert any(whole[at : at + 14] == inside for at in range(len(whole)))


def test_the_sliced_head_is_the_stock_head_at_full_width_and_its_columns_below(encoder, autoencoder):
    rows = torch.randn(7, 16)
    head = autoencoder.head.cls
    assert torch.equal(autoencoder.predict(rows, 16)[0], head(rows[None])[0])
    dense = head.predictions.transform
    by_hand = torch.nn.functional.linear(rows[:, :4], dense.dense.weight[:, :4], dense.dense.bias)
    by_hand = dense.LayerNorm(dense.transform_act_fn(by_hand))
    logits, transformed = autoencoder.predict(rows[:, :4], 16)
    assert torch.allclose(transformed, by_hand, atol=1e-6)
    assert torch.allclose(logits, head.predictions.decoder(by_hand), atol=1e-5)


def test_the_first_position_of_the_decoder_is_what_is_put_there(encoder, autoencoder):
    """By hand: the embeddings with position 0 replaced, through the one layer."""
    given, first = windows(encoder, 3), torch.randn(3, 16)
    embedded = autoencoder.decoder.embeddings(given["input_ids"]).clone()
    embedded[:, 0] = first
    bias = torch.where(given["attention_mask"][:, None, None] > 0, 0.0, torch.finfo(torch.float32).min)
    layer = autoencoder.decoder.encoder.layer
    assert len(layer) == 1
    out = layer[0](embedded, attention_mask=bias)
    wanted = out[0] if isinstance(out, tuple) else out
    found = autoencoder.decode(given["input_ids"], given["attention_mask"], first)
    assert torch.allclose(found[given["attention_mask"] > 0], wanted[given["attention_mask"] > 0], atol=1e-5)


def test_embeddings_and_head_are_shared_and_the_first_layer_is_where_the_decoder_starts(encoder, autoencoder):
    backbone = encoder[0].auto_model
    assert autoencoder.head.base_model is backbone
    assert autoencoder.head.get_output_embeddings().weight is backbone.get_input_embeddings().weight
    assert autoencoder.decoder.get_input_embeddings() is backbone.get_input_embeddings()
    mine, theirs = autoencoder.decoder.encoder.layer[0].state_dict(), backbone.encoder.layer[0].state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert mine["output.dense.weight"].data_ptr() != theirs["output.dense.weight"].data_ptr()


def test_the_loss_is_the_mean_over_sizes_from_one_encoder_pass(encoder, autoencoder):
    calls = []
    handle = encoder[0].auto_model.encoder.register_forward_hook(lambda *_: calls.append(1))
    given = windows(encoder)
    torch.manual_seed(3)
    value = autoencoder([given])
    handle.remove()
    assert len(calls) == 1
    torch.manual_seed(3)
    terms = autoencoder.terms(given)
    assert list(terms) == list(SIZES)
    assert value.item() == pytest.approx(sum((a + b).item() / 2 for a, b in terms.values()) / len(SIZES), rel=1e-5)
    torch.manual_seed(3)
    at, _ = masked_words(given["word_ids"], (0.2, 0.4))
    ids = replaced(given["input_ids"], at, encoder.tokenizer.mask_token_id, len(encoder.tokenizer))
    stock = autoencoder.head(input_ids=ids, attention_mask=given["attention_mask"]).logits
    assert terms[5, 16][0].item() == pytest.approx(cross_entropy(stock[at], given["input_ids"][at]).item(), rel=1e-5)


def test_a_step_that_is_not_finite_changes_nothing(encoder, autoencoder):
    guard = Guard(autoencoder)
    parameter = next(iter(autoencoder.head.cls.parameters()))
    for value, skipped in ((1.0, 0), (float("nan"), 1)):
        parameter.grad = torch.full_like(parameter, value)
        guard.on_pre_optimizer_step(None, None, None)
        assert guard.skipped == skipped
        assert (parameter.grad is None) is bool(skipped)


def test_a_killed_pre_training_goes_on_to_the_same_model(bert_folder, tmp_path):
    class KilledError(Exception):
        pass

    rows = Dataset.from_list([{"text": one} for one in texts(24, 2)])

    def run(state):
        model = resolve("encoder", "mean").build(bert_folder)
        resolve("tuner", "starbucks-smae").train(model, rows, Budget(steps=6, batch_size=4, lr=1e-3, save_every=2, state=state))
        return model.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KilledError

        patch.setattr("regraft.text.fitting._Watch.on_step_end", stop)
        with pytest.raises(KilledError):
            run(tmp_path / "cut")
    for name, found in run(tmp_path / "cut").items():
        assert "pooler" in name or torch.allclose(found, whole[name], atol=1e-6), name  # a pooler is not in the checkpoint, nor used


def test_pre_training_learns_and_starbucks_goes_on_from_it(bert_folder, tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts(64, 2)))
    budget = Budget(steps=24, batch_size=16, lr=1e-2)
    train(
        bert_folder, [str(tmp_path / "t.jsonl")], out=tmp_path / "out", method="starbucks-smae", encode_by="mean", budget=budget, tasks=""
    )
    assert budget.curve[-1][1] < 0.8 * budget.curve[0][1]
    again = resolve("encoder", "as-is").build(tmp_path / "out")
    assert resolve("tuner", "starbucks").loss(again, ["anchor", "positive"]).full == (5, 16)


def test_what_cannot_be_pre_trained_so(encoder, bert_folder, llama_folder, tmp_path):
    rows = Dataset.from_list([{"text": "cat"}])
    resolve("encoder", "mean").build(bert_folder)[0].auto_model.save_pretrained(tmp_path / "headless")
    resolve("encoder", "mean").build(bert_folder).tokenizer.save_pretrained(tmp_path / "headless")
    tuner = resolve("tuner", "starbucks-smae")
    with pytest.raises(CheckpointError, match="it has no masked-LM head"):
        tuner.train(resolve("encoder", "mean").build(tmp_path / "headless"), rows, Budget(steps=1))
    with pytest.raises(ParameterError, match=r"needs a tokenizer with \[MASK\]"):
        tuner.train(resolve("encoder", "mean").build(llama_folder), rows, Budget(steps=1))
    narrow = copy.deepcopy(head := with_head(encoder))
    narrow.get_output_embeddings = lambda: torch.nn.Linear(8, head.config.vocab_size)
    with pytest.raises(ParameterError, match="the head's transform gives 8 dimensions and the model has 16"):
        MaskedAutoencoder(encoder, narrow, SIZES)
    with pytest.raises(ParameterError, match="the decoder sees less"):
        resolve("tuner", "starbucks-smae", {"encoder_rate": 0.5}).train(None, rows, Budget(steps=1))
