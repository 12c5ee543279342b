"""CW2V: gradients against finite differences, lazy against full rows, weights on the simplex, frozen and unseen rows untouched."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.errors import CorpusError, ParameterError
from regraft.language.loading import load_model
from regraft.method import resolve
from regraft.samples import everyday_english
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vectors.skipgram import Batch, SkipGrams
from regraft.vocab.initializer import Aids
from regraft.vocab.initializers.cw2v.method import cut_weights, set_apart, small
from regraft.vocab.initializers.cw2v.perplexity import Perplexity
from regraft.vocab.initializers.cw2v.skipgram_training import Side, Vocabulary, loss_and_slopes, mean_loss, set_gradients
from regraft.vocab.initializers.cw2v.softmax_rows import Offsets, SoftmaxRows
from toys.donors import LETTERS, NEW_WORDS, OLD_WORDS, SHARED, edit_table, save_model, task

M, N, DIM, R = 5, 7, 4, 3  # 5 new tokens over 7 old ones


def toy_side(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    offsets = Offsets(torch.tensor([1, 3, 3]), torch.tensor([2, 0, 6]), torch.tensor([0.5, 1.0, -2.0]), torch.tensor([4]))
    table = draw(N, DIM)
    return Side(table, SoftmaxRows(table, draw(M, R), draw(R, N), offsets))


def toy():
    vocabulary = Vocabulary(np.array([0, 1, 2, 3, 4, 5, 6, -1, -1, -1, -1, -1]), np.arange(7, 12))
    random = np.random.default_rng(0)
    return vocabulary, Batch(random.integers(0, 12, 20), random.integers(0, 12, 20), random.integers(0, 12, (20, 3)))


def by_autograd(batch, vocabulary, given, sought, negatives):
    """The loss from its formula, with all rows at hand."""

    def rows(side):
        mixes, offsets = side.mixes, side.mixes.offsets
        logits = mixes.left @ mixes.right
        logits = logits.index_put((offsets.rows, offsets.columns), offsets.values.double(), accumulate=True)
        logits = logits.index_fill(1, offsets.excluded, -torch.inf)
        return torch.cat([side.table, torch.softmax(logits, 1) @ side.table])

    w, u = rows(given), rows(sought)
    hit = (w[batch.centers] * u[batch.contexts]).sum(1)
    miss = (w[batch.centers][:, None] * u[batch.negatives]).sum(2)
    log = torch.nn.functional.logsigmoid
    noise = log(-miss.sum(1)) if negatives == "sum_inside" else log(-miss).sum(1)
    return -(log(hit) + noise).mean()


@pytest.mark.parametrize("negatives", ["standard", "sum_inside"])
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradients_are_those_of_the_formula(negatives, tied):
    vocabulary, batch = toy()
    given = toy_side(1)
    sought = given if tied else toy_side(2)
    sides = [given] if tied else [given, sought]
    loss, vectors = loss_and_slopes(batch, vocabulary, given, sought, negatives)
    assert loss == pytest.approx(float(by_autograd(batch, vocabulary, given, sought, negatives)))
    for part in vectors:
        set_gradients(part)
    for side in sides:
        for factor in (side.mixes.left, side.mixes.right):
            for place in ((0, 0), (1, 2), (2, 1)):
                step, values = 1e-5, []
                for sign in (1, -1):
                    factor[place] += sign * step
                    values.append(float(by_autograd(batch, vocabulary, given, sought, negatives)))
                    factor[place] -= sign * step
                assert float(factor.grad[place]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


def test_only_rows_of_the_batch_are_made_and_the_gradients_are_those_of_all_rows():
    vocabulary, _ = toy()
    batch = Batch(np.array([0, 8, 3]), np.array([8, 1, 2]), np.array([[1, 10], [2, 3], [4, 5]]))
    side, full = toy_side(3), toy_side(3)
    _, (vectors,) = loss_and_slopes(batch, vocabulary, side, side, "standard")
    assert vectors.rows.tolist() == [1, 3]
    set_gradients(vectors)
    factors = [factor.requires_grad_() for factor in (full.mixes.left, full.mixes.right)]
    by_autograd(batch, vocabulary, full, full, "standard").backward()
    for lazy, all_rows in zip((side.mixes.left.grad, side.mixes.right.grad), factors, strict=True):
        torch.testing.assert_close(lazy, all_rows.grad, atol=1e-6, rtol=0)


def test_weights_are_on_the_simplex_and_excluded_rows_have_none():
    weights = toy_side(4).mixes.weights(torch.tensor([3, 0, 1]))
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert (weights >= 0).all()
    assert (weights[:, 4] == 0).all()
    torch.testing.assert_close(toy_side(4).mixes.weights(torch.arange(M))[[3, 0, 1]], weights)


def test_short_products_stay_close_to_long_ones():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(50, 16, generator=generator) + 5
    sides = [SoftmaxRows(table, torch.randn(6, 4, generator=generator), torch.randn(4, 50, generator=generator), NOTHING)]
    sides.append(SoftmaxRows(table, sides[0].left, sides[0].right, sides[0].offsets, torch.bfloat16))
    rows, slope = torch.arange(6), torch.randn(6, 16, generator=generator)
    torch.testing.assert_close(sides[1].rows(rows), sides[0].rows(rows), atol=2e-2, rtol=0)
    exact, short = (side.gradients(rows, side.rows(rows), slope)[0] for side in sides)
    assert float((exact - short).norm() / exact.norm()) < 0.02


def test_pairs_stay_in_their_line_and_window_and_counts_subsample_centers():
    grams = SkipGrams([[0, 1, 2, 3], [4, 5]], 6, window=2, t=100.0, negatives=2)
    centers, contexts = grams.pairs(np.random.default_rng(0))
    expected = {(a, b) for line in ([0, 1, 2, 3], [4, 5]) for i, a in enumerate(line) for j, b in enumerate(line) if 0 < abs(i - j) <= 2}
    assert set(zip(centers.tolist(), contexts.tolist(), strict=True)) == expected
    assert len(centers) == len(expected)
    common = SkipGrams([[0, 1]] * 4000, 2, window=1, t=10.0)
    assert len(common.pairs(np.random.default_rng(0))[0]) == pytest.approx(2 * 4000 * np.sqrt(10 / 4000), rel=0.15)


def test_negatives_follow_the_three_quarter_power_and_never_a_token_that_does_not_occur():
    grams = SkipGrams([[0] * 16 + [2]] * 500, 4, window=1, t=1e9)
    drawn = np.concatenate([b.negatives.ravel() for b in grams.batches(np.random.default_rng(0), 1000)])
    assert set(drawn.tolist()) == {0, 2}
    assert (drawn == 0).mean() == pytest.approx(16**0.75 / (16**0.75 + 1), abs=0.01)


def test_cut_keeps_the_largest_weights_up_to_the_mass():
    weights = torch.tensor([[0.5, 0.0, 0.3, 0.2], [0.01, 0.97, 0.01, 0.01]])
    assert cut_weights(weights, 4, mass=0.75).toarray().astype(np.float32).tolist() == [
        [0.5, 0, np.float32(0.3), 0],
        [0, np.float32(0.97), 0, 0],
    ]
    assert cut_weights(weights, 1).nnz == 2


NONE = torch.zeros(0, dtype=torch.int64)
NOTHING = Offsets(NONE, NONE, torch.zeros(0), NONE)
NEW = NEW_WORDS[:6]
# new words keep company with one shared word each; the last new word never occurs
TEXTS = [f"{new} {old} {new} {old} {SHARED[30 + i % 7]}" for i in range(40) for new, old in zip(NEW[:5], SHARED[10:15], strict=True)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), OLD_WORDS, tied=True)


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("untied"), OLD_WORDS, tied=False)


def start(model, role="input", texts=TEXTS, **settings):
    source, target, context = task(model, NEW, role=role, texts=texts)
    settings = {"r": 8, "epochs": 6, "lr": 0.05, "batch": 256} | settings
    return resolve("initializer", "cw2v", settings)(source, target, context), source, target


def loss_of(graft, source, target, lines=TEXTS, noise=None, seed=5, size=10_000):
    """The skip-gram loss of a graft's rows on up to `size` pairs of `lines`, whatever the method judged by."""
    grams = SkipGrams(target.tokenizer.encode_batch(lines), len(target.source_ids))
    grams.noise = grams.noise if noise is None else noise
    rows = graft.apply(source.table)
    side = Side(source.table, SoftmaxRows(source.table, torch.zeros(len(rows), 1), torch.zeros(1, len(source.table)), NOTHING), rows)
    batches = list(grams.batches(np.random.default_rng(seed), size, most=size))
    return mean_loss(batches, Vocabulary(target.source_ids, target.ids), side, side, "standard")


