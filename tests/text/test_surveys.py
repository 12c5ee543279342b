"""The page of the surveys' techniques: all of its code runs as it stands; the small methods that regraft has itself are their formulas."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from regraft.errors import ParameterError
from regraft.method import list_methods
from regraft.text.lexical.axes import polar
from regraft.text.lexical.debias import hard_debias, null_space
from regraft.text.lexical.numbers import Dice, number_tokens, pieces, scale_numbers, scientific, waves
from regraft.text.lexical.prompt_reps import PROMPT, hybrid, prompt_reps
from regraft.text.lexical.weat import weat
from toys import models

PAGE = Path(__file__).parents[2] / "docs/guides/text-surveys.md"


def code_of(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_all_code_of_the_page_runs(bert_folder, llama_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").symlink_to(bert_folder)
    (tmp_path / "decoder").symlink_to(llama_folder)
    blocks = code_of(PAGE)
    assert len(blocks) >= 8
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_the_page_names_only_ways_of_encoding_that_there_are():
    known = {cls.name for cls in list_methods("encoder")}
    asked = set(re.findall(r'way\("([a-z-]+)"', PAGE.read_text("utf-8")))
    assert asked <= known
    assert known <= set(re.findall(r"[a-z0-9-]+", PAGE.read_text("utf-8"))) | {"as-is"}


def test_code_that_is_wrong_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n```python\nnothing_of_the_kind\n```\n")
    with pytest.raises(NameError):
        exec(code_of(page)[0], {})


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return {word: rng.normal(size=6) for word in "abcdefghijkl"}


def test_weat_by_hand_and_its_symmetries(table):
    X, Y, A, B = "abcd", "efgh", "ij", "kl"
    unit = {word: row / np.linalg.norm(row) for word, row in table.items()}
    s = {w: np.mean([unit[w] @ unit[a] for a in A]) - np.mean([unit[w] @ unit[b] for b in B]) for w in X + Y}
    effect = (np.mean([s[w] for w in X]) - np.mean([s[w] for w in Y])) / np.std(list(s.values()), ddof=1)
    found = weat(table, X, Y, A, B)
    assert found.exact
    assert found.effect == pytest.approx(effect)
    assert weat(table, Y, X, A, B).effect == pytest.approx(-effect)
    assert weat(table, X, Y, B, A).effect == pytest.approx(-effect)
    from itertools import combinations

    sums = [sum(s[w] for w in chosen) for chosen in combinations(X + Y, 4)]
    assert found.p == pytest.approx(np.mean([one > sum(s[w] for w in X) + 1e-12 for one in sums]))


def test_weat_keeps_sets_equal_and_draws_where_splits_are_many(table):
    found = weat(table, [*"abcd", "lost"], "efg", "ij", "kl")
    assert found.lost == ("lost", "d")
    rng = np.random.default_rng(1)
    many = {str(at): rng.normal(size=4) + (at < 12) for at in range(24)} | {"+": np.ones(4), "-": -np.ones(4)}
    drawn = weat(many, [str(at) for at in range(12)], [str(at) for at in range(12, 24)], "+", "-")
    assert not drawn.exact
    assert drawn.p < 0.05
    with pytest.raises(ParameterError, match="too few"):
        weat(table, "a", "b", "ij", "kl")


def test_hard_debias_leaves_no_bias_in_neutral_words_and_pairs_on_both_sides(table):
    words = list(table)
    given = {"definitional": [("a", "b"), ("c", "d"), ("a", "lost")], "specific": ["c", "d"], "equalize": [("a", "b"), ("e", "lost")]}
    rows, g = hard_debias(words, np.stack(list(table.values())), **given)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(rows[4:] @ g, 0, atol=1e-12)
    assert rows[0] @ g == pytest.approx(-(rows[1] @ g))
    np.testing.assert_allclose(rows[0] - (rows[0] @ g) * g, rows[1] - (rows[1] @ g) * g, atol=1e-12)
    np.testing.assert_allclose(rows[:2] @ rows[4:].T, np.tile((rows[:1] @ rows[4:].T), (2, 1)), atol=1e-12)  # as near to every neutral word
    once, _ = hard_debias(words, rows, definitional=[("a", "b")], equalize=[("a", "b")])
    np.testing.assert_allclose(hard_debias(words, once, definitional=[("a", "b")], equalize=[("a", "b")])[0], once, atol=1e-9)
    with pytest.raises(ParameterError, match="no definitional pair"):
        hard_debias(words, rows, definitional=[("x", "y")])


def test_the_null_space_hides_a_label_from_a_linear_classifier():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    rows = rng.normal(size=(200, 6)) + np.outer(labels, [2, -1, 0, 0, 0, 1])
    projection = null_space(rows, labels, rounds=3)
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-9)
    assert LogisticRegression().fit(rows, labels).score(rows, labels) > 0.8
    assert LogisticRegression().fit(rows @ projection, labels).score(rows @ projection, labels) < 0.65


def test_axes_between_opposites_by_hand(table):
    rows = np.stack([table["a"] - table["b"], 2 * (table["c"] - table["d"])])
    found, used = polar(rows, table, [("a", "b"), ("c", "d"), ("a", "lost")])
    np.testing.assert_allclose(found, [[1, 0], [0, 2]], atol=1e-9)
    assert len(used) == 2


def test_numbers():
    dice = Dice(0, 50, 2)
    rows = dice(np.arange(51))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-12)
    cosines = rows[0] @ rows.T
    assert (np.diff(cosines) < 0).all()
    np.testing.assert_allclose(Dice(0, 1, 5)([0.5, 2.0]).shape, (2, 5))
    text, values = number_tokens("v2 has -3.5 and 1,200,000 of 7, not x9")
    assert (text, values) == ("v2 has [NUM] and [NUM] of [NUM], not x9", [-3.5, 1200000.0, 7.0])
    scaled = scale_numbers(np.ones((4, 2)), [5, 9, 5, 9], 9, [2.0, -1.0])
    np.testing.assert_allclose(scaled[:, 0], [1, 2, 1, -1])
    assert scientific(-0.00512) == ["-", "5", "1", "2", "E-3"]
    np.testing.assert_allclose(waves([0.25], [1.0]), [[1, 0]], atol=1e-12)
    np.testing.assert_allclose(pieces([5.0], [0, 1, 9, 20]), [[1, 0.5, 0]])
    with pytest.raises(ParameterError, match="low < high"):
        Dice(1, 1)
    with pytest.raises(ParameterError, match="1 number tokens for 2"):
        scale_numbers(np.ones((1, 2)), [9], 9, [1.0, 2.0])


def test_prompt_reps_are_logits_at_the_last_token_of_words_that_occur(llama_folder):
    texts = ["the cat", "that rat ran far"]
    dense, sparse = prompt_reps(llama_folder, texts, stop_words={"the"})
    model, tokenizer = models.llama(), models.tokenizer()
    for row, text in enumerate(texts):
        with torch.no_grad():
            out = model(torch.tensor([tokenizer(PROMPT.replace("{x}", text))["input_ids"]]), output_hidden_states=True)
        np.testing.assert_allclose(dense[row], out.hidden_states[-1][0, -1].numpy(), atol=2e-5)
        weights = out.logits[0, -1].relu().log1p().numpy()
        found = sparse[row].toarray()[0]
        np.testing.assert_allclose(found[found > 0], weights[found > 0], atol=2e-5)
        kept = {tokenizer.decode([number]).strip() for number in np.flatnonzero(found)}
        assert all(one in text for one in kept)
        assert "the" not in kept
    assert prompt_reps(llama_folder, texts, top=3)[1].getnnz(axis=1).max() <= 3
    np.testing.assert_allclose(hybrid([[1.0, 3.0]], [[2.0, 2.0]]), [[-1, 1]])
