"""Code-mixing: replaced words come from the dictionary or the aligned span, within the limits, and all else stays as it was."""

import numpy as np
import pytest

from regraft.errors import ParameterError
from regraft.vectors.word_alignment import Aligner, link_counts, link_positions
from regraft.vocab.initializers.cw2v.code_mixing import WORD, Limits, agreed_links, aligned_spans, mix_by_alignment, mix_by_dictionary

PAIRS = [("house", "nhà"), ("home", "nhà"), ("water", "nước"), ("tree", "Cây")]


def test_dictionary_replaces_up_to_half_of_the_words_by_what_it_has_for_them():
    lines = ["Nhà, nước và cây!", "không có gì", "nước nước nước nước"]
    mixed = mix_by_dictionary(lines, PAIRS, seed=3)
    assert mixed[1] == lines[1]
    assert mixed[2].split().count("water") == 2
    assert "và" in mixed[0]
    assert mixed[0].endswith("!")
    for line, before in zip(mixed, lines, strict=True):
        words, old = WORD.findall(line), WORD.findall(before)
        assert len(words) == len(old)
        assert sum(a != b for a, b in zip(words, old, strict=True)) <= len(old) // 2
        assert all(a == b or (a, b.lower()) in {(s, t.lower()) for s, t in PAIRS} for a, b in zip(words, old, strict=True))
    assert mix_by_dictionary(lines, PAIRS, seed=3) == mixed
    with pytest.raises(ParameterError, match="has none of the words"):
        mix_by_dictionary(["không có gì"], PAIRS)


RUNS = [*PAIRS, ("dwelling", "Ngôi nhà"), ("mother's house", "ngôi nhà của mẹ"), ("one", "ngôi")]


def test_a_target_of_several_words_is_replaced_as_a_whole_before_the_shorter_ones_in_it():
    lines = ["Ngôi nhà đẹp và nước trong, ngôi nhà cũ."] * 20
    assert mix_by_dictionary(lines, RUNS) == ["dwelling đẹp và water trong, dwelling cũ."] * 20
    line = "Trong vườn của ngôi nhà của mẹ có một cây"
    assert mix_by_dictionary([line], RUNS) == ["Trong vườn của mother's house có một tree"]


def test_spans_of_several_words_keep_to_both_limits_and_which_are_replaced_is_drawn():
    assert mix_by_dictionary(["ngôi nhà của mẹ đây"], RUNS) == ["dwelling của mẹ đây"]  # four of five words are too long a span
    twice = mix_by_dictionary(["ngôi nhà là ngôi nhà"] * 200, RUNS, seed=4)  # room for two words of five: one span
    counts = [twice.count(line) for line in ("dwelling là ngôi nhà", "ngôi nhà là dwelling")]
    assert sum(counts) == 200
    assert min(counts) > 60
    assert mix_by_dictionary(["ngôi nhà là ngôi nhà"] * 200, RUNS, seed=4) == twice
    assert mix_by_dictionary(["ngôi nhà là ngôi nhà"] * 200, RUNS, seed=5) != twice
    three, two = mix_by_dictionary(["ngôi nhà đây", "ngôi nhà"], RUNS)
    assert three in {"one nhà đây", "ngôi house đây", "ngôi home đây"}
    assert two == "ngôi nhà"


def test_spans_are_linked_to_one_run_of_target_words_and_to_nothing_else():
    links = {(0, 0), (1, 2), (2, 1), (4, 4)}
    found = aligned_spans(links, 6, Limits(span=0.5, jump=2.0))
    assert ((0, 1), (0, 1)) in found
    assert ((1, 3), (1, 3)) in found
    assert ((1, 2), (2, 3)) in found
    assert ((0, 2), (0, 3)) not in found  # target word 1 is linked to source word 2, outside
    assert all(b - a <= 3 for (a, b), _ in found)


def test_a_jump_of_offsets_parts_spans():
    links = {(0, 0), (1, 1), (2, 6)}
    assert ((0, 2), (0, 2)) in aligned_spans(links, 8, Limits())
    assert ((1, 3), (1, 7)) not in aligned_spans(links, 8, Limits())
    assert ((1, 3), (1, 7)) in aligned_spans(links, 8, Limits(jump=1.0))


def test_alignment_finds_the_words_of_a_made_up_language_and_mixes_within_the_limits():
    draw = np.random.default_rng(0)
    source = [" ".join(f"old{i}" for i in draw.permutation(40)[: draw.integers(5, 12)]) for _ in range(400)]
    target = [" ".join(word.replace("old", "new") for word in line.split()) for line in source]
    right = 0
    for line, links in zip(source, agreed_links([line.split() for line in source], [line.split() for line in target]), strict=True):
        right += sum(i == j for i, j in links)
        assert all(i == j for i, j in links)
        assert len(links) <= len(line.split())
    assert right > 0.9 * sum(len(line.split()) for line in source)
    mixed = mix_by_alignment(source, target, seed=1)
    replaced = 0
    for line, before in zip(mixed, target, strict=True):
        words, old = line.split(), before.split()
        assert [word[3:] for word in words] == [word[3:] for word in old]
        assert sum(word.startswith("old") for word in words) <= len(old) / 2
        replaced += sum(word.startswith("old") for word in words)
    assert replaced / sum(len(line.split()) for line in target) == pytest.approx(0.4, abs=0.1)


def test_positions_of_links_sum_to_their_counts_and_lines_left_out_have_none():
    source, target = [[0, 1], [1, 2], [], [2, 0], [0] * 9], [[0, 1], [1, 2], [1], [2, 0], [1]]
    aligner = Aligner(max_length=5)
    places = link_positions(source, target, (3, 3), aligner)
    assert [len(p) for p in places] == [2, 2, 1, 2, 1]
    assert places[2].tolist() == places[4].tolist() == [-1]
    counts = np.zeros((3, 3))
    for line, (a, b) in zip(places, zip(source, target, strict=True), strict=True):
        for j, i in enumerate(line.tolist()):
            if i >= 0:
                counts[b[j], a[i]] += 1
    np.testing.assert_array_equal(counts, link_counts(source, target, (3, 3), aligner).toarray())
