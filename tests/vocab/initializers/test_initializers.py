"""Starts for new rows against their closed forms, on tokenizers small enough to spell by hand."""

import math

import numpy as np
import pytest
import torch

from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.graft import Graft
from regraft.method import list_methods, resolve
from regraft.tokenizer.scripts import script_of
from regraft.vocab.initializer import Context, Source
from toys.tokenizers import byte_bpe, fallback_bpe, target, wordpiece

D = 12
SAMPLED = ["normal", "univariate", "multivariate", "transformers-default"]
MIXED = ["align", "constituent-exponential", "constituent-mean", "mean", "merge", "zip-tie"]


def source(tokenizer, role="input", seed=0, **fields) -> Source:
    generator = torch.Generator().manual_seed(seed)
    table = 0.4 + torch.randn(tokenizer.vocab_size, D, generator=generator)
    return Source(table=table, tokenizer=tokenizer, role=role, **fields)


def start(name, old, new, texts=None, role="input", pieces=None, seed=0, table=None, **settings):
    """(what the start gives, its target)."""
    context = Context(corpus=None if texts is None else Corpus.from_texts(texts, held_out=0), seed=seed)
    aim = target(old, new, pieces)
    origin = source(old, role) if table is None else Source(table=table, tokenizer=old, role=role)
    return resolve("initializer", name, settings)(origin, aim, context), aim


def weights(graft: Graft, aim, row=0) -> dict[str, float]:
    """One row as {old piece: weight}."""
    line = graft.weights[row]
    return {aim.old_tokenizer.pieces[i]: w for i, w in zip(line.indices.tolist(), line.data.tolist(), strict=True) if w}


class TestMerge:
    def test_leaves_at_depth_k_weigh_two_to_the_minus_k(self):
        old = byte_bpe(["a b"])
        new = byte_bpe(["a b", "ab c", "abc d", "abcd e"])
        graft, aim = start("merge", old, new)
        assert weights(graft, aim, 0) == {"ab": 1 / 2, "c": 1 / 2}
        assert weights(graft, aim, 1) == {"ab": 1 / 4, "c": 1 / 4, "d": 1 / 2}
        assert weights(graft, aim, 2) == {"ab": 1 / 8, "c": 1 / 8, "d": 1 / 4, "e": 1 / 2}

    def test_a_leaf_that_occurs_twice_adds_up(self):
        old, new = byte_bpe(), byte_bpe(["0 0", "00 0", "00 00"])
        graft, aim = start("merge", old, new)
        assert [weights(graft, aim, row) for row in range(3)] == [{"0": 1.0}] * 3

    def test_two_merges_that_make_one_token_are_averaged(self):
        old, new = byte_bpe(["b c"]), byte_bpe(["b c", "a b", "ab c", "a bc"])
        graft, aim = start("merge", old, new, pieces=["abc"])
        # 1/2 * (1/2 ab + 1/2 c) with ab = 1/2 a + 1/2 b, and 1/2 * (1/2 a + 1/2 bc)
        assert weights(graft, aim) == {"a": 1 / 8 + 1 / 4, "b": 1 / 8, "c": 1 / 4, "bc": 1 / 4}

    def test_without_merges_it_is_the_mean_of_the_pieces(self):
        old, new = wordpiece(["un", "##do", "##ing"]), wordpiece(["un", "##do", "##ing", "undoing"])
        graft, aim = start("merge", old, new)
        assert weights(graft, aim) == {"un": pytest.approx(1 / 3), "##do": pytest.approx(1 / 3), "##ing": pytest.approx(1 / 3)}

    def test_merges_that_end_in_pieces_without_source_fall_back_to_the_spelling(self):
        old, new = fallback_bpe(), fallback_bpe(["你 a"], extra=["你"])
        graft, aim = start("merge", old, new, pieces=["你a"])
        assert weights(graft, aim) == dict.fromkeys(("<0xE4>", "<0xBD>", "<0xA0>", "a"), 1 / 4)

    def test_differs_from_the_flat_mean(self):
        old, new = byte_bpe(), byte_bpe(["a b", "ab c"])
        flat, aim = start("constituent-mean", old, new, pieces=["abc"])
        halves, _ = start("merge", old, new, pieces=["abc"])
        assert weights(flat, aim) == {piece: pytest.approx(1 / 3) for piece in "abc"}
        assert weights(halves, aim) == {"a": 1 / 4, "b": 1 / 4, "c": 1 / 2}


