"""Rows behind the text tower: what they are at first, which of them move, that the tower rests, and where they go in other prompts."""

import pytest
import torch
from safetensors.torch import load_file

from regraft.concepts.concept import context_of, load_concept, together
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.images import Pictures
from regraft.concepts.host.pipeline import encode, towers
from regraft.concepts.host.words import rows_of
from regraft.concepts.kinds.output_rows import FILE, encoder_hash
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.cones import Cones
from regraft.concepts.methods.lora import Lora
from regraft.concepts.search.core import Pace, Task, examples, search
from regraft.concepts.search.prompts import BESIDE, Effect, Prompts, pairs_beside, resting
from regraft.concepts.search.second_stage import conditioned_by
from regraft.errors import CheckpointError, ParameterError
from toys.pipelines import clip, pictures, stable_diffusion, stable_diffusion_xl

WORD, PHRASE = "<my-cat>", "a photo of a <my-cat>"
HOW = Drawing(steps=2, guidance=3.0, batch=2)
MADE = {"sd": stable_diffusion, "xl": stable_diffusion_xl}


def lesson(pipeline, **more):
    return Lesson(pipeline, pictures(), WORD, "cat", **more)


def learned(pipeline, steps=3, **settings):
    return Cones(lr=0.05, **settings).learn(lesson(pipeline), Plan(steps=steps))


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("rows", ["slot", "full", "tail"])
def test_without_a_step_images_are_those_of_the_phrase(kind, rows):
    pipeline = MADE[kind]()
    found = learned(pipeline, 0, rows=rows, pooled=kind == "xl").concept
    assert torch.equal(draw(pipeline, [found], [PHRASE], HOW), draw(pipeline, [], ["a photo of a cat"], HOW))


@pytest.mark.parametrize("kind", MADE)
def test_the_towers_run_once(kind):
    pipeline, calls = MADE[kind](), []
    for tower in towers(pipeline):
        tower.encoder.register_forward_pre_hook(lambda module, args: calls.append(module))
    learned(pipeline, 4, keep=0.01)
    assert calls == [tower.encoder for tower in towers(pipeline)]


def test_a_tower_that_is_called_during_the_search_is_an_error():
    pipeline = stable_diffusion()
    with resting(pipeline), pytest.raises(RuntimeError, match="text tower was called"):
        encode(pipeline, ["a cat"])
    encode(pipeline, ["a cat"])


@pytest.mark.parametrize(("rows", "moved"), [("slot", {5}), ("tail", set(range(15, 20))), ("full", set(range(20)))])
def test_only_the_rows_that_are_asked_for_move(rows, moved):
    pipeline = stable_diffusion()
    found = learned(pipeline, rows=rows).concept
    before, after = encode(pipeline, ["a photo of a cat"]).embeds[0], found.context.embeds[0]
    assert {int(row) for row in (before != after).any(1).nonzero()[:, 0]} == moved
    assert set(found.mask.nonzero()[:, 0].tolist()) == moved
    assert all(value.grad is None for value in pipeline.unet.parameters())


def test_masked_rows_stay():
    rows = torch.randn(4, 3, dtype=torch.float64)
    x, target = torch.randn(5, 3).double(), torch.ones(5, 4).double()
    task = Task(lambda x, given: x @ given.T, lambda output, target: (output - target).square().mean(), examples(x, target))
    mask = torch.tensor([True, False, True, False])
    found = search(task, rows, mask=mask, pace=Pace(steps=3, lr=0.1, weight_decay=0.1))
    assert torch.equal((found.rows != rows).any(1), mask)


def test_more_rows_fit_better_on_a_batch_that_stays():
    """By plain descent with a small rate the loss falls at every step, and that of full rows <= that of a slot <= the first."""
    pipeline = stable_diffusion()
    diffusion = Diffusion(pipeline, pictures().images)
    batch, ends = diffusion.grid(1)[0], {}
    for place, count in (("slot", 1), ("full", None)):
        prompts = Prompts.encoded(pipeline, [PHRASE], WORD, rows_of(pipeline, "cat"), place, count, False)
        chosen, losses = torch.zeros(len(batch.t), dtype=torch.long), []

        def model(x, rows, prompts=prompts, chosen=chosen):
            return diffusion.predict(x, prompts.with_rows(chosen, rows))

        def loss(output, target, losses=losses):
            found = torch.nn.functional.mse_loss(output.double(), target.double())
            losses.append(float(found.detach()))
            return found

        task = Task(model, loss, lambda size, generator: (batch, diffusion.target(batch)))
        search(task, prompts.start(), pace=Pace(steps=12, lr=50.0, optimizer="sgd"))
        ends[place] = losses
        assert ends[place] == sorted(ends[place], reverse=True)
    assert ends["full"][0] == pytest.approx(ends["slot"][0], rel=1e-6)
    assert ends["full"][-1] < ends["slot"][-1] < ends["slot"][0]


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("rows", ["slot", "full", "tail"])
def test_rows_are_the_same_after_saving(kind, rows, tmp_path):
    pipeline = MADE[kind]()
    found = learned(pipeline, rows=rows, vectors=None if rows == "full" else 2, pooled=kind == "xl").concept
    found.save(tmp_path)
    read = load_concept(tmp_path)
    asked = [PHRASE, "a red <my-cat>", "a dog"]
    contexts = []
    for one in (found, read):
        with together(pipeline, [one]):
            contexts.append(context_of(pipeline, [one], asked))
    assert torch.equal(contexts[0].embeds, contexts[1].embeds)
    assert kind == "sd" or torch.equal(contexts[0].pooled, contexts[1].pooled)
    assert torch.equal(load_file(tmp_path / FILE)["prompt_embeds"], contexts[0].embeds[:1])
    assert torch.equal(contexts[0].embeds[2:], encode(pipeline, ["a dog"]).embeds)  # without the word: as before