@pytest.mark.parametrize("init", ["warm", "centred", "released"])
def test_rows_are_convex_mixes_that_learned_from_the_text(model, init):
    graft, source, target = start(model, init=init, keep=20)
    assert graft.certificate().inside == 1
    assert np.diff(graft.weights.indptr).max() <= 20
    again, _, _ = start(model, init=init, keep=20)
    assert (graft.weights != again.weights).nnz == 0
    untrained, _, _ = start(model, init=init, keep=20, lr=1e-12)
    assert loss_of(graft, source, target) < loss_of(untrained, source, target) - 0.3


def test_without_steps_worth_keeping_the_warm_start_is_the_constituent_mean_and_a_trace_of_the_mean(model):
    graft, source, target = start(model, lr=1e-12, spread=0.05)
    pieces = source.table[target.pieces[0]].mean(0)
    torch.testing.assert_close(graft.apply(source.table)[0], 0.95 * pieces + 0.05 * source.table.mean(0), rtol=1e-4, atol=1e-4)


def test_unseen_tokens_take_the_mean_of_their_pieces_and_are_reported(model, capsys):
    graft, source, target = start(model)
    torch.testing.assert_close(graft.apply(source.table)[5], source.table[target.pieces[5]].mean(0))
    assert "1 new tokens never occur" in capsys.readouterr().err