class TestAlign:
    # "zabc" was cut za|b|c, "yabc" y|ab|c; the new piece "bc" comes first now
    OLD = ("z a", "a b")
    NEW = ("b c", "z a", "a b")

    def align(self, texts, bos=False, **settings):
        old, new = byte_bpe(self.OLD, bos), byte_bpe(self.NEW, bos)
        return start("align", old, new, texts, pieces=["bc"], **settings)

    @pytest.mark.parametrize("bos", [False, True])
    def test_frequencies_of_contextual_spellings(self, bos):
        graft, aim = self.align(["zabc", "zabc zabc", "yabc"], bos)
        # three times (b, c), once (c,): ab reaches out of the new token
        assert weights(graft, aim) == {"b": 3 / 4 / 2, "c": 3 / 4 / 2 + 1 / 4}

    def test_a_token_at_the_start_of_a_text_does_not_see_bos(self):
        graft, aim = self.align(["bc", "bc bc"], bos=True)
        assert weights(graft, aim) == {"b": 1 / 2, "c": 1 / 2}

    def test_one_spelling_equals_the_mean(self):
        graft, aim = self.align(["zabc", "xbc", "bc"])
        mean, _ = start("constituent-mean", aim.old_tokenizer, aim.tokenizer, pieces=["bc"])
        assert weights(graft, aim) == weights(mean, aim)

    def test_unseen_tokens_keep_merge_or_take_the_mean_of_all(self):
        merged, aim = self.align(["nothing here"])
        assert weights(merged, aim) == {"b": 1 / 2, "c": 1 / 2}
        assert len(merged.fallback) == 0
        alone, _ = self.align(["nothing here"], align_only=True)
        assert alone.fallback.tolist() == [0]

    def test_consider_mean_counts_the_plain_spelling_as_often_as_the_commonest(self):
        graft, aim = self.align(["yabc", "yabc", "zabc"], consider_mean=True)
        # (c,) twice, (b, c) once in context and twice more for the plain spelling
        assert weights(graft, aim) == {"b": pytest.approx(3 / 5 / 2), "c": pytest.approx(3 / 5 / 2 + 2 / 5)}
        unseen, _ = self.align(["nothing"], consider_mean=True)
        assert weights(unseen, aim) == {"b": 1 / 2, "c": 1 / 2}

    def test_one_table_may_keep_merge_rows(self):
        for role, settings in (("head", {"head": "merge"}), ("input", {"input": "merge"})):
            graft, aim = self.align(["yabc"], role=role, **settings)
            assert weights(graft, aim) == {"b": 1 / 2, "c": 1 / 2}
            other, _ = self.align(["yabc"], role="input" if role == "head" else "head", **settings)
            assert weights(other, aim) == {"c": 1.0}

    def test_a_table_that_keeps_merge_rows_has_them_whatever_align_only_says(self):
        for role, settings in (("head", {"head": "merge"}), ("input", {"input": "merge"})):
            graft, aim = self.align(["yabc"], role=role, align_only=True, **settings)
            assert weights(graft, aim) == {"b": 1 / 2, "c": 1 / 2}
            assert len(graft.fallback) == 0

    def test_fragments_of_one_character_do_not_share_its_whole_spelling(self):
        first, second, third = (byte_bpe().pieces[i] for i in byte_bpe().encode("你"))
        old, new = byte_bpe(), byte_bpe([f"{first} {second}"])
        graft, aim = start("align", old, new, ["你", "a你b"])
        assert weights(graft, aim) == {first: 1 / 2, second: 1 / 2}
        assert third not in weights(graft, aim)

    def test_needs_text(self):
        with pytest.raises(ParameterError, match=r"align needs text.*--corpus"):
            self.align(None)

    def test_the_corpus_is_read_once_for_both_tables(self):
        old, new = byte_bpe(self.OLD), byte_bpe(self.NEW)
        context = Context(corpus=Corpus.from_texts(["yabc"], held_out=0))
        align, aim = resolve("initializer", "align"), target(old, new)
        align(source(old), aim, context)
        context.memory["align"][new.vocab["bc"]].clear()  # what the head would learn anew
        assert weights(align(source(old, "head"), aim, context), aim) == {"b": 1 / 2, "c": 1 / 2}


