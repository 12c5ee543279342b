import itertools
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from regraft.errors import CorpusError, EvaluationError, OutputError, ParameterError
from regraft.evaluation import score_text
from regraft.language.model import LanguageModel
from regraft.training import Training, train
from regraft.training.adapters import tied, untie
from regraft.training.loop import CLOCKS
from regraft.training.objectives import SecondHead, backpropagate, mask_tokens
from regraft.training.packing import Packed, Stream, pack
from regraft.training.state import FILE
from regraft.training.trainable import select
from toys.models import bert, gpt2, llama, texts, tokenizer, wordpiece

CORPUS = texts(150, seed=1)
NEW = [7, 150, 280, 299]
D, FF, LAYERS, ROWS = 16, 32, 5, 304
LAYER = 4 * D * D + 3 * D * FF + 2 * D  # Llama: attention, gated MLP, two norms
LINEAR_SIDES = 4 * (D + D) + 3 * (D + FF)  # inputs plus outputs of a layer's linear maps


def settings(**changes):
    return Training(**{"steps": 3, "block": 16, "batch_size": 2, "lr": 0.05, "weight_decay": 0.1, **changes})


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed_rows(before, after):
    return (before != after).flatten(1).any(1).nonzero().flatten().tolist()


def gemma():
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=ROWS, hidden_size=D, intermediate_size=FF, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        final_logit_softcapping=5.0, initializer_range=0.3,
    )  # fmt: skip
    return Gemma3ForCausalLM(config).eval()


# What is minimized