def test_training_lowers_the_loss_and_leaves_old_rows_alone(model):
    source, target, _ = task(model, NEW, texts=TEXTS)
    before = source.table.clone()
    method = resolve("initializer", "cw2v", {"r": 8, "epochs": 6, "lr": 0.05, "batch": 256})
    lines = target.tokenizer.encode_batch(TEXTS)
    grams = SkipGrams(lines, len(target.source_ids))
    side = method._side(source.table, target, torch.Generator().manual_seed(0))
    vocabulary = Vocabulary(target.source_ids, target.ids)
    checks = list(grams.batches(np.random.default_rng(5), 10_000))

    def loss():
        return loss_and_slopes(checks[0], vocabulary, side, side, "standard")[0]

    first = loss()
    lowest = method._train(grams, lambda: (loss(), loss()), vocabulary, side, side, np.random.default_rng(0))
    assert lowest < first - 0.3
    assert torch.equal(source.table, before)


def test_untied_tables_learn_together_and_each_keeps_its_own_weights(untied):
    checkpoint = Checkpoint.open(untied)
    source, target, context = task(untied, NEW, texts=TEXTS)
    heads = task(untied, NEW, role="head", texts=TEXTS)[0]
    source = replace(source, partner=lambda: checkpoint.read(checkpoint.layout.head[0]))
    heads = replace(heads, partner=lambda: checkpoint.read(checkpoint.layout.input[0]))
    method = resolve("initializer", "cw2v", {"r": 8, "epochs": 2, "lr": 0.05, "batch": 256})
    table, head = method(source, target, context), method(heads, target, context)
    assert (table.weights != head.weights).nnz > 0
    context.memory.clear()
    alone = method(heads, target, context)
    assert (alone.weights != head.weights).nnz == 0


def test_the_epoch_that_is_judged_lowest_is_kept_and_the_start_where_none_is_lower(model):
    source, target, _ = task(model, NEW, texts=TEXTS)
    grams = SkipGrams(target.tokenizer.encode_batch(TEXTS), len(target.source_ids))
    vocabulary, method = Vocabulary(target.source_ids, target.ids), resolve("initializer", "cw2v", {"r": 8, "epochs": 3, "batch": 256})
    for best in range(5):
        side = method._side(source.table, target, torch.Generator().manual_seed(0))
        seen = []

        def attempt(side=side, seen=seen, best=best):
            seen.append(side.mixes.left.clone())
            return math.nan if best == 4 else float(len(seen) != best + 1), seen[-1]

        kept = method._train(grams, attempt, vocabulary, side, side, np.random.default_rng(0))
        assert len(seen) == 4
        assert [state is kept for state in seen] == [i == min(best, 3) for i in range(4)]  # without a judgement the last
        assert not torch.equal(seen[0], seen[3])