class TestMeans:
    def test_rows_of_a_zip_tie_equal_the_mean_of_the_listed_rows_bit_for_bit(self):
        old, new = byte_bpe(["i n"]), byte_bpe(["i n", "t h", "th in", "thin g"])
        for role in ("input", "head"):
            origin = source(old, role)
            graft, aim = start("zip-tie", old, new, role=role, pieces=["thing"])
            assert [old.pieces[i] for i in aim.pieces[0]] == ["t", "h", "in", "g"]
            expected = origin.table[[old.vocab[piece] for piece in ("t", "h", "in", "g")]].to(torch.float64).mean(0).to(torch.float32)
            assert torch.equal(graft.apply(origin.table)[0], expected)

    def test_the_word_initial_marker_is_part_of_the_spelling(self):
        old, new = fallback_bpe(), fallback_bpe(["a b", "▁ ab"])
        for name in ("zip-tie", "constituent-mean"):
            graft, aim = start(name, old, new)
            assert weights(graft, aim, 0) == {"a": 1 / 2, "b": 1 / 2}
            assert weights(graft, aim, 1) == {piece: pytest.approx(1 / 3) for piece in ("▁", "a", "b")}

    def test_a_character_by_byte_fallback_is_exactly_three_bytes(self):
        old, new = fallback_bpe(), fallback_bpe(extra=["你"])
        _, aim = start("zip-tie", old, new)
        assert aim.surfaces == ["你".encode()]
        assert [old.pieces[i] for i in aim.pieces[0]] == ["<0xE4>", "<0xBD>", "<0xA0>"]

    def test_byte_level_pieces_come_from_bytes_not_from_stand_ins(self):
        old = byte_bpe()
        a, b = (old.pieces[i] for i in old.encode("é"))
        _, aim = start("constituent-mean", old, byte_bpe([f"{a} {b}", f"Ġ {a}{b}", "Ġ t"]))
        assert aim.surfaces == ["é".encode(), " é".encode(), b" t"]
        assert [[old.pieces[i] for i in pieces] for pieces in aim.pieces] == [[a, b], ["Ġ", a, b], ["Ġ", "t"]]

    def test_continuation_pieces_stay_continuations(self):
        old, new = wordpiece(["do", "##do", "##ing"]), wordpiece(["do", "##do", "##ing", "##doing", "doing"])
        graft, aim = start("constituent-mean", old, new)
        assert weights(graft, aim, 0) == {"##do": 1 / 2, "##ing": 1 / 2}
        assert weights(graft, aim, 1) == {"do": 1 / 2, "##ing": 1 / 2}

    def test_tokens_without_a_spelling_take_the_mean_of_all_rows_and_are_reported(self):
        old, new = wordpiece(["do", "##ing"]), wordpiece(["do", "##ing", "doing", "你"])
        for name in ("constituent-mean", "zip-tie", "merge", "constituent-exponential"):
            origin = source(old)
            graft, aim = start(name, old, new)
            assert graft.fallback.tolist() == [1]
            assert aim.pieces[1] == []
            torch.testing.assert_close(graft.apply(origin.table)[1], origin.table.mean(0))

    def test_mean_is_the_mean_row(self):
        old, new = byte_bpe(), byte_bpe(["a b", "c d"])
        origin = source(old)
        graft, _ = start("mean", old, new)
        torch.testing.assert_close(graft.apply(origin.table), origin.table.mean(0).expand(2, D))

    def test_repeated_pieces_are_copies(self):
        old, new = byte_bpe(["0 0"]), byte_bpe(["0 0", "00 00", "0000 00"])
        for name in ("constituent-mean", "merge", "zip-tie", "constituent-exponential"):
            graft, _ = start(name, old, new)
            origin = source(old)
            assert torch.equal(graft.apply(origin.table), origin.table[[old.vocab["00"]] * 2])
            assert graft.certificate().inside == 1.0


