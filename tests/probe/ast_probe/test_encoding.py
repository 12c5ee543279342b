"""Trees and (d, c, u): the worked example, both inverses, what the order of d decides, and trees of real code."""

import math
import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import InputError
from regraft.probe.probes.ast_probe.encoding import BAD_ROOT, JOIN, NONE, Code, Tree, constituents, decode, encode
from regraft.probe.probes.ast_probe.grammar import Grammar
from regraft.probe.probes.ast_probe.score import overlap, score

WORKED = Tree(
    "block",
    (
        Tree("expression_statement", (Tree("assignment", ("selected", "=", "element")),)),
        Tree("break_statement", ("break",)),
    ),
)
LABELS = st.sampled_from(["a", "b", "c", "if_statement"])
TREES = st.recursive(
    st.builds(lambda label: Tree(label, ("w",)), LABELS),
    lambda below: st.builds(
        Tree, LABELS, st.lists(st.one_of(st.just("w"), below), min_size=1, max_size=5).map(tuple)
    ),
    max_leaves=25,
)  # fmt: skip


def test_the_papers_worked_example():
    code = encode(WORKED)
    assert code.d == (2, 1, 3)
    assert code.c == (f"expression_statement{JOIN}assignment", NONE, "block")
    assert code.u == (NONE, NONE, NONE, "break_statement")
    assert decode(code, WORKED.tokens) == WORKED
    assert set(constituents(code)) == {
        ("block", 0, 3), ("expression_statement", 0, 2), ("assignment", 0, 2), ("break_statement", 3, 3),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_every_tree_comes_back(tree):
    code = encode(tree)
    assert decode(code, tree.tokens) == tree
    assert encode(decode(code, tree.tokens)) == code
    assert sorted(constituents(code)) == sorted(spans(tree))
    assert not ties(code, 0, len(code.d))


@settings(max_examples=60, deadline=None)
@given(TREES, st.sampled_from([lambda x: 3 * x - 7, math.exp, math.atan, lambda x: x**3]))
def test_only_the_order_of_d_counts(tree, rising):
    code = encode(tree)
    assert decode(Code(tuple(rising(height) for height in code.d), code.c, code.u), tree.tokens) == tree


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_the_true_code_scores_one(tree):
    code = encode(tree)
    for compat in (None, "released"):
        found = score([code], [code], compat=compat)
        assert found.f1.tolist() == found.precision.tolist() == found.recall.tolist() == [1.0]
        assert all(right == there for right, there in found.labels.values())


def spans(tree):
    """Constituents by walking down, without (d, c, u)."""
    found = []

    def visit(node, position):
        number = len(found)
        found.append(None)
        start = position
        for child in node.children:
            position = position + 1 if isinstance(child, str) else visit(child, position)
        found[number] = (node.label, start, position - 1)
        return position

    visit(tree, 0)
    return found


def ties(code, first, last):
    """Whether some span of the tree has its maximum twice."""
    heights = code.d[first:last]
    if not heights:
        return False
    at = first + heights.index(max(heights))
    return heights.count(max(heights)) > 1 or ties(code, first, at) or ties(code, at + 1, last)


def split_by_hand(code, first, last):
    """What the definition says, with recursion: split at the first maximum."""
    if first == last:
        return []
    heights = code.d[first:last]
    at = first + heights.index(max(heights))
    own = [] if code.c[at] == NONE else [(code.c[at], first, last)]
    return own + split_by_hand(code, first, at) + split_by_hand(code, at + 1, last)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=14))
def test_ties_split_at_the_first_maximum(heights):
    code = Code(tuple(heights), ("x",) * len(heights), (NONE,) * (len(heights) + 1))
    assert sorted(constituents(code)) == sorted(split_by_hand(code, 0, len(heights)))