def test_the_epoch_is_judged_on_the_rows_that_are_returned(model):
    """With one weight a row, what is returned is far from what was learned: only the cut rows can say which epoch is best."""
    settings = {"r": 8, "lr": 0.3, "batch": 256, "keep": 1, "init": "released"}
    source, target, context = task(model, NEW, texts=TEXTS)
    lines, apart = set_apart(list(context.texts("cw2v")))
    noise = SkipGrams(target.tokenizer.encode_batch(lines), len(target.source_ids)).noise
    losses = []
    for epochs in range(1, 9):
        graft = resolve("initializer", "cw2v", settings | {"epochs": epochs})(source, target, replace(context, memory={}))
        losses.append(loss_of(graft, source, target, apart, noise, seed=1, size=256))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("which", ["model", "untied"])
def test_perplexity_judges_the_model_with_the_rows_of_each_epoch(which, request):
    folder = request.getfixturevalue(which)
    checkpoint, tokenizer = Checkpoint.open(folder), Tokenizer.from_directory(folder)
    source, target, context = task(folder, NEW, texts=TEXTS)
    context = replace(context, load_model=lambda: (load_model(checkpoint), load_tokenizer(tokenizer)))
    if not source.tied:
        source = replace(source, partner=lambda: checkpoint.read(checkpoint.layout.head[0]))
    settings = {"r": 8, "epochs": 4, "lr": 0.05, "batch": 256, "choose": "perplexity"}
    graft = resolve("initializer", "cw2v", settings)(source, target, context)
    assert graft.certificate().inside == 1
    _, held_out = set_apart(list(context.texts("cw2v")))
    untrained = replace(context, memory={})
    start = resolve("initializer", "cw2v", settings | {"lr": 1e-12})(source, target, untrained)
    both = Perplexity(target, context, "cw2v", [held_out, small(everyday_english())])
    assert both(graft, context.memory["cw2v head"]) <= both(start, untrained.memory["cw2v head"]) + 1e-6


def test_the_text_that_perplexity_judges_is_spread_over_all_languages():
    """Two languages, file after file or line by line in turn: both are held out and judged in their shares."""
    for lines in (["eins " * 20] * 6000 + ["two " * 20] * 2000, [word * 20 for word in ("eins ", "two ", "eins ", "eins ")] * 2000):
        train, apart = set_apart(lines)
        assert sorted(train + apart) == sorted(lines)
        assert len(apart) == 800
        judged = small(apart)
        assert 19_000 < sum(len(line.encode()) for line in judged) <= 20_000
        for text in (apart, judged):
            assert sum(line.startswith("two") for line in text) / len(text) == pytest.approx(0.25, abs=0.03)


def test_a_text_too_short_to_hold_any_out_still_trains_to_the_last_epoch_and_says_so(model):
    line = " ".join([*NEW[:5], *SHARED[10:15]] * 3)
    for choose in ("loss", "perplexity"):
        source, target, context = task(model, NEW)
        context = replace(context, corpus=Corpus.from_texts([line], held_out=0))
        settings = {"r": 8, "epochs": 6, "lr": 0.05, "batch": 256, "choose": choose}
        graft = resolve("initializer", "cw2v", settings)(source, target, context)
        untrained = resolve("initializer", "cw2v", settings | {"lr": 1e-12})(source, target, replace(context, memory={}, notes=[]))
        assert loss_of(graft, source, target, [line]) < loss_of(untrained, source, target, [line]) - 0.3
        assert any("too short to hold any of it out" in note for note in context.notes)
    assert [len(set_apart([line] * count)[1]) for count in (0, 1, 9, 10, 29)] == [0, 0, 0, 1, 2]


def test_the_notes_say_how_much_weight_the_kept_rows_hold(model):
    for settings, least, most in (({"init": "centred", "keep": 7}, 5, 30), ({"keep": 256}, 99.9, 100)):
        source, target, context = task(model, NEW, texts=TEXTS)
        graft = resolve("initializer", "cw2v", {"r": 8, "epochs": 1, "batch": 256} | settings)(source, target, context)
        (note,) = [note for note in context.notes if "kept weights" in note]
        share = float(re.search(r"hold ([\d.]+)%", note)[1])
        assert least <= share <= most
        assert share == pytest.approx(100 * np.mean(graft.weights[:5].sum(axis=1)), abs=0.06)
        assert f"keep={settings['keep']}" in note


