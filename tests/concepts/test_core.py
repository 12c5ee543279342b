"""CoRe: what it compares, its two terms, the length it keeps, the second stage, and one prompt put right."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.concepts import learning
from regraft.concepts.concept import context_of, load_concept, together
from regraft.concepts.host.attention import recorded
from regraft.concepts.host.captions import known
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import encode, pieces, towers
from regraft.concepts.host.words import rows_of, slots, spliced
from regraft.concepts.kinds.word import WordConcept
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.core_context_regularization import CoreContextRegularization, fit_to_prompt
from regraft.concepts.methods.core_context_regularization.context import (
    Context,
    Pair,
    attention_term,
    embedding_term,
    looked_at,
    places,
)
from regraft.concepts.methods.core_context_regularization.prompts import sentences
from regraft.errors import CorpusError, ParameterError
from toys.pipelines import pictures, stable_diffusion, stable_diffusion_xl

WORD, TEMPLATE = "<my-cat>", "a photo of a red {} on a white background"


def method(**settings):
    return CoreContextRegularization(**{"batch": 2, "unet_batch": 2, "unet_steps": 0, **settings})


def learned(pipeline, plan, **settings):
    return method(**settings).learn(Lesson(pipeline, pictures(), WORD, "cat"), plan)


def context(pipeline, maps, **more):
    return Context(Diffusion(pipeline, pictures().images), maps, **{"lam_emb": 1.0, "lam_attn": 1.0, **more})


def state_of(pipeline):
    parts = {"unet": pipeline.unet, "vae": pipeline.vae, **{tower.part: tower.encoder for tower in towers(pipeline)}}
    return {f"{part} {name}": value.clone() for part, model in parts.items() for name, value in model.state_dict().items()}


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_a_word_with_the_rows_of_its_category_costs_nothing(make, released):
    pipeline = make()
    with spliced(pipeline, {WORD: rows_of(pipeline, "cat")}), recorded(pipeline.unet, looked_at) as maps, torch.no_grad():
        terms = context(pipeline, maps, released=released)
        loss = terms.loss(terms.diffusion.grid(1)[0], [], Pair.of(pipeline, TEMPLATE, WORD, "cat"))
    assert loss.abs() < 1e-6
    with spliced(pipeline, {WORD: rows_of(pipeline, "dog")}), recorded(pipeline.unet, looked_at) as maps, torch.no_grad():
        terms = context(pipeline, maps, released=released)
        assert terms.loss(terms.diffusion.grid(1)[0], [], Pair.of(pipeline, TEMPLATE, WORD, "cat")) > 1e-6


def test_what_stands_before_the_word_does_not_change():
    pipeline = stable_diffusion()
    torch.manual_seed(0)
    with spliced(pipeline, {WORD: {"clip_l": torch.randn(1, 16)}}):
        pair = Pair.of(pipeline, TEMPLATE, WORD, "cat")
        ours, theirs = encode(pipeline, [pair.ours]).embeds[0], encode(pipeline, [pair.theirs]).embeds[0]
        (slot,) = slots(pipeline, pair.ours, WORD)
    before = [place for place in pair.places[0] if place < slot]
    assert torch.equal(ours[before], theirs[before])
    assert not torch.allclose(ours[slot + 1], theirs[slot + 1])
    behind = embedding_term(ours[pair.places[0]][len(before) :], theirs[pair.places[1]][len(before) :])
    diluted = embedding_term(ours[pair.places[0]], theirs[pair.places[1]])
    assert torch.allclose(diluted, behind * (len(pair.places[0]) - len(before)) / len(pair.places[0]), atol=1e-5)


def test_every_place_of_the_word_is_left_out_on_both_sides():
    pipeline = stable_diffusion()
    with spliced(pipeline, {WORD: {"clip_l": torch.zeros(3, 16)}}):
        pair = Pair.of(pipeline, "a {} on the {} in a red", WORD, "red cat")
        for prompt, width, kept in zip((pair.ours, pair.theirs), (3, 2), pair.places, strict=True):
            rest = 4 + 2 * width  # start, a, the word, on, the, the word
            assert kept == [0, 1, 2 + width, 3 + width, rest, rest + 1, rest + 2, rest + 3]
            assert pieces(pipeline, prompt, towers(pipeline)[0])[kept[-1]] == pipeline.tokenizer.eos_token_id  # its own first end
        tokens = [
            [pieces(pipeline, prompt, towers(pipeline)[0])[place] for place in kept]
            for prompt, kept in zip((pair.ours, pair.theirs), pair.places, strict=True)
        ]
        assert tokens[0] == tokens[1]  # "red" outside the word is compared though the category has it
        padded = Pair.of(pipeline, "a {} on the {} in a red", WORD, "red cat", padding=True)
    assert len(padded.places[0]) == len(padded.places[1]) == 20 - 6
    assert padded.places[0][: len(pair.places[0])] == pair.places[0]


def test_the_terms_have_their_closed_forms():
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    unit = [one / one.norm(dim=1, keepdim=True) for one in (ours, theirs)]
    assert torch.allclose(embedding_term(ours, theirs), 1 - (unit[0] * unit[1]).sum(1).mean())
    unit = [one / one.norm(dim=0) for one in (ours, theirs)]
    assert torch.allclose(embedding_term(ours, theirs, released=True), 1 - (unit[0] * unit[1]).sum(0).mean())
    a, b = torch.rand(3, 6, 4), torch.rand(3, 6, 4)
    by_hand = sum((a[:, i, j].mean() - b[:, i, j].mean()) ** 2 for i in range(6) for j in range(4)) / 24
    assert torch.allclose(attention_term(a, b), by_hand)
    by_hand = sum(((a[layer] - b[layer]) ** 2).mean(1).sum() for layer in range(3)) / 3
    assert torch.allclose(attention_term(a, b, released=True), by_hand)
    one = a[:1], b[:1]  # of one layer they differ by the number of images
    assert torch.allclose(attention_term(*one, released=True), 6 * attention_term(*one))


@pytest.mark.parametrize("released", [False, True])
def test_the_gradient_of_the_embedding_term_is_that_of_finite_differences(released):
    pipeline = stable_diffusion()
    pipeline.text_encoder.double()
    torch.manual_seed(0)
    rows = torch.randn(1, 16, dtype=torch.float64).requires_grad_()

    def term(rows):
        with spliced(pipeline, {WORD: {"clip_l": rows}}):
            pair = Pair.of(pipeline, TEMPLATE, WORD, "cat")
            ours, theirs = (encode(pipeline, [one]).embeds[0] for one in (pair.ours, pair.theirs))
        return embedding_term(ours[pair.places[0]], theirs[pair.places[1]], released=released)

    assert torch.autograd.gradcheck(term, (rows,), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_padding_does_not_matter():
    terms = []
    for padding in ("<|endoftext|>", "!"):  # as in Stable Diffusion 1 and 2
        pipeline = stable_diffusion()
        pipeline.tokenizer.pad_token = padding
        torch.manual_seed(0)
        with spliced(pipeline, {WORD: {"clip_l": torch.randn(2, 16)}}):
            pair = Pair.of(pipeline, TEMPLATE, WORD, "cat")
            ours, theirs = (encode(pipeline, [one]).embeds[0] for one in (pair.ours, pair.theirs))
        terms.append(embedding_term(ours[pair.places[0]], theirs[pair.places[1]]))
    assert pipeline.tokenizer.pad_token_id != pipeline.tokenizer.eos_token_id
    assert torch.equal(*terms)


def test_both_prompts_see_the_noisy_images_of_the_step_and_theirs_no_gradient(monkeypatch):
    pipeline, seen = stable_diffusion(), []
    plain = Diffusion.predict

    def predict(self, batch, given):
        seen.append((batch, given.embeds.shape[0], torch.is_grad_enabled()))
        return plain(self, batch, given)

    monkeypatch.setattr(Diffusion, "predict", predict)
    rows = {"clip_l": torch.nn.Parameter(torch.randn(1, 16))}
    with spliced(pipeline, {WORD: rows}), recorded(pipeline.unet, looked_at) as maps:
        terms = context(pipeline, maps, lam_emb=0.0)
        batch = terms.diffusion.batch(2, torch.Generator().manual_seed(0))
        pair = Pair.of(pipeline, TEMPLATE, WORD, "cat")
        loss = terms.loss(batch, [f"a photo of a {WORD}"] * 2, pair)
        alone = terms.loss(batch, [], pair)
        diffusion = terms.diffusion.losses(batch, encode(pipeline, [f"a photo of a {WORD}"] * 2)).mean()
    (both, count, graded), (known, known_count, known_graded) = seen[:2]
    assert (count, graded, known_count, known_graded) == (4, True, 2, False)
    for name in ("noisy", "t"):
        part = getattr(both, name)
        assert torch.equal(part[:2], getattr(batch, name))
        assert torch.equal(part[2:], getattr(batch, name))
        assert torch.equal(getattr(known, name), getattr(batch, name))
    assert torch.allclose(loss, alone + diffusion, atol=1e-6)
    alone.backward()
    assert rows["clip_l"].grad.abs().sum() > 0  # the attention term alone reaches the rows


def test_one_sentence_is_drawn_a_step(monkeypatch):
    drawn = []
    plain = Context.loss
    monkeypatch.setattr(Context, "loss", lambda self, batch, captions, pair: drawn.append(pair.ours) or plain(self, batch, captions, pair))
    learned(stable_diffusion(), Plan(steps=6, accumulate=2))
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn)) > 2


def test_the_length_stays_in_the_middle_of_the_run():
    pipeline = stable_diffusion()
    start = learned(pipeline, Plan(steps=4), rescale=False)
    held = learned(pipeline, Plan(steps=10), rescale_to=1.0)
    free = learned(pipeline, Plan(steps=10), rescale=False)
    assert held.facts["norm"] == pytest.approx(start.facts["norm"], abs=1e-6)
    assert abs(free.facts["norm"] - start.facts["norm"]) > 1e-4
    assert not torch.allclose(held.concept.rows["clip_l"], start.concept.rows["clip_l"])


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_both_stages_leave_the_pipeline_as_it_was(make, tmp_path):
    pipeline = make()
    before = state_of(pipeline)
    taught = learned(pipeline, Plan(steps=3), unet_steps=200, unet_lr=1e-3)
    assert same(before, state_of(pipeline))
    assert not any(value.requires_grad for value in pipeline.unet.parameters())
    assert [step for step, _ in taught.curve] == [3, 5]  # 2 of 200 steps, as 3 are of 300
    taught.concept.save(tmp_path)
    read = load_concept(tmp_path)
    assert same(dict(taught.concept.unet), dict(read.unet))
    moved = [name for name, value in read.unet.items() if not torch.equal(value, before[f"unet {name}"])]
    assert len(moved) > 0.9 * len(read.unet)
    assert torch.equal(read.rows["clip_l"], learned(pipeline, Plan(steps=3)).concept.rows["clip_l"])  # frozen in the second stage


def test_a_run_stopped_in_the_second_stage_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "KEPT_EVERY", 2)
    pipeline, plan = stable_diffusion(), Plan(steps=3, state=tmp_path / "x")
    whole = learned(pipeline, replace(plan, state=None), unet_steps=500)
    plain, calls = Diffusion.losses, []

    def stopping(self, batch, given):
        calls.append(1)
        if len(calls) == 3 + 4:
            raise KeyboardInterrupt
        return plain(self, batch, given)

    with monkeypatch.context() as patch:
        patch.setattr(Diffusion, "losses", stopping)
        with pytest.raises(KeyboardInterrupt):
            learned(pipeline, plan, unet_steps=500)
    assert (tmp_path / "x" / "unet" / "training.safetensors").is_file()
    again = learned(pipeline, plan, unet_steps=500)
    assert same(dict(whole.concept.unet), dict(again.concept.unet))


def test_ablations_take_their_part_away(monkeypatch):
    pipeline = stable_diffusion()
    passes = []
    plain = Diffusion.predict
    monkeypatch.setattr(Diffusion, "predict", lambda self, batch, given: passes.append(len(batch.t)) or plain(self, batch, given))
    full, attentive = learned(pipeline, Plan(steps=2)), list(passes)
    passes.clear()
    without = learned(pipeline, Plan(steps=2), lam_attn=0)
    assert (attentive, passes) == ([4, 2, 4, 2], [2, 2])
    assert not torch.equal(full.concept.rows["clip_l"], without.concept.rows["clip_l"])
    lesson = Lesson(pipeline, pictures(), WORD, "cat")
    with spliced(pipeline, {WORD: rows_of(pipeline, "cat")}):
        assert [pair.ours for pair in method(prompts="caption").pairs(lesson, ["a photo of a {}"])] == [f"a photo of a {WORD}"]
        assert len(method().pairs(lesson, [])) > 10
        assert len(method(prompts="animate").pairs(lesson, [])) >= 1


def test_sentences_have_one_place_and_are_many():
    for which in ("universal", "animate", "inanimate"):
        found = sentences(which)
        assert 36 <= len(set(found)) == len(found) <= 48
        assert all(one.count("{}") == 1 for one in found)
        starts, ends = ([one.split("{}")[part].strip() for one in found] for part in (0, 1))
        assert sum(bool(end) for end in ends) > 10  # only what stands behind the word is reached by the embedding term
        assert len(set(starts)) > 5
    assert len(known(stable_diffusion(), sentences("universal"), "cat")) > 10


def test_one_prompt_is_put_right():
    pipeline = stable_diffusion()
    before = state_of(pipeline)
    torch.manual_seed(0)
    concept = WordConcept(WORD, {"clip_l": rows_of(pipeline, "cat")["clip_l"] + 0.5 * torch.randn(1, 16)}, "cat")
    prompt = f"two {WORD} and a {WORD} on a white background"
    fitted = fit_to_prompt(pipeline, concept, prompt, pictures(), method=method(lam_attn=0), steps=20, lr=1e-2)
    assert same(before, state_of(pipeline))

    def gap(one):
        with together(pipeline, [one]), torch.no_grad():
            pair = Pair.of(pipeline, prompt.replace(WORD, "{}"), WORD, "cat")
            ours, theirs = (context_of(pipeline, [one], [text]).embeds[0] for text in (pair.ours, pair.theirs))
        return float(embedding_term(ours[pair.places[0]], theirs[pair.places[1]]))

    assert gap(fitted.concept) < 0.9 * gap(concept)
    assert fitted.concept.word == WORD
    tuned = learned(pipeline, Plan(steps=3), unet_steps=100).concept
    both = fit_to_prompt(pipeline, tuned, prompt, pictures(), steps=2).concept
    assert both.unet is tuned.unet
    assert not torch.equal(both.rows["clip_l"], tuned.rows["clip_l"])


def test_what_cannot_be(tmp_path):
    pipeline = stable_diffusion()
    concept = WordConcept(WORD, rows_of(pipeline, "dog"), "")
    with pytest.raises(ParameterError, match="does not hold the word"):
        fit_to_prompt(pipeline, concept, "a cat", pictures(), category="cat")
    with pytest.raises(ParameterError, match="does not say what it is a case of"):
        fit_to_prompt(pipeline, concept, f"a {WORD}", pictures())
    with pytest.raises(ParameterError, match="longer than the 20 places"):
        fit_to_prompt(pipeline, concept, f"a {WORD} on " + "a red " * 12, pictures(), category="cat")
    with pytest.raises(ParameterError, match="no place for the word"):
        places(pipeline, "a photo", "cat")
    with pytest.raises(ParameterError, match=r"part \{\} by spaces"):
        places(pipeline, "a blue{} photo", "cat")
    (tmp_path / "odd.txt").write_text("a photo of it\n")
    with pytest.raises(CorpusError, match=r"line 1: a template has one \{\}"):
        learned(pipeline, Plan(steps=1), templates=tmp_path / "odd.txt")


def test_both_stages_from_the_command_line_and_a_picture_of_what_they_taught(pipeline_dir, pictures_dir, tmp_path):
    (tmp_path / "sentences.txt").write_text("a red {} on a white background\na drawing of the {}\n")
    settings = [f"templates={tmp_path / 'sentences.txt'}", "unet_steps=100", "compat=released", "batch=2"]
    fast = ["--steps", "3", "--sampling-steps", "1", "--preview", "0", "--method", "core-context-regularization"]
    asked = ["--images", pictures_dir, "--word", WORD, "--init", "cat", *(part for one in settings for part in ("--set", one))]
    found = CliRunner().invoke(app, [str(one) for one in ("concept", "learn", pipeline_dir, *asked, *fast, "--out", tmp_path / "c")])
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in (tmp_path / "c" / "unet").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert not list(tmp_path.glob(".*learning*"))
    more = ["--concept", tmp_path / "c", "--prompt", f"a {WORD}", "--sampling-steps", "1", "--out", tmp_path / "x.png"]
    found = CliRunner().invoke(app, [str(one) for one in ("concept", "draw", pipeline_dir, *more)])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "x.png").is_file()