@pytest.mark.parametrize("limit", [10**9, 4 * ROWS])
@pytest.mark.parametrize("make", [llama, gpt2, gemma])
def test_mtp_gradient_is_that_of_two_cross_entropies_by_hand(make, limit, monkeypatch):
    model, ids = make().double(), torch.tensor([[3, 14, 15, 92, 65]])
    language_model = LanguageModel(model, tokenizer())
    monkeypatch.setattr(LanguageModel.block, "__defaults__", (limit,))  # 4 * ROWS bytes: one position at a time
    second = SecondHead(torch.randn(ROWS, D)).double()
    parameters = [*model.parameters(), *second.parameters()]
    loss = backpropagate(language_model, ids, second=second)
    got = [p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    states = model.base_model(ids).last_hidden_state[0]
    first, after_next = model(ids).logits[0].log_softmax(-1), (states @ second.weight.T)
    if isinstance(model, Gemma3ForCausalLM):
        after_next = 5 * torch.tanh(after_next / 5)
    after_next = after_next.log_softmax(-1)
    one = -(first[0, 14] + first[1, 15] + first[2, 92] + first[3, 65]) / 4
    two = -(after_next[0, 15] + after_next[1, 92] + after_next[2, 65]) / 3
    (one + two).backward()
    assert loss.nats / loss.tokens == pytest.approx(one.item(), rel=1e-5)
    assert loss.tokens == 4
    for parameter, gradient in zip(parameters, got, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_second_head_starts_as_a_copy_and_is_dropped():
    model = llama(tied=False)
    names, shapes = list(model.state_dict()), [p.shape for p in model.state_dict().values()]
    run = train(model, tokenizer(), CORPUS, settings(objective="mtp", parameters="embeddings"))
    assert list(model.state_dict()) == names
    assert [p.shape for p in model.state_dict().values()] == shapes
    assert run.trainable_parameters == 2 * ROWS * D  # the second head is not part of the model


def test_masks_follow_bert():
    language_model = LanguageModel(bert(), wordpiece())
    ids = np.tile(np.array([2, *range(5, 67), 3]), (400, 1))
    masked, positions = mask_tokens(ids, language_model, np.random.default_rng(0))
    assert not positions[:, [0, -1]].any()
    assert positions[:, 1:-1].mean() == pytest.approx(0.15, abs=0.01)
    became = masked[positions] == wordpiece().mask_token_id
    kept = masked[positions] == ids[positions]
    assert became.mean() == pytest.approx(0.8 + 0.1 / 80, abs=0.02)
    assert kept.mean() == pytest.approx(0.1, abs=0.02)
    assert (masked[~positions] == ids[~positions]).all()


# What trains


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize(
    ("parameters", "frozen_old", "beside_tables"),
    [
        ("rows", False, 0),
        ("embeddings", False, 0),
        ("embeddings", True, 0),
        ("2x2", False, 4 * LAYER + D),
        ("2x2", True, 4 * LAYER + D),
        ("lora", False, 8 * LAYERS * LINEAR_SIDES),
        ("lora", True, 8 * LAYERS * LINEAR_SIDES),
        ("all", False, LAYERS * LAYER + D),
    ],
)
def test_trainable_count_is_the_formula_and_the_rest_is_bit_identical(is_tied, parameters, frozen_old, beside_tables):
    model = llama(tied=is_tied)
    before, tables = state(model), 1 if is_tied else 2
    only_new = parameters == "rows" or frozen_old
    run = train(model, tokenizer(), CORPUS, settings(parameters=parameters, freeze_old_rows=frozen_old), new_ids=NEW)
    after = model.state_dict()
    assert run.trainable_parameters == tables * (len(NEW) if only_new else ROWS) * D + beside_tables
    assert sum(group.parameters for group in run.groups) == run.trainable_parameters
    assert sum(group.share for group in run.groups) == pytest.approx(run.footprint.share)
    assert list(after) == list(before)
    assert tied(model) == is_tied
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = changed_rows(before[name], after[name])
        assert set(rows) <= set(NEW) if only_new else len(rows) >= ROWS - 1  # an untied input row of padding has no gradient
    layers = {int(name.split(".")[2]) for name in before if ".layers." in name and not torch.equal(before[name], after[name])}
    assert layers == {"rows": set(), "embeddings": set(), "2x2": {0, 1, 3, 4}}.get(parameters, set(range(LAYERS)))
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"]) == (parameters not in ("2x2", "all"))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("make", "tok", "objective"), [(llama, tokenizer, "clm"), (gpt2, tokenizer, "mtp"), (gemma, tokenizer, "clm")])
def test_only_new_rows_change_whatever_the_architecture(make, tok, objective):
    model = make()
    before = state(model)
    train(model, tok(), CORPUS, settings(parameters="rows", objective=objective), new_ids=NEW)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    table = next(n for n, p in model.named_parameters() if p is model.get_input_embeddings().weight)
    assert changed == {table, "lm_head.weight"}
    assert changed_rows(before[table], model.get_input_embeddings().weight) == NEW


def test_new_rows_of_a_masked_model_train_with_their_bias():
    model, new = bert(), [20, 61, 70]
    before = state(model)
    run = train(model, wordpiece(), CORPUS, settings(parameters="rows", objective="mlm"), new_ids=new)
    after = model.state_dict()
    assert run.trainable_parameters == len(new) * D + len(new)
    assert changed_rows(before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"]) == new
    assert (before["cls.predictions.bias"] != after["cls.predictions.bias"]).nonzero().flatten().tolist() == new
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias
    names = ("embeddings.word_embeddings.weight", "predictions.bias", "predictions.decoder")
    assert all(torch.equal(after[n], t) for n, t in before.items() if not any(part in n for part in names))


@pytest.mark.parametrize(("make", "tok"), [(llama, tokenizer), (gpt2, tokenizer), (gemma, tokenizer), (bert, wordpiece)])
def test_a_model_with_its_new_rows_apart_computes_the_same(make, tok):
    model, ids, new = make(), torch.arange(3, 43).reshape(2, 20), [4, 9, 12, 41, 77]
    with torch.no_grad():
        plain = model(ids).logits
        trainable = select(model, "rows", new)
        torch.testing.assert_close(model(ids).logits, plain, rtol=1e-5, atol=1e-5)
        trainable.finish()
        assert torch.equal(model(ids).logits, plain)


def test_the_new_row_in_the_slot_of_the_padding_id_trains_too():
    model, text = llama(tied=False), CORPUS[:40]
    tok = tokenizer()
    new = sorted({i for t in text for i in tok.encode(t)})[:5]
    before = model.model.embed_tokens.weight.detach().clone()
    train(model, tok, text, settings(parameters="rows", steps=8), new_ids=new)
    assert model.model.embed_tokens.padding_idx == 2
    assert changed_rows(before, model.model.embed_tokens.weight) == [i for i in new if i != 2]


def test_gpt2_and_bert_know_their_outer_layers_final_norm_and_head():
    for model, names in (
        (gpt2(), {"transformer.wte", "transformer.h.0", "transformer.h.1", "transformer.ln_f", "lm_head"}),
        (bert(), {"bert.embeddings.word_embeddings", *(f"bert.encoder.layer.{i}" for i in (0, 1, 3, 4)), "cls.predictions"}),
    ):
        select(model, "2x2", [])
        training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert all(any(name.startswith(f"{prefix}.") for prefix in names) for name in training)
        assert all(any(name.startswith(f"{prefix}.") for name in training) or prefix == "lm_head" for prefix in names)


def test_merged_adapters_compute_what_the_adapters_did():
    model, ids = llama(tied=False), torch.arange(5, 25).unsqueeze(0)
    seen = {}

    def look(adapted, step):
        with torch.no_grad():
            seen[step] = adapted(ids).logits
        return 0.0

    before = state(model)
    run = train(model, tokenizer(), CORPUS, settings(parameters="lora", lora_tables=True, lora_r=4), on_evaluate=look)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, seen[3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(seen[0], seen[3], atol=1e-2)
    assert run.trainable_parameters == 4 * (LAYERS * LINEAR_SIDES + 2 * (ROWS + D))
    assert list(model.state_dict()) == list(before)
    assert type(model.lm_head) is nn.Linear
    assert not [m for m in model.modules() if type(m).__module__.startswith("peft")]


def test_adapters_on_tied_tables_are_refused_until_untied():
    model = llama(tied=True)
    before = state(model)
    with pytest.raises(ParameterError, match="tied"):
        train(model, tokenizer(), CORPUS, settings(parameters="lora", lora_tables=True))
    assert list(model.state_dict()) == list(before)
    untie(model)
    assert not tied(model)
    assert model.config.tie_word_embeddings is False
    train(model, tokenizer(), CORPUS, settings(parameters="lora", lora_tables=True))
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


# What it reads


def test_packing_joins_shuffled_documents_and_drops_the_remainder():
    language_model = LanguageModel(llama(), tokenizer())
    packed = pack(language_model, CORPUS, 16, seed=4)
    order = np.random.default_rng([4, 0]).permutation(len(CORPUS))
    joined = [i for n in order for i in [tokenizer().eos_token_id, *tokenizer().encode(CORPUS[n])]]
    assert packed.ids.flatten().tolist() == joined[: len(joined) // 16 * 16]
    assert packed.ids.shape[1] == 16
    size = sum(len(text.encode()) for text in CORPUS)
    assert size * (1 - 16 / len(joined)) - 30 < packed.sizes.sum() <= size
    assert (pack(language_model, CORPUS, 16, seed=4).ids == packed.ids).all()
    assert (pack(language_model, CORPUS, 16, seed=5).ids[:5] != packed.ids[:5]).any()


def test_packing_frames_blocks_of_a_masked_model():
    tok = wordpiece()
    packed = pack(LanguageModel(bert(), tok), CORPUS, 16)
    assert (packed.ids[:, 0] == tok.cls_token_id).all()
    assert (packed.ids[:, -1] == tok.sep_token_id).all()
    assert (packed.ids[:, 1:-1] != tok.cls_token_id).all()


@pytest.mark.parametrize("block", [8, 16, 40])
def test_aligned_blocks_begin_where_documents_begin_unless_those_are_longer(block):
    tok = tokenizer()
    packed = pack(LanguageModel(llama(), tok), CORPUS, block, align_documents=True)
    plain = pack(LanguageModel(llama(), tok), CORPUS, block)
    lengths = [1 + len(tok.encode(text)) for text in CORPUS]
    opened = packed.ids[:, 0] == tok.eos_token_id
    assert opened.all() if max(lengths) <= block else 0 < opened.sum() < len(opened)
    assert len(packed) > len(plain)
    order = np.random.default_rng([0, 0]).permutation(len(CORPUS))
    joined = "".join(f" {i}" for n in order for i in [tok.eos_token_id, *tok.encode(CORPUS[n])])
    assert all("".join(f" {i}" for i in row) in joined for row in packed.ids)
    assert packed.sizes[opened].min() > 0
    assert set(packed.ids.flatten().tolist()) >= set(plain.ids.flatten().tolist())


def test_aligned_blocks_of_a_masked_model_begin_with_the_text_itself():
    tok = wordpiece()
    packed = pack(LanguageModel(bert(), tok), CORPUS, 32, align_documents=True)
    starts = {tok.encode(text, add_special_tokens=False)[0] for text in CORPUS}
    assert set(packed.ids[:, 1].tolist()) <= starts


def test_packing_puts_bos_where_scoring_puts_it():
    tok = tokenizer(adds_bos=True)
    ids = pack(LanguageModel(llama(), tok), CORPUS, 16).ids.flatten()
    starts = np.flatnonzero(ids == tok.bos_token_id)
    assert (ids[starts[1:] - 1] == tok.eos_token_id).all()


def test_a_corpus_smaller_than_a_block_is_refused():
    with pytest.raises(CorpusError, match=r"^the text has \d+ tokens, less than one block of 64"):
        train(llama(), tokenizer(), ["a cat"], settings(block=64))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1 / 3])
def test_replay_has_its_share_and_both_sides_pass_through_everything(share):
    own, other = (Packed(np.arange(n, dtype=np.int32)[:, None] + base, np.ones(n)) for n, base in ((7, 0), (5, 100)))
    stream = Stream(own, other if share else None, share, seed=3)
    seen = stream.blocks(0, 420)[0][:, 0]
    replayed = seen >= 100
    assert abs(replayed.sum() - 420 * share) < 1
    assert sorted(seen[~replayed][:7]) == list(range(7))
    assert sorted(seen[~replayed][7:14]) == list(range(7))
    if share:
        assert sorted(seen[replayed][:5]) == list(range(100, 105))
    assert (np.concatenate([stream.blocks(i, 10)[0] for i in range(0, 420, 10)])[:, 0] == seen).all()
    assert seen[~replayed][:7].tolist() != seen[~replayed][7:14].tolist()


def test_the_run_counts_what_it_read():
    run = train(llama(), tokenizer(), CORPUS, settings(steps=4, accumulate=2))
    assert (run.steps, run.tokens) == (4, 4 * 2 * 2 * 16)
    packed = pack(LanguageModel(llama(), tokenizer()), CORPUS, 16)
    assert run.bytes == pytest.approx(Stream(packed).blocks(0, 16)[1])
    assert [point.step for point in run.losses] == [1, 2, 3, 4]


# How it goes


def test_learning_rate_warms_up_and_ends_at_zero():
    training = settings(lr=0.1, warmup=0.2)
    rates = [training.learning_rate(progress) for progress in (0, 0.1, 0.2, 0.6, 1)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-12)
    assert settings(warmup=0).learning_rate(0) == 0.05


@pytest.mark.parametrize("budget", [{"steps": 1}, {"minutes": 1e-9}])
def test_a_single_step_is_taken_at_the_rate_of_the_middle(budget):
    """A budget in minutes may be over before the first step is: it still learns."""
    model, before = llama(), llama()
    run = train(model, tokenizer(), CORPUS, settings(**{"steps": None, "parameters": "all", "lr": 1e-3, "warmup": 0.0} | budget))
    moved = max(float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert run.steps == 1
    assert 0.4e-3 < moved < 0.6e-3


def test_a_step_is_adamw_on_the_clipped_gradient():
    model, reference, tok = llama(), llama(), tokenizer()
    training = settings(steps=1, parameters="all", accumulate=2, warmup=0)
    train(model, tok, CORPUS, training)
    ids = torch.from_numpy(Stream(pack(LanguageModel(reference, tok), CORPUS, 16)).blocks(0, 4)[0])
    logits = reference(ids).logits[:, :-1]
    cross_entropy(logits.reshape(-1, ROWS), ids[:, 1:].reshape(-1)).backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    groups = [([p for p in reference.parameters() if p.ndim > 1], 0.1), ([p for p in reference.parameters() if p.ndim == 1], 0.0)]
    rate = training.learning_rate(0.5)
    torch.optim.AdamW([{"params": p, "weight_decay": d} for p, d in groups], lr=rate).step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3 * rate)


def test_training_lowers_bits_per_byte_of_held_out_text():
    model, tok, held_out = llama(), tokenizer(), texts(10, seed=9)
    run = train(
        model, tok, CORPUS, settings(steps=40, parameters="all", lr=0.01, batch_size=8, evaluate_every=15),
        on_evaluate=lambda m, step: score_text(m, tok, held_out).bits_per_byte,
    )  # fmt: skip
    assert [point.step for point in run.curve] == [0, 15, 30, 40]
    assert run.curve[-1].bits_per_byte < 0.6 * run.curve[0].bits_per_byte
    assert run.curve[-1].bits_per_byte == score_text(model, tok, held_out).bits_per_byte
    assert run.losses[-1].bits_per_byte == pytest.approx(run.curve[-1].bits_per_byte, rel=0.15)


def test_a_budget_in_minutes_follows_the_clock(monkeypatch):
    """With a clock that moves 0.05 s at each look, two looks a step, 1.2 s are 12 steps. Rates begin above zero and end near it."""
    rates, ticks = [], itertools.count()
    original = Training.learning_rate

    def spy(self, progress):
        rates.append(original(self, progress))
        return rates[-1]

    monkeypatch.setattr(Training, "learning_rate", spy)
    monkeypatch.setitem(CLOCKS, "wall", lambda: 0.05 * next(ticks))
    run = train(llama(), tokenizer(), CORPUS, settings(steps=None, minutes=0.02))
    assert run.seconds == pytest.approx(1.2)
    assert run.steps == 12
    assert rates[0] > 0.01
    assert max(rates) == pytest.approx(0.05, rel=0.05)
    assert rates[-1] < 0.005


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_randomness_alone(seed):
    torch.manual_seed(123)
    expected = torch.rand(1)
    torch.manual_seed(123)
    runs = []
    for _ in range(2):
        model = llama()
        torch.manual_seed(123)
        train(model, tokenizer(), CORPUS, settings(parameters="lora", seed=seed))
        assert torch.equal(torch.rand(1), expected)
        runs.append(state(model))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


CASES = [("rows", "clm"), ("2x2", "mtp"), ("lora", "clm"), ("all", "mlm")]


@pytest.mark.parametrize(("parameters", "objective"), CASES)
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(parameters, objective, tmp_path):
    make, tok = (bert, wordpiece()) if objective == "mlm" else (llama, tokenizer())
    training = settings(
        steps=9, parameters=parameters, objective=objective, checkpoint_every=0, evaluate_every=3, replay=0.25, lora_dropout=0.3
    )
    new, replay = [7, 20, 61], texts(50, seed=5)

    def measure(model, step):
        torch.rand(3)  # evaluation may use randomness without touching training's
        return float(step)

    def killed(model, step):
        if step == 6:
            raise KeyboardInterrupt
        return measure(model, step)

    whole = make()
    run = train(whole, tok, CORPUS, training, new_ids=new, replay_texts=replay, on_evaluate=measure)
    with pytest.raises(KeyboardInterrupt):
        train(make(), tok, CORPUS, training, new_ids=new, replay_texts=replay, directory=tmp_path, on_evaluate=killed)
    again = make()
    resumed = train(again, tok, CORPUS, training, new_ids=new, replay_texts=replay, directory=tmp_path, on_evaluate=measure)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert [p.step for p in resumed.curve] == [p.step for p in run.curve] == [0, 3, 6, 9]
    assert [(p.step, p.bits_per_byte) for p in resumed.losses] == [(p.step, p.bits_per_byte) for p in run.losses]
    assert (resumed.tokens, resumed.bytes) == (run.tokens, run.bytes)


def test_a_finished_run_is_not_repeated(tmp_path):
    first, second = llama(), llama()
    train(first, tokenizer(), CORPUS, settings(), directory=tmp_path)
    run = train(second, tokenizer(), CORPUS, settings(), directory=tmp_path)
    assert run.steps == 3
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_saved_state_follows_the_change_not_the_model(tmp_path):
    (tmp_path / f"{FILE}.partial").write_bytes(b"left by a kill")
    train(llama(), tokenizer(), CORPUS, settings(parameters="rows"), new_ids=NEW, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    with safe_open(tmp_path / FILE, framework="pt") as file:
        sizes = {key: math.prod(file.get_slice(key).get_shape()) for key in file.keys() if not key.startswith("random")}  # noqa: SIM118
        assert json.loads(file.metadata()["counters"])["steps"] == 3
    assert sizes == {"value.rows": 4 * D, "exp_avg.rows": 4 * D, "exp_avg_sq.rows": 4 * D, "step.rows": 1}


@pytest.mark.parametrize(
    ("change", "model", "what"),
    [({"lr": 0.01}, llama, "settings"), ({}, lambda: llama(seed=1), "model"), ({"seed": 1}, llama, "settings, data")],
)
def test_the_state_of_another_run_is_refused(change, model, what, tmp_path):
    train(llama(), tokenizer(), CORPUS, settings(), directory=tmp_path)
    with pytest.raises(OutputError, match=f"another run \\(differs in {what}\\)"):
        train(model(), tokenizer(), CORPUS, settings(**change), directory=tmp_path)


def test_a_damaged_state_is_refused(tmp_path):
    train(llama(), tokenizer(), CORPUS, settings(), directory=tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OutputError, match="damaged"):
        train(llama(), tokenizer(), CORPUS, settings(), directory=tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 1, "minutes": 1}, "one of the three"),
        ({}, "one of the three"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 1, "parameters": "3x3"}, "parameters='3x3'.*'2x2'"),
        ({"steps": 1, "replay": 1.0}, "replay=1.0"),
        ({"steps": 1, "learning_rate": 1}, "learning_rate"),
    ],
)
def test_settings_are_refused_by_name_and_value(fields, message):
    with pytest.raises(ParameterError, match=message):
        Training(**fields)


def test_combinations_that_cannot_train_are_refused():
    model, tok = llama(), tokenizer()
    for training, options, message in (
        (settings(objective="mlm"), {}, "objective='mlm' does not fit LlamaForCausalLM: choose 'clm' or 'mtp'"),
        (settings(replay=0.1), {}, "give replay_texts"),
        (settings(parameters="rows"), {}, "no new ids"),
        (settings(parameters="rows"), {"new_ids": [5, 400]}, "new_ids run from 5 to 400"),
        (settings(block=4096), {}, "block=4096: LlamaForCausalLM takes at most 2048"),
    ):
        with pytest.raises(ParameterError, match=message):
            train(model, tok, CORPUS, training, **options)
    with pytest.raises(ParameterError, match="choose 'mlm'"):
        train(bert(), wordpiece(), CORPUS, settings())
    with pytest.raises(EvaluationError, match="no language-model head"):
        train(bert().bert, wordpiece(), CORPUS, settings(objective="mlm"))
    assert all(p.requires_grad for p in model.parameters())