def test_the_slot_of_another_prompt_is_overwritten_and_nothing_else():
    pipeline = stable_diffusion()
    found = learned(pipeline, vectors=2).concept
    with together(pipeline, [found]):
        context = context_of(pipeline, [found], ["a red <my-cat> on a <my-cat>"]).embeds[0]
    neutral = encode(pipeline, ["a red cat cat on a cat cat"]).embeds[0]
    assert torch.equal(context[[3, 4, 7, 8]], torch.cat([found.rows, found.rows]))
    kept = [0, 1, 2, 5, 6, *range(9, 20)]
    assert torch.equal(context[kept], neutral[kept])


def test_the_tail_is_scaled_in_other_prompts_only():
    pipeline = stable_diffusion()
    found = learned(pipeline, rows="tail", tail_scale=0.5).concept
    with together(pipeline, [found]):
        context = context_of(pipeline, [found], [PHRASE, "a red <my-cat>"]).embeds
        with pytest.raises(ParameterError, match="give a shorter prompt"):
            context_of(pipeline, [found], [" ".join(["a"] * 14) + " <my-cat>"])
    assert torch.equal(context[0, -5:], found.rows)
    assert torch.equal(context[1, -5:], found.rows * 0.5)


def test_the_pooled_vector_moves_when_it_is_searched():
    pipeline = stable_diffusion_xl()
    plain, pooled = learned(pipeline).concept, learned(pipeline, pooled=True).concept
    assert plain.shift is None
    own = encode(pipeline, ["a red cat"]).pooled
    for concept, shift in ((plain, torch.zeros(1, 24)), (pooled, pooled.shift)):
        with together(pipeline, [concept]):
            found = context_of(pipeline, [concept], ["a red <my-cat>"]).pooled
        assert torch.allclose(found, own + shift, atol=1e-5)
    assert pooled.shift.abs().sum() > 0