class TestWeights:
    E = math.exp(2)

    def test_exponential_weights_of_three_pieces(self):
        old, new = byte_bpe(), byte_bpe(["a b", "ab c"])
        total = 1 + self.E + self.E**2
        rising = {"a": 1 / total, "b": self.E / total, "c": self.E**2 / total}
        falling = {"a": self.E**2 / total, "b": self.E / total, "c": 1 / total}
        for name, settings in (("constituent-exponential", {}), ("zip-tie", {"weights": "exp_last"})):
            for role, expected in (("input", rising), ("head", falling)):
                graft, aim = start(name, old, new, role=role, pieces=["abc"], **settings)
                assert weights(graft, aim) == pytest.approx(expected, rel=1e-12)
        for role, expected in (("input", falling), ("head", rising)):
            graft, aim = start("zip-tie", old, new, role=role, pieces=["abc"], weights="exp_first")
            assert weights(graft, aim) == pytest.approx(expected, rel=1e-12)

    def test_rate_and_ends_can_be_chosen(self):
        old, new = byte_bpe(), byte_bpe(["a b"])
        graft, aim = start("constituent-exponential", old, new, rate=math.log(3), input="first")
        assert weights(graft, aim) == pytest.approx({"a": 0.75, "b": 0.25})

    def test_long_spellings_do_not_overflow(self):
        old, new = wordpiece(["a", "##a"]), wordpiece(["a", "##a", "a" * 90])
        graft, _ = start("constituent-exponential", old, new, rate=50.0)
        assert graft.certificate().inside == 1.0

    def test_sum_adds_the_rows_up(self):
        old, new = byte_bpe(), byte_bpe(["a b", "ab a"])
        graft, aim = start("zip-tie", old, new, pieces=["aba"], weights="sum")
        assert weights(graft, aim) == {"a": 2.0, "b": 1.0}
        certificate = graft.certificate()
        assert (certificate.inside, certificate.slack) == (0.0, 2.0)


