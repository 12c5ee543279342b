"""DECOR: the closed forms of a projection, what of a prompt it touches, and pictures that stay as they are where it does nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.concepts.host.pipeline import encode, frozen
from regraft.concepts.steering.analysis import components, components_of, losses
from regraft.concepts.steering.places import chosen, places, unwanted_rows
from regraft.concepts.steering.projection import basis, lost, projected
from regraft.concepts.steering.schedule import switched
from regraft.concepts.steering.steering import steered
from regraft.errors import ParameterError
from regraft.method import resolve
from toys.pipelines import stable_diffusion, stable_diffusion_xl

PROMPT = "a picture of a three in sks style"


def rows(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, UNWANTED = rows(16, 64), rows(3, 64, seed=1)


def projector(unwanted, **how):
    found = basis(unwanted, **how).vectors
    return found @ found.T


def test_the_projector_is_one():
    P = projector(UNWANTED)
    assert torch.allclose(P, P.T)
    assert torch.allclose(P @ P, P, atol=1e-12)
    assert float(P.trace()) == pytest.approx(3)
    assert torch.allclose(P, UNWANTED.T @ torch.linalg.pinv(UNWANTED @ UNWANTED.T) @ UNWANTED, atol=1e-10)
    assert torch.allclose(projected(X, basis(UNWANTED)) @ UNWANTED.T, torch.zeros(16, 3, dtype=torch.float64), atol=1e-10)


def test_it_is_what_numpy_makes_of_it():
    _, _, V = np.linalg.svd(UNWANTED.numpy(), full_matrices=False)
    assert np.allclose(projected(X, basis(UNWANTED), 0.7).numpy(), X.numpy() - 0.7 * X.numpy() @ V.T @ V)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
def test_only_the_span_counts(seed, scale):
    mixing = rows(3, 3, seed=seed) + 3 * torch.eye(3, dtype=torch.float64)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    for same in (UNWANTED[order], UNWANTED * scale, torch.cat([UNWANTED, UNWANTED[:2]]), mixing @ UNWANTED):
        if torch.linalg.cond(same @ same.T) < 1e10 or len(same) > 3:
            assert torch.allclose(projector(same), projector(UNWANTED), atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_strengths_compose(a, b):
    off = basis(UNWANTED)
    assert torch.allclose(projected(projected(X, off, a), off, b), projected(X, off, 1 - (1 - a) * (1 - b)), atol=1e-12)
    assert torch.allclose(projected(UNWANTED, off, a), (1 - a) * UNWANTED, atol=1e-12)


def test_what_is_orthogonal_stays_and_nothing_unwanted_is_nothing():
    off = basis(UNWANTED)
    free = projected(X, off)
    assert torch.allclose(projected(free, off), free, atol=1e-12)
    assert projected(X, off, 0.0) is X
    assert projected(X, basis(UNWANTED[:0])) is X
    assert projected(X, basis(torch.zeros(2, 64))) is X


def test_rows_that_repeat_are_one_direction():
    assert basis(UNWANTED[:1].float().repeat(40, 1)).rank == 1
    noisy = UNWANTED[:1].float().repeat(40, 1)
    assert basis(noisy + 1e-8 * torch.randn_like(noisy)).rank == 1


def test_ranks_and_shares_of_energy():
    axes = torch.eye(4, 8, dtype=torch.float64) * torch.tensor([4.0, 2.0, 1.0, 1e-9])[:, None]
    assert basis(axes).rank == 3
    assert basis(axes, rank=2).rank == 2
    assert [basis(axes, energy=share).rank for share in (16 / 21, 16 / 21 + 0.01, 20 / 21, 1.0)] == [1, 2, 2, 3]
    assert torch.allclose(basis(axes, rank=1).vectors.abs(), torch.eye(8, dtype=torch.float64)[:, :1])


def test_strength_by_row_lengths_and_half_precision():
    off = basis(UNWANTED)
    each = torch.linspace(0, 1, 16)
    assert torch.allclose(projected(X, off, each)[5], projected(X[5:6], off, float(each[5]))[0])
    kept = projected(X, off, renorm=True)
    assert torch.allclose(kept.norm(dim=1), X.norm(dim=1))
    assert torch.allclose(torch.cosine_similarity(kept, projected(X, off)), torch.ones(16, dtype=torch.float64))
    assert projected(UNWANTED, off, renorm=True).isfinite().all()
    half = projected(X.half(), off)
    assert half.dtype == torch.float16
    assert torch.allclose(half.double(), projected(X.half().double(), off), atol=4e-3)


def test_what_is_lost_is_a_squared_cosine():
    off = basis(UNWANTED)
    told = lost(torch.cat([X, UNWANTED, torch.zeros(1, 64, dtype=torch.float64)]), off)
    assert torch.allclose(told[:16], 1 - projected(X, off).square().sum(1) / X.square().sum(1))
    assert torch.allclose(told[16:], torch.tensor([1.0, 1, 1, 0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: projected(X, basis(UNWANTED), 1.5), "strength 1.5"),
        (lambda: projected(X, basis(UNWANTED), float("nan")), "strength"),
        (lambda: projected(X[:, :9], basis(UNWANTED)), "9 wide, the unwanted ones 64"),
        (lambda: basis(UNWANTED * torch.nan), "finite rows"),
        (lambda: basis(UNWANTED, rank=0), "rank=0"),
        (lambda: basis(UNWANTED, energy=1.5), "energy=1.5"),
    ],
)
def test_what_cannot_be_projected(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_a_basis_is_that_of_scikit_learn():
    from sklearn.decomposition import TruncatedSVD

    theirs = TruncatedSVD(2, algorithm="arpack").fit(X.numpy()).components_
    ours = basis(X, rank=2).vectors.T.numpy()
    assert np.allclose(np.abs((theirs * ours).sum(1)), 1)


def test_the_formula_on_a_prompt():
    pipeline = stable_diffusion()
    before = encode(pipeline, [PROMPT, "a digit"])
    alone = encode(pipeline, ["digit"]).embeds[0, 1:2]
    found = steered(pipeline, [PROMPT, "a digit"], ["digit"], 0.5)
    direction = alone[0] / alone[0].norm()
    expected = before.embeds - 0.5 * (before.embeds @ direction)[..., None] * direction
    assert torch.allclose(found.embeds, expected, atol=1e-5)


def test_rows_come_from_the_training_caption():
    pipeline = stable_diffusion()
    caption = "a picture of a digit in sks style"
    rows_there = unwanted_rows(pipeline, ["digit"], "words", caption=caption).embeds
    assert torch.equal(rows_there, encode(pipeline, [caption]).embeds[0, 5:6])
    assert torch.equal(unwanted_rows(pipeline, ["digit"], "words", caption="a picture of a {} in sks style").embeds, rows_there)
    with pytest.raises(ParameterError, match="does not hold the word three"):
        unwanted_rows(pipeline, ["three"], "words", caption=caption)


def test_parts_of_a_phrase():
    pipeline = stable_diffusion()
    whole = encode(pipeline, ["digit photo"]).embeds[0]
    assert torch.equal(unwanted_rows(pipeline, ["digit photo"], "words").embeds, whole[1:3])
    assert torch.equal(unwanted_rows(pipeline, ["digit photo"], "prompt").embeds, whole[1:])
    assert torch.equal(unwanted_rows(pipeline, ["digit photo"], "pad").embeds, whole[4:])
    assert torch.equal(unwanted_rows(pipeline, ["digit photo"], "prompt", start=True).embeds, whole)
    kitten = unwanted_rows(pipeline, ["kitten"], "words").embeds
    assert len(kitten) == 6  # all letters of a word that the tokenizer spells


def test_which_rows_change():
    pipeline = stable_diffusion()
    before = encode(pipeline, [PROMPT]).embeds
    words, end, padding = places(pipeline, PROMPT)
    everything = {0, *words, end, *padding}

    def changed(**how):
        found = steered(pipeline, [PROMPT], ["digit"], 1.0, settings=how).embeds
        return {place for place in range(before.shape[1]) if not torch.equal(found[0, place], before[0, place])}

    assert changed() == everything
    assert changed(move_start=False) == everything - {0}
    assert changed(rows="words") == {0, *words, end}
    assert changed(rows="padding") == set(padding)
    assert changed(protected="sks three") == everything - {5, 7}


def test_phrases_stack_into_one_span():
    pipeline = stable_diffusion()
    both = steered(pipeline, [PROMPT], ["digit", "red"], 1.0).embeds[0]
    for word in ("digit", "red"):
        row = encode(pipeline, [word]).embeds[0, 1]
        assert torch.allclose(both @ row, torch.zeros(len(both)), atol=1e-4)
    one_after_the_other = steered(pipeline, [PROMPT], ["digit"], 1.0)
    again = resolve("prompt-steering", "decor")(pipeline, [PROMPT], one_after_the_other, ["red"], 1.0).embeds[0]
    assert not torch.allclose(again, both, atol=1e-3)


def test_the_two_encoders_of_xl_together_and_each_by_itself():
    pipeline = stable_diffusion_xl()
    before, unwanted = encode(pipeline, [PROMPT]), encode(pipeline, ["digit"])
    rows_of = unwanted.embeds[0, 1:2]
    joint = steered(pipeline, [PROMPT], ["digit"], 1.0)
    each = steered(pipeline, [PROMPT], ["digit"], 1.0, settings={"blocks": "each", "pooled": "projected"})
    assert torch.allclose(joint.embeds, projected(before.embeds, basis(rows_of)), atol=1e-5)
    assert torch.allclose(each.embeds[..., :16], projected(before.embeds[..., :16], basis(rows_of[:, :16])), atol=1e-5)
    assert torch.allclose(each.embeds[..., 16:], projected(before.embeds[..., 16:], basis(rows_of[:, 16:])), atol=1e-5)
    assert torch.equal(joint.pooled, before.pooled)
    assert torch.allclose(each.pooled, projected(before.pooled, basis(unwanted.pooled)), atol=1e-5)


def test_pictures_stay_as_they_are_at_strength_zero():
    pipeline = stable_diffusion()

    def drawn(**prompt):
        noise = torch.Generator().manual_seed(3)
        return pipeline(**prompt, num_inference_steps=2, generator=noise, output_type="np").images

    plain = drawn(prompt=[PROMPT])
    assert np.array_equal(plain, drawn(**steered(pipeline, [PROMPT], ["digit"], 0.0).arguments()))
    assert not np.array_equal(plain, drawn(**steered(pipeline, [PROMPT], ["digit"], 1.0).arguments()))


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_another_conditioning_from_a_step_on(make):
    pipeline = make()
    first, then = encode(pipeline, [PROMPT]), encode(pipeline, ["a digit"])

    def drawn(**given):
        noise = torch.Generator().manual_seed(3)
        return pipeline(**given, num_inference_steps=4, guidance_scale=5.0, generator=noise, output_type="np").images

    assert np.array_equal(drawn(**switched(pipeline, first, then, 0.0)), drawn(**then.arguments()))
    assert np.array_equal(drawn(**switched(pipeline, first, then, 1.0)), drawn(**first.arguments()))
    half = drawn(**switched(pipeline, first, then, 0.5))
    assert not np.array_equal(half, drawn(**first.arguments()))
    assert not np.array_equal(half, drawn(**then.arguments()))


def test_components_and_what_words_and_padding_hold():
    pipeline = stable_diffusion()
    context = encode(pipeline, [PROMPT])
    found = components_of(pipeline, PROMPT, context)
    whole = context.embeds[0].double()
    assert torch.allclose(found.rebuilt(), whole, atol=1e-10)
    assert torch.allclose(found.rebuilt(drop=[0]) + found.rebuilt(keep=[0]), whole, atol=1e-10)
    assert torch.allclose(found.in_words + found.in_padding, torch.ones(len(found.values), dtype=torch.float64))
    assert float(found.energy.sum()) == pytest.approx(1)
    assert found.rows()[0]["energy"] == pytest.approx(float(found.values[0] ** 2 / whole.square().sum()))
    with pytest.raises(ParameterError, match="component 99"):
        found.rebuilt(drop=[99])
    with pytest.raises(ParameterError, match="do not make the 16 rows"):
        components(X, [0, 1], [1, 2])


def test_padding_rows_that_are_alike_lead():
    alike = torch.cat([X[:4], UNWANTED[:1].repeat(12, 1)])
    found = components(alike, range(4), range(4, 16))
    assert float(found.in_padding[0]) > 0.9
    assert float(found.in_words[1:4].min()) > 0.9


def test_the_user_sees_what_each_word_loses():
    pipeline = stable_diffusion()
    context = encode(pipeline, ["a digit"])
    off = basis(context.embeds[0, 2:3])
    told = {row["token"]: row["lost"] for row in losses(pipeline, "a digit", context, off)}
    assert list(told) == ["<|startoftext|>", "a", "digit", "<|endoftext|>", "(padding)"]
    assert told["digit"] == pytest.approx(1, abs=1e-5)
    assert told["a"] < 0.99


def test_flagged_words_alone_change():
    pipeline = stable_diffusion()
    before = encode(pipeline, ["a red digit"]).embeds
    found = steered(pipeline, ["a red digit"], ["red"], 1.0, settings={"flag": 0.0}).embeds
    moved = {place for place in range(before.shape[1]) if not torch.equal(found[0, place], before[0, place])}
    assert moved
    assert moved < {1, 2, 3}
    untouched = steered(pipeline, ["a red digit"], ["red"], 1.0, settings={"flag": 1e6}).embeds
    assert torch.equal(untouched, before)


def test_the_mean_is_subtracted():
    pipeline = stable_diffusion()
    before, alone = encode(pipeline, [PROMPT]).embeds, encode(pipeline, ["red digit"]).embeds[0, 1:3]
    found = steered(pipeline, [PROMPT], ["red digit"], 0.5, method="mean-subtraction").embeds
    assert torch.allclose(found, before - 0.5 * alone.mean(0), atol=1e-5)


def test_singular_values_are_weighted():
    pipeline = stable_diffusion()
    prompt = "a red digit"
    before = encode(pipeline, [prompt]).embeds
    found = steered(pipeline, [prompt], ["red"], 0.1, method="suppress-eot").embeds
    own = [2, *range(4, before.shape[1])]
    assert torch.equal(found[0, [0, 1, 3]], before[0, [0, 1, 3]])
    s = torch.linalg.svdvals(before[0, own].double())
    weighted = torch.linalg.svdvals(found[0, own].double())
    assert torch.allclose(weighted, (s * torch.exp(-0.1 * s)).sort(descending=True).values, atol=1e-5)
    stronger = steered(pipeline, [prompt], ["red"], -0.001, method="suppress-eot", settings={"beta": 1.2}).embeds
    assert torch.linalg.norm(stronger[0, own]) > 1.19 * torch.linalg.norm(before[0, own])
    absent = steered(pipeline, [prompt], ["three"], 0.1, method="suppress-eot").embeds
    assert torch.equal(absent[0, :4], before[0, :4])
    assert not torch.allclose(absent[0, 4:], before[0, 4:])


@pytest.mark.parametrize("method", ["decor", "mean-subtraction", "suppress-eot"])
def test_nothing_unwanted_changes_nothing(method):
    pipeline = stable_diffusion()
    before = encode(pipeline, [PROMPT]).embeds
    assert torch.equal(steered(pipeline, [PROMPT], [], 1.0, method=method).embeds, before)
    assert torch.equal(steered(pipeline, [PROMPT], ["digit"], 0.0, method=method).embeds, before)
    with pytest.raises(ParameterError, match="give a word or a phrase"):
        steered(pipeline, [PROMPT], [" "], 1.0, method=method)


def test_settings_that_cannot_be():
    pipeline = stable_diffusion()
    with pytest.raises(ParameterError, match="undesired='all'"):
        steered(pipeline, [PROMPT], ["digit"], settings={"undesired": "all"})
    with pytest.raises(ParameterError, match="no prompt holds the word red"):
        steered(pipeline, [PROMPT], ["digit"], settings={"protected": "red"})
    with pytest.raises(ParameterError, match="no padding is left"):
        steered(pipeline, [PROMPT], [" ".join(["digit"] * 30)], settings={"undesired": "pad"})
    assert chosen(pipeline, [PROMPT], "words", start=False).sum() == 9
    assert frozen(pipeline) is pipeline
