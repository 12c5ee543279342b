"""Stages that follow on each other, budgets in epochs, and adapters without tables."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.language.model import LanguageModel
from regraft.training import Training, train
from regraft.training.loop import _Loop
from regraft.training.packing import pack
from regraft.training.state import FILE
from toys.models import llama, texts, tokenizer

CORPUS = texts(150, seed=1)


def settings(**changes):
    given = {"block": 16, "batch_size": 2, "accumulate": 1, "lr": 0.05, **changes}
    return Training(**given if {"minutes", "epochs"} & given.keys() else {"steps": 6, **given})


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_two_stages_are_embeddings_and_then_lora_on_the_text_that_follows(monkeypatch):
    read, step = [], _Loop._step

    def noting(loop, *given):
        first = loop.stream.read + loop.run.steps * loop.training.batch_size
        read.append((loop.training.parameters, first))
        return step(loop, *given)

    monkeypatch.setattr(_Loop, "_step", noting)
    run = train(llama(tied=False), tokenizer(), CORPUS, settings(parameters="2-stage", first_stage=0.3), on_evaluate=lambda _, s: s)
    assert read == [("embeddings", 0), ("embeddings", 2), *(("lora", n) for n in (4, 6, 8, 10))]
    assert run.steps == 6
    assert run.tokens == 6 * 2 * 16
    assert [point.step for point in run.curve] == [point.bits_per_byte for point in run.curve] == [0, 2, 6]
    assert [point.step for point in run.losses] == list(range(1, 7))
    assert {group.name for group in run.groups} == {"LoRA adapters", "embedding", "head"}


@pytest.mark.parametrize("objective", ["clm", "mtp"])
def test_the_first_stage_is_a_training_of_the_embeddings_and_the_second_goes_on_from_it(objective):
    one, two, seen = llama(tied=False), llama(tied=False), {}

    def watch(model, step):
        seen.setdefault(step, state(model))
        return 0.0

    train(one, tokenizer(), CORPUS, settings(parameters="2-stage", objective=objective), on_evaluate=watch)
    train(two, tokenizer(), CORPUS, settings(parameters="embeddings", steps=3, objective=objective))
    first = state(two)
    assert all(torch.equal(seen[3][name], tensor) for name, tensor in first.items())
    layers = [name for name in first if name.endswith("_proj.weight")]
    assert layers
    assert all(not torch.equal(one.state_dict()[name], first[name]) for name in [*layers, "lm_head.weight"])


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_run_killed_in_either_stage_ends_with_the_weights_of_one_that_was_not(stop_after, tmp_path, monkeypatch):
    training = settings(parameters="2-stage", objective="mtp", checkpoint_every=0)
    whole, broken = llama(tied=False), llama(tied=False)
    done = train(whole, tokenizer(), CORPUS, training, on_evaluate=lambda _, s: s)
    step, count = _Loop._step, [0]

    def dying(loop, *given):
        if count[0] == stop_after:
            raise KeyboardInterrupt
        count[0] += 1
        return step(loop, *given)

    monkeypatch.setattr(_Loop, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(broken, tokenizer(), CORPUS, training, directory=tmp_path, on_evaluate=lambda _, s: s)
    monkeypatch.setattr(_Loop, "_step", step)
    again = llama(tied=False)
    resumed = train(again, tokenizer(), CORPUS, training, directory=tmp_path, on_evaluate=lambda _, s: s)
    assert {path.parent.name for path in tmp_path.rglob(FILE)} == {"embeddings", "lora"}
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert [point.step for point in resumed.curve] == [point.step for point in done.curve]


def test_adapters_alone_leave_the_tables_and_need_no_new_tokens():
    model = llama(tied=False)
    before = state(model)
    run = train(model, tokenizer(), CORPUS, settings(parameters="adapters"))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".layers." in name and "norm" not in name}
    assert [group.name for group in run.groups] == ["LoRA adapters"]


def test_an_epoch_is_once_through_the_blocks():
    few = CORPUS[:40]
    blocks = len(pack(LanguageModel(llama(), tokenizer()), few, block=16))
    assert blocks > 20
    run = train(llama(layers=1), tokenizer(), few, settings(parameters="embeddings", epochs=2))
    assert run.steps == -(-2 * blocks // 2)
    stages = settings(parameters="2-stage", epochs=1, first_stage=0.25).stages(16)
    assert [(stage.parameters, stage.steps, stage.epochs) for stage in stages] == [("embeddings", 2, None), ("lora", 6, None)]
    with_replay = settings(epochs=1, replay=0.5).stages(16 / (1 - 0.5))
    assert with_replay[0].steps == 16  # half of what is read is replayed


def test_minutes_are_shared_between_the_stages():
    stages = settings(parameters="2-stage", minutes=10, first_stage=0.2).stages(100)
    assert [stage.minutes for stage in stages] == [2, 8]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "2-stage", "steps": 1}, "two stages need two steps"),
        ({"parameters": "2-stage", "lora_tables": True}, "trains the tables themselves"),
        ({"parameters": "adapters", "lora_tables": True}, "leaves the tables as they are"),
        ({"parameters": "2-stage", "first_stage": 1}, "first_stage=1"),
        ({"epochs": 1, "minutes": 1}, "one of the three"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(ParameterError, match=message):
        settings(**changes)