class TestMatchScript:
    def test_new_rows_get_the_median_norm_of_their_script(self):
        old = fallback_bpe(extra=["д", "о", "м", "1", "2"])
        new = fallback_bpe(["a b", "д о", "1 2"], extra=["д", "о", "м", "1", "2", "你", "க"])
        table = torch.randn(old.vocab_size, D, generator=torch.Generator().manual_seed(3))
        norms = torch.linalg.vector_norm(table, dim=1)
        graft, _ = start("zip-tie", old, new, pieces=["ab", "до", "12", "你"], norm="match_script", table=table)
        found = torch.linalg.vector_norm(graft.apply(table), dim=1)

        def median(*scripts):
            return float(np.median([norms[i] for i in range(3, old.vocab_size) if script_of(old.surface(i)) in scripts]))

        wanted = [median("Latin"), median("Cyrillic"), median("Common"), median("Latin", "Cyrillic", "Common", "bytes")]
        torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=0)
        plain, _ = start("zip-tie", old, new, pieces=["ab", "до", "12", "你"], table=table)
        cosine = torch.nn.functional.cosine_similarity(graft.apply(table), plain.apply(table))
        torch.testing.assert_close(cosine, torch.ones(4))

    def test_rows_that_say_nothing_about_text_do_not_count(self):
        """<unk>, <s> and </s> have Latin letters and here the longest rows; most letters have a row of zeros."""
        old, new = fallback_bpe(extra=["д"]), fallback_bpe(["a b"], extra=["д", "你"])
        table = torch.zeros(old.vocab_size, D)
        table[:3, 0], table[old.vocab["a"], 1], table[old.vocab["b"], 2], table[old.vocab["д"], 3] = 100.0, 1.0, 3.0, 5.0
        table[[old.vocab[f"<0x{byte:02X}>"] for byte in "你".encode()], 4] = 7.0
        graft, _ = start("zip-tie", old, new, pieces=["ab", "你"], norm="match_script", table=table)
        found = torch.linalg.vector_norm(graft.apply(table), dim=1)
        torch.testing.assert_close(found, torch.tensor([2.0, 6.0]))  # of a and b; of a, b, д and three bytes: 1 3 5 7 7 7
        nothing = torch.zeros_like(table)
        graft, _ = start("zip-tie", old, new, pieces=["ab"], norm="match_script", table=nothing)
        assert graft.certificate().inside == 1.0

    @pytest.mark.parametrize(
        ("surface", "script"),
        [
            (b" the", "Latin"),
            ("ở".encode(), "Latin"),
            ("дом".encode(), "Cyrillic"),
            ("你a".encode(), "Han"),
            (b"123, ", "Common"),
            (b" ", "Common"),
            (b"", "Common"),
            (b"\xe4\xbd", "bytes"),
            (b" \xbd", "bytes"),
            ("ි".encode(), "Sinhala"),
        ],
    )
    def test_scripts(self, surface, script):
        assert script_of(surface) == script


class TestHull:
    """Rows inside the hull never outrank every old row; independent dimensions do."""

    TEXTS = ("the rat sat on the mat", "that hat", "00 0000 000000")

    @pytest.fixture(scope="class")
    def vocabularies(self):
        merges = ["t h", "th e", "a t", "0 0", "00 00", "Ġ t", "Ġt h", "Ġth e", "h at", "s at", "m at", "r at", "Ġ m", "Ġm at", "th at"]
        return byte_bpe(merges[:2]), byte_bpe(merges)

    def hits(self, name, vocabularies, **settings):
        old, new = vocabularies
        origin = source(old, seed=5)
        started, _ = start(name, old, new, self.TEXTS, table=origin.table, **settings)
        rows = started.apply(origin.table) if isinstance(started, Graft) else started.values
        hidden = torch.randn(4000, D, generator=torch.Generator().manual_seed(9))
        return int(((hidden @ rows.T).amax(1) > (hidden @ origin.table.T).amax(1) + 1e-4).sum())

    def test_every_start_is_covered(self):
        assert {*SAMPLED, *MIXED, "subword"} == {cls.name for cls in list_methods("initializer") if not cls.needs}

    @pytest.mark.parametrize("name", [*MIXED, "multivariate", "transformers-default"])
    def test_never_a_greedy_hit(self, name, vocabularies):
        assert self.hits(name, vocabularies) == 0

    @pytest.mark.parametrize(("name", "settings"), [("univariate", {}), ("multivariate", {"c": 1.0}), ("zip-tie", {"weights": "sum"})])
    def test_outside_the_hull_new_tokens_win_somewhere(self, name, settings, vocabularies):
        assert self.hits(name, vocabularies, **settings) > 40

    @pytest.mark.parametrize("name", MIXED)
    def test_certified(self, name, vocabularies):
        graft, aim = start(name, *vocabularies, self.TEXTS)
        certificate = graft.certificate()
        assert certificate.inside == 1.0
        assert certificate.slack < 1e-12
        assert certificate.rows == len(aim)
