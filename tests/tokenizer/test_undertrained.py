"""Under-trained tokens by length and by likeness to rows that nothing uses; donors without them as anchors."""

import numpy as np
import pytest
import torch

from regraft.errors import ParameterError
from regraft.method import resolve
from regraft.tokenizer.undertrained import NEVER_IN_UTF8, never_used, undertrained
from regraft.vocab.mixing.donor import Donor
from toys.donors import DONOR_WORDS, NEW_WORDS, OLD_WORDS, SHARED, edit_table, save_model, task
from toys.tokenizers import byte_bpe, wordpiece

WORDS = [a + b for a in "abcdefghijklmno" for b in "abcdefghijklmn"]


def table_of(rows, dim=16, seed=0):
    """Rows of length 1 in random directions."""
    table = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return table / table.norm(dim=1, keepdim=True)


def test_without_unused_rows_the_shortest_hundredth_are_undertrained():
    tokenizer = wordpiece(WORDS)
    table = table_of(tokenizer.vocab_size)
    short = [tokenizer.vocab["aa"], tokenizer.vocab["ob"], tokenizer.vocab["cd"]]
    table[short] *= 0.01
    table[tokenizer.vocab["[MASK]"]] = 0  # special tokens are not judged
    assert never_used(tokenizer, tokenizer.vocab_size).tolist() == []
    assert 0.01 * len(WORDS) < 3
    assert set(short) == set(undertrained(table, tokenizer))


def test_what_points_where_padding_points_is_undertrained():
    tokenizer = wordpiece(WORDS)
    table = torch.cat([table_of(tokenizer.vocab_size), torch.zeros(8, 16)])
    table[-8:, 0] = 1.0
    table[:-8, 0] = 0.0  # nothing else points there
    like = [tokenizer.vocab["ba"], tokenizer.vocab["bb"]]
    table[like, 0] = 5.0
    found = undertrained(table, tokenizer)
    assert set(like) <= set(found)
    shortest = torch.linalg.vector_norm(table[5:-8], dim=1).argsort()[:3] + 5
    assert set(found) == {*like, *shortest.tolist()}
    table[like, 0] = 0.4  # cosine below one half: not enough, whatever the quantile
    assert not set(like) & set(undertrained(table, tokenizer))


def test_bytes_that_no_text_holds_are_never_used():
    tokenizer = byte_bpe()
    ids = {tokenizer.byte_ids[byte] for byte in NEVER_IN_UTF8}
    assert len(ids) == 13
    assert set(never_used(tokenizer, tokenizer.vocab_size + 3)) == {*ids, *range(tokenizer.vocab_size, tokenizer.vocab_size + 3)}
    assert ids <= set(undertrained(table_of(tokenizer.vocab_size), tokenizer))
    for byte in range(256):
        held = any(
            byte in chr(point).encode("utf-8", "ignore") for point in (byte, 0x80 + byte * 7, 0x800 + byte * 211, 0x10000 + byte * 4096)
        )
        assert not (held and byte in NEVER_IN_UTF8)


class TestDonors:
    @pytest.fixture(scope="class")
    def model(self, tmp_path_factory):
        return save_model(tmp_path_factory.mktemp("model"), OLD_WORDS)

    @pytest.fixture
    def donor(self, tmp_path):
        return save_model(tmp_path, DONOR_WORDS, dim=6, seed=1)

    def weakened(self, table):
        table[DONOR_WORDS.index(SHARED[5])] *= 1e-3

    @pytest.mark.parametrize("role", ["input", "head"])
    def test_anchors_are_trained_in_the_donor_and_in_the_model(self, model, donor, role):
        edit_table(donor, self.weakened, head=role == "head")
        source, target, context = task(model, NEW_WORDS, donor, role)
        source.table[source.tokenizer.vocab[SHARED[9]]] *= 1e-3
        opened = Donor.of(context, "omp")
        plain = opened.bridge(source, target, context, "omp")
        strict = opened.bridge(source, target, context, "omp", magikarp=True)
        dropped = {source.tokenizer.pieces[i] for i in set(plain.anchor_ids.tolist()) - set(strict.anchor_ids.tolist())}
        assert dropped == {SHARED[5], SHARED[9]}
        assert torch.equal(strict.rows, plain.rows)

    @pytest.mark.parametrize("method", ["omp", "common-interpolation", "landmark-pca"])
    def test_no_weight_falls_on_them(self, model, donor, method):
        edit_table(donor, self.weakened)
        source, target, context = task(model, NEW_WORDS, donor)
        settings = {} if method == "landmark-pca" else {"k": 40}
        loose, strict = (resolve("initializer", method, {**settings, "magikarp": on})(source, target, context) for on in (False, True))
        weak = source.tokenizer.vocab[SHARED[5]]
        if method == "landmark-pca":
            moved = source.table.clone()
            moved[weak] += 100
            again = resolve("initializer", method, {"magikarp": True})(type(source)(moved, source.tokenizer), target, context)
            torch.testing.assert_close(again.values, strict.values, rtol=1e-4, atol=1e-4)
            assert not torch.equal(loose.values, strict.values)
        else:
            assert strict.weights[:, [weak]].nnz == 0
            assert np.allclose(loose.weights.shape, strict.weights.shape)

    def test_nothing_left_is_an_error_that_names_the_option(self, model, tmp_path):
        donor = save_model(tmp_path, ["[UNK]", "aa", "adh"], dim=6)
        edit_table(donor, lambda table: table[1].mul_(1e-3))
        source, target, context = task(model, ["adh"], donor)
        source.table[0] *= 1e-3  # [UNK], which both have too
        with pytest.raises(ParameterError, match="under-trained: --set magikarp=false"):
            resolve("initializer", "omp", {"k": 1, "magikarp": True})(source, target, context)