def test_fillers_are_deleted_and_a_root_without_a_label_is_bad():
    code = Code((3, 2, 1), (NONE, NONE, "pair"), (NONE, "one", NONE, NONE))
    assert decode(code, "wxyz") == Tree(BAD_ROOT, ("w", Tree("one", ("x",)), Tree("pair", ("y", "z"))))
    assert decode(Code((), (), (NONE,)), ["w"]) == Tree(BAD_ROOT, ("w",))


def test_one_and_two_tokens():
    one = Tree("module", (Tree("break_statement", ("break",)),))
    assert encode(one) == Code((), (), (f"module{JOIN}break_statement",))
    assert decode(encode(one), one.tokens) == one
    two = Tree("s", ("a", "b"))
    assert encode(two) == Code((1,), ("s",), (NONE, NONE))


def test_a_list_of_ten_thousand_and_a_nest_of_five_thousand_are_trees():
    wide = Tree("list", ("x",) * 10_000)
    assert decode(encode(wide), wide.tokens) == wide
    deep = Tree("leaf", ("x", "y"))
    for _ in range(5000):
        deep = Tree("deep", (deep, "z"))
    back, labels = decode(encode(deep), deep.tokens), 0
    while isinstance(back, Tree):
        back, labels = back.children[0], labels + 1
    assert labels == 5001


def test_a_sentence_is_a_tree_too():
    sentence = Tree("S", (Tree("NP", (Tree("DT", ("the",)), Tree("NN", ("cat",)))), Tree("VP", (Tree("VBD", ("sat",)),))))
    assert encode(sentence).u == ("DT", "NN", f"VP{JOIN}VBD")
    assert decode(encode(sentence), sentence.tokens) == sentence


def test_what_is_no_tree_is_refused():
    for bad, says in (
        (Tree("a", ()), "has no children"),
        (Tree(f"a{JOIN}b", ("x",)), "may not hold"),
        (Tree(NONE, ("x", "y")), "may not hold"),
        (Tree("", ("x", "y")), "labels may not be empty"),
    ):
        with pytest.raises(InputError, match=says):
            encode(Tree("top", (bad, "z")))
    with pytest.raises(InputError, match="4 tokens and 2 tokens"):
        decode(encode(WORKED), ["a", "b"])
    with pytest.raises(InputError, match="has 2 heights"):
        Code((1,), (NONE,), (NONE,) * 3)


def test_precision_and_recall_are_of_multisets():
    true = [("a", 0, 3), ("b", 0, 1), ("b", 0, 1), ("c", 2, 3)]
    predicted = [("a", 0, 3), ("b", 0, 1), ("d", 2, 3)]
    precision, recall, f1 = overlap(predicted, true)
    assert (precision, recall) == (2 / 3, 2 / 4)
    assert f1 == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert overlap(predicted, true, compat="released")[:2] == (2 / 3, 3 / 4)  # the copy of b counts again
    assert overlap([], true) == (0, 0, 0)
    assert overlap([], []) == (1, 1, 1)


def library(apart=("site-packages",)):
    root = Path(sysconfig.get_path("stdlib"))
    return [path for path in sorted(root.rglob("*.py")) if not set(apart) & set(path.relative_to(root).parts)]


def check(paths):
    """How many trees of whole files and of functions came back."""
    grammar, count = Grammar("python"), 0
    for path in paths:
        try:
            source = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        trees = [tree for tree in (grammar.tree(source), *(one.tree for one in grammar.functions(source))) if tree is not None]
        for tree in trees:
            code = encode(tree)
            back = decode(code, tree.tokens)
            assert back == tree
            assert encode(back) == code
            assert sorted(constituents(code)) == sorted(spans(tree))
        count += len(trees)
    return count


def test_a_sample_of_the_standard_library_comes_back():
    paths = [path for path in library(("site-packages", "test", "tests")) if path.stat().st_size < 30_000]
    assert check(random.Random(0).sample(paths, 16)) > 100


@pytest.mark.slow
def test_all_of_the_standard_library_comes_back():
    assert check(library(("site-packages", "test", "tests"))) > 15_000