def test_noise_has_the_mean_and_spread_of_real_rows():
    from regraft.concepts.search import noise_like

    real = torch.randn(300, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 7
    drawn = noise_like(real, 20_000, seed=1)
    assert torch.allclose(drawn.mean(0), real.mean(0), atol=0.15)
    assert torch.allclose(drawn.std(0), real.std(0), rtol=0.05)
    pipeline = stable_diffusion()
    start = Cones(start="noise").learn(lesson(pipeline), Plan(steps=0, seed=3)).concept.rows
    assert not torch.allclose(start, encode(pipeline, ["a photo of a cat"]).embeds[0, 5:6], atol=0.5)


def test_capped_rows_do_not_grow():
    task = Task(lambda x, rows: rows, lambda output, target: -output.norm(dim=1).sum(), examples(torch.ones(1, 1), torch.ones(1, 1)))
    start = torch.randn(3, 4)
    grown, capped = (search(task, start, pace=Pace(steps=5, lr=0.1, cap=cap)).lengths for cap in (False, True))
    assert (grown[:, 1] > grown[:, 0]).all()
    assert torch.allclose(capped[:, 1], capped[:, 0])


def test_the_effect_of_words_beside_it_ends_a_search():
    pipeline = stable_diffusion()
    pairs = pairs_beside(pipeline, "cat", WORD)
    assert len(pairs) == len(BESIDE)
    told = [PHRASE, *(text for pair in pairs for text in pair)]
    prompts = Prompts.encoded(pipeline, told, WORD, rows_of(pipeline, "cat"), "slot", 1, False)
    effect = Effect(Diffusion(pipeline, pictures().images), prompts, pairs, 0.99)
    assert effect(10, prompts.start()) is None
    effect.pairs = [[0, 0]]
    assert "0% of their first effect" in effect(10, prompts.start())
    ended = Cones(keep=0.99, lr=1.0).learn(lesson(pipeline), Plan(steps=40, seed=1))
    assert ended.stopped.startswith("step 10: words beside the concept have")
    assert [step for step, _ in ended.curve] == [10]


@pytest.mark.parametrize("kind", MADE)
def test_a_second_stage_sees_the_rows_and_the_pipeline_comes_back(kind):
    pipeline = MADE[kind]()
    found, before = learned(pipeline, pooled=kind == "xl").concept, encode(pipeline, ["a red cat"]).embeds
    asked = ["a red <my-cat>", "a cat"]
    with together(pipeline, [found]):
        expected = context_of(pipeline, [found], asked)
    with conditioned_by(pipeline, [found]):
        seen = encode(pipeline, asked)
        call = {"num_inference_steps": 2, "output_type": "pt", "generator": torch.Generator().manual_seed(0)}
        drawn = pipeline("a red <my-cat>", num_images_per_prompt=2, **call).images
        assert pipeline.encode_prompt("a red <my-cat>", "cpu", 2, True)[0].shape[0] == 2 if kind == "sd" else True
    assert torch.equal(seen.embeds, expected.embeds)
    assert "encode_prompt" not in vars(pipeline)
    assert torch.equal(encode(pipeline, ["a red cat"]).embeds, before)
    given = {name: value.repeat_interleave(2, 0) for name, value in expected[:1].arguments().items()}
    call["generator"] = torch.Generator().manual_seed(0)
    assert torch.allclose(drawn, pipeline(**given, **call).images, atol=1e-5)


def test_weights_tuned_in_the_second_stage_read_the_rows():
    """LoRA knows nothing of them: its prompts hold the searched rows, and a search of no steps is the word itself."""
    pipeline, read = stable_diffusion(), []
    plain, found = (learned(pipeline, steps).concept for steps in (0, 3))
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    taught = Lesson(pipeline, pictures(), WORD, "cat", sentences=["a photo of a {}"])
    adapters, hook = [], pipeline.unet.register_forward_pre_hook(lambda module, args: read.append(args[2]))
    for rows in (plain, found):
        read.clear()
        with conditioned_by(pipeline, [rows]):
            adapters.append(Lora(rank=1, lr=0.1).learn(taught, Plan(steps=2)).concept)
        assert read
        assert all(torch.equal(context, rows.context.embeds.expand_as(context)) for context in read)
    hook.remove()
    assert any(not torch.equal(value, adapters[1].tensors[name]) for name, value in adapters[0].tensors.items())
    assert all(torch.equal(value, before[name]) for name, value in pipeline.unet.state_dict().items())
    drawn = [draw(pipeline, [found, adapters[1]], [PHRASE], HOW)]
    with conditioned_by(pipeline, [found]):
        drawn.append(draw(pipeline, [adapters[1]], [PHRASE], HOW))
    assert torch.equal(*drawn)


def test_captions_of_images_hold_the_rows_too():
    pipeline = stable_diffusion()
    told = Pictures(pictures().images, ["0.png", "1.png", "2.png", "3.png"], {"0.png": "a {} on a red dog", "1.png": f"the {WORD}"})
    found = Cones(lr=0.05).learn(Lesson(pipeline, told, WORD, "cat"), Plan(steps=2))
    assert found.curve[-1][0] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phrase": "a photo"}, "one {} where the word stands"),
        ({"rows": "full", "keep": 0.5}, "no words beside"),
        ({"pooled": True}, "only XL's"),
        ({"rows": "tail", "vectors": 18}, "give a shorter prompt"),
    ],
)
def test_what_cannot_be_searched_is_told_before(settings, message):
    with pytest.raises(ParameterError, match=message):
        learned(stable_diffusion(), **settings)


def test_rows_of_another_width_or_length_are_refused(tmp_path):
    found = learned(stable_diffusion(), rows="full").concept
    with pytest.raises(ParameterError, match="width 16; the pipeline's clip_l has 12"), together(stable_diffusion(width=12), [found]):
        pass
    found.save(tmp_path)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_concept(tmp_path)


def test_another_tower_of_the_same_width_is_told():
    pipeline, other = stable_diffusion(), stable_diffusion()
    other.text_encoder = clip(16, seed=9)
    found = learned(pipeline).concept
    assert found.encoder == encoder_hash(pipeline) != encoder_hash(other)
    with pytest.warns(UserWarning, match="other text towers of the same width"), together(other, [found]):
        pass
    with together(pipeline, [found]):
        assert encoder_hash(pipeline) == found.encoder  # words that were put in are no part of it
