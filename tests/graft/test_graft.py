"""Grafts: what `apply` does equals the dense matrix, copies are exact, and the certificate tells inside from outside."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import CheckpointError
from regraft.graft import Graft

OLD, D = 7, 5
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def dense(graft: Graft) -> np.ndarray:
    """The whole map W, shape (new, old)."""
    weights = graft.weights.toarray()
    return weights if graft.share is None else weights + np.outer(graft.share, graft.shared)


def table(dtype=torch.float32, seed=0, rows=OLD) -> torch.Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


pieces_lists = st.lists(st.lists(st.integers(0, OLD - 1), max_size=12), max_size=9)


class TestBuild:
    def test_uniform_spreads_one_over_the_pieces(self):
        graft = Graft.uniform([[0, 1, 2], [3], [4, 4, 5]], OLD)
        expected = np.zeros((3, OLD))
        expected[0, :3] = 1 / 3
        expected[1, 3] = 1
        expected[2, 4], expected[2, 5] = 2 / 3, 1 / 3
        np.testing.assert_array_equal(dense(graft), expected)
        assert graft.shape == (3, OLD)
        assert len(graft.fallback) == 0

    def test_ragged_weights_are_normalized_by_row(self):
        graft = Graft.from_ragged([[0, 1], [2]], OLD, [[1.0, 3.0], [5.0]])
        assert dense(graft)[0, :2].tolist() == [0.25, 0.75]
        assert dense(graft)[1, 2] == 1.0

    def test_without_normalizing_weights_stay_and_add_up(self):
        graft = Graft.from_ragged([[0, 0, 1]], OLD, [[1.0, 1.0, -0.5]], normalize=False)
        assert dense(graft)[0, :2].tolist() == [2.0, -0.5]

    def test_mean_is_the_mean_of_all_rows(self):
        rows = Graft.mean(3, OLD).apply(table(torch.float64))
        torch.testing.assert_close(rows, table(torch.float64).mean(0).expand(3, D), rtol=0, atol=1e-15)

    def test_rows_without_pieces_take_the_mean_and_are_listed(self):
        graft = Graft.uniform([[1], [], [2, 3], []], OLD)
        assert graft.fallback.tolist() == [1, 3]
        np.testing.assert_allclose(dense(graft)[[1, 3]], 1 / OLD)
        rows = graft.apply(table(torch.float64))
        torch.testing.assert_close(rows[1], table(torch.float64).mean(0), rtol=0, atol=1e-15)
        torch.testing.assert_close(rows[2], (table(torch.float64)[2] + table(torch.float64)[3]) / 2, rtol=0, atol=1e-15)

    def test_with_mean_for_replaces_rows_and_remembers_earlier_ones(self):
        graft = Graft.uniform([[1], [], [2]], OLD).with_mean_for(np.array([2]))
        assert graft.fallback.tolist() == [1, 2]
        np.testing.assert_allclose(dense(graft)[1:], 1 / OLD)
        assert dense(graft)[0, 1] == 1.0
        assert graft.with_mean_for(np.array([], dtype=np.int64)) is graft

    def test_a_mean_graft_takes_the_mean_again(self):
        assert Graft.mean(2, OLD).with_mean_for(np.array([0])).fallback.tolist() == [0]

    def test_rows_that_share_something_else_cannot_take_the_mean(self):
        shared = np.arange(OLD) / np.arange(OLD).sum()
        other = Graft(Graft.mean(2, OLD).weights, shared, np.ones(2))
        with pytest.raises(ValueError, match="mean"):
            other.with_mean_for(np.array([0]))

    def test_no_rows_at_all(self):
        for graft in (Graft.uniform([], OLD), Graft.mean(0, OLD), Graft.copy_of(np.zeros(0, dtype=np.int64), OLD)):
            assert graft.apply(table()).shape == (0, D)
            assert graft.certificate().rows == 0


class TestApply:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_equals_the_dense_map_in_float64(self, dtype):
        graft = Graft.from_ragged([[0, 1, 6], [], [2], [3, 3, 4, 5]], OLD, [[0.5, -1.0, 2.0], [], [1.0], [1.0, 1.0, 2.0, 4.0]])
        for old in (table(dtype), table(dtype)[:, 0].contiguous()):
            expected = torch.from_numpy(dense(graft)) @ old.to(torch.float64)
            found = graft.apply(old)
            assert found.dtype == dtype
            torch.testing.assert_close(found.to(torch.float64), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)

    @settings(max_examples=60, deadline=None)
    @given(pieces=pieces_lists, block=st.integers(1, 10), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
    def test_no_block_size_changes_a_bit(self, pieces, block, dtype, seed):
        graft, old = Graft.uniform(pieces, OLD), table(dtype, seed)
        whole = graft.apply(old)
        assert bits(graft.apply(old, block=block)) == bits(whole)
        expected = torch.from_numpy(dense(graft)) @ old.to(torch.float64)
        torch.testing.assert_close(whole.to(torch.float64), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)

    @settings(max_examples=60, deadline=None)
    @given(
        piece=st.integers(0, OLD - 1),
        times=st.integers(1, 40),
        dtype=st.sampled_from(DTYPES),
        seed=st.integers(0, 99),
    )
    def test_a_piece_repeated_is_the_piece_itself(self, piece, times, dtype, seed):
        """A new "00" spelled "0" + "0" must tie with "0" exactly: any rounding would decide greedy decoding."""
        graft, old = Graft.uniform([[piece] * times, []], OLD), table(dtype, seed)
        assert graft.weights[0].data.tolist() == [1.0]
        assert bits(graft.apply(old)[0]) == bits(old[piece])

    def test_copies_keep_every_bit(self):
        old = torch.tensor([[-0.0, 0.0], [1e-45, -1e-45], [torch.finfo(torch.float32).max, 1 / 3]])
        for graft in (Graft.copy_of(np.array([2, 0, 1, 0]), 3), Graft.uniform([[2], [0, 0], [1], [0]], 3)):
            assert bits(graft.apply(old)) == bits(old[[2, 0, 1, 0]])

    def test_copies_keep_every_bit_beside_rows_of_the_mean(self):
        old = torch.tensor([[-0.0, 3.0], [1.0, -0.0]])
        assert bits(Graft.uniform([[0], [], [1, 1]], 2).apply(old)[[0, 2]]) == bits(old)

    def test_padding_rows_of_the_table_are_ignored(self):
        padded = torch.cat([table(), torch.full((3, D), float("nan"))])
        graft = Graft.uniform([[0, 1], []], OLD)
        assert bits(graft.apply(padded)) == bits(graft.apply(table()))

    def test_bias_follows_the_weights(self):
        bias = torch.tensor([1.0, 2.0, 4.0])
        assert Graft.uniform([[0, 1], [2], []], 3).apply(bias).tolist() == [1.5, 4.0, pytest.approx(7 / 3)]


class TestCertificate:
    @settings(max_examples=40, deadline=None)
    @given(pieces=pieces_lists)
    def test_means_of_any_number_of_pieces_are_inside(self, pieces):
        certificate = Graft.uniform(pieces, OLD).certificate()
        assert certificate.inside == 1.0
        assert certificate.slack < 1e-12
        assert certificate.rows == len(pieces)

    def test_thirds_are_inside(self):
        graft = Graft.from_ragged([[0, 1, 2]], OLD, [[1 / 3, 1 / 3, 1 / 3]], normalize=False)
        assert graft.certificate().inside == 1.0

    def test_outside_by_sum_and_by_sign(self):
        graft = Graft.from_ragged([[0, 1], [0, 1], [0], [2]], OLD, [[1.0, 1.0], [1.25, -0.25], [0.5], [1.0]], normalize=False)
        np.testing.assert_allclose(graft.row_slack(), [1.0, 0.25, 0.5, 0.0])
        certificate = graft.certificate()
        assert (certificate.inside, certificate.slack, certificate.rows) == (0.25, 1.0, 4)

    def test_a_scaled_mean_is_outside(self):
        mean = Graft.mean(2, OLD)
        assert Graft(mean.weights, mean.shared, np.array([1.0, 1.5])).certificate().inside == 0.5

    @settings(max_examples=30, deadline=None)
    @given(pieces=pieces_lists.filter(bool), seed=st.integers(0, 999))
    def test_inside_rows_never_outrank_the_old_ones(self, pieces, seed):
        old = table(torch.float64, seed)
        hidden = torch.randn(50, D, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
        best_old = (hidden @ old.T).amax(1, keepdim=True)
        assert bool((hidden @ Graft.uniform(pieces, OLD).apply(old).T <= best_old + 1e-12).all())


class TestExplain:
    def test_largest_weight_first(self):
        graft = Graft.from_ragged([[0, 1, 2]], OLD, [[1.0, 5.0, 2.0]])
        assert graft.explain(0) == [(1, 0.625), (2, 0.25), (0, 0.125)]
        assert graft.explain(0, top=1) == [(1, 0.625)]

    def test_a_mean_row_names_some_of_its_equal_parts(self):
        found = Graft.mean(1, OLD).explain(0, top=3)
        assert len(found) == 3
        assert all(weight == pytest.approx(1 / OLD) for _, weight in found)


class TestSave:
    @pytest.mark.parametrize("graft", [Graft.uniform([[0, 1], [2, 2, 3]], OLD), Graft.uniform([[0], []], OLD), Graft.mean(4, OLD)])
    def test_round_trip(self, graft, tmp_path):
        graft.save(tmp_path / "graft.npz")
        again = Graft.load(tmp_path / "graft.npz")
        assert again.shape == graft.shape
        assert again.fallback.tolist() == graft.fallback.tolist()
        np.testing.assert_array_equal(dense(again), dense(graft))
        assert bits(again.apply(table())) == bits(graft.apply(table()))

    def damaged(self, tmp_path, **changes):
        graft = Graft.uniform([[0, 1], [2], []], OLD)
        graft.save(tmp_path / "graft.npz")
        with np.load(tmp_path / "graft.npz") as data:
            arrays = dict(data) | changes
        np.savez(tmp_path / "graft.npz", **{name: value for name, value in arrays.items() if value is not None})
        return tmp_path / "graft.npz"

    @pytest.mark.parametrize(
        "changes",
        [
            {"data": None},
            {"indices": np.array([0, 99, 2])},
            {"indptr": np.array([0, 5, 1, 3])},
            {"shape": np.array([3])},
            {"shape": np.array([3, -1])},
            {"share": np.ones(2)},
            {"share": np.ones(0)},
            {"shared": np.ones(OLD + 1)},
            {"fallback": np.array([77])},
            {"data": np.array([np.nan, 1.0, 1.0])},
            {"data": np.array(["a", "b", "c"])},
            {"shape": np.array([object()], dtype=object)},
        ],
        ids=lambda changes: "-".join(f"{name}" for name in changes),
    )
    def test_what_contradicts_itself_is_refused(self, tmp_path, changes):
        path = self.damaged(tmp_path, **changes)
        with pytest.raises(CheckpointError, match="not a saved graft") as caught:
            Graft.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_truncated_empty_and_foreign_files_are_refused(self, tmp_path):
        path = self.damaged(tmp_path)
        whole = path.read_bytes()
        for data in (whole[:-40], whole[: len(whole) // 2], b"", b"not a zip", b"PK\x03\x04"):
            path.write_bytes(data)
            with pytest.raises(CheckpointError, match="not a saved graft"):
                Graft.load(path)
        with pytest.raises(CheckpointError):
            Graft.load(tmp_path / "absent.npz")


def test_a_bias_takes_the_average_whatever_a_row_is_scaled_by():
    graft = Graft.from_ragged([[0, 1], [2], [0, 1]], OLD, [[1.0, 1.0], [3.0], [2.0, -1.0]], normalize=False)
    bias = torch.arange(OLD, dtype=torch.float32)
    assert graft.averaging().apply(bias).tolist() == [0.5, 2.0, -1.0]  # a row with a negative weight stays as it is
    assert Graft.mean(1, OLD).averaging().apply(bias).tolist() == [pytest.approx((OLD - 1) / 2)]