def test_old_rows_of_zeros_get_no_weight_from_anywhere(tmp_path):
    zeros = [OLD_WORDS.index(word) for word in (SHARED[0], SHARED[20], LETTERS[0])]  # all new words begin with the last
    folder = save_model(tmp_path, OLD_WORDS, tied=True)
    edit_table(folder, lambda table: table.index_fill_(0, torch.tensor(zeros), 0.0))
    source, target, context = task(folder, [*NEW, "a"], texts=TEXTS)
    for init in ("warm", "centred"):
        settings = {"r": 8, "epochs": 2, "lr": 0.05, "batch": 256, "keep": 5, "init": init}
        graft = resolve("initializer", "cw2v", settings)(source, target, replace(context, memory={}))
        weights = graft.weights.toarray() + np.outer(graft.share, graft.shared)
        assert (weights[:, zeros] == 0).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
        assert graft.certificate().inside == 1
        assert graft.share[1:6].min() > 0  # what is cut goes to the mean of the others
        assert graft.fallback.tolist() == [0]  # "a" is never seen, and spelled by a row of zeros alone
        torch.testing.assert_close(graft.apply(source.table)[0], source.table.sum(0) / (len(source.table) - 3))


@pytest.fixture(scope="module")
def aids(tmp_path_factory):
    """Lines of two groups of new words, each word with a translation among the old: (lines, aids, translations' ids)."""
    folder, draw = tmp_path_factory.mktemp("aids"), np.random.default_rng(2)
    old = dict(zip(NEW, SHARED[10:16], strict=True))
    lines = [" ".join(draw.choice(group, 8)) for _ in range(100) for group in (NEW[:3], NEW[3:])]
    (folder / "dictionary").write_text("\n".join(f"{b}\t{a}" for a, b in old.items()))
    (folder / "target").write_text("\n".join(lines))
    (folder / "source").write_text("\n".join(" ".join(old[word] for word in line.split()) for line in lines))
    given = Aids(dictionary=folder / "dictionary", bitext=(folder / "source", folder / "target"))
    return lines, given, [OLD_WORDS.index(word) for word in old.values()]


@pytest.mark.parametrize("mix", ["dictionary", "alignment"])
def test_code_mixed_text_ties_new_tokens_to_the_old_words_of_their_company(model, aids, mix):
    """Plain text of new words alone says nothing about old ones; mixed, each new word keeps company with translations of its neighbors."""
    lines, given, old = aids
    together = np.kron(np.eye(2), np.ones((3, 3))) == 1
    ties = {}
    for how in ("none", mix):
        source, target, context = task(model, NEW, texts=lines)
        settings = {"r": 8, "epochs": 6, "lr": 0.05, "batch": 256, "mix": how}
        graft = resolve("initializer", "cw2v", settings)(source, target, replace(context, aids=given))
        scores = (graft.apply(source.table) @ source.table[old].T).numpy()
        ties[how] = scores[together].mean() - scores[~together].mean()
    assert ties[mix] > ties["none"] + 0.2


def test_distinct_negatives_are_drawn_once_a_batch():
    grams = SkipGrams([[i % 50 for i in range(j, j + 20)] for j in range(50)], 60, window=1, t=1e9, negatives=2, distinct=True)
    batch = next(grams.batches(np.random.default_rng(0), 10))
    assert len(set(batch.negatives.ravel().tolist())) == 20
    assert batch.negatives.max() < 50
    full = next(grams.batches(np.random.default_rng(0), 100))  # 200 negatives of 50 tokens: each four times
    assert np.bincount(full.negatives.ravel()).tolist() == [4] * 50


def test_mixes_need_their_option(model):
    with pytest.raises(ParameterError, match="cw2v needs --dictionary"):
        start(model, mix="dictionary")
    with pytest.raises(ParameterError, match="cw2v needs --bitext"):
        start(model, mix="alignment")


def test_text_without_pairs_is_refused_and_bad_values_are_named(model):
    with pytest.raises(CorpusError, match="no two tokens in a line"):
        start(model, texts=["aa", "ab", "ac", "ad"])
    with pytest.raises(ParameterError, match="cw2v needs text to learn from"):
        start(model, texts=None)
    with pytest.raises(ParameterError, match="r=0 is not accepted"):
        resolve("initializer", "cw2v", {"r": 0})
